# SPDX-License-Identifier: Apache-2.0
"""Decoding inverts the targets; assignment and loss by their definitions; a detector learns two images by heart."""

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError
from sirdar.vision.augmentation import Warp
from sirdar.vision.blocks import Block
from sirdar.vision.detection import (
    STRIDE,
    DetectionTask,
    Detector,
    Raw,
    assign,
    boxes_of,
    cells,
    decode,
    detection_loss,
    found_by,
    overlaps,
)
from sirdar.vision.images import Boxed
from sirdar.vision.precision import intersection_over_union, mean_of_thresholds
from sirdar.vision.training import Schedule, seeded, train

SIZE = (64, 96)
BOXES = torch.tensor([[[8.0, 8, 40, 56], [56, 16, 80, 48]], [[30.0, 4, 60, 60], [torch.nan] * 4]])


def _perfect(boxes: torch.Tensor) -> Raw:
    """What a network would put out that finds every box at the cells inside it."""
    rows, columns = SIZE[0] // STRIDE, SIZE[1] // STRIDE
    middles = cells(rows, columns, torch.device("cpu"))
    scores, distances = torch.full((len(boxes), rows * columns), -9.0), torch.zeros(len(boxes), rows * columns, 4)
    for image, several in enumerate(boxes):
        for box in several[~several[:, 0].isnan()]:
            inside = ((middles > box[:2]) & (middles < box[2:])).all(1)
            reach = torch.cat([middles - box[:2], box[2:] - middles], dim=1)[inside] / STRIDE
            scores[image, inside] = 4.0
            distances[image, inside] = torch.log(torch.expm1(reach))  # the softplus undone
    shape = (len(boxes), 4, rows, columns)
    return Raw(scores.reshape(len(boxes), 1, rows, columns), distances.transpose(1, 2).reshape(shape))


def test_decoding_finds_the_boxes_that_were_put_in() -> None:
    raw = _perfect(BOXES)
    found = decode(raw.scores, raw.distances, SIZE)
    truth = [several[~several[:, 0].isnan()].numpy() for several in BOXES]
    assert [len(one.boxes) for one in found] == [2, 1]
    assert mean_of_thresholds([f.boxes for f in found], [f.scores for f in found], truth) == 1
    assert np.allclose(found[1].boxes[0], BOXES[1, 0].numpy(), atol=1e-3)


def test_non_maximum_suppression_by_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 1, 4, 6, generator=generator)
    distances = torch.randn(1, 4, 4, 6, generator=generator) + 1
    found = decode(scores, distances, SIZE, overlap=0.5, least=0.2)[0]
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() >= 0.2
    shared = intersection_over_union(found.boxes, found.boxes)
    assert (shared[~np.eye(len(shared), dtype=bool)] <= 0.5).all()
    everything = decode(scores, distances, SIZE, overlap=1.0, least=0.2)[0]
    lost = [box for box in everything.boxes if not (found.boxes == box).all(1).any()]
    assert all(intersection_over_union(box[None], found.boxes).max() > 0.5 for box in lost)


def test_overlap_agrees_with_numpy_and_its_generalised_form_with_a_case_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[20.0, 0, 30, 10]])
    plain, general = overlaps(a, b)
    assert plain.item() == 0
    assert general.item() == pytest.approx(-1 / 3)  # a hull of 300, of which 100 are covered by neither
    boxes = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)) * 10
    boxes[:, 2:] += boxes[:, :2]
    found = overlaps(boxes[:10], boxes[10:])[0].numpy()
    assert np.allclose(found, np.diag(intersection_over_union(boxes[:10].numpy(), boxes[10:].numpy())), atol=1e-6)


def test_only_cells_inside_an_object_learn_it_and_each_object_is_learnt() -> None:
    raw = _perfect(BOXES)
    middles = cells(4, 6, torch.device("cpu"))
    goal = assign(boxes_of(raw), raw.scores.sigmoid().flatten(1), BOXES, middles)
    for image in range(2):
        for cell in torch.nonzero(goal.quality[image])[:, 0]:
            box = goal.boxes[image, cell]
            assert ((middles[cell] > box[:2]) & (middles[cell] < box[2:])).all()
    assert {tuple(b.tolist()) for b in goal.boxes[0][goal.quality[0] > 0]} == {tuple(b.tolist()) for b in BOXES[0]}
    assert goal.quality.max() <= 1


