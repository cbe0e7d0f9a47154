# SPDX-License-Identifier: Apache-2.0
"""A whole simulation as one operation with its own derivative, for policies that look at stock and orders as one sum.

Such a policy orders up to a level (`UpTo`): every series goes its own way, so that a block of them can be taken through
all steps while it stays in the cache, and nothing but the sums that cost is made of comes back. Blocks are shared out
among torch's threads. The derivative walks the steps once more, forward and back: it keeps no trajectory either.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from threading import Thread
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sirdar.inventory.backend import Parameter, Values, match
from sirdar.inventory.demand import none_below_zero
from sirdar.inventory.fused import has_numba
from sirdar.inventory.limits import shared
from sirdar.inventory.policy import OrdersUpTo, Policy
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.terms import RandomLeadTime

Steps = Float[Tensor, "time *batch series"]
_CACHE = 1 << 18  # numbers that stay in a core's second cache
_SHARE = 1 << 19  # series times steps for which a thread pays


def rolled_out(
    policy: Policy,
    problem: InventoryProblem,
    demand: Float[Tensor, "*batch series time"],
    stock: Stock,
    weights: Sequence[float],
) -> dict[str, Float[Tensor, "*batch series"]] | None:
    """Sums of units over the steps, each counted with its weight, or None where steps must be taken one by one.

    They are "held", "short" (lost; with backlog: units times steps that they wait), "ordered", and "placed" (orders).
    Demand is checked on the way: what is negative or no number gives None too, and is named by the simulation by steps.
    """
    lead, review = (_one(x) for x in (problem.lead_time, problem.review_period))
    if not isinstance(policy, OrdersUpTo) or lead is None or review is None:
        return None
    if shared(problem) or np.any(np.isfinite(problem.rules.shelf)) or not has_numba():
        return None
    if demand.device.type != "cpu" or demand.dtype not in (torch.float32, torch.float64) or demand.requires_grad:
        return None
    steps, asked = demand.movedim(-1, 0).contiguous(), policy.up_to()
    level, cap, reorder, pack, least = (
        _spread(x, steps) for x in (*asked, problem.rules.case_pack, problem.rules.minimum)
    )
    if bool(level.isnan().any()) or not none_below_zero(cap.detach()):
        return None  # the simulation by steps says what is wrong
    start = _opening(problem, stock, steps)
    run = _Run(steps, start, (reorder, pack, least), weights, (lead, review), problem)
    sums = _Rollout.apply(run, level, cap) if torch.is_grad_enabled() else run.sums(level, cap)
    names = ("held", "short", "ordered", "placed")
    return None if run.bad else {name: x.reshape(steps.shape[1:]) for name, x in zip(names, sums, strict=True)}


def _one(value: Any) -> int | None:  # noqa: ANN401
    """The whole number that all series have in common."""
    if isinstance(value, RandomLeadTime):
        return None
    own = np.unique(value)
    return int(own[0]) if len(own) == 1 else None


def _spread(value: Parameter | Values, demand: Steps) -> Tensor:
    """One number, or one per series and scenario, side by side in memory."""
    number = torch.as_tensor(match(value, demand), dtype=demand.dtype)
    return number.reshape(1) if number.numel() == 1 else number.expand(demand.shape[1:]).contiguous()


def _opening(problem: InventoryProblem, stock: Stock, demand: Steps) -> Tensor:
    """On hand, and under way by step of arrival: [1 + lead, *batch, series], or [1 + lead] zeros for all series."""
    known = np.concatenate([stock.on_hand[:, None], stock.columns(problem)], axis=1)
    if not known.any():
        return demand.new_zeros(known.shape[1])
    rows = demand.new_tensor(known.T)
    scenarios = demand.shape[1:-1]
    return rows.reshape(len(rows), *[1] * len(scenarios), -1).expand(-1, *scenarios, -1).contiguous()


class _Run:
    """One simulation, as the loops want it.

    Args:
        demand: contiguous.
        start: of `_opening`.
        rest: reorder point, case pack and minimum, each of `_spread`.
        weights: one per step.
        times: lead time and review period.
        problem: says whether demand waits, and whether orders are rounded up.
    """

    def __init__(
        self,
        demand: Steps,
        start: Tensor,
        rest: tuple[Tensor, Tensor, Tensor],
        weights: Sequence[float],
        times: tuple[int, int],
        problem: InventoryProblem,
    ) -> None:
        self.demand, self.start, self.rest, self.weights = demand, start, rest, weights
        self.lead, self.review = times
        self.waits, self.rounds = problem.backlog, not problem.rules.free
        self.recounts = bool((rest[0] < math.inf).any())  # elsewhere nothing hangs on a rounding error
        self.time, self.size = len(demand), math.prod(demand.shape[1:])
        self.bad = 0

    def sums(self, level: Tensor, cap: Tensor) -> tuple[Tensor, ...]:
        """Units held, short and ordered, and orders placed: [size] each."""
        sums = self.demand.new_empty((4, self.size))
        self._walk(level, cap, sums, sums, derives=False)
        return tuple(sums)

    def gains(self, level: Tensor, cap: Tensor, to_sums: Tensor) -> Tensor:
        """What a unit more in level and cap is worth, [2, size], given what one more in the sums is."""
        gains = self.demand.new_empty((2, self.size))
        self._walk(level, cap, to_sums, gains, derives=True)
        return gains

    def _walk(self, level: Tensor, cap: Tensor, sums: Tensor, gains: Tensor, *, derives: bool) -> None:
        from sirdar.inventory import rollout_kernels as kernels  # here, not above: it loads numba

        loop = kernels.compiled(self.demand.dtype)
        given = (level, cap, *self.rest)
        weights = self.demand.new_tensor((*self.weights, *kernels.constants(self.demand.dtype)))
        spread = sum((x.numel() > 1) << bit for bit, x in enumerate((*given, self.start[:1])))
        rows = kernels.ROWS + self.lead + 1 + (2 * self.time if derives else 2)
        block = max(32, min(512, _CACHE // rows // 16 * 16))
        addresses = [x.data_ptr() for x in (self.demand, self.start, *given, weights, sums, gains)]
        parts = max(1, min(torch.get_num_threads(), self.size * self.time // _SHARE))
        edges = [self.size * part // parts // block * block for part in range(parts)] + [self.size]
        kept, threads = [], []
        for first, last in pairwise(edges):
            scratch = self.demand.new_empty(rows * block)
            times = (
                self.lead,
                self.time,
                self.review,
                block,
                self.waits,
                self.rounds,
                self.recounts,
                derives,
                spread,
                0,
            )
            whole = np.array((self.size, first, last, *times), dtype=np.int64)
            kept.append((scratch, whole))
            threads.append(Thread(target=loop, args=(*addresses, scratch.data_ptr(), whole.ctypes.data)))
        for thread in threads[1:]:
            thread.start()
        threads[0].run()
        for thread in threads[1:]:
            thread.join()
        self.bad = sum(int(whole[kernels.BAD]) for _, whole in kept)


class _Rollout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: _Run, level: Tensor, cap: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.run = run
        ctx.save_for_backward(level, cap)
        sums = run.sums(level, cap)
        ctx.mark_non_differentiable(sums[3])
        return sums

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *grads: Tensor,
    ) -> tuple[Tensor | None, ...]:
        level, cap = ctx.saved_tensors
        gains = ctx.run.gains(level, cap, torch.stack(grads[:3]))
        pairs = zip((level, cap), gains, strict=True)
        return None, *(gain.sum().reshape(1) if x.numel() == 1 else gain.reshape(x.shape) for x, gain in pairs)
