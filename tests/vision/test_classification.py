# SPDX-License-Identifier: Apache-2.0
"""A classifier tells bright from dark; the score by its definition."""

import numpy as np
import pytest
import torch

from sirdar.vision import classification
from sirdar.vision.blocks import Block
from sirdar.vision.classification import ClassificationTask, Classifier, classified_by, top1
from sirdar.vision.images import Labelled
from sirdar.vision.training import Schedule, seeded, train


def test_bright_and_dark_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(40) % 2
    noise = torch.randint(0, 60, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = Labelled(noise + 120 * labels[:, None, None, None].to(torch.uint8), labels, ("dark", "bright"))
    with seeded(0):
        network = Classifier(8, [[Block(channels=8)], [Block(channels=16, stride=2)]], 16, classes=2)
    schedule = Schedule(steps=30, batch=16, learning_rate=0.05, optimiser="sgd", weight_decay=0.0, average=0.8)
    train(network, ClassificationTask(data, hide=4), schedule)
    monkeypatch.setattr(classification, "_PIXELS", 7 * 16 * 16)  # seven images at a time
    assert top1(classified_by(network, data), labels.numpy()) == 1


def test_top1_is_the_share_named_right() -> None:
    assert top1(np.array([1, 2, 3, 3]), np.array([1, 2, 0, 3])) == 0.75


def test_no_last_convolution_where_none_is_wanted() -> None:
    network = Classifier(8, [[Block(channels=16)]], 0, classes=5).eval()
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert network.named.in_features == 16
