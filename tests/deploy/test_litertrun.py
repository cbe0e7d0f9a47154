# SPDX-License-Identifier: Apache-2.0
"""LiteRT runs in a process of its own, and whatever becomes of it is a sentence here."""

import pytest
import torch
from torch import nn

from sirdar.deploy import tflite
from sirdar.deploy.litertrun import require_runnable
from sirdar.errors import UnsupportedError

pytest.importorskip("ai_edge_litert")


def test_a_sound_file_runs() -> None:
    x = torch.ones(2, 3)
    require_runnable(tflite.write(nn.ReLU(), x, [x]))


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="LiteRT cannot run the int8 file: .*Flatbuffer"):
        require_runnable(b"no network at all")
