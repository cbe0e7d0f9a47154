# SPDX-License-Identifier: Apache-2.0
"""Limits that series share, kept by a price: the least one at which what all series want fits.

With a price on room or money every series decides alone: a Lagrange relaxation (Eisenach et al. 2024, arXiv:2410.02817,
forecast such prices). Orders fall as the price rises, so that it is found by bisection. What is left, since no price
splits units of equal worth, is shared out among the series that would order more at any lower price. Those of them
whose next pack or least order does not fit into the rest stay as they are, and the search goes on without them. Whole
units and minimum orders may leave a little of the limit unused; and one large order that saves less per room, but more
in all, than the small ones in its place is not found (a knapsack).

Units that customers wait for take no room: they leave as they arrive. A series with more customers waiting than units
under way fills nothing, and gives no room to others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.backend import Array, precision
from sirdar.inventory.problem import InventoryProblem, Stock

Series = Float[np.ndarray, " series"]
HALVINGS = 30
DOUBLINGS = 30
ROUNDS = 8  # searches, each without those whose orders did not fit before; three to five are usual
SLACK = 1e-9  # by which share of a limit a simulation may exceed it
DRIFT = 1e-6  # by which share of the capacity stock may: rounding error of float32
HAIR = 1e-12  # by which share orders may: rounding error


def shared(problem: InventoryProblem) -> bool:
    """Whether the series of a problem share a limit."""
    return math.isfinite(problem.rules.capacity) or math.isfinite(problem.rules.budget)


def within_limits(solve: Callable[[Series], Series], problem: InventoryProblem, position: Series) -> Series:
    """Orders that keep capacity and budget.

    Args:
        solve: the orders that the series want at given prices per unit; none at a price that no sale is worth.
        problem: its rules are kept.
        position: units on hand and under way of each series.

    Raises:
        ArgumentError: what is there already exceeds the capacity; or there is a budget, but nothing costs anything.
    """
    limits, dearest, none = _limits(problem, position), _dearest(problem), np.zeros(len(position))
    orders, most = none, np.where(_able(none, limits, problem), math.inf, 0.0)
    for _ in range(ROUNDS):
        bounded = _between(solve, orders, most)
        _, kept, wanted = _search(bounded, none, limits, dearest)
        wanted = np.maximum(wanted, kept)
        orders = _filled(kept, wanted, limits, problem)
        # Who wants more, but not as little as there is room for, has raised the price for the others.
        stuck = wanted > orders + 1e-9
        most = np.where(stuck | ~_able(orders, limits, problem), orders, most)
        if not stuck.any() or (most <= orders).all():
            break
    return orders


def shadow_prices(solve: Callable[[Series], Series], problem: InventoryProblem, position: Series) -> Series:
    """The prices per unit at which orders keep capacity and budget: arguments and errors are those of `within_limits`.

    Zero where nothing binds, infinite for a series whose least order does not fit even alone. If the orders do not fall
    steadily as prices rise, the limits are kept all the same.
    """
    limits, none = _limits(problem, position), np.zeros(len(position))
    able = _able(none, limits, problem)
    bounded = _between(solve, none, np.where(able, math.inf, 0.0))
    return np.where(able, _search(bounded, none, limits, _dearest(problem))[0], math.inf)


def _between(solve: Callable[[Series], Series], least: Series, most: Series) -> Callable[[Series], Series]:
    return lambda price: np.clip(solve(price), least, most)


def _limits(problem: InventoryProblem, position: Series) -> "list[_Limit]":
    limits = []
    if math.isfinite(problem.rules.budget):
        budget = problem.rules.budget * (1 + HAIR)
        limits.append(_Limit(_costs(problem, len(position)), budget, np.zeros(len(position))))
    if math.isfinite(problem.rules.capacity):
        volume = np.broadcast_to(problem.rules.volume, position.shape)
        left = max(_room(problem, volume * np.maximum(position, 0.0)), 0.0)
        room = left + HAIR * problem.rules.capacity
        limits.append(_Limit(volume, room, np.maximum(-position, 0.0)))
    return limits


def _dearest(problem: InventoryProblem) -> float:
    """A little more than any unit is worth: a step that the search halves must not be coarse where money is small."""
    steps = int(np.max(problem.review_period)) if problem.backlog else 1
    return 1.01 * (float(np.max(problem.lost_sale_cost)) * steps + float(np.max(problem.trade.price)))


def require_within(problem: InventoryProblem, stock: Stock, orders: Array, gone: Array) -> None:
    """Refuse a simulation whose policy broke a shared limit.

    Args:
        problem: whose limits are looked at.
        stock: at first.
        orders: placed, [*batch, series, time], numpy.
        gone: by how much stock on hand and under way fell: units sold, or wanted where demand waits.
    """
    rules, series = problem.rules, orders.shape[-2]
    slack = SLACK + 4 * precision(orders) * math.sqrt(orders.shape[-1])  # rounding errors of all steps, as they add up
    orders, gone = orders.astype(np.float64), gone.astype(np.float64)
    before = stock.on_hand + stock.columns(problem).sum(axis=-1)
    _room(problem, np.broadcast_to(rules.volume, before.shape) * np.maximum(before, 0.0))
    spent = orders * _column(problem.trade.unit_cost, series)
    _refuse_more(spent, rules.budget, slack, "spent {:g} in one step", "budget")
    position = np.maximum(before[:, None] + orders.cumsum(-1) - gone.cumsum(-1) + gone, 0.0)
    _refuse_more(position * _column(rules.volume, series), rules.capacity, slack, "filled {:g} of room", "capacity")


def _refuse_more(used: Array, limit: float, slack: float, did: str, name: str) -> None:
    """Refuse [*batch, series, time] that sums to more than a limit over the series in some step."""
    total = used.sum(-2)
    if not bool((total > limit * (1 + slack)).any()):
        return
    at = np.unravel_index(int(np.argmax(total)), total.shape)
    worst = used[(*at[:-1], slice(None), at[-1])]
    most = int(np.argmax(worst))
    msg = (
        f"the policy {did.format(float(total[at]))}, but the {name} is {limit:g}: {float(total[at]) - limit:g} too "
        f"much in step {int(at[-1])}, most of it for series {most} ({worst[most]:g})"
    )
    raise ArgumentError(msg)


@dataclass(frozen=True, eq=False)
class _Limit:
    """How much of a limit each unit uses, how much there is, and how many units of each series use none."""

    weights: Series
    room: float
    spared: Series

    def used(self, orders: Series) -> Series:
        return self.weights * np.maximum(orders - self.spared, 0.0)

    def keeps(self, orders: Series) -> bool:
        return float(self.used(orders).sum()) <= self.room

    def fits(self, orders: Series, step: Series) -> np.ndarray:
        """Which series may be raised by a step, each alone; a hair of the limit is the least."""
        hair = SLACK * self.room / np.where(self.weights > 0, self.weights, 1.0)
        used = self.used(orders)
        return self.used(orders + np.maximum(step, hair)) - used <= self.room - used.sum()


def _search(
    solve: Callable[[Series], Series], price: Series, limits: list[_Limit], dearest: float
) -> tuple[Series, Series, Series]:
    """Prices and orders at the least multiple of the first limit's weights that keeps it, the others being kept.

    Beside them, the orders at prices that are a hair lower.
    """
    if not limits:
        orders = solve(price)
        return price, orders, orders
    limit, rest = limits[0], limits[1:]
    weights = limit.weights
    found = _search(solve, price, rest, dearest)
    if limit.keeps(found[1]):
        return found
    low, high = 0.0, dearest / float(weights[weights > 0].min())
    more, kept = found[1], _search(solve, price + high * weights, rest, dearest)
    for _ in range(DOUBLINGS):  # a unit that is waited for through several reviews is worth more than one review
        if limit.keeps(kept[1]):
            break
        low, high, more = high, 2 * high, kept[1]
        kept = _search(solve, price + high * weights, rest, dearest)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _search(solve, price + middle * weights, rest, dearest)
        if limit.keeps(found[1]):
            high, kept = middle, found
        else:
            low, more = middle, found[1]
    return kept[0], kept[1], np.maximum(kept[2], more)


def _filled(orders: Series, wanted: Series, limits: list[_Limit], problem: InventoryProblem) -> Series:
    """Orders raised toward what is wanted as far as the limits go: first by one share of what is missing, for all.

    Then by the least that may be added to each, those first that the share left farthest behind. A new order that costs
    something as such is placed whole or not at all.
    """
    count = len(orders)
    pack, least, dear = (
        np.broadcast_to(np.asarray(x, dtype=np.float64), count)
        for x in (problem.rules.case_pack, problem.rules.least, problem.trade.order_cost)
    )
    first = np.where(dear > 0, wanted, np.minimum(np.maximum(least, pack), wanted))  # the least order where none is yet
    fair = orders + _share(orders, wanted, limits) * (wanted - orders)
    whole = orders + _packed(fair - orders, pack)
    orders = np.where((orders > 0) | (whole >= first), np.maximum(whole, orders), 0.0)
    others = np.where(orders > 0, wanted, orders)  # for them is what those too small to be ordered leave
    orders = orders + _packed(_share(orders, others, limits) * (others - orders), pack)
    while True:
        step = np.where(orders > 0, pack, first)
        raised = np.where(orders + step <= wanted + 1e-9, orders + step, orders)
        extra = [limit.used(raised) - limit.used(orders) for limit in limits]
        free = [limit.room - float(limit.used(orders).sum()) for limit in limits]
        fits = (raised > orders) & np.all([e <= f for e, f in zip(extra, free, strict=True)], axis=0)
        queue = np.flatnonzero(fits)[np.argsort((orders - fair)[fits], kind="stable")]
        held = np.all([np.cumsum(e[queue]) <= f for e, f in zip(extra, free, strict=True)], axis=0)
        taken = queue[np.cumprod(held).astype(bool)]
        if not len(taken):
            break
        orders[taken] = raised[taken]
    rest = np.where((pack == 0) & (orders > 0), wanted, orders)  # what minimum orders left of goods that can be split
    return orders + _share(orders, rest, limits) * (rest - orders)


def _able(orders: Series, limits: list[_Limit], problem: InventoryProblem) -> np.ndarray:
    """Which series the limits let order more than they do, if no other does: a pack, or the least order there is."""
    pack, least = (np.broadcast_to(x, len(orders)) for x in (problem.rules.case_pack, problem.rules.least))
    step = np.where(orders > 0, pack, np.maximum(least, pack))
    return np.all([limit.fits(orders, step) for limit in limits], axis=0)


def _packed(units: Series, pack: Series) -> Series:
    return np.where(pack > 0, np.floor(units / np.where(pack > 0, pack, 1) + 1e-9) * pack, units)


def _share(orders: Series, wanted: Series, limits: list[_Limit]) -> float:
    """The largest share of what is missing that keeps all limits if each series is given it."""
    low, high = 0.0, 1.0
    if all(limit.keeps(wanted) for limit in limits):
        return high
    for _ in range(2 * HALVINGS):
        middle = (low + high) / 2
        if all(limit.keeps(orders + middle * (wanted - orders)) for limit in limits):
            low = middle
        else:
            high = middle
    return low


def _costs(problem: InventoryProblem, series: int) -> np.ndarray:
    costs = np.broadcast_to(np.asarray(problem.trade.unit_cost, dtype=np.float64), (series,))
    if not costs.any():
        msg = f"a budget of {problem.rules.budget:g} says nothing while unit_cost is 0: give Trade(unit_cost=...)"
        raise ArgumentError(msg)
    return costs


def _room(problem: InventoryProblem, filled: Series) -> float:
    room = problem.rules.capacity - float(filled.sum())
    if room < -DRIFT * problem.rules.capacity:
        most = int(np.argmax(filled))
        msg = (
            f"the capacity of {problem.rules.capacity:g} is exceeded by {-room:g} before anything is ordered: on hand "
            f"and under way fill {filled.sum():g}, most of it series {most} with {filled[most]:g}"
        )
        raise ArgumentError(msg)
    return room


def _column(value: float | np.ndarray, series: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (series,))[:, None]
