# SPDX-License-Identifier: Apache-2.0
"""The simulator: a policy against demand, batched over series and scenarios, differentiable from cost back to policy.

Demand does not depend on what is ordered, so that any policy can be replayed on any history, and the gradient of its
cost is the derivative of the transitions along the path: Madeka et al. (2022), "Deep Inventory Management",
arXiv:2210.03137, where the problem is called an exogenous interactive decision process. The order of events is that of
`sirdar.inventory.problem`; `sirdar.inventory.reference` says the same in plain Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sirdar.inventory.demand import (
    none_below_zero,
    paths,
    require_demand,
    require_fitting,
    require_order,
    require_order_shape,
)
from sirdar.inventory.fused import Shelf, add_up, serve
from sirdar.inventory.ledger import Ledger, Trajectory
from sirdar.inventory.limits import require_within, shared
from sirdar.inventory.pipeline import CrossingLanes, Pipeline, open_pipeline
from sirdar.inventory.policy import Policy, State
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.rollout import rolled_out
from sirdar.inventory.terms import permitted
from sirdar.predictive import Forecast


def simulate(
    policy: Policy,
    problem: InventoryProblem,
    demand: Float[Any, "*batch series time"] | Sequence[Any] | Forecast,
    stock: Stock | None = None,
    *,
    warm_up: int = 0,
    samples: int = 100,
    seed: int = 0,
) -> Ledger:
    """Let a policy order through all steps of demand.

    Args:
        policy: asked in every review step, all series and scenarios at once.
        problem: costs, times and rules. Orders are rounded up to what its rules permit; where gradients flow, they pass
            the rounding unchanged.
        demand: numpy array, torch tensor or lists whose last axes are series and time; leading axes are scenarios. Or
            a `Forecast`, from which `samples` scenarios are drawn.
        stock: where the series stand at first; empty without it.
        warm_up: first steps that are simulated but not counted. Orders count by the step in which they are placed:
            those of the warm-up are free, though their goods may sell in steps that count, and the last ones are paid
            for, though they may arrive after the end.
        samples: scenarios to draw from a `Forecast`.
        seed: of those scenarios, and of random lead times.

    Returns:
        Costs and service. Tensors, with a graph behind them if the policy has parameters.

    Raises:
        ArgumentError: shapes disagree, demand is negative or not a number, the lead time exceeds the time, or the
            policy breaks a limit that series share.
    """
    wanted = _tensor(paths(demand, samples, seed, later=True))
    start = require_fitting(problem, tuple(wanted.shape), stock, warm_up)
    counting = _Counting(warm_up, seed)
    weights = [counting.weight(step, problem.discount) for step in range(wanted.shape[-1])]
    sums = rolled_out(policy, problem, wanted, start, weights)
    if sums is not None:  # steps are taken one by one only if someone asks for them
        later = _Later(policy, problem, start, counting)
        return Ledger(Trajectory(wanted, lambda: later.steps(wanted), backlog=problem.backlog), problem, warm_up, sums)
    lists, sums = _run(policy, problem, wanted, start, counting)
    trajectory = Trajectory(wanted, lists, backlog=problem.backlog)
    if shared(problem):
        gone = trajectory.demand if problem.backlog else trajectory.sold
        require_within(problem, start, trajectory.orders.detach().numpy(), gone.detach().numpy())
    return Ledger(trajectory, problem, warm_up, sums)


def _tensor(demand: Any) -> Tensor:  # noqa: ANN401 - numpy's or torch's
    """Demand in float32 or float64, and in memory that torch may share."""
    if not isinstance(demand, Tensor):
        kind = demand.dtype if demand.dtype in (np.float32, np.float64) else np.float64
        demand = torch.from_numpy(np.require(demand, kind, ("C", "W")))
    if demand.dtype in (torch.float32, torch.float64):
        return demand
    return demand.to(torch.float32 if demand.is_floating_point() else torch.float64)


@dataclass(frozen=True)
class _Counting:
    """From which step on steps count, and the seed of random lead times."""

    warm_up: int
    seed: int

    def weight(self, step: int, discount: float) -> float:
        """With what weight a step counts."""
        return discount ** (step - self.warm_up) if step >= self.warm_up else 0.0


class _Later:
    """A simulation that may be repeated step by step: the policy as it was, whatever becomes of its parameters."""

    def __init__(self, policy: Policy, problem: InventoryProblem, stock: Stock, counting: _Counting) -> None:
        self._run = (policy, problem, stock, counting)
        self._graph = torch.is_grad_enabled()
        given = getattr(policy, "__dict__", {})
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        self._versions = {name: value._version for name, value in tensors.items()}
        self._kept = {name: value.detach().clone() for name, value in tensors.items()}

    def steps(self, demand: Tensor) -> dict[str, Sequence[Tensor]]:
        """What was done in each step; with a graph behind it unless parameters have been changed since."""
        policy, problem, stock, counting = self._run
        if any(getattr(policy, name)._version != version for name, version in self._versions.items()):
            policy = replace(policy, **self._kept)  # pyright: ignore[reportArgumentType]  # a dataclass
        with torch.set_grad_enabled(self._graph):
            return _run(policy, problem, demand, stock, counting)[0]


class _Shipped(Sequence[Tensor]):
    """Units shipped in each step of lost sales: what the stock lost. It grows with the steps."""

    def __init__(self, on_hand: Tensor, received: list[Tensor], left: list[Tensor]) -> None:
        self._on_hand, self._received, self._left = on_hand, received, left

    def __len__(self) -> int:
        return len(self._left)

    @overload
    def __getitem__(self, step: int) -> Tensor: ...
    @overload
    def __getitem__(self, step: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, step: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(step, slice):
            return [self[one] for one in range(len(self))[step]]
        at = range(len(self))[step]  # from the end, or refused, as a list does
        before = self._left[at - 1] if at else self._on_hand
        return before + self._received[at] - self._left[at]


def _run(
    policy: Policy,
    problem: InventoryProblem,
    demand: Float[Tensor, "*batch series time"],
    stock: Stock,
    counting: _Counting,
) -> tuple[dict[str, Sequence[Tensor]], dict[str, Tensor] | None]:
    scenarios = demand.shape[:-1]
    on_hand = demand.new_tensor(stock.on_hand).expand(scenarios)
    under_way = demand.new_tensor(stock.columns(problem))
    pipeline = open_pipeline(problem, under_way.expand(*scenarios, -1), demand.shape[-1], counting.seed)
    reviews = problem.review_period
    nothing = torch.zeros_like(on_hand)
    shelf = Shelf(on_hand, on_hand + under_way.sum(-1), torch.zeros_like(nothing), torch.zeros_like(nothing))
    # One list per field of `Trajectory`, stacked when asked for.
    orders, received, left = records = ([], [], [])
    waited: list[Tensor] = []
    sold: Sequence[Tensor] = waited if problem.backlog else _Shipped(on_hand, received, left)
    for step, wanted in enumerate(demand.movedim(-1, 0).contiguous()):
        if not none_below_zero(wanted):
            require_demand(demand)
        due = step % reviews == 0 if isinstance(reviews, int) else demand.new_tensor(step % reviews == 0)
        order = nothing
        if isinstance(due, Tensor) or due:
            known = pipeline.outstanding if isinstance(pipeline, CrossingLanes) else None
            counted = partial(_counted, shelf, pipeline)
            state = State(shelf.on_hand, pipeline.visible, problem, step, sold, counted, known, shelf.position)
            order = _placed(policy.order(state), state)
            order = order * due if isinstance(due, Tensor) else order
        arriving = pipeline.turn(order)
        if problem.backlog:
            shipped, on_hand = _serve_in_turn(shelf.on_hand, arriving, wanted)
            waited.append(shipped)
            shelf = shelf._replace(on_hand=on_hand, position=shelf.position + order - wanted)
        else:
            shelf = serve(shelf, arriving, wanted, order, counting.weight(step, problem.discount))
        for record, units in zip(records, (order, arriving, shelf.on_hand), strict=True):
            record.append(units)
    lists = {"orders": orders, "received": received, "sold": sold, "on_hand": left}
    return lists, None if problem.backlog else {"held": shelf.held, "short": shelf.lost}


def _serve_in_turn(on_hand: Tensor, arriving: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Units shipped, those who had waited first, and what is left: negative for those who wait now."""
    after = on_hand + arriving - wanted
    return on_hand.relu() + arriving - after.relu(), after


def _counted(shelf: Shelf, pipeline: Pipeline) -> Tensor:
    """Units on hand and under way, counted anew: the sum that is carried keeps rounding errors when no unit is left.

    They are written over the carried sum, whose graph, one edge a step in place of one a lane, stays theirs.
    """
    add_up([*pipeline.lanes(), shelf.on_hand], shelf.position)
    return shelf.position


def _placed(order: Any, state: State) -> Tensor:  # noqa: ANN401
    """The order as it is placed: a tensor, not negative, rounded up to what is permitted, cut to its shelf."""
    on_hand, rules, step = state.on_hand, state.problem.rules, state.step
    asked = torch.as_tensor(order, dtype=on_hand.dtype, device=on_hand.device)
    require_order_shape(tuple(asked.shape), tuple(on_hand.shape), step)
    asked = asked.expand(on_hand.shape)  # compiled loops read as many orders as there is stock
    require_order(asked.detach(), step)
    if rules.free:
        return asked
    placed = permitted(asked, rules, state.position if np.any(np.isfinite(rules.shelf)) else None)
    return asked + (placed - asked).detach() if asked.requires_grad else placed
