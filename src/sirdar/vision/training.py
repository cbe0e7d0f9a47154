# SPDX-License-Identifier: Apache-2.0
"""Training of vision networks: one loop for the three tasks, on a CPU or a GPU.

A step's batch and augmentation follow from the seed and the step's number alone, so a killed training that resumes
from its checkpoint ends with the same weights.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from sirdar.allocator import keep_freed_memory
from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.numerics.adamw import AdamW
from sirdar.vision.checkpoint import Checkpoint

Optimiser = Literal["sgd", "adamw"]
Precision = Literal["fp32", "bf16", "bf16-sr", "bf16-nearest"]
_NARROW = ("bf16-sr", "bf16-nearest")
_WARM_UP = 0.05
_CLIP = 10.0


@runtime_checkable
class Task(Protocol):
    """What a network is trained for: where its batches come from and what they cost it."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Any]:
        """Augmented images [batch, channel, height, width], of mean about zero, and their targets."""
        ...

    def loss(self, outputs: Any, targets: Any) -> Tensor:  # noqa: ANN401 - each task has its own outputs
        """A scalar to minimise."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Args:
        steps: optimiser steps; the learning rate warms up over 5 % of them and comes down as half a cosine
            (Loshchilov and Hutter 2017, equation 5).
        batch: images in a step.
        learning_rate: its peak.
        optimiser: "sgd" (Nesterov, momentum 0.9) or "adamw".
        weight_decay: on weights, not on biases and batch normalisation.
        average: decay of the moving average of weights that is kept (Polyak); it warms up with the steps.
        seed: of initial order, batches and augmentation.
        precision: "bf16" runs convolutions in bf16 and keeps weights in fp32; "bf16-sr" keeps weights but those of
            normalisation in bf16 alone, updated by AdamW with stochastic rounding (`numerics.AdamW`); "bf16-nearest"
            likewise, to see what it loses. A CPU that does not compute in bf16 (AVX-512 BF16, AMX) takes longer for
            all but fp32.

    Raises:
        ArgumentError: a value is out of its range.
    """

    steps: int = 1000
    batch: int = 32
    learning_rate: float = 0.002
    optimiser: Optimiser = "adamw"
    weight_decay: float = 0.05
    average: float = 0.998
    seed: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        require_positive_integer(self.steps, "steps")
        require_positive_integer(self.batch, "batch")
        if self.optimiser not in get_args(Optimiser) or self.precision not in get_args(Precision):
            msg = (
                f"optimiser must be sgd or adamw and precision one of {', '.join(get_args(Precision))}, "
                f"got {self.optimiser!r} and {self.precision!r}"
            )
            raise ArgumentError(msg)
        if self.precision in _NARROW and self.optimiser != "adamw":
            msg = f"precision {self.precision!r} needs the optimiser adamw, got {self.optimiser!r}"
            raise ArgumentError(msg)
        if not (0 < self.learning_rate < math.inf and self.weight_decay >= 0 and 0 <= self.average < 1):
            msg = (
                "learning_rate must be above zero, weight_decay at least zero and average in [0, 1), "
                f"got {self.learning_rate!r}, {self.weight_decay!r}, {self.average!r}"
            )
            raise ArgumentError(msg)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights follow `seed` within; the caller's random state is as before after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def share_of_peak(done: float) -> float:
    """The learning rate's share of its peak once `done` of all steps (0 to 1) are over."""
    if done < _WARM_UP:
        return 0.01 + 0.99 * done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def train(
    network: nn.Module,
    task: Task,
    schedule: Schedule,
    *,
    checkpoint: Path | None = None,
    watch: Callable[[int, nn.Module], bool] | None = None,
    watch_every: int = 200,
    before: Callable[[float], None] | None = None,
) -> nn.Module:
    """Trains in place, on the device where the network's weights are.

    Args:
        network: to train.
        task: its batches and loss, on the same device.
        schedule: how.
        checkpoint: a file that is written every `watch_every` steps, taken up if it exists, and removed at the end.
        watch: called with the number of steps done and the averaged network; stops the training when it returns True.
        watch_every: steps between two such calls.
        before: called before each step with the share of steps done.

    Returns:
        The network itself with the averaged weights, in evaluation mode.

    Raises:
        DataError: the checkpoint is of another network or schedule.
    """
    require_positive_integer(watch_every, "watch_every")
    keep_freed_memory()
    if schedule.precision in _NARROW:
        for weight in network.parameters():
            weight.data = weight.data.to(torch.bfloat16) if weight.ndim > 1 else weight.data
    average = _Average(network, schedule.average)
    optimiser = _optimiser(network, schedule)
    place = Checkpoint(network, average.tensors, optimiser, checkpoint, asdict(schedule))
    begin = place.resume()
    network.train()
    for step in range(begin, schedule.steps):
        if before is not None:
            before(step / schedule.steps)
        _update(network, task, optimiser, schedule, step)
        average.follow(step)
        if (step + 1) % watch_every == 0 and step + 1 < schedule.steps:
            place.write(step + 1)
            if watch is not None:
                with _casts(network, half=schedule.precision in _NARROW):
                    stop = watch(step + 1, average.put_into(network))
                if stop:
                    break
            average.take_back(network)
    average.put_into(network)
    place.finish()
    return network.float()


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    rate = schedule.learning_rate
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    if schedule.precision in _NARROW:
        rounding = "stochastic" if schedule.precision == "bf16-sr" else "nearest"
        return AdamW(groups, lr=rate, rounding=rounding, seed=schedule.seed)
    return torch.optim.AdamW(groups, lr=rate)


def _update(network: nn.Module, task: Task, optimiser: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = schedule.learning_rate * share_of_peak(step / schedule.steps)
    generator = torch.Generator(next(network.parameters()).device)
    generator.manual_seed(schedule.seed * 1_000_003 + step)
    images, targets = task.batch(generator, schedule.batch)
    with _casts(network, half=schedule.precision != "fp32"):
        outputs = network(images.contiguous(memory_format=torch.channels_last))
    loss = task.loss(outputs, targets)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
    optimiser.step()


def _casts(network: nn.Module, *, half: bool) -> torch.autocast | nullcontext[None]:
    """Within it convolutions run in bf16 if `half`."""
    device = next(network.parameters()).device.type
    return torch.autocast(device, dtype=torch.bfloat16) if half else nullcontext()


class _Average:
    """The moving average of all weights and running statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        state = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
        self._live = list(state.values())  # they share memory with the network, which changes them in place
        # In fp32 whatever the weights are: small steps towards them would be lost to rounding.
        self.tensors = {name: value.detach().float().clone() for name, value in state.items()}
        self._own: list[Tensor] = []

    def follow(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        live = [tensor.float() for tensor in self._live]
        torch._foreach_lerp_(list(self.tensors.values()), live, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def put_into(self, network: nn.Module) -> nn.Module:
        self._own = [tensor.clone() for tensor in self._live]
        torch._foreach_copy_(self._live, list(self.tensors.values()))  # pyright: ignore[reportPrivateImportUsage]
        return network.eval()

    def take_back(self, network: nn.Module) -> None:
        if self._own:
            torch._foreach_copy_(self._live, self._own)  # pyright: ignore[reportPrivateImportUsage]
            self._own = []
        network.train()
