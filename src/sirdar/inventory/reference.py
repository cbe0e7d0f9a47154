# SPDX-License-Identifier: Apache-2.0
"""The simulator once more, slow and obvious: plain numbers, one series after the other. The oracle of the fast one."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sirdar.inventory.demand import paths, require_fitting, require_order, require_order_shape
from sirdar.inventory.ledger import Ledger, Trajectory
from sirdar.inventory.limits import require_within, shared
from sirdar.inventory.policy import Outstanding, Policy, State
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.terms import RandomLeadTime, permitted


def simulate_slowly(
    policy: Policy,
    problem: InventoryProblem,
    demand: Float[np.ndarray, "*batch series time"] | Sequence[Any],
    stock: Stock | None = None,
    *,
    warm_up: int = 0,
    seed: int = 0,
) -> Ledger:
    """What `sirdar.inventory.simulator.simulate` does, in numpy. Arguments and errors are the same."""
    wanted = np.asarray(paths(demand, 1, seed), dtype=np.float64)
    start = require_fitting(problem, wanted.shape, stock, warm_up)
    time = wanted.shape[-1]
    lead = _lead_times(problem, wanted.shape, seed)
    # due[..., t] is what arrives in step t; steps beyond the end keep what would still come.
    due = np.zeros((*wanted.shape[:-1], time + problem.longest_lead_time + 1))
    due[..., : problem.longest_lead_time] = start.columns(problem)
    left_over = due.copy()  # what was under way at the start
    on_hand = np.broadcast_to(start.on_hand, wanted.shape[:-1]).copy()
    done = {name: np.zeros(wanted.shape) for name in ("orders", "received", "sold", "late", "on_hand")}
    reviews = np.broadcast_to(problem.review_period, wanted.shape[-2])
    cells = list(itertools.product(*(range(size) for size in wanted.shape[:-1])))
    for step in range(time):
        known = _outstanding(problem, left_over, done["orders"], lead, step)
        seen = _visible(problem, due, known, step)
        sales = [done["sold"][..., t] for t in range(step)]
        state = State(on_hand.copy(), seen, problem, step, sales, outstanding=_given(known))
        asked = np.asarray(policy.order(state), dtype=np.float64)
        require_order_shape(asked.shape, on_hand.shape, step)
        asked = np.broadcast_to(asked, on_hand.shape)
        require_order(asked, step)
        asked = permitted(asked, problem.rules, on_hand + due[..., step:].sum(axis=-1))
        for cell in cells:
            order = asked[cell] if step % reviews[cell[-1]] == 0 else 0.0
            due[(*cell, step + lead[(*cell, step)])] += order
            at = (*cell, step)
            done["orders"][at], done["received"][at] = order, due[at]
            done["sold"][at], done["late"][at], on_hand[cell] = _serve(
                on_hand[cell], due[at], wanted[at], backlog=problem.backlog
            )
            done["on_hand"][at] = on_hand[cell]
    if shared(problem):
        require_within(problem, start, done["orders"], wanted if problem.backlog else done["sold"])
    late = done.pop("late")
    lists = {name: list(np.moveaxis(units, -1, 0)) for name, units in done.items()}
    trajectory = Trajectory(wanted, lists, backlog=problem.backlog)
    # The fast simulator derives these from the rest; here they were counted one by one, and must be the same.
    assert np.allclose(trajectory.late, late), "units late do not follow from units sold and left"
    return Ledger(trajectory, problem, warm_up)


def _serve(on_hand: float, arriving: float, wanted: float, *, backlog: bool) -> tuple[float, float, float]:
    """Units shipped, units not served at once, and what is left (negative: waiting)."""
    shelf, waiting = max(on_hand, 0.0) + arriving, max(-on_hand, 0.0)
    oldest = min(shelf, waiting)  # those who wait are served first
    at_once = min(shelf - oldest, wanted)
    shelf -= oldest + at_once
    waiting = waiting - oldest + (wanted - at_once if backlog else 0.0)
    return oldest + at_once, wanted - at_once, shelf - waiting


def _lead_times(problem: InventoryProblem, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The lead time [*batch, series, time] of every order."""
    if isinstance(problem.lead_time, RandomLeadTime):
        return np.moveaxis(problem.lead_time.draw((shape[-1], *shape[:-1]), seed), 0, -1)
    return np.broadcast_to(np.reshape(problem.lead_time, (-1, 1)), shape)


def _outstanding(
    problem: InventoryProblem, left_over: np.ndarray, orders: np.ndarray, lead: np.ndarray, step: int
) -> Outstanding | None:
    """What was under way at the start, and what was ordered since and is not here; None if lead times are known."""
    if not isinstance(problem.lead_time, RandomLeadTime):
        return None
    width = problem.longest_lead_time
    placed = np.zeros((*orders.shape[:-1], min(width, step)))
    for age in range(1, placed.shape[-1] + 1):
        placed[..., age - 1] = orders[..., step - age] * (lead[..., step - age] >= age)
    return Outstanding(left_over[..., step : step + width].copy(), placed)


def _given(known: Outstanding | None) -> Callable[[], Outstanding] | None:
    return None if known is None else lambda: known


def _visible(problem: InventoryProblem, due: np.ndarray, known: Outstanding | None, step: int) -> np.ndarray:
    """What the policy sees of the pipeline: the truth if lead times are known, else its expectation by age."""
    if known is None or not isinstance(problem.lead_time, RandomLeadTime):
        return due[..., step : step + problem.longest_lead_time].copy()
    seen = known.known.copy()
    for age in range(1, known.placed.shape[-1] + 1):
        for more, chance in enumerate(problem.lead_time.remaining(age)):
            seen[..., more] += known.placed[..., age - 1] * chance
    return seen
