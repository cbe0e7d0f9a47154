# SPDX-License-Identifier: Apache-2.0
"""The scores of the M4 competition: sMAPE, MSIS, and OWA against the Naive2 forecast.

Makridakis, Spiliotis & Assimakopoulos (2020), "The M4 Competition: 100,000 time series and 61 forecasting methods",
International Journal of Forecasting 36(1). Steps whose demand is NaN (not observed) are left out everywhere. Each score
is the mean over all observed steps: where every series has as many, as in M4, that is the mean of the series' means.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.predictive.scores import Actual, mase, scaled_mean

Scale = Float[np.ndarray, " series"]
_CRITICAL = 1.645  # of the standard normal law, two-sided 90 %


def smape(actual: Actual, point: Actual) -> float:
    """Symmetric mean absolute percentage error, 0 to 200: ``200 |y - f| / (|y| + |f|)``, mean over steps.

    Where demand and forecast are both zero, the error is zero.
    """
    size = np.abs(actual) + np.abs(point)
    loss = 200 * np.abs(actual - point) / np.where(size == 0, 1, size)
    return scaled_mean(loss, actual, np.ones(len(actual)))


def msis(actual: Actual, low: Actual, high: Actual, scale: Scale, alpha: float = 0.05) -> float:
    """Mean scaled interval score of the interval [low, high] with probability ``1 - alpha``.

    ``(U - L + 2/alpha (L - y) 1{y < L} + 2/alpha (y - U) 1{y > U}) / scale``, mean over steps (Gneiting & Raftery
    2007, scaled as MASE). Give `scores.seasonal_scale` as the scale.

    Raises:
        ArgumentError: alpha lies outside (0, 1).
    """
    if not 0 < alpha < 1:
        msg = f"alpha must lie in (0, 1), got {alpha}"
        raise ArgumentError(msg)
    outside = np.maximum(low - actual, 0) + np.maximum(actual - high, 0)
    return scaled_mean(high - low + 2 / alpha * outside, actual, scale)


@dataclass(frozen=True)
class PointScore:
    """sMAPE (percent) and MASE of one forecast over a set of series."""

    smape: float
    mase: float


def point_score(actual: Actual, point: Actual, scale: Scale) -> PointScore:
    """Both scores that enter `owa`."""
    return PointScore(smape(actual, point), mase(actual, point, scale))


def owa(score: PointScore, naive2: PointScore) -> float:
    """Overall weighted average, 1 for Naive2 itself: the mean of sMAPE and MASE, each over that of `naive2_forecast`.

    M4 averages both scores over all series first and divides then: ``(sMAPE / sMAPE_2 + MASE / MASE_2) / 2``. NaN when
    Naive2 was exact in either, so that there is nothing to compare with.
    """
    if naive2.smape == 0 or naive2.mase == 0:
        return float("nan")
    return (score.smape / naive2.smape + score.mase / naive2.mase) / 2


def naive2_forecast(
    history: Float[np.ndarray, "series time"], season: int, horizon: int
) -> Float[np.ndarray, "series horizon"]:
    """Naive2 of M4: the last observation, seasonally adjusted where `is_seasonal` says so.

    The adjustment is the classical multiplicative decomposition: a centred moving average over one season is the
    trend, and the mean ratio of demand to trend at each phase, divided by the mean of these figures, is the season.
    A series with a seasonal figure that is no positive number (such as one of mostly zeros) is not adjusted. Rows may
    begin with NaN, so that histories of several lengths stand in one array.

    Args:
        history: demand, oldest first.
        season: steps in a season; 1 makes this the naive forecast.
        horizon: steps to forecast.

    Raises:
        ArgumentError: season or horizon is not a positive integer.
    """
    require_positive_integer(season, "season")
    require_positive_integer(horizon, "horizon")
    result = np.full((len(history), horizon), np.nan)
    for row, demand in enumerate(history.astype(np.float64)):
        known = np.flatnonzero(np.isfinite(demand))
        if not len(known):
            continue
        first, last = int(known[0]), int(known[-1])
        figures = np.ones(season)
        if is_seasonal(demand[first:], season):
            found = _figures(demand[first:], season)
            figures = found if bool((found > 0).all()) else figures
        steps = np.arange(history.shape[1], history.shape[1] + horizon) - first
        result[row] = demand[last] / figures[(last - first) % season] * figures[steps % season]
    return result


def is_seasonal(demand: Float[np.ndarray, " time"], season: int) -> bool:
    """M4's 90 % test: ``|r_m| > 1.645 sqrt((1 + 2 sum_{k<m} r_k^2) / n)`` for the autocorrelations r of the demand.

    False for a season of 1, for fewer than three seasons, and for demand that never changes.
    """
    known = np.isfinite(demand)
    count = int(known.sum())
    if season <= 1 or count < 3 * season:
        return False
    centred = np.where(known, demand - demand[known].mean(), 0)
    variance = float(centred @ centred)
    if variance == 0:
        return False
    r = np.array([float(centred[lag:] @ centred[:-lag]) / variance for lag in range(1, season + 1)])
    return bool(abs(r[-1]) > _CRITICAL * np.sqrt((1 + 2 * (r[:-1] ** 2).sum()) / count))


def _figures(demand: Float[np.ndarray, " time"], season: int) -> Float[np.ndarray, " season"]:
    """Multiplicative seasonal figures by phase, as `decompose` of R finds them; NaN where a phase is never observed."""
    kernel = np.full(season, 1.0) if season % 2 else np.concatenate([[0.5], np.ones(season - 1), [0.5]])
    trend = np.convolve(demand, kernel / season, mode="valid")
    edge = len(kernel) // 2
    ratio = np.full(len(demand), np.nan)
    ratio[edge : edge + len(trend)] = demand[edge : edge + len(trend)] / np.where(trend == 0, np.nan, trend)
    phase = np.arange(len(demand)) % season
    known = np.isfinite(ratio)
    count = np.bincount(phase[known], minlength=season)
    total = np.bincount(phase[known], ratio[known], minlength=season)
    figures = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    mean = figures.mean()
    return figures / mean if mean > 0 else np.full(season, np.nan)
