# SPDX-License-Identifier: Apache-2.0
"""Mean intersection over union by its definition; void counts for nothing; a segmenter learns a simple scene."""

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError
from sirdar.vision.blocks import Block
from sirdar.vision.images import VOID, Masked
from sirdar.vision.segmentation import SegmentationTask, Segmenter, class_weights, confusion, counts_by, mean_iou
from sirdar.vision.training import Schedule, seeded, train


def _scene(count: int = 4) -> Masked:
    images = torch.full((count, 3, 32, 48), 60, dtype=torch.uint8)
    masks = torch.zeros((count, 1, 32, 48), dtype=torch.uint8)
    for place in range(count):
        images[place, :, 16:, 6 * place : 6 * place + 24] = 230
        masks[place, :, 16:, 6 * place : 6 * place + 24] = 1
    masks[:, :, :2] = VOID
    return Masked(images, masks, ("ground", "thing"))


def _small(output: int) -> Segmenter:
    with seeded(0):
        return Segmenter(8, [[Block(channels=16, stride=2)] for _ in range(3)], 16, [Block(channels=16)], 2, output)


def test_scores_by_their_definition() -> None:
    rng = np.random.default_rng(0)
    truth, named = torch.from_numpy(rng.integers(0, 3, (2, 8, 9))), torch.from_numpy(rng.integers(0, 3, (2, 8, 9)))
    truth[0, 0] = VOID
    counts = confusion(named, truth, 3)
    known = truth != VOID
    assert counts.sum() == known.sum()
    each = [
        float(((truth == k) & (named == k)).sum() / (((truth == k) | (named == k)) & known).sum()) for k in range(3)
    ]
    assert mean_iou(counts) == pytest.approx(np.mean(each))
    assert mean_iou(np.diag([3, 4, 0])) == 1


@pytest.mark.parametrize("output", [4, 8, 16])
def test_the_output_is_as_large_as_was_asked_for(output: int) -> None:
    network = _small(output).eval()
    assert network(torch.zeros(1, 3, 32, 48)).shape == (1, 2, 32 // output, 48 // output)


def test_batches_keep_void_and_what_lies_outside_is_void() -> None:
    data = _scene()
    images, classes = SegmentationTask(data, (16, 24)).batch(torch.Generator().manual_seed(0), 64)
    assert images.shape == (64, 3, 16, 24)
    assert set(classes.unique().tolist()) <= {0, 1, VOID}
    assert (classes == VOID).any()
    blank = torch.zeros(2, 2, 4, 6, requires_grad=True)
    loss = SegmentationTask(data, (16, 24)).loss(blank, torch.randint(2, (2, 16, 24)))
    assert loss.item() == pytest.approx(np.log(2))


def test_a_batch_without_any_class_teaches_nothing() -> None:
    blank = torch.ones(2, 2, 4, 6, requires_grad=True)
    loss = SegmentationTask(_scene(), (16, 24)).loss(blank, torch.full((2, 16, 24), VOID))
    loss.backward()
    assert loss.item() == 0
    assert blank.grad is not None
    assert (blank.grad == 0).all()


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(_scene())
    assert weights.mean().item() == pytest.approx(1)
    assert weights[1] > weights[0]


def test_a_simple_scene_is_learnt() -> None:
    data, network = _scene(), _small(4)
    before = mean_iou(counts_by(network.eval(), data, (32, 48)))
    train(network, SegmentationTask(data, (32, 48)), Schedule(steps=50, batch=4, learning_rate=0.01, average=0.9))
    assert mean_iou(counts_by(network, data, (32, 48))) > max(0.7, before)


def test_errors_name_the_value() -> None:
    with pytest.raises(ArgumentError, match=r"output must be the stride of a stage, \[4, 8, 16\], got 2"):
        _small(2)
