# SPDX-License-Identifier: Apache-2.0
"""What candidates cost: by the estimator and in the format that `sirdar.estimate` takes for the chip."""

import pytest

import sirdar
from sirdar.chips import Chip, Tiled, load
from sirdar.errors import ArgumentError
from sirdar.search.pricing import estimated
from sirdar.testing.search import TOY, ToyTask
from sirdar.units import Cost
from sirdar.workload.graph import Graph

SMALL = TOY.smallest()


def test_an_ethos_u_is_priced_by_its_compiler_without_a_word_on_formats() -> None:
    pytest.importorskip("ethosu.vela")
    task, chip = ToyTask(), load("ethos-u55-128")
    cost = estimated(task, "ethos-u55-128")(SMALL)
    assert cost == estimated(task, chip, dtype="int8")(SMALL) == sirdar.estimate(task.graph(SMALL), chip)
    sheet = estimated(task, chip, Tiled())(SMALL)
    assert sheet.latency_s != cost.latency_s


def test_other_chips_are_priced_by_their_sheets() -> None:
    task = ToyTask()
    whole = Tiled().estimate(task.graph(SMALL), load("t4"), "fp16")
    assert estimated(task, "t4")(SMALL) == estimated(task, "t4", dtype="bf16")(SMALL) == whole


def test_a_format_that_nothing_replaces_is_refused_before_anything_is_priced() -> None:
    with pytest.raises(ArgumentError, match="nothing takes the place of bf16; give int8 as dtype"):
        estimated(ToyTask(), "ethos-u55-128", dtype="bf16")


def test_a_given_estimator_gets_the_format_as_it_is() -> None:
    asked = list[str]()

    class Asked:
        def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
            del graph, chip
            asked.append(dtype)
            return Cost()

        def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[()]:
            del graph, chip, dtype
            return ()

    estimated(ToyTask(), "ethos-u55-128", Asked(), "fp32")(SMALL)
    assert asked == ["fp32"]
