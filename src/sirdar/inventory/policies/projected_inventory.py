# SPDX-License-Identifier: Apache-2.0
"""Order what sample paths of demand will have wanted when the order arrives: the projected-inventory newsvendor.

Along each sample path the stock is projected through the lead time, sales being lost where it runs out. What is still
there meets the demand of the protection interval, from the arrival of this order to the arrival of the next. The order
minimises the mean cost of that interval over the paths:

    min_q  mean_s  sum_k h (q - n_sk)^+  +  p (n_sR - q)^+,      n_sk = demand of its first k steps - projected stock

whose minimum is an order statistic: no search. With a review period R = 1 it is the p / (p + h) quantile of n, which is
Morton's (1971) myopic policy for lost sales (Management Science 17(11)). Raising the *projected* instead of the present
stock to a level is van Jaarsveld and Arts (2024), "Projected Inventory-Level Policies for Lost Sales Inventory
Systems", Operations Research 72(5).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.inventory.limits import shared, within_limits
from sirdar.inventory.plan import OrderPlan
from sirdar.inventory.policy import State
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.sample_paths import best_order, expect
from sirdar.inventory.terms import RandomLeadTime, permitted
from sirdar.predictive import Forecast

Series = Float[np.ndarray, " series"]
CHUNK = 4096  # series whose sample paths are in memory at once: 60 MB at 200 samples and 9 steps


@dataclass(frozen=True, eq=False)
class ProjectedInventory:
    """The sample-path newsvendor on a forecast.

    Demand is clipped at zero. Of the quantities around the best one that minimum and case pack permit, the cheapest is
    taken. Limits that series share are kept by a price. Fixed order costs are refused, since it looks one interval
    ahead and they are a question of several; so are random lead times, since it projects one.

    Args:
        forecast: of demand, from the step of the first order. It must reach lead time + review period; in a longer
            simulation, orders are sized by what part of it still lies ahead.
        samples: paths per series. The standard error of the quantile at level u is that of u: sqrt(u (1-u) / samples).
        seed: of the paths; equal seeds give equal orders.
    """

    forecast: Forecast
    samples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive_integer(self.samples, "samples")

    def order(self, state: State) -> Float[np.ndarray, "*batch series"]:
        """Quantities for the stock of every series, in each scenario if there are several."""
        shape = state.on_hand.shape
        self._require_cover(state.problem, shape[-1], state.step)
        on_hand = np.asarray(state.on_hand, dtype=np.float64).reshape(-1, shape[-1])
        pipeline = np.asarray(state.pipeline, dtype=np.float64).reshape(-1, shape[-1], state.pipeline.shape[-1])
        found = [self._orders(*one, state.problem, state.step) for one in zip(on_hand, pipeline, strict=True)]
        return np.stack(found).reshape(shape)

    def plan(self, problem: InventoryProblem, stock: Stock) -> OrderPlan:
        """The orders to place now, and what to expect until the next ones arrive.

        Costs and units are counted over the `lead_time + review_period` steps of each series.
        """
        self._require_cover(problem, len(stock.on_hand), step=0)
        pipeline = stock.columns(problem)
        quantity = self._orders(stock.on_hand, pipeline, problem, step=0)
        parts = []
        for rows, part, paths in self._chunks(problem, step=0):
            parts.append(
                (rows, quantity[rows], expect(stock.on_hand[rows], pipeline[rows], quantity[rows], paths, part))
            )
        return OrderPlan.gather(self.forecast.ids, parts)

    def _orders(self, on_hand: Series, pipeline: np.ndarray, problem: InventoryProblem, step: int) -> Series:
        """Orders of all series, within the limits that they share."""
        position = on_hand + pipeline.sum(axis=-1)

        def solve(unit_price: np.ndarray) -> np.ndarray:
            quantity = np.zeros(len(on_hand))
            for rows, part, paths in self._chunks(problem, step):
                quantity[rows] = best_order(on_hand[rows], pipeline[rows], paths, part, unit_price[rows])
            return permitted(quantity, problem.rules, position)

        if not shared(problem):
            return solve(np.zeros(len(on_hand)))
        return within_limits(solve, problem, position)

    def _require_cover(self, problem: InventoryProblem, series: int, step: int) -> None:
        if series != len(self.forecast.ids):
            msg = f"the forecast has {len(self.forecast.ids)} series, but there is stock for {series}"
            raise ArgumentError(msg)
        problem.require_series(series)
        if isinstance(problem.lead_time, RandomLeadTime):
            msg = "ProjectedInventory needs a lead_time that is known, got RandomLeadTime; use its longest as lead_time"
            raise ArgumentError(msg)
        if np.any(problem.trade.order_cost):
            msg = (
                "ProjectedInventory does not weigh a fixed order cost, got order_cost "
                f"{np.max(problem.trade.order_cost):g}; use MinMax or FixedLot, or a minimum in OrderRules"
            )
            raise ArgumentError(msg)
        if step == 0 and self.forecast.horizon < problem.cover:
            msg = (
                f"the forecast has a horizon of {self.forecast.horizon}, but lead_time + review_period needs "
                f"{problem.cover} steps: forecast at least {problem.cover}"
            )
            raise ArgumentError(msg)

    def _chunks(
        self, problem: InventoryProblem, step: int
    ) -> Iterator[tuple[np.ndarray, InventoryProblem, np.ndarray]]:
        """Chunks of series with the same times: rows, problem, demand [series, horizon, sample]."""
        count = len(self.forecast.ids)
        lead_time = cast("int | np.ndarray", problem.lead_time)  # a random one was refused
        times = np.stack([np.broadcast_to(x, count) for x in (lead_time, problem.review_period)], axis=1)
        for lead, review in np.unique(times, axis=0):
            alike = np.flatnonzero((times == (lead, review)).all(axis=1))
            for first in range(0, len(alike), CHUNK):
                rows = alike[first : first + CHUNK]
                part = replace(problem.take(rows), lead_time=int(lead), review_period=int(review))
                yield rows, part, self._paths(rows, step, int(lead + review))

    def _paths(self, rows: np.ndarray, step: int, steps: int) -> Float[np.ndarray, "series horizon sample"]:
        if step >= self.forecast.horizon:
            return np.zeros((len(rows), 0, self.samples))
        some = self.forecast.take(rows)
        ahead = replace(some, start=some.start + step, values=some.values[:, step : step + steps])
        seed = int(np.random.SeedSequence((self.seed, step, int(rows[0]))).generate_state(1)[0])
        return np.maximum(ahead.sample(self.samples, seed=seed), 0.0)
