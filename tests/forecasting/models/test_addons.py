# SPDX-License-Identifier: Apache-2.0
"""The add-ons around a textbook method: the shipped suite, and what each part is there for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import ArgumentError, DataError, UnsupportedError
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.addons import AddOns, _most, expectation
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.sqrf import SparseQuantileForest
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, Forecast, Frequency
from sirdar.testing.forecasters import ForecasterChecks, NullForecaster, panel_of


class TestAroundTheta(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return AddOns(3)


class TestConformalAroundTSB(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return AddOns(3, "tsb", conformal=True)


def priced(seed: int = 0) -> Panel:
    """Thirty products of elasticity -3 whose price is cut now and then; prices are known ahead."""
    rng = np.random.default_rng(seed)
    cut = rng.random((30, 90)) < 0.2
    panel = panel_of(rng.poisson(40 * np.where(cut, 0.7, 1.0) ** -3.0), history=[80] * 30)
    price = np.where(cut, 1.4, 2.0).astype(np.float32).ravel()
    return replace(panel, future={"price": price}, price="price")


def test_a_planned_price_cut_raises_the_forecast() -> None:
    panel = priced()
    model = AddOns(5).fit(panel)
    assert "price" in model.kept
    median = model.predict(panel).median()
    cut = panel.tail(panel.future["price"], 0, ahead=5) < 1.5
    np.testing.assert_allclose(median[cut].mean() / median[~cut].mean(), 0.7**-3, rtol=0.15)


def test_an_event_that_is_not_among_the_last_steps_is_forecast() -> None:
    """Demand trebles at a yearly event, which no origin of the last three horizons sees."""
    rng = np.random.default_rng(0)
    event = np.isin(np.arange(164), (4, 58, 109, 160)).astype(np.float32)
    level = np.exp(rng.uniform(np.log(5), np.log(60), 30))[:, None]
    panel = panel_of(rng.poisson(level * (1 + 2 * event)), history=[156] * 30)
    model = AddOns(8).fit(replace(panel, future={"event": np.tile(event, 30)}))
    assert model.kept == ("price",)
    found = (model.predict(replace(panel, future={"event": np.tile(event, 30)})).median() / level).mean(axis=0)
    np.testing.assert_allclose(found, 1 + 2 * event[156:], rtol=0.1)


def test_events_off_a_season_are_not_taken_for_one() -> None:
    """Every 26 weeks demand trebled or fell to a fifth; the next ones come at other times."""
    rng = np.random.default_rng(3)
    flags = {"fair": (10, 36, 62, 88, 114, 123), "closed": (20, 46, 72, 98, 126)}
    told = {name: np.isin(np.arange(128), steps).astype(np.float32) for name, steps in flags.items()}
    factor = np.where(told["fair"] > 0, 3.0, np.where(told["closed"] > 0, 0.2, 1.0))
    level = np.exp(rng.uniform(np.log(3), np.log(60), 40))[:, None]
    panel = panel_of(rng.poisson(level * factor), history=[120] * 40)
    panel = replace(panel, future={name: np.tile(column, 40) for name, column in told.items()})
    found = (AddOns(8).fit(panel).predict(panel).median() / level).mean(axis=0)
    np.testing.assert_allclose(found, factor[120:], atol=0.15)


def test_a_panel_without_the_price_learned_from_is_refused() -> None:
    panel = priced()
    model = AddOns(5).fit(panel)
    found = model.predict(replace(panel, price=None)).values  # it is there, though nothing says that it is the price
    np.testing.assert_allclose(found, model.predict(panel).values)
    with pytest.raises(ArgumentError, match="what was learned needs the price 'price', which this panel does not have"):
        model.predict(replace(panel, price=None, future={}))


def test_a_rivals_planned_price_cut_lowers_the_forecast(tmp_path) -> None:  # noqa: ANN001
    """Demand follows the rival's price with an elasticity of 2, and there is no other price."""
    rng = np.random.default_rng(0)
    cut = rng.random((30, 90)) < 0.2
    panel = panel_of(rng.poisson(40 * np.where(cut, 0.7, 1.0) ** 2.0), history=[80] * 30)
    panel = replace(panel, future={"rival": np.where(cut, 1.4, 2.0).astype(np.float32).ravel()})
    model = AddOns(5, cross=["rival"]).fit(panel)
    median = model.predict(panel).median()
    ahead = panel.tail(panel.future["rival"], 0, ahead=5) < 1.5
    np.testing.assert_allclose(median[ahead].mean() / median[~ahead].mean(), 0.7**2, rtol=0.15)
    model.save(tmp_path / "model")
    assert np.array_equal(AddOns.load(tmp_path / "model").predict(panel).median(), median)


