# SPDX-License-Identifier: Apache-2.0
"""The probability integral transform: by hand, and of right and wrong forecasts of simulated demand."""

from math import exp, factorial
from statistics import NormalDist

import numpy as np
import pytest

from sirdar.predictive import DECILES, pit, pit_histogram

LEVELS = tuple(float(level) for level in np.arange(1, 20) / 20)
FINE = tuple(float(level) for level in np.arange(1, 100) / 100)


def poisson_quantiles(mean: float, levels: tuple[float, ...]) -> np.ndarray:
    """The exact quantiles, the least k with F(k) >= level."""
    law = np.cumsum([exp(-mean) * mean**k / factorial(k) for k in range(60)])
    return np.searchsorted(law, levels).astype(np.float64)


def tiled(quantiles: np.ndarray, count: int) -> np.ndarray:
    return np.tile(quantiles, (count, 1, 1))


def test_intervals_by_hand() -> None:
    quantiles = tiled(np.array([0.0, 0.0, 0.0, 2.0, 4.0]), 4)
    below, upto = pit(np.array([[0.0], [1.0], [2.0], [np.nan]]), quantiles, (0.1, 0.3, 0.5, 0.7, 0.9))
    # Zero is an atom up to half-way between 0.5 and 0.7; 1 lies half-way between both; 2 is the quantile 0.7.
    np.testing.assert_allclose(below[:, 0], [0.0, 0.6, 0.7, np.nan])
    np.testing.assert_allclose(upto[:, 0], [0.6, 0.6, 0.7, np.nan])


def test_counts_by_hand() -> None:
    quantiles = tiled(np.array([0.0, 1.0, 3.0]), 3)
    below, upto = pit(np.array([[0.0], [1.0], [2.0]]), quantiles, (0.2, 0.5, 0.8), counts=True)
    # F is 0.35 at 1/2, 0.575 at 3/2 and 0.725 at 5/2.
    np.testing.assert_allclose(below[:, 0], [0.0, 0.35, 0.575])
    np.testing.assert_allclose(upto[:, 0], [0.35, 0.575, 0.725])


def test_the_histogram_by_hand() -> None:
    below, upto = np.array([[0.0, 0.2, np.nan]]), np.array([[0.5, 0.2, np.nan]])
    # Half of the first interval lies in each of two quarters; the second is a point in the first quarter.
    np.testing.assert_allclose(pit_histogram(below, upto, 4), [0.75, 0.25, 0, 0])
    assert np.isnan(pit_histogram(np.full((1, 2), np.nan), np.full((1, 2), np.nan))).all()


def test_a_right_continuous_forecast_is_flat() -> None:
    actual = np.random.default_rng(1).exponential(10.0, (20_000, 1))
    exact = -10 * np.log(1 - np.array(LEVELS))
    shares = pit_histogram(*pit(actual, tiled(exact, len(actual)), LEVELS))
    np.testing.assert_allclose(shares, 0.1, atol=0.012)  # four standard errors are 0.0085
    assert shares.sum() == pytest.approx(1)


# Means low enough for large atoms, and high enough for none.
@pytest.mark.parametrize("mean", [0.4, 1.7, 6.0, 25.0])
def test_a_right_forecast_of_counts_is_flat(mean: float) -> None:
    actual = np.random.default_rng(2).poisson(mean, (20_000, 1)).astype(np.float64)
    quantiles = tiled(poisson_quantiles(mean, FINE), len(actual))
    below, upto = pit(actual, quantiles, FINE, counts=True)
    assert ((below >= 0) & (below <= upto) & (upto <= 1)).all()
    # Four standard errors are 0.011, and levels 0.01 apart place the ends of a count's step to within half of that.
    np.testing.assert_allclose(pit_histogram(below, upto, 5), 0.2, atol=0.02)


def test_a_forecast_too_narrow_is_u_shaped() -> None:
    actual = np.random.default_rng(3).normal(0, 2, (5000, 1))
    exact = np.array([NormalDist().inv_cdf(level) for level in DECILES])
    shares = pit_histogram(*pit(actual, tiled(exact, len(actual)), DECILES))
    assert shares[0] > 0.2
    assert shares[-1] > 0.2
    assert shares[4] < 0.08
