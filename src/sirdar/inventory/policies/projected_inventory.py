# SPDX-License-Identifier: Apache-2.0
"""Order what sample paths of demand will have wanted when the order arrives: the projected-inventory newsvendor.

Along each sample path the stock is projected through the lead time, sales being lost where it runs out. What is still
there meets the demand of the protection interval, from the arrival of this order to the arrival of the next. The order
minimises the mean cost of that interval over the paths:

    min_q  mean_s  sum_k h (q - n_sk)^+  +  p (n_sR - q)^+,      n_sk = demand of its first k steps - projected stock

whose minimum is an order statistic: no search. A unit short costs p, with its margin where there is a price. With a
review period R = 1 it is the p / (p + h) quantile of n, which is Morton's (1971) myopic policy for lost sales
(Management Science 17(11)). Raising the *projected* instead of the present stock to a level is van Jaarsveld and Arts
(2024), "Projected Inventory-Level Policies for Lost Sales Inventory Systems", Operations Research 72(5).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.inventory.backend import Array
from sirdar.inventory.limits import shared, within_limits
from sirdar.inventory.plan import OrderPlan
from sirdar.inventory.policy import State
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.sample_paths import Timing, best_timed_order, expect_timed, known_timing, random_timing
from sirdar.inventory.terms import RandomLeadTime, permitted
from sirdar.predictive import Forecast

Series = Float[np.ndarray, " series"]
CHUNK = 4096  # series whose sample paths are in memory at once: 60 MB at 200 samples and 9 steps


@dataclass(frozen=True, eq=False)
class ProjectedInventory:
    """The sample-path newsvendor on a forecast.

    Demand is clipped at zero. Of the quantities around the best one that minimum and case pack permit, the cheapest is
    taken. Limits that series share are kept by a price. Random lead times are drawn along with demand, for orders under
    way, this one and later ones, so that orders may cross. With a fixed order cost an order is meant for as many
    reviews as make a review cheapest, and is placed once waiting would cost more (see `sample_paths.best_timed_order`).

    Args:
        forecast: of demand, from the step of the first order. It must reach lead time + review period, and with a fixed
            order cost it should reach as many review periods more as an order may be meant for; in a longer simulation,
            orders are sized by what part of it still lies ahead.
        samples: paths per series. The standard error of the quantile at level u is that of u: sqrt(u (1-u) / samples).
        seed: of the paths; equal seeds give equal orders.
    """

    forecast: Forecast
    samples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive_integer(self.samples, "samples")
        require_seed(self.seed)

    def order(self, state: State) -> Float[np.ndarray, "*batch series"]:
        """Quantities for the stock of every series, in each scenario if there are several."""
        shape = state.on_hand.shape
        self._require_cover(state.problem, shape[-1], state.step)
        on_hand = np.asarray(state.on_hand, dtype=np.float64).reshape(-1, shape[-1])
        known, placed = (_flat(x, shape) for x in _under_way(state))
        scenarios = zip(on_hand, known, placed, strict=True)
        found = [self._orders(_Standing(*one), state.problem, state.step) for one in scenarios]
        return np.stack(found).reshape(shape)

    def plan(self, problem: InventoryProblem, stock: Stock) -> OrderPlan:
        """The orders to place now, and what to expect until the next ones arrive.

        Costs and units are counted over the `lead_time + review_period` steps of each series; over the longest of the
        lead times if they are random.
        """
        self._require_cover(problem, len(stock.on_hand), step=0)
        pipeline = stock.columns(problem)
        standing = _Standing(stock.on_hand, pipeline, pipeline[:, :0])
        quantity = self._orders(standing, problem, step=0)
        parts = []
        for rows, part, paths in self._chunks(problem, step=0):
            near = paths[:, : part.cover]
            timing = self._timing(standing, rows, part, near, 0)
            found = expect_timed(stock.on_hand[rows], quantity[rows], near, timing, part)
            parts.append((rows, quantity[rows], found))
        return OrderPlan.gather(self.forecast.ids, problem.trade.order_cost, parts)

    def _orders(self, standing: "_Standing", problem: InventoryProblem, step: int) -> Series:
        """Orders of all series, within the limits that they share."""
        on_hand, position = standing.on_hand, standing.position

        def solve(unit_price: np.ndarray) -> np.ndarray:
            quantity = np.zeros(len(on_hand))
            for rows, part, paths in self._chunks(problem, step):
                timing = self._timing(standing, rows, part, paths, step)
                quantity[rows] = best_timed_order(on_hand[rows], paths, timing, part, unit_price[rows])
            return permitted(quantity, problem.rules, position)

        if not shared(problem):
            return solve(np.zeros(len(on_hand)))
        return within_limits(solve, problem, position)

    def _timing(
        self, standing: "_Standing", rows: np.ndarray, part: InventoryProblem, paths: np.ndarray, step: int
    ) -> Timing:
        """When orders come, for as many reviews as the paths reach."""
        horizon = paths.shape[1]
        reviews = max(1, (horizon - part.longest_lead_time) // int(np.max(part.review_period)))
        if not isinstance(part.lead_time, RandomLeadTime):
            return known_timing(standing.known[rows], part, horizon, reviews)
        seed = self._seed_of(step, rows, 1)
        shape = (horizon, self.samples)
        return random_timing(standing.known[rows], standing.placed[rows], part, shape, reviews=reviews, seed=seed)

    def _require_cover(self, problem: InventoryProblem, series: int, step: int) -> None:
        if series != len(self.forecast.ids):
            msg = f"the forecast has {len(self.forecast.ids)} series, but there is stock for {series}"
            raise ArgumentError(msg)
        problem.require_series(series)
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
        lead_time = problem.lead_time
        longest = lead_time.longest if isinstance(lead_time, RandomLeadTime) else lead_time
        times = np.stack([np.broadcast_to(x, count) for x in (longest, problem.review_period)], axis=1)
        dear = np.broadcast_to(problem.trade.order_cost, count) > 0
        for lead, review in np.unique(times, axis=0):
            alike = np.flatnonzero((times == (lead, review)).all(axis=1))
            own = lead_time if isinstance(lead_time, RandomLeadTime) else int(lead)
            for first in range(0, len(alike), CHUNK):
                rows = alike[first : first + CHUNK]
                part = replace(problem.take(rows), lead_time=own, review_period=int(review))
                # Beyond the coming review only those look who may order for several.
                yield rows, part, self._paths(rows, step, self.forecast.horizon if dear[rows].any() else part.cover)

    def _paths(self, rows: np.ndarray, step: int, steps: int) -> Float[np.ndarray, "series horizon sample"]:
        if step >= self.forecast.horizon:
            return np.zeros((len(rows), 0, self.samples))
        some = self.forecast.take(rows)
        ahead = replace(some, start=some.start + step, values=some.values[:, step : step + steps])
        return np.maximum(ahead.sample(self.samples, seed=self._seed_of(step, rows)), 0.0)

    def _seed_of(self, step: int, rows: np.ndarray, *more: int) -> int:
        return int(np.random.SeedSequence((self.seed, step, int(rows[0]), *more)).generate_state(1)[0])


@dataclass(frozen=True, eq=False)
class _Standing:
    """Where series stand: on hand [series], arriving for sure [series, lead], placed and not here [series, age]."""

    on_hand: np.ndarray
    known: np.ndarray
    placed: np.ndarray

    @property
    def position(self) -> Series:
        return self.on_hand + self.known.sum(axis=-1) + self.placed.sum(axis=-1)


def _under_way(state: State) -> tuple[Array, Array]:
    if isinstance(state.problem.lead_time, RandomLeadTime):
        return state.outstanding.known, state.outstanding.placed
    return state.pipeline, state.pipeline[..., :0]


def _flat(units: Array, shape: tuple[int, ...]) -> np.ndarray:
    """All scenarios in one axis: [scenario, series, step]."""
    scenarios = int(np.prod(shape[:-1]))
    return np.asarray(units, dtype=np.float64).reshape(scenarios, shape[-1], units.shape[-1])
