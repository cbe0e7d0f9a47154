# SPDX-License-Identifier: Apache-2.0
"""Average precision of detections, written out: for choosing among networks without any extra package.

`sirdar.vision.detection.mean_average_precision` asks COCO's reference tool; the two agree to rounding (tests).
"""

from collections.abc import Sequence

import numpy as np

from sirdar.errors import ArgumentError

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_RECALLS = np.linspace(0, 1, 101)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap of every box of `a` [n, 4] with every box of `b` [m, 4], as [n, m]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None]
    return shared / np.maximum(areas - shared, 1e-12)


def average_precision(
    boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], truth: Sequence[np.ndarray], least: float
) -> float:
    """Area under the precision-recall curve at one overlap, COCO's 101 points (Lin et al. 2014).

    Args:
        boxes: found [object, 4] per image, best first.
        scores: of them, falling.
        truth: true [object, 4] per image.
        least: overlap from which a box counts as found.

    Raises:
        ArgumentError: the lists differ in length.
    """
    if not len(boxes) == len(scores) == len(truth):
        msg = f"boxes, scores and truth must have one entry per image, got {len(boxes)}, {len(scores)}, {len(truth)}"
        raise ArgumentError(msg)
    hits = [_hits(found, true, least) for found, true in zip(boxes, truth, strict=True)]
    total = sum(len(true) for true in truth)
    rated = np.concatenate([np.zeros(0), *scores])
    if not total or not len(rated):
        return 0.0
    order = np.argsort(-rated, kind="stable")
    right = np.concatenate(hits)[order].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(right / total, _RECALLS, side="left")
    return float(np.where(place < len(best), best[np.minimum(place, len(best) - 1)], 0).mean())


def mean_of_thresholds(boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """COCO's mAP of one class: the mean over the overlaps 0.50, 0.55, ... 0.95."""
    return float(np.mean([average_precision(boxes, scores, truth, least) for least in THRESHOLDS]))


def _hits(found: np.ndarray, true: np.ndarray, least: float) -> np.ndarray:
    """Which found boxes are right: each takes, best first, the free true box that it overlaps most."""
    right = np.zeros(len(found), bool)
    if not len(true):
        return right
    overlap = intersection_over_union(found, true)
    free = np.ones(len(true), bool)
    for row in range(len(found)):
        fit = np.where(free, overlap[row], -1)
        best = int(fit.argmax())
        if fit[best] >= min(least, 1 - 1e-10):
            right[row], free[best] = True, False
    return right
