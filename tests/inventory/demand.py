# SPDX-License-Identifier: Apache-2.0
"""Forecasts with known distributions, for tests."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from sirdar.predictive import Forecast, Frequency

LEVELS = tuple(float(x) for x in np.arange(1, 200) / 200)


def normal_forecast(mean: ArrayLike, deviation: ArrayLike, horizon: int, correlation: float = 0.0) -> Forecast:
    """Normal demand with one mean and deviation per series, in 199 quantiles."""
    scores = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    mean, deviation = np.atleast_1d(mean), np.atleast_1d(deviation)
    values = np.repeat((mean[:, None] + deviation[:, None] * scores)[:, None, :], horizon, axis=1)
    ids = [f"s{i}" for i in range(len(mean))]
    start = np.zeros(len(mean), dtype=np.int64)
    return Forecast(ids, start, Frequency("W"), LEVELS, values, floor=0.0, correlation=correlation)


def certain_forecast(steps: ArrayLike) -> Forecast:
    """Demand [series, horizon] that is known."""
    values = np.repeat(np.asarray(steps, dtype=np.float64)[:, :, None], 3, axis=2)
    ids = [f"s{i}" for i in range(len(values))]
    return Forecast(ids, np.zeros(len(values), dtype=np.int64), Frequency("W"), (0.1, 0.5, 0.9), values, floor=0.0)
