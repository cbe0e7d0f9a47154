# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint leaves behind; that trainings go on from it is in test_neural.py."""

from pathlib import Path

import torch
from torch import nn

from sirdar import placing
from sirdar.forecasting.checkpoint import Checkpoint


def test_a_training_that_ends_leaves_nothing_of_its_killed_writes(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    place = Checkpoint(network, torch.optim.AdamW(network.parameters()), tmp_path, "key")
    place.write(1, 0.5)
    (tmp_path / f"{placing._prefix('key.safetensors')}killed").mkdir()
    (tmp_path / "mine").mkdir()
    place.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
