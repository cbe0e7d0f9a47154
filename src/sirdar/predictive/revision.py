# SPDX-License-Identifier: Apache-2.0
"""How much a forecast of the same date moves from one origin to the next, and how much of that was needed.

A forecast is right to move when news arrives. Let S be the loss (here the pinball loss), F the earlier and G the later
forecast of one date, y its demand. If G is the law of y given all that is known at the later origin, then

    E[S(F, y) - S(G, y)] = E[d(G, F)],    d(G, F) = E_{x ~ G}[S(F, x) - S(G, x)] >= 0:

what the revision wins in accuracy is, on average, its own size d, the Bregman divergence of the loss. This holds by the
tower property of conditional expectation, for any earlier forecast. The excess d(G, F) - (S(F, y) - S(G, y)) therefore
has mean zero for forecasts that are updated as they should be (their evolution is a martingale); it is positive when
they move by more than they learn, and negative when they move by less.

The idea of measuring volatility by a Bregman divergence, beside the gain in accuracy over the same time, is that of
Eisenach, Patel & Madeka, "MQTransformer: multi-horizon forecasts with context dependent attention and optimal Bregman
volatility" (2022 revision of arXiv:2009.14799). The measure of Potosnak et al. (2025, arXiv:2510.04487) puts a point in
the place of G, its median: `median_volatility`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.predictive.distribution import area
from sirdar.predictive.forecast import Forecast, require_levels
from sirdar.predictive.scores import pinball

Dates = Float[np.ndarray, "series date"]
Origins = Float[np.ndarray, "series origin horizon level"]


@dataclass(frozen=True)
class Revision:
    """What revisions between consecutive origins amounted to, in the unit of WQL (twice the loss over total demand).

    Args:
        volatility: the size of the revisions.
        improvement: by how much they lowered the loss.
    """

    volatility: float
    improvement: float

    @property
    def excess(self) -> float:
        """Volatility that bought no accuracy: zero in expectation for a forecast updated as it should be."""
        return self.volatility - self.improvement


def revisions(actual: Dates, values: Origins, levels: Sequence[float], step: int = 1) -> Revision:
    """Size and use of the revisions between neighbouring origins.

    For the levels u, earlier quantiles p and later quantiles q of the same date,

        volatility  = 2 sum_pairs mean_u integral_q^p (G(x) - u) dx / sum_pairs |y|,
        improvement = 2 sum_pairs mean_u (pinball_u(y, p) - pinball_u(y, q)) / sum_pairs |y|,

    where the integral is the Bregman divergence of the pinball loss, and G the law that the later quantiles stand for
    (`distribution`). Pairs whose demand was not observed (NaN) are left out.

    Args:
        actual: demand of every date; date 0 is the first step of the first origin, and there are
            ``(origins - 1) * step + horizon`` of them.
        values: quantiles, never falling along the last axis.
        levels: their levels, two or more.
        step: periods from one origin to the next.

    Returns:
        Both parts; NaN when no two forecasts share an observed date, or there was no demand.

    Raises:
        ArgumentError: shapes that do not fit, fewer than two levels, or quantiles that cross.
    """
    y, before, after = _pairs(actual, values, levels, step)
    total = float(np.abs(y).sum())
    if total == 0:
        return Revision(float("nan"), float("nan"))
    moved = 0.0
    for index, level in enumerate(levels):
        p, q = before[:, index], after[:, index]
        moved += float((area(p, after, levels) - area(q, after, levels) - level * (p - q)).sum())
    gain = float(_loss(y, before, levels).sum() - _loss(y, after, levels).sum())
    unit = 2 / (len(levels) * total)
    return Revision(moved * unit, gain * unit)


def excess_volatility(actual: Dates, values: Origins, levels: Sequence[float], step: int = 1) -> float:
    """Volatility less improvement of `revisions`: zero in expectation for a forecast updated as it should be."""
    return revisions(actual, values, levels, step).excess


def median_volatility(actual: Dates, values: Origins, levels: Sequence[float], step: int = 1) -> float:
    """Excess volatility as Potosnak et al. (2025) define it in their package ForgeTS.

    With the later median m in the place of the later law,

        sum_pairs sum_u (pinball_u(m, p) - pinball_u(y, p) + pinball_u(y, q)) / sum_pairs |y|.

    It is summed, not averaged, over levels, and not doubled. A forecast that never changes scores above zero, for its
    quantiles differ from its median, and one that is updated as it should be does so in general. Use this to compare
    with figures of that paper, and `excess_volatility` to compare forecasters.

    Args:
        actual: as in `revisions`.
        values: as in `revisions`.
        levels: as in `revisions`, with 0.5 among them.
        step: periods from one origin to the next.

    Raises:
        ArgumentError: shapes that do not fit, or 0.5 is not among the levels.
    """
    if 0.5 not in levels:
        msg = f"the median must be among the levels, got {tuple(levels)}"
        raise ArgumentError(msg)
    y, before, after = _pairs(actual, values, levels, step)
    total = float(np.abs(y).sum())
    if total == 0:
        return float("nan")
    median = after[:, list(levels).index(0.5)]
    cost = _loss(median, before, levels) - _loss(y, before, levels) + _loss(y, after, levels)
    return float(cost.sum() / total)


def stack_origins(forecasts: Sequence[Forecast]) -> tuple[Origins, int]:
    """Forecasts of the same series from consecutive origins as one array, and the periods from one to the next.

    Raises:
        ArgumentError: fewer than two, or they differ in series, levels, horizon or calendar, or are not evenly spaced.
    """
    if len(forecasts) < 2:
        msg = f"revisions need forecasts from at least two origins, got {len(forecasts)}"
        raise ArgumentError(msg)
    first = forecasts[0]
    for number, other in enumerate(forecasts):
        for name in ("ids", "levels", "horizon", "frequency"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if (list(mine) != list(theirs)) if name == "ids" else (mine != theirs):
                msg = f"forecast {number} differs from the first in its {name}"
                raise ArgumentError(msg)
    gaps = np.diff(np.stack([np.asarray(forecast.start) for forecast in forecasts]), axis=0)
    step = int(gaps.flat[0]) if gaps.size else 1
    if step < 1 or bool((gaps != step).any()):
        msg = f"origins must advance evenly, got steps {sorted(set(gaps.ravel().tolist()))}"
        raise ArgumentError(msg)
    return np.stack([forecast.values for forecast in forecasts], axis=1), step


def revisions_of(forecasts: Sequence[Forecast], actual: Dates) -> Revision:
    """`revisions` of forecasts made at consecutive origins, oldest first.

    Args:
        forecasts: of the same series, horizon and levels, their origins evenly spaced.
        actual: demand of every series from the first step of the first forecast to the last step of the last.

    Raises:
        ArgumentError: the forecasts do not follow one another, or `actual` does not span them.
    """
    values, step = stack_origins(forecasts)
    return revisions(actual, values, forecasts[0].levels, step)


def _pairs(
    actual: Dates, values: Origins, levels: Sequence[float], step: int
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "step level"], Float[np.ndarray, "step level"]]:
    """Demand, earlier and later quantiles of every observed date that two neighbouring origins share."""
    require_levels(levels)
    _, origins, horizon, _ = values.shape
    dates = (origins - 1) * step + horizon
    if not 1 <= step < horizon or origins < 2:
        msg = f"{origins} origins {step} apart with a horizon of {horizon} share no date"
        raise ArgumentError(msg)
    if actual.shape[1] != dates or values.shape[3] != len(levels):
        msg = (
            f"actual must have {dates} dates and values one quantile per level, "
            f"got {actual.shape[1]} dates and {values.shape[3]} quantiles for {len(levels)} levels"
        )
        raise ArgumentError(msg)
    target = np.arange(1, origins)[:, None] * step + np.arange(horizon - step)
    y = actual[:, target].astype(np.float64)
    known = np.isfinite(y)
    return y[known], values[:, :-1, step:][known].astype(np.float64), values[:, 1:, :-step][known].astype(np.float64)


def _loss(
    y: Float[np.ndarray, " step"], quantiles: Float[np.ndarray, "step level"], levels: Sequence[float]
) -> Float[np.ndarray, "1 step level"]:
    return pinball(y[None], quantiles[None], levels)
