# SPDX-License-Identifier: Apache-2.0
"""(s, S): wait until stock has fallen to s, then order up to S. Optimal with a fixed cost per order and backlogging.

Scarf (1960), "The Optimality of (s, S) Policies in the Dynamic Inventory Problem".
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from sirdar.inventory.backend import Values, match
from sirdar.inventory.checks import require_parameter
from sirdar.inventory.policy import State, UpTo


@dataclass(frozen=True, eq=False)
class MinMax:
    """The (s, S) policy on stock on hand and under way.

    Args:
        reorder_point: s, at or below which an order is placed; a number or one per series.
        level: S, up to which it is placed; likewise.
    """

    reorder_point: Values
    level: Values

    def __post_init__(self) -> None:
        object.__setattr__(self, "reorder_point", require_parameter(self.reorder_point, "reorder_point", infinite=True))
        object.__setattr__(self, "level", require_parameter(self.level, "level"))

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Nothing above s, what is missing to S otherwise."""
        position = state.position
        low = 1.0 * (position <= match(self.reorder_point, state.on_hand))
        return low * (match(self.level, state.on_hand) - position).clip(min=0)

    def up_to(self) -> UpTo:
        """The same as numbers."""
        return UpTo(self.level, reorder_point=self.reorder_point)
