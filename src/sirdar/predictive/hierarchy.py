# SPDX-License-Identifier: Apache-2.0
"""Scores over sums of series: WRMSSE and WSPL of the M5 competition, with its twelve levels.

Makridakis, Spiliotis & Assimakopoulos (2022), "M5 accuracy competition: results, findings, and conclusions", and the
same with Chen, Gaba, Tsetlin & Winkler (2022), "The M5 uncertainty competition", International Journal of Forecasting
38(4). Every level has the same weight; within a level a node weighs what it took in money.

    WRMSSE = sum_i w_i sqrt(mean_h (y_i - f_i)^2 / mean_t (y_i,t - y_i,t-1)^2)
    WSPL   = sum_i w_i mean_u mean_h pinball_u(y_i, q_i,u) / mean_t |y_i,t - y_i,t-1|

A node is one sum of series, such as the foods of one store; nodes stand level after level in every array here. Time t
runs from the day after the node's first sale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sirdar.errors import ArgumentError, DataError
from sirdar.predictive.forecast import require_levels
from sirdar.predictive.scores import pinball

M5_LEVELS: Mapping[str, tuple[str, ...]] = {
    "total": (),
    "state": ("state",),
    "store": ("store",),
    "cat": ("cat",),
    "dept": ("dept",),
    "state-cat": ("state", "cat"),
    "state-dept": ("state", "dept"),
    "store-cat": ("store", "cat"),
    "store-dept": ("store", "dept"),
    "item": ("item",),
    "item-state": ("item", "state"),
    "item-store": ("item", "store"),
}
M5_QUANTILES = (0.005, 0.025, 0.165, 0.25, 0.5, 0.75, 0.835, 0.975, 0.995)

Nodes = Float[np.ndarray, " node"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Which series add up to which node, level by level. Made by `Hierarchy.of`.

    Args:
        names: the levels.
        members: for each level the node of every series, numbered from 0 within the level.
        labels: for each level what its nodes are called, one part per key.
    """

    names: tuple[str, ...]
    members: tuple[Int[np.ndarray, " series"], ...]
    labels: tuple[tuple[tuple[str, ...], ...], ...]

    @staticmethod
    def of(keys: Mapping[str, Sequence[str]], levels: Mapping[str, tuple[str, ...]] = M5_LEVELS) -> "Hierarchy":
        """The hierarchy of series that carry these keys.

        Args:
            keys: for each key ("item", "store", ...) its value for every series.
            levels: for each level the keys that its nodes share; none for the total.

        Raises:
            ArgumentError: a level names a key that is not given, or keys differ in length.
        """
        count = {len(values) for values in keys.values()}
        if len(count) != 1:
            msg = f"every key needs one value per series, got lengths {sorted(count)}"
            raise ArgumentError(msg)
        columns = {key: np.asarray(values, dtype=object) for key, values in keys.items()}
        members, labels = [], []
        for name, parts in levels.items():
            lacking = [part for part in parts if part not in columns]
            if lacking:
                msg = f"level {name!r} needs the key {lacking[0]!r}; given are {sorted(columns)}"
                raise ArgumentError(msg)
            code = np.zeros(next(iter(count)), dtype=np.int64)
            for part in parts:
                values, inverse = np.unique(columns[part], return_inverse=True)
                code = code * len(values) + inverse
            _, first, member = np.unique(code, return_index=True, return_inverse=True)
            members.append(member)
            labels.append(tuple(tuple(str(columns[part][row]) for part in parts) for row in first))
        return Hierarchy(tuple(levels), tuple(members), tuple(labels))

    @property
    def level_of(self) -> Int[np.ndarray, " node"]:
        """The number of each node's level."""
        return np.repeat(np.arange(len(self.labels)), [len(labels) for labels in self.labels])

    def sums(self, level: int, values: Float[np.ndarray, "series ..."]) -> Float[np.ndarray, "node ..."]:
        """The sums of one level, in float64. A sum is NaN where one of its members is."""
        member = self.members[level]
        order = np.argsort(member, kind="stable")
        starts = np.searchsorted(member[order], np.arange(len(self.labels[level])))
        return np.add.reduceat(values[order].astype(np.float64), starts, axis=0)

    def aggregate(self, values: Float[np.ndarray, "series ..."]) -> Float[np.ndarray, "node ..."]:
        """The sums of every node, from the bottom up. A sum is NaN where one of its members is."""
        return np.concatenate([self.sums(level, values) for level in range(len(self.names))])


def absolute_scale(hierarchy: Hierarchy, history: Float[np.ndarray, "series time"]) -> Nodes:
    """Mean absolute daily change of each node since its first sale: the denominator of WSPL, in units of demand.

    A node's history adds up what was observed of its members. NaN where no change was observed after a first sale.
    """
    return _scale(hierarchy, history, 1)


def quadratic_scale(hierarchy: Hierarchy, history: Float[np.ndarray, "series time"]) -> Nodes:
    """Root mean squared daily change of each node since its first sale: the denominator of WRMSSE, in units of demand.

    A node's history adds up what was observed of its members. NaN where no change was observed after a first sale.
    """
    return np.sqrt(_scale(hierarchy, history, 2))


def dollar_weights(
    hierarchy: Hierarchy, sales: Float[np.ndarray, "series time"], prices: Float[np.ndarray, "series time"]
) -> Nodes:
    """Each node's share of its level's turnover, as M5 takes it over the last 28 days of the training data.

    A step without a price or without an observation took nothing.

    Raises:
        DataError: there was no turnover at all.
    """
    turnover = np.nansum(sales.astype(np.float64) * prices, axis=1)
    total = float(turnover.sum())
    if total <= 0:
        msg = f"weights need turnover, but sales times prices add up to {total:g}"
        raise DataError(msg)
    return hierarchy.aggregate(turnover) / total


