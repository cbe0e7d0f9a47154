# SPDX-License-Identifier: Apache-2.0
"""Conformance suites for a chip's own TOML file and for estimators of one's own.

Derive a class whose name starts with "Test", say what to test, and let pytest find it:

    class TestMyChip(ChipChecks):
        def chip(self) -> Chip:
            return load("drawing-board.toml")
"""

import math
from abc import ABC, abstractmethod
from dataclasses import replace

from sirdar.chips.analytic import Estimator, Roofline
from sirdar.chips.chip import Chip
from sirdar.chips.reading import load
from sirdar.errors import SirdarError
from sirdar.numerics.formats import FORMATS, row_named
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator, TensorSpec


def example_graph(batch: int = 8, width: int = 256) -> Graph:
    """Two matrix multiplications with a rectifier between them."""
    x, hidden, active, y = (TensorSpec((batch, width), "fp32", name) for name in ("x", "hidden", "active", "y"))
    first, second = (TensorSpec((width, width), "fp32", name) for name in ("first", "second"))
    macs = batch * width * width
    operators = (
        Operator("matmul_1", "matmul", (x,), (hidden,), (first,), macs=macs),
        Operator("relu", "elementwise", (hidden,), (active,), flops=batch * width),
        Operator("matmul_2", "matmul", (active,), (y,), (second,), macs=macs),
    )
    return Graph(operators, (x,), ("y",), "example")


class ChipChecks(ABC):
    """What must hold for any chip."""

    @abstractmethod
    def chip(self) -> Chip:
        """The chip to test."""

    def test_every_number_has_a_source_and_a_date(self) -> None:
        """Facts without a source are opinions."""
        for key, number in self.chip().numbers():
            assert number.source.strip(), f"{key} has no source"
            assert number.date.year >= 1990, f"{key} is dated {number.date}"

    def test_bounds_enclose_the_value(self) -> None:
        """Low, value and high stand in this order and are finite."""
        for key, number in self.chip().numbers():
            low, value, high = number.bounds
            assert 0 <= low <= value <= high < math.inf, f"{key} has bounds {number.bounds}"

    def test_every_format_finds_one_the_chip_computes_in(self) -> None:
        """No number format is left without an answer, unless the chip has integers alone."""
        chip = self.chip()
        assert chip.usual_dtype() in chip.flops_per_s
        floats = any(row.floating for row in FORMATS if row.name in chip.flops_per_s)
        for row in FORMATS if floats else ():
            assert chip.usable_dtype(row.name) in chip.flops_per_s

    def test_the_roofline_prices_a_network(self) -> None:
        """Latency and energy are finite and above zero."""
        cost = Roofline().estimate(example_graph(), self.chip(), self.chip().usual_dtype())
        assert 0 < cost.latency_s < math.inf
        assert 0 < cost.energy_j < math.inf


