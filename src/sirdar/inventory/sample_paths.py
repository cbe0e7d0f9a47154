# SPDX-License-Identifier: Apache-2.0
"""One order against sample paths of demand: the best quantity, and what is to be expected of any.

All arrays belong to series with one lead time L and one review period R, the order arriving just before the demand of
step L. The cost of an order is a sum of convex, piecewise linear functions of it, so that its least value stands where
the slopes, added up in the order of their break points, turn positive.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.backend import Values
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import permitted

Series = Float[np.ndarray, " series"]
Pipeline = Float[np.ndarray, "series lead"]
Paths = Float[np.ndarray, "series horizon sample"]
Needs = Float[np.ndarray, "series covered sample"]  # steps from the arrival of the order on


@dataclass(frozen=True)
class Expected:
    """Means over sample paths, summed over the steps of the paths: units, except the two costs."""

    holding_cost: Series
    lost_sale_cost: Series
    demand: Series
    lost: Series  # with backlog, units that had to wait
    left: Series  # at the end of the last step


def best_order(
    on_hand: Series, pipeline: Pipeline, demand: Paths, problem: InventoryProblem, unit_price: Values = 0.0
) -> Series:
    """The permitted quantity with the least mean cost over the protection interval, along the given paths.

    Args:
        on_hand: units left from the step before.
        pipeline: units under way, by the step of arrival.
        demand: sample paths, not negative. What lies beyond their end is not covered.
        problem: with one lead time and one review period.
        unit_price: an extra cost per unit ordered: the shadow price of a limit that series share.
    """
    need = needs(on_hand, pipeline, demand, problem)
    series, steps, samples = need.shape
    if steps == 0:
        return np.zeros(series)
    hold, lose = (_column(x, series) for x in (problem.carrying_cost, problem.lost_sale_cost))
    # Slopes per unit ordered: each step begins to hold a unit at its break point; a unit lost is lost once, at the end.
    punished = np.ones(steps) if problem.backlog else np.eye(steps)[-1]
    target = samples * (lose * punished.sum() - _column(unit_price, series))
    points, index = _sorted(need.reshape(series, -1), weighted=len(set(punished)) > 1)
    weights = hold + lose * punished[index // samples]
    slope = np.cumsum(np.broadcast_to(weights, points.shape), axis=1)
    first = np.argmax(slope >= target * (1 - 1e-12), axis=1)
    quantity = np.where(target[:, 0] > 0, np.maximum(np.take_along_axis(points, first[:, None], 1)[:, 0], 0.0), 0.0)
    return _cheapest_permitted(quantity, need, problem, unit_price)


def needs(on_hand: Series, pipeline: Pipeline, demand: Paths, problem: InventoryProblem) -> Needs:
    """Units that an order must have for the first 1, 2, ... steps after its arrival to lose nothing."""
    lead = _lead_time(problem)
    stock = np.repeat(on_hand[:, None], demand.shape[2], axis=1)
    for step in range(min(lead, demand.shape[1])):
        stock = stock + pipeline[:, step, None] - demand[:, step]
        stock = stock if problem.backlog else np.maximum(stock, 0.0)
    return np.cumsum(demand[:, lead:], axis=1) - stock[:, None]


def expect(on_hand: Series, pipeline: Pipeline, quantity: Series, demand: Paths, problem: InventoryProblem) -> Expected:
    """What comes of one order, when nothing else is ordered, over all steps of the paths."""
    lead = _lead_time(problem)
    stock = np.repeat(on_hand[:, None], demand.shape[2], axis=1)
    held, short, late = (np.zeros(len(on_hand)) for _ in range(3))
    for step in range(demand.shape[1]):
        if step < lead:
            stock = stock + pipeline[:, step, None]
        elif step == lead:
            stock = stock + quantity[:, None]
        after = stock - demand[:, step]
        held += np.maximum(after, 0.0).mean(axis=1)
        short += np.maximum(-after, 0.0).mean(axis=1)  # with backlog: units times steps that they wait
        late += (demand[:, step] - np.clip(stock, 0.0, demand[:, step])).mean(axis=1)
        stock = after if problem.backlog else np.maximum(after, 0.0)
    return Expected(
        holding_cost=held * problem.holding_cost,
        lost_sale_cost=short * problem.lost_sale_cost,
        demand=demand.sum(axis=1).mean(axis=1),
        lost=late,
        left=stock.mean(axis=1),
    )


def interval_cost(quantity: Series, need: Needs, problem: InventoryProblem) -> Series:
    """Mean cost of the steps from this order's arrival to the next one's."""
    gap = quantity[:, None, None] - need
    held = np.maximum(gap, 0.0).sum(axis=1).mean(axis=1)
    short = np.maximum(-gap, 0.0)
    missed = short.sum(axis=1) if problem.backlog else short[:, -1]
    return problem.carrying_cost * held + problem.lost_sale_cost * missed.mean(axis=1)


def _cheapest_permitted(quantity: Series, need: Needs, problem: InventoryProblem, unit_price: Values) -> Series:
    """The best permitted quantity: the cost is convex, so it is the next one above, the next below, or none."""
    if problem.rules.free:
        return quantity
    pack = np.broadcast_to(problem.rules.case_pack, quantity.shape)
    below = np.where(pack > 0, pack * np.floor(quantity / np.where(pack > 0, pack, 1.0) + 1e-6), quantity)
    below = np.where(below >= problem.rules.minimum, below, 0.0)
    choices = np.stack([np.zeros_like(quantity), permitted(below, problem.rules), permitted(quantity, problem.rules)])
    costs = np.stack([interval_cost(choice, need, problem) + unit_price * choice for choice in choices])
    return np.take_along_axis(choices, np.argmin(costs, axis=0)[None], axis=0)[0]


def _sorted(points: np.ndarray, *, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Break points in rising order, and where each came from (one zero when that makes no difference)."""
    if not weighted:
        return np.sort(points, axis=1), np.zeros((1, 1), dtype=np.int64)
    index = np.argsort(points, axis=1)
    return np.take_along_axis(points, index, axis=1), index


def _column(value: Values, series: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (series,))[:, None]


def _lead_time(problem: InventoryProblem) -> int:
    if not isinstance(problem.lead_time, int):
        msg = f"series with one known lead time are needed here, got {problem.lead_time!r}"
        raise ArgumentError(msg)
    return problem.lead_time