def rmsse_by_level(
    hierarchy: Hierarchy,
    actual: Float[np.ndarray, "series horizon"],
    point: Float[np.ndarray, "series horizon"],
    scale: Nodes,
    weight: Nodes,
) -> dict[str, float]:
    """WRMSSE of each level, from forecasts of the series alone: those of the nodes are their sums.

    Steps at which a member was not observed are left out of a node, as are nodes without a positive scale; the weights
    of the others in the level then grow in proportion.

    Args:
        hierarchy: which series add up to which node.
        actual: demand, NaN where it was not observed.
        point: forecasts of the mean.
        scale: from `quadratic_scale`.
        weight: from `dollar_weights`.

    Raises:
        ArgumentError: an array has not one row per node.
    """
    _require_nodes(hierarchy, scale, weight)
    error = hierarchy.aggregate(np.where(np.isfinite(actual), actual - point, np.nan))
    known = np.isfinite(hierarchy.aggregate(actual))
    loss = np.sqrt(_mean_known(error**2, known))
    return _weigh(hierarchy, loss, known, scale, weight)


def wrmsse(
    hierarchy: Hierarchy,
    actual: Float[np.ndarray, "series horizon"],
    point: Float[np.ndarray, "series horizon"],
    scale: Nodes,
    weight: Nodes,
) -> float:
    """Weighted root mean squared scaled error of M5: the mean of `rmsse_by_level`."""
    return float(np.mean(list(rmsse_by_level(hierarchy, actual, point, scale, weight).values())))


def spl_by_level(
    hierarchy: Hierarchy,
    actual: Float[np.ndarray, "series horizon"],
    quantiles: Float[np.ndarray, "node horizon level"],
    levels: Sequence[float],
    scale: Nodes,
    weight: Nodes,
) -> dict[str, float]:
    """Weighted scaled pinball loss of each level of the hierarchy.

    Quantiles do not add up, so a forecast is needed for every node: 42,840 in M5; `node_quantiles` makes them from
    sample paths. Unobserved steps and nodes without a scale are treated as in `rmsse_by_level`.

    Args:
        hierarchy: which series add up to which node.
        actual: demand of the series, NaN where it was not observed.
        quantiles: forecasts of every node, in the order of `Hierarchy.aggregate`.
        levels: their levels, `M5_QUANTILES` in M5.
        scale: from `absolute_scale`.
        weight: from `dollar_weights`.

    Raises:
        ArgumentError: an array has not one row per node.
    """
    _require_nodes(hierarchy, quantiles, scale, weight)
    total = hierarchy.aggregate(actual)
    loss = pinball(total, quantiles, levels).mean(axis=2)
    known = np.isfinite(total)
    return _weigh(hierarchy, _mean_known(loss, known), known, scale, weight)


def wspl(
    hierarchy: Hierarchy,
    actual: Float[np.ndarray, "series horizon"],
    quantiles: Float[np.ndarray, "node horizon level"],
    levels: Sequence[float],
    scale: Nodes,
    weight: Nodes,
) -> float:
    """Weighted scaled pinball loss of M5: the mean of `spl_by_level`."""
    return float(np.mean(list(spl_by_level(hierarchy, actual, quantiles, levels, scale, weight).values())))


def node_quantiles(
    hierarchy: Hierarchy, samples: Float[np.ndarray, "series horizon sample"], levels: Sequence[float] = M5_QUANTILES
) -> Float[np.ndarray, "node horizon level"]:
    """Quantiles of every node from sample paths of the series, sample k of each added to sample k of the others.

    The sums are spread as the samples are joined. Those of `Forecast.sample` are drawn series by series, as if demands
    were independent, and then the quantiles of large sums lie too close together.
    """
    level = np.asarray(require_levels(levels))
    found = [np.quantile(hierarchy.sums(index, samples), level, axis=2) for index in range(len(hierarchy.names))]
    return np.concatenate([np.moveaxis(part, 0, 2) for part in found])


def _require_nodes(hierarchy: Hierarchy, *arrays: np.ndarray) -> None:
    count = len(hierarchy.level_of)
    for array in arrays:
        if len(array) != count:
            msg = f"the hierarchy has {count} nodes, but got an array of {len(array)} rows"
            raise ArgumentError(msg)


def _scale(hierarchy: Hierarchy, history: Float[np.ndarray, "series time"], power: int) -> Nodes:
    observed = np.isfinite(history)
    filled = np.where(observed, history, 0)
    parts = []
    for level in range(len(hierarchy.names)):
        rows = hierarchy.sums(level, filled)
        rows[hierarchy.sums(level, observed.astype(np.float32)) == 0] = np.nan
        begun = np.logical_or.accumulate(rows[:, :-1] > 0, axis=1)
        change = np.abs(np.diff(rows, axis=1)) ** power
        known = begun & np.isfinite(change)
        parts.append(_mean_known(change, known))
    return np.concatenate(parts)


def _mean_known(values: Float[np.ndarray, "node step"], known: np.ndarray) -> Nodes:
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _weigh(
    hierarchy: Hierarchy, loss: Nodes, known: Bool[np.ndarray, "node step"], scale: Nodes, weight: Nodes
) -> dict[str, float]:
    """The weighted mean of loss / scale in each level, over the nodes that have both; NaN where a forecast was NaN."""
    usable = (known.sum(axis=1) > 0) & np.isfinite(scale) & (scale > 0)
    level, count = hierarchy.level_of, len(hierarchy.names)
    top = np.bincount(level, np.where(usable, weight * loss / np.where(usable, scale, 1), 0), count)
    bottom = np.bincount(level, np.where(usable, weight, 0), count)
    score = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)
    return dict(zip(hierarchy.names, score.tolist(), strict=True))