class EstimatorChecks(ABC):
    """What must hold for any estimator, on any chip."""

    free = False  # set to True for an estimator that takes everything to be free, such as the null one

    @abstractmethod
    def estimator(self) -> Estimator:
        """The estimator to test."""

    def chip(self) -> Chip:
        """The chip to test it on."""
        return load("trainium1")

    def dtypes(self) -> tuple[str, ...]:
        """The number formats to test it in, the one for most tests first."""
        return ("bf16", "fp32")

    def large(self) -> Graph:
        """A graph of a thousand times the work of the example, for which any chip takes longer."""
        return example_graph(batch=512, width=1024)

    def estimate(self, graph: Graph, dtype: str | None = None) -> Cost:
        """The estimate for a graph on the chip."""
        return self.estimator().estimate(graph, self.chip(), dtype or self.dtypes()[0])

    def test_the_breakdown_has_every_operator_in_order(self) -> None:
        """One row each."""
        graph = example_graph()
        rows = self.estimator().breakdown(graph, self.chip(), self.dtypes()[0])
        assert [row.name for row in rows] == [operator.name for operator in graph.operators]
        macs = [row.cost.macs for row in rows]
        assert macs == [operator.macs for operator in graph.operators], f"each row has its operator's macs, got {macs}"

    def test_operators_add_up(self) -> None:
        """The breakdown explains the whole estimate, nothing more and nothing less."""
        graph = example_graph()
        rows = self.estimator().breakdown(graph, self.chip(), self.dtypes()[0])
        whole = self.estimate(graph)
        assert math.isclose(sum(row.cost.latency_s for row in rows), whole.latency_s, rel_tol=1e-9)
        assert math.isclose(sum(row.cost.energy_j for row in rows), whole.energy_j, rel_tol=1e-9)

    def test_costs_are_finite_and_not_negative(self) -> None:
        """Every part of the cost, in every format tested."""
        for dtype in self.dtypes():
            for value in vars(self.estimate(example_graph(), dtype)).values():
                assert 0 <= value < math.inf

    def test_memory_and_work_are_those_of_the_graph(self) -> None:
        """Counting is not the estimator's to change."""
        graph = example_graph()
        for dtype in self.dtypes():
            cost, used = self.estimate(graph, dtype), self.chip().usable_dtype(dtype)
            assert cost.macs == graph.macs
            expected = graph.parameter_bytes(used)
            got = f"got {cost.parameter_bytes:g}"
            assert cost.parameter_bytes == expected, f"parameters in {used} take {expected} bytes, {got}"

    def test_the_peak_of_memory_is_that_of_the_graph(self) -> None:
        """Neither is this, but for estimators that know how a compiler lays out memory: they override this test."""
        graph = example_graph()
        used = self.chip().usable_dtype(self.dtypes()[0])
        profile = (graph.inputs[0].bytes(used), *graph.live_bytes(used))
        assert self.estimate(graph).peak_bytes == max(profile)

    def test_more_work_takes_no_less_time(self) -> None:
        """In the batch and in the width."""
        small = self.estimate(example_graph()).latency_s
        assert self.estimate(example_graph(batch=64)).latency_s >= small
        assert self.estimate(example_graph(width=1024)).latency_s >= small

    def test_a_thousand_times_the_work_takes_more_time(self) -> None:
        """An estimate that is one constant ranks nothing."""
        small, large = self.estimate(example_graph()).latency_s, self.estimate(self.large()).latency_s
        assert self.free or large > small, f"a thousand times the work must take longer than {small:g} s, got {large:g}"

    def test_no_chip_is_faster_than_its_peak(self) -> None:
        """Two operations for every multiply-accumulate, at the rate on the sheet, in every format tested."""
        chip, graph = self.chip(), self.large()
        for dtype in self.dtypes():
            used = chip.usable_dtype(dtype)
            least, got = 2 * graph.macs / chip.flops_per_s[used].value, self.estimate(graph, dtype).latency_s
            assert self.free or got >= least * (1 - 1e-9), f"{used} takes {least:g} s at the chip's peak, got {got:g}"

    def test_a_slower_format_takes_longer(self) -> None:
        """Where the chip computes in it at a lower rate and it takes no less memory."""
        chip = self.chip()
        used = {chip.usable_dtype(dtype): self.estimate(self.large(), dtype).latency_s for dtype in self.dtypes()}
        for slow, slow_s in used.items():
            for fast, fast_s in used.items():
                slower = chip.flops_per_s[slow].value < chip.flops_per_s[fast].value
                if slower and row_named(slow).bits >= row_named(fast).bits:
                    assert self.free or slow_s > fast_s, f"{slow} is slower than {fast}, but takes {slow_s:g} s as well"

    def test_another_chip_has_another_estimate(self) -> None:
        """An estimator may refuse a chip that it does not know, but not answer for the one that it knows."""
        chip = self.chip()
        other = load("t4" if chip.name != "t4" else "trainium1")
        try:
            found = self.estimator().estimate(self.large(), other, self.dtypes()[0])
        except SirdarError:
            return
        same = found.latency_s == self.estimate(self.large()).latency_s
        assert self.free or not same, f"{other.name} has the latency of {chip.name}: the chip that is asked for counts"

    def test_the_same_question_has_the_same_answer(self) -> None:
        """Twice, byte for byte."""
        assert self.estimate(example_graph()) == self.estimate(example_graph())

    def test_the_network_s_name_is_no_fact(self) -> None:
        """Estimates depend on operators alone."""
        graph = example_graph()
        assert self.estimate(replace(graph, name="another")) == self.estimate(graph)
