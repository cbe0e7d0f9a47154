# SPDX-License-Identifier: Apache-2.0
"""Textbook models against direct calls of statsforecast, and what these do not know: gaps and short histories."""

import tracemalloc
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from statsforecast import models

from sirdar.errors import ArgumentError
from sirdar.forecasting.models.textbook import METHODS, Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES
from sirdar.testing.forecasters import panel_of

DEMAND = np.random.default_rng(2).poisson(6 + 4 * np.sin(np.arange(48) / 12 * 2 * np.pi)).astype(np.float64)


def predicted(panel: Panel, method: str, levels: Sequence[float] = DECILES, horizon: int = 5) -> np.ndarray:
    return Textbook(horizon, method, levels=levels).fit(panel).predict(panel).values


def direct(model: object, demand: np.ndarray, level: float, horizon: int = 5) -> np.ndarray:
    """Quantile of one series straight from statsforecast: a level below 0.5 is the low end of an interval."""
    band = round(abs(2 * level - 1) * 100, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = model.forecast(y=demand, h=horizon, level=[band])
    return np.maximum(answer["mean" if level == 0.5 else f"{'lo' if level < 0.5 else 'hi'}-{band}"], 0)


DIRECT = {
    "seasonal-naive": lambda season: models.SeasonalNaive(season),
    "auto-ets": lambda season: models.AutoETS(season_length=season),
    "theta": lambda season: models.DynamicOptimizedTheta(season_length=season),
    "ces": lambda season: models.AutoCES(season_length=season),
    "auto-arima": lambda season: models.AutoARIMA(season_length=season, approximation=True),
}


@pytest.mark.parametrize("method", DIRECT)
@pytest.mark.parametrize("level", [0.1, 0.5, 0.7])
def test_it_is_statsforecast_s_own_answer(method: str, level: float) -> None:
    panel = panel_of([DEMAND], unit="M")  # 48 months bear a season of 12
    found = predicted(panel, method)[0, :, DECILES.index(level)]
    np.testing.assert_allclose(found, direct(DIRECT[method](12), DEMAND, level), rtol=1e-5)


@pytest.mark.parametrize("levels", [(0.5,), (0.025, 0.975), (1 / 3, 0.5, 0.6, 2 / 3), (0.001, 0.05, 0.97, 0.9995)])
def test_levels_need_not_be_deciles(levels: tuple[float, ...]) -> None:
    found = predicted(panel_of([DEMAND], unit="M"), "auto-ets", levels)
    assert found.shape == (1, 5, len(levels))
    for index, level in enumerate(levels):
        np.testing.assert_allclose(
            found[0, :, index], direct(models.AutoETS(season_length=12), DEMAND, level), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("method", "model"),
    [("tsb", models.TSB(alpha_d=0.2, alpha_p=0.2)), ("croston", models.CrostonSBA()), ("adida", models.ADIDA())],
)
def test_an_intermittent_model_moves_the_shape_of_recent_demand_to_its_mean(method: str, model: object) -> None:
    demand = np.random.default_rng(5).poisson(0.8, 60).astype(np.float64)
    mean = model.forecast(y=demand, h=5)["mean"]
    shape = np.quantile(demand[-52:], DECILES) / demand[-52:].mean()
    np.testing.assert_allclose(predicted(panel_of([demand]), method)[0], mean[:, None] * shape, rtol=1e-5)


@pytest.mark.parametrize("method", ["tsb", "croston", "adida"])
def test_levels_beyond_what_was_observed_have_a_tail(method: str) -> None:
    """Of 52 exponential steps none shows the quantile 0.999, which is log(1000) = 6.9 times the mean."""
    panel = panel_of(np.random.default_rng(0).exponential(10, (60, 52)))
    found = predicted(panel, method, (0.001, 0.01, 0.5, 0.99, 0.999))[:, 0]
    assert (np.diff(found, axis=1) > 0).all()
    assert (found[:, 4] / found[:, 2]).mean() == pytest.approx(np.log(1000) / np.log(2), rel=0.15)


def test_a_short_series_alone_has_the_spread_of_its_own_past_and_some_more() -> None:
    short = [3.0, 0.0, np.nan, 8.0, 1.0, 2.0, 9.0, 4.0]  # seven observations
    found = predicted(panel_of([short, DEMAND]), "auto-ets")
    own = np.nanquantile(short, DECILES)
    wider = own * np.exp(0.4 / 7 * np.array([NormalDist().inv_cdf(level) for level in DECILES]))
    np.testing.assert_allclose(found[0], np.tile(wider, (5, 1)), rtol=1e-5)
    assert predicted(panel_of([[150.0]]), "theta")[0, 0, [0, 8]].round().tolist() == [90, 250]
    debts = predicted(panel_of([[-150.0], [-150.0, 90.0]]), "theta")[:, 0]
    assert (np.diff(debts, axis=1) > 0).all()


@pytest.mark.parametrize("few", [1, 2, 7])
def test_a_short_series_spreads_as_longer_ones_did_after_as_few(few: int, tmp_path) -> None:  # noqa: ANN001
    """Half the products sell about 4 a step, half about 400, with one shape: 80 % of what follows is in between."""
    rng = np.random.default_rng(few)
    level = np.repeat([4.0, 400.0], 150)
    demand = rng.negative_binomial(3, 3 / (3 + level[:, None]), (300, 60)).astype(np.float64)
    new = rng.negative_binomial(3, 3 / (3 + level[:, None]), (300, few + 5)).astype(np.float64)
    panel = panel_of([*demand, *new[:, :few]])
    model = Textbook(5, "croston").fit(panel)
    found = model.predict(panel.select(np.arange(300, 600))).values
    for half in (slice(0, 150), slice(150, 300)):
        within = (new[half, few:] >= found[half, :, 0]) & (new[half, few:] <= found[half, :, 8])
        assert 0.7 < within.mean() < 0.92
    model.save(tmp_path / "model")
    one = Textbook.load(tmp_path / "model").predict(panel.select(np.array([599]))).values[0]
    np.testing.assert_array_equal(one, found[299])


def test_few_observations_of_nothing_are_followed_by_what_followed_them_elsewhere() -> None:
    rare = np.tile([0.0, 0.0, 0.0, 5.0], (20, 10))
    found = predicted(panel_of([*rare, [0.0], [0.0, 0.0]]), "tsb", (0.5, 0.99))
    np.testing.assert_array_equal(found[20:, 0], [[0, 5 * 15 / 16], [0, 5 * 14 / 16]])
    dead = predicted(panel_of([*np.zeros((20, 40)), [0.0], [3.0]]), "tsb")
    assert (dead[20] == 0).all()
    assert dead[21, 0, 0] < 3 < dead[21, 0, 8]


@pytest.mark.parametrize("method", METHODS)
def test_after_a_gap_at_the_end_the_forecast_goes_on(method: str) -> None:
    cut = np.append(DEMAND[:44], np.full(4, np.nan))
    found = predicted(panel_of([cut], unit="M"), method)[0]
    longer = predicted(panel_of([DEMAND[:44]], unit="M"), method, horizon=9)[0]
    np.testing.assert_allclose(found, longer[4:], rtol=1e-6)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in {"auto-arima", "seasonal-naive"}])
