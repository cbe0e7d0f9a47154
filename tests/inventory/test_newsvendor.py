# SPDX-License-Identifier: Apache-2.0
"""Closed forms and discrete demand against printed values."""

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.inventory.distributions import convolve, empirical, geometric, poisson, quantile, require_probabilities
from sirdar.inventory.newsvendor import newsvendor_discrete, newsvendor_normal, step_costs


def test_printed_examples() -> None:
    # Snyder and Shen, Example 4.3, and stockpyl 1.0.2: newsvendor_poisson(1, 4, 50) = (56, 10.0752).
    assert newsvendor_normal(0.18, 0.70, 50.0, 8.0) == pytest.approx((56.604, 1.9976), abs=5e-4)
    assert newsvendor_discrete(1.0, 4.0, poisson(50.0)) == (56, pytest.approx(10.0752, abs=5e-5))


def test_the_best_level_costs_least() -> None:
    demand = geometric(4.0)
    level, cost = newsvendor_discrete(1.0, 9.0, demand)
    costs = step_costs(1.0, 9.0, demand, 40)
    assert costs.argmin() == level
    assert costs.min() == cost


def test_moments_of_the_distributions() -> None:
    units = np.arange(1000)
    for demand, variance in ((poisson(5.0), 5.0), (geometric(5.0), 30.0)):  # m, and m (1 + m)
        mean = demand @ units[: len(demand)]
        assert mean == pytest.approx(5.0)
        assert demand @ units[: len(demand)] ** 2 - mean**2 == pytest.approx(variance)
    three = convolve(poisson(5.0), 3)
    np.testing.assert_allclose(three[:40], poisson(15.0)[:40], atol=1e-12)  # Poisson demands add up
    assert convolve(poisson(5.0), 0) == [1.0]


def test_empirical_frequencies() -> None:
    np.testing.assert_allclose(empirical(np.array([0, 2, 2, 0])), [0.5, 0.0, 0.5])
    assert quantile(np.array([0.5, 0.0, 0.5]), 0.5) == 0
    with pytest.raises(ArgumentError, match="demand must be whole units"):
        empirical(np.array([0.5]))
    with pytest.raises(ArgumentError, match="demand must be whole units"):
        empirical(np.array([1.0, np.inf]))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"mean must be a number above 0, got -1.0"):
        poisson(-1.0)
    with pytest.raises(ArgumentError, match="mean must be a number above 0, got nan"):
        geometric(float("nan"))
    with pytest.raises(ArgumentError, match=r"deviation must be above 0, got 0.0"):
        newsvendor_normal(1.0, 1.0, 5.0, 0.0)
    with pytest.raises(ArgumentError, match=r"holding_cost must be above 0, got -2.0"):
        newsvendor_discrete(-2.0, 1.0, np.array([0.5, 0.5]))
    with pytest.raises(ArgumentError, match=r"must sum to 1, got 0.9"):
        require_probabilities(np.array([0.5, 0.4]))
    with pytest.raises(ArgumentError, match="not negative"):
        require_probabilities(np.array([1.5, -0.5]))
