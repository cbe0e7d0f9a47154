# SPDX-License-Identifier: Apache-2.0
"""Demand as networks see it: divided by a causal scale, so that products that differ by 10^6 in level share weights."""

import torch
from jaxtyping import Float
from torch import Tensor

DEMAND_CHANNELS = 6
_DECAY = 0.9  # of the moving average that scales demand: a memory of about ten steps
_OLD = 12.0  # steps: beyond this, age would only tell the date, which one year of history cannot teach


def demand_channels(
    demand: Float[Tensor, "batch time"], observed: Float[Tensor, "batch time"]
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time channel"]]:
    """The scale at every step, and `DEMAND_CHANNELS` channels that are free of it; neither looks ahead.

    Args:
        demand: in units; of no matter where not observed.
        observed: 1 or 0.
    """
    time = demand.shape[1]
    lag = torch.arange(time, device=demand.device)
    age = (lag[None, :] - lag[:, None]).to(demand.dtype)
    decay = torch.where(age >= 0, _DECAY ** age.clamp(min=0), torch.zeros_like(age))
    size = demand.abs() * observed
    # The additions keep the scale above zero: a product that has not sold for long is scaled by about one unit.
    recent = (size @ decay + 0.05) / (observed @ decay + 0.05)
    level = recent.clamp(min=0.1)
    seen = torch.cumsum(observed, dim=1)
    average = (torch.cumsum(size, dim=1) + 1) / (seen + 1)
    channels = [
        torch.asinh(demand / level) * observed,
        (torch.asinh(demand) - torch.asinh(average)) * observed,
        observed,
        torch.log(level) / 3,
        torch.log1p(seen.clamp(max=_OLD)) / 2 - 0.5,
        (seen > 0).to(demand.dtype),
    ]
    return level, torch.stack(channels, dim=-1)
