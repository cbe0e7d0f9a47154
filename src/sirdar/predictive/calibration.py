# SPDX-License-Identifier: Apache-2.0
"""Is demand spread over the forecast's distribution as it claims? The probability integral transform and its histogram.

Czado, Gneiting & Held (2009), "Predictive model assessment for count data", Biometrics 65(4): where the forecast gives
an outcome y a probability of its own, the transform is the interval (F(y-), F(y)] and not a random number from it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sirdar.errors import require_positive_integer
from sirdar.predictive.distribution import cumulative
from sirdar.predictive.scores import Actual, Quantiles, transform


def pit(
    actual: Actual, quantiles: Quantiles, levels: Sequence[float], *, counts: bool = False
) -> tuple[Actual, Actual]:
    """The transform of every observed step as an interval of probabilities: F(y-) and F(y); NaN where not observed.

    For continuous demand both are equal, except at an atom (a run of equal quantiles, see `scores.transform`). With
    `counts` the interval is that of a whole number (see there).

    Args:
        actual: demand, NaN where it was not observed.
        quantiles: the forecast, never falling along the last axis.
        levels: its levels, two or more.
        counts: demand is whole numbers, none negative.

    Raises:
        ArgumentError: fewer than two levels, or quantiles that cross.
    """
    known = np.isfinite(actual)
    y, q = actual[known].astype(np.float64), quantiles[known]
    low, high = found = transform(y, q, levels, counts=counts)
    if not counts:
        smooth = np.where(low == high, cumulative(y, q, levels), np.nan)  # the tails, too, beyond the outermost levels
        found = np.where(low == high, smooth, low), np.where(low == high, smooth, high)
    below, upto = np.full(actual.shape, np.nan), np.full(actual.shape, np.nan)
    below[known], upto[known] = found
    return below, upto


def pit_histogram(below: Actual, upto: Actual, bins: int = 10) -> Float[np.ndarray, " bin"]:
    """Share of the transform in each of `bins` equal bins of (0, 1]; ``1 / bins`` everywhere for a right forecast.

    Equation 3 of Czado et al.: the mean over steps of the distribution function of the uniform law on each interval,
    differenced over the bins. A U shape is a forecast too narrow, a hump one too wide, a slope one that is biased.

    Args:
        below: F(y-) of every step, from `pit`; NaN where nothing was observed.
        upto: F(y) of every step.
        bins: how many.

    Returns:
        Shares that sum to 1, or NaN when nothing was observed.
    """
    require_positive_integer(bins, "bins")
    known = np.isfinite(below)
    if not known.any():
        return np.full(bins, np.nan)
    low, high = below[known], upto[known]
    width = high - low
    reached = np.zeros(bins + 1)
    for index in range(1, bins + 1):
        edge = index / bins
        share = np.where(width > 0, (edge - low) / np.where(width > 0, width, 1), edge >= high)
        reached[index] = np.clip(share, 0, 1).mean()
    return np.diff(reached)
