# SPDX-License-Identifier: Apache-2.0
"""MQTransformer: MQ-CNN's encoder with attention in the decoder (Eisenach, Patel, Madeka 2020, arXiv:2009.14799).

* Horizon-specific decoder-encoder attention: each (origin, horizon) pair picks the steps of history that tell about its
  target, by a position encoding learned from the calendar, event and price covariates of the target and of the past.
* Decoder self-attention: each pair sees what earlier origins said about the same target step, and how wrong those
  origins have been since (feedback), so that forecasts are revised only as far as news demands.

Differences from the paper: what is attended to includes demand itself in units of the present scale, so that attention
can repeat a past peak; keys also carry their distance to the target; origins that look back on each other lie about a
fifth of the horizon apart, since what neighbours say differs little; training takes a run of these from each window.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.forecasting.convolution import ConvolutionalEncoder, depth_of
from sirdar.forecasting.decoding import Decoder, joined, monotone, steps_of
from sirdar.forecasting.neural import Learned, NeuralForecaster, Setting
from sirdar.forecasting.scaling import Scaled, scaled
from sirdar.forecasting.training import Training
from sirdar.predictive import DECILES
from sirdar.predictive.forecast import require_levels

HEADS = 4
_NEAR = 5  # steps whose covariates make a position encoding
_FARTHEST = 40.0  # exp(-80) and exp(80) are numbers in fp32
MEMORY = 4  # earlier origins whose forecasts are seen again


def apart_of(horizon: int, season: int) -> int:
    """Steps from one origin to the next that looks back on it: a fifth of the horizon, so that all still speak of it.

    Where the horizon holds three seasons they are whole ones: what is looked back on was said on the same weekday.
    """
    fifth = horizon / (MEMORY + 1)
    return season * max(1, round(fifth / season)) if 1 < season <= horizon // 3 else max(1, int(fifth))


class HistoryAttention(nn.Module):
    """What of the history each (origin, horizon) pair attends to.

    Args:
        width: channels of the encoder.
        place: channels of the position encoding.
        length: steps of a window.
        horizon: steps to forecast.
    """

    def __init__(self, width: int, place: int, length: int, horizon: int) -> None:
        super().__init__()
        self.origin_query = nn.Linear(width, width)
        self.target_query = nn.Linear(place, width, bias=False)
        self.key = nn.Linear(width + place, width)
        self.value = nn.Linear(width, width)
        self.distance = nn.Parameter(torch.zeros(HEADS, length + horizon + 1))
        self.join = nn.Linear(width + HEADS, width)

    def forward(
        self,
        hidden: Float[Tensor, "batch time width"],
        places: Float[Tensor, "batch reach place"],
        demand: Float[Tensor, "batch time"],
        observed: Float[Tensor, "batch time"],
        scale: Scaled,
        origins: range,
    ) -> Float[Tensor, "batch origin horizon width"]:
        """Values and demand of the attended steps, for all pairs.

        A pair's score is a sum of what its origin and what its target step say of a past step, so its weight is a
        product: a matrix product over the past gives many pairs, and no array has an entry for each pair and step.
        """
        horizon, width = places.shape[1] - hidden.shape[1], hidden.shape[2]
        time = origins[-1] + 1  # nothing after it is seen
        hidden, demand, observed = hidden[:, :time], demand[:, :time], observed[:, :time]
        targets = range(origins.start + 1, time + horizon)
        query = self.origin_query(hidden[:, steps_of(origins)]).unflatten(-1, (HEADS, -1))
        sought = self.target_query(places[:, steps_of(targets)]).unflatten(-1, (HEADS, -1))
        key = self.key(torch.cat([hidden, places[:, :time]], dim=-1)).unflatten(-1, (HEADS, -1))
        key = key / math.sqrt(width // HEADS)
        by_origin = torch.einsum("bohc,bshc->bhos", query, key)
        # A step not observed says nothing, unless there is no other.
        by_target = torch.einsum("bthc,bshc->bhts", sought, key) + 20.0 * (observed[:, None, None] - 1)
        step = torch.arange(time, device=hidden.device)
        past = step <= torch.arange(origins.start, origins.stop, origins.step, device=hidden.device)[:, None]
        by_origin = _factor(by_origin, by_origin.masked_fill(~past, -torch.inf)) * past
        by_target = by_target + self._bias(time, targets)
        by_target = _factor(by_target, by_target[..., : origins.start + 1])
        one = torch.ones_like(demand)
        plain = torch.stack([demand * observed, observed, one], dim=-1)[:, :, None].expand(-1, -1, HEADS, -1)
        content = torch.cat([self.value(hidden).unflatten(-1, (HEADS, -1)), plain], dim=-1).transpose(1, 2)
        seen = _attended(by_origin, by_target, content, origins, horizon)
        seen = seen[..., :-1] / seen[..., -1:]
        level, spread = scale.location[..., None, None], scale.spread[..., None, None]
        repeated = torch.asinh((seen[..., -2] - level * seen[..., -1]) / spread)
        return self.join(torch.cat([seen[..., :-2].flatten(3), repeated], dim=-1))

    def _bias(self, time: int, targets: range) -> Float[Tensor, "head target time"]:
        """By the distance from a past step to the target."""
        target = torch.arange(targets.start, targets.stop, device=self.distance.device)
        distance = target[:, None] - torch.arange(time, device=target.device)
        return self.distance[:, distance.clamp(0, self.distance.shape[1] - 1)]


def _factor(
    scores: Float[Tensor, "batch head place time"], past: Float[Tensor, "batch head place past"]
) -> Float[Tensor, "batch head place time"]:
    """One of the two factors of attention's weights, about one at the best of the scores that are past."""
    scores, best = scores.float(), past.detach().float().amax(dim=-1, keepdim=True)
    return torch.exp((scores - best).clamp(-_FARTHEST, _FARTHEST))


