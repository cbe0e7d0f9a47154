# SPDX-License-Identifier: Apache-2.0
"""The networks of MQ-CNN, MQ-RNN and MQTransformer: what they may see, and what their quantiles may do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from sirdar.forecasting import training
from sirdar.forecasting.models.mqcnn import MQCNNNetwork
from sirdar.forecasting.models.mqrnn import MQRNNNetwork
from sirdar.forecasting.models.mqtransformer import MQTransformerNetwork
from sirdar.forecasting.scaling import Scaled

TIME, HORIZON, LEVELS = 20, 4, 9
CHANNELS = (2, 3, 1)


KINDS = (MQCNNNetwork, MQRNNNetwork, MQTransformerNetwork)
each_kind = pytest.mark.parametrize("kind", KINDS)


def network(
    kind: type[nn.Module], seed: int = 0, *, counts: bool = True, spread: float = 1.0, time: int = TIME
) -> nn.Module:
    with training.seeded(seed):
        made = kind(CHANNELS, HORIZON, LEVELS, width=8, counts=counts, season=4, length=time, typical=3.0).eval()
        with torch.no_grad():
            for weight in made.parameters():
                weight.copy_(spread * weight if weight.any() else 0.1 * spread * torch.randn_like(weight))
    return made


def parts(answer: tuple[torch.Tensor, Scaled]) -> list[torch.Tensor]:
    quantiles, scale = answer
    return [quantiles, *scale]


def inputs(seed: int = 0, batch: int = 3, time: int = TIME) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    past, known, static = CHANNELS
    demand = torch.poisson(torch.full((batch, time), 5.0), generator)
    observed = (torch.rand(batch, time, generator=generator) < 0.8).float()
    covariates = [(time, past), (time + HORIZON, known), (static,)]
    return [
        demand * observed,
        observed,
        *(torch.randn(batch, *shape, generator=generator) for shape in covariates),
    ]


@pytest.mark.parametrize("step", [0, 7, TIME - 2])
@pytest.mark.parametrize("what", [0, 1, 2])  # demand, observed, past covariates
@each_kind
def test_an_origin_does_not_see_what_comes_after_it(kind: type[nn.Module], step: int, what: int) -> None:
    model, seen = network(kind), inputs()
    changed = [part.clone() for part in seen]
    changed[what][:, step + 1 :] = 1 - changed[what][:, step + 1 :] * 3
    if what == 1:
        changed[1] = (changed[1] > 0).float()
    before, after = parts(model(*seen)), parts(model(*changed))
    for first, second in zip(before, after, strict=True):
        assert torch.equal(first[:, : step + 1], second[:, : step + 1])
    assert not torch.equal(before[0][:, step + 1 :], after[0][:, step + 1 :])


@each_kind
def test_an_origin_knows_its_horizon_ahead_and_no_more(kind: type[nn.Module]) -> None:
    model, seen = network(kind), inputs()
    changed = [part.clone() for part in seen]
    changed[3][:, 12:] += 1  # known covariates from step 12 on: within the horizon of origins 8 and later
    before, after = model(*seen)[0], model(*changed)[0]
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8], after[:, 8])


@each_kind
def test_the_last_origin_alone_is_the_last_of_all(kind: type[nn.Module]) -> None:
    model, seen = network(kind), inputs()
    quantiles, scale = model(*seen)
    last_quantiles, last_scale = model(*seen, range(TIME - 1, TIME))
    assert quantiles.shape == (3, TIME, HORIZON, LEVELS)
    assert last_quantiles.shape == (3, 1, HORIZON, LEVELS)
    torch.testing.assert_close(last_quantiles, quantiles[:, -1:], rtol=1e-5, atol=1e-6)
    for last, every in zip(last_scale, scale, strict=True):
        assert torch.equal(last, every[:, -1:])


@pytest.mark.parametrize("kind", [MQCNNNetwork, MQRNNNetwork])
def test_spread_origins_are_some_of_all(kind: type[nn.Module]) -> None:
    model, seen = network(kind), inputs()
    some = range(2, TIME, 5)
    for few, every in zip(parts(model(*seen, some)), parts(model(*seen)), strict=True):
        torch.testing.assert_close(few, every[:, some.start :: some.step], rtol=1e-5, atol=1e-6)


@each_kind
def test_masked_demand_is_ignored(kind: type[nn.Module]) -> None:
    model, seen = network(kind), inputs()
    changed = [torch.where(seen[1] > 0, seen[0], torch.tensor(777.0)), *seen[1:]]
    for before, after in zip(parts(model(*seen)), parts(model(*changed)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("kind", [MQCNNNetwork, MQRNNNetwork])
def test_means_of_a_long_window_tell_each_origin_its_own_past(kind: type[nn.Module]) -> None:
    time, step = 200, 150
    model, seen = network(kind, time=time), inputs(time=time)
    assert len(model.decoder.long) == 5
    quantiles = model(*seen)[0]
    torch.testing.assert_close(model(*seen, range(time - 1, time))[0], quantiles[:, -1:], rtol=1e-5, atol=1e-6)
    later = seen[0].clone()
    later[:, step + 1 :] = 777.0
    assert torch.equal(model(later, *seen[1:])[0][:, : step + 1], quantiles[:, : step + 1])
    masked = torch.where(seen[1] > 0, seen[0], torch.tensor(777.0))
    assert torch.equal(model(masked, *seen[1:])[0], quantiles)
    # With encoder and scale held fixed, only the long run tells what is older than the recent steps.
    older, origins = seen[0].clone(), range(step, step + 1)
    older[:, :20] += 9
    here, hidden = model(*seen, origins)[1], torch.zeros(3, 1, 8)
    before, after = (model.decoder(hidden, demand, seen[1], seen[3], here, origins) for demand in (seen[0], older))
    assert not torch.equal(before, after)


sizes = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**60, width=32))


@settings(max_examples=60)
@given(
    st.integers(0, 1000),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 30.0]),
    hnp.arrays(np.float32, (2, TIME), elements=sizes),
    hnp.arrays(np.float32, (2, TIME), elements=st.sampled_from([0.0, 1.0])),
)
@each_kind
def test_quantiles_do_not_cross(
    kind: type[nn.Module],
    seed: int,
    counts: bool,  # noqa: FBT001
    spread: float,
    demand: np.ndarray,
    observed: np.ndarray,
) -> None:
    model = network(kind, seed, counts=counts, spread=spread)
    seen = inputs(seed, batch=2)
    signed = demand if counts else demand * np.resize([1, -1], TIME).astype(np.float32)
    with torch.inference_mode():
        quantiles, scale = model(torch.from_numpy(signed), torch.from_numpy(observed), *seen[2:])
    assert torch.isfinite(quantiles).all()
    assert all(torch.isfinite(part).all() for part in scale)
    # Non-decreasing up to the rounding of tanh and sinh; `predict` removes even that.
    falls = torch.diff(quantiles, dim=-1)
    assert (falls >= -2e-6 * quantiles[..., 1:].abs()).all()
    assert (scale.spread > 0).all()
    assert (scale.error > 0).all()
    if counts:
        assert (quantiles >= 0).all()
