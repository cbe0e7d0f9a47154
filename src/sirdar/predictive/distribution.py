# SPDX-License-Identifier: Apache-2.0
"""The distribution function that a set of quantiles stands for.

The same law as in `Forecast`: linear between levels, exponential beyond the outermost ones with the rate that the last
two levels imply. A run of equal quantiles is a jump.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.predictive.forecast import require_levels

Points = Float[np.ndarray, " step"]
Rows = Float[np.ndarray, "step level"]


def cumulative(points: Points, quantiles: Rows, levels: Sequence[float]) -> Points:
    """F(x): the probability of at most x, for one point per row of quantiles.

    Raises:
        ArgumentError: fewer than two levels, or quantiles that fall.
    """
    level = _checked(quantiles, levels)
    q = quantiles.astype(np.float64)
    at_most = (q <= points[:, None]).sum(axis=1)
    rows, last = np.arange(len(q)), len(level) - 1
    low, high = np.clip(at_most - 1, 0, last), np.clip(at_most, 0, last)
    gap = q[rows, high] - q[rows, low]
    part = (points - q[rows, low]) / np.where(gap > 0, gap, 1)
    inner = level[low] + part * (level[high] - level[low])
    left, right = _tails(q, level)
    under = level[0] * _decay(q[:, 0] - points, left)
    over = 1 - (1 - level[-1]) * _decay(points - q[:, -1], right)
    return np.where(at_most == 0, under, np.where(at_most == len(level), over, inner))


def area(points: Points, quantiles: Rows, levels: Sequence[float]) -> Points:
    """The integral of F from the lowest quantile to x, negative for x below it.

    Raises:
        ArgumentError: fewer than two levels, or quantiles that fall.
    """
    level = _checked(quantiles, levels)
    q = quantiles.astype(np.float64)
    pieces = (level[1:] + level[:-1]) / 2 * np.diff(q, axis=1)
    upto = np.concatenate([np.zeros((len(q), 1)), np.cumsum(pieces, axis=1)], axis=1)
    at_most = (q <= points[:, None]).sum(axis=1)
    rows, last = np.arange(len(q)), len(level) - 1
    low, high = np.clip(at_most - 1, 0, last), np.clip(at_most, 0, last)
    gap, beyond = q[rows, high] - q[rows, low], points - q[rows, low]
    rise = (level[high] - level[low]) / np.where(gap > 0, gap, 1)
    inner = upto[rows, low] + beyond * (level[low] + rise * beyond / 2)
    left, right = _tails(q, level)
    under = -level[0] * left * (1 - _decay(q[:, 0] - points, left))
    excess = points - q[:, -1]
    over = upto[:, -1] + excess - (1 - level[-1]) * right * (1 - _decay(excess, right))
    return np.where(at_most == 0, under, np.where(at_most == len(level), over, inner))


def _checked(quantiles: Rows, levels: Sequence[float]) -> Float[np.ndarray, " level"]:
    level = np.asarray(require_levels(levels))
    if len(level) < 2:
        msg = f"a distribution needs at least two levels, got {tuple(levels)}"
        raise ArgumentError(msg)
    falls = np.diff(quantiles, axis=1) < 0
    if bool(falls.any()):
        row = int(np.flatnonzero(falls.any(axis=1))[0])
        msg = f"quantiles cross: {quantiles[row].tolist()} falls"
        raise ArgumentError(msg)
    return level


def _tails(q: Rows, level: Float[np.ndarray, " level"]) -> tuple[Points, Points]:
    """The scales of the exponential tails below and above."""
    left = (q[:, 1] - q[:, 0]) / np.log(level[1] / level[0])
    right = (q[:, -1] - q[:, -2]) / np.log((1 - level[-2]) / (1 - level[-1]))
    return left, right


def _decay(distance: Points, scale: Points) -> Points:
    """exp(-distance / scale) outside, 0 where the tail has no length."""
    positive = np.maximum(distance, 0)
    return np.where(scale > 0, np.exp(-positive / np.where(scale > 0, scale, 1)), 0.0)
