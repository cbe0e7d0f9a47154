# SPDX-License-Identifier: Apache-2.0
"""onnxruntime runs in a process of its own, and whatever becomes of it is a sentence here."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sirdar.deploy.onnxrun import run_onnx
from sirdar.errors import UnsupportedError

pytest.importorskip("onnxruntime")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"no network at all")
    with pytest.raises(UnsupportedError, match=r"onnxruntime cannot run the file: \[ONNXRuntimeError\]"):
        run_onnx(path, [np.zeros(2, dtype=np.float32)])


def test_a_runtime_that_dies_takes_nobody_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As version 1.32 does on the file of an EmbeddingBag with offsets."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -SEGV $$\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(UnsupportedError, match="onnxruntime cannot run the file: it ends by signal 11"):
        run_onnx(tmp_path / "network.onnx", [])
