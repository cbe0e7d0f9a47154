# SPDX-License-Identifier: Apache-2.0
"""Average precision against COCO's reference tool on random detections, and against cases worked out by hand."""

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.vision.detection import Found, mean_average_precision
from sirdar.vision.precision import average_precision, mean_of_thresholds


def _scene(rng: np.random.Generator, images: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    truth, boxes, scores = [], [], []
    for _ in range(images):
        low = rng.uniform(0, 150, (rng.integers(0, 5), 2))
        true = np.concatenate([low, low + rng.uniform(10, 80, low.shape)], axis=1)
        noisy = true[rng.random(len(true)) < 0.8] + rng.normal(0, 4, (1, 4))
        low = rng.uniform(0, 150, (rng.integers(0, 4), 2))
        found = np.concatenate([noisy, np.concatenate([low, low + 30], axis=1)])
        rated = rng.random(len(found))
        order = np.argsort(-rated)
        truth.append(true)
        boxes.append(found[order])
        scores.append(rated[order])
    return boxes, scores, truth


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_the_reference_tool(seed: int) -> None:
    boxes, scores, truth = _scene(np.random.default_rng(seed), 25)
    found = [Found(b, s) for b, s in zip(boxes, scores, strict=True)]
    reference = mean_average_precision(found, truth, (240, 240))
    assert mean_of_thresholds(boxes, scores, truth) == pytest.approx(reference["map"], abs=1e-6)
    assert average_precision(boxes, scores, truth, 0.5) == pytest.approx(reference["map50"], abs=1e-6)
    assert average_precision(boxes, scores, truth, 0.75) == pytest.approx(reference["map75"], abs=1e-6)


def test_all_right_is_one_and_nothing_found_is_zero() -> None:
    truth = [np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]])]
    assert mean_of_thresholds(truth, [np.array([0.9, 0.8])], truth) == 1
    assert mean_of_thresholds([np.zeros((0, 4))], [np.zeros(0)], truth) == 0
    assert mean_average_precision([Found(np.zeros((0, 4)), np.zeros(0))], truth, (50, 50))["map"] == 0
    nothing = mean_average_precision([Found(np.array([[0.0, 0, 9, 9]]), np.ones(1))], [np.zeros((0, 4))], (50, 50))
    assert nothing == {"map": 0, "map50": 0, "map75": 0}


def test_a_second_box_on_the_same_object_is_wrong() -> None:
    truth = [np.array([[0.0, 0, 10, 10]])]
    twice = [np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])]
    assert average_precision(twice, [np.array([0.9, 0.8])], truth, 0.5) == 1  # all objects found before the mistake
    wrong_first = [np.array([[50.0, 50, 60, 60], [0, 0, 10, 10]])]
    assert average_precision(wrong_first, [np.array([0.9, 0.8])], truth, 0.5) == pytest.approx(0.5)


def test_errors_name_the_value() -> None:
    with pytest.raises(ArgumentError, match="one entry per image, got 1, 0, 1"):
        average_precision([np.zeros((0, 4))], [], [np.zeros((0, 4))], 0.5)
    with pytest.raises(ArgumentError, match="one entry per image, got 0 and 1"):
        mean_average_precision([], [np.zeros((0, 4))], (10, 10))
