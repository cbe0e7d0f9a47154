# SPDX-License-Identifier: Apache-2.0
"""The distribution function of a set of quantiles: the inverse of `Forecast.quantile`, and its integral by numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.predictive import DECILES, Forecast, Frequency
from sirdar.predictive.distribution import area, cumulative


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.999))
def test_it_inverts_the_quantiles_of_a_forecast(seed: int, level: float) -> None:
    values = np.cumsum(np.random.default_rng(seed).uniform(0.1, 5, (4, 1, 9)), axis=2)
    forecast = Forecast(list("abcd"), np.zeros(4, dtype=np.int64), Frequency("W"), DECILES, values)
    points = forecast.quantile(level)[:, 0]
    np.testing.assert_allclose(cumulative(points, values[:, 0], DECILES), level, rtol=1e-9)


def test_a_run_of_equal_quantiles_is_a_jump() -> None:
    quantiles = np.tile([0.0, 0.0, 2.0], (5, 1))
    found = cumulative(np.array([-1.0, 0.0, 1.0, 2.0, 1e9]), quantiles, (0.2, 0.4, 0.8))
    # Below a jump nothing; half-way from 0.4 to 0.8; then towards 1.
    np.testing.assert_allclose(found, [0.0, 0.4, 0.6, 0.8, 1.0])


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-20, 60))
def test_the_area_is_the_integral(seed: int, upper: float) -> None:
    steps = np.random.default_rng(seed).integers(0, 6, 9).astype(np.float64)
    quantiles = np.cumsum(steps)[None]
    grid = np.linspace(quantiles[0, 0], upper, 40_001)
    height = cumulative(grid, np.repeat(quantiles, len(grid), 0), DECILES)
    numeric = np.trapezoid(height, grid)
    # A jump inside one step of the grid costs at most one step of the integral.
    spacing = abs(upper - quantiles[0, 0]) / 40_000
    assert area(np.array([upper]), quantiles, DECILES)[0] == pytest.approx(numeric, abs=2 * spacing + 1e-6)


def test_one_level_is_no_distribution() -> None:
    with pytest.raises(ArgumentError, match="at least two levels, got \\(0.5,\\)"):
        cumulative(np.zeros(1), np.zeros((1, 1)), (0.5,))


def test_crossing_quantiles_are_refused() -> None:
    with pytest.raises(ArgumentError, match="quantiles cross: \\[2.0, 1.0\\] falls"):
        area(np.zeros(1), np.array([[2.0, 1.0]]), (0.1, 0.9))
