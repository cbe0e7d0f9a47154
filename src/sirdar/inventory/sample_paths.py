# SPDX-License-Identifier: Apache-2.0
"""One order against sample paths of demand and lead times: the best quantity, and what is to be expected of any.

All arrays belong to series with one review period R. An order placed now `comes` just ahead of the demand of a step,
and is what stock depends on `until` the next one comes: with a known lead time L that is from step L to step L + R,
with random ones it is another stretch on each path, and none where a later order comes first (orders cross). The cost
of an order is a sum of convex, piecewise linear functions of it, so that its least value stands where the slopes, added
up in the order of their break points, turn positive.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sirdar.errors import ArgumentError
from sirdar.inventory.backend import Values
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import RandomLeadTime, permitted

Series = Float[np.ndarray, " series"]
Pipeline = Float[np.ndarray, "series lead"]
Paths = Float[np.ndarray, "series horizon sample"]
Arriving = Float[np.ndarray, "series horizon _sample"]  # one path serves all where lead times are known
Steps = Int[np.ndarray, "_series _sample"]
Needs = Float[np.ndarray, "series covered sample"]  # steps from the first arrival of the order on


class Timing(NamedTuple):
    """When things come along each path.

    Args:
        arriving: units of earlier orders, by step.
        comes: the step in which an order placed now arrives.
        until: the step in which a later one does, by the review step in which orders are placed next: R, 2 R, ...
    """

    arriving: Arriving
    comes: Steps
    until: tuple[Steps, ...]


class Covered(NamedTuple):
    """What an order has to do in the steps that depend on it.

    Args:
        need: units that it must have to lose nothing up to that step.
        held: whether what is left in a step counts.
        missed: whether what is short in a step counts: with backlog in each, else in the last one.
    """

    need: Needs
    held: Float[np.ndarray, "_series covered _sample"]
    missed: Float[np.ndarray, "_series covered _sample"]


@dataclass(frozen=True)
class Expected:
    """Means over sample paths, summed over the steps of the paths: units, except the two costs."""

    holding_cost: Series
    lost_sale_cost: Series  # at the problem's `shortage_cost`
    demand: Series
    lost: Series  # with backlog, units that had to wait
    left: Series  # at the end of the last step


def known_timing(pipeline: Pipeline, problem: InventoryProblem, horizon: int, reviews: int = 1) -> Timing:
    """The timing of one known lead time.

    Args:
        pipeline: units under way, by the step of arrival.
        problem: with one lead time and one review period.
        horizon: steps of the paths.
        reviews: for how many review steps to say when the order placed in them comes.
    """
    lead, review = _whole(problem.lead_time, "lead time"), _whole(problem.review_period, "review period")
    arriving = np.zeros((len(pipeline), horizon, 1))
    arriving[:, : pipeline.shape[1], 0] = pipeline[:, :horizon]
    until = tuple(np.full((1, 1), lead + review * (1 + more)) for more in range(reviews))
    return Timing(arriving, np.full((1, 1), lead), until)


def random_timing(
    known: Pipeline,
    placed: Float[np.ndarray, "series age"],
    problem: InventoryProblem,
    shape: tuple[int, int],
    *,
    reviews: int = 1,
    seed: int = 0,
) -> Timing:
    """Lead times drawn for every path, of orders under way and of those to come, so that they may cross.

    Args:
        known: units whose step of arrival is known.
        placed: units ordered 1, 2, ... steps ago that have not come.
        problem: with a `RandomLeadTime` and one review period.
        shape: steps and number of the paths.
        reviews: as for `known_timing`.
        seed: of the lead times.
    """
    lead_time, review = problem.lead_time, _whole(problem.review_period, "review period")
    assert isinstance(lead_time, RandomLeadTime)
    (horizon, samples), series = shape, len(known)
    random = np.random.default_rng(seed)
    arriving = np.zeros((series, horizon, samples))
    arriving[:, : known.shape[1]] += known[:, :horizon, None]
    for age in range(1, min(placed.shape[1], lead_time.longest) + 1):
        chances = lead_time.remaining(age)
        more = random.choice(len(chances), size=(series, samples), p=chances)
        for step in range(min(len(chances), horizon)):
            arriving[:, step] += placed[:, age - 1, None] * (more == step)
    # An order placed in a later review step than the last that is asked for may still come before it.
    last = reviews + -(-lead_time.longest // review)
    drawn = np.stack([lead_time.draw((series, samples), int(random.integers(2**63))) for _ in range(last + 1)])
    comes = drawn + review * np.arange(last + 1)[:, None, None]
    first = np.minimum.accumulate(comes[::-1], axis=0)[::-1]  # of all orders placed from then on
    return Timing(arriving, comes[0], tuple(first[1 : 1 + reviews]))


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
    return best_timed_order(on_hand, demand, known_timing(pipeline, problem, demand.shape[1]), problem, unit_price)


def best_timed_order(
    on_hand: Series, demand: Paths, timing: Timing, problem: InventoryProblem, unit_price: Values = 0.0
) -> Series:
    """The same where the timing is given, and where placing an order may cost something of itself.

    With a fixed order cost K an order may be meant for several reviews. For each number m of them that the timing
    tells, K and the least cost of their steps are spread over m (Silver and Meal 1973, "A Heuristic for Selecting Lot
    Size Quantities", Production and Inventory Management 14(2)); the least of these rates is what a review costs. An
    order is placed if the coming review would cost more without one, which is where the optimal reorder point stands
    (Zheng and Federgruen 1991, "Finding Optimal (s, S) Policies Is About as Simple as Evaluating a Single Policy",
    Operations Research 39(4), lemma 1). At a price on units that choice, waiting included, is taken which costs least
    beyond what its reviews would cost at that least rate: later orders are thought to be free of the price.
    """
    order_cost = np.broadcast_to(problem.trade.order_cost, len(on_hand))
    coming = covered(on_hand, demand, timing, problem, 0)
    if coming.need.shape[1] == 0:
        return np.zeros(len(on_hand))
    if not order_cost.any():
        level = _cheapest(coming, problem, unit_price)
        return _cheapest_permitted(np.maximum(level, 0.0), coming, problem, unit_price)
    rates, priced, found = [], [], []
    for more in range(len(timing.until)):
        cover = covered(on_hand, demand, timing, problem, more) if more else coming
        level = free = _cheapest(cover, problem, unit_price)
        if np.any(unit_price):
            free = _cheapest(cover, problem, 0.0)
        rates.append((order_cost + interval_cost(free, cover, problem)) / (more + 1))
        priced.append(order_cost + interval_cost(level, cover, problem) + unit_price * np.maximum(level, 0.0))
        found.append(_cheapest_permitted(np.maximum(level, 0.0), cover, problem, unit_price))
    # Where an order costs nothing of itself, the next review orders for its own steps.
    several = (order_cost == 0) & (np.arange(len(rates))[:, None] > 0)
    rate = np.min(np.where(several, np.inf, rates), axis=0)
    # What each choice costs beyond the least rate of its reviews: more than 0 for the best one through the price alone.
    beyond = np.maximum(np.stack(priced) - rate * np.arange(1, len(rates) + 1)[:, None], 0.0)
    beyond = np.where(several, np.inf, beyond)
    chosen = np.take_along_axis(np.stack(found), np.argmin(beyond, axis=0)[None], axis=0)[0]
    waits = interval_cost(np.zeros_like(chosen), coming, problem) - rate <= np.min(beyond, axis=0)
    return np.where((order_cost > 0) & waits, 0.0, chosen)


def covered(on_hand: Series, demand: Paths, timing: Timing, problem: InventoryProblem, review: int) -> Covered:
    """The steps that an order covers if the next one is placed in the given review step, 0 being the coming one."""
    comes, until = timing.comes, timing.until[review]
    first, last = int(comes.min()), min(int(until.max()), demand.shape[1])
    stock = np.repeat(on_hand[:, None], demand.shape[2], axis=1)
    most = np.full(stock.shape, -np.inf)
    need = np.zeros((len(on_hand), max(last - first, 0), demand.shape[2]))
    for step in range(last):
        stock = stock + timing.arriving[:, step] - demand[:, step]
        here = step >= comes
        if problem.backlog:
            most = -stock
        else:  # an order saves what is lost, and no more than is lost: the most that was ever lacking since it came
            stock = np.where(here, stock, np.maximum(stock, 0.0))
            most = np.where(here, np.maximum(most, -stock), most)
        if step >= first:
            need[:, step - first] = np.where(here, most, 0.0)
    steps = np.arange(first, max(last, first))[:, None]
    held = 1.0 * ((steps >= comes[:, None]) & (steps < until[:, None]))
    end = np.minimum(until, demand.shape[1])[:, None] - 1
    return Covered(need, held, held if problem.backlog else held * (steps == end))


def expect(on_hand: Series, pipeline: Pipeline, quantity: Series, demand: Paths, problem: InventoryProblem) -> Expected:
    """What comes of one order, when nothing else is ordered, over all steps of the paths."""
    return expect_timed(on_hand, quantity, demand, known_timing(pipeline, problem, demand.shape[1]), problem)


def expect_timed(
    on_hand: Series, quantity: Series, demand: Paths, timing: Timing, problem: InventoryProblem
) -> Expected:
    """The same where the timing is given."""
    stock = np.repeat(on_hand[:, None], demand.shape[2], axis=1)
    held, short, late = (np.zeros(len(on_hand)) for _ in range(3))
    for step in range(demand.shape[1]):
        stock = stock + timing.arriving[:, step] + quantity[:, None] * (timing.comes == step)
        after = stock - demand[:, step]
        held += np.maximum(after, 0.0).mean(axis=1)
        short += np.maximum(-after, 0.0).mean(axis=1)  # with backlog: units times steps that they wait
        late += (demand[:, step] - np.clip(stock, 0.0, demand[:, step])).mean(axis=1)
        stock = after if problem.backlog else np.maximum(after, 0.0)
    return Expected(
        holding_cost=held * problem.holding_cost,
        lost_sale_cost=short * problem.shortage_cost,
        demand=demand.sum(axis=1).mean(axis=1),
        lost=late,
        left=np.maximum(stock, 0.0).mean(axis=1),  # units owed are none on hand
    )


def interval_cost(quantity: Series, cover: Covered, problem: InventoryProblem) -> Series:
    """Mean cost of the steps that the order covers."""
    gap = quantity[:, None, None] - cover.need
    held = (np.maximum(gap, 0.0) * cover.held).sum(axis=1).mean(axis=1)
    missed = (np.maximum(-gap, 0.0) * cover.missed).sum(axis=1).mean(axis=1)
    return problem.carrying_cost * held + problem.shortage_cost * missed


def _cheapest(cover: Covered, problem: InventoryProblem, unit_price: Values) -> Series:
    """The quantity with the least mean cost, below zero where there is too much already; zero if no unit pays."""
    series, steps, samples = cover.need.shape
    hold, lose = (_column(x, series)[..., None] for x in (problem.carrying_cost, problem.shortage_cost))
    weights = hold * cover.held + lose * cover.missed  # by so much the slope rises at each break point
    missed = np.broadcast_to(cover.missed, (len(cover.missed), steps, samples)).sum(axis=(1, 2))
    target = (lose[:, 0] * missed[:, None] - samples * _column(unit_price, series))[:, 0]
    points = cover.need.reshape(series, -1)
    if weights.shape[2] == 1 and (weights == weights[:, :1]).all():  # it makes no difference where a point came from
        points = np.sort(points, axis=1)
        each = np.broadcast_to(weights[:, 0], points.shape)
    else:
        index = np.argsort(points, axis=1)
        points = np.take_along_axis(points, index, axis=1)
        each = np.take_along_axis(np.broadcast_to(weights, cover.need.shape).reshape(series, -1), index, axis=1)
    first = np.argmax(np.cumsum(each, axis=1) >= target[:, None] * (1 - 1e-12), axis=1)
    return np.where(target > 0, np.take_along_axis(points, first[:, None], 1)[:, 0], 0.0)


def _cheapest_permitted(quantity: Series, cover: Covered, problem: InventoryProblem, unit_price: Values) -> Series:
    """The best permitted quantity: the cost is convex, so it is the next one above, the next below, or none."""
    if problem.rules.free:
        return quantity
    pack = np.broadcast_to(problem.rules.case_pack, quantity.shape)
    below = np.where(pack > 0, pack * np.floor(quantity / np.where(pack > 0, pack, 1.0) + 1e-6), quantity)
    below = np.where(below >= problem.rules.minimum, below, 0.0)
    choices = np.stack([np.zeros_like(quantity), permitted(below, problem.rules), permitted(quantity, problem.rules)])
    costs = np.stack([interval_cost(choice, cover, problem) + unit_price * choice for choice in choices])
    return np.take_along_axis(choices, np.argmin(costs, axis=0)[None], axis=0)[0]


def _column(value: Values, series: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (series,))[:, None]


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int):
        msg = f"series with one known {name} are needed here, got {value!r}"
        raise ArgumentError(msg)
    return value