@pytest.mark.parametrize("gap", ["at the end", "scattered"])
def test_gaps_are_no_demand_and_no_certainty(method: str, gap: str) -> None:
    """Of independent demand about 20: a repeated last value would be forecast, and with too little doubt.

    The seasonal naive does repeat a value, gap or not; AutoARIMA is slow.
    """
    rng = np.random.default_rng(4)
    demand, then = rng.poisson(20, (80, 60)).astype(np.float64), rng.poisson(20, (80, 5))
    known = np.arange(60) < 48 if gap == "at the end" else (rng.random((80, 60)) < 0.6) | (np.arange(60) == 59)
    found = predicted(panel_of(np.where(known, demand, np.nan)), method)
    assert np.sqrt(np.mean((found[..., 4] - 20) ** 2)) < 3
    covered = ((then >= found[..., 0]) & (then <= found[..., 8])).mean()
    assert 0.66 < covered < 0.9


def test_a_product_without_history_starts_as_its_look_alikes_did(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = [np.append(np.full(k % 20 + 1, np.nan), rng.poisson(50 if k % 2 else 2, 40)) for k in range(40)]
    kind = np.array(["large" if k % 2 else "small" for k in range(40)] + ["large", "small"], dtype=object)
    panel = replace(panel_of([*rows, np.full(5, np.nan), np.full(5, np.nan)]), static={"kind": kind})
    model = Textbook(5, "theta").fit(panel)
    found = model.predict(panel).median()[-2:]
    np.testing.assert_allclose(found[0], 50, atol=10)
    np.testing.assert_allclose(found[1], 2, atol=1)
    alone = panel.select(np.array([40, 41]))
    np.testing.assert_array_equal(model.predict(alone).median(), found)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(Textbook.load(tmp_path / "m").predict(alone).median(), found)
    assert (predicted(panel.select(np.array([40, 41])), "theta") == 0).all()  # nobody to look like


def test_what_precedes_the_first_observation_does_not_count() -> None:
    late = np.concatenate([np.full(7, np.nan), DEMAND])
    np.testing.assert_array_equal(predicted(panel_of([late]), "theta"), predicted(panel_of([DEMAND]), "theta"))


@pytest.mark.parametrize("method", METHODS)
def test_a_product_that_never_sold_is_forecast_to_sell_nothing(method: str) -> None:
    assert (predicted(panel_of([np.zeros(30), DEMAND]), method)[0] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_series_is_forecast_alike_alone_and_in_company(method: str) -> None:
    rng = np.random.default_rng(8)
    lost = np.concatenate([rng.poisson(5, 20), np.full(60, np.nan)])  # nothing observed for a year
    rows = [rng.poisson(6, 80), lost, rng.poisson(0.5, 70), [1.0, 2.0]]
    together = predicted(panel_of(rows), method)
    alone = np.concatenate([predicted(panel_of([row]), method) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_a_history_too_short_for_the_season_repeats_its_last_value() -> None:
    # Most series have four years of months, so that the season is 12; the last one has nine months.
    young = np.arange(1.0, 10.0)
    panel = panel_of([DEMAND, DEMAND + 1, young], unit="M")
    found = predicted(panel, "seasonal-naive")[2]
    np.testing.assert_allclose(found[:, 4], 9)
    np.testing.assert_allclose(found[:, 8], direct(models.Naive(), young, 0.9), rtol=1e-5)
    np.testing.assert_allclose(predicted(panel, "seasonal-naive")[0, :, 4], DEMAND[36:41])


def test_the_season_is_that_of_the_panel_fitted(tmp_path) -> None:  # noqa: ANN001
    """Not those of the few series asked for: two young ones beside it do not take its season from the first."""
    panel = panel_of([DEMAND, DEMAND + 1, DEMAND - 20, DEMAND[:10], DEMAND[:9]], unit="M")
    model = Textbook(5, "seasonal-naive").fit(panel)
    model.save(tmp_path / "model")
    for rows in ([0, 3, 4], [3]):
        for shown in (model, Textbook.load(tmp_path / "model")):
            found = shown.predict(panel.select(np.array(rows)))
            np.testing.assert_array_equal(found.values, model.predict(panel).values[rows])
            assert found.floor == 0  # these were never below zero, the series that was is not shown
    np.testing.assert_allclose(model.predict(panel.select(np.array([0, 3, 4]))).median()[0], DEMAND[36:41])


def test_the_season_can_be_given() -> None:
    panel = panel_of([DEMAND], unit="M")
    found = Textbook(3, "seasonal-naive", season=1).predict(panel).values[0, :, 4]
    assert (found == DEMAND[-1]).all()


def test_demand_below_zero_has_no_floor() -> None:
    panel = panel_of([np.random.default_rng(0).normal(0, 5, 40)])
    forecast = Textbook(2, "auto-ets").predict(panel)
    assert forecast.floor == -np.inf
    assert forecast.values.min() < 0


def test_another_products_return_does_not_take_the_floor_away() -> None:
    """The wide intervals of rare large sales go far below zero; the product with a return may be forecast to do so."""
    rare = 1e6 * np.random.default_rng(4).poisson(0.2, 40)
    panel = panel_of([rare, rare - 1, np.full(5, np.nan)])
    model = Textbook(5, "theta").fit(panel)
    found = model.predict(panel)
    np.testing.assert_array_equal(found.floor, [0, -np.inf, -np.inf])
    np.testing.assert_array_equal(found.values[:1], predicted(panel.select(np.array([0])), "theta"))
    assert found.values.min(axis=(1, 2))[1] < -1e5
    assert found.quantile(1e-6)[0].min() == 0


def test_an_explosion_is_not_a_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose answer no float32 can hold is replaced by the last value."""
    from statsforecast import StatsForecast

    answer = StatsForecast.forecast

    def explode(engine: StatsForecast, **keywords: object) -> pl.DataFrame:
        found = answer(engine, **keywords)
        exploded = "Naive" not in type(engine.models[0]).__name__
        return found.with_columns(pl.col(name) * 1e60 for name in found.columns[2:]) if exploded else found

    monkeypatch.setattr(StatsForecast, "forecast", explode)
    assert (predicted(panel_of([DEMAND]), "auto-ets")[0, :, 4] == DEMAND[-1]).all()


def test_a_forecast_many_times_beyond_all_history_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AutoETS with a multiplicative trend gives for one series of M1: finite, and absurd."""
    from statsforecast import StatsForecast

    answer = StatsForecast.forecast

    def explode(engine: StatsForecast, **keywords: object) -> pl.DataFrame:
        found = answer(engine, **keywords)
        if "Naive" in type(engine.models[0]).__name__:
            return found
        return found.with_columns(
            pl.when(pl.col("unique_id") == 1).then(1e6).otherwise(pl.col(c)).alias(c) for c in found.columns[2:]
        )

    plain = predicted(panel_of([DEMAND, DEMAND]), "theta")
    monkeypatch.setattr(StatsForecast, "forecast", explode)
    found = predicted(panel_of([DEMAND, DEMAND]), "theta")
    np.testing.assert_array_equal(found[0], plain[0])
    assert (found[1, :, 4] == DEMAND[-1]).all()


def test_it_writes_no_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("NIXTLA_ID_AS_COL", raising=False)
    predicted(panel_of([DEMAND]), "theta")
    assert "NIXTLA_ID_AS_COL" not in os.environ


def test_wrong_arguments_are_refused_in_a_sentence() -> None:
    with pytest.raises(ArgumentError, match=r"unknown textbook method 'ets'; known are seasonal-naive, .*\."):
        Textbook(3, "ets")
    with pytest.raises(ArgumentError, match="horizon must be a positive integer, got -1"):
        Textbook(-1)
    with pytest.raises(ArgumentError, match="levels must rise"):
        Textbook(3, levels=(0.5, 0.5))
    with pytest.raises(ArgumentError, match="workers must be a positive integer, got 0"):
        Textbook(3, workers=0)


@pytest.mark.parametrize("method", ["tsb", "croston"])
def test_returns_are_no_lack_of_demand(method: str) -> None:
    """Sales of mean 3 less returns of mean 1.5, and noise about zero: means are net."""
    rng = np.random.default_rng(0)
    net, noise = rng.poisson(3.0, (30, 100)) - rng.poisson(1.5, (30, 100)), rng.normal(0, 5, (30, 100))
    point = Textbook(4, method, levels=[0.5]).fit(panel_of([*net, *noise])).predict(panel_of([*net, *noise])).median()
    assert point[:30].mean() == pytest.approx(1.5, abs=0.4)
    assert point[30:].mean() == pytest.approx(0.0, abs=0.8)


def test_memory_follows_the_rows_not_the_longest_history() -> None:
    """One series of 20,000 steps beside 3,000 of 20: side by side they were 60 million values, several times over."""
    rng = np.random.default_rng(0)
    panel = panel_of([rng.poisson(3.0, 20_000), *rng.poisson(3.0, (3_000, 20))])
    model = Textbook(2, "croston").fit(panel)
    tracemalloc.start()
    assert np.isfinite(model.predict(panel).values).all()
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


@pytest.mark.parametrize("method", ["croston", "tsb", "adida"])
def test_returns_that_nearly_cancel_sales_blow_nothing_up(method: str) -> None:
    """Sixty weeks of about ten and one large return: the mean of the last year is a tenth of a unit."""
    sold = np.random.default_rng(0).poisson(10, 60).astype(np.float32)
    sold[20] -= sold[-52:].sum() - 5
    panel = panel_of([sold, np.random.default_rng(1).poisson(10, 60)])
    values = Textbook(4, method=method).fit(panel).predict(panel).values[0]
    assert values.max() < 60
    assert values[:, 4].min() > -5


def test_a_single_huge_number_long_ago_shrinks_nothing() -> None:
    """Poisson demand of mean 20 with one step of 1,000, twenty steps ago, which a year's mean holds."""
    demand = np.random.default_rng(0).poisson(20, (1, 120)).astype(float)
    plain = predicted(panel_of(demand), "tsb")
    demand[0, 100] = 1000
    np.testing.assert_allclose(predicted(panel_of(demand), "tsb"), plain, rtol=0.1)
