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
        UnsupportedError: LiteRT does not survive the file, or takes longer than ten minutes. What it refuses with an
            error is not found here: it may only be the zeros.
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
    if done.returncode < 0:
        msg = f"LiteRT cannot run the int8 file: {complaint(done)}"
        raise UnsupportedError(msg)


def _main(path: str) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    for row in interpreter.get_input_details():  # which hold whatever lay in memory before
        interpreter.set_tensor(row["index"], np.zeros(row["shape"], row["dtype"]))
    interpreter.invoke()


if __name__ == "__main__":
    _main(*sys.argv[1:])
