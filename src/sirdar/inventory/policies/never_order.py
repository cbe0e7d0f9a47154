# SPDX-License-Identifier: Apache-2.0
"""The null policy."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from sirdar.inventory.policy import State, UpTo


@dataclass(frozen=True)
class NeverOrder:
    """Orders nothing: the cost that every other policy must beat."""

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Zeros."""
        return 0.0 * state.on_hand

    def up_to(self) -> UpTo:
        """The same as numbers."""
        return UpTo(0.0, 0.0)
