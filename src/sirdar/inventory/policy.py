# SPDX-License-Identifier: Apache-2.0
"""What a policy sees and what it answers: the interface of every rule that orders."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

from jaxtyping import Float

from sirdar.inventory.backend import Array, Parameter
from sirdar.inventory.problem import InventoryProblem


class Outstanding(NamedTuple):
    """Orders under way while lead times are random.

    Args:
        known: units whose step of arrival is known, the coming one first: [*batch, series, lead].
        placed: units ordered 1, 2, ... steps ago that have not come: [*batch, series, age].
    """

    known: Array
    placed: Array


@final
class State:
    """What is known when an order is placed. Arrays are numpy's or torch's; leading axes are scenarios.

    Args:
        on_hand: units left from the step before, [*batch, series]; negative where demand waits.
        pipeline: units under way by the step in which they arrive, the coming one first: [*batch, series, lead]. With
            random lead times what is expected to arrive, given how long each order has been under way. A function is
            called when a policy asks, so that policies which do not ask do not pay.
        problem: costs, times and rules, of the same series.
        step: steps since the first order.
        sales: what was sold in each earlier step, oldest first, [*batch, series] each: demand only where none was lost.
            It belongs to the simulator: read it at once, change nothing.
        position: units on hand and under way together, if that is known already; a function likewise.
        outstanding: with random lead times, what `pipeline` is the expectation of; a function likewise.
        carried: `position` with rounding errors, where that is known and `position` would have to be counted.
    """

    def __init__(
        self,
        on_hand: Float[Any, "*batch series"],
        pipeline: Array | Callable[[], Array],
        problem: InventoryProblem,
        step: int = 0,
        sales: Sequence[Array] = (),
        position: Array | Callable[[], Array] | None = None,
        outstanding: "Callable[[], Outstanding] | None" = None,
        carried: Array | None = None,
    ) -> None:
        self.on_hand = on_hand
        self.problem = problem
        self.step = step
        self.sales = sales
        self._pipeline = pipeline
        self._position = position
        self._outstanding = outstanding
        self._carried = carried

    @cached_property
    def pipeline(self) -> Float[Any, "*batch series lead"]:
        """Units under way by the step in which they arrive."""
        return self._pipeline() if callable(self._pipeline) else self._pipeline

    @cached_property
    def outstanding(self) -> "Outstanding":
        """Orders under way by what is known of them; all by their step of arrival if nothing else was said."""
        if self._outstanding is not None:
            return self._outstanding()
        return Outstanding(self.pipeline, self.pipeline[..., :0])

    @cached_property
    def position(self) -> Float[Any, "*batch series"]:
        """On hand and under way together."""
        if self._position is None:
            return self.on_hand + self.pipeline.sum(-1)
        return self._position() if callable(self._position) else self._position

    @property
    def carried(self) -> Float[Any, "*batch series"]:
        """The same as the simulator carries it along, for policies that order up to a level.

        Its rounding errors, which are left when no unit is, make no difference to a quantity; but to whoever compares
        it with a reorder point they do.
        """
        return self.position if self._carried is None else self._carried


@runtime_checkable
class Policy(Protocol):
    """A rule that orders."""

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Quantities to order now, not negative. Whoever places them rounds them up to what `OrderRules` permit."""
        ...


class UpTo(NamedTuple):
    """Order what is missing to a level, at most a cap, where stock on hand and under way is at or below a point."""

    level: Parameter
    cap: Parameter = math.inf
    reorder_point: Parameter = math.inf


@runtime_checkable
class OrdersUpTo(Policy, Protocol):
    """A policy that looks at nothing but stock on hand and under way: it can be simulated in one go."""

    def up_to(self) -> UpTo:
        """What `order` does, as numbers; each for all series, or one per series."""
        ...
