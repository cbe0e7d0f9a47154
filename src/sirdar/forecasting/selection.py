# SPDX-License-Identifier: Apache-2.0
"""Weights of an ensemble by greedy forward selection with replacement (Caruana et al. 2004), of quantile forecasts.

The mean of quantiles (Vincentisation) is what a set of forecasts is judged by. Each step adds the forecast, one chosen
before included, that lowers the loss most; how often a forecast was added is its weight. As section 2.3 of the paper
has it, several bags are selected from and averaged, since one validation window is little to choose on; bags are halves
of the series here. Lastly a quarter of the weight is shared equally among the chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sirdar.predictive import scores

BAGS = 8
_ROWS = 1000  # of a bag at most: more would cost time and change nothing that lasts until the next window
_STEPS = 25
_PATIENCE = 3  # steps without a gain, after which the search ends
_EQUAL = 0.25  # of the weight is shared equally
_CHOSEN = 0.02  # a smaller weight is not worth the training of its forecaster
_HOPELESS = 2.0  # times the least loss: such a forecast explodes somewhere, and a bag may not hold that series
_GAIN = 1e-4  # a step that gains less, relative to the loss, is no gain


@dataclass(frozen=True)
class Reference:
    """What a loss is relative to: the seasonal naive's."""

    wql: float
    sql: float


@dataclass(frozen=True)
class Selection:
    """What was chosen, and how.

    Args:
        weights: by name, summing to one; those not chosen are absent.
        losses: each forecast's own loss, the mean of its WQL and SQL relative to the reference.
        path: on all series, before bagging: the name added and the loss reached, step by step.
        loss: of the weighted mean.
    """

    weights: dict[str, float]
    losses: dict[str, float]
    path: list[tuple[str, float]]
    loss: float


@dataclass(frozen=True)
class Validation:
    """Demand that followed the origins, rows being series at origins, and how much each step of it counts."""

    actual: Float[np.ndarray, "series horizon"]
    scale: Float[np.ndarray, " series"]
    levels: tuple[float, ...]
    reference: Reference

    def importance(self) -> Float[np.ndarray, "series horizon"]:
        """Weights of twice the pinball loss, mean over levels, that sum to the mean of relative WQL and relative SQL.

        When one of the two is not defined (no demand at all, no series with a scale), the other counts alone.
        """
        known = np.isfinite(self.actual)
        total = np.abs(np.where(known, self.actual, 0)).sum(dtype=np.float64) * self.reference.wql
        usable = np.isfinite(self.scale) & (self.scale > 0)
        per_series, count = np.zeros(len(usable)), known[usable].sum()
        if count and self.reference.sql > 0:
            per_series[usable] = 1 / (self.scale[usable] * count * self.reference.sql)
        parts = [known * per_series[:, None]] + ([known / total] if total > 0 else [])
        defined = [part for part in parts if part.any()]
        return np.mean(defined, axis=0) if defined else known / max(1, known.sum())


def select(forecasts: Mapping[str, np.ndarray], validation: Validation, seed: int = 0) -> Selection:
    """Weights for the forecasts.

    Args:
        forecasts: quantiles [series, horizon, level] by name, at least one.
        validation: what followed.
        seed: of the bags.
    """
    importance = validation.importance()
    rows = np.flatnonzero(importance.any(axis=1))
    losses = {name: _loss(values[rows], validation, importance, rows) for name, values in forecasts.items()}
    names = [name for name, loss in losses.items() if loss <= _HOPELESS * min(losses.values())]
    if len(rows) < 2:  # nothing to hold weights against: those of one forecast would be its luck
        mean = np.mean([forecasts[name][rows] for name in names], axis=0)
        return Selection(dict.fromkeys(names, 1 / len(names)), losses, [], _loss(mean, validation, importance, rows))

    def greedy(chosen: np.ndarray) -> tuple[np.ndarray, list[tuple[int, float]]]:
        share = len(rows) / len(chosen)  # so that the loss of a part is comparable with that of the whole
        members = [forecasts[name][chosen] for name in names]
        return _greedy(members, lambda mean: share * _loss(mean, validation, importance, chosen))

    generator = np.random.default_rng(seed)
    size = min(_ROWS, len(rows) // 2)
    bags = [greedy(np.sort(generator.choice(rows, size, replace=False)))[0] for _ in range(BAGS)]
    counted = rows if len(rows) <= 2 * _ROWS else np.sort(generator.choice(rows, 2 * _ROWS, replace=False))
    direct, path = greedy(counted)
    best = np.eye(len(names))[int(np.argmin([losses[name] for name in names]))]
    stacked = np.stack([forecasts[name][rows] for name in names])
    for share in (_shrunk(np.mean(bags, axis=0)), direct, best):  # the average must not lose to its best member
        mean = np.tensordot(share.astype(np.float32), stacked, axes=1)
        loss = _loss(mean, validation, importance, rows)
        if loss <= min(losses.values()):
            break
    weights = {name: float(part) for name, part in zip(names, share, strict=True) if part > 0}
    return Selection(weights, losses, [(names[index], reached) for index, reached in path], loss)


def _loss(quantiles: np.ndarray, validation: Validation, importance: np.ndarray, rows: np.ndarray) -> float:
    """Of the quantiles [row, horizon, level] of some rows."""
    level = np.asarray(validation.levels, dtype=np.float32)
    gap = np.nan_to_num(validation.actual[rows])[..., None].astype(np.float32) - quantiles
    loss = 2 * np.maximum(level * gap, (level - 1) * gap).mean(axis=2, dtype=np.float64)
    return float((loss * importance[rows]).sum())


def reference_of(actual: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], scale: np.ndarray) -> Reference:
    """The losses of a forecast that others are compared with; 0 where one is not defined."""
    wql, sql = scores.wql(actual, quantiles, levels), scores.sql(actual, quantiles, levels, scale)
    return Reference(float(np.nan_to_num(wql)), float(np.nan_to_num(sql)))


def _greedy(
    members: list[np.ndarray], loss_of: Callable[[np.ndarray], float]
) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Weights at the best step, and the steps up to it."""
    total = np.zeros_like(members[0])
    path: list[tuple[int, float]] = []
    last = 0
    for step in range(1, _STEPS + 1):
        reached = [loss_of((total + member) / step) for member in members]
        best = int(np.argmin(reached))
        path.append((best, reached[best]))
        total = total + members[best]
        lowest = min(loss for _, loss in path)
        last = next(index for index, (_, loss) in enumerate(path) if loss <= lowest * (1 + _GAIN))
        if len(path) - last > _PATIENCE:
            break
    path = path[: last + 1]
    counts = np.bincount([index for index, _ in path], minlength=len(members))
    return counts / counts.sum(), path


def _shrunk(weights: np.ndarray) -> np.ndarray:
    """A quarter of the weight shared equally among the chosen, those hardly ever chosen left out."""
    kept = np.where(weights >= _CHOSEN, weights, 0)
    kept = kept / kept.sum()
    return (1 - _EQUAL) * kept + _EQUAL * (kept > 0) / (kept > 0).sum()
