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


def test_whole_numbers_are_passed_as_zeros() -> None:
    """Whatever lies in memory before is no place in a table."""
    x = torch.ones(2, 3, dtype=torch.int64)
    module = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 2))
    require_runnable(tflite.write(module, x, [x]))


def test_a_file_that_ends_its_runtime_is_refused() -> None:
    class Lost(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + torch.finfo().min)

    x = torch.ones(2, 3)
    with pytest.raises(UnsupportedError, match="LiteRT cannot run the int8 file: it ends by signal"):
        require_runnable(tflite.write(Lost(), x, [x]))
