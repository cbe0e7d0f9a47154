# SPDX-License-Identifier: Apache-2.0
"""The spread of a series with few observations, borrowed from what longer ones went on to sell after as few.

One observation has no spread, and two or three have hardly any; what follows them has. So every longer series is cut
after its first few, and what followed is kept in units of their mean, for means alike: what sells two a week varies
more, in its own units, than what sells two hundred.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sirdar.forecasting.panel import Panel

SHORTEST = 8  # observations; of series that have fewer the spread cannot be estimated, and models of it explode
_FEWEST = 8  # series that long, below which nothing is borrowed
_MOST = 1000  # of them that are asked
_STARTS = 4  # places at which each is cut
_ALIKE = 200  # cuts of about the same mean
_OWN = 16  # observations at which a series' own spread alone would count
_DOUBT = 0.4  # deviation of the logarithm of demand about one observation; of n a part in n, the rest being their own


class Sequel(NamedTuple):
    """What followed some number of observations.

    Args:
        least: the least mean of these in each row of the next; the first is 0, and its row that of all zeros.
        quantiles: of what followed, by mean and level: in units in the first row, in means in the others.
    """

    least: list[float]
    quantiles: list[list[float]]


def sequels(panel: Panel, horizon: int, levels: Sequence[float]) -> list[Sequel]:
    """What followed 1 ... 7 observations of long series that never fall below zero; empty where too few are."""
    count, owner = panel.observations(), panel.step_series[panel.observed]
    seen = panel.target[panel.observed].astype(np.float64)
    falls = np.bincount(owner[seen < 0], minlength=len(panel)) > 0
    rows = np.flatnonzero((count >= SHORTEST) & ~falls)
    if len(rows) < _FEWEST:
        return []
    rows = rows[:: -(-len(rows) // _MOST)]
    first = (np.cumsum(count) - count)[rows]
    cuts = [_cut(seen, first, count[rows], few, horizon) for few in range(1, SHORTEST)]
    return [_by_mean(mean, ahead, levels) for mean, ahead in cuts]


def spread(
    recent: Float32[np.ndarray, "series time"], levels: Sequence[float], known: Sequence[Sequel]
) -> Float32[np.ndarray, "series level"]:
    """Quantiles of what follows a few observations, NaN beside them.

    They are those of `known`, more and more mixed with those of the observations themselves. Where it is empty, and for
    demand below zero, these alone stand, widened by the doubt about their level.
    """
    count = np.isfinite(recent).sum(axis=1)
    mean = np.asarray(np.nanmean(recent, axis=1, dtype=np.float64))
    own = np.nanquantile(recent.astype(np.float64), levels, axis=1).T
    normal = np.array([NormalDist().inv_cdf(level) for level in levels])
    values = own + np.abs(own) * np.expm1(_DOUBT * normal / count[:, None])
    for few, sequel in enumerate(known, 1):
        told = (mean == 0) | (len(sequel.least) > 1)
        rows = np.flatnonzero((count == few) & (np.nanmin(recent, axis=1) >= 0) & told)
        share = few / _OWN
        values[rows] = share * own[rows] + (1 - share) * _looked_up(sequel, mean[rows])
    largest = np.finfo(np.float32).max
    return np.clip(values, -largest, largest).astype(np.float32)


def _cut(
    seen: Float64[np.ndarray, " observation"],
    first: Int64[np.ndarray, " series"],
    count: Int64[np.ndarray, " series"],
    few: int,
    horizon: int,
) -> tuple[Float64[np.ndarray, " cut"], Float64[np.ndarray, "cut horizon"]]:
    """The means of `few` observations at several places of each series, and what followed, NaN after its end."""
    room = np.maximum(count - few - horizon, 0)
    start = (first[:, None] + room[:, None] * np.arange(_STARTS) // (_STARTS - 1)).ravel()
    end = np.repeat(first + count, _STARTS)
    steps = start[:, None] + few + np.arange(horizon)
    ahead = np.where(steps < end[:, None], seen[np.minimum(steps, len(seen) - 1)], np.nan)
    return seen[start[:, None] + np.arange(few)].mean(axis=1), ahead


def _by_mean(
    mean: Float64[np.ndarray, " cut"], ahead: Float64[np.ndarray, "cut horizon"], levels: Sequence[float]
) -> Sequel:
    order, zeros = np.argsort(mean, kind="stable"), int((mean == 0).sum())
    parts = np.array_split(order[zeros:], max((len(mean) - zeros) // _ALIKE, 1)) if zeros < len(mean) else []
    nothing = np.nanquantile(ahead[order[:zeros]], levels) if zeros else np.zeros(len(levels))
    rows = [nothing, *(np.nanquantile(ahead[part] / mean[part, None], levels) for part in parts)]
    return Sequel([0.0, *(float(mean[part[0]]) for part in parts)], [row.tolist() for row in rows])


def _looked_up(sequel: Sequel, mean: Float64[np.ndarray, " series"]) -> Float64[np.ndarray, "series level"]:
    """Quantiles in units; those of a mean below all known in the ratios of the least."""
    row = np.where(mean > 0, np.maximum(np.searchsorted(sequel.least[1:], mean, side="right"), 1), 0)
    return np.array(sequel.quantiles)[row] * np.where(mean > 0, mean, 1)[:, None]
