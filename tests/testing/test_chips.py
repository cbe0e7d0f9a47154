# SPDX-License-Identifier: Apache-2.0
"""The suite for estimators must refuse members that are wrong in one way each."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sirdar.chips import Chip, Estimator, OperatorCost, Roofline, load
from sirdar.testing.chips import EstimatorChecks
from sirdar.units import Cost
from sirdar.workload.graph import Graph

Asked = tuple[Graph, Chip, str]


class Spoilt:
    """The roofline with another question or another answer."""

    def __init__(
        self,
        question: Callable[[Asked], Asked] = lambda asked: asked,
        answer: Callable[[OperatorCost], Cost] = lambda row: row.cost,
    ) -> None:
        self.question, self.answer = question, answer

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        rows = Roofline().breakdown(*self.question((graph, chip, dtype)))
        return tuple(replace(row, cost=self.answer(row)) for row in rows)

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        whole = Roofline().estimate(*self.question((graph, chip, dtype)))
        seconds = sum(row.cost.latency_s for row in self.breakdown(graph, chip, dtype))
        return replace(whole, latency_s=seconds)


def idle_where_nothing_is_read(row: OperatorCost) -> Cost:
    return replace(row.cost, macs=row.cost.macs if row.name == "matmul_1" else 0.0)


@pytest.mark.parametrize(
    ("member", "check", "sentence"),
    [
        (
            Spoilt(answer=lambda row: replace(row.cost, latency_s=row.cost.latency_s / 1000)),
            "no_chip_is_faster_than_its_peak",
            "at the chip's peak, got",
        ),
        (
            Spoilt(answer=lambda row: replace(row.cost, latency_s=1e-3)),
            "a_thousand_times_the_work_takes_more_time",
            "must take longer than 0.003 s, got 0.003",
        ),
        (
            Spoilt(lambda asked: (asked[0], load("trainium1"), asked[2])),
            "another_chip_has_another_estimate",
            "t4 has the latency of trainium1",
        ),
        (
            Spoilt(lambda asked: (*asked[:2], "bf16")),
            "memory_and_work_are_those_of_the_graph",
            "parameters in fp32 take 524288 bytes, got 262144",
        ),
        (
            Spoilt(lambda asked: (*asked[:2], "bf16")),
            "a_slower_format_takes_longer",
            "fp32 is slower than bf16, but takes",
        ),
        (
            Spoilt(answer=idle_where_nothing_is_read),
            "the_breakdown_has_every_operator_in_order",
            "each row has its operator's macs",
        ),
    ],
)
def test_a_wrong_member_is_refused(member: Estimator, check: str, sentence: str) -> None:
    class Checks(EstimatorChecks):
        def estimator(self) -> Estimator:
            return member

    with pytest.raises(AssertionError, match=sentence):
        getattr(Checks(), f"test_{check}")()
