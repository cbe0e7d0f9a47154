# SPDX-License-Identifier: Apache-2.0
"""Myopic rules for independent demand: mind the cost of the step in which the order arrives, or of that and the next.

Morton (1971), "The Near-Myopic Nature of the Lagged-Proportional-Cost Inventory Problem with Lost Sales", Operations
Research 19(7), and "myopic-2" of Zipkin (2008). With a forecast in place of known probabilities, `ProjectedInventory`
is the myopic policy of one step.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float

from sirdar.inventory.distributions import Probabilities
from sirdar.inventory.exact import Tabulated, myopic_orders
from sirdar.inventory.policy import State
from sirdar.inventory.problem import InventoryProblem


@dataclass(frozen=True, eq=False)
class Myopic:
    """A table of orders, made at the first use.

    Args:
        problem: lost sales, one lead time of at least 1, scalar costs.
        demand: probabilities of 0, 1, 2, ... units in one step.
        steps: whose cost is minded: 1, or 2 for "myopic-2".
    """

    problem: InventoryProblem
    demand: Probabilities
    steps: int = 1

    @cached_property
    def table(self) -> Tabulated:
        """Orders by state."""
        return myopic_orders(self.problem, self.demand, self.steps)

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Looked up."""
        return self.table.order(state)
