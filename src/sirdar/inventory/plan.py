# SPDX-License-Identifier: Apache-2.0
"""Orders to place now, with what is to be expected of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sirdar.inventory.backend import Values
from sirdar.inventory.sample_paths import Expected

Series = Float[np.ndarray, " series"]


@dataclass(frozen=True, eq=False)
class OrderPlan:
    """One row per series. Expectations run over the steps until the order after this one arrives.

    Args:
        ids: series names.
        quantity: units to order now.
        expected_demand: units.
        expected_sold: units served from stock at once.
        expected_lost: units lost; with backlog, units that have to wait.
        expected_left: units on hand after the last of the steps.
        holding_cost: expected.
        lost_sale_cost: expected, at the problem's `shortage_cost`: with the margin where there is a price.
        ordering_cost: paid for placing this order.
    """

    ids: Sequence[str]
    quantity: Series
    expected_demand: Series
    expected_sold: Series
    expected_lost: Series
    expected_left: Series
    holding_cost: Series
    lost_sale_cost: Series
    ordering_cost: Series

    @property
    def expected_cost(self) -> Series:
        """What the decision weighed: holding, lost sales and the order together."""
        return self.holding_cost + self.lost_sale_cost + self.ordering_cost

    @property
    def fill_rate(self) -> Series:
        """Expected share of demand served from stock; 1 where no demand is expected."""
        some = self.expected_demand > 0
        return np.where(some, self.expected_sold / np.where(some, self.expected_demand, 1.0), 1.0)

    @property
    def total_fill_rate(self) -> float:
        """The same over all units of all series."""
        demand = float(self.expected_demand.sum())
        return float(self.expected_sold.sum()) / demand if demand > 0 else 1.0

    def columns(self) -> dict[str, Any]:
        """Columns of a frame: the id, the quantity, units, costs and the fill rate."""
        return {
            "unique_id": list(self.ids),
            "quantity": self.quantity,
            "expected_demand": self.expected_demand,
            "expected_sold": self.expected_sold,
            "expected_lost": self.expected_lost,
            "expected_left": self.expected_left,
            "holding_cost": self.holding_cost,
            "lost_sale_cost": self.lost_sale_cost,
            "ordering_cost": self.ordering_cost,
            "expected_cost": self.expected_cost,
            "fill_rate": self.fill_rate,
        }

    @classmethod
    def gather(
        cls, ids: Sequence[str], order_cost: Values, parts: Sequence[tuple[np.ndarray, np.ndarray, Expected]]
    ) -> "OrderPlan":
        """One plan out of the cost per order and parts: the rows of each, their quantities and expectations."""
        names = ("quantity", "demand", "lost", "left", "holding_cost", "lost_sale_cost")
        found = {name: np.zeros(len(ids)) for name in names}
        for rows, quantity, expected in parts:
            for name, values in (vars(expected) | {"quantity": quantity}).items():
                found[name][rows] = values
        return cls(
            ids=ids,
            quantity=found["quantity"],
            expected_demand=found["demand"],
            expected_sold=np.maximum(found["demand"] - found["lost"], 0.0),  # but for rounding error
            expected_lost=found["lost"],
            expected_left=found["left"],
            holding_cost=found["holding_cost"],
            lost_sale_cost=found["lost_sale_cost"],
            ordering_cost=np.where(found["quantity"] > 0, order_cost, 0.0),
        )