def _attended(
    by_origin: Float[Tensor, "batch head origin time"],
    by_target: Float[Tensor, "batch head target time"],
    content: Float[Tensor, "batch head time channel"],
    origins: range,
    horizon: int,
) -> Float[Tensor, "batch origin horizon head channel"]:
    """Sums of the past's content under both factors; the first target is the step after the first origin.

    A product gives all targets of some origins, of which each origin needs `horizon`; few origins waste little.
    """
    parts, some = [], 1 + horizon // origins.step
    for first in range(0, len(origins), some):
        rows = range(first, min(first + some, len(origins)))
        past, begin = origins[rows[-1]] + 1, first * origins.step
        factor = by_origin[:, :, first : rows.stop, :past].transpose(2, 3)[..., None]
        weighed = (factor * content[:, :, :past, None]).flatten(3)
        total = by_target[:, :, begin : rows[-1] * origins.step + horizon, :past] @ weighed
        each = total.unflatten(-1, (len(rows), -1)).transpose(2, 3)
        parts.append(_aligned(each, horizon, origins.step))
    return torch.cat(parts, dim=2).permute(0, 2, 3, 1, 4)


def _aligned(
    values: Float[Tensor, "batch head origin target channel"], horizon: int, apart: int
) -> Float[Tensor, "batch head origin horizon channel"]:
    """Of each origin the targets that follow it: each row begins `apart` later than the one before."""
    rows, columns = values.shape[2:4]
    longer = functional.pad(values.flatten(2, 3), (0, 0, 0, apart * rows))
    return longer.unflatten(2, (rows, columns + apart))[:, :, :, :horizon]


