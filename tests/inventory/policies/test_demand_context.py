# SPDX-License-Identifier: Apache-2.0
"""Features of past demand: what they are, and that they never look ahead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import demand_context

GROUPS = (np.array([0, 0, 1]), np.array([0, 0, 0]))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), step=st.integers(0, 29), season=st.sampled_from([0, 4, 7]))
def test_a_step_knows_only_what_came_before(seed: int, step: int, season: int) -> None:
    random = np.random.default_rng(seed)
    demand = random.poisson(3.0, (3, 30)).astype(np.float32)
    other = demand.copy()
    other[:, step:] = random.poisson(50.0, (3, 30 - step))
    first, second = (demand_context(x, lags=5, season=season, ahead=4, groups=GROUPS) for x in (demand, other))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[: step + 1], two[: step + 1])


def test_features_are_finite_and_do_not_depend_on_the_unit() -> None:
    demand = np.random.default_rng(0).poisson(30.0, (3, 40)).astype(np.float32)
    demand[0] = 0.0  # never sold
    scale, context = demand_context(demand, lags=6, season=8, ahead=3, groups=GROUPS)
    assert scale.shape == (40, 3)
    assert context.shape == (40, 3, 6 + 8 + 4 + 2 * (4 + 4))
    assert np.isfinite(context).all()
    assert (scale > 0).all()
    assert np.abs(context).max() <= 6.0


def test_the_season_before_is_shown_relative_to_its_own_level() -> None:
    year = np.array([1.0, 1.0, 1.0, 4.0])
    demand = np.stack([np.tile(year, 6), np.tile(10 * year, 6)]).astype(np.float32)
    _, context = demand_context(demand, lags=4, season=4, ahead=4)
    then = context[:, :, -5:]  # from the step before the one a season ago, five steps
    for series in range(2):
        assert then[23, series].argmax() == 1  # step 23 is the fourth of its year: so was step 19
        assert then[21, series].argmax() == 3


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="lags must be a positive integer, got 0"):
        demand_context(np.ones((1, 4), dtype=np.float32), lags=0)
