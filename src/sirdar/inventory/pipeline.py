# SPDX-License-Identifier: Apache-2.0
"""Orders under way in the torch simulator: lanes by the step of arrival, without a copy per step."""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sirdar.inventory.backend import along_last
from sirdar.inventory.policy import Outstanding
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import RandomLeadTime

Units = Float[Tensor, "*batch series"]


@runtime_checkable
class Pipeline(Protocol):
    """Where orders wait for their arrival."""

    def visible(self) -> Float[Tensor, "*batch series lead"]:
        """What is known, or expected, to arrive in the coming steps."""
        ...

    def lanes(self) -> Sequence[Units]:
        """All that was ordered and is not here, whether it is known or not when it comes."""
        ...

    def turn(self, order: Units) -> Units:
        """Place the order of this step and hand over what arrives in it."""
        ...


class EqualLanes:
    """One lead time for all series: a queue."""

    def __init__(self, start: Float[Tensor, "*batch series lead"]) -> None:
        self._lanes = deque(start.unbind(-1))
        self._like = start

    def visible(self) -> Float[Tensor, "*batch series lead"]:
        """All lanes."""
        return along_last(tuple(self._lanes)) if self._lanes else self._like

    def lanes(self) -> Sequence[Units]:
        """The queue."""
        return self._lanes

    def turn(self, order: Units) -> Units:
        """Last in, first out of the other end."""
        self._lanes.append(order)
        return self._lanes.popleft()


class OwnLanes:
    """One lead time per series."""

    def __init__(self, start: Float[Tensor, "*batch series lead"], lead_time: np.ndarray) -> None:
        self._lanes = [*start.unbind(-1), start.new_zeros(start.shape[:-1])]
        self._masks = {int(lead): start.new_tensor(lead_time == lead) for lead in np.unique(lead_time)}

    def visible(self) -> Float[Tensor, "*batch series lead"]:
        """All lanes but that of an order placed now with the longest lead time."""
        return along_last(self._lanes[:-1])

    def lanes(self) -> Sequence[Units]:
        """All but the one that is empty until an order comes."""
        return self._lanes[:-1]

    def turn(self, order: Units) -> Units:
        """Each series has its lane."""
        for lead, mask in self._masks.items():
            self._lanes[lead] = self._lanes[lead] + order * mask
        self._lanes.append(torch.zeros_like(order))
        return self._lanes.pop(0)


class CrossingLanes:
    """Every order draws its lead time; what is visible is the expectation given the age of what is outstanding."""

    def __init__(
        self, start: Float[Tensor, "*batch series lead"], lead_time: RandomLeadTime, drawn: Int[Tensor, "time ..."]
    ) -> None:
        self._lanes = [*start.unbind(-1), start.new_zeros(start.shape[:-1])]
        self._known = deque(start.unbind(-1))
        self._lead_time = lead_time
        self._drawn = drawn
        self._placed: deque[tuple[Units, Tensor]] = deque(maxlen=max(1, lead_time.longest))  # youngest first
        self._step = 0

    def visible(self) -> Float[Tensor, "*batch series lead"]:
        """What was under way at the start, and the expectation of what was ordered since."""
        expected = list(self._known)
        for age, outstanding in enumerate(self._late(), start=1):
            for more, chance in enumerate(self._lead_time.remaining(age)):
                expected[more] = expected[more] + outstanding * float(chance)
        return self._stacked(expected)

    def lanes(self) -> Sequence[Units]:
        """Where orders truly are."""
        return self._lanes[:-1]

    def outstanding(self) -> Outstanding:
        """What is known of the orders under way."""
        return Outstanding(self._stacked(list(self._known)), self._stacked(self._late()))

    def _late(self) -> list[Units]:
        """Units ordered 1, 2, ... steps ago that have not come."""
        placed = islice(self._placed, self._lead_time.longest)
        return [order * (lead >= age) for age, (order, lead) in enumerate(placed, start=1)]

    def _stacked(self, lanes: list[Units]) -> Float[Tensor, "*batch series lead"]:
        return along_last(lanes) if lanes else self._lanes[0].unsqueeze(-1)[..., :0]

    def turn(self, order: Units) -> Units:
        """Each order has the lane that was drawn for it."""
        lead = self._drawn[self._step]
        for lane in range(len(self._lanes)):
            self._lanes[lane] = self._lanes[lane] + order * (lead == lane)
        self._placed.appendleft((order, lead))
        self._lanes.append(torch.zeros_like(order))
        if self._known:
            self._known.append(torch.zeros_like(order))
            self._known.popleft()
        self._step += 1
        return self._lanes.pop(0)


def open_pipeline(
    problem: InventoryProblem, start: Float[Tensor, "*batch series lead"], time: int, seed: int
) -> Pipeline:
    """The kind of pipeline that the lead times of a problem need."""
    lead_time = problem.lead_time
    if isinstance(lead_time, RandomLeadTime):
        drawn = lead_time.draw((time, *start.shape[:-1]), seed)
        return CrossingLanes(start, lead_time, torch.from_numpy(drawn).to(start.device))
    if isinstance(lead_time, np.ndarray) and len(np.unique(lead_time)) > 1:
        return OwnLanes(start, lead_time)
    return EqualLanes(start)
