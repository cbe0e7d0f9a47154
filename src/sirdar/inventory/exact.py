# SPDX-License-Identifier: Apache-2.0
"""Exact average costs of lost-sales systems with small lead times: the optimum, and any rule, by dynamic programming.

Demand is independent from step to step with known probabilities. Relative value iteration runs over the stock and every
order under way, and ends when the bounds on the average cost are closer than `TOLERANCE` (Puterman 1994, section 8.5).
States, policies and notation follow Zipkin (2008), "Old and New Methods for Lost-Sales Inventory Systems", Operations
Research 56(5), whose Table 3 this module reproduces. No optimal policy holds more units than the newsvendor level of
lead_time + 1 steps, which bounds the states.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.inventory.distributions import Probabilities, convolve, quantile, require_probabilities
from sirdar.inventory.limits import shared
from sirdar.inventory.newsvendor import step_costs
from sirdar.inventory.policy import Policy, State
from sirdar.inventory.problem import InventoryProblem

if TYPE_CHECKING:
    from sirdar.inventory.exact_kernels import Space

TOLERANCE = 1e-7
MOST_STATES = 20_000_000
MOST_SWEEPS = 20_000  # a policy that is not broken needs about a hundred
SETTLED = 500  # sweeps after which a cost that does not settle may go round in circles


@dataclass(frozen=True, eq=False)
class Tabulated:
    """A policy that looks its order up: one for each stock and every order under way, in whole units.

    States beyond the table are cut to it: with more stock than the table knows, nothing is ordered.
    """

    space: "Space"
    orders: Int64[np.ndarray, " state"]

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Orders for whole units of stock, numpy."""
        stock, tail = self._digits(state)
        room = self.space.limit - tail.sum(-1)
        known = (stock <= room) & (room >= 0)
        weights = (self.space.limit + 1) ** np.arange(tail.shape[-1])[::-1]
        rows = self.space.lookup[np.where(known[..., None], tail, 0) @ weights]
        return np.where(known, self.orders[rows + np.where(known, stock, 0)], 0).astype(np.float64)

    def _digits(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        pipeline = np.rint(np.asarray(state.pipeline)).astype(np.int64)
        length = self.space.tails.shape[1]
        if pipeline.shape[-1] != length + 1:
            msg = f"this table is for a lead time of {length + 1}, but the pipeline has {pipeline.shape[-1]} steps"
            raise ArgumentError(msg)
        # What arrives now meets the coming demand: in the table it is stock.
        stock = np.rint(np.asarray(state.on_hand)).astype(np.int64) + pipeline[..., 0]
        return stock, pipeline[..., 1:]


@dataclass(frozen=True, eq=False)
class Exact:
    """The average cost per step of a policy, and the policy."""

    cost: float
    policy: Tabulated


def optimal(problem: InventoryProblem, demand: Probabilities) -> Exact:
    """The least average cost of all policies."""
    space = _space(problem, demand, _newsvendor_level(problem, demand))
    costs = _costs(problem, space)
    value, best = np.zeros(len(costs)), np.zeros(len(costs))
    orders = np.zeros(len(costs), dtype=np.int64)
    nothing = np.zeros(space.limit + 1)
    kernels = _kernels()
    cost = _iterate(value, costs, lambda now: kernels.best_orders(space, now, nothing, best, orders), best)
    return Exact(cost, Tabulated(space, orders))


def myopic(problem: InventoryProblem, demand: Probabilities, steps: int = 1) -> Exact:
    """The policy that minimises the cost of the step in which its order arrives, and of the step after with steps=2.

    Morton (1971) for one step; Zipkin (2008), section 4, "myopic-2".
    """
    return evaluate(problem, myopic_orders(problem, demand, steps))


def myopic_orders(problem: InventoryProblem, demand: Probabilities, steps: int = 1) -> Tabulated:
    """The orders of the myopic policy, not evaluated."""
    if steps not in (1, 2):
        msg = f"steps must be 1 or 2, got {steps!r}"
        raise ArgumentError(msg)
    space = _space(problem, demand, _newsvendor_level(problem, demand))
    kernels = _kernels()
    count = int(space.rests.sum() + len(space.rests))
    value, orders = np.zeros(count), np.zeros(count, dtype=np.int64)
    arrival = step_costs(*_prices(problem), space.demand, space.limit)
    for _ in range(steps):
        ahead = value
        value = np.zeros(count)
        kernels.best_orders(space, ahead, arrival, value, orders)
    return Tabulated(space, orders)


def base_stock(problem: InventoryProblem, demand: Probabilities, level: int) -> Exact:
    """Order up to a level of units on hand and under way together."""
    return capped_base_stock(problem, demand, level, cap=level)


def capped_base_stock(problem: InventoryProblem, demand: Probabilities, level: int, cap: int) -> Exact:
    """Order up to a level, but never more than `cap` at once.

    Xin (2021), "Understanding the Performance of Capped Base-Stock Policies in Lost-Sales Inventory Models", Operations
    Research 69(1).
    """
    space = _space(problem, demand, level)
    total = space.limit - np.repeat(space.rests, space.rests + 1) + _stocks(space)
    return evaluate(problem, Tabulated(space, np.minimum(level - total, cap).astype(np.int64)))


def best_base_stock(problem: InventoryProblem, demand: Probabilities) -> tuple[int, Exact]:
    """The level with the least average cost."""
    high = _newsvendor_level(problem, demand) + 3
    found, best = _descend((high,), lambda at: base_stock(problem, demand, at[0]), lambda at: 0 <= at[0] <= high)
    return found[0], best


def best_capped_base_stock(problem: InventoryProblem, demand: Probabilities) -> tuple[int, int, Exact]:
    """The level and the cap with the least average cost: from the best cap at the best base-stock level downhill."""
    level, _ = best_base_stock(problem, demand)

    def solve(at: tuple[int, ...]) -> Exact:
        return capped_base_stock(problem, demand, *at)

    cap = min(range(level + 1), key=lambda cap: solve((level, cap)).cost)
    found, best = _descend((level, cap), solve, lambda at: 0 <= at[1] <= at[0])
    return found[0], found[1], best


def evaluate(problem: InventoryProblem, policy: Tabulated) -> Exact:
    """The average cost of a table of orders for whoever begins with nothing in stock and nothing under way.

    Raises:
        ArgumentError: the cost cannot be told, because it depends on chance where the policy ends up.
    """
    space, kernels = policy.space, _kernels()
    stocks, rows = _stocks(space), kernels.next_rows(space, policy.orders)
    states = kernels.reachable(space, rows, stocks)
    every, costs, best = np.zeros(len(stocks)), _costs(problem, space)[states], np.zeros(len(states))

    def sweep(value: np.ndarray) -> None:
        every[states] = value
        kernels.follow(space, states, rows, stocks, every, best)

    return Exact(_iterate(np.zeros(len(states)), costs, sweep, best), policy)


def tabulate(policy: Policy, problem: InventoryProblem, demand: Probabilities, margin: int = 3) -> Tabulated:
    """The orders of any policy in every state, rounded to whole units: with `evaluate`, its exact cost.

    Args:
        policy: asked once, with one scenario per state.
        problem: lost sales, as for all functions here.
        demand: probabilities of 0, 1, 2, ... units.
        margin: units by which stock may exceed the bound that holds for optimal policies; orders are cut to it.
    """
    space = _space(problem, demand, _newsvendor_level(problem, demand) + margin)
    tails = np.repeat(space.tails, space.rests + 1, axis=0)
    stock = _stocks(space)
    pipeline = np.concatenate([np.zeros((len(stock), 1)), tails], axis=1, dtype=np.float64)
    asked = np.asarray(policy.order(State(stock[:, None].astype(np.float64), pipeline[:, None], problem)))[:, 0]
    room = space.limit - stock - tails.sum(axis=1)
    return Tabulated(space, np.minimum(np.rint(asked), room).astype(np.int64))


def _iterate(value: np.ndarray, costs: np.ndarray, sweep: Callable[[np.ndarray], None], best: np.ndarray) -> float:
    """Relative value iteration: the average cost lies between the least and the largest change of a sweep."""
    low, high = -np.inf, np.inf
    for sweeps in range(MOST_SWEEPS):
        sweep(value)
        change = best + costs - value
        low, high = float(change.min()), float(change.max())
        # What comes back every few steps alone never settles: part of a step does (Puterman 1994, section 8.5.4).
        value += (1.0 if sweeps < SETTLED else 0.9) * (change - low)
        if high - low < TOLERANCE:
            return (low + high) / 2
    msg = (
        f"the average cost is still between {low:g} and {high:g} after {MOST_SWEEPS:,} sweeps: it depends on where the "
        "policy ends up; perhaps it stops to order in some state"
    )
    raise ArgumentError(msg)


def _descend(
    start: tuple[int, ...], solve: Callable[[tuple[int, ...]], Exact], allowed: Callable[[tuple[int, ...]], bool]
) -> tuple[tuple[int, ...], Exact]:
    """Go to the best neighbour, diagonal ones too, until none is better."""
    known = {start: solve(start)}
    here = start
    while True:
        around = [tuple(np.add(here, step).tolist()) for step in product((-1, 0, 1), repeat=len(start))]
        for at in filter(allowed, around):
            if at not in known:
                known[at] = solve(at)
        best = min((at for at in around if at in known), key=lambda at: known[at].cost)
        if known[best].cost >= known[here].cost:
            return here, known[here]
        here = best


def _space(problem: InventoryProblem, demand: Probabilities, limit: int) -> "Space":
    chances = require_probabilities(demand)
    lead = _require_plain(problem)
    states = comb(limit + lead, lead)
    if states > MOST_STATES:
        msg = f"an exact solution has {states:,} states, more than {MOST_STATES:,}: shorten lead_time {lead}"
        raise UnsupportedError(msg)
    tails = _tails(lead - 1, limit)
    rests = limit - tails.sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(rests + 1)[:-1]]).astype(np.int64)
    codes = tails @ ((limit + 1) ** np.arange(lead - 1, dtype=np.int64)[::-1])
    lookup = np.zeros((limit + 1) ** (lead - 1), dtype=np.int64)
    lookup[codes] = starts
    beyond = 1.0 - np.concatenate([[0.0], np.cumsum(chances)])
    beyond = np.maximum(np.pad(beyond, (0, max(0, limit + 1 - len(beyond)))), 0.0)
    return _kernels().Space(limit, tails, starts, rests, codes, lookup, chances, beyond)


