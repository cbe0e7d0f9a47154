# SPDX-License-Identifier: Apache-2.0
"""Orders by one who knows all demand to come: what no policy can do, and the mark by which policies are measured.

Called "just in time" in Alvo et al. (2023), arXiv:2306.11246. Every unit is ordered so late that it arrives with the
last delivery before it is wanted, and only if selling it earns more than carrying it until then costs. Where placing an
order costs something, orders are brought together: see `sirdar.inventory.lot_sizing`.
"""

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.limits import shared, within_limits
from sirdar.inventory.lot_sizing import Lots
from sirdar.inventory.policy import State
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import RandomLeadTime, permitted

Series = Float[np.ndarray, " series"]


@dataclass(frozen=True, eq=False)
class PerfectForesight:
    """The policy that has seen the future.

    Without lot sizes, a shelf and shared limits no policy can cost less, or earn more where there is a price, once its
    first order has arrived. With them it is a strong mark, not a bound: an order is raised to what is permitted and cut
    to what its shelf holds, and limits are kept by a price. Nor is it one where customers wait and there is a price or
    a unit cost: it takes those who wait at the end for served later. Fixed order costs are weighed where demand is lost
    and no limit is shared; elsewhere they are not, and it is no bound.

    Args:
        demand: every step of what is going to be simulated, [series, time]; nothing is wanted after it.
    """

    demand: Float[np.ndarray, "series time"]
    _lots: dict[InventoryProblem, Lots] = field(default_factory=dict, init=False, repr=False)

    def order(self, state: State) -> Float[np.ndarray, "*batch series"]:
        """Just what the stock will lack until the next order can arrive.

        Raises:
            ArgumentError: lead times are random, or demand is known for another number of series.
        """
        shape, problem = state.on_hand.shape, state.problem
        if shape[-1] != len(self.demand):
            msg = f"demand is known for {len(self.demand)} series, but there is stock for {shape[-1]}"
            raise ArgumentError(msg)
        if isinstance(problem.lead_time, RandomLeadTime):
            msg = f"PerfectForesight needs a lead_time that is known, got {problem.lead_time}"
            raise ArgumentError(msg)
        on_hand = np.asarray(state.on_hand, dtype=np.float64).reshape(-1, shape[-1])
        pipeline = np.asarray(state.pipeline, dtype=np.float64).reshape(len(on_hand), shape[-1], -1)
        found = [self._orders(*one, problem, state.step) for one in zip(on_hand, pipeline, strict=True)]
        return np.stack(found).reshape(shape)

    def _orders(self, on_hand: Series, pipeline: np.ndarray, problem: InventoryProblem, step: int) -> Series:
        lead_time = cast("int | np.ndarray", problem.lead_time)  # a random one was refused
        lead, review = (np.broadcast_to(x, len(on_hand)) for x in (lead_time, problem.review_period))
        stock = on_hand
        for more in range(int(lead.max())):  # what will be left when this order arrives
            after = stock + pipeline[:, more] - self._wanted(step + more)
            after = after if problem.backlog else np.maximum(after, 0.0)
            stock = np.where(more < lead, after, stock)
        if np.any(problem.trade.order_cost) and not problem.backlog and not shared(problem):
            return self._lots_of(problem, lead, review).order(stock, step + lead)
        wanted = np.stack([self._ahead(step, lead, more) for more in range(int(review.max()))], axis=1)
        counted = np.minimum(review, self.demand.shape[1] - step - lead)  # steps until the next order, or the end

        def lacking(unit_price: Series) -> Series:
            return _lacking(stock, wanted, _worth(problem, (lead, review, counted), unit_price))

        if not shared(problem):
            return lacking(np.zeros(len(stock)))
        position = on_hand + pipeline.sum(axis=-1)

        def solve(unit_price: Series) -> Series:
            return permitted(lacking(unit_price), problem.rules, position)

        return within_limits(solve, problem, position)

    def _lots_of(self, problem: InventoryProblem, lead: np.ndarray, review: np.ndarray) -> Lots:
        """The plan to the end, made once: a simulation asks for the same problem in every step."""
        if problem not in self._lots:
            self._lots.clear()
            time = self.demand.shape[1]
            gain = _gain(problem, (lead, review, np.full(len(lead), time)), time)
            order_cost = np.broadcast_to(np.asarray(problem.trade.order_cost, dtype=np.float64), len(lead))
            self._lots[problem] = Lots(self.demand, gain, order_cost, review, problem.discount)
        return self._lots[problem]

    def _wanted(self, step: int) -> Series:
        return self.demand[:, step].astype(np.float64) if step < self.demand.shape[1] else np.zeros(len(self.demand))

    def _ahead(self, step: int, lead: np.ndarray, more: int) -> Series:
        """Demand of the step `more` after the arrival of an order placed now."""
        at = step + lead + more
        rows = np.arange(len(self.demand))
        known = at < self.demand.shape[1]
        return np.where(known, self.demand[rows, np.minimum(at, self.demand.shape[1] - 1)], 0.0)


def _worth(
    problem: InventoryProblem, times: tuple[np.ndarray, np.ndarray, np.ndarray], unit_price: Series
) -> np.ndarray:
    """Whether a unit pays that is wanted 0, 1, ... steps after its arrival, before the next one's: [series, step]."""
    steps = int(times[1].max())
    return (_gain(problem, times, steps) > unit_price[:, None]) & (np.arange(steps) < times[1][:, None])


def _gain(
    problem: InventoryProblem, times: tuple[np.ndarray, np.ndarray, np.ndarray], count: int
) -> Float[np.ndarray, "series step"]:
    """What a unit earns that is wanted 0, 1, ... steps after its arrival, less its cost and its carrying.

    Times are lead time, review period, and how many of the steps of that period are simulated.
    """
    lead, review, counted = times
    steps, trade = np.arange(count), problem.trade
    hold, lose, price, cost = (
        np.reshape(x, (-1, 1)) for x in (problem.holding_cost, problem.lost_sale_cost, trade.price, trade.unit_cost)
    )
    money = problem.discount ** (lead[:, None] + steps)  # of each step, worth so much when the order is placed
    carried = hold * (money.cumsum(axis=1) - money)
    if problem.backlog:  # what is missing waits until the next order comes, and is bought and paid for then
        waited = (money * (steps < counted[:, None]))[:, ::-1].cumsum(axis=1)[:, ::-1]
        then = problem.discount ** review[:, None]
        saved = lose * waited + price * (money - money[:, :1] * then) - cost * (1 - then)
    else:
        saved = (lose + price) * money - cost
    return saved - carried


def _lacking(stock: Series, wanted: np.ndarray, worth: np.ndarray) -> Series:
    """The units worth having that the stock does not cover, served in the order of the steps."""
    short = np.maximum(-stock, 0.0)  # those who wait already
    stock = np.maximum(stock, 0.0)
    for step in range(wanted.shape[1]):
        missing = np.maximum(wanted[:, step] - stock, 0.0)
        stock = np.maximum(stock - wanted[:, step], 0.0)
        short = short + missing * worth[:, step]
    return short
