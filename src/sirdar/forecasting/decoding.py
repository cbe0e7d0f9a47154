# SPDX-License-Identifier: Apache-2.0
"""From encoded history to quantiles: the decoder of Wen et al. (2017), and quantiles that cannot cross."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# Bound on the link's argument. sinh(3.5) is 17 times the recent level: by Markov's inequality the 0.9 quantile
# of steady demand is at most 10 times its mean, and without a bound a product that takes off would explode.
_STEEPEST = 3.5


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
    steps = [known[:, origins.start + 1 + step : origins.stop + 1 + step] for step in range(horizon)]
    return torch.stack(steps, dim=2)


def monotone(raw: Float[Tensor, "*shape level"], *, counts: bool, training: bool) -> Float[Tensor, "*shape level"]:
    """Quantiles in units of the scale: a running sum of positive increments under a hyperbolic-sine link.

    The link lets the increments grow with the level, as the spread of demand does.

    Args:
        raw: a network's answers; the first is the lowest quantile, the others tell the increments.
        counts: demand is never negative, and neither are the quantiles.
        training: leaves a small slope below zero, for the gradient of a quantile that should rise again.
    """
    rises = functional.softplus(raw[..., 1:] - 1.0)
    quantiles = torch.cat([raw[..., :1], raw[..., :1] + torch.cumsum(rises, dim=-1)], dim=-1)
    quantiles = torch.sinh(_STEEPEST * torch.tanh(quantiles / _STEEPEST))
    if not counts:
        return quantiles
    return functional.leaky_relu(quantiles, 0.01) if training else functional.relu(quantiles)


class GlobalLocalDecoder(nn.Module):
    """One context for all steps and one for each (global), then the quantiles of each step from both (local).

    Wen et al. 2017, section 3.1, with the change of the known covariates since the origin beside them.

    Args:
        width: channels of the encoder.
        known: known covariates.
        horizon: steps to forecast.
        levels: number of quantile levels.
    """

    def __init__(self, width: int, known: int, horizon: int, levels: int) -> None:
        super().__init__()
        self.horizon, self.context = horizon, width // 2
        self.contexts = nn.Sequential(
            nn.Linear(width + horizon * known, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, (horizon + 1) * self.context),
        )
        self.quantiles = nn.Sequential(
            nn.Linear(2 * self.context + 2 * known + 1, width), nn.GELU(), nn.Linear(width, levels)
        )

    def forward(
        self,
        hidden: Float[Tensor, "batch origin width"],
        future: Float[Tensor, "batch origin horizon known"],
        now: Float[Tensor, "batch origin known"],
    ) -> Float[Tensor, "batch origin horizon level"]:
        """Raw answers, for `monotone`."""
        batch, origins = hidden.shape[:2]
        decoded = self.contexts(torch.cat([hidden, future.flatten(2)], dim=-1))
        contexts = decoded.view(batch, origins, self.horizon + 1, self.context)
        shared = contexts[:, :, :1].expand(-1, -1, self.horizon, -1)
        step = torch.linspace(0, 1, self.horizon).view(1, 1, -1, 1).expand(batch, origins, -1, 1)
        return self.quantiles(
            torch.cat([contexts[:, :, 1:], shared, future, future - now[:, :, None], step.to(hidden)], dim=-1)
        )