def _tails(length: int, limit: int) -> Int64[np.ndarray, "tail length"]:
    """All lists of whole numbers of one length whose sum is at most the limit."""
    tails = np.zeros((1, 0), dtype=np.int64)
    for _ in range(length):
        room = limit - tails.sum(axis=1)
        last = np.concatenate([np.arange(r + 1) for r in room])
        tails = np.column_stack([np.repeat(tails, room + 1, axis=0), last])
    return tails


def _stocks(space: "Space") -> np.ndarray:
    return np.concatenate([np.arange(rest + 1) for rest in space.rests])


def _costs(problem: InventoryProblem, space: "Space") -> np.ndarray:
    return step_costs(*_prices(problem), space.demand, space.limit)[_stocks(space)]


def _prices(problem: InventoryProblem) -> tuple[float, float]:
    return float(problem.holding_cost), float(problem.lost_sale_cost)


def _newsvendor_level(problem: InventoryProblem, demand: Probabilities) -> int:
    total = convolve(require_probabilities(demand), _require_plain(problem) + 1)
    return quantile(total, float(problem.critical_ratio))


def _require_plain(problem: InventoryProblem) -> int:
    """The lead time of a problem that this module can solve."""
    lead = problem.lead_time
    free = not any(np.any(price) for price in vars(problem.trade).values())
    roomy = not shared(problem) and np.all(np.isinf(problem.rules.shelf))
    whole = problem.series is None and not np.any(problem.rules.minimum) and problem.rules.case_pack in (0, 1)
    stepwise = problem.review_period == 1 and problem.discount == 1 and not problem.backlog
    if not (isinstance(lead, int) and lead >= 1 and free and whole and roomy and stepwise):
        msg = (
            "exact solutions are for lost sales, a known lead_time of at least 1, review_period 1, no discount, and "
            f"scalar holding and lost-sale costs alone, got {problem}"
        )
        raise UnsupportedError(msg)
    return lead


def _kernels() -> Any:  # noqa: ANN401
    if importlib.util.find_spec("numba") is None:
        msg = "exact solutions need numba: pip install numba"
        raise UnsupportedError(msg)
    from sirdar.inventory import exact_kernels  # here, not above: it loads numba

    return exact_kernels
