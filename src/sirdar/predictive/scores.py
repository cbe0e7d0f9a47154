# SPDX-License-Identifier: Apache-2.0
"""How good a forecast was: pinball loss, WQL, SQL, MASE and coverage, as fev and the Chronos benchmarks define them.

Steps whose demand is NaN (not observed) are left out everywhere.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sirdar.predictive.distribution import cumulative

Actual = Float[np.ndarray, "series horizon"]
Quantiles = Float[np.ndarray, "series horizon level"]


def pinball(actual: Actual, quantiles: Quantiles, levels: Sequence[float]) -> Quantiles:
    """Pinball (quantile) loss of Koenker & Bassett (1978), in units of demand; NaN where nothing was observed."""
    gap = actual[..., None].astype(np.float64) - quantiles
    level = np.asarray(levels)
    return np.maximum(level * gap, (level - 1) * gap)


def wql(actual: Actual, quantiles: Quantiles, levels: Sequence[float]) -> float:
    """Weighted quantile loss: twice the pinball loss, summed and divided by total absolute demand, mean over levels.

    NaN when there was no demand at all.
    """
    total = np.nansum(np.abs(actual), dtype=np.float64)
    if total == 0:
        return float("nan")
    known = np.isfinite(actual)  # a forecast that is NaN where demand is known makes the loss NaN, not smaller
    losses = 2 * np.where(known[..., None], pinball(actual, quantiles, levels), 0).sum(axis=(0, 1)) / total
    return float(losses.mean())


def seasonal_scale(history: Float[np.ndarray, "series time"], season: int) -> Float[np.ndarray, " series"]:
    """Mean absolute in-sample error of the seasonal naive forecast, the denominator of MASE (Hyndman & Koehler 2006).

    NaN where no two observations stand a season apart.
    """
    change = np.abs(history[:, season:] - history[:, :-season])
    known = np.isfinite(change)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, change, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def scaled_mean(loss: Actual, actual: Actual, scale: Float[np.ndarray, " series"]) -> float:
    """Mean over the observed steps of all series of the loss over the series' scale.

    Series whose scale is 0 or unknown are left out; NaN when nothing remains.
    """
    usable = np.isfinite(scale) & (scale > 0)
    known = np.isfinite(actual[usable])
    relative = loss[usable] / scale[usable, None]
    return float(relative[known].mean()) if known.any() else float("nan")


def mase(actual: Actual, median: Actual, scale: Float[np.ndarray, " series"]) -> float:
    """Mean absolute scaled error over the observed steps of all series, as fev has it (Shchur et al. 2025).

    Series whose scale is 0 or unknown are left out; fev takes 1 for one that is unknown.
    """
    return scaled_mean(np.abs(actual - median), actual, scale)


def sql(actual: Actual, quantiles: Quantiles, levels: Sequence[float], scale: Float[np.ndarray, " series"]) -> float:
    """Scaled quantile loss of fev (Shchur et al. 2025): ``2 pinball / scale``, mean over levels, steps and series.

    With the median as the only level this is `mase`. Give `seasonal_scale` as the scale.
    """
    return scaled_mean(2 * pinball(actual, quantiles, levels).mean(axis=2), actual, scale)


def closed_coverage(actual: Actual, low: Actual, high: Actual) -> float:
    """Share of demand within [low, high], ends included."""
    known = np.isfinite(actual)
    return float(((actual >= low) & (actual <= high))[known].mean()) if known.any() else float("nan")


def coverage(actual: Actual, quantiles: Quantiles, levels: Sequence[float], *, counts: bool = False) -> float:
    """Share of the probability transform within the outermost levels: 0.8 for a right forecast with levels 0.1 ... 0.9.

    Demand often is exactly zero, and then several quantiles are zero together. A closed interval [0, q90] would count
    all of those zeros as covered and so cover 90 %, however right the forecast. An atom of probability that straddles
    the interval's end is therefore counted by the share of it that lies within (the non-randomised transform of Czado,
    Gneiting & Held 2009). Without ties this is `closed_coverage` of the outermost levels.

    With `counts` demand is whole numbers, none negative, and each of them is an atom, from half a unit below to half a
    unit above: a closed interval counts both of its ends wholly, which is much where demand is a few units. Two levels
    are needed then.
    """
    known = np.isfinite(actual)
    if not known.any():
        return float("nan")
    below, upto = transform(actual[known], quantiles[known], levels, counts=counts)
    low, high = levels[0], levels[-1]
    inside = np.clip(np.minimum(upto, high) - np.maximum(below, low), 0, None)
    width = upto - below
    share = np.where(width > 0, inside / np.where(width > 0, width, 1), (below >= low) & (below <= high))
    return float(share.mean())


def observed_share(
    actual: Actual, quantiles: Quantiles, levels: Sequence[float], *, counts: bool = False
) -> Float[np.ndarray, " level"]:
    """For each level the share of demand below its quantile, atoms counted as in `coverage`: right when equal to it.

    NaN when nothing was observed.
    """
    known = np.isfinite(actual)
    if not known.any():
        return np.full(len(levels), np.nan)
    below, upto = transform(actual[known], quantiles[known], levels, counts=counts)
    level = np.asarray(levels)[:, None]
    width = upto - below
    share = np.where(width > 0, (level - below) / np.where(width > 0, width, 1), level >= upto)
    return np.clip(share, 0, 1).mean(axis=1)


def transform(
    actual: Float[np.ndarray, " step"],
    quantiles: Float[np.ndarray, "step level"],
    levels: Sequence[float],
    *,
    counts: bool = False,
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
    """The probability transform as an interval: F(y-) and F(y), equal where the forecast has no atom at y.

    An atom is a run of at least two equal quantiles, or a lowest quantile of zero where demand was zero. It begins
    half-way to the level before it, or at 0 when it includes the first level, and ends half-way to the next level, or
    at 1. Outside the outermost levels the transform is 0 or 1.

    With `counts` it is ``F(y - 1/2)`` to ``F(y + 1/2)`` of the interpolated distribution, from 0 when y is 0: half a
    unit because a quantile of a count lies on average half-way up that count's step.
    """
    if counts:
        y, q = actual.astype(np.float64), quantiles.astype(np.float64)
        return np.where(y > 0, cumulative(y - 0.5, q, levels), 0), cumulative(y + 0.5, q, levels)
    level = np.asarray(levels, dtype=np.float64)
    edges = np.concatenate([[0.0], (level[1:] + level[:-1]) / 2, [1.0]])
    y = actual[:, None]
    less, at_most = (quantiles < y).sum(axis=1), (quantiles <= y).sum(axis=1)
    atom = (at_most - less >= 2) | ((actual == 0) & (less == 0) & (at_most >= 1))
    padded = np.concatenate([[0.0], level, [1.0]])
    rows = np.arange(len(actual))
    left = quantiles[rows, np.clip(less - 1, 0, len(level) - 1)]
    right = quantiles[rows, np.clip(less, 0, len(level) - 1)]
    gap = np.where(right > left, right - left, 1)
    part = np.clip((actual - left) / gap, 0, 1)
    smooth = padded[less] + part * (padded[np.minimum(less + 1, len(level) + 1)] - padded[less])
    smooth = np.where(less == 0, np.where(at_most > 0, level[0], 0.0), np.where(less == len(level), 1.0, smooth))
    return np.where(atom, edges[less], smooth), np.where(atom, edges[at_most], smooth)


def crossing_rate(quantiles: Quantiles) -> float:
    """Share of neighbouring quantiles that fall instead of rise."""
    return float((np.diff(quantiles, axis=-1) < 0).mean()) if quantiles.shape[-1] > 1 else 0.0


def lag_one_correlation(actual: Actual, quantiles: Quantiles, levels: Sequence[float]) -> float:
    """Correlation of the normal scores of neighbouring steps: what `Forecast.correlation` should be.

    From the rank correlation r of the middles of the transform intervals, pooled over series, as the Gaussian copula
    with that rank correlation: ``2 sin(pi r / 6)`` (Pearson 1907).
    """
    known = np.isfinite(actual)
    middle = np.full(actual.shape, np.nan)
    below, upto = transform(actual[known], quantiles[known], levels)
    middle[known] = (below + upto) / 2
    first, second = middle[:, :-1].ravel(), middle[:, 1:].ravel()
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3 or first[both].std() == 0 or second[both].std() == 0:
        return 0.0
    rank = np.corrcoef(first[both], second[both])[0, 1]
    return float(np.clip(2 * np.sin(np.pi * rank / 6), -0.95, 0.95))
