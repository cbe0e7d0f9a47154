# SPDX-License-Identifier: Apache-2.0
"""An int8 file tried by LiteRT in a process of its own: where the runtime aborts, it ends the process that it is in."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sirdar.deploy.onnxrun import complaint
from sirdar.errors import UnsupportedError

_SECONDS = 600.0


def require_runnable(file: bytes) -> None:
    """Run a file once, on zeros.

    Raises:
        UnsupportedError: LiteRT refuses the file, does not survive it, or takes longer than ten minutes.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(file)
        command = [sys.executable, "-m", "sirdar.deploy.litertrun", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            msg = f"LiteRT cannot run the int8 file in {_SECONDS:g} seconds"
            raise UnsupportedError(msg) from error
    if done.returncode:
        msg = f"LiteRT cannot run the int8 file: {complaint(done)}"
        raise UnsupportedError(msg)


def _main(path: str) -> str | None:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.invoke()  # inputs are zeros until they are set
    except Exception as error:  # noqa: BLE001 - the runtime raises unrelated types
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
