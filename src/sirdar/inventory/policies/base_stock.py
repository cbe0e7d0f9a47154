# SPDX-License-Identifier: Apache-2.0
"""Order up to a level: optimal with backlogging, a common heuristic with lost sales (Zipkin 2000, section 9.4)."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from sirdar.inventory.backend import Parameter, match
from sirdar.inventory.checks import require_parameter
from sirdar.inventory.policy import State, UpTo


@dataclass(frozen=True, eq=False)
class BaseStock:
    """Raise stock on hand and under way to a level.

    Args:
        level: units; a number or one per series. A torch tensor that requires a gradient makes the policy trainable.
    """

    level: Parameter

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", require_parameter(self.level, "level"))

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """What is missing to the level."""
        return (match(self.level, state.on_hand) - state.carried).clip(min=0)

    def up_to(self) -> UpTo:
        """The same as numbers."""
        return UpTo(self.level)
