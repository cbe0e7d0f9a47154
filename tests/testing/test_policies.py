# SPDX-License-Identifier: Apache-2.0
"""`check_policy` must refuse policies that are wrong in one way each."""

from typing import Any

import pytest

from sirdar.inventory import InventoryProblem, State
from sirdar.testing.policies import check_policy


class UpToTwenty:
    """Orders what is missing to twenty: a right member, which the wrong ones below spoil in one place."""

    level = 20.0

    def missing(self, position: Any) -> Any:  # noqa: ANN401 - numpy's or torch's
        missing = self.level - position
        return missing * (missing > 0)

    def order(self, state: State) -> Any:  # noqa: ANN401
        return self.missing(state.position)


class Emptying(UpToTwenty):
    def order(self, state: State) -> Any:  # noqa: ANN401
        state.pipeline[..., 0] = 0
        return self.missing(state.on_hand + state.pipeline.sum(-1))


class Remembering(UpToTwenty):
    last: Any = 0.0

    def order(self, state: State) -> Any:  # noqa: ANN401
        order = self.missing(state.position)
        self.last = order if state.step == 0 else (order + self.last) / 2
        return self.last


class Imprinted(UpToTwenty):
    level = 0.0

    def order(self, state: State) -> Any:  # noqa: ANN401
        self.level = self.level or 15 + float(state.on_hand.mean())
        return self.missing(state.position)


class Flat(UpToTwenty):
    def order(self, state: State) -> Any:  # noqa: ANN401
        return self.missing(state.position if state.position.ndim < 3 else state.position * 0)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Emptying(), "must not change the state"),
        (Remembering(), "the same state must give the same order twice|not from orders placed before"),
        (Imprinted(), "not from the first state seen"),
        (Flat(), "here 2 of them: each must get the order of its own"),
    ],
)
def test_a_wrong_member_is_refused(policy: UpToTwenty, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_policy(policy, InventoryProblem(0.2, 1.0, 2), series=5)


def test_a_right_member_passes_whatever_the_lead_times() -> None:
    for lead_time in (0, 2):
        check_policy(UpToTwenty(), InventoryProblem(0.2, 1.0, lead_time), series=5)
