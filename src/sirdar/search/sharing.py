# SPDX-License-Identifier: Apache-2.0
"""One set of weights for all candidates of a space, without elastic layers: slices of the largest tensor of each name.

Any builder will do whose parameter names tell position and kind. A candidate's tensor is the leading part of the shared
one along channels, and the centre of it along the axes of a kernel (Cai et al. 2020, arXiv:1908.09791).
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sirdar.search.space import Candidate


@runtime_checkable
class Shared(Protocol):
    """A task whose networks can share weights."""

    def network(self, candidate: Candidate) -> nn.Module:
        """A network with fresh random weights from torch's present random state."""
        ...

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Any]]:
        """Inputs and targets to train on, without end."""
        ...

    def loss(self, outputs: Any, targets: Any) -> Tensor:  # noqa: ANN401 - the task's own
        """The loss of a batch, a single value."""
        ...

    def score(self, network: nn.Module) -> float:
        """The metric of a network with weights on validation data, turned so that larger is better."""
        ...


@final
class WeightBank:
    """The shared weights, which grow to the largest tensor asked for.

    Args:
        seed: of what is added.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.weights: dict[tuple[str, int], Tensor] = {}
        self.momenta: dict[tuple[str, int], Tensor] = {}
        self._known: dict[tuple[str, int], Tensor] = {}  # which weights some candidate had

    def __len__(self) -> int:
        return sum(weight.numel() for weight in self.weights.values())

    def network(self, task: Shared, candidate: Candidate) -> nn.Module:
        """The candidate's network, with the random weights of this bank's seed; for `lend` and `load`."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return task.network(candidate)

    def lend(self, network: nn.Module) -> dict[str, Tensor]:
        """Shared weights of a network by parameter name, for `torch.func.functional_call`; gradients reach the bank."""
        return {name: self._slice(name, parameter) for name, parameter in network.named_parameters()}

    def load(self, network: nn.Module) -> nn.Module:
        """The network with copies of the shared weights."""
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self._slice(name, parameter))
        return network

    def reach(self) -> float:
        """The size of the largest weight; not a number where one is none."""
        sizes = [float(weight.detach().abs().max()) for weight in self.weights.values() if weight.numel()]
        return math.nan if any(map(math.isnan, sizes)) else max(sizes, default=0.0)

    def step(self, rate: float, momentum: float = 0.9, decay: float = 1e-4) -> None:
        """One step of SGD with Nesterov's momentum on what has a gradient, and no gradient left."""
        with torch.no_grad():
            for key, weight in self.weights.items():
                if weight.grad is None:
                    continue
                gradient = weight.grad + decay * weight
                moved = self.momenta.setdefault(key, torch.zeros_like(weight)).mul_(momentum).add_(gradient)
                weight.sub_(rate * (gradient + momentum * moved))
                weight.grad = None

    def _slice(self, name: str, parameter: Tensor) -> Tensor:
        key = (name, parameter.dim())
        present, known = self.weights.get(key), self._known.get(key)
        small = present is None or any(have < need for have, need in zip(present.shape, parameter.shape, strict=True))
        if small or known is None or not bool(known[_part(known, parameter)].all()):
            self.weights[key] = self._grown(present, parameter, known).requires_grad_()
            self._known[key] = self._grown(known, torch.ones(parameter.shape, dtype=torch.bool))
            self._known[key][_part(self._known[key], parameter)] = True
            if present is not None and present.grad is not None:
                self.weights[key].grad = self._grown(present.grad, torch.zeros_like(parameter))
            if key in self.momenta:
                self.momenta[key] = self._grown(self.momenta[key], torch.zeros_like(parameter))
        return self.weights[key][_part(self.weights[key], parameter)]

    def _grown(self, present: Tensor | None, parameter: Tensor, known: Tensor | None = None) -> Tensor:
        """The old weights, those `known` of them, within new ones, which come from the candidate that asked."""
        fresh = parameter.detach().clone()
        if present is None:
            return fresh
        shape = [max(have, need) for have, need in zip(present.shape, parameter.shape, strict=True)]
        result = torch.zeros(shape, dtype=present.dtype)
        result[_part(result, fresh)] = fresh
        there = _part(result, present)
        result[there] = present.detach() if known is None else torch.where(known, present.detach(), result[there])
        return result


def _part(whole: Tensor, part: Tensor) -> tuple[slice, ...]:
    """Where the smaller of two tensors of the same rank lies in the larger one."""
    slices = []
    for axis, (have, need) in enumerate(zip(whole.shape, part.shape, strict=True)):
        begin = (have - need) // 2 if axis >= 2 else 0
        slices.append(slice(begin, begin + need))
    return tuple(slices)


def recalibrate(network: nn.Module, task: Shared, batches: int = 8, seed: int = 0) -> nn.Module:
    """The network with the running statistics of its batch norms measured anew (Yu and Huang 2019).

    Statistics of shared weights are those of no single candidate, and scores without this step mean nothing.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return network.eval()
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of dropout and the like
        for inputs, _ in islice(task.batches(seed), batches):
            network(inputs)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return network.eval()