def test_another_calendar_is_refused() -> None:
    model = AddOns(2, components=()).fit(panel_of([[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]], unit="W"))
    with pytest.raises(ArgumentError, match="these AddOns learned weekly demand, but the panel is monthly"):
        model.predict(panel_of([[1.0, 2, 3]], unit="M"))


def test_saved_with_all_components_it_forecasts_the_same(tmp_path) -> None:  # noqa: ANN001
    panel = priced()
    model = AddOns(5).fit(panel)
    model.save(tmp_path / "model")
    assert np.array_equal(AddOns.load(tmp_path / "model").predict(panel).values, model.predict(panel).values)


def test_the_method_inside_is_stored_with_its_settings(tmp_path) -> None:  # noqa: ANN001
    panel = priced()
    model = AddOns(5, Textbook(5, "seasonal-naive", season=5), components=()).fit(panel)
    model.save(tmp_path / "model")
    assert np.array_equal(AddOns.load(tmp_path / "model").predict(panel).values, model.predict(panel).values)


@pytest.mark.parametrize("around", [SparseQuantileForest(5, trees=4), MQCNN(5, steps=3, width=8)])
def test_they_are_stored_around_any_rung(around: Forecaster, tmp_path: Path) -> None:
    panel = priced()
    model = AddOns(5, around).fit(panel)
    model.save(tmp_path / "model")
    assert np.array_equal(AddOns.load(tmp_path / "model").predict(panel).values, model.predict(panel).values)


def test_once_loaded_they_learn_anew_as_before(tmp_path: Path) -> None:
    """Where demand falls below zero the method seeks the season that the component would."""
    panel = priced()
    model = AddOns(5).fit(panel)
    model.save(tmp_path / "model")
    below = replace(panel, target=panel.target - 1000)
    loaded = AddOns.load(tmp_path / "model").update(below)
    assert np.array_equal(loaded.predict(below).values, model.update(below).predict(below).values)


def test_a_point_forecast_that_may_be_nothing_is_not_made_worse() -> None:
    """The seasonal naive of slow demand says 0 of most steps; the true 0.9 quantile of Poisson demand of 1 is 2."""
    panel = panel_of(np.random.default_rng(0).poisson(1.0, (60, 84)), unit="D")
    forecast = AddOns(7, "seasonal-naive").fit(panel).predict(panel)
    assert forecast.quantile(0.9).mean() < 4


@pytest.mark.parametrize("around", ["theta", "tsb"])
def test_one_return_does_not_take_the_season_from_all(around: str) -> None:
    """One step of one product is below zero: the others' forecasts, of 30 a step, are as good as without it."""
    rate = 30 + 20 * np.sin(2 * np.pi * np.arange(84) / 12)
    demand = np.random.default_rng(0).poisson(rate, (12, 84)).astype(float)
    returned = demand.copy()
    returned[11, 40] = -3
    without, with_it = (
        AddOns(6, around).fit(panel_of(rows[:, :78], unit="M")).predict(panel_of(rows[:, :78], unit="M"))
        for rows in (demand, returned)
    )
    error = [np.abs(forecast.median()[:11] - demand[:11, 78:]).mean() for forecast in (without, with_it)]
    assert error[0] < 5
    assert error[1] < 1.1 * error[0]


