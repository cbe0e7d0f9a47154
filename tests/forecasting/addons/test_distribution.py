# SPDX-License-Identifier: Apache-2.0
"""Quantiles from past errors: their calibration, and the finite-sample guarantee of split conformal prediction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.forecasting.addons.distribution import DistributionEngine, Scale
from sirdar.predictive import DECILES


def scale(count: int, mean: float = 10.0) -> Scale:
    whole = np.zeros(count, dtype=np.int64)
    return Scale(np.full(count, mean), np.full(count, 0.4), whole + 50, whole)


def test_quantiles_of_large_samples_are_those_of_the_errors() -> None:
    rng = np.random.default_rng(0)
    point = np.full((5000, 4), 10.0)
    engine = DistributionEngine(DECILES).fit(rng.gamma(5, 2, (5000, 4)), point, scale(5000))
    found = engine.quantiles(point[:1], scale(1))[0]
    expected = np.quantile(rng.gamma(5, 2, 10**6), DECILES)
    np.testing.assert_allclose(found, np.tile(expected, (4, 1)), rtol=0.06)


@pytest.mark.parametrize("size", [9, 19, 57])
def test_the_conformal_guarantee_holds_for_few_errors(size: int) -> None:
    """The mean coverage over many draws of n errors and one more is at least the level above, at most it below."""
    rng = np.random.default_rng(size)
    one = scale(size + 1)
    past = Scale(one.mean[:size], one.variation[:size], one.count[:size], one.group[:size])
    last = scale(1)
    covered = np.zeros(9)
    draws = 1500
    for _ in range(draws):
        y = rng.lognormal(2, 0.6, (size + 1, 1))
        engine = DistributionEngine(DECILES, conformal=True, buckets=1, fewest=1)
        engine.fit(y[:size], np.full((size, 1), 8.0), past)
        covered += y[size, 0] <= engine.quantiles(np.full((1, 1), 8.0), last)[0, 0]
    slack = 3 * np.sqrt(0.25 / draws)
    level = np.array(DECILES)
    assert (covered[4:] / draws >= level[4:] - slack).all()
    assert (covered[4:] / draws <= level[4:] + 1 / (size + 1) + slack).all()
    assert (covered[:4] / draws <= level[:4] + slack).all()


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.001, 1e6), st.booleans())
def test_quantiles_rise_and_are_not_negative_at_any_size(seed: int, size: float, conformal: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(seed)
    actual = rng.gamma(0.5, 2 * size, (30, 5))
    point = np.full((30, 5), size)
    engine = DistributionEngine(DECILES, conformal=conformal, fewest=10).fit(actual, point, scale(30, size))
    found = engine.quantiles(np.concatenate([point, np.zeros((1, 5))]), scale(31, size))
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert (np.diff(found, axis=2) >= 0).all()


def test_large_and_small_series_have_their_own_errors() -> None:
    rng = np.random.default_rng(1)
    mean = np.repeat([1.0, 1000.0], 2000)
    part = Scale(mean, np.ones(4000), np.full(4000, 50), np.zeros(4000, dtype=np.int64))
    actual = np.stack([rng.poisson(mean)] * 2, axis=1).astype(float)
    point = np.stack([mean] * 2, axis=1)
    found = DistributionEngine(DECILES).fit(actual, point, part).quantiles(point, part)
    assert found[0, 0, -1] >= 2
    assert 1020 < found[-1, 0, -1] < 1060  # 1000 + 1.28 * sqrt(1000) = 1040


def test_without_errors_there_still_are_quantiles() -> None:
    none = scale(0)
    engine = DistributionEngine(DECILES).fit(np.zeros((0, 3)), np.zeros((0, 3)), none)
    assert (np.diff(engine.quantiles(np.full((1, 3), 5.0), scale(1))) > 0).all()


def test_a_bound_that_few_errors_cannot_give_is_far_below_where_demand_has_no_floor() -> None:
    """Of four errors none tells a 0.1 quantile that holds: minus infinity, as a number that a forecast may be."""
    y = np.array([[-3.0], [2.0], [4.0], [9.0]])
    engine = DistributionEngine(DECILES, conformal=True).fit(y, np.full((4, 1), 3.0), scale(4))
    found = engine.quantiles(np.full((1, 1), 3.0), scale(1), floor=-np.inf)[0, 0]
    assert np.isfinite(found).all()
    assert found[0] < -1e30
    assert (np.diff(found) >= 0).all()


def test_demand_that_was_all_but_constant_tells_no_usual_variation() -> None:
    """Errors of half the demand, after histories that varied by rounding alone, are no thousands of deviations."""
    flat = Scale(np.full(40, 10.0), np.full(40, 1e-7), np.full(40, 3), np.zeros(40, dtype=np.int64))
    point = np.full((40, 2), 10.0)
    actual = point + np.random.default_rng(0).choice([-5.0, 5.0], (40, 2))
    engine = DistributionEngine(DECILES).fit(actual, point, flat)
    lively = Scale(np.full(1, 10.0), np.full(1, 0.5), np.full(1, 30), np.zeros(1, dtype=np.int64))
    assert engine.quantiles(point[:1], lively).max() < 30


def test_a_series_far_steadier_than_others_is_forecast_with_its_own_spread() -> None:
    """Of 28 steps with a 400th of the usual variation: shrinking the variance alone made it half as wide as usual."""
    point = np.full((40, 2), 10.0)
    engine = DistributionEngine(DECILES).fit(np.random.default_rng(0).gamma(6, 10 / 6, (40, 2)), point, scale(40))
    steady = Scale(np.full(1, 10.0), np.full(1, 1e-3), np.full(1, 28), np.zeros(1, dtype=np.int64))
    width = [np.ptp(engine.quantiles(point[:1], given), axis=2).max() for given in (steady, scale(1))]
    assert width[0] < 0.02 * width[1]


def test_a_gap_at_the_end_leaves_the_scale_as_it_was() -> None:
    demand = np.random.default_rng(0).poisson(10, (5, 60)).astype(np.float64)
    gappy = np.concatenate([demand, np.full((5, 40), np.nan)], axis=1)
    gappy[4] = np.nan
    found, expected = Scale.of(gappy, 28), Scale.of(demand, 28)
    np.testing.assert_allclose(found.mean[:4], expected.mean[:4])
    np.testing.assert_allclose(found.variation[:4], expected.variation[:4])
    assert (found.mean[4], found.count[4]) == (0, 0)
