# SPDX-License-Identifier: Apache-2.0
"""Uncensoring: exact against closed forms, close on simulated demand whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import nbinom, poisson

from sirdar.errors import ArgumentError
from sirdar.inventory.uncensoring import at_least, censored_means, uncensor


def censored(mean: np.ndarray, dispersion: float, time: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Demand, sales and in-stock flags under stock levels around the mean: many steps run out."""
    random = np.random.default_rng(seed)
    rate = np.repeat(mean[:, None], time, axis=1)
    if dispersion:
        rate = rate * random.gamma(1 / dispersion, dispersion, rate.shape)
    demand = random.poisson(rate).astype(float)
    stock = random.poisson(1.2 * mean[:, None], demand.shape).astype(float)
    return demand, np.minimum(demand, stock), demand < stock


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 1.5]), st.sampled_from([None, 7]))
def test_demand_is_sales_where_in_stock_and_never_less(seed: int, dispersion: float, draw: int | None) -> None:
    _, sales, in_stock = censored(np.array([0.3, 2.0, 30.0]), dispersion, 20, seed)
    wanted = uncensor(sales, in_stock, dispersion=dispersion, seed=draw)
    assert (wanted >= sales).all()
    assert (wanted[in_stock] == sales[in_stock]).all()


@pytest.mark.parametrize("dispersion", [0.0, 0.5])
@pytest.mark.parametrize("draw", [None, 3])
def test_total_demand_is_found_again(dispersion: float, draw: int | None) -> None:
    mean = np.random.default_rng(1).gamma(2.0, 3.0, 200)
    demand, sales, in_stock = censored(mean, dispersion, 60, seed=2)
    assert sales.sum() < 0.9 * demand.sum()  # what taking sales for demand would lose
    assert uncensor(sales, in_stock, seed=draw).sum() == pytest.approx(demand.sum(), rel=0.03)


@pytest.mark.parametrize("dispersion", [0.0, 0.5, None])
def test_a_season_that_all_series_share_is_found(dispersion: float | None) -> None:
    """A third of the steps sell three times as much, and run out more often."""
    random = np.random.default_rng(4)
    peak = np.arange(60) % 3 == 0
    mean = random.gamma(2.0, 3.0, 200)[:, None] * np.where(peak, 3, 1)
    rate = mean * random.gamma(1 / (dispersion or 0.5), dispersion or 0.5, mean.shape) if dispersion != 0 else mean
    demand = random.poisson(rate).astype(float)
    stock = random.poisson(1.5 * mean.mean(axis=1, keepdims=True), demand.shape).astype(float)
    sales, in_stock = np.minimum(demand, stock), demand < stock
    wanted = uncensor(sales, in_stock, dispersion=dispersion, together=True)
    for part in (peak, ~peak):
        assert wanted[:, part].sum() == pytest.approx(demand[:, part].sum(), rel=0.05)
    steady = uncensor(sales, in_stock, dispersion=dispersion)
    assert steady[:, peak].sum() < 0.9 * demand[:, peak].sum()


@pytest.mark.parametrize("dispersion", [0.0, 0.7])
def test_the_expected_excess_is_that_of_the_sum(dispersion: float) -> None:
    units = np.arange(3000.0)
    for mean, bound in ((0.4, 1.0), (3.0, 5.0), (8.0, 2.0)):
        r = 1 / dispersion if dispersion else 0.0
        chance = nbinom.pmf(units, r, 1 / (1 + dispersion * mean)) if dispersion else poisson.pmf(units, mean)
        tail = units >= bound
        expected = (units * chance)[tail].sum() / chance[tail].sum()
        assert at_least(np.array([bound]), np.array([mean]), dispersion) == pytest.approx(expected, rel=1e-9)


def test_the_censored_poisson_maximum() -> None:
    # Score of the likelihood prod pmf(x) prod P(D >= s), set to zero.
    seen, bounds = np.array([0.0, 1.0, 2.0, 1.0]), np.array([2.0, 3.0])

    def score(mean: float) -> float:
        return (seen / mean - 1).sum() + sum(poisson.pmf(s - 1, mean) / poisson.sf(s - 1, mean) for s in bounds)

    found = censored_means([[*seen, *bounds]], [[True] * 4 + [False] * 2], pool=False)
    assert found[0] == pytest.approx(brentq(score, 0.1, 10), rel=1e-5)


def test_geometric_demand_forgets_its_bound() -> None:
    # With d = 1 the law is geometric: the excess over a bound has the mean of the law itself.
    assert at_least(np.array([6.0]), np.array([2.5]), 1.0) == pytest.approx(8.5)
    # Hence the closed form known from exponential lifetimes: mean = total units / uncensored steps.
    found = censored_means([[1.0, 4.0, 3.0, 2.0]], [[True, True, False, True]], 1.0, pool=False)
    assert found[0] == pytest.approx((1 + 4 + 3 + 2) / 3, rel=1e-6)


def test_a_step_without_stock_says_nothing() -> None:
    whole = censored_means([[2.0, 4.0]], [[True, True]], pool=False)
    assert censored_means([[2.0, 4.0, 0.0]], [[True, True, False]], pool=False) == pytest.approx(whole)
    assert uncensor([[2.0, 4.0, 0.0]], [[True, True, False]], dispersion=0.0)[0, 2] == pytest.approx(3)


def test_a_series_that_was_never_there_borrows_from_the_others() -> None:
    sales, in_stock = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]]), np.array([[True] * 2, [True] * 2, [False] * 2])
    assert uncensor(sales, in_stock, dispersion=0.0)[2] == pytest.approx([2, 2])
    with pytest.raises(ArgumentError, match="series 2 was never in stock and sold nothing"):
        uncensor(sales, in_stock, pool=False)


@pytest.mark.parametrize("draw", [None, 1])
def test_a_bound_beyond_all_chance_is_the_best_that_can_be_said(draw: int | None) -> None:
    sales, in_stock = np.ones((1, 100)), np.ones((1, 100), dtype=bool)
    sales[0, 50], in_stock[0, 50] = 500.0, False
    assert uncensor(sales, in_stock, dispersion=0.0, seed=draw)[0, 50] == 500.0


@pytest.mark.parametrize(
    ("sales", "in_stock", "dispersion", "sentence"),
    [
        ([[-1.0]], [[True]], None, "sales must be finite and not negative, got -1 for series 0 in step 0"),
        ([[np.nan]], [[True]], None, "got nan for series 0"),
        ([1.0], [True], None, r"shape \[series, time\], got \(1,\)"),
        ([[1.0]], [[1]], None, "in_stock must be truth values"),
        ([[1.0]], [[True]], -0.5, "dispersion must be a number not below 0, got -0.5"),
    ],
)
def test_what_is_not_sales_is_refused(sales: list, in_stock: list, dispersion: float | None, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        uncensor(sales, in_stock, dispersion=dispersion)
    with pytest.raises(ArgumentError, match=r"seed must be an integer from 0 .* got -1"):
        uncensor([[1.0, 2.0]], [[True, False]], dispersion=0.0, seed=-1)
    if dispersion is not None:
        with pytest.raises(ArgumentError, match=sentence):
            censored_means(sales, in_stock, dispersion)
