# SPDX-License-Identifier: Apache-2.0
"""A policy that is made anew as time goes by: a forecast rolled forward, a parameter chosen again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.policy import Policy, State


@dataclass(frozen=True, eq=False)
class Rolling:
    """In every step the latest policy that was made by then, which believes that the time of its making is step 0.

    Args:
        policies: by the step in which each was made; one of them in step 0.
    """

    policies: Mapping[int, Policy]

    def __post_init__(self) -> None:
        if 0 not in self.policies:
            msg = f"a policy is needed from step 0 on, got some for steps {sorted(self.policies)}"
            raise ArgumentError(msg)

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """What the latest policy orders."""
        made = max(step for step in self.policies if step <= state.step)
        now = State(
            state.on_hand,
            lambda: state.pipeline,
            state.problem,
            state.step - made,
            state.sales,
            lambda: state.position,
            lambda: state.outstanding,
            state.carried,
        )
        return self.policies[made].order(now)
