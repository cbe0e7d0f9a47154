# SPDX-License-Identifier: Apache-2.0
"""The feed-forward rung: the shipped suite, units, masks, new products, resuming, early stopping, what it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sirdar
from sirdar.errors import ArgumentError
from sirdar.forecasting import ladder
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.training import Training
from sirdar.predictive import DECILES, scores
from sirdar.testing.forecasters import ForecasterChecks, example_panel, panel_of


def small(
    horizon: int = 3, *, steps: int = 6, seed: int = 0, batch: int = 32, checkpoint: Path | None = None
) -> FeedForward:
    training = Training(batch=batch, checkpoint=checkpoint)
    return FeedForward(horizon, steps=steps, width=8, seed=seed, training=training)


def priced(series: int = 30, length: int = 60) -> Panel:
    """Products of two lines, of which one sells 5 and the other 50 a week; the last one is new."""
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(series) % 2, 5.0, 50.0)
    history = np.full(series, length)
    history[-2:] = 0
    panel = panel_of([rng.poisson(r, length).astype(np.float32) for r in rate], history=history.tolist())
    line = np.array(["large", "small"] * (series // 2), dtype=object)
    price = rng.uniform(1, 3, series * length).astype(np.float32)
    orders = rng.gamma(2, 3, series * length).astype(np.float32)
    return replace(panel, static={"line": line}, future={"price": price}, past={"orders": orders}, price="price")


class TestFeedForward(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return small()


class TestWithCovariates(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return small()

    def panel(self) -> Panel:
        return priced()


def test_the_ladder_knows_it() -> None:
    built = ladder.build("feed-forward", 3, levels=(0.1, 0.9), seed=4)
    assert isinstance(built, FeedForward)
    assert (built.horizon, built.levels, built.seed) == (3, (0.1, 0.9), 4)
    assert ladder.kind_of(built) == "feed-forward"
    assert sirdar.FeedForward is FeedForward


def test_another_seed_gives_another_network() -> None:
    panel = example_panel()
    first, second = (small(seed=seed).fit(panel).predict(panel) for seed in (0, 1))
    assert not np.array_equal(first.values, second.values)


def test_units_of_demand_change_nothing() -> None:
    """In other units, a million times larger, the forecast is the same in those units."""
    panel = example_panel()
    panel = replace(panel, target=panel.target + np.float32(0.25))  # not whole: nothing is rounded
    factor = np.float32(2.0**20)  # a power of two, so that not even rounding differs
    scaled = replace(panel, target=panel.target * factor)
    before = small().fit(panel).predict(panel).values
    assert np.allclose(small().fit(scaled).predict(scaled).values, before * factor, rtol=1e-3)


def test_a_yearly_peak_of_many_times_the_level_comes_again() -> None:
    """Two weeks of the year sell 15 times as much as the others: Poisson demand of 300 in place of 20."""
    week = (np.arange(150) - 1) % 52
    peak = (week == 45) | (week == 46)  # steps 150 and 151 are two of them
    assert not peak[140:].any()
    rows = np.random.default_rng(0).poisson(np.where(peak, 300, 20), (40, 150))
    median = FeedForward(4).fit(panel_of(rows)).predict(panel_of(rows)).median()
    assert median[:, :2].mean() == pytest.approx(300, rel=0.2)
    assert median[:, 2:].mean() == pytest.approx(20, rel=0.2)


def test_series_of_very_different_level_pool() -> None:
    """A product that sells a million times as much is forecast like its small twin."""
    rng = np.random.default_rng(0)
    rows = rng.gamma(4.0, 1.0, (20, 80)).astype(np.float32)
    rows[10:] = rows[:10] * np.float32(1e6)
    panel = panel_of(list(rows))
    median = small(steps=200).fit(panel).predict(panel).median()
    assert np.allclose(median[10:] / median[:10], 1e6, rtol=0.35)


def test_whole_demand_has_whole_quantiles_and_other_demand_has_not() -> None:
    panel = example_panel()
    values = small().fit(panel).predict(panel).values
    assert np.array_equal(values, np.round(values))
    halves = replace(panel, target=panel.target / np.float32(2))
    values = small().fit(halves).predict(halves).values
    assert not np.array_equal(values, np.round(values))


def test_negative_demand_is_forecast_below_zero() -> None:
    panel = panel_of([np.random.default_rng(0).normal(-5, 1, 60) for _ in range(5)])
    forecast = small(steps=100).fit(panel).predict(panel)
    assert forecast.floor == -np.inf
    assert forecast.median().max() < 0


def test_two_totals_a_million_times_larger_do_not_drown_the_products_beside_them() -> None:
    rng = np.random.default_rng(3)
    season = 1 + 0.5 * np.sin(2 * np.pi * np.arange(96) / 12 + rng.uniform(0, 6.28, (20, 1)))
    demand = (season + rng.normal(0, 0.1, season.shape)) * rng.uniform(20, 200, (20, 1))
    totals = 1e8 * np.exp(rng.normal(0, 0.5, (2, 96)))
    scale = scores.seasonal_scale(demand[:, :90], 12)
    losses = []
    for rows in (demand, np.concatenate([demand, totals])):
        panel = panel_of(list(rows[:, :90]), unit="M")
        values = small(6, steps=300).fit(panel).predict(panel).values[:20]
        losses.append(scores.sql(demand[:, 90:], values, DECILES, scale))
    assert losses[0] < 0.8
    assert losses[1] < 1.3 * losses[0]


def test_a_smooth_series_shows_its_small_movements() -> None:
    """A season of a twentieth of the level and noise of a hundredth: the naive forecast's error is a twentieth."""
    rng = np.random.default_rng(0)
    season = np.resize([1, 2, 3, 2, 1, 0, 0.0], 140)
    rows = rng.uniform(1e3, 1e5, (30, 1)) * (1 + 0.05 * season + rng.normal(0, 0.01, (30, 140)))
    panel = panel_of(list(rows[:, :133]), unit="D")
    forecast = small(7, steps=300).fit(panel).predict(panel)
    level = rows.mean(axis=1, keepdims=True)
    assert np.abs(forecast.median() / level - rows[:, 133:] / level).mean() < 0.02
    assert ((forecast.values[..., -1] - forecast.values[..., 0]) / level).mean() < 0.06  # 2.6 deviations are .026


