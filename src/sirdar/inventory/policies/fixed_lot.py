# SPDX-License-Identifier: Apache-2.0
"""(r, Q), with multiples: order as many lots of Q as lift the stock above r. Snyder and Shen (2019), chapter 5."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.backend import Values, match
from sirdar.inventory.checks import require_parameter
from sirdar.inventory.policy import State


@dataclass(frozen=True, eq=False)
class FixedLot:
    """The (r, nQ) policy on stock on hand and under way.

    Args:
        reorder_point: r; a number or one per series.
        lot: Q, above 0; likewise.
    """

    reorder_point: Values
    lot: Values

    def __post_init__(self) -> None:
        object.__setattr__(self, "reorder_point", require_parameter(self.reorder_point, "reorder_point"))
        object.__setattr__(self, "lot", require_parameter(self.lot, "lot"))
        if not np.all(np.asarray(self.lot) > 0):
            msg = f"lot must be above 0, got {self.lot}"
            raise ArgumentError(msg)

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """The fewest lots after which the position exceeds r."""
        lot = match(self.lot, state.on_hand)
        below = match(self.reorder_point, state.on_hand) - state.position
        return (below // lot + 1).clip(min=0) * lot
