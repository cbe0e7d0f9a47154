# SPDX-License-Identifier: Apache-2.0
"""Training of forecasting networks: the loss and the loop, the same for every network."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

BATCH = 128
_WARM_UP = 0.2
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
_CLIP = 1.0


def quantile_loss(
    quantiles: Float[Tensor, "batch origin horizon level"],
    scale: Float[Tensor, "batch origin"],
    targets: Float[Tensor, "batch origin horizon"],
    begun: Bool[Tensor, "batch origin"],
    levels: Sequence[float],
) -> Tensor:
    """Quantile loss over all origins, horizons and levels (Wen et al. 2017, section 3.2), relative to demand.

    Quantiles are in units of `scale`. A forecast weighs as the square root of its scale: by the scale itself a few best
    sellers would drown the rest, without it products that sell nothing would. Steps that were not observed (NaN) and
    origins before a series begins count for nothing.
    """
    known = torch.isfinite(targets) & begun[..., None]
    demand = torch.nan_to_num(targets) / scale[..., None]
    level = torch.tensor(levels, dtype=quantiles.dtype, device=quantiles.device)
    gap = demand[..., None] - quantiles
    loss = 2 * torch.maximum(level * gap, (level - 1) * gap).mean(dim=-1)
    weight = known * torch.sqrt(scale)[..., None]
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights and dropout follow `seed` within, and the caller's random state is as before after it."""
    # The CPU's generator alone, since networks train there: torch.manual_seed would reseed every accelerator too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _one_cycle(done: float) -> float:
    """The learning rate's share of its peak: a linear warm-up, then half a cosine down to nothing."""
    if done < _WARM_UP:
        return 0.04 + 0.96 * done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def train(
    network: nn.Module,
    batch_loss: Callable[[np.random.Generator], Tensor],
    *,
    steps: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> None:
    """AdamW under a one-cycle learning rate for a fixed number of steps."""
    generator = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _one_cycle(step / steps))
    network.train()
    for step in range(steps):
        loss = batch_loss(generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress((step + 1) / steps)
    network.eval()
