# SPDX-License-Identifier: Apache-2.0
"""What the network rungs share: what they may see, seeds, early stopping, resuming, updating, storage, precision."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting import training
from sirdar.forecasting.decoding import begin_at
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.mqrnn import MQRNN
from sirdar.forecasting.models.mqtransformer import MQTransformer
from sirdar.forecasting.models.sqrf import SparseQuantileForest
from sirdar.forecasting.neural import NeuralForecaster, Setting
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.training import Precision, Training
from sirdar.forecasting.windows import Windows
from sirdar.testing.forecasters import changed_future, example_panel, panel_of

RUNGS = (MQCNN, MQRNN, MQTransformer)
each_rung = pytest.mark.parametrize("rung", RUNGS)


def covariate_panel() -> Panel:
    panel = example_panel()
    rng = np.random.default_rng(4)
    count = len(panel.target)
    return replace(
        panel,
        past={"orders": rng.gamma(2, 3, count).astype(np.float32)},
        future={"price": rng.gamma(9, 1, count).astype(np.float32)},
        static={"kind": np.array(["a", "b", "a", "b", "a", "b"], dtype=object)},
    )


@each_rung
def test_the_future_is_not_seen(rung: type[NeuralForecaster]) -> None:
    panel = covariate_panel()
    model = rung(4, steps=3, width=8).fit(panel)
    expected = model.predict(panel).values
    assert np.array_equal(model.predict(changed_future(panel)).values, expected)
    offset = np.arange(len(panel.target)) - panel.indptr[:-1][panel.step_series]
    later = offset >= panel.history[panel.step_series]
    past = {"orders": np.where(later, np.float32(999), panel.past["orders"])}
    assert np.array_equal(model.predict(replace(panel, past=past)).values, expected)
    # The plan ahead is seen, and only as far as the horizon.
    price = panel.future["price"]
    within = later & (offset < panel.history[panel.step_series] + 4)
    planned = replace(panel, future={"price": np.where(within, price + 5, price)})
    assert not np.array_equal(model.predict(planned).values, expected)
    beyond = replace(panel, future={"price": np.where(later & ~within, price + 5, price)})
    assert np.array_equal(model.predict(beyond).values, expected)


@each_rung
def test_training_does_not_see_past_a_cut(rung: type[NeuralForecaster]) -> None:
    panel = covariate_panel()
    spoilt = changed_future(panel.cut(6))
    made = [rung(3, steps=3, width=8).fit(p).predict(p).values for p in (panel.cut(6), spoilt)]
    assert np.array_equal(*made)


@each_rung
def test_a_series_is_forecast_alike_alone_and_in_company(rung: type[NeuralForecaster]) -> None:
    panel = covariate_panel()
    model = rung(3, steps=3, width=8).fit(panel)
    together = model.predict(panel).values
    alone = np.concatenate([model.predict(panel.select(np.array([row]))).values for row in range(len(panel))])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


@each_rung
def test_more_series_than_a_chunk_are_all_forecast(
    rung: type[NeuralForecaster], monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = example_panel()
    model = rung(3, steps=3, width=8).fit(panel)
    expected = model.predict(panel).values
    monkeypatch.setattr("sirdar.forecasting.neural._CHUNK", 4)
    np.testing.assert_allclose(model.predict(panel).values, expected, rtol=1e-4, atol=1e-5)


@each_rung
def test_the_seed_alone_decides(rung: type[NeuralForecaster]) -> None:
    panel = example_panel()

    def forecast(seed: int, around: int) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(around)
            return rung(3, steps=3, width=8, seed=seed).fit(panel).predict(panel).values

    assert np.array_equal(forecast(1, around=5), forecast(1, around=6))
    assert not np.array_equal(forecast(1, around=5), forecast(2, around=5))


@each_rung
def test_saved_and_loaded_it_is_the_same_and_draws_nothing(rung: type[NeuralForecaster], tmp_path: Path) -> None:
    panel = covariate_panel()
    model = rung(3, steps=3, width=8, levels=(0.25, 0.5, 0.99), seed=7).fit(panel)
    model.save(tmp_path / "m")
    before = torch.random.get_rng_state()
    loaded = rung.load(str(tmp_path / "m"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(loaded.predict(panel).values, model.predict(panel).values)
    assert (loaded.levels, loaded.seed) == ((0.25, 0.5, 0.99), 7)
    assert loaded.learned is not None
    assert model.learned is not None
    assert (loaded.learned.frequency, loaded.learned.encoding) == (panel.frequency, model.learned.encoding)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "weights.safetensors"]
    with pytest.raises(DataError, match="that Sirdar saved"):
        rung.load(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("encoding", "past"), [], r"sees \(1, 1, 2\) channels, but its covariates are \(0, 1, 2\)"),
        (("encoding", "yearly"), True, r"sees \(1, 1, 2\) channels, but its covariates are \(1, 7, 2\)"),
        (("setting", "length"), -1, "length must be a positive integer, got -1"),
        (("setting", "length"), 10**9, "windows are of at most 256 steps, got 1000000000"),
        (("setting", "season"), 0, "season must be a positive integer, got 0"),
        (("setting", "typical"), np.nan, "typical demand must be a number above zero, got nan"),
    ],
)
def test_an_edited_config_is_refused_in_a_sentence(
    place: tuple[str, str], value: object, sentence: str, tmp_path: Path
) -> None:
    MQCNN(3, steps=1, width=4).fit(covariate_panel()).save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config[place[0]][place[1]] = value
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=rf"m: .*{sentence}.*; train it again"):
        MQCNN.load(tmp_path / "m")


@each_rung
def test_two_levels_of_demand_are_learned(rung: type[NeuralForecaster]) -> None:
    # Constant demand of 2 and of 50, no noise: medians must find both, and intervals narrow down.
    panel = panel_of([np.full(30, 2.0 if i % 2 else 50.0) for i in range(16)])
    values = rung(3, steps=150, width=16).fit(panel).predict(panel).values
    level = np.where(np.arange(16) % 2, 2.0, 50.0)[:, None]
    np.testing.assert_allclose(values[:, :, 4] / level, 1, atol=0.15)
    assert ((values[:, :, 8] - values[:, :, 0]) / level).max() < 0.8


@each_rung
def test_a_network_for_signed_demand_can_be_negative(rung: type[NeuralForecaster]) -> None:
    panel = panel_of(np.random.default_rng(0).normal(-20, 5, (6, 25)))
    forecast = rung(2, steps=60, width=8).fit(panel).predict(panel)
    assert forecast.floor == -np.inf
    assert forecast.median().mean() < 0


@each_rung
def test_histories_longer_than_a_window_are_learned_from(
    rung: type[NeuralForecaster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sirdar.forecasting.neural._LONGEST_WINDOW", 10)
    panel = example_panel()
    model = rung(3, steps=3, width=8).fit(panel)
    assert model.learned is not None
    assert model.learned.length == 10
    assert np.isfinite(model.predict(panel).values).all()


@each_rung
def test_the_inference_module_is_the_forecast(rung: type[NeuralForecaster]) -> None:
    panel = example_panel()
    model = rung(3, steps=3, width=8).fit(panel)
    module, example = model.inference(batch=5)
    assert module(*example).shape == (5, 3, 9)
    assert not module.training
    assert model.learned is not None
    inputs = Windows(panel, model.learned.encoding, model.learned.length, 3).inputs(np.arange(len(panel)))
    assert [part.shape[1:] for part in inputs] == [part.shape[1:] for part in example]
    with torch.inference_mode():
        found = module(*inputs).numpy()
    # Demand is in whole units here, and so are its quantiles.
    seen = panel.observations() > 0  # what was never sold is forecast by look-alikes too
    np.testing.assert_array_equal(np.floor(found + np.float32(0.5))[seen], model.predict(panel).values[seen])
    model.learned = replace(model.learned, setting=replace(model.learned.setting, whole=False))
    np.testing.assert_allclose(found[seen], model.predict(panel).values[seen], rtol=1e-6)
    model.learned = replace(model.learned, alike=None)
    np.testing.assert_allclose(found, model.predict(panel).values, rtol=1e-6)


@each_rung
def test_wrong_use_is_refused_in_a_sentence(rung: type[NeuralForecaster]) -> None:
    with pytest.raises(ArgumentError, match="not learned anything yet"):
        rung(3).predict(example_panel())
    with pytest.raises(ArgumentError, match="not learned anything yet"):
        rung(3).save("nowhere")
    with pytest.raises(ArgumentError, match="no observed step"):
        rung(3).fit(panel_of([[np.nan] * 5, []]))
    with pytest.raises(ArgumentError, match="levels must rise"):
        rung(3, levels=(0.9, 0.1))
    with pytest.raises(ArgumentError, match="steps must be a positive integer"):
        rung(3, steps=0)
    model = rung(3, steps=1, width=8).fit(covariate_panel())
    with pytest.raises(ArgumentError, match="past covariate 'orders'"):
        model.predict(example_panel())
    with pytest.raises(ArgumentError, match="learned weekly demand, but the panel is daily"):
        model.predict(panel_of([[1, 2, 3]], unit="D"))


@each_rung
def test_a_killed_training_goes_on_to_the_same_result(rung: type[NeuralForecaster], tmp_path: Path) -> None:
    panel = covariate_panel()
    options = Training(checkpoint=tmp_path, patience=30)

    def fitted(progress: Callable[[float], None] | None) -> np.ndarray:
        return rung(3, steps=40, width=8, training=options, progress=progress).fit(panel).predict(panel).values

    expected = fitted(None)
    assert not list(tmp_path.iterdir())

    def kill(done: float) -> None:
        if done >= 0.52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(kill)
    assert len(list(tmp_path.iterdir())) == 1
    begun: list[float] = []
    assert np.array_equal(fitted(begun.append), expected)
    assert begun[0] > 0.5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "bf16-sr"])
@pytest.mark.parametrize("rung", [*RUNGS, FeedForward])
def test_what_ends_a_training_early_leaves_the_forecaster_as_it_was(
    rung: type[NeuralForecaster | FeedForward], precision: Precision
) -> None:
    def ended(done: float) -> None:
        if done >= 0.5:
            raise KeyboardInterrupt

    panel = covariate_panel()
    model = rung(3, steps=4, width=8, training=Training(precision=precision), progress=ended)
    with pytest.raises(KeyboardInterrupt):
        model.fit(panel)
    with pytest.raises(ArgumentError, match="has not learned anything yet"):
        model.predict(panel)
    model.progress = None
    expected = model.fit(panel).predict(panel).values
    model.progress = ended
    for train in (model.fit, model.update):
        with pytest.raises(KeyboardInterrupt):
            train(panel.cut(2))
        assert np.array_equal(model.predict(panel).values, expected)


@each_rung
def test_a_killed_update_goes_on_to_the_same_result(rung: type[NeuralForecaster], tmp_path: Path) -> None:
    panel, options = covariate_panel(), Training(checkpoint=tmp_path)
    model = rung(3, steps=4, width=8, training=options).fit(panel)
    expected = copy.deepcopy(model).update(panel, steps=20).predict(panel).values

    def ended(done: float) -> None:
        if done >= 0.5:
            raise KeyboardInterrupt

    model.progress = ended
    with pytest.raises(KeyboardInterrupt):
        model.update(panel, steps=20)
    begun: list[float] = []
    model.progress = begun.append
    assert np.array_equal(model.update(panel, steps=20).predict(panel).values, expected)
    assert begun[0] == pytest.approx(0.55)


@pytest.mark.parametrize("patience", [None, 30])
def test_a_checkpoint_of_other_data_is_not_taken(tmp_path: Path, patience: int | None) -> None:
    def kill(done: float) -> None:
        if done >= 0.5:
            raise KeyboardInterrupt

    panel = example_panel()
    last = np.arange(len(panel.target)) - panel.indptr[:-1][panel.step_series] == panel.history[panel.step_series] - 1
    corrected = replace(
        panel, target=np.where(last, panel.target + 1, panel.target)
    )  # held out, where there is patience
    options = Training(checkpoint=tmp_path, patience=patience)
    with pytest.raises(KeyboardInterrupt):
        MQCNN(3, steps=10, width=8, training=options, progress=kill).fit(panel)
    for other in (example_panel(seed=1), corrected):
        begun: list[float] = []
        MQCNN(3, steps=10, width=8, training=options, progress=begun.append).fit(other)
        assert begun[0] == pytest.approx(0.1)


def test_a_broken_checkpoint_is_refused_in_a_sentence(tmp_path: Path) -> None:
    def kill(done: float) -> None:
        if done >= 0.5:
            raise KeyboardInterrupt

    forecaster = MQCNN(3, steps=10, width=8, training=Training(checkpoint=tmp_path), progress=kill)
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(example_panel())
    next(tmp_path.iterdir()).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a file of weights and facts .*; remove it to train"):
        forecaster.fit(example_panel())


def test_early_stopping_keeps_the_best_weights() -> None:
    # Noise alone: there is nothing to learn beyond the level, so that validation soon gets worse.
    panel = panel_of(np.random.default_rng(0).poisson(3, (4, 30)))
    done: list[float] = []
    options = Training(patience=2, learning_rate=0.05)
    MQCNN(3, steps=400, width=16, training=options, progress=done.append).fit(panel)
    assert done[-1] < 1


def test_held_out_steps_do_not_train() -> None:
    panel = panel_of(np.random.default_rng(0).poisson(9, (6, 30)))
    target = panel.target.copy()
    offset = np.arange(len(target)) % 30
    changed = replace(panel, target=np.where(offset >= 27, target + 1, target))
    options = Training(patience=100)  # never stops, so that only the best weights could differ
    seen = panel.cut(3)
    made = [MQCNN(3, steps=19, width=8, training=options).fit(p).predict(seen).values for p in (panel, changed)]
    # 19 steps are validated at each; a shift of all held-out demand by one may choose other weights, not make new ones.
    assert np.isfinite(made[0]).all()
    with pytest.raises(ArgumentError, match="patience needs series with more than 9 steps"):
        MQCNN(9, steps=2, width=8, training=options).fit(panel_of([[1.0, 2.0, 3.0]]))


@each_rung
def test_an_update_learns_new_data_from_where_it_stood(rung: type[NeuralForecaster]) -> None:
    old = panel_of([np.full(30, 4.0) for _ in range(8)])
    new = panel_of([np.full(30, 9.0) for _ in range(8)])
    model = rung(3, steps=80, width=16).fit(old)
    before = np.abs(model.predict(new).median() - 9).mean()
    assert model.update(new, steps=60) is model
    assert np.abs(model.predict(new).median() - 9).mean() < max(before, 0.9)
    with pytest.raises(ArgumentError, match="not learned anything yet"):
        rung(3).update(new)
    with pytest.raises(ArgumentError, match="but the panel is daily"):
        model.update(panel_of([[1, 2, 3]], unit="D"))


def test_an_update_learns_what_demand_is() -> None:
    model = MQCNN(3, steps=10, width=8).fit(panel_of([np.full(30, 4.0)] * 4))
    with pytest.raises(ArgumentError, match="learned that demand is never negative"):
        model.update(panel_of([np.full(30, -4.0)] * 4))
    fractions = panel_of([np.full(30, 0.3)] * 4)
    assert (model.update(fractions, steps=5).predict(fractions).values % 1 != 0).any()


@pytest.mark.parametrize("precision", ["bf16", "bf16-sr", "bf16-nearest"])
@each_rung
def test_weights_may_be_16_bit(rung: type[NeuralForecaster], precision: str, tmp_path: Path) -> None:
    panel = covariate_panel()
    model = rung(3, steps=30, width=8, training=Training(precision=precision)).fit(panel)
    values = model.predict(panel).values
    exact = rung(3, steps=30, width=8).fit(panel).predict(panel).values
    assert np.isfinite(values).all()
    assert np.abs(values - exact).mean() < 0.2 * np.abs(exact).mean()
    model.save(tmp_path / "m")
    assert np.array_equal(rung.load(tmp_path / "m").predict(panel).values, values)
    if precision != "bf16":  # every weight is one of bf16's numbers
        assert model.learned is not None
        for weight in model.learned.network.parameters():
            assert torch.equal(weight, weight.bfloat16().float())


def test_a_new_product_is_learned_from_past_launches() -> None:
    # Products are launched all the time, those of kind "a" at 15 a week, of kind "b" at 40.
    rng = np.random.default_rng(0)
    kinds = np.array(["a", "b"] * 30, dtype=object)
    starts = rng.integers(0, 25, len(kinds))
    rows = [rng.poisson(15 if kind == "a" else 40, 40 - start) for kind, start in zip(kinds, starts, strict=True)]
    panel = replace(panel_of(rows, start=starts.tolist()), static={"kind": kinds})
    model = MQCNN(4, steps=400, width=16).fit(panel)
    assert model.learned is not None
    model.learned = replace(model.learned, alike=None)  # what the network itself has learned
    unseen = replace(panel_of([[], []], start=[40, 40]), static={"kind": np.array(["a", "b"], dtype=object)})
    medians = model.predict(unseen).median().mean(axis=1)
    assert medians[0] == pytest.approx(15, rel=0.35)
    assert medians[1] == pytest.approx(40, rel=0.35)


@pytest.mark.parametrize("rung", [MQCNN, MQRNN, pytest.param(MQTransformer, marks=pytest.mark.slow)])
def test_a_new_product_is_learned_from_beginnings_where_all_began_together(rung: type[NeuralForecaster]) -> None:
    rng = np.random.default_rng(0)
    kinds = np.array(["a", "b"] * 30, dtype=object)
    panel = replace(panel_of([rng.poisson(15 if kind == "a" else 40, 40) for kind in kinds]), static={"kind": kinds})
    model = rung(4, steps=400, width=16).fit(panel)
    assert model.learned is not None
    model.learned = replace(model.learned, alike=None)
    unseen = replace(panel_of([[], []], start=[40, 40]), static={"kind": np.array(["a", "b"], dtype=object)})
    medians = model.predict(unseen).median().mean(axis=1)
    assert medians[0] == pytest.approx(15, rel=0.35)
    assert medians[1] == pytest.approx(40, rel=0.35)


@each_rung
def test_after_a_short_training_a_new_product_is_forecast_as_its_look_alikes_sold(
    rung: type[NeuralForecaster], tmp_path: Path
) -> None:
    rng = np.random.default_rng(17)
    kinds = np.array(["a", "b"] * 20, dtype=object)
    starts = rng.integers(0, 25, len(kinds))
    rows = [rng.poisson(3 if kind == "a" else 50, 40 - start) for kind, start in zip(kinds, starts, strict=True)]
    panel = replace(panel_of(rows, start=starts.tolist()), static={"kind": kinds})
    model = rung(4, width=16).fit(panel)  # some 20 steps, in which it learns nothing of kinds
    unseen = replace(panel_of([[], []], start=[40, 40]), static={"kind": np.array(["a", "b"], dtype=object)})
    found = model.predict(unseen)
    medians = found.median().mean(axis=1)
    assert medians[0] == pytest.approx(3, rel=0.35)
    assert medians[1] == pytest.approx(50, rel=0.35)
    model.save(tmp_path / "m")
    assert np.array_equal(rung.load(tmp_path / "m").predict(unseen).values, found.values)


@pytest.mark.parametrize("rung", [MQRNN, FeedForward, SparseQuantileForest])
def test_a_new_product_may_be_far_above_the_others(rung: Callable[..., Any], tmp_path: Path) -> None:
    """A thousand a week where most products sell one: far beyond what is usual, but its kind is known."""
    rng = np.random.default_rng(3)
    kinds = np.array(["a", "b", "c", "d"] * 10, dtype=object)
    starts = rng.integers(0, 25, len(kinds))
    rows = [rng.poisson(1000 if kind == "d" else 1, 40 - start) for kind, start in zip(kinds, starts, strict=True)]
    panel = replace(panel_of(rows, start=starts.tolist()), static={"kind": kinds})
    model = rung(4).fit(panel)
    unseen = replace(panel_of([[], []], start=[40, 40]), static={"kind": np.array(["a", "d"], dtype=object)})
    found = model.predict(unseen)
    assert (found.median()[0] < 5).all()
    np.testing.assert_allclose(found.median()[1], 1000, rtol=0.1)
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m").predict(unseen)
    np.testing.assert_array_equal(again.values, found.values)


@pytest.mark.parametrize("rung", [*RUNGS, FeedForward])
@pytest.mark.parametrize("gap", [3, 12])
def test_steps_out_of_stock_at_the_end_are_not_learned_as_zero(rung: Callable[..., Any], gap: int) -> None:
    """Of demand that is independent and about 30; ten steps make a level."""
    demand = np.random.default_rng(0).poisson(30, (40, 60)).astype(np.float32)
    stock = np.arange(60) < 60 - gap
    panel = replace(panel_of(demand * stock), in_stock=np.tile(stock, 40))
    median = rung(3, steps=150, width=16).fit(panel).predict(panel).median()
    assert median.mean() == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch": 0}, "batch must be a positive integer, got 0"),
        ({"patience": -1}, "patience must be a positive integer, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above zero, got 0.0"),
        ({"seconds": 0.0}, "seconds must be above zero, got 0.0"),
    ],
)
def test_training_options_are_checked(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        Training(**arguments)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", [MQCNN, MQRNN, MQTransformer])
@pytest.mark.parametrize(("levels", "low", "high"), [((0.05,), 2.0, 7.0), ((0.99, 0.995, 0.999), 16.0, 30.0)])
def test_levels_need_not_stand_about_the_median(
    kind: type[MQCNN | MQRNN | MQTransformer], levels: tuple[float, ...], low: float, high: float
) -> None:
    """Poisson demand of mean 10, whose quantiles are 5, and 18 to 21."""
    panel = panel_of(np.random.default_rng(0).poisson(10.0, (30, 60)).astype(float))
    values = kind(3, levels=levels, steps=80, width=8).fit(panel).predict(panel).values
    assert low <= values.mean() <= high
    assert len(np.unique(values)) > 1


def test_a_middle_level_that_is_the_median_changes_no_network() -> None:
    setting = Setting((0, 0, 0), 10, 1, counts=True, typical=1.0, whole=False)
    with training.seeded(0):
        fresh = MQCNN(2, width=8).build(setting)
    for network in (begin_at(copy.deepcopy(fresh), 0.5), MQCNN(2, width=8)._network(setting)):
        assert all(torch.equal(one, other) for one, other in zip(fresh.parameters(), network.parameters(), strict=True))
