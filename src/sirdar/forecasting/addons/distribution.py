# SPDX-License-Identifier: Apache-2.0
"""The Distribution Engine: past errors by horizon, scale and group become the quantiles of any point forecast.

An error is scaled by the forecast and by the series' own variability, so that series of every size share a cell:

    z = (y - f) / s,   s = v m^(1/4) max(f, m e)^(3/4)

with f the forecast, m the series' mean, e the effect of season and price on the step and v the series' coefficient of
variation, its logarithm shrunk to that of series as large (between the variance f of a Poisson count and f^2 of a
relative error). A forecast below what is usual is as uncertain as the usual: that of a slow product may well be
nothing. The quantiles of z in the cell (horizon, volume, group) put back around f are the forecast's; a cell with few
errors gives way to the next wider one.

With ``conformal=True`` a quantile is the order statistic of rank ``ceil((n + 1) q)`` of a cell's n errors for q >= 1/2
and ``floor((n + 1) q)`` below. If the errors of the cell and the one to come are exchangeable, then
``P(y <= upper) >= q`` and ``P(y < lower) <= q`` for every n (split conformal prediction within categories: Vovk,
Gammerman & Shafer 2005, prop. 4.1; Lei et al. 2018, theorem 2). Errors of one series at neighbouring origins are not
exchangeable, strictly; errors of different series at one origin are when the series are a random draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.predictive.forecast import require_levels

_POWER = 0.75
_STATE = ("levels", "conformal", "buckets", "fewest", "edges", "usual", "steps", "keys", "table")
_STEADY = 1e-3  # a variation below it is no variation, but what rounding left
_ANY = -1  # a coordinate of a cell that holds all


@dataclass(frozen=True)
class Scale:
    """What is known of each series before it is forecast.

    Args:
        mean: size of demand per step, seasons and prices divided out.
        variation: its coefficient of variation; NaN where not known.
        count: observations behind both.
        group: a number for each group; 0 for all when there are none.
        effect: of season and price on each step ahead; 1 when None.
    """

    mean: Float[np.ndarray, " series"]
    variation: Float[np.ndarray, " series"]
    count: Int64[np.ndarray, " series"]
    group: Int64[np.ndarray, " series"]
    effect: Float[np.ndarray, "series horizon"] | None = None

    @classmethod
    def of(
        cls,
        demand: Float[np.ndarray, "series time"],
        window: int,
        group: Int64[np.ndarray, " series"] | None = None,
    ) -> "Scale":
        """Mean and variation of the `window` steps to the last observed one; NaN is not observed."""
        ending = np.argmax(np.isfinite(demand[:, ::-1]), axis=1)  # 0 where nothing was
        place = demand.shape[1] - ending[:, None] + np.arange(-min(window, demand.shape[1]), 0)
        recent = np.where(place >= 0, np.take_along_axis(demand, np.maximum(place, 0), axis=1), np.nan)
        recent = recent.astype(np.float64)
        known = np.isfinite(recent)
        count = known.sum(axis=1)
        centre = np.where(known, recent, 0).sum(axis=1) / np.maximum(count, 1)
        mean = np.where(known, np.abs(recent), 0).sum(axis=1) / np.maximum(count, 1)
        square = np.where(known, (recent - centre[:, None]) ** 2, 0).sum(axis=1) / np.maximum(count - 1, 1)
        usable = (count > 1) & (mean > 0)
        variation = np.where(usable, np.sqrt(square) / np.where(usable, mean, 1), np.nan)
        numbers = np.zeros(len(demand), dtype=np.int64) if group is None else group
        return cls(mean, variation, count.astype(np.int64), numbers)


@dataclass
class DistributionEngine:
    """Quantiles around point forecasts, from past errors.

    Args:
        levels: rising quantile levels.
        conformal: whether levels hold for every number of errors, see the module.
        buckets: cells by volume.
        fewest: errors below which a cell gives way to the next wider one.
    """

    levels: Sequence[float]
    conformal: bool = False
    buckets: int = 8
    fewest: int = 100
    edges: Float[np.ndarray, " edge"] = field(default_factory=lambda: np.zeros(0))
    usual: Float[np.ndarray, " bucket"] = field(default_factory=lambda: np.ones(1))
    steps: Int64[np.ndarray, " step"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    keys: Int64[np.ndarray, "cell 3"] = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    table: Float[np.ndarray, "cell level"] = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        self.levels = require_levels(self.levels)
        require_positive_integer(self.buckets, "buckets")
        require_positive_integer(self.fewest, "fewest")

    def fit(
        self, actual: Float[np.ndarray, "series horizon"], point: Float[np.ndarray, "series horizon"], scale: Scale
    ) -> "DistributionEngine":
        """Learns from forecasts made in the past.

        Args:
            actual: what followed; NaN where not observed.
            point: what had been forecast, not negative.
            scale: of each series as it was known then. A series may appear once per origin.
        """
        if actual.shape != point.shape:
            msg = f"actual has shape {actual.shape}, but point has {point.shape}"
            raise ArgumentError(msg)
        positive = scale.mean[scale.mean > 0]
        inner = np.linspace(0, 1, self.buckets + 1)[1:-1]
        self.edges = np.unique(np.quantile(positive, inner)) if len(positive) else np.zeros(0)
        bucket = np.searchsorted(self.edges, scale.mean)
        self.usual = _usual(scale.variation, bucket, len(self.edges) + 1)
        self.steps = _horizon_cells(actual.shape[1])
        error = (actual - point) / self._spread(point, scale)
        known = np.isfinite(error)
        place = np.stack(
            [
                np.broadcast_to(self.steps[None], error.shape)[known],
                np.broadcast_to(bucket[:, None], error.shape)[known],
                np.broadcast_to(scale.group[:, None], error.shape)[known],
            ],
            axis=1,
        ).astype(np.int64)
        self._tabulate(place, error[known])
        return self

    def quantiles(
        self,
        point: Float[np.ndarray, "series horizon"],
        scale: Scale,
        *,
        floor: float | Float[np.ndarray, " series"] = 0.0,
    ) -> Float32[np.ndarray, "series horizon level"]:
        """Quantiles around point forecasts; none is below the floor, of all or of each, and they do not cross."""
        bucket = np.searchsorted(self.edges, scale.mean)
        last = self.steps[-1] if len(self.steps) else 0
        step = np.full(point.shape[1], last)
        step[: len(self.steps)] = self.steps[: point.shape[1]]
        z = self.table[self._cells(step, bucket, scale.group)]
        spread = self._spread(point, scale)
        with np.errstate(invalid="ignore"):  # an infinite conformal bound on a forecast of nothing
            values = point[..., None] + spread[..., None] * z
        farthest, least = np.finfo(np.float32).max / 4, np.reshape(floor, (-1, 1, 1))
        values = np.where(np.isfinite(values), values, np.where(z > 0, farthest, np.maximum(least, -farthest)))
        return np.maximum.accumulate(np.maximum(values, least), axis=2).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Everything learned, for `from_state`."""
        return {name: getattr(self, name) for name in _STATE}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "DistributionEngine":
        """The engine whose `state` this is."""
        return cls(**state)

    def _spread(self, point: np.ndarray, scale: Scale) -> np.ndarray:
        bucket = np.searchsorted(self.edges, scale.mean)
        usual = self.usual[bucket]
        prior = 8.0  # observations that the bucket's variation counts for
        weight = scale.count / (scale.count + prior)
        own = np.maximum(np.where(np.isfinite(scale.variation), scale.variation, usual), _STEADY)
        variation = own**weight * usual ** (1 - weight)  # a mean of variances would drown that of a steady series
        mean = np.where(scale.mean > 0, scale.mean, 1e-3)[:, None]
        base = np.maximum(np.abs(point), mean if scale.effect is None else mean * scale.effect)
        return variation[:, None] * mean ** (1 - _POWER) * base**_POWER

    def _tabulate(self, place: np.ndarray, error: np.ndarray) -> None:
        """Quantiles of every cell that has enough errors, and of all whatever their number."""
        keys, rows = [], []
        for wide in ((), (2,), (1, 2), (0, 1, 2)) if len(error) else ():
            cell = place.copy()
            cell[:, list(wide)] = _ANY
            names, inverse, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
            order = np.argsort(inverse.reshape(-1), kind="stable")
            for name, part in zip(names, np.split(error[order], np.cumsum(count)[:-1]), strict=True):
                if len(part) >= self._needed() or len(wide) == 3:
                    keys.append(name)
                    rows.append(self._of(part))
        if not keys:  # no error at all: the normal law stands in
            from statistics import NormalDist

            keys, rows = [np.full(3, _ANY)], [np.array([NormalDist().inv_cdf(level) for level in self.levels])]
        self.keys, self.table = np.array(keys, dtype=np.int64), np.array(rows)

    def _needed(self) -> int:
        if not self.conformal:
            return self.fewest
        least = min(self.levels[0], 1 - self.levels[-1])
        return max(self.fewest, int(np.ceil(1 / least)))

    def _of(self, errors: np.ndarray) -> np.ndarray:
        if not self.conformal:
            return np.quantile(errors, self.levels)
        ordered = np.concatenate([[-np.inf], np.sort(errors), [np.inf]])
        level, many = np.asarray(self.levels), len(errors) + 1
        exact = np.round(many * level, 9)  # 0.9 * 10 must not become 9.000000000000002
        rank = np.where(level >= 0.5, np.ceil(exact), np.floor(exact)).astype(np.int64)
        return ordered[rank]

    def _cells(self, step: np.ndarray, bucket: np.ndarray, group: np.ndarray) -> Int64[np.ndarray, "series horizon"]:
        """The narrowest cell there is, for every series and step."""
        known = {tuple(key): index for index, key in enumerate(self.keys.tolist())}
        kinds, inverse = np.unique(np.stack([bucket, group], axis=1), axis=0, return_inverse=True)
        table = np.zeros((len(kinds), len(step)), dtype=np.int64)
        for row, (volume, member) in enumerate(kinds.tolist()):
            for column, when in enumerate(step.tolist()):
                choices = ((when, volume, member), (when, volume, _ANY), (when, _ANY, _ANY), (_ANY, _ANY, _ANY))
                table[row, column] = next(known[choice] for choice in choices if choice in known)
        return table[inverse.reshape(-1)]


def _usual(variation: np.ndarray, bucket: np.ndarray, buckets: int) -> Float[np.ndarray, " bucket"]:
    """Median variation of each bucket, of all where it has none."""
    known = np.isfinite(variation) & (variation > _STEADY)
    everywhere = float(np.median(variation[known])) if known.any() else 1.0
    parts = [variation[known & (bucket == index)] for index in range(buckets)]
    return np.array([float(np.median(part)) if len(part) else everywhere for part in parts])


def _horizon_cells(horizon: int) -> Int64[np.ndarray, " step"]:
    """Steps that share errors: 1, 2, 3-4, 5-8, ..."""
    return np.ceil(np.log2(np.arange(1, horizon + 1))).astype(np.int64)
