# SPDX-License-Identifier: Apache-2.0
"""Demand of one step as probabilities of 0, 1, 2, ... units."""

import math

import numpy as np
from jaxtyping import Float64

from sirdar.errors import ArgumentError

Probabilities = Float64[np.ndarray, " units"]
NEGLIGIBLE = 1e-13  # a tail this light is cut


def poisson(mean: float) -> Probabilities:
    """Poisson demand."""
    if not (math.isfinite(mean) and mean > 0):
        msg = f"mean must be a number above 0, got {mean!r}"
        raise ArgumentError(msg)
    units = np.arange(int(mean + 12 * math.sqrt(mean) + 40))
    log_factorial = np.array([math.lgamma(x + 1.0) for x in units])
    return _cut(np.exp(units * math.log(mean) - mean - log_factorial))


def geometric(mean: float) -> Probabilities:
    """Geometric demand on 0, 1, 2, ...: the most variable of the usual test cases."""
    if not (math.isfinite(mean) and mean > 0):
        msg = f"mean must be a number above 0, got {mean!r}"
        raise ArgumentError(msg)
    stay = mean / (1.0 + mean)
    return _cut((1 - stay) * stay ** np.arange(int(math.log(NEGLIGIBLE) / math.log(stay)) + 2))


def empirical(demand: np.ndarray) -> Probabilities:
    """Frequencies of observed whole units."""
    units = np.asarray(demand)
    if units.size == 0 or bool((units < 0).any()) or bool((units != np.floor(units)).any()) or np.isinf(units).any():
        msg = f"demand must be whole units, not negative, at least one, got {units.size} values"
        raise ArgumentError(msg)
    return np.bincount(units.ravel().astype(np.int64)) / units.size


def convolve(one: Probabilities, times: int) -> Float64[np.ndarray, " total"]:
    """Demand of several independent steps together; of none, surely 0."""
    total = np.ones(1)
    for _ in range(times):
        total = _cut(np.convolve(total, one))
    return total


def quantile(one: Probabilities, level: float) -> int:
    """The least demand that is not exceeded with at least this probability."""
    return int(np.searchsorted(np.cumsum(one), level - 1e-12))


def require_probabilities(one: np.ndarray, name: str = "demand") -> Probabilities:
    """The probabilities as float64, or an `ArgumentError`."""
    chances = np.asarray(one, dtype=np.float64)
    if chances.ndim != 1 or not len(chances) or not np.isfinite(chances).all() or (chances < 0).any():
        msg = f"{name} must be probabilities of 0, 1, 2, ... units, not negative, got {one!r}"
        raise ArgumentError(msg)
    if abs(chances.sum() - 1) > 1e-6:
        msg = f"the probabilities of {name} must sum to 1, got {chances.sum():g}"
        raise ArgumentError(msg)
    return chances


def _cut(chances: np.ndarray) -> np.ndarray:
    """Without the negligible upper tail, rescaled."""
    kept = max(1, len(chances) - int(np.searchsorted(np.cumsum(chances[::-1]), NEGLIGIBLE)))
    return chances[:kept] / chances[:kept].sum()
