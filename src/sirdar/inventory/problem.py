# SPDX-License-Identifier: Apache-2.0
"""An inventory problem: what stock and its absence cost, how long an order takes, how often one may order.

Within each step, in this order:

1. in a review step the policy sees the stock and orders (steps 0, R, 2R, ... with review period R);
2. what was ordered `lead_time` steps ago arrives: an order with lead time 0 arrives at once;
3. demand comes; what cannot be sold is lost, or waits (`backlog`);
4. every unit left costs `holding_cost`; every unit lost, or waiting, costs `lost_sale_cost`.

These are the lead times of Zipkin (2008), "Old and New Methods for Lost-Sales Inventory Systems", Operations Research
56(5): an order placed before the demand of step t meets the demand of step t + lead_time.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from sirdar.errors import ArgumentError
from sirdar.inventory.backend import Values
from sirdar.inventory.checks import require_integers, require_numbers
from sirdar.inventory.terms import OrderRules, RandomLeadTime, Trade

LeadTime = int | np.ndarray | RandomLeadTime


@dataclass(frozen=True, eq=False)
class InventoryProblem:
    """Costs and times, as scalars for all series or one value per series.

    Args:
        holding_cost: per unit left at the end of a step.
        lost_sale_cost: per unit of demand that found no stock: the margin lost; or, where `trade` has a price, the
            penalty on top of its margin. With `backlog`, per unit and step that it waits.
        lead_time: steps from an order to its arrival; or a `RandomLeadTime`.
        review_period: steps from one chance to order to the next.
        backlog: whether unmet demand waits instead of being lost.
        discount: worth of the next step's money today, in (0, 1].
        trade: prices.
        rules: lot sizes and shared limits.
    """

    holding_cost: Values = 0.2
    lost_sale_cost: Values = 1.0
    lead_time: LeadTime = 2
    review_period: int | np.ndarray = 1
    backlog: bool = False
    discount: float = 1.0
    trade: Trade = field(default_factory=Trade)
    rules: OrderRules = field(default_factory=OrderRules)

    def __post_init__(self) -> None:
        for name in ("holding_cost", "lost_sale_cost"):
            object.__setattr__(self, name, require_numbers(getattr(self, name), name))
        if not isinstance(self.lead_time, RandomLeadTime):
            object.__setattr__(self, "lead_time", require_integers(self.lead_time, "lead_time", least=0))
        object.__setattr__(self, "review_period", require_integers(self.review_period, "review_period", least=1))
        discount = require_numbers(self.discount, "discount")
        if not isinstance(discount, float) or not 0 < discount <= 1:
            msg = f"discount must be one number in (0, 1], got {self.discount!r}"
            raise ArgumentError(msg)
        _ = self.series  # lengths that disagree are refused here
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.atleast_1d(np.divide(self.lost_sale_cost, self.lost_sale_cost + self.carrying_cost))
        wrong = np.flatnonzero(~((ratio > 0) & (ratio < 1)))
        if len(wrong):
            msg = (
                f"the critical ratio must lie in (0, 1), got {ratio[wrong[0]]:g} (series {wrong[0]}): "
                "lost_sale_cost and holding_cost must both be above 0"
            )
            raise ArgumentError(msg)
        self._require_room()

    def _require_room(self) -> None:
        """Refuse a limit that not even the least order of a series would keep."""
        rules = self.rules
        least = np.asarray(rules.least)
        beyond = np.atleast_1d(least - rules.shelf)
        if beyond.max() > 0:
            worst = int(np.argmax(beyond))
            least, shelf = (np.broadcast_to(x, beyond.shape)[worst] for x in (least, rules.shelf))
            msg = (
                f"the least order of series {worst} is {least:g} units, but its shelf holds {shelf:g}: "
                f"{beyond[worst]:g} too much"
            )
            raise ArgumentError(msg)
        if math.isinf(rules.capacity) and math.isinf(rules.budget):
            return
        for limit, each, fills, name in (
            (rules.capacity, rules.volume, "fills {:g} of room", "capacity"),
            (rules.budget, self.trade.unit_cost, "costs {:g}", "budget"),
        ):
            used = np.atleast_1d(least * each)
            worst = int(np.argmax(used))
            if used[worst] > limit:
                units = np.broadcast_to(least, used.shape)[worst]
                msg = (
                    f"the least order of series {worst}, {units:g} units, {fills.format(used[worst])}, but the {name} "
                    f"is {limit:g}: {used[worst] - limit:g} too much"
                )
                raise ArgumentError(msg)

    @property
    def series(self) -> int | None:
        """For how many series values are given; None when all are scalars."""
        named = {name: value for name, value in self._values().items() if isinstance(value, np.ndarray)}
        lengths = {name: len(value) for name, value in named.items()}
        if len(set(lengths.values())) > 1:
            msg = f"values per series must be equally many, got {lengths}"
            raise ArgumentError(msg)
        return next(iter(lengths.values()), None)

    @property
    def carrying_cost(self) -> Values:
        """Per unit and step: holding plus the interest on its purchase, ``h + (1 - discount) unit_cost``."""
        return self.holding_cost + (1 - self.discount) * self.trade.unit_cost

    @property
    def shortage_cost(self) -> Values:
        """What a unit short costs: the lost sale and, where there is a price, ``price - unit_cost``; at least 0.

        With `backlog` price and purchase are the same either way: per unit and step, the lost-sale cost alone.
        """
        price = np.asarray(self.trade.price)
        if self.backlog or not price.any():
            return self.lost_sale_cost
        margin = np.where(price > 0, price - self.trade.unit_cost, 0.0)
        cost = np.maximum(self.lost_sale_cost + margin, 0.0)
        return cost if cost.ndim else float(cost)

    @property
    def critical_ratio(self) -> Values:
        """The chance with which stock should outlast a review period R: ``p / (p + R h)``, p shortage, h carrying.

        A unit too many is carried through all R steps up to the next arrival, a unit too few is lost once: the rule for
        periodic review with a cost per unit short, Silver, Pyke and Thomas (2017), "Inventory and Production Management
        in Supply Chains", chapter 7. With R = 1 it is the newsvendor's ratio. `ProjectedInventory` minimises the cost
        along sample paths instead, which also counts what is carried before it sells; the two agree for R = 1.
        """
        # A unit that waits is paid for in every step, so underage too is counted over the period.
        underage = self.review_period * self.lost_sale_cost if self.backlog else self.shortage_cost
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.asarray(np.divide(underage, self.critical_cost))
        return ratio if ratio.ndim else float(ratio)

    @property
    def critical_cost(self) -> Values:
        """The denominator of the critical ratio: what a unit too many and one too few cost together."""
        overage = self.review_period * self.carrying_cost
        return (self.review_period * self.lost_sale_cost if self.backlog else self.shortage_cost) + overage

    @property
    def longest_lead_time(self) -> int:
        """Steps until the last of the orders placed now has surely arrived."""
        return self.lead_time.longest if isinstance(self.lead_time, RandomLeadTime) else int(np.max(self.lead_time))

    @property
    def cover(self) -> int:
        """Steps that a forecast must reach: the longest of lead time + review period."""
        lead = self.longest_lead_time if isinstance(self.lead_time, RandomLeadTime) else self.lead_time
        return int(np.max(np.add(lead, self.review_period)))

    def take(self, rows: np.ndarray) -> "InventoryProblem":
        """The problem of some series."""
        values = _rows(vars(self), rows)
        values["trade"] = Trade(**_rows(vars(self.trade), rows))
        rules = {name: value for name, value in vars(self.rules).items() if name in OrderRules.__dataclass_fields__}
        values["rules"] = OrderRules(**_rows(rules, rows))
        return InventoryProblem(**values)

    def require_series(self, count: int) -> None:
        """Refuse to be used with another number of series than values were given for."""
        if self.series not in (None, count):
            msg = f"the problem has values for {self.series} series, but there are {count}"
            raise ArgumentError(msg)

    def _values(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name not in ("trade", "rules")}
        return own | vars(self.trade) | vars(self.rules)


@dataclass(frozen=True, eq=False)
class Stock:
    """Where the series stand before the first order.

    Args:
        on_hand: units left from the step before; negative where demand waits (backlog only).
        pipeline: units ordered before that arrive just ahead of the demand of step 0, 1, ...: one column per step of
            the lead time. None when nothing is under way.
    """

    on_hand: Float64[np.ndarray, " series"]
    pipeline: Float64[np.ndarray, "series lead"]

    def __init__(self, on_hand: ArrayLike, pipeline: ArrayLike | None = None) -> None:
        stock = np.atleast_1d(np.array(on_hand, dtype=np.float64))
        arriving = np.zeros((len(stock), 0)) if pipeline is None else np.array(pipeline, dtype=np.float64)
        if stock.ndim != 1 or arriving.ndim != 2 or len(arriving) != len(stock):
            msg = (
                f"on_hand must have shape [series] and pipeline [series, lead], got {stock.shape} and {arriving.shape}"
            )
            raise ArgumentError(msg)
        _require_stock(stock[:, None], "on_hand", least=-np.inf)
        _require_stock(arriving, "pipeline", least=0.0)
        object.__setattr__(self, "on_hand", stock)
        object.__setattr__(self, "pipeline", arriving)

    @classmethod
    def empty(cls, series: int) -> "Stock":
        """Nothing on hand, nothing under way."""
        return cls(np.zeros(series))

    def columns(self, problem: InventoryProblem) -> Float[np.ndarray, "series lead"]:
        """The pipeline with exactly one column per step of the longest lead time.

        Raises:
            ArgumentError: a unit would arrive later than an order placed now, or demand waits although sales are lost.
        """
        problem.require_series(len(self.on_hand))
        negative = np.flatnonzero(self.on_hand < 0)
        if len(negative) and not problem.backlog:
            first = int(negative[0])
            msg = f"on_hand must not be negative where sales are lost, got {self.on_hand[first]:g} for series {first}"
            raise ArgumentError(msg)
        width = problem.longest_lead_time
        lead = problem.lead_time if not isinstance(problem.lead_time, RandomLeadTime) else width
        late = (np.arange(self.pipeline.shape[1]) >= np.reshape(lead, (-1, 1))) & (self.pipeline > 0)
        if late.any():
            row, column = (int(x[0]) for x in np.nonzero(late))
            msg = (
                f"pipeline has {self.pipeline[row, column]:g} units for series {row} arriving in step {column}, "
                f"but an order placed now arrives in step {int(np.broadcast_to(lead, len(late))[row])}"
            )
            raise ArgumentError(msg)
        kept = self.pipeline[:, :width]
        return np.pad(kept, ((0, 0), (0, width - kept.shape[1])))


def _require_stock(values: np.ndarray, name: str, least: float) -> None:
    wrong = np.argwhere(~np.isfinite(values) | (values < least))
    if len(wrong):
        row, column = (int(x) for x in wrong[0])
        rule = "finite" if not np.isfinite(values[row, column]) else "not negative"
        msg = f"{name} must be {rule}, got {values[row, column]:g} for series {row}"
        raise ArgumentError(msg)


def _rows(values: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    return {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in values.items()}
