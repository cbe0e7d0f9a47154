# SPDX-License-Identifier: Apache-2.0
"""Simple forecasts that a network mixes: linear maps of recent demand that begin as textbook methods.

A mixture of experts (Jacobs, Jordan, Nowlan and Hinton 1991) with the network's decoder as the gate. Smooth short
series need the precision of such methods, and a network finds it hard to copy a number exactly through its layers.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sirdar.forecasting.scaling import LONGEST_SEASON, Scaled, level_steps

EXPERTS = 6
_FARTHEST = 10.0  # sinh of it is farther than a quantile can be
_NEAR = 3  # steps that make the present level
_SPANS = (4, 8, 16)  # of a long-run mean, in spans of the recent level


class Experts(nn.Module):
    """Candidates for the middle quantile.

    In order: seasonal naive; mean of the season's same step; naive; seasonal naive and the change since a season ago;
    the season's profile about the present level; the same with drift. The maps are learned further.

    Args:
        horizon: steps to forecast.
        season: steps of the season; 1 for none.
        reach: recent steps that are seen.
    """

    def __init__(self, horizon: int, season: int, reach: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.maps = nn.Linear(reach, EXPERTS * horizon, bias=False)
        with torch.no_grad():
            rows = [row for step in range(horizon) for row in _beginnings(step, season, reach)]
            self.maps.weight.copy_(torch.stack(rows))

    def forward(
        self, recent: Float[Tensor, "batch origin reach"], drift: Float[Tensor, "batch origin"]
    ) -> Float[Tensor, "batch origin horizon expert"]:
        """Candidates, on the scale of `recent`.

        Args:
            recent: demand about the recent level, in units of its spread, under asinh.
            drift: change a step, in units of the spread.
        """
        candidates = self.maps(recent).unflatten(-1, (self.horizon, EXPERTS)).clamp(-_FARTHEST, _FARTHEST)
        ahead = torch.arange(1, self.horizon + 1, dtype=drift.dtype, device=drift.device)
        grown = torch.asinh(torch.sinh(candidates[..., -1]) + drift[..., None] * ahead)
        return torch.cat([candidates[..., :-1], grown[..., None]], dim=-1)


class LongRun:
    """Candidates from a longer past: the level of erratic demand is not in its recent weeks.

    Means over the last 4, 8 and 16 spans of a level, and the season's profile over the last 8 and 16. There are none
    where a window does not hold the longest, without a season, and where the season is longer than a level.

    Args:
        horizon: steps to forecast.
        season: steps of the season; 1 for none.
        length: steps of a window.
    """

    def __init__(self, horizon: int, season: int, length: int) -> None:
        spans = tuple(times * level_steps(season) for times in _SPANS)
        self.spans = spans if 1 < season <= LONGEST_SEASON and spans[-1] <= length else ()
        self.season, self.reach = season, max(self.spans, default=0)
        self.same = [step % season for step in range(horizon)]  # as a step ahead, in a season that ends at the origin

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.spans) + len(self.spans[1:])

    def means(
        self, past: Float[Tensor, "batch origin past"], seen: Float[Tensor, "batch origin past"], scale: Scaled
    ) -> Float[Tensor, "batch origin mean"]:
        """The means alone, on the scale of the experts.

        Args:
            past: demand of the last steps in units, zero where not observed.
            seen: 1 where it was observed, else 0.
            scale: at the origins.
        """
        sums = [(past[..., -span:].sum(dim=-1), seen[..., -span:].sum(dim=-1)) for span in self.spans]
        each = [_scaled(_mean(total, count, scale), scale) for total, count in sums]
        return torch.stack(each, dim=-1) if each else past[..., :0]

    def candidates(
        self, past: Float[Tensor, "batch origin past"], seen: Float[Tensor, "batch origin past"], scale: Scaled
    ) -> Float[Tensor, "batch origin horizon candidate"]:
        """All of them, as `means` has them."""
        means, profiles = self.means(past, seen, scale)[:, :, None].expand(-1, -1, len(self.same), -1), []
        at = Scaled(*(part[..., None] for part in scale))
        for span in self.spans[1:]:
            total, count = (each[..., -span:].unflatten(-1, (-1, self.season)).sum(dim=-2) for each in (past, seen))
            profiles.append(_scaled(_mean(total, count, at), at)[..., self.same])
        return torch.cat([means, torch.stack(profiles, dim=-1)], dim=-1) if profiles else means


def _mean(total: Tensor, count: Tensor, scale: Scaled) -> Tensor:
    """The level where nothing was observed."""
    return torch.where(count > 0, total / count.clamp(min=1), scale.location)


def _scaled(demand: Tensor, scale: Scaled) -> Tensor:
    return torch.asinh((demand - scale.location) / scale.spread)


def _beginnings(step: int, season: int, reach: int) -> list[Float[Tensor, " reach"]]:
    """What the maps of one step ahead begin as."""

    def mean(lags: range) -> Tensor:
        row = torch.zeros(reach)
        row[[reach - lag for lag in lags]] = 1 / max(len(lags), 1)
        return row

    def same(first: int) -> range:
        return range(first, reach + 1, season)

    naive = mean(range(1, 2))
    lag = season - step % season
    if lag > reach:  # the season is longer than what is seen
        return [naive] * EXPERTS
    again, profile = mean(range(lag, lag + 1)), mean(same(lag))
    change = naive - mean(range(1 + season, 2 + season)) if season < reach else torch.zeros(reach)
    near = [mean(range(j, j + 1)) - mean(same(j + season)) for j in range(1, _NEAR + 1) if j + season <= reach]
    level = torch.stack(near).mean(dim=0) if near else torch.zeros(reach)
    return [again, profile, naive, again + change, profile + level, profile + level]