class Feedback(nn.Module):
    """Decoder self-attention over what the last origins said about the same target step, and their errors since.

    Args:
        width: channels of the contexts.
        apart: steps from one origin to the next.
    """

    def __init__(self, width: int, apart: int = 1) -> None:
        super().__init__()
        self.apart = apart
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width + 3, width)
        self.value = nn.Linear(width + 3, width)
        self.recency = nn.Parameter(torch.zeros(MEMORY + 1))

    def forward(
        self,
        contexts: Float[Tensor, "batch origin horizon width"],
        medians: Float[Tensor, "batch origin horizon"],
        errors: Float[Tensor, "batch age origin"],
        level: Float[Tensor, "batch origin"],
        spread: Float[Tensor, "batch origin"],
    ) -> Float[Tensor, "batch origin horizon width"]:
        """Attended past contexts.

        Args:
            contexts: of all pairs.
            medians: first forecasts of all pairs, in units of demand.
            errors: at each origin, the mean error so far of the forecasts made `age` origins earlier.
            level: recent demand at each origin.
            spread: and its spread.
        """
        width, horizon = contexts.shape[-1], contexts.shape[2]
        count, ages = contexts.shape[1], range(MEMORY + 1)
        query = self.query(contexts) / math.sqrt(width)
        # Linear maps of past contexts are shifted, not taken again at every age.
        key = functional.linear(contexts, self.key.weight[:, :width], self.key.bias)
        value = functional.linear(contexts, self.value.weight[:, :width], self.value.bias)
        key_facts, value_facts = self.key.weight[:, width:], self.value.weight[:, width:]
        about = query @ key_facts
        facts = self._facts(medians, errors, level, spread)
        scores = torch.stack([(query * self._shifted(key, age)).sum(-1) for age in ages], dim=-1)
        scores = scores + (facts * about[..., None, :]).sum(-1) + self.recency
        origin = torch.arange(count, device=level.device)[:, None, None]
        step = torch.arange(horizon, device=level.device)[:, None]
        age = torch.arange(MEMORY + 1, device=level.device)
        unsaid = (origin < age) | (step + self.apart * age >= horizon)
        share = torch.softmax(scores.masked_fill(unsaid, -torch.inf), dim=-1)
        told = [share[..., age, None] * self._shifted(value, age) for age in ages]
        return torch.stack(told).sum(0) + (share[..., None] * facts).sum(-2) @ value_facts.T

    def _facts(
        self,
        medians: Float[Tensor, "batch origin horizon"],
        errors: Float[Tensor, "batch age origin"],
        level: Float[Tensor, "batch origin"],
        spread: Float[Tensor, "batch origin"],
    ) -> Float[Tensor, "batch origin horizon age fact"]:
        """What was said of each target `age` origins ago, the error since, and how far it is from what is said now."""
        rows = []
        for age in range(MEMORY + 1):
            before = self._shifted(medians[..., None], age)[..., 0]
            said = torch.asinh((before - level[..., None]) / spread[..., None])
            now = rows[0][..., 0] if rows else said
            rows.append(torch.stack([said, errors[:, age, :, None].expand_as(said), said - now], dim=-1))
        return torch.stack(rows, dim=3)

    def _shifted(self, values: Float[Tensor, "batch origin horizon channel"], age: int) -> Tensor:
        """What was said of the same target step `age` origins ago; zero where nothing was."""
        steps = self.apart * age
        return functional.pad(values, (0, 0, 0, steps, age, 0))[:, : values.shape[1], steps:] if age else values


