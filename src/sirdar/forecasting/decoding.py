# SPDX-License-Identifier: Apache-2.0
"""From encoded history to quantiles: the decoder of Wen et al. (2017), and quantiles that cannot cross."""

import math
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.forecasting.experts import EXPERTS, Experts, LongRun
from sirdar.forecasting.scaling import Scaled

# How far quantiles may lie from the recent level: without a bound a product that takes off would explode. In spreads
# alone it would cut off what covariates tell of a steady product: a promotion of five times its level or so.
_SPREADS, _LEVELS = math.sinh(3.5), 10.0
_AGAIN = 1.5  # times as far as the same season was, where that is farther
_DEVIATIONS = math.sqrt(math.pi / 2)  # mean absolute deviations in a standard deviation


def joined(
    channels: Float[Tensor, "batch time demand"],
    past: Float[Tensor, "batch time past"],
    known: Float[Tensor, "batch reach known"],
    static: Float[Tensor, "batch static"],
) -> Float[Tensor, "batch time channel"]:
    """All that is known of each step of the window itself, beside each other."""
    time = channels.shape[1]
    return torch.cat([channels, past, known[:, :time], static[:, None].expand(-1, time, -1)], dim=-1)


def ahead(
    known: Float[Tensor, "batch reach known"], horizon: int, origins: range
) -> Float[Tensor, "batch origin horizon known"]:
    """The known covariates of the `horizon` steps after each origin."""
    steps = [known[:, origins.start + 1 + step : origins.stop + 1 + step : origins.step] for step in range(horizon)]
    return torch.stack(steps, dim=2)


def steps_of(origins: range) -> slice:
    """The same steps of a window as an index."""
    return slice(origins.start, origins.stop, origins.step)


def monotone(
    raw: Float[Tensor, "batch origin horizon level"],
    level: Float[Tensor, "batch origin"],
    *,
    counts: bool,
    training: bool,
    season: Float[Tensor, "batch origin horizon"] | None = None,
) -> Float[Tensor, "batch origin horizon level"]:
    """Quantiles in units of the spread: positive increments to both sides of the middle one, under a sinh link.

    The link lets the increments grow with the distance from the recent level, as the spread of demand does.

    Args:
        raw: a network's answers; the first is the middle quantile, the others tell the increments.
        level: the recent level at each origin, in units of the spread.
        counts: demand is never negative, and neither are the quantiles.
        training: leaves a small slope below zero, for the gradient of a quantile that should rise again.
        season: how far from the recent level the same season was, in units of the spread, where that is known.
    """
    middle, rises = raw[..., :1], functional.softplus(raw[..., 1:] - 1.0)
    below = raw.shape[-1] // 2
    falls = torch.cumsum(rises[..., :below], dim=-1).flip(-1)
    quantiles = torch.cat([middle - falls, middle, middle + torch.cumsum(rises[..., below:], dim=-1)], dim=-1)
    level = level[..., None, None]
    farthest = (_LEVELS * level.abs()).clamp(min=_SPREADS)
    if season is not None:
        farthest = torch.maximum(farthest, _AGAIN * season[..., None].abs())
    steepest = torch.asinh(farthest)
    quantiles = torch.sinh(steepest * torch.tanh(quantiles / steepest)) + level
    if not counts:
        return quantiles
    return functional.leaky_relu(quantiles, 0.01) if training else functional.relu(quantiles)


def begin_at(network: nn.Module, level: float) -> nn.Module:
    """A fresh network whose middle quantile begins where a normal distribution has this level, not at the middle.

    From there it would have far to go: farther out than the link's slope, which is lost on the way, leads back from.
    """
    decoder = network.get_submodule("decoder")
    assert isinstance(decoder, Decoder)
    with torch.no_grad():
        decoder.quantiles[-1].get_parameter("bias")[0] += math.asinh(_DEVIATIONS * NormalDist().inv_cdf(level))
    return network


def reach_of(season: int, length: int) -> int:
    """How many recent steps a decoder sees as they were: five seasons, whose mean is a steadier one, within reason."""
    return min(max(5 * season, 28), 64, length)


