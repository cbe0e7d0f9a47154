# SPDX-License-Identifier: Apache-2.0
"""Training of forecasting networks: the loss and the loop, the same for every network."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sirdar.allocator import keep_freed_memory
from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.forecasting.checkpoint import Checkpoint
from sirdar.numerics.adamw import AdamW

Precision = Literal["fp32", "bf16", "bf16-sr", "bf16-nearest"]
_LITTLE = 400_000  # observations: 400 steps see each of them about twice
CHECKS = 20  # of the validation loss, and checkpoints, over a whole training
_MOST = 5.0  # times the weight of the median origin
_WARM_UP = 0.2
_WEIGHT_DECAY = 1e-2
_CLIP = 1.0


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        batch: windows in a step.
        learning_rate: its peak.
        patience: stop when this many validations in a row (of 20 evenly spaced ones) bring no better loss, and keep the
            best weights; the last `horizon` steps of every series are then held out. None: all steps, all history.
        precision: "fp32"; "bf16": matrix products in bf16, weights in fp32; "bf16-sr": weights in bf16 alone, updated
            with stochastic rounding (`numerics.AdamW`); "bf16-nearest": likewise, to see what it loses. All but fp32
            save time only on a CPU that computes in bf16 (AVX-512 BF16, AMX); on others they take longer.
        checkpoint: a folder; a training that was killed goes on from there, to the same result.
        seconds: by the clock; a training ends when they are over or the steps are done, and the learning rate comes
            down by whichever is nearer. The result then depends on how fast the machine was. None: the steps alone.

    Raises:
        ArgumentError: a number is out of its range, or the precision has no such name.
    """

    batch: int = 128
    learning_rate: float = 3e-3
    patience: int | None = None
    precision: Precision = "fp32"
    checkpoint: str | Path | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        require_positive_integer(self.batch, "batch")
        if self.patience is not None:
            require_positive_integer(self.patience, "patience")
        for name, value in (("learning_rate", self.learning_rate), ("seconds", self.seconds)):
            if value is not None and not 0 < value < math.inf:
                msg = f"{name} must be above zero, got {value!r}"
                raise ArgumentError(msg)
        if self.precision not in get_args(Precision):
            msg = f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}"
            raise ArgumentError(msg)


def quantile_loss(
    quantiles: Float[Tensor, "batch origin horizon level"],
    scale: Float[Tensor, "batch origin"],
    targets: Float[Tensor, "batch origin horizon"],
    begun: Bool[Tensor, "batch origin"],
    levels: Sequence[float],
    error: Float[Tensor, "batch origin"] | None = None,
) -> Tensor:
    """Quantile loss over all origins, horizons and levels (Wen et al. 2017, section 3.2), relative to demand.

    Quantiles are in units of `scale`. Losses count in units of the geometric mean of one unit of demand and `error`,
    what a simple forecast errs by, or `scale` when None: in units of demand a few best sellers would drown the rest, in
    units of the error products that sell nothing would. No origin counts for more than five of the batch's median one:
    two series a million times larger than the others, such as totals beside products, would else be all that is
    learned. Steps that were not observed (NaN) and origins before a series begins count for nothing.
    """
    known = torch.isfinite(targets) & begun[..., None]
    demand = torch.nan_to_num(targets) / scale[..., None]
    level = torch.tensor(levels, dtype=quantiles.dtype, device=quantiles.device)
    gap = demand[..., None] - quantiles
    loss = 2 * torch.maximum(level * gap, (level - 1) * gap).mean(dim=-1)
    weight = scale / torch.sqrt(scale if error is None else error)
    counted = weight[known.any(dim=-1)]
    if len(counted):
        weight = weight.clamp(max=_MOST * counted.median().item())
    weight = known * weight[..., None]
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


def steps_for(
    asked: int | None, observations: Int[np.ndarray, " series"], usual: int, few: int = 0, least: int = 1
) -> int:
    """Steps (or rows) as asked for; when None, `usual` up to 400,000 observations, then as the root of their number.

    Where there are few they fall with their number, down to `least`: in too many steps a network learns each by heart
    and is too sure of the next.

    Args:
        asked: by the caller.
        observations: of each series.
        usual: steps.
        few: observations below which steps fall; of series of more than a hundred fewer, as the root of their length:
            there is more in them to learn.
        least: steps.
    """
    if asked is not None:
        return asked
    count = int(observations.sum())
    length = count / max(1, int((observations > 0).sum()))
    enough = few * math.sqrt(100 / max(100.0, length))
    if count < enough:
        return min(usual, max(round(usual * count / enough), least))
    return round(usual * math.sqrt(max(1.0, count / _LITTLE)))