class MQTransformerNetwork(nn.Module):
    """From windows to quantiles.

    Args:
        channels: of past, known and static covariates.
        horizon: steps to forecast.
        levels: number of quantile levels.
        width: channels of the encoder, a multiple of the attention's heads.
        counts: demand is never negative, and neither are the quantiles.
        season: steps of the season; 1 for none.
        length: steps of a window.
        typical: units of demand of a typical series, the scale of one that has no history.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        horizon: int,
        levels: int,
        *,
        width: int,
        counts: bool,
        season: int,
        length: int,
        typical: float,
    ) -> None:
        super().__init__()
        self.counts, self.season, self.typical, self.apart = counts, season, typical, apart_of(horizon, season)
        place = width // 2
        self.encoder = ConvolutionalEncoder(channels, width, depth_of(length))
        self.position = nn.Conv1d(channels[1] + 1, place, _NEAR)
        self.attention = HistoryAttention(width, place, length, horizon)
        self.feedback = Feedback(width, self.apart)
        self.first = nn.Linear(width, levels)
        self.decoder = Decoder(width, channels[1], horizon, levels, season=season, length=length)
        wide, last = nn.Linear(2 * width, width), nn.Linear(width, levels)
        self.merge = nn.Sequential(wide, nn.GELU(), last)
        for layer in (self.first, last):  # training begins from what the decoder says without attention
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        demand: Float[Tensor, "batch time"],
        observed: Float[Tensor, "batch time"],
        past: Float[Tensor, "batch time past"],
        known: Float[Tensor, "batch reach known"],
        static: Float[Tensor, "batch static"],
        origins: range | None = None,
    ) -> tuple[Float[Tensor, "batch origin horizon level"], Scaled]:
        """Quantiles in units of the spread from the steps `origins` of the window, and their scale.

        Origins lie `apart_of` their horizon and season; when None, the last step and all that lie so before it.
        """
        time, apart = demand.shape[1], self.apart
        wanted = range((time - 1) % apart, time, apart) if origins is None else origins
        # Earlier ones, to be remembered.
        origins = range(wanted.start - apart * min(MEMORY, wanted.start // apart), wanted.stop, apart)
        at = steps_of(origins)
        scale = scaled(demand, observed, self.season, self.typical)
        here = scale.at(origins)
        level = here.location / here.spread
        hidden = self.encoder(joined(scale.channels, past, known, static))
        # Of a step and those before it, so that the last target of an origin tells no more than is known ahead; a
        # constant beside the covariates marks the window's beginning.
        marked = functional.pad(known, (0, 1), value=1.0).transpose(1, 2)
        places = self.position(functional.pad(marked, (_NEAR - 1, 0))).transpose(1, 2)
        contexts = self.attention(hidden, places, demand, observed, here, origins)
        contexts = functional.gelu(contexts + hidden[:, at, None])
        told = self.first(contexts) + self.decoder(hidden[:, at], demand, observed, known, here, origins)
        quantiles = monotone(told, level, counts=self.counts, training=self.training)
        medians = quantiles[..., quantiles.shape[-1] // 2] * here.spread[..., None]
        errors = _errors(demand, observed, medians, here.spread, origins)
        seen = self.feedback(contexts, medians, errors, here.location, here.spread)
        answer = told + self.merge(torch.cat([contexts, seen], dim=-1))
        quantiles = monotone(answer, level, counts=self.counts, training=self.training)
        return quantiles[:, -len(wanted) :], scale.at(wanted)


def _errors(
    demand: Float[Tensor, "batch time"],
    observed: Float[Tensor, "batch time"],
    medians: Float[Tensor, "batch origin horizon"],
    spread: Float[Tensor, "batch origin"],
    origins: range,
) -> Float[Tensor, "batch age origin"]:
    """At each origin, the mean error of the forecasts made 0, 1, ... origins earlier over the steps observed since."""
    rows = [torch.zeros_like(spread)]
    steps = torch.arange(origins.start, origins.stop, origins.step, device=demand.device)
    for age in range(1, MEMORY + 1):
        since = min(age * origins.step, medians.shape[2])
        made = steps[:-age]
        index = made[:, None] + torch.arange(1, since + 1, device=demand.device)
        seen = observed[:, index]
        gap = torch.asinh((demand[:, index] - medians[:, : len(made), :since]) / spread[:, age:, None])
        error = (gap * seen).sum(dim=-1) / seen.sum(dim=-1).clamp(min=1)
        rows.append(functional.pad(error, (age, 0))[:, : len(origins)])
    return torch.stack(rows, dim=1)


@final
class MQTransformer(NeuralForecaster):
    """The MQTransformer forecaster.

    Args:
        horizon: steps to forecast.
        levels: quantile levels.
        steps: optimiser steps of each member; when None 400, fewer for less than some 20,000 observations and
            more for over 400,000.
        width: channels of the encoder, a multiple of 4.
        seed: of initial weights, dropout and batches; the same seed gives the same forecast on as many threads, and on
            more or fewer one that differs as sums round: in the last bits, which training may carry further.
        members: networks whose quantiles are averaged.
        training: batch, learning rate, early stopping, precision and checkpoints.
        progress: called with the share of training done.
    """

    MODEL: ClassVar[str] = "mq-transformer"

    def __init__(
        self,
        horizon: int,
        *,
        levels: Sequence[float] = DECILES,
        steps: int | None = None,
        width: int = 32,
        seed: int = 0,
        members: int = 1,
        training: Training | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        self.steps = None if steps is None else require_positive_integer(steps, "steps")
        self.width = require_positive_integer(width, "width")
        if width % HEADS:
            msg = f"width must be a multiple of {HEADS}, the heads of the attention, got {width}"
            raise ArgumentError(msg)
        self.members = require_positive_integer(members, "members")
        self.seed, self.progress = require_seed(seed), progress
        self.training = Training() if training is None else training
        self.learned: Learned | None = None

    def origins(self, length: int, generator: np.random.Generator) -> range:
        """A run of those that look back on each other, from a random one on."""
        apart = apart_of(self.horizon, self._fitted().setting.season)
        span = (self.FORKS - 1) * apart + 1
        # A run longer than the window still begins at each of the first steps, so that all are trained.
        begin = int(generator.integers(0, max(length - span + 1, min(apart, length))))
        return range(begin, min(begin + span, length), apart)

    def build(self, setting: Setting) -> MQTransformerNetwork:
        """A network of this width."""
        return MQTransformerNetwork(
            setting.channels,
            self.horizon,
            len(self.levels),
            width=self.width,
            counts=setting.counts,
            season=setting.season,
            length=setting.length,
            typical=setting.typical,
        )
