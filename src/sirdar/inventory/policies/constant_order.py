# SPDX-License-Identifier: Apache-2.0
"""Order the same in every review step: asymptotically optimal for lost sales as lead times grow.

Goldberg, Katz-Rogozhnikov, Lu, Sharma and Squillante (2016), "Asymptotic Optimality of Constant-Order Policies for Lost
Sales Inventory Models with Large Lead Times", Mathematics of Operations Research 41(3).
"""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from sirdar.inventory.backend import Parameter, match
from sirdar.inventory.checks import require_parameter
from sirdar.inventory.policy import State, UpTo


@dataclass(frozen=True, eq=False)
class ConstantOrder:
    """Blind to the stock.

    Args:
        quantity: units per order; a number or one per series (or a trainable tensor).
    """

    quantity: Parameter

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantity", require_parameter(self.quantity, "quantity", least=0.0))

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """The quantity."""
        return 0.0 * state.on_hand + match(self.quantity, state.on_hand)

    def up_to(self) -> UpTo:
        """The same as numbers: a level that is never reached."""
        return UpTo(math.inf, self.quantity)
