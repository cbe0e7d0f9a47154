# SPDX-License-Identifier: Apache-2.0
"""What a simulation did, unit by unit, and what it cost. Written once, for numpy and torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, final

import numpy as np
from jaxtyping import Shaped

from sirdar.inventory.backend import Array, Parameter, along_last, match, precision
from sirdar.inventory.problem import InventoryProblem

Steps = Shaped[Any, "*batch series time"]
Totals = Shaped[Any, "*batch series"]
Lists = Mapping[str, Sequence[Array]]


@final
class Trajectory:
    """Units per step: [*batch, series, time].

    Args:
        demand: wanted.
        steps: `lists`, or a function that is called for them when they are first asked for.
        backlog: whether demand waits.
    """

    def __init__(self, demand: Steps, steps: Lists | Callable[[], Lists], *, backlog: bool) -> None:
        self.demand = demand
        self.backlog = backlog
        self._steps = steps

    @cached_property
    def lists(self) -> Lists:
        """One array [*batch, series] per step, by name: "orders", "received", "sold" and "on_hand"."""
        return self._steps() if callable(self._steps) else self._steps

    @cached_property
    def orders(self) -> Steps:
        """Units placed."""
        return along_last(self.lists["orders"])

    @cached_property
    def received(self) -> Steps:
        """Units arrived."""
        return along_last(self.lists["received"])

    @cached_property
    def sold(self) -> Steps:
        """Units shipped, those that had waited too."""
        return along_last(self.lists["sold"])

    @cached_property
    def on_hand(self) -> Steps:
        """Units left; negative where demand waits."""
        return along_last(self.lists["on_hand"])

    @cached_property
    def late(self) -> Steps:
        """Units not served at once: lost, or waiting from now on."""
        if not self.backlog:
            # Nothing is lost where something is left: there the difference is the rounding error of the stock.
            return (self.demand - self.sold).clip(min=0) * (self.on_hand <= 0)
        waiting = (-self.on_hand).clip(min=0)
        # Of those who wait after a step, the ones who came in it; the others had waited before.
        return waiting - (waiting - self.demand).clip(min=0)


@dataclass(frozen=True, eq=False)
class Ledger:
    """Costs and service of a trajectory, per series and scenario. Differentiable where the trajectory is.

    Args:
        trajectory: units per step.
        problem: costs.
        warm_up: first steps that do not count.
        sums: over the steps that count, discounted, where the simulator has them already: of units "held", "short"
            (lost, or waiting) and "ordered", and of orders "placed".
    """

    trajectory: Trajectory
    problem: InventoryProblem
    warm_up: int = 0
    sums: Mapping[str, Totals] | None = None

    @cached_property
    def holding(self) -> Totals:
        """Holding cost."""
        return self._total("held") * self._of(self.problem.holding_cost)

    @cached_property
    def lost_sales(self) -> Totals:
        """Cost of units lost, or of units waiting, step by step."""
        return self._total("short") * self._of(self.problem.lost_sale_cost)

    @cached_property
    def purchase(self) -> Totals:
        """Paid for the units ordered."""
        return self._total("ordered") * self._of(self.problem.trade.unit_cost)

    @cached_property
    def ordering(self) -> Totals:
        """Paid for placing orders. It has no useful gradient: it jumps where an order begins."""
        return self._total("placed") * self._of(self.problem.trade.order_cost)

    @cached_property
    def income(self) -> Totals:
        """Earned with the units sold."""
        return self._units_sold * self._of(self.problem.trade.price)

    @cached_property
    def _units_sold(self) -> Totals:
        if self.sums is not None and "short" in self.sums and not self.problem.backlog:
            return self._units_wanted - self.sums["short"]
        return self._sum(self.trajectory.lists["sold"])

    @property
    def cost(self) -> Totals:
        """Holding, lost sales, purchase and ordering; discounted to the first step that counts."""
        cost = self.holding + self.lost_sales
        trade = self.problem.trade
        cost = cost + self.purchase if np.any(trade.unit_cost) else cost
        return cost + self.ordering if np.any(trade.order_cost) else cost

    @property
    def profit(self) -> Totals:
        """Income less cost."""
        return self.income - self.cost

    @property
    def steps(self) -> int:
        """Steps that count."""
        return self.trajectory.demand.shape[-1] - self.warm_up

    @property
    def cost_per_step(self) -> float:
        """Mean over series, scenarios and steps, not discounted only if the problem is not."""
        return _number(self.cost.mean()) / self.steps

    @property
    def fill_rate(self) -> float:
        """Share of demand served at once; 1 if there was none."""
        wanted = _number(self.trajectory.demand[..., self.warm_up :].sum())
        return 1.0 - _number(self.trajectory.late[..., self.warm_up :].sum()) / wanted if wanted > 0 else 1.0

    @property
    def cycle_service_level(self) -> float:
        """Share of review periods in which nothing was short."""
        short = self._short()[..., self.warm_up :]
        reviews = np.broadcast_to(self.problem.review_period, short.shape[-2:-1])
        served, cycles = 0, 0
        for period in np.unique(reviews):
            starts = np.arange(0, short.shape[-1], period)
            any_short = np.logical_or.reduceat(short[..., reviews == period, :], starts, axis=-1)
            served += int((~any_short).sum())
            cycles += any_short.size
        return served / cycles

    def _short(self) -> Shaped[np.ndarray, "*batch series time"]:
        """Where more units were late than is rounding error, which grows with the units that a series deals in.

        Half a unit is none: a whole one is seen among millions, in float32 too.
        """
        done = self.trajectory
        late, *units = (
            x if isinstance(x, np.ndarray) else x.detach().numpy()
            for x in (done.late, done.demand, done.sold, done.on_hand)
        )
        most = sum(np.abs(x).max(axis=-1, keepdims=True) for x in units)
        return late > 1e-9 + np.minimum(4 * precision(done.demand) * most, 0.5)

    @property
    def turns(self) -> float:
        """Units sold per unit of mean stock, over all steps that count; infinite without stock."""
        stock = _number(self.trajectory.on_hand[..., self.warm_up :].clip(min=0).sum()) / self.steps
        sold = _number(self.trajectory.sold[..., self.warm_up :].sum())
        return sold / stock if stock > 0 else float("inf")

    def summary(self) -> dict[str, float]:
        """Means per series and step of each cost, and the service."""
        costs = ("cost", "holding", "lost_sales", "purchase", "ordering", "income", "profit")
        means = {name: _number(getattr(self, name).mean()) / self.steps for name in costs}
        service = {name: getattr(self, name) for name in ("fill_rate", "cycle_service_level", "turns")}
        return means | service

    def _of(self, value: Parameter) -> Parameter:
        return match(value, self.trajectory.demand)

    @property
    def _units_wanted(self) -> Totals:
        counted = self.trajectory.demand[..., self.warm_up :]
        if self.problem.discount == 1:
            return counted.sum(-1)
        worth = self.problem.discount ** np.arange(self.steps, dtype=np.float64)
        return (counted * self._of(worth)).sum(-1)

    def _total(self, name: str) -> Totals:
        """One of the sums, added up from the steps where the simulator has not."""
        if self.sums is not None and name in self.sums:
            return self.sums[name]
        if name == "short" and not self.problem.backlog:
            return self._units_wanted - self._units_sold
        done = self.trajectory.lists
        if name == "placed":
            return self._sum(1.0 * (one > 0) for one in done["orders"])
        if name == "ordered":
            return self._sum(done["orders"])
        if not self.problem.backlog:
            return self._sum(done["on_hand"])
        return self._sum((one if name == "held" else -one).clip(min=0) for one in done["on_hand"])

    def _sum(self, units: Iterable[Array]) -> Totals:
        """Units over the steps that count, discounted: added step by step, which needs no second copy of them."""
        total: Any = 0.0
        worth = 1.0
        for one in islice(units, self.warm_up, None):
            total = total + (one if worth == 1 else one * worth)
            worth *= self.problem.discount
        return total


def _number(value: Array) -> float:
    """A plain number, without the graph that may stand behind it."""
    return float(value.detach()) if hasattr(value, "detach") else float(value)
