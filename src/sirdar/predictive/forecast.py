# SPDX-License-Identifier: Apache-2.0
"""A forecast as a distribution: the one type that stands between networks and decisions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.predictive.frequency import Frequency
from sirdar.predictive.native import answered

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_DIGITS = 9


def require_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels as plain numbers, or an `ArgumentError` when they do not rise within (0, 1).

    They are rounded to nine digits: what sums of steps make of 0.3 is 0.30000000000000004.
    """
    try:
        plain = tuple(round(float(level), _DIGITS) for level in levels)
    except (TypeError, ValueError):
        msg = f"levels must be numbers that rise within (0, 1), got {levels!r}"
        raise ArgumentError(msg) from None
    rising = all(a < b for a, b in pairwise(plain))
    if not plain or not rising or not (plain[0] > 0 and plain[-1] < 1):
        msg = f"levels must rise within (0, 1), got {tuple(levels)}"
        raise ArgumentError(msg)
    return plain


@dataclass(frozen=True)
class Forecast:
    """Quantiles of demand for every series, step of the horizon and level.

    Between two levels a quantile is interpolated linearly; beyond the outermost ones the tail is exponential, with the
    rate that the last two levels imply. `floor` bounds it from below, since counts are not negative.

    Args:
        ids: series names, in the order of `values`.
        start: the period number of the first step of each series, in `frequency`.
        frequency: the calendar.
        levels: rising quantile levels in (0, 1).
        values: the quantiles, never falling along the last axis.
        floor: the least possible value, of all series or of each; minus infinity when there is none.
        correlation: lag-one correlation of the normal scores of neighbouring steps. Sample paths carry it, so that sums
            over a lead time have the right spread. 0, which is what forecasters answer, draws every step alone; a
            `Backtest.correlation` is what past errors had.
    """

    ids: Sequence[str]
    start: np.ndarray
    frequency: Frequency
    levels: tuple[float, ...]
    values: Float[np.ndarray, "series horizon level"]
    floor: float | np.ndarray = -np.inf
    correlation: float = 0.0
    native: Any = field(default=None, repr=False, compare=False)  # a `Native`, or a narwhals backend

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", require_levels(self.levels))
        if not -1 < self.correlation < 1:
            msg = f"correlation must lie in (-1, 1), got {self.correlation}"
            raise ArgumentError(msg)
        shape = self.values.shape
        if len(shape) != 3 or shape[0] != len(self.ids) or shape[2] != len(self.levels):
            msg = f"values have shape {shape}, but there are {len(self.ids)} ids and {len(self.levels)} levels"
            raise ArgumentError(msg)
        if np.shape(self.start) != (len(self.ids),):
            msg = f"start has shape {np.shape(self.start)}, but there are {len(self.ids)} ids"
            raise ArgumentError(msg)
        if np.shape(self.floor) not in {(), (len(self.ids),)}:
            msg = f"floor has shape {np.shape(self.floor)}, but there are {len(self.ids)} ids"
            raise ArgumentError(msg)
        if not bool(np.isfinite(self.values).all()):
            row = int(np.flatnonzero(~np.isfinite(self.values).all(axis=(1, 2)))[0])
            msg = f"the forecast of {self.ids[row]!r} holds a value that is not a finite number"
            raise ArgumentError(msg)
        if bool((np.diff(self.values, axis=2) < 0).any()):
            msg = "quantiles cross: values must not fall along the last axis"
            raise ArgumentError(msg)

    @property
    def horizon(self) -> int:
        """Steps forecast."""
        return int(self.values.shape[1])

    @property
    def lone(self) -> bool:
        """Whether all it holds is one quantile other than the median, which tells nothing of the rest."""
        return len(self.levels) == 1 and self.levels != (0.5,)

    def times(self) -> np.ndarray:
        """Labels (datetime64[s]) of every step: shape [series, horizon]."""
        return self.frequency.labels(np.asarray(self.start)[:, None] + np.arange(self.horizon))

    def quantile(self, level: float | np.ndarray) -> Float[np.ndarray, "series horizon"]:
        """The quantile at one level, or at one level per series and step (an array that broadcasts to both).

        Raises:
            ArgumentError: a level is not within (0, 1), or another than the only one forecast. (A lone median is a
                point forecast, and answers for all.)
        """
        u = np.asarray(level, dtype=np.float64)
        if not bool(((u > 0) & (u < 1)).all()):
            msg = f"a quantile level must lie in (0, 1), got {level}"
            raise ArgumentError(msg)
        if not bool((u.round(_DIGITS) == self.levels[0]).all()):
            self._refuse_lone(f"the quantile at {level}")
        return self._at(np.broadcast_to(u, self.values.shape[:2])[..., None])[..., 0]

    def median(self) -> Float[np.ndarray, "series horizon"]:
        """The point forecast that absolute errors reward."""
        return self.quantile(0.5)

    def mean(self) -> Float[np.ndarray, "series horizon"]:
        """The expectation, by the midpoint rule over 200 levels.

        Raises:
            ArgumentError: one level alone was forecast, and not the median.
        """
        self._refuse_lone("the mean")
        u = (np.arange(200) + 0.5) / 200
        return np.mean([self._at(np.full((*self.values.shape[:2], 1), x))[..., 0] for x in u], axis=0)

    def sample(self, count: int, seed: int = 0) -> Float[np.ndarray, "series horizon sample"]:
        """Sample paths, neighbouring steps joined by a Gaussian copula of lag-one `correlation`.

        Raises:
            ArgumentError: one level alone was forecast, and not the median; or count or seed is out of range.
        """
        require_positive_integer(count, "count")
        self._refuse_lone("how demand is distributed")
        draws = np.random.default_rng(require_seed(seed)).standard_normal((len(self.ids), self.horizon, count))
        rho = self.correlation
        for step in range(1, self.horizon if rho else 0):
            draws[:, step] = rho * draws[:, step - 1] + np.sqrt(1 - rho * rho) * draws[:, step]
        return self._at(_normal_cdf(draws))

    def _refuse_lone(self, wanted: str) -> None:
        if self.lone:
            msg = f"a forecast of the level {self.levels[0]} alone does not tell {wanted}"
            raise ArgumentError(msg)

    def take(self, rows: np.ndarray) -> "Forecast":
        """The forecasts of some series, by number or by a mask of one truth value per series."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        ids = [self.ids[int(row)] for row in rows]
        return Forecast(
            ids,
            np.asarray(self.start)[rows],
            self.frequency,
            self.levels,
            self.values[rows],
            self.floor[rows] if isinstance(self.floor, np.ndarray) else self.floor,
            self.correlation,
            self.native,
        )

    @classmethod
    def joined(cls, parts: Sequence["Forecast"]) -> "Forecast":
        """The series of all parts, in their order.

        Raises:
            ArgumentError: there is no part, or their frequency, levels, horizon or correlation differ.
        """
        kinds = {(part.frequency, part.levels, part.horizon, part.correlation) for part in parts}
        if len(kinds) != 1:
            msg = f"forecasts to join must share frequency, levels, horizon and correlation, got {len(kinds)} kinds"
            raise ArgumentError(msg)
        floor = np.concatenate([np.broadcast_to(part.floor, len(part.ids)) for part in parts])
        return replace(
            parts[0],
            ids=[name for part in parts for name in part.ids],
            start=np.concatenate([part.start for part in parts]),
            values=np.concatenate([part.values for part in parts]),
            floor=float(floor[0]) if len(np.unique(floor)) == 1 else floor,
        )

    def to_frame(self) -> Any:  # noqa: ANN401 - the caller's own frame type
        """A long frame of the caller's own type: unique_id, ds and one column per level ("q0.1", ...).

        Ids and times have the types of the table that the panel was read from, where that was a frame. Times that it
        wrote as numbers, or as texts other than 2024-01-31, are timestamps.
        """
        times = self.times().astype("datetime64[us]")
        columns: dict[str, Any] = {
            "unique_id": np.repeat(np.asarray(self.ids, dtype=object), self.horizon).tolist(),
            "ds": times.reshape(-1),
        }
        for index, level in enumerate(self.levels):
            columns[f"q{level!r}"] = np.ascontiguousarray(self.values[:, :, index].reshape(-1))
        return answered(columns, self.native, "unique_id", "ds")

    def _at(self, u: np.ndarray) -> np.ndarray:
        """Quantiles at levels u [series, horizon, k], by interpolation and exponential tails."""
        levels = np.asarray(self.levels)
        values, floor = self.values.astype(np.float64), np.reshape(self.floor, (-1, 1, 1))
        if len(levels) == 1:
            return np.maximum(np.broadcast_to(values, u.shape), floor)
        right = np.clip(np.searchsorted(levels, u), 1, len(levels) - 1)
        low, high = np.take_along_axis(values, right - 1, 2), np.take_along_axis(values, right, 2)
        result = low + (high - low) * (u - levels[right - 1]) / (levels[right] - levels[right - 1])
        # Rounding must neither miss a stored quantile nor pass it, or the quantile function could fall by a hair.
        result = np.where(u < levels[right], np.minimum(result, high), high)
        lower_rate = (values[..., 1:2] - values[..., :1]) / np.log(levels[1] / levels[0])
        upper_rate = (values[..., -1:] - values[..., -2:-1]) / np.log((1 - levels[-2]) / (1 - levels[-1]))
        result = np.where(u < levels[0], values[..., :1] + lower_rate * np.log(u / levels[0]), result)
        result = np.where(u > levels[-1], values[..., -1:] - upper_rate * np.log((1 - u) / (1 - levels[-1])), result)
        return np.maximum(result, floor)


_GRID = np.linspace(-6, 6, 4097)
_CDF = np.array([NormalDist().cdf(float(z)) for z in _GRID])


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    return np.interp(z, _GRID, _CDF)
