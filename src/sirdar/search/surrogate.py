# SPDX-License-Identifier: Apache-2.0
"""A Gaussian process over candidates: what a few trainings say of those that were not trained."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

_LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_NOISES = (1e-3, 1e-2, 1e-1)
_TRENDS = (0.0, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class GaussianProcess:
    """A process conditioned on what was measured (Rasmussen and Williams 2006, algorithm 2.1).

    Values are standardised. The kernel is a squared exponential of the distance between features, plus a linear trend
    in what was believed before. Length, noise and weight of the trend are those of the greatest marginal likelihood on
    a small grid.

    Args:
        features: of the trained candidates, [trained, feature].
        belief: about them before training, [trained], in standard deviations.
        values: measured, [trained].
        shape: length, noise and weight of the trend, where they are known already.
    """

    features: np.ndarray
    belief: np.ndarray
    values: np.ndarray
    shape: tuple[float, float, float] | None = None

    def predict(self, features: np.ndarray, belief: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [candidate] of others, in units of the values."""
        (length, _, trend), (factor, solved) = self.likely, self._fitted
        cross = self._cross(features, belief, length, trend)
        prior = 1.0 + trend * belief**2
        variance = prior - (cross * cho_solve(factor, cross.T).T).sum(axis=1)
        return self._centre + self._spread * (cross @ solved), self._spread * np.sqrt(np.maximum(variance, 1e-9))

    @property
    def _centre(self) -> float:
        return float(self.values.mean())

    @property
    def _spread(self) -> float:
        return float(self.values.std()) or 1.0

    @cached_property
    def likely(self) -> tuple[float, float, float]:
        """The shape as given, or the likeliest."""
        return self.shape or max(self._grid(), key=lambda row: self._evidence(self._target, *row))

    @property
    def _target(self) -> np.ndarray:
        return (self.values - self._centre) / self._spread

    @cached_property
    def _fitted(self) -> tuple[Any, np.ndarray]:
        """The factor of the kernel; and the values solved by it."""
        target, (length, noise, trend) = self._target, self.likely
        kernel = self._kernel(self.features, self.belief, length, trend) + noise * np.eye(len(target))
        factor = cho_factor(kernel, lower=True)
        return factor, cho_solve(factor, target)

    def _grid(self) -> list[tuple[float, float, float]]:
        scale = math.sqrt(self.features.shape[1])
        return [(length * scale / 4, noise, trend) for length in _LENGTHS for noise in _NOISES for trend in _TRENDS]

    def _evidence(self, target: np.ndarray, length: float, noise: float, trend: float) -> float:
        kernel = self._kernel(self.features, self.belief, length, trend) + noise * np.eye(len(target))
        factor = cho_factor(kernel, lower=True)
        return -0.5 * float(target @ cho_solve(factor, target)) - float(np.log(np.diag(factor[0])).sum())

    def _kernel(self, features: np.ndarray, belief: np.ndarray, length: float, trend: float) -> np.ndarray:
        return _similarity(features, features, length) + trend * np.outer(belief, belief)

    def _cross(self, features: np.ndarray, belief: np.ndarray, length: float, trend: float) -> np.ndarray:
        return _similarity(features, self.features, length) + trend * np.outer(belief, self.belief)


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """How much more than `best` each candidate can be hoped to bring (Jones, Schonlau and Welch 1998, equation 15)."""
    gap = (mean - best) / deviation
    density = np.exp(-0.5 * gap**2) / math.sqrt(2 * math.pi)
    return np.asarray(deviation * (gap * ndtr(gap) + density))


def _similarity(first: np.ndarray, second: np.ndarray, length: float) -> np.ndarray:
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None] - 2 * first @ second.T
    return np.exp(-np.maximum(squares, 0.0) / (2 * length**2))
