# SPDX-License-Identifier: Apache-2.0
"""Forecasts as distributions. Expected numbers are worked out by hand, or those of the normal and exponential laws."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sirdar.errors import ArgumentError
from sirdar.predictive import DECILES, Forecast, Frequency
from sirdar.predictive.forecast import require_levels


def forecast_of(values: np.ndarray, levels: tuple[float, ...] = DECILES, **keywords: float | np.ndarray) -> Forecast:
    ids = [f"s{i}" for i in range(len(values))]
    return Forecast(ids, np.arange(len(values), dtype=np.int64), Frequency("W"), levels, values, **keywords)


def normal(levels: tuple[float, ...] = DECILES, horizon: int = 1, series: int = 1, **keywords: float) -> Forecast:
    scores = np.array([NormalDist(50, 10).inv_cdf(level) for level in levels])
    return forecast_of(np.tile(scores, (series, horizon, 1)), levels, **keywords)


risen = hnp.arrays(np.float32, (2, 3, 9), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)).map(
    lambda values: np.sort(values, axis=2)
)


@settings(max_examples=30)
@given(risen)
def test_a_quantile_at_a_level_is_the_stored_value(values: np.ndarray) -> None:
    forecast = forecast_of(values)
    for index, level in enumerate(DECILES):
        np.testing.assert_array_equal(forecast.quantile(level), values[:, :, index].astype(np.float64))


@settings(max_examples=30)
@given(risen, st.lists(st.floats(1e-9, 1 - 1e-9), min_size=2, max_size=20))
def test_quantiles_rise_with_the_level(values: np.ndarray, levels: list[float]) -> None:
    found = np.stack([forecast_of(values).quantile(level) for level in sorted([*levels, *DECILES])])
    assert (np.diff(found, axis=0) >= 0).all()


@settings(max_examples=30)
@given(risen, st.floats(-5, 5))
def test_the_floor_holds_everywhere(values: np.ndarray, floor: float) -> None:
    forecast = forecast_of(values, floor=floor)
    assert forecast.quantile(1e-9).min() >= floor
    assert forecast.sample(20).min() >= floor
    assert forecast.mean().min() >= floor - 1e-12  # rounding of a mean of 200


@pytest.mark.parametrize("levels", [DECILES, (0.5,)])
def test_every_series_may_have_a_floor_of_its_own(levels: tuple[float, ...]) -> None:
    values = np.tile(np.linspace(-9.0, -1.0, len(levels)), (3, 2, 1))
    floor = np.array([0.0, -np.inf, -5.0])
    forecast = forecast_of(values, levels, floor=floor)
    for row in range(3):
        alone = forecast_of(values[:1], levels, floor=float(floor[row]))
        np.testing.assert_array_equal(forecast.quantile(0.01)[row], alone.quantile(0.01)[0])
        np.testing.assert_array_equal(forecast.mean()[row], alone.mean()[0])
        assert forecast.sample(20)[row].min() >= floor[row]
    np.testing.assert_array_equal(forecast.take(np.array([2, 0])).floor, [-5, 0])


def test_levels_that_steps_summed_to_are_those_meant() -> None:
    levels = np.arange(0.1, 1, 0.1)
    assert levels[2] > 0.3
    forecast = forecast_of(np.zeros((1, 1, 9)), tuple(levels))
    assert forecast.levels == DECILES
    assert forecast.to_frame().columns[4] == "q0.3"
    assert require_levels(np.linspace(0.05, 0.95, 19).tolist())[9] == 0.5
    assert forecast_of(np.zeros((1, 1, 1)), (levels[2],)).quantile(levels[2]) == 0  # a lone one, by the same name


def test_between_levels_it_is_linear_and_beyond_them_exponential() -> None:
    forecast = forecast_of(np.array([[[2.0, 4.0, 10.0]]]), (0.25, 0.5, 0.75))
    assert forecast.quantile(0.3)[0, 0] == pytest.approx(2 + 2 * 0.05 / 0.25)
    # An exponential upper tail loses half of its probability every (10 - 4) units: from 0.5 to 0.25, so to 0.125 at 16.
    assert forecast.quantile(0.875)[0, 0] == pytest.approx(16)
    # The lower one likewise every (4 - 2): from 0.25 to 0.125 at 0.
    assert forecast.quantile(0.125)[0, 0] == pytest.approx(0)


def test_a_quantile_may_be_asked_per_series_and_step() -> None:
    forecast = normal(horizon=2, series=3)
    levels = np.array([[0.1], [0.5], [0.9]])
    np.testing.assert_array_equal(forecast.quantile(levels), forecast.values[np.arange(3), :, [0, 4, 8]])


def test_one_level_alone_is_a_point() -> None:
    forecast = forecast_of(np.array([[[3.0]]]), (0.5,))
    assert forecast.quantile(0.01)[0, 0] == forecast.mean()[0, 0] == 3
    assert (forecast.sample(4) == 3).all()


def test_one_level_beside_the_median_tells_no_other() -> None:
    forecast = forecast_of(np.array([[[3.0]]]), (0.9,))
    assert forecast.quantile(0.9)[0, 0] == 3
    with pytest.raises(ArgumentError, match=r"level 0.9 alone does not tell the mean"):
        forecast.mean()
    with pytest.raises(ArgumentError, match=r"level 0.9 alone does not tell how demand is distributed"):
        forecast.sample(2)
    with pytest.raises(ArgumentError, match=r"level 0.9 alone does not tell the quantile at 0.5"):
        forecast.median()


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, float("nan")])
def test_a_level_outside_is_refused(level: float) -> None:
    with pytest.raises(ArgumentError, match="must lie in"):
        normal().quantile(level)


def test_the_mean_is_that_of_the_law() -> None:
    # 19 levels of the normal law (mean 50); of the exponential law (mean 1), whose upper tail is exact here.
    levels = tuple(float(level) for level in np.arange(1, 20) / 20)
    assert normal(levels).mean()[0, 0] == pytest.approx(50, abs=0.05)
    exponential = forecast_of(-np.log1p(-np.array(levels))[None, None], levels, floor=0.0)
    assert exponential.mean()[0, 0] == pytest.approx(1, abs=0.01)


def test_sample_quantiles_converge_to_the_stored_ones() -> None:
    forecast = normal(horizon=3, correlation=0.5)
    found = np.quantile(forecast.sample(40_000, seed=1), DECILES, axis=2)[:, 0]
    # Standard error of a decile of 40,000 normal draws of spread 10 is at most 0.09 (at 0.1 and 0.9).
    np.testing.assert_allclose(found, np.tile(forecast.values[0, 0], (3, 1)).T, atol=0.4)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.3, 0.9])
def test_neighbouring_steps_have_the_correlation_asked_for(correlation: float) -> None:
    fine = tuple(float(level) for level in np.arange(1, 200) / 200)
    drawn = normal(fine, horizon=4, correlation=correlation).sample(20_000, seed=2)[0]
    found = np.corrcoef(drawn)  # the marginals are normal, so demand's correlation is that of its normal scores
    assert np.diag(found, 1) == pytest.approx([correlation] * 3, abs=0.02)
    assert np.diag(found, 2) == pytest.approx([correlation**2] * 2, abs=0.03)


def test_samples_follow_the_seed() -> None:
    forecast = normal(horizon=2)
    np.testing.assert_array_equal(forecast.sample(5, seed=3), forecast.sample(5, seed=3))
    assert not np.array_equal(forecast.sample(5, seed=3), forecast.sample(5, seed=4))
    with pytest.raises(ArgumentError, match="count must be a positive integer, got 0"):
        forecast.sample(0)
    with pytest.raises(ArgumentError, match="seed must be an integer from 0 to .*, got -1"):
        forecast.sample(5, seed=-1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": (0.5, 0.4)}, "levels must rise"),
        ({"levels": (0.0, 0.5)}, "levels must rise"),
        ({"levels": (0.5, float("nan"))}, "levels must rise"),
        ({"levels": ()}, "levels must rise"),
        ({"levels": (0.5,)}, "values have shape"),
        ({"ids": ["a"]}, "values have shape"),
        ({"start": np.zeros(3, dtype=np.int64)}, "start has shape"),
        ({"floor": np.zeros(3)}, r"floor has shape \(3,\), but there are 2 ids"),
        ({"correlation": 1.0}, "correlation must lie"),
        ({"values": np.array([[[2.0, 1.0]], [[0.0, 0.0]]])}, "quantiles cross"),
        ({"values": np.array([[[1.0, 1.0]], [[0.0, np.nan]]])}, "'b' holds a value that is not a finite number"),
        ({"values": np.array([[[1.0, np.inf]], [[0.0, 0.0]]])}, "'a' holds a value that is not a finite number"),
    ],
)
def test_what_is_no_distribution_is_refused(change: dict, message: str) -> None:
    right = Forecast(["a", "b"], np.zeros(2, dtype=np.int64), Frequency("D"), (0.4, 0.5), np.zeros((2, 1, 2)))
    with pytest.raises(ArgumentError, match=message):
        replace(right, **change)


def test_take_keeps_everything_about_some_series() -> None:
    forecast = forecast_of(np.sort(np.random.default_rng(0).random((4, 2, 9))), floor=0.0, correlation=0.2)
    taken = forecast.take(np.array([2, 0]))
    assert taken.ids == ["s2", "s0"]
    assert taken.start.tolist() == [2, 0]
    np.testing.assert_array_equal(taken.values, forecast.values[[2, 0]])
    assert (taken.floor, taken.correlation) == (0.0, 0.2)
    masked = forecast.take(np.array([True, False, True, False]))
    assert masked.ids == ["s0", "s2"]
    np.testing.assert_array_equal(masked.values, forecast.values[[0, 2]])


def test_the_frame_is_long_and_the_caller_s_own() -> None:
    values = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    made = Forecast(["a", "b"], np.array([0, 1]), Frequency("D"), (0.1, 0.95), values)
    frame = made.to_frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == ["unique_id", "ds", "q0.1", "q0.95"]
    assert frame["unique_id"].to_list() == ["a", "a", "b", "b"]
    assert [str(day.date()) for day in frame["ds"]] == ["1970-01-01", "1970-01-02", "1970-01-02", "1970-01-03"]
    assert frame["q0.95"].to_list() == [2, 4, 6, 8]
    assert isinstance(replace(made, native="pandas").to_frame(), pd.DataFrame)


def test_every_level_has_a_column_of_its_own() -> None:
    levels = (1e-5, 0.333333333, 0.99999991, 0.99999999)
    columns = forecast_of(np.zeros((1, 1, 4)), levels).to_frame().columns[2:]
    assert tuple(float(name[1:]) for name in columns) == levels


@settings(max_examples=20)
@given(risen)
def test_parts_join_to_the_whole(values: np.ndarray) -> None:
    whole = forecast_of(values, floor=-(2.0**61))
    parts = [whole.take(np.array([row])) for row in range(len(values))]
    found = Forecast.joined(parts)
    assert (found.ids, found.floor, found.levels) == (whole.ids, whole.floor, whole.levels)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.start, whole.start)
    mixed = Forecast.joined([parts[0], replace(parts[1], floor=-np.inf)])
    assert np.asarray(mixed.floor).tolist() == [-(2.0**61), -np.inf]


def test_floors_of_single_series_join() -> None:
    rows = np.zeros((3, 1, 9), dtype=np.float32)
    forecast = forecast_of(rows, floor=np.array([0.0, -np.inf, 0.0]))
    found = Forecast.joined([forecast.take(np.array([0])), forecast.take(np.array([2]))])
    assert found.floor == 0


def test_forecasts_of_two_kinds_do_not_join() -> None:
    with pytest.raises(ArgumentError, match="got 2 kinds"):
        Forecast.joined([normal(horizon=1), normal(horizon=2)])
    with pytest.raises(ArgumentError, match="got 0 kinds"):
        Forecast.joined([])
