# SPDX-License-Identifier: Apache-2.0
"""What a policy sees and what it answers: the interface of every rule that orders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float

from sirdar.inventory.problem import InventoryProblem


@dataclass(frozen=True, eq=False)
class State:
    """What is known when an order is placed. Arrays are numpy's or torch's; leading axes are scenarios.

    Args:
        on_hand: units left from the step before; negative where demand waits.
        pipeline: units under way by the step in which they arrive, the coming one first. With random lead times what
            is expected to arrive, given how long each order has been under way.
        problem: costs, times and rules, of the same series.
        step: steps since the first order.
        sales: what was sold in each earlier step, oldest first, [*batch, series] each: demand only where none was lost.
            It belongs to the simulator: read it at once, change nothing.
    """

    on_hand: Float[Any, "*batch series"]
    pipeline: Float[Any, "*batch series lead"]
    problem: InventoryProblem
    step: int = 0
    sales: Sequence[Any] = ()

    @property
    def position(self) -> Float[Any, "*batch series"]:
        """On hand and under way together."""
        return self.on_hand + self.pipeline.sum(-1)


@runtime_checkable
class Policy(Protocol):
    """A rule that orders."""

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Quantities to order now, not negative. Whoever places them rounds them up to what `OrderRules` permit."""
        ...
