# SPDX-License-Identifier: Apache-2.0
"""Demand as networks see it: about its recent level and in units of its recent spread.

Products that differ by 10^6 in level then share weights, and a smooth series shows its small movements as clearly as an
erratic one its large ones.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from sirdar.forecasting.spikes import SOLD, SPIKE

DEMAND_CHANNELS = 11
_SHORTEST = 10  # steps that make a level, at least
LONGEST_SEASON = 24  # a longer season than this is no recent past
_DECAY = 0.97  # of the moving average of deviations
_SEASONS = 5  # that make a profile, at most
_OLD = 12.0  # steps: beyond this, age would only tell the date, which one year of history cannot teach


class Scaled(NamedTuple):
    """The scale at every step, and demand on it; neither looks ahead."""

    location: Float[Tensor, "batch time"]  # units: mean demand of about the last season
    spread: Float[Tensor, "batch time"]  # units: mean deviation from it, above zero
    error: Float[Tensor, "batch time"]  # units: mean error of the seasonal naive forecast, above zero
    drift: Float[Tensor, "batch time"]  # units a step: mean change from one season to the next
    channels: Float[Tensor, "batch time channel"]  # `DEMAND_CHANNELS` of them

    def at(self, origins: range) -> "Scaled":
        """The same at some steps alone."""
        return Scaled(*(part[:, origins.start : origins.stop : origins.step] for part in self))


def scaled(
    demand: Float[Tensor, "batch time"], observed: Float[Tensor, "batch time"], season: int, typical: float
) -> Scaled:
    """Location, spread and channels of a window.

    Args:
        demand: in units; of no matter where not observed.
        observed: 1 or 0.
        season: steps of the season; 1 for none.
        typical: units of demand of a typical series, the scale of one that has no history.
    """
    raw, span = demand * observed, level_steps(season)
    demand = _capped(raw)
    total, seen = torch.cumsum(demand.abs(), dim=1), torch.cumsum(observed, dim=1)
    # Pieces are counted in ones; demand in fractions of them, tonnes or shares, by the mean step that had any.
    sales = _sales(demand)
    unit = torch.where(sales > 0, total / sales.clamp(min=1), torch.full_like(total, 10 * typical)).clamp(max=1.0)
    # The additions keep the level above zero: a product that has not sold for long has one of about a tenth of a unit.
    count = _last(observed, span)
    size = torch.maximum((_last(demand.abs(), span) + 0.05 * unit) / (count + 0.05), 0.1 * unit)
    location = torch.where(count > 0, _last(demand, span) / count.clamp(min=1), torch.zeros_like(count))
    location, size = _held(torch.stack([location, size]), count > 0)
    fade = _fade(demand)
    prior = torch.where(seen > 0, 0.1 * size, torch.full_like(size, typical))
    deviation = _mean_error(demand - _earlier(location, 1), observed * (seen > 1), prior, fade)
    # A twentieth of a piece tells apart; fractions have no such grain.
    spread = torch.maximum(torch.maximum(deviation, 0.01 * size), 0.05 * unit.square())
    average = (total + unit) / (seen + 1)
    same = [_earlier(demand, k * season) for k in range(1, _SEASONS + 1)]
    known = [_earlier(observed, k * season) for k in range(1, _SEASONS + 1)]
    profile, times = torch.stack(same).sum(dim=0), torch.stack(known).sum(dim=0)
    pair = observed * known[0]
    error = _mean_error(demand - same[0], pair, spread, fade)
    drift = ((demand - same[0]) * pair) @ fade / (pair @ fade + 0.5 * season) / season
    # How well three textbook forecasts have done of late tells which of them to believe.
    errors = [
        error,
        _mean_error(demand - _earlier(demand, 1), observed * _earlier(observed, 1), spread, fade),
        _mean_error(demand - profile / times.clamp(min=1), observed * (times > 0), spread, fade),
    ]
    channels = [
        torch.asinh((raw - location) / spread) * observed,
        (torch.asinh(raw / unit) - torch.asinh(average / unit)) * observed,
        observed,
        torch.log(size) / 3,
        torch.log(spread / size) / 2,
        torch.log1p(seen.clamp(max=_OLD)) / 2 - 0.5,
        (seen > 0).to(demand.dtype),
        *(torch.log(each / spread + 0.02) for each in errors),
        torch.asinh(drift * season / spread),
    ]
    # Far below the spread an error is no measure of what can be forecast.
    return Scaled(location, spread, torch.maximum(error, 0.1 * spread), drift, torch.stack(channels, dim=-1))


def level_steps(season: int) -> int:
    """Steps that make a level: whole seasons, so that it does not follow the season."""
    return _SHORTEST if season > LONGEST_SEASON else season * math.ceil(_SHORTEST / season)


def _sales(demand: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """How many steps so far had demand."""
    return torch.cumsum((demand != 0).to(demand.dtype), dim=1)


def _capped(demand: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Demand of at most `SPIKE` times the mean of the earlier steps that had any, where there were some."""
    sales = _earlier(_sales(demand), 1)
    usual = _earlier(torch.cumsum(demand.abs(), dim=1), 1) / sales.clamp(min=1)
    most = torch.where(sales >= SOLD, SPIKE * usual, torch.full_like(usual, torch.inf))
    return torch.minimum(torch.maximum(demand, -most), most)


def _last(values: Float[Tensor, "batch time"], span: int) -> Float[Tensor, "batch time"]:
    """Sums over the last `span` steps."""
    # A window's own sum at each step, not a difference of running totals, which would lose small numbers after large.
    return functional.avg_pool1d(functional.pad(values[:, None], (span - 1, 0)), span, 1)[:, 0] * span


def _earlier(values: Shaped[Tensor, "*batch time"], steps: int) -> Shaped[Tensor, "*batch time"]:
    """What stood `steps` before; zero before the window."""
    return functional.pad(values, (steps, 0))[..., : values.shape[-1]]


def _held(
    values: Float[Tensor, "part batch time"], known: Bool[Tensor, "batch time"]
) -> Float[Tensor, "part batch time"]:
    """Each step's value where it is known, else the last known one before it, if there is one."""
    reach = 1
    while reach < known.shape[1]:  # doubles, since there is no running maximum in ONNX
        before = _earlier(known, reach)
        values = torch.where(~known & before, _earlier(values, reach), values)
        known, reach = known | before, 2 * reach
    return values


def _mean_error(
    gap: Float[Tensor, "batch time"],
    weight: Float[Tensor, "batch time"],
    prior: Float[Tensor, "batch time"],
    fade: Float[Tensor, "time time"],
) -> Float[Tensor, "batch time"]:
    """Mean size of `gap` over the past, which fades; `prior` counts as half a step."""
    return ((gap.abs() * weight) @ fade + 0.5 * prior) / (weight @ fade + 0.5)


def _fade(values: Float[Tensor, "batch time"]) -> Float[Tensor, "time time"]:
    """A matrix that sums over the past, fading by `_DECAY` a step."""
    step = torch.arange(values.shape[1], device=values.device)
    age = (step[None, :] - step[:, None]).to(values.dtype)
    return torch.where(age >= 0, _DECAY ** age.clamp(min=0), torch.zeros_like(age))