def test_mostly_zeros_have_a_median_of_zero() -> None:
    rng = np.random.default_rng(0)
    panel = panel_of([rng.binomial(1, 0.2, 80) * 3.0 for _ in range(20)])
    values = small(steps=200).fit(panel).predict(panel).values
    assert (values[..., 4] == 0).all()
    assert (values[..., 8] > 0).mean() > 0.7


def test_a_new_product_is_forecast_like_its_line() -> None:
    """Nothing but the static tells the two apart, and demand of the one is ten times the other's."""
    panel = priced(60, 30)
    large, small_one = FeedForward(2, steps=300, width=16).fit(panel).predict(panel).median()[-2:].mean(axis=1)
    assert large > 3 * small_one


def test_it_beats_the_same_quantiles_for_all() -> None:
    """Weekly seasonality of daily demand: known from the weekday alone."""
    rng = np.random.default_rng(0)
    week = np.array([1, 1, 1, 1, 2, 6, 6.0])
    level = rng.uniform(2, 20, 40)
    panel = panel_of([rng.poisson(size * np.resize(week, 112)) for size in level], unit="D")
    past = panel.cut(14)
    forecast = FeedForward(14, steps=200, width=16, training=Training(batch=32)).fit(past).predict(past)
    actual = past.actuals(14)
    flat = np.quantile(past.tail(past.target, 98), forecast.levels, axis=1).T[:, None].repeat(14, axis=1)
    loss = scores.wql(actual, forecast.values, forecast.levels)
    assert loss < 0.5 * scores.wql(actual, flat, forecast.levels)


def test_the_plan_ahead_is_seen_as_far_as_the_horizon() -> None:
    panel = priced()
    model = small().fit(panel.cut(6))
    past = panel.cut(6)
    before = model.predict(past).values
    offset = np.arange(len(panel.target)) - past.indptr[:-1][past.step_series] - past.history[past.step_series]
    for near, far, same in ((0, 3, False), (3, 6, True)):
        price = np.where((offset >= near) & (offset < far), np.float32(50), panel.future["price"])
        assert np.array_equal(model.predict(replace(past, future={"price": price})).values, before) is same


def test_a_first_event_in_the_plan_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    demand = panel_of(rng.poisson(20, (20, 40)), history=[37] * 20)
    flag = np.zeros((20, 40), dtype=np.float32)
    never = replace(demand, future={"event": flag.ravel()})
    flag[:, 37:] = 1
    planned = replace(demand, future={"event": flag.ravel().copy()})
    model = small(steps=30).fit(planned)
    np.testing.assert_array_equal(model.predict(planned).values, model.predict(never).values)


