# SPDX-License-Identifier: Apache-2.0
"""Greedy selection: known optima, the paper's properties, and a loss that is the mean of two relative scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.forecasting.selection import Reference, Validation, reference_of, select
from sirdar.predictive import DECILES, scores

SERIES, HORIZON = 60, 4


def demand(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4, 5, (SERIES, HORIZON)).astype(np.float32)


def around(actual: np.ndarray, shift: float) -> np.ndarray:
    """Quantiles that are wrong by `shift` at every level."""
    return (actual[..., None] + shift + np.zeros(len(DECILES))).astype(np.float32)


def validation(actual: np.ndarray) -> Validation:
    return Validation(actual, np.ones(len(actual)), DECILES, Reference(1.0, 1.0))


def test_two_opposite_errors_are_averaged_away() -> None:
    actual = demand()
    found = select(
        {"high": around(actual, 2), "low": around(actual, -2), "off": around(actual, 3.5)}, validation(actual)
    )
    assert found.weights.keys() == {"high", "low"}
    assert found.weights["high"] == pytest.approx(0.5, abs=0.05)
    assert found.loss < 0.2 * min(found.losses.values())
    assert found.path[0][0] in {"high", "low"}
    assert [loss for _, loss in found.path] == sorted((loss for _, loss in found.path), reverse=True)


def test_a_perfect_forecast_stands_alone() -> None:
    actual = demand()
    found = select({"off": around(actual, 1), "right": around(actual, 0)}, validation(actual))
    assert found.weights == {"right": 1.0}
    assert found.loss == pytest.approx(0, abs=1e-5)


def test_an_explosion_in_one_series_is_not_chosen_by_a_bag_without_it() -> None:
    actual = demand()
    broken = around(actual, -1)
    broken[7] = 1e9
    found = select({"high": around(actual, 1.1), "broken": broken}, validation(actual))
    assert found.weights == {"high": 1.0}


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_average_never_loses_to_its_best_member(seed: int) -> None:
    rng = np.random.default_rng(seed)
    actual = demand(seed)
    forecasts = {
        str(i): np.sort(actual[..., None] + rng.normal(0, 1 + i, (SERIES, HORIZON, 9)), axis=2).astype(np.float32)
        for i in range(4)
    }
    found = select(forecasts, validation(actual), seed)
    assert found.loss <= min(found.losses.values())
    assert sum(found.weights.values()) == pytest.approx(1)
    assert select(forecasts, validation(actual), seed) == found


def test_the_loss_is_the_mean_of_relative_wql_and_relative_sql() -> None:
    actual, scale = demand(), np.random.default_rng(1).uniform(0.5, 3, SERIES)
    actual[3, 1:], actual[4], scale[5] = np.nan, np.nan, 0
    naive, mine = around(np.nan_to_num(actual), 3), around(np.nan_to_num(actual), 1)
    reference = reference_of(actual, naive, DECILES, scale)
    found = select({"mine": mine, "naive": naive}, Validation(actual, scale, DECILES, reference))
    relative = [
        scores.wql(actual, mine, DECILES) / scores.wql(actual, naive, DECILES),
        scores.sql(actual, mine, DECILES, scale) / scores.sql(actual, naive, DECILES, scale),
    ]
    assert found.losses["mine"] == pytest.approx(np.mean(relative), rel=1e-5)
    assert found.losses["naive"] == pytest.approx(1, rel=1e-5)


def test_by_one_forecast_nothing_is_weighed_but_the_hopeless_left_out() -> None:
    actual = np.full((1, HORIZON), 5.0, dtype=np.float32)
    rivals = {"near": around(actual + 3, 1), "far": around(actual + 4, 1), "hopeless": around(actual + 50, 1)}
    found = select(rivals, validation(actual))
    assert found.weights == {"near": 0.5, "far": 0.5}
    assert found.losses["near"] < found.losses["far"] < found.losses["hopeless"]
    assert np.isfinite(found.loss)


def test_with_nothing_to_judge_by_all_weigh_the_same() -> None:
    actual = np.full((3, HORIZON), np.nan, dtype=np.float32)
    found = select({"a": around(np.zeros_like(actual), 1), "b": around(np.zeros_like(actual), 2)}, validation(actual))
    assert found.weights == {"a": 0.5, "b": 0.5}
    zeros = np.zeros((SERIES, HORIZON), dtype=np.float32)
    nothing = Validation(zeros, np.full(SERIES, np.nan), DECILES, Reference(0.0, 0.0))
    assert select({"a": around(zeros, 1), "b": around(zeros, 0)}, nothing).weights == {"b": 1.0}
