# SPDX-License-Identifier: Apache-2.0
"""An ONNX file run by onnxruntime in a process of its own: a fault in the runtime ends the process that it is in."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sirdar.errors import UnsupportedError

_SECONDS = 600.0
_FATAL = 4  # of onnxruntime's levels: nothing else is said


def run_onnx(path: Path, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a file puts out.

    Args:
        path: of the file.
        inputs: in the order of the file.

    Raises:
        UnsupportedError: onnxruntime refuses the file or its inputs, or does not survive it.
    """
    with TemporaryDirectory() as folder:
        np.savez(Path(folder) / "inputs.npz", *inputs)
        command = [sys.executable, "-m", "sirdar.deploy.onnxrun", str(path), folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode:
            msg = f"onnxruntime cannot run the file: {complaint(done)}"
            raise UnsupportedError(msg)
        return _arrays(Path(folder) / "outputs.npz")


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process failed: its last word, or the signal that ended it."""
    said = done.stderr.strip().splitlines() or ["it says nothing"]
    return said[-1] if done.returncode > 0 else f"it ends by signal {-done.returncode}"


def _arrays(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return [stored[f"arr_{place}"] for place in range(len(stored.files))]


def _main(path: str, folder: str) -> str | None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    try:
        # Folding would write out a weight that is expanded over a batch, in full.
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )
        names, values = [row.name for row in session.get_inputs()], _arrays(Path(folder) / "inputs.npz")
        if len(names) != len(values):
            return f"it takes {len(names)} inputs and the network {len(values)}"
        found = session.run(None, dict(zip(names, values, strict=True)))
    except Exception as error:  # noqa: BLE001 - the runtime raises a dozen unrelated types
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    np.savez(Path(folder) / "outputs.npz", *(np.asarray(item) for item in found))
    return None


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