def test_an_object_between_the_middles_of_cells_is_learnt_by_the_nearest() -> None:
    small = torch.tensor(
        [[[33.0, 17.0, 38.0, 22.0], [0.0, 0.0, 96.0, 64.0]], [[40.0, 8.0, 52.0, 24.0], [torch.nan] * 4]]
    )
    raw, middles = _perfect(BOXES), cells(4, 6, torch.device("cpu"))
    goal = assign(boxes_of(raw), raw.scores.sigmoid().flatten(1), small, middles, nearest=True)
    for image in range(2):
        (cell,) = torch.nonzero((goal.boxes[image] == small[image, 0]).all(-1) & (goal.quality[image] > 0))[:, 0]
        assert cell == (middles - (small[image, 0, :2] + small[image, 0, 2:]) / 2).square().sum(-1).argmin()
    assert (goal.quality[0] > 0).sum() > 1  # the object around it is learnt by others


def test_a_perfect_answer_costs_less_than_a_blank_and_no_object_costs_nearly_nothing() -> None:
    perfect = _perfect(BOXES)
    blank = Raw(torch.full_like(perfect.scores, -9.0), torch.ones_like(perfect.distances))
    assert detection_loss(perfect, BOXES) < 0.2 * detection_loss(blank, BOXES)
    nothing = torch.full((2, 1, 4), torch.nan)
    loss = detection_loss(Raw(blank.scores.requires_grad_(), blank.distances), nothing)
    loss.backward()
    assert loss.item() < 1e-3
    assert torch.isfinite(loss)


def _small() -> Detector:
    with seeded(0):
        stages = [[Block(channels=16, stride=2)] for _ in range(4)]
        return Detector(8, stages, 16, [Block(channels=16)])


def test_two_images_are_learnt_by_heart() -> None:
    images = torch.full((2, 3, *SIZE), 90, dtype=torch.uint8)
    for image, several in enumerate(BOXES):
        for box in several[~several[:, 0].isnan()].int().tolist():
            images[image, :, box[1] : box[3], box[0] : box[2]] = 220
    data = Boxed(images, BOXES)
    network = _small()
    truth = [several[~several[:, 0].isnan()].numpy() for several in BOXES]
    train(network, DetectionTask(data), Schedule(steps=120, batch=4, learning_rate=0.01, average=0.9))
    found = found_by(network, data)
    assert mean_of_thresholds([f.boxes for f in found], [f.scores for f in found], truth) > 0.1


def test_pasted_people_bring_their_boxes() -> None:
    data = Boxed(torch.zeros((2, 3, *SIZE), dtype=torch.uint8), BOXES, torch.ones((2, 1, *SIZE), dtype=torch.uint8))
    images, boxes = DetectionTask(data).batch(torch.Generator().manual_seed(0), 32)
    assert images.shape == (32, 3, *SIZE)
    known = ~boxes[..., 0].isnan()
    assert (known.int().diff(dim=1) <= 0).all()  # objects first
    assert boxes.shape == (32, int(known.sum(1).max()), 4)
    assert 2 < boxes.shape[1] <= 4  # an image has two at most, and gets as many


def test_every_object_of_a_crowd_is_asked_for() -> None:
    corners = torch.cartesian_prod(torch.arange(0, 64, 8), torch.arange(0, 96, 12)).flip(1).float()  # left, top
    data = Boxed(torch.zeros((1, 3, *SIZE), dtype=torch.uint8), torch.cat([corners, corners + 8], dim=1)[None])
    still = Warp((1.0, 1.0), 0.0, 0.0, 0.0)
    _, boxes = DetectionTask(data, still).batch(torch.Generator().manual_seed(0), 2)
    assert torch.allclose(boxes, data.boxes.expand(2, 64, 4), atol=1e-4)


def test_errors_name_the_value() -> None:
    with pytest.raises(ArgumentError, match=r"stages at the strides 16 and 32, got \[4, 8\]"):
        Detector(8, [[Block(stride=2)], [Block(stride=2)]], 16, [])