def test_a_killed_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818 - no error
        pass

    def kill(done: float) -> None:
        if done > 0.6:
            raise Killed

    panel = example_panel()
    whole = small(steps=20).fit(panel).predict(panel).values
    first = small(steps=20, checkpoint=tmp_path)
    first.progress = kill
    with pytest.raises(Killed):
        first.fit(panel)
    assert len(list(tmp_path.iterdir())) == 1
    told: list[float] = []
    second = small(steps=20, checkpoint=tmp_path)
    second.progress = told.append
    assert np.array_equal(second.fit(panel).predict(panel).values, whole)
    assert told[0] > 0.5
    assert not list(tmp_path.iterdir())


def test_an_update_goes_on_from_the_present_weights() -> None:
    panel = example_panel()
    model = small(steps=40).fit(panel.cut(4))
    loss = [model._held_out(panel.cut(3))()]
    model.update(panel, steps=80)
    loss.append(model._held_out(panel.cut(3))())
    assert loss[1] < loss[0]


def test_an_update_learns_what_demand_is() -> None:
    model = small(steps=10).fit(panel_of([np.full(30, 4.0)] * 4))
    with pytest.raises(ArgumentError, match="learned that demand is never negative"):
        model.update(panel_of([np.full(30, -4.0)] * 4))
    fractions = panel_of([np.full(30, 0.3)] * 4)
    assert (model.update(fractions, steps=5).predict(fractions).values % 1 != 0).any()


def test_patience_holds_the_last_steps_out_and_stops() -> None:
    panel = example_panel()
    told: list[float] = []
    model = FeedForward(3, steps=400, width=8, training=Training(batch=16, patience=1), progress=told.append)
    model.fit(panel)
    assert told[-1] < 1
    with pytest.raises(ArgumentError, match="patience needs series with more than 30 steps"):
        FeedForward(30, steps=2, training=Training(patience=1)).fit(panel.cut(20))


def test_one_series_is_forecast_alike_alone_and_in_company() -> None:
    panel = priced()
    model = small().fit(panel)
    together = model.predict(panel).values
    alone = np.concatenate([model.predict(panel.select(np.array([row]))).values for row in range(len(panel))])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


def test_shares_of_an_explanation_add_up_and_follow_the_plan() -> None:
    panel = priced()
    model = small(steps=60).fit(panel.cut(3))
    told = model.explain(panel.cut(3), "product 1", level=0.9)
    assert sum(share for *_, share in told.parts) == pytest.approx(told.total - told.baseline, rel=0.05)
    assert {"lag 1", "line=small", "orders over 4", "price over usual"} <= set(told.by_input())
    assert len({period for name, period, _ in told.parts if name == "price over usual"}) == 3
    with pytest.raises(ArgumentError, match="the panel has no series 'product x'"):
        model.explain(panel, "product x")
    with pytest.raises(ArgumentError, match="level must be one of the forecaster's, .*, got 0.55"):
        model.explain(panel, "product 1", level=0.55)


def test_what_runs_at_night_gives_units_of_demand() -> None:
    module, example = small().fit(example_panel()).inference(batch=2)
    one = module(*example)
    assert one.shape == (2, 3, 9)
    assert torch.allclose(module(*example[:2], 2 * example[2], 2 * example[3]), 2 * one)


def test_what_is_stored_is_text_and_numbers(tmp_path: Path) -> None:
    small().fit(priced()).save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model"] == "feed-forward"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "weights.safetensors"]


def test_errors() -> None:
    panel = example_panel()
    with pytest.raises(ArgumentError, match="has not learned anything yet"):
        small().predict(panel)
    with pytest.raises(ArgumentError, match="no observed step"):
        small().fit(panel.select(np.array([5])))
    with pytest.raises(ArgumentError, match="seed must be an integer from 0 to .*, got -1"):
        FeedForward(3, seed=-1)
    with pytest.raises(ArgumentError, match="horizon must be a positive integer, got 0"):
        small(0)
    daily = replace(panel, frequency=replace(panel.frequency, unit="D"))
    with pytest.raises(ArgumentError, match="learned from weekly demand, but the panel is daily"):
        small().fit(panel).predict(daily)