def key_of(name: str, facts: Sequence[object], arrays: Sequence[np.ndarray], network: nn.Module) -> str:
    """Names a training by what it is told, the data that it learns from and the weights that it begins with."""
    digest = hashlib.sha256(json.dumps([*facts, torch.__version__], default=str).encode())
    for array in arrays:
        digest.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    for weight in network.state_dict().values():
        digest.update(weight.float().numpy().tobytes())
    return f"{name}-{digest.hexdigest()[:16]}"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights and dropout follow `seed` within, and the caller's random state is as before after it."""
    # The CPU's generator alone, since networks train there: torch.manual_seed would reseed every accelerator too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(require_seed(seed))
        yield


def _one_cycle(done: float) -> float:
    """The learning rate's share of its peak: a linear warm-up, then half a cosine down to nothing."""
    if done < _WARM_UP:
        return 0.04 + 0.96 * done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


@dataclass(frozen=True)
class Run:
    """One training: what is drawn at every step, and what it is judged by.

    Args:
        batch_loss: the loss of a batch that the generator picks.
        steps: optimiser steps.
        seed: each step's batch and dropout follow from it and the step's number alone, so that a run can be resumed.
        validate: the loss on what was held out; None without early stopping.
        progress: called with the share of training done.
        key: names the run among checkpoints: equal for equal data and arguments.
    """

    batch_loss: Callable[[np.random.Generator], Tensor]
    steps: int
    seed: int
    validate: Callable[[], float] | None = None
    progress: Callable[[float], None] | None = None
    key: str = ""


def train(network: nn.Module, run: Run, options: Training) -> None:
    """AdamW under a one-cycle learning rate, from the last checkpoint if there is one."""
    keep_freed_memory()
    if options.precision in {"bf16-sr", "bf16-nearest"}:
        network.to(torch.bfloat16)
    optimiser = _optimiser(network, run.seed, options)
    place = Checkpoint(network, optimiser, options.checkpoint, run.key)
    step, spent = place.resume()
    limit, begin = options.seconds or math.inf, time.monotonic() - spent
    done = max(step / run.steps, spent / limit)
    with seeded(run.seed):
        network.train()
        while done < 1:
            _update(network, optimiser, run, options, step, done)
            step, spent = step + 1, time.monotonic() - begin
            before, done = done, min(max(step / run.steps, spent / limit), 1.0)
            if _part(done) > _part(before):
                if _checked(network, run, options, place):
                    break
                place.write(step, spent)
            if run.progress is not None:
                run.progress(done)
    place.finish()
    network.float().eval()


def _part(done: float) -> int:
    """How many of the checks are due."""
    return int(done * CHECKS + 1e-9)  # 7 / 20 of the way is 7 checks, rounding aside


def autocast(precision: Precision) -> torch.autocast | nullcontext[None]:
    """Within it matrix products run in the precision's type."""
    return nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype=torch.bfloat16)


def _optimiser(network: nn.Module, seed: int, options: Training) -> torch.optim.Optimizer:
    rate = options.learning_rate
    if options.precision in {"fp32", "bf16"}:
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
    rounding = "stochastic" if options.precision == "bf16-sr" else "nearest"
    return AdamW(network.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY, rounding=rounding, seed=seed)


def _update(
    network: nn.Module, optimiser: torch.optim.Optimizer, run: Run, options: Training, step: int, done: float
) -> None:
    rate = options.learning_rate * _one_cycle(done)
    for group in optimiser.param_groups:
        group["lr"] = rate
    generator = np.random.default_rng((run.seed, step))
    torch.default_generator.manual_seed(int(generator.integers(2**62)))
    with autocast(options.precision):
        loss = run.batch_loss(generator)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
    optimiser.step()


def _checked(network: nn.Module, run: Run, options: Training, place: Checkpoint) -> bool:
    """Whether validation says that training is over."""
    if run.validate is None or options.patience is None:
        return False
    network.eval()
    with torch.inference_mode(), autocast(options.precision):
        place.judge(run.validate())
    network.train()
    return place.stale >= options.patience
