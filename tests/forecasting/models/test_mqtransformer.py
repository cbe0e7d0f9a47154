# SPDX-License-Identifier: Apache-2.0
"""MQTransformer's attention against its definition, pair by pair."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from sirdar.forecasting.models.mqtransformer import (
    HEADS,
    MEMORY,
    Feedback,
    HistoryAttention,
    MQTransformer,
    MQTransformerNetwork,
    apart_of,
)
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.scaling import scaled

BATCH, TIME, HORIZON, WIDTH, PLACE = 3, 20, 4, 8, 5
every_distance = pytest.mark.parametrize("origins", [range(6, 15), range(1, 20, 3), range(2, 19, 5)])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: torch.nn.Module, size: float = 0.5) -> None:
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = size * random(*parameter.shape, seed=seed)


@every_distance
def test_each_pair_attends_to_its_own_past_by_softmax(origins: range) -> None:
    """Attention as Vaswani et al. 2017, equation 1, has it, with a sum of two queries and a bias by distance."""
    attention = HistoryAttention(WIDTH, PLACE, TIME, HORIZON)
    randomise(attention)
    hidden, places = random(BATCH, TIME, WIDTH, seed=20), random(BATCH, TIME + HORIZON, PLACE, seed=21)
    demand, observed = random(BATCH, TIME, seed=22).exp(), (random(BATCH, TIME, seed=23) > -0.5).float()
    scale = scaled(demand, observed, 1, 1.0).at(origins)
    found = attention(hidden, places, demand, observed, scale, origins)
    key = attention.key(torch.cat([hidden, places[:, :TIME]], dim=-1)).view(BATCH, TIME, HEADS, -1)
    value = attention.value(hidden).view(BATCH, TIME, HEADS, -1)
    for row, origin in enumerate(origins):
        for step in range(HORIZON):
            target, past = origin + 1 + step, slice(0, origin + 1)
            query = attention.origin_query(hidden[:, origin]) + attention.target_query(places[:, target])
            scores = torch.einsum("bhc,bshc->bhs", query.view(BATCH, HEADS, -1), key[:, past])
            scores = scores / math.sqrt(WIDTH // HEADS) + 20 * (observed[:, None, past] - 1)
            share = torch.softmax(scores + attention.distance[:, target - torch.arange(origin + 1)], dim=-1)
            seen = torch.einsum("bhs,bshc->bhc", share, value[:, past])
            share = share * observed[:, None, past]
            shown = (share * demand[:, None, past]).sum(-1) - scale.location[:, row, None] * share.sum(-1)
            repeated = torch.asinh(shown / scale.spread[:, row, None])
            wanted = attention.join(torch.cat([seen.flatten(1), repeated], dim=-1))
            torch.testing.assert_close(found[:, row, step], wanted, rtol=1e-4, atol=1e-4)


@every_distance
def test_feedback_attends_to_what_earlier_origins_said_of_the_same_step(origins: range) -> None:
    feedback, count, apart = Feedback(WIDTH, origins.step), len(origins), origins.step
    randomise(feedback)
    contexts, medians = random(BATCH, count, HORIZON, WIDTH, seed=20), random(BATCH, count, HORIZON, seed=21)
    errors = random(BATCH, MEMORY + 1, count, seed=22)
    level, spread = random(BATCH, count, seed=23), random(BATCH, count, seed=24).exp()
    found = feedback(contexts, medians, errors, level, spread)

    def said(origin: int, step: int, age: int) -> Tensor:
        now, then = (
            torch.asinh((medians[:, origin - back, step + back * apart] - level[:, origin]) / spread[:, origin])
            for back in (0, age)
        )
        facts = torch.stack([then, errors[:, age, origin], then - now], dim=-1)
        return torch.cat([contexts[:, origin - age, step + age * apart], facts], dim=-1)

    for origin in range(count):
        for step in range(HORIZON):
            ages = range(min(MEMORY, origin, (HORIZON - 1 - step) // apart) + 1)
            past = torch.stack([said(origin, step, age) for age in ages], dim=1)
            scores = (feedback.query(contexts[:, origin, step])[:, None] * feedback.key(past)).sum(-1)
            share = torch.softmax(scores / math.sqrt(WIDTH) + feedback.recency[: len(ages)], dim=-1)
            wanted = (share[..., None] * feedback.value(past)).sum(1)
            torch.testing.assert_close(found[:, origin, step], wanted, rtol=1e-4, atol=1e-4)


def test_an_origin_alone_remembers_what_it_does_among_others() -> None:
    """With a horizon of 15 origins look back on those 3, 6, 9 and 12 steps before them."""
    time, horizon = 30, 15
    model = MQTransformerNetwork((2, 3, 1), horizon, 9, width=8, counts=True, season=7, length=time, typical=3.0)
    randomise(model.eval(), 0.2)
    demand = torch.poisson(torch.full((BATCH, time), 5.0), torch.Generator().manual_seed(0))
    seen = [demand, torch.ones(BATCH, time), random(BATCH, time, 2), random(BATCH, time + horizon, 3), random(BATCH, 1)]
    every = model(*seen)[0]
    assert every.shape[1] == len(range(2, time, 3))
    for origin in (2, 14, time - 1):
        alone = model(*seen, range(origin, origin + 1))[0]
        torch.testing.assert_close(alone[:, 0], every[:, (origin - 2) // 3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("horizon", "season", "apart"),
    [(1, 7, 1), (4, 1, 1), (14, 7, 2), (28, 7, 7), (84, 7, 14), (18, 12, 3), (13, 52, 2)],
)
def test_origins_lie_whole_seasons_or_a_fifth_of_the_horizon_apart(horizon: int, season: int, apart: int) -> None:
    assert apart_of(horizon, season) == apart


@pytest.mark.parametrize("length", [1, 8, 40, 256])
@pytest.mark.parametrize("horizon", [4, 48])
def test_every_step_of_a_window_is_trained_sooner_or_later(length: int, horizon: int) -> None:
    days = pl.date_range(dt.date(2024, 1, 1), dt.date(2024, 1, 1) + dt.timedelta(days=length - 1), eager=True)
    frame = pl.DataFrame({"unique_id": "a", "ds": days, "y": 1.0})
    model = MQTransformer(horizon, steps=1).fit(Panel.read(frame, freq="D"))
    generator = np.random.default_rng(0)
    seen = {step for _ in range(600) for step in model.origins(length, generator)}
    assert seen == set(range(length))
