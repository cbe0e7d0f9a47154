# SPDX-License-Identifier: Apache-2.0
"""The forest over all products: the shipped suite, scale, masks, new products, threads, and that it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.sqrf import SparseQuantileForest, ranks
from sirdar.forecasting.panel import Panel
from sirdar.predictive import scores
from sirdar.testing.forecasters import ForecasterChecks, example_panel, panel_of


def small(horizon: int = 3, *, seed: int = 0, threads: int = 1) -> SparseQuantileForest:
    return SparseQuantileForest(horizon, rows=1500, trees=8, leaves=16, seed=seed, threads=threads)


def priced(series: int = 30, length: int = 60) -> Panel:
    """Products of two lines, of which one sells 5 and the other 50 a week."""
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(series) % 2, 5.0, 50.0)
    panel = panel_of([rng.poisson(r, length).astype(np.float32) for r in rate])
    line = np.array(["small", "large"] * (series // 2), dtype=object)[::-1]
    price = rng.uniform(1, 3, series * length).astype(np.float32)
    return replace(panel, static={"line": line}, future={"price": price}, price="price")


class TestSparseQuantileForest(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return small()


class TestWithCovariates(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return small()

    def panel(self) -> Panel:
        panel = priced()
        history = panel.history.copy()
        history[-1] = 0
        return replace(panel, history=history)


def test_threads_change_nothing() -> None:
    panel = example_panel()
    one, two = (small(threads=threads).fit(panel).predict(panel) for threads in (1, 2))
    assert np.array_equal(one.values, two.values)


def test_another_seed_gives_another_forest() -> None:
    panel = example_panel()
    first, second = (small(seed=seed).fit(panel).predict(panel) for seed in (0, 1))
    assert not np.array_equal(first.values, second.values)


def test_units_of_demand_change_nothing() -> None:
    """In other units, a million times smaller or larger, the forecast is the same in those units."""
    panel = example_panel()
    panel = replace(panel, target=panel.target + np.float32(0.25))  # not whole: nothing is rounded
    factor = np.float32(2.0**20)  # a power of two, so that not even rounding differs
    scaled = replace(panel, target=panel.target * factor)
    before = small().fit(panel).predict(panel).values
    assert np.allclose(small().fit(scaled).predict(scaled).values, before * factor, rtol=1e-5)


def test_series_of_very_different_level_pool() -> None:
    """A product that sells a million times as much is forecast like its small twin."""
    rng = np.random.default_rng(0)
    rows = rng.gamma(4.0, 1.0, (20, 80)).astype(np.float32)
    rows[10:] = rows[:10] * np.float32(1e6)
    panel = panel_of(list(rows))
    median = small().fit(panel).predict(panel).median()
    assert np.allclose(median[10:] / median[:10], 1e6, rtol=0.35)


def test_whole_demand_has_whole_quantiles() -> None:
    panel = example_panel()
    values = small().fit(panel).predict(panel).values
    assert np.array_equal(values, np.round(values))


def test_negative_demand_is_forecast_below_zero() -> None:
    panel = panel_of([np.random.default_rng(0).normal(-5, 1, 60) for _ in range(5)])
    forecast = small().fit(panel).predict(panel)
    assert forecast.floor == -np.inf
    assert forecast.values[..., 4].max() < 0


def test_mostly_zeros_have_a_median_of_zero() -> None:
    rng = np.random.default_rng(0)
    panel = panel_of([rng.binomial(1, 0.2, 80) * 3.0 for _ in range(20)])
    values = small().fit(panel).predict(panel).values
    assert (values[..., 4] == 0).all()
    assert (values[..., 8] > 0).mean() > 0.7


def test_a_new_product_is_forecast_like_its_line() -> None:
    """Nothing but the static tells the two apart, and demand of the one is ten times the other's."""
    panel = priced(200, 30)
    history = panel.history.copy()
    history[-2:] = 0
    # A single large feature in 20: let every tree see all.
    forecaster = SparseQuantileForest(2, rows=20_000, trees=20, leaves=64, threads=1)
    median = forecaster.fit(replace(panel, history=history)).predict(replace(panel, history=history)).median()[-2:]
    large, small_one = median[0].mean(), median[1].mean()
    if panel.static["line"][-1] == "small":
        assert large > 2 * small_one
    else:
        assert small_one > 2 * large


def test_it_beats_the_same_quantiles_for_all() -> None:
    """Weekly seasonality of daily demand: known from the weekday alone."""
    rng = np.random.default_rng(0)
    week = np.array([1, 1, 1, 1, 2, 6, 6.0])
    level = rng.uniform(2, 20, 40)
    panel = panel_of([rng.poisson(size * np.resize(week, 112)) for size in level], unit="D")
    past = panel.cut(14)
    forecast = SparseQuantileForest(14, rows=8000, trees=20, leaves=128, threads=1).fit(past).predict(past)
    actual = past.actuals(14)
    history = past.tail(past.target, 98)
    flat = np.quantile(history, forecast.levels, axis=1).T[:, None].repeat(14, axis=1)
    loss = scores.wql(actual, forecast.values, forecast.levels)
    assert loss < 0.5 * scores.wql(actual, flat, forecast.levels)


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    SparseQuantileForest(2, rows=500, trees=5, leaves=8, threads=1, progress=told.append).fit(example_panel())
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_what_is_stored_is_text_and_numbers(tmp_path: Path) -> None:
    small().fit(priced()).save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model"] == "sqrf"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "weights.safetensors"]


def test_ranks_share_ties() -> None:
    assert ranks(np.array([0, 5, 0, 7], dtype=np.float32)).tolist() == [0.25, 0.625, 0.25, 0.875]


def test_errors() -> None:
    panel = example_panel()
    with pytest.raises(ArgumentError, match="has not learned anything yet"):
        small().predict(panel)
    with pytest.raises(ArgumentError, match="no observed step"):
        small().fit(panel.select(np.array([5])))
    with pytest.raises(ArgumentError, match="horizon must be a positive integer, got 0"):
        small(0)
    daily = replace(panel, frequency=replace(panel.frequency, unit="D"))
    with pytest.raises(ArgumentError, match="learned from weekly demand, but the panel is daily"):
        small().fit(panel).predict(daily)


def test_more_observations_are_told_apart_by_more_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sirdar.forecasting.models.sqrf._ROWS", 100)
    monkeypatch.setattr("sirdar.forecasting.training._LITTLE", 250)
    monkeypatch.setattr("sirdar.forecasting.models.sqrf._MOST_ROWS", 180)
    few, many = panel_of([np.ones(100)]), panel_of([np.ones(1000)])
    assert SparseQuantileForest(2, trees=2).fit(few).forest.leaves == 512
    assert (
        SparseQuantileForest(2, trees=2).fit(many).forest.leaves == 512 * 180 // 100
    )  # the root of 4 is more than most
    assert SparseQuantileForest(2, trees=2, rows=10**9).fit(many).forest.leaves == 512 * 180 // 100
    assert SparseQuantileForest(2, trees=2, leaves=7).fit(many).forest.leaves == 7