class Decoder(nn.Module):
    """Quantiles of each step after each origin, from a context of all steps and one of its own.

    The global and the local network of Wen et al. 2017, section 3.1. Beside the encoder's answer they see the demand of
    the last steps (`reach_of`) on the origin's own scale and the means of `LongRun`, and the middle quantile begins
    from a mixture of `Experts` and of `LongRun`: on short smooth series these carry most of what can be known.

    Args:
        width: channels of the encoder.
        known: known covariates.
        horizon: steps to forecast.
        levels: number of quantile levels.
        season: steps of the season; 1 for none.
        length: steps of a window.
    """

    def __init__(self, width: int, known: int, horizon: int, levels: int, *, season: int, length: int) -> None:
        super().__init__()
        self.horizon, self.context, self.reach = horizon, width // 2, reach_of(season, length)
        self.long = LongRun(horizon, season, length)
        self.mixed = EXPERTS + len(self.long)
        self.seen, wide = 2 * self.reach + len(self.long.spans), 2 * width
        self.recent = nn.Linear(self.seen + width, wide)
        self.block = nn.Sequential(nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, wide), nn.Dropout(0.1))
        self.contexts = nn.Sequential(
            nn.Linear(wide + horizon * known, wide), nn.GELU(), nn.Linear(wide, (horizon + 1) * self.context)
        )
        self.quantiles = nn.Sequential(
            nn.Linear(2 * self.context + 2 * known + 1, width), nn.GELU(), nn.Linear(width, levels + self.mixed)
        )
        self.experts = Experts(horizon, season, self.reach)

    def forward(
        self,
        hidden: Float[Tensor, "batch origin width"],
        demand: Float[Tensor, "batch time"],
        observed: Float[Tensor, "batch time"],
        known: Float[Tensor, "batch reach known"],
        scale: Scaled,
        origins: range,
    ) -> Float[Tensor, "batch origin horizon level"]:
        """Raw answers, for `monotone`; `hidden` and `scale` are those of the origins."""
        batch, count = hidden.shape[:2]
        past, known_past = self._past(demand * observed, origins), self._past(observed, origins)
        seen = known_past[..., -self.reach :]
        recent = (past[..., -self.reach :] - scale.location[..., None]) / scale.spread[..., None]
        recent = torch.asinh(recent) * seen
        means = self.long.means(past, known_past, scale)
        wide = functional.gelu(self.recent(torch.cat([recent, 1 - seen, means, hidden], dim=-1)))
        wide = wide + self.block(wide)
        future, now = ahead(known, self.horizon, origins), known[:, steps_of(origins), None]
        decoded = self.contexts(torch.cat([wide, future.flatten(2)], dim=-1))
        contexts = decoded.view(batch, count, self.horizon + 1, self.context)
        shared = contexts[:, :, :1].expand(-1, -1, self.horizon, -1)
        step = torch.linspace(0, 1, self.horizon).view(1, 1, -1, 1).expand(batch, count, -1, 1)
        raw = self.quantiles(torch.cat([contexts[:, :, 1:], shared, future, future - now, step.to(hidden)], dim=-1))
        share = torch.softmax(raw[..., -self.mixed :], dim=-1)
        near, far = self.experts(recent, scale.drift / scale.spread), self.long.candidates(past, known_past, scale)
        middle = (share * torch.cat([near, far], dim=-1)).sum(dim=-1, keepdim=True)
        return torch.cat([raw[..., :1] + middle, raw[..., 1 : -self.mixed]], dim=-1)

    def _past(self, values: Float[Tensor, "batch time"], origins: range) -> Float[Tensor, "batch origin past"]:
        """The last values of each origin, as many as are looked at; zero before the window."""
        reach = max(self.reach, self.long.reach)
        begin = origins.start - reach + 1
        padded = functional.pad(values[:, max(begin, 0) : origins.stop], (max(-begin, 0), 0))
        if len(origins) == 1:
            return padded[:, None]
        return padded.unfold(1, reach, origins.step)
