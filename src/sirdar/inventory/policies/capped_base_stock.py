# SPDX-License-Identifier: Apache-2.0
"""Order up to a level, but never more than a cap at once: near-optimal for lost sales at any lead time.

Xin (2021), "Understanding the Performance of Capped Base-Stock Policies in Lost-Sales Inventory Models", Operations
Research 69(1).
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from sirdar.inventory.backend import Parameter, match
from sirdar.inventory.checks import require_parameter
from sirdar.inventory.policy import State, UpTo


@dataclass(frozen=True, eq=False)
class CappedBaseStock:
    """Raise stock on hand and under way to a level, smoothed by a cap.

    Args:
        level: units; a number or one per series (or a trainable tensor).
        cap: the most units in one order; likewise.
    """

    level: Parameter
    cap: Parameter

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", require_parameter(self.level, "level"))
        object.__setattr__(self, "cap", require_parameter(self.cap, "cap", least=0.0, infinite=True))

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """What is missing to the level, up to the cap."""
        missing = (match(self.level, state.on_hand) - state.carried).clip(min=0)
        # min(missing, cap), spelt alike in numpy and torch
        return missing - (missing - match(self.cap, state.on_hand)).clip(min=0)

    def up_to(self) -> UpTo:
        """The same as numbers."""
        return UpTo(self.level, self.cap)
