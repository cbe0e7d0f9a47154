# SPDX-License-Identifier: Apache-2.0
"""MQTransformer's attention against its definition, pair by pair."""

import math

import torch
from torch import Tensor

from sirdar.forecasting.models.mqtransformer import HEADS, MEMORY, Feedback, HistoryAttention
from sirdar.forecasting.scaling import scaled

BATCH, TIME, HORIZON, WIDTH, PLACE = 3, 20, 4, 8, 5
ORIGINS = range(6, 15)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: torch.nn.Module) -> None:
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = 0.5 * random(*parameter.shape, seed=seed)


def test_each_pair_attends_to_its_own_past_by_softmax() -> None:
    """Attention as Vaswani et al. 2017, equation 1, has it, with a sum of two queries and a bias by distance."""
    attention = HistoryAttention(WIDTH, PLACE, TIME, HORIZON)
    randomise(attention)
    hidden, places = random(BATCH, TIME, WIDTH, seed=20), random(BATCH, TIME + HORIZON, PLACE, seed=21)
    demand, observed = random(BATCH, TIME, seed=22).exp(), (random(BATCH, TIME, seed=23) > -0.5).float()
    scale = scaled(demand, observed, 1, 1.0).at(ORIGINS)
    found = attention(hidden, places, demand, observed, scale, ORIGINS)
    key = attention.key(torch.cat([hidden, places[:, :TIME]], dim=-1)).view(BATCH, TIME, HEADS, -1)
    value = attention.value(hidden).view(BATCH, TIME, HEADS, -1)
    for row, origin in enumerate(ORIGINS):
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


def test_feedback_attends_to_what_earlier_origins_said_of_the_same_step() -> None:
    feedback, count = Feedback(WIDTH), len(ORIGINS)
    randomise(feedback)
    contexts, medians = random(BATCH, count, HORIZON, WIDTH, seed=20), random(BATCH, count, HORIZON, seed=21)
    errors = random(BATCH, MEMORY + 1, count, seed=22)
    level, spread = random(BATCH, count, seed=23), random(BATCH, count, seed=24).exp()
    found = feedback(contexts, medians, errors, level, spread)

    def said(origin: int, step: int, age: int) -> Tensor:
        now, then = (
            torch.asinh((medians[:, origin - back, step + back] - level[:, origin]) / spread[:, origin])
            for back in (0, age)
        )
        facts = torch.stack([then, errors[:, age, origin], then - now], dim=-1)
        return torch.cat([contexts[:, origin - age, step + age], facts], dim=-1)

    for origin in range(count):
        for step in range(HORIZON):
            ages = range(min(MEMORY, origin, HORIZON - 1 - step) + 1)
            past = torch.stack([said(origin, step, age) for age in ages], dim=1)
            scores = (feedback.query(contexts[:, origin, step])[:, None] * feedback.key(past)).sum(-1)
            share = torch.softmax(scores / math.sqrt(WIDTH) + feedback.age[: len(ages)], dim=-1)
            wanted = (share[..., None] * feedback.value(past)).sum(1)
            torch.testing.assert_close(found[:, origin, step], wanted, rtol=1e-4, atol=1e-4)