@pytest.mark.parametrize("conformal", [False, True])
def test_one_return_takes_the_floor_from_its_own_series_alone(conformal: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(0)
    panel = panel_of([*rng.poisson(0.3, (9, 60)), rng.poisson(0.3, 60) - 2])
    found = AddOns(3, conformal=conformal).fit(panel).predict(panel)
    np.testing.assert_array_equal(found.floor, [0] * 9 + [-np.inf])
    assert found.values[:9].min() == 0 > found.values[9].min()


def test_an_origin_before_which_nothing_was_observed_is_passed_over() -> None:
    """A single product whose first months were not recorded; its price was."""
    demand = np.random.default_rng(0).poisson(20, 30).astype(float)
    demand[:17] = np.nan
    panel = panel_of([demand])
    panel = replace(panel, past={"price": np.tile([2.0, 1.5, 1.8], 10).astype(np.float32)}, price="price")
    assert 5 < AddOns(6).fit(panel).predict(panel).median().mean() < 40


class Peeking(NullForecaster):
    """Forecasts what is stored after the end of history, where there is something."""

    def predict(self, panel: Panel) -> Forecast:
        ahead = np.nan_to_num(panel.tail(panel.target, 0, ahead=self.horizon), nan=10.0)
        return Forecast(panel.ids, panel.end, panel.frequency, (0.5,), ahead[..., None], 0.0)


def test_errors_are_learned_without_what_followed_the_origin() -> None:
    """A forecaster that reads past the end of history, where it can, would seem to be without error."""
    panel = panel_of(np.random.default_rng(0).poisson(10.0, (30, 60)))
    forecast = AddOns(4, Peeking(4), components=()).fit(panel).predict(panel)
    assert (forecast.quantile(0.9) - forecast.quantile(0.1)).mean() > 4  # 8 for Poisson demand of 10


def test_around_what_is_no_rung_they_cannot_be_stored(tmp_path) -> None:  # noqa: ANN001
    with pytest.raises(UnsupportedError, match="NullForecaster"):
        AddOns(2, NullForecaster(2)).save(tmp_path / "model")


def test_arguments_are_checked() -> None:
    with pytest.raises(ArgumentError, match="have not learned anything yet"):
        AddOns(3).predict(priced())
    with pytest.raises(ArgumentError, match="no observed step"):
        AddOns(3).fit(panel_of([[]]))
    with pytest.raises(ArgumentError, match="'prices'"):
        AddOns(3, components=("prices",))
    with pytest.raises(ArgumentError, match="horizon 3, got 2"):
        AddOns(3, Textbook(2))


def test_the_expectation_is_that_of_the_forecast() -> None:
    values = np.sort(np.random.default_rng(0).normal(20, 3, (4, 3, 9)), axis=2).astype(np.float32)
    forecast = Forecast(list("abcd"), np.zeros(4), Frequency("W"), DECILES, values)
    np.testing.assert_allclose(expectation(forecast), forecast.mean(), rtol=5e-3)


def test_a_series_alone_is_forecast_as_among_others() -> None:
    """Whole numbers are what was learned from, not what happens to be shown."""
    rng = np.random.default_rng(0)
    panel = panel_of([*rng.poisson(4, (5, 80)).astype(float), *rng.gamma(2.0, 2.0, (5, 80))])
    model = AddOns(4, around="tsb", origins=2).fit(panel)
    together, alone = model.predict(panel), model.predict(panel.select(np.array([0])))
    np.testing.assert_array_equal(together.values[:1], alone.values)


def test_the_season_and_the_floor_are_those_learned(tmp_path) -> None:  # noqa: ANN001
    """Not those of the few series shown: here young ones, in which no season and no return is seen."""
    rng = np.random.default_rng(0)
    rate = 30 + 20 * np.sin(2 * np.pi * np.arange(48) / 12)
    rows = [*rng.poisson(rate, (3, 48)).astype(float), *rng.poisson(9, (2, 10)).astype(float)]
    rows[2][20] = -4
    panel = panel_of(rows, start=[0, 0, 0, 38, 38], unit="M")
    model = AddOns(6, "seasonal-naive").fit(panel)
    model.save(tmp_path / "model")
    for some in ([0, 3, 4], [3]):
        chosen = np.array(some)
        for shown in (model, AddOns.load(tmp_path / "model")):
            found = shown.predict(panel.select(chosen))
            assert np.array_equal(found.values, model.predict(panel).values[chosen])
            assert np.all(found.floor == model.predict(panel).floor[chosen])


def test_one_series_that_is_far_longer_than_others_is_cut_to_what_others_have() -> None:
    """Arrays are as long as the longest history: one mistyped date would take memory for every series."""
    draw = np.random.default_rng(0)
    histories = [draw.poisson(5, 40).astype(float).tolist() for _ in range(40)]
    panel = panel_of([draw.poisson(5, 4000).astype(float).tolist(), *histories])
    most = round(4 * (4000 + 40 * 40) / 41 + 0.5)
    assert _most(panel) == most
    model = AddOns(horizon=2, around="theta").fit(panel)
    found = model.predict(panel)
    np.testing.assert_allclose(found.values, AddOns(2, "theta").fit(panel.recent(most)).predict(panel).values)
    np.testing.assert_allclose(model.predict(panel.select(np.array([0]))).values[0], found.values[0])


def test_of_long_histories_the_last_steps_are_learned_from() -> None:
    """Theta's time grows faster than its steps: twice 100,000 hours did not end in minutes."""
    panel = panel_of([np.random.default_rng(0).poisson(5, 9000).astype(float).tolist()])
    assert panel.frequency.unit == "W"
    assert _most(panel) == 2000
    assert _most(panel.recent(400)) == 1600
    assert _most(replace(panel, frequency=Frequency("5min"))) == 3 * 7 * 288  # cycles
    model = AddOns(2, "seasonal-naive").fit(panel)
    expected = AddOns(2, "seasonal-naive").fit(panel.recent(2000)).predict(panel.recent(2000)).values
    assert np.array_equal(model.predict(panel).values, expected)


@pytest.mark.parametrize(("name", "value"), [("most", None), ("unit", "X")])
def test_an_edited_config_is_refused_in_a_sentence(name: str, value: object, tmp_path: Path) -> None:
    AddOns(2, "seasonal-naive").fit(panel_of([[1.0] * 20])).save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(DataError, match="m: not as this version saves a '.*' .* train it again"):
        AddOns.load(tmp_path / "m")
