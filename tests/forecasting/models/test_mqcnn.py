# SPDX-License-Identifier: Apache-2.0
"""MQ-CNN: what it may see, what its quantiles may do, and that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting import training
from sirdar.forecasting.models.mqcnn import MQCNN, MQCNNNetwork
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Windows
from sirdar.testing.forecasters import changed_future, example_panel, panel_of

TIME, HORIZON, LEVELS = 20, 4, 9
CHANNELS = (2, 3, 1)


def network(seed: int = 0, *, counts: bool = True, spread: float = 1.0) -> MQCNNNetwork:
    with training.seeded(seed):
        made = MQCNNNetwork(CHANNELS, HORIZON, LEVELS, width=8, depth=4, counts=counts).eval()
        with torch.no_grad():
            for weight in made.parameters():
                weight.mul_(spread)
    return made


def inputs(seed: int = 0, batch: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    past, known, static = CHANNELS
    demand = torch.poisson(torch.full((batch, TIME), 5.0), generator)
    observed = (torch.rand(batch, TIME, generator=generator) < 0.8).float()
    covariates = [(TIME, past), (TIME + HORIZON, known), (static,)]
    return [
        demand * observed,
        observed,
        *(torch.randn(batch, *shape, generator=generator) for shape in covariates),
    ]


@pytest.mark.parametrize("step", [0, 7, TIME - 2])
@pytest.mark.parametrize("what", [0, 1, 2])  # demand, observed, past covariates
def test_an_origin_does_not_see_what_comes_after_it(step: int, what: int) -> None:
    model, seen = network(), inputs()
    changed = [part.clone() for part in seen]
    changed[what][:, step + 1 :] = 1 - changed[what][:, step + 1 :] * 3
    if what == 1:
        changed[1] = (changed[1] > 0).float()
    before, after = model(*seen), model(*changed)
    for first, second in zip(before, after, strict=True):
        assert torch.equal(first[:, : step + 1], second[:, : step + 1])
    assert not torch.equal(before[0][:, step + 1 :], after[0][:, step + 1 :])


def test_an_origin_knows_its_horizon_ahead_and_no_more() -> None:
    model, seen = network(), inputs()
    changed = [part.clone() for part in seen]
    changed[3][:, 12:] += 1  # known covariates from step 12 on: within the horizon of origins 8 and later
    before, after = model(*seen)[0], model(*changed)[0]
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8], after[:, 8])


def test_the_last_origin_alone_is_the_last_of_all() -> None:
    model, seen = network(), inputs()
    quantiles, scale = model(*seen)
    last_quantiles, last_scale = model(*seen, last_only=True)
    assert quantiles.shape == (3, TIME, HORIZON, LEVELS)
    assert last_quantiles.shape == (3, 1, HORIZON, LEVELS)
    torch.testing.assert_close(last_quantiles, quantiles[:, -1:], rtol=1e-5, atol=1e-6)
    assert torch.equal(last_scale, scale[:, -1:])


def test_masked_demand_is_ignored() -> None:
    model, seen = network(), inputs()
    changed = [torch.where(seen[1] > 0, seen[0], torch.tensor(777.0)), *seen[1:]]
    for before, after in zip(model(*seen), model(*changed), strict=True):
        assert torch.equal(before, after)


sizes = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**60, width=32))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 30.0]),
    hnp.arrays(np.float32, (2, TIME), elements=sizes),
    hnp.arrays(np.float32, (2, TIME), elements=st.sampled_from([0.0, 1.0])),
)
def test_quantiles_do_not_cross(
    seed: int,
    counts: bool,  # noqa: FBT001
    spread: float,
    demand: np.ndarray,
    observed: np.ndarray,
) -> None:
    model = network(seed, counts=counts, spread=spread)
    seen = inputs(seed, batch=2)
    signed = demand if counts else demand * np.resize([1, -1], TIME).astype(np.float32)
    with torch.inference_mode():
        quantiles, scale = model(torch.from_numpy(signed), torch.from_numpy(observed), *seen[2:])
    assert torch.isfinite(quantiles).all()
    assert torch.isfinite(scale).all()
    # Non-decreasing up to the rounding of tanh and sinh; `predict` removes even that.
    falls = torch.diff(quantiles, dim=-1)
    assert (falls >= -2e-6 * quantiles[..., 1:].abs()).all()
    assert (scale > 0).all()
    if counts:
        assert (quantiles >= 0).all()


def test_the_forecast_moves_with_the_scale_of_demand() -> None:
    # Above a few units the additive constants of the scale and of the long-run average no longer tell.
    panel = panel_of(np.random.default_rng(0).poisson(400, (8, 30)))
    model = MQCNN(3, steps=5, width=8).fit(panel)
    small = model.predict(panel).values
    large = model.predict(replace(panel, target=panel.target * 1000)).values
    # log(level) is an input on purpose, since small demand is noisier; without it the rest is equivariant.
    assert model.network is not None
    with torch.no_grad():
        model.network.embed.weight[:, 3] = 0
    np.testing.assert_allclose(
        model.predict(replace(panel, target=panel.target * 1000)).values, model.predict(panel).values * 1000, rtol=0.01
    )
    ratio = large / small
    assert (ratio > 500).all()
    assert (ratio < 2000).all()


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


def test_the_future_is_not_seen() -> None:
    panel = covariate_panel()
    model = MQCNN(4, steps=3, width=8).fit(panel)
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


def test_training_does_not_see_past_a_cut() -> None:
    panel = covariate_panel()
    spoilt = changed_future(panel.cut(6))
    made = [MQCNN(3, steps=3, width=8).fit(p).predict(p).values for p in (panel.cut(6), spoilt)]
    assert np.array_equal(*made)


def test_a_series_is_forecast_alike_alone_and_in_company() -> None:
    panel = covariate_panel()
    model = MQCNN(3, steps=3, width=8).fit(panel)
    together = model.predict(panel).values
    alone = np.concatenate([model.predict(panel.select(np.array([row]))).values for row in range(len(panel))])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


def test_more_series_than_a_chunk_are_all_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = example_panel()
    model = MQCNN(3, steps=3, width=8).fit(panel)
    expected = model.predict(panel).values
    monkeypatch.setattr("sirdar.forecasting.models.mqcnn._CHUNK", 4)
    np.testing.assert_allclose(model.predict(panel).values, expected, rtol=1e-4, atol=1e-5)


def test_the_seed_alone_decides() -> None:
    panel = example_panel()

    def forecast(seed: int, around: int) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(around)
            return MQCNN(3, steps=3, width=8, seed=seed).fit(panel).predict(panel).values

    assert np.array_equal(forecast(1, around=5), forecast(1, around=6))
    assert not np.array_equal(forecast(1, around=5), forecast(2, around=5))


def test_saved_and_loaded_it_is_the_same_and_draws_nothing(tmp_path: Path) -> None:
    panel = covariate_panel()
    model = MQCNN(3, steps=3, width=8, levels=(0.25, 0.5, 0.99), seed=7).fit(panel)
    model.save(tmp_path / "m")
    before = torch.random.get_rng_state()
    loaded = MQCNN.load(str(tmp_path / "m"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(loaded.predict(panel).values, model.predict(panel).values)
    assert (loaded.levels, loaded.seed, loaded.frequency) == ((0.25, 0.5, 0.99), 7, panel.frequency)
    assert loaded.encoding == model.encoding
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "weights.safetensors"]
    with pytest.raises(DataError, match="not a saved forecaster"):
        MQCNN.load(tmp_path)


def test_two_levels_of_demand_are_learned() -> None:
    # Constant demand of 2 and of 50, no noise: medians must find both, and intervals narrow down.
    panel = panel_of([np.full(30, 2.0 if i % 2 else 50.0) for i in range(16)])
    values = MQCNN(3, steps=150, width=16).fit(panel).predict(panel).values
    level = np.where(np.arange(16) % 2, 2.0, 50.0)[:, None]
    np.testing.assert_allclose(values[:, :, 4] / level, 1, atol=0.15)
    assert ((values[:, :, 8] - values[:, :, 0]) / level).max() < 0.8


def test_a_network_for_signed_demand_can_be_negative() -> None:
    panel = panel_of(np.random.default_rng(0).normal(-20, 5, (6, 25)))
    forecast = MQCNN(2, steps=60, width=8).fit(panel).predict(panel)
    assert forecast.floor == -np.inf
    assert forecast.median().mean() < 0


def test_histories_longer_than_a_window_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sirdar.forecasting.models.mqcnn._LONGEST_WINDOW", 10)
    panel = example_panel()
    model = MQCNN(3, steps=3, width=8).fit(panel)
    assert model.length == 10
    assert np.isfinite(model.predict(panel).values).all()


def test_the_inference_module_is_the_forecast() -> None:
    panel = example_panel()
    model = MQCNN(3, steps=3, width=8).fit(panel)
    module, example = model.inference(batch=5)
    assert module(*example).shape == (5, 3, 9)
    assert not module.training
    inputs = Windows(panel, model.encoding, model.length, 3).inputs(np.arange(len(panel)))
    assert [part.shape[1:] for part in inputs] == [part.shape[1:] for part in example]
    with torch.inference_mode():
        np.testing.assert_allclose(module(*inputs).numpy(), model.predict(panel).values, rtol=1e-6)


def test_wrong_use_is_refused_in_a_sentence() -> None:
    with pytest.raises(ArgumentError, match="not learned anything yet"):
        MQCNN(3).predict(example_panel())
    with pytest.raises(ArgumentError, match="not learned anything yet"):
        MQCNN(3).save("nowhere")
    with pytest.raises(ArgumentError, match="no observed step"):
        MQCNN(3).fit(panel_of([[np.nan] * 5, []]))
    with pytest.raises(ArgumentError, match="levels must rise"):
        MQCNN(3, levels=(0.9, 0.1))
    with pytest.raises(ArgumentError, match="steps must be a positive integer"):
        MQCNN(3, steps=0)
    model = MQCNN(3, steps=1, width=8).fit(covariate_panel())
    with pytest.raises(ArgumentError, match="past covariate 'orders'"):
        model.predict(example_panel())
    with pytest.raises(ArgumentError, match="learned weekly demand, but the panel is daily"):
        model.predict(panel_of([[1, 2, 3]], unit="D"))
