# SPDX-License-Identifier: Apache-2.0
"""Excess volatility: by hand, and zero in expectation for forecasts that are updated as they should be.

The right forecasts are those of a normal random walk, whose conditional laws are known exactly: their quantiles at 49
levels leave little to interpolation.
"""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.predictive import DECILES, Forecast, Frequency, excess_volatility, revisions_of
from sirdar.predictive.revision import median_volatility, revisions

LEVELS = tuple(float(level) for level in np.arange(1, 50) / 50)
NORMAL = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


def evolution(news: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Demand 100 + the sum of all news, and the mean and spread that remain at every origin.

    Piece k of the news has a standard deviation of news[k] and is known from origin k + 1 on. Origins forecast the same
    date, the last of an actual of `len(news)` dates: shapes [series], [series, origin] and [origin].
    """
    pieces = np.random.default_rng(seed).normal(size=(count, len(news))) * news
    means = 100 + np.cumsum(np.concatenate([np.zeros((count, 1)), pieces], axis=1), axis=1)
    spread = np.sqrt(np.cumsum(news[::-1] ** 2)[::-1])
    return means[:, -1], means[:, :-1], spread


def as_grid(demand: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts [series, origin, level] of one date as a grid of origins with horizons, all other dates unobserved."""
    series, origins, levels = quantiles.shape
    values = np.zeros((series, origins, origins, levels))
    values[:, np.arange(origins), origins - 1 - np.arange(origins)] = quantiles
    actual = np.full((series, 2 * origins - 1), np.nan)
    actual[:, origins - 1] = demand
    return actual, values


def excess_of_each(demand: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """The excess of each of eight batches in units of demand, so that its standard error can be told."""
    actual, values = as_grid(demand, quantiles)
    batches = np.array_split(np.arange(len(demand)), 8)
    # Both parts are sums over total demand: every batch is brought back to the sum per series.
    return np.array([revisions(actual[rows], values[rows], LEVELS).excess * demand[rows].mean() for rows in batches])


@settings(max_examples=6)
@given(st.lists(st.floats(0.5, 5.0), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_a_martingale_has_no_excess_volatility(news: list[float], seed: int) -> None:
    demand, means, spread = evolution(np.array(news), 800, seed)
    found = excess_of_each(demand, means[..., None] + spread[:, None] * NORMAL)
    error = found.std() / np.sqrt(len(found))
    # Eight batches tell the error itself only roughly; a little is for laws interpolated between levels.
    assert abs(found.mean()) < 8 * error + 0.02


def test_the_measure_of_a_martingale_is_its_expectation() -> None:
    # News of 3, then 4; the loss in this unit is the CRPS, which for a normal law is spread / sqrt(pi).
    demand, means, spread = evolution(np.array([3.0, 4.0]), 10_000, 1)
    actual, values = as_grid(demand, means[..., None] + spread[:, None] * NORMAL)
    found = revisions(actual, values, LEVELS)
    expected = (5 - 4) / np.sqrt(np.pi) / 100
    assert found.improvement == pytest.approx(expected, rel=0.12)
    assert found.volatility == pytest.approx(expected, rel=0.12)
    assert abs(found.excess) < 0.12 * expected


def test_noise_is_excess_and_idleness_is_not() -> None:
    demand, means, spread = evolution(np.array([3.0, 3.0, 4.0]), 800, 2)
    noise = np.random.default_rng(3).normal(size=means.shape) * 2
    quantiles = means[..., None] + spread[:, None] * NORMAL
    right = excess_of_each(demand, quantiles)
    noisy = excess_of_each(demand, quantiles + noise[..., None])
    idle = excess_of_each(demand, np.repeat(quantiles[:, :1], 3, axis=1))
    assert noisy.mean() > abs(right.mean()) + 0.3
    np.testing.assert_allclose(idle, 0, atol=1e-9)


def test_moving_by_less_than_was_learnt_is_negative() -> None:
    demand, means, spread = evolution(np.array([5.0, 1.0]), 800, 4)
    slow = 100 + (means - 100) / 2
    wide = np.sqrt(spread**2 + np.array([0, 5.0 / 2]) ** 2)
    assert excess_of_each(demand, slow[..., None] + wide[:, None] * NORMAL).mean() < -0.1


def test_both_measures_by_hand() -> None:
    # Two origins, two steps, levels 0.25, 0.5 and 0.75; the one shared date has demand 10.
    levels = (0.25, 0.5, 0.75)
    values = np.zeros((1, 2, 2, 3))
    values[0, 0, 1], values[0, 1, 0] = [2, 4, 6], [5, 7, 9]
    actual = np.array([[np.nan, 10.0, np.nan]])
    # Pinball losses: before 2, 3, 3; after 1.25, 1.5, 0.75. So 4.5 over three levels, twice that over 10.
    found = revisions(actual, values, levels)
    assert found.improvement == pytest.approx(2 * 4.5 / 3 / 10)
    # Divergences: integrals from q to p of F - u, F = 1/4 + (x - 5)/8 in [5, 9], 1/4 exp((x - 5) ln 2 / 2) below 5.
    s = 2 / np.log(2)
    tail = {x: -s / 4 * (1 - np.exp((x - 5) / s)) for x in (2.0, 4.0)}  # the integral of F from 5 to x
    at_7, at_6, at_9 = 0.25 * 2 + 4 / 16, 0.25 + 1 / 16, 0.25 * 4 + 16 / 16
    moved = (tail[2.0] + 0.25 * 3) + (tail[4.0] - at_7 + 0.5 * 3) + (at_6 - at_9 + 0.75 * 3)
    assert found.volatility == pytest.approx(2 * moved / 3 / 10)
    assert excess_volatility(actual, values, levels) == pytest.approx(found.excess)
    # The later median, 7, against the earlier quantiles costs 1.25 + 1.5 + 0.75.
    assert median_volatility(actual, values, levels) == pytest.approx((3.5 - 4.5) / 10)


def test_the_median_measure_is_positive_without_any_revision() -> None:
    values = np.tile(np.arange(1.0, 10.0), (2, 3, 4, 1))
    actual = np.full((2, 6), 5.0)
    # 2 (0.1 * 4 + 0.2 * 3 + 0.3 * 2 + 0.4 * 1) of losses against the median 5, over a demand of 5.
    assert median_volatility(actual, values, DECILES) == pytest.approx(4.0 / 5)
    assert excess_volatility(actual, values, DECILES) == 0


def test_dates_that_were_not_observed_count_for_nothing() -> None:
    rng = np.random.default_rng(6)
    values = np.sort(rng.gamma(2, 5, (3, 4, 5, 9)), axis=3)
    actual = rng.gamma(2, 5, (3, 8))
    actual[1] = np.nan
    rows = [0, 2]
    assert excess_volatility(actual, values, DECILES) == pytest.approx(
        excess_volatility(actual[rows], values[rows], DECILES)
    )
    assert np.isnan(excess_volatility(np.full((3, 8), np.nan), values, DECILES))
    assert np.isnan(median_volatility(np.zeros((3, 8)), values, DECILES))


def forecasts(values: np.ndarray, starts: list[int]) -> list[Forecast]:
    return [
        Forecast(["a", "b"], np.array([start, start + 7]), Frequency("W"), DECILES, values[:, origin])
        for origin, start in enumerate(starts)
    ]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_forecasts_at_consecutive_origins(step: int) -> None:
    rng = np.random.default_rng(8)
    values = np.sort(rng.gamma(2, 5, (2, 3, 5, 9)), axis=3)
    actual = rng.gamma(2, 5, (2, 2 * step + 5))
    found = revisions_of(forecasts(values, [10, 10 + step, 10 + 2 * step]), actual)
    assert found == revisions(actual, values, DECILES, step)
    # Date by date: the gain in pinball loss wherever two neighbouring origins both forecast.
    gain = total = 0.0
    for origin in range(2):
        for date in range((origin + 1) * step, origin * step + 5):
            y = actual[:, date, None]
            before, after = (values[:, o, date - o * step] for o in (origin, origin + 1))
            gain += sum(np.maximum(DECILES * (y - q), (np.array(DECILES) - 1) * (y - q)).sum() * sign
                        for q, sign in ((before, 1), (after, -1)))  # fmt: skip
            total += y.sum()
    assert found.improvement == pytest.approx(2 * gain / 9 / total)


def test_forecasts_that_do_not_follow_one_another_are_refused() -> None:
    values = np.sort(np.random.default_rng(9).gamma(2, 5, (2, 3, 5, 9)), axis=3)
    with pytest.raises(ArgumentError, match="at least two origins, got 1"):
        revisions_of(forecasts(values, [10]), np.ones((2, 5)))
    with pytest.raises(ArgumentError, match="advance evenly, got steps \\[1, 2\\]"):
        revisions_of(forecasts(values, [10, 11, 13]), np.ones((2, 8)))
    with pytest.raises(ArgumentError, match="actual must have 7 dates .* got 5 dates"):
        revisions_of(forecasts(values, [10, 11, 12]), np.ones((2, 5)))
    with pytest.raises(ArgumentError, match="3 origins 5 apart with a horizon of 5 share no date"):
        revisions_of(forecasts(values, [10, 15, 20]), np.ones((2, 15)))
    other = Forecast(["a", "c"], np.array([11, 18]), Frequency("W"), DECILES, values[:, 0])
    with pytest.raises(ArgumentError, match="forecast 1 differs from the first in its ids"):
        revisions_of([forecasts(values, [10])[0], other], np.ones((2, 6)))
    with pytest.raises(ArgumentError, match="the median must be among the levels"):
        median_volatility(np.ones((2, 7)), values[..., :2], (0.1, 0.9))
