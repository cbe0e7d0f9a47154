# SPDX-License-Identifier: Apache-2.0
"""Limits that series share, kept by a price: the least one at which what all series want fits.

With a price on room or money every series decides alone: a Lagrange relaxation (Eisenach et al. 2024, arXiv:2410.02817,
forecast such prices). Orders fall as the price rises, so that it is found by bisection. Whole units and minimum orders
may leave a little of the limit unused.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.backend import Array
from sirdar.inventory.problem import InventoryProblem, Stock

Series = Float[np.ndarray, " series"]
HALVINGS = 30
SLACK = 1e-9


def shared(problem: InventoryProblem) -> bool:
    """Whether the series of a problem share a limit."""
    return math.isfinite(problem.rules.capacity) or math.isfinite(problem.rules.budget)


def within_limits(solve: Callable[[Series], Series], problem: InventoryProblem, position: Series) -> Series:
    """Orders that keep capacity and budget.

    Args:
        solve: the orders that the series want at given prices per unit.
        problem: its rules are kept.
        position: units on hand and under way of each series.

    Raises:
        ArgumentError: what is there already exceeds the capacity; or there is a budget, but nothing costs anything.
    """
    limits = []
    if math.isfinite(problem.rules.budget):
        limits.append((_costs(problem, len(position)), problem.rules.budget))
    if math.isfinite(problem.rules.capacity):
        volume = np.broadcast_to(problem.rules.volume, position.shape)
        limits.append((volume, _room(problem, volume * position)))
    steps = int(np.max(problem.review_period)) if problem.backlog else 1
    dearest = float(np.max(problem.lost_sale_cost)) * steps + 1.0
    return _search(solve, np.zeros(len(position)), limits, dearest)


def require_within(problem: InventoryProblem, stock: Stock, orders: Array, sold: Array) -> None:
    """Refuse a simulation whose policy broke a shared limit: [*batch, series, time], numpy."""
    rules = problem.rules
    series = orders.shape[-2]
    spent = (orders * _column(problem.trade.unit_cost, series)).sum(-2)
    if bool((spent > rules.budget * (1 + SLACK)).any()):
        msg = f"the policy spent {float(spent.max()):g} in one step, but the budget is {rules.budget:g}"
        raise ArgumentError(msg)
    before = stock.on_hand + stock.columns(problem).sum(axis=-1)
    position = before[:, None] + orders.cumsum(-1) - sold.cumsum(-1) + sold
    filled = (position * _column(rules.volume, series)).sum(-2)
    if bool((filled > rules.capacity * (1 + SLACK)).any()):
        msg = f"the policy filled {float(filled.max()):g} of room, but the capacity is {rules.capacity:g}"
        raise ArgumentError(msg)


def _search(
    solve: Callable[[Series], Series], price: Series, limits: list[tuple[np.ndarray, float]], dearest: float
) -> Series:
    """Orders at the least multiple of the first limit's weights that keeps it, the other limits being kept inside."""
    if not limits:
        return solve(price)
    (weights, room), rest = limits[0], limits[1:]
    orders = _search(solve, price, rest, dearest)
    if float(weights @ orders) <= room + SLACK:
        return orders
    low, high = 0.0, dearest / float(weights[weights > 0].min())
    kept = np.zeros_like(orders)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        orders = _search(solve, price + middle * weights, rest, dearest)
        if float(weights @ orders) <= room + SLACK:
            high, kept = middle, orders
        else:
            low = middle
    return kept


def _costs(problem: InventoryProblem, series: int) -> np.ndarray:
    costs = np.broadcast_to(np.asarray(problem.trade.unit_cost, dtype=np.float64), (series,))
    if not costs.any():
        msg = f"a budget of {problem.rules.budget:g} says nothing while unit_cost is 0: give Trade(unit_cost=...)"
        raise ArgumentError(msg)
    return costs


def _room(problem: InventoryProblem, filled: Series) -> float:
    room = problem.rules.capacity - float(filled.sum())
    if room < 0:
        most = int(np.argmax(filled))
        msg = (
            f"the capacity of {problem.rules.capacity:g} is exceeded by {-room:g} before anything is ordered: on hand "
            f"and under way fill {filled.sum():g}, most of it series {most} with {filled[most]:g}"
        )
        raise ArgumentError(msg)
    return room


def _column(value: float | np.ndarray, series: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (series,))[:, None]
