# SPDX-License-Identifier: Apache-2.0
"""The roofline: cases worked out by hand, properties that must hold on any chip, and the conformance suite."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.chips import Chip, Estimator, NullEstimator, Number, Roofline, SlowRoofline, Tiled, estimate, load, names
from sirdar.chips.analytic import fits, traffic, weights_read
from sirdar.testing.chips import EstimatorChecks, example_graph
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator, TensorSpec


class TestRoofline(EstimatorChecks):
    def estimator(self) -> Estimator:
        return Roofline()


class TestSlowRoofline(EstimatorChecks):
    def estimator(self) -> Estimator:
        return SlowRoofline()


class TestRooflineInBlockFormats(EstimatorChecks):
    def estimator(self) -> Estimator:
        return Roofline()

    def chip(self) -> Chip:
        return load("trainium3")

    def dtypes(self) -> tuple[str, ...]:
        return ("mxfp4_e2m1", "mxfp8_e4m3", "bf16")


class TestNullEstimator(EstimatorChecks):
    free = True

    def estimator(self) -> Estimator:
        return NullEstimator()


def number(value: float) -> Number:
    return replace(load("trainium1").memory_bytes, value=float(value), source="by hand", alternatives=())


def plain_chip(sram_bytes: float | None = None) -> Chip:
    """1 Tflop/s at full efficiency, 100 Gflop/s elementwise, 10 GB/s, 1 us a start, 2 W."""
    return Chip(
        name="plain",
        vendor="nobody",
        kind="accelerator",
        description="For sums by hand.",
        flops_per_s={"fp32": number(1e12)},
        vector_flops_per_s=number(1e11),
        memory_bytes=number(1e6),
        bandwidth_bytes_per_s=number(1e10),
        compute_efficiency=number(1.0),
        bandwidth_efficiency=number(1.0),
        overhead_s=number(1e-6),
        power_w=number(2.0),
        sram_bytes=None if sram_bytes is None else number(sram_bytes),
    )


def one_matmul(rows: int = 100, depth: int = 200, columns: int = 50) -> Graph:
    x, y, w = (
        TensorSpec(shape, "fp32", name)
        for shape, name in (((rows, depth), "x"), ((rows, columns), "y"), ((depth, columns), "w"))
    )
    return Graph((Operator("matmul", "matmul", (x,), (y,), (w,), macs=rows * depth * columns),), (x,), ("y",))


def test_a_memory_bound_matmul_by_hand() -> None:
    # 1e6 macs = 2e6 flop / 1e12 = 2 us; bytes 4 x (20,000 + 5,000 + 10,000) = 140,000 / 1e10 = 14 us; 1 us to start.
    (row,) = Roofline().breakdown(one_matmul(), plain_chip(), "fp32")
    assert row.compute_s == pytest.approx(2e-6)
    assert row.memory_s == pytest.approx(14e-6)
    assert row.bound == "memory"
    assert (row.cost.latency_s, row.cost.energy_j) == (pytest.approx(15e-6), pytest.approx(30e-6))
    assert (row.cost.peak_bytes, row.cost.parameter_bytes, row.cost.macs) == (100_000, 40_000, 1_000_000)


def test_a_compute_bound_matmul_by_hand() -> None:
    # 1e9 macs = 2e9 flop / 1e12 = 2 ms; bytes 4 x 3 x 1e6 / 1e10 = 1.2 ms.
    cost = estimate(one_matmul(1000, 1000, 1000), plain_chip(), "fp32")
    assert cost.latency_s == pytest.approx(2e-3 + 1e-6)


def test_efficiencies_divide_the_peaks() -> None:
    chip = replace(plain_chip(), compute_efficiency=number(0.5), bandwidth_efficiency=number(0.25))
    (row,) = Roofline().breakdown(one_matmul(), chip, "fp32")
    assert (row.compute_s, row.memory_s) == (pytest.approx(4e-6), pytest.approx(56e-6))


def chain() -> Graph:
    """x (1,000 values) -> a -> b -> y, elementwise, 4,000 bytes each."""
    edges = [TensorSpec((1000,), "fp32", name) for name in ("x", "a", "b", "y")]
    operators = tuple(
        Operator(f"to_{out.name}", "elementwise", (source,), (out,), flops=1000) for source, out in pairwise(edges)
    )
    return Graph(operators, (edges[0],), ("y",))


def test_activations_that_stay_on_chip_do_not_pay() -> None:
    # Without on-chip memory every operator moves 8,000 bytes. With room for the two edges alive at once only the input
    # and the output of the whole graph move: 4,000 bytes for the first and the last operator, none between.
    off = [row.memory_s for row in Roofline().breakdown(chain(), plain_chip(), "fp32")]
    on = [row.memory_s for row in Roofline().breakdown(chain(), plain_chip(8000), "fp32")]
    assert off == pytest.approx([8e-7, 8e-7, 8e-7])
    assert on == pytest.approx([4e-7, 0, 4e-7])


def test_what_the_caller_passes_in_or_gets_back_is_moved_under_any_name() -> None:
    # Roomy on-chip memory: 4,000 bytes in and 4,000 out, whether or not they are viewed on the way.
    x, seen, y, shown = (TensorSpec((1000,), "fp32", name) for name in ("x", "seen", "y", "shown"))
    plain = Graph((Operator("op", "elementwise", (x,), (y,), flops=1000),), (x,), ("y",))
    views = Operator("in", "view", (x,), (seen,)), Operator("out", "view", (y,), (shown,))
    step = Operator("op", "elementwise", (seen,), (y,), flops=1000)
    viewed = Graph((views[0], step, views[1]), (x,), ("shown",))
    for graph in (plain, viewed):
        assert sum(row.memory_s for row in Roofline().breakdown(graph, plain_chip(1e5), "fp32")) == pytest.approx(8e-7)


@pytest.mark.parametrize("estimator", [Roofline(), SlowRoofline()])
def test_a_value_that_is_expanded_is_read_once(estimator: Estimator) -> None:
    # 4,000 bytes of x and of y, and 40 of the row that is added to each of 100.
    x, row, rows, y = (
        TensorSpec((100, 10), name="x"),
        TensorSpec((10,), name="row"),
        *(TensorSpec((100, 10), name=name) for name in ("rows", "y")),
    )
    expand = Operator("expand", "view", (row,), (rows,))
    graph = Graph((expand, Operator("add", "elementwise", (x, rows), (y,), flops=1000)), (x, row), ("y",))
    assert estimator.breakdown(graph, plain_chip(), "fp32")[1].memory_s == pytest.approx(8040e-10)


def test_weights_stay_where_all_of_them_fit_with_the_activations() -> None:
    # Weights 40,000 bytes, peak of activations 100,000: together 140,000.
    (paying,) = Roofline().breakdown(one_matmul(), plain_chip(139_999), "fp32")
    (resident,) = Roofline().breakdown(one_matmul(), plain_chip(140_000), "fp32")
    assert paying.memory_s == pytest.approx(14e-6)
    assert resident.memory_s == pytest.approx(10e-6)  # the input and the output


def looked_up(rows: int) -> Graph:
    """64 rows of 16 values, taken out of a table of so many; then 16 of its values added to each."""
    places, taken, y = (
        TensorSpec((64,), "int32", "i"),
        TensorSpec((64, 16), "fp32", "x"),
        TensorSpec((64, 16), name="y"),
    )
    table = TensorSpec((rows, 16), "fp32", "table")
    operators = (
        Operator("look_up", "gather", (places,), (taken,), (table,)),
        Operator("shift", "elementwise", (taken,), (y,), (table,), flops=1024),
    )
    return Graph(operators, (places,), ("y",))


@pytest.mark.parametrize("estimator", [Roofline(), SlowRoofline()])
def test_a_lookup_reads_the_rows_it_takes_and_not_the_table(estimator: Estimator) -> None:
    # 64 places of 4 bytes, 4,096 bytes of rows read and 4,096 written; the sum reads 4,096 twice and writes them once.
    seconds = [row.memory_s for row in estimator.breakdown(looked_up(10_000), plain_chip(), "fp32")]
    assert seconds == pytest.approx([8448e-10, 12288e-10])
    assert estimator.estimate(looked_up(10_000), plain_chip(), "fp32").parameter_bytes == 640_000  # it must fit whole


@pytest.mark.parametrize("estimator", [Roofline(), SlowRoofline()])
def test_a_table_smaller_than_what_is_taken_is_read_once(estimator: Estimator) -> None:
    look_up, shift = estimator.breakdown(looked_up(8), plain_chip(), "fp32")
    assert look_up.memory_s == pytest.approx((256 + 512 + 4096) * 1e-10)
    assert shift.memory_s == pytest.approx((4096 + 512 + 4096) * 1e-10)


def test_a_lookup_that_sums_its_rows_reads_them_all() -> None:
    """An embedding bag of 80 places, 20 of them to a sum, 64 wide: it makes 256 values of 5,120."""
    places, table, sums = (
        TensorSpec((80,), "int32", "p"),
        TensorSpec((9999, 64), "fp32", "t"),
        TensorSpec((4, 64), "fp32", "s"),
    )
    operator = Operator("bag", "gather", (places,), (sums,), (table,), attributes={"values_read": 5120})
    assert weights_read(operator, "fp32") == 4 * 5120


def test_a_slice_of_a_weight_is_read_as_what_it_holds() -> None:
    x, y = TensorSpec((10, 512), name="x"), TensorSpec((10, 512), name="y")
    weights = TensorSpec((1536, 512), name="w"), TensorSpec((1536,), name="b"), TensorSpec((7,), name="rest")
    operator = Operator("q", "matmul", (x,), (y,), weights, attributes={"slices": {"w": 512 * 512, "b": 512}})
    assert weights_read(operator, "fp16") == 2 * (512 * 512 + 512 + 7)
    assert operator.weight_bytes("fp16") == 2 * (1536 * 512 + 1536 + 7)  # they must fit whole


def test_views_and_constants_are_free() -> None:
    x, y, zero = (TensorSpec((1000,), "fp32", name) for name in ("x", "y", "zero"))
    operators = (Operator("look", "view", (x,), (y,)), Operator("full", "constant", (), (zero,)))
    rows = Roofline().breakdown(Graph(operators, (x,), ("y", "zero")), plain_chip(), "fp32")
    assert [(row.cost.latency_s, row.bound) for row in rows] == [(0.0, "nothing")] * 2


def test_half_as_wide_moves_half_the_bytes() -> None:
    chip = replace(plain_chip(), flops_per_s={"fp32": number(1e12), "bf16": number(1e12)})
    wide, narrow = (Roofline().breakdown(one_matmul(), chip, dtype)[0] for dtype in ("fp32", "bf16"))
    assert narrow.memory_s == pytest.approx(wide.memory_s / 2)


def test_a_format_the_chip_lacks_is_named_in_every_row() -> None:
    assert {row.dtype for row in Roofline().breakdown(chain(), load("t4"), "bf16")} == {"fp16"}


@pytest.mark.parametrize("name", names())
def test_on_chip_memory_is_all_that_parts_it_from_the_slow_member(name: str) -> None:
    chip = replace(load(name), sram_bytes=None)
    for dtype in ("fp32", "bf16", "int8"):
        assert Roofline().breakdown(example_graph(), chip, dtype) == SlowRoofline().breakdown(
            example_graph(), chip, dtype
        )


def scale(chip: Chip, key: str, factor: float) -> Chip:
    """The chip with one of its numbers multiplied."""
    old = getattr(chip, key)
    return replace(chip, **{key: replace(old, value=old.value * factor)})


BETTER: dict[str, Callable[[Chip, float], Chip]] = {
    "bandwidth": lambda chip, factor: scale(chip, "bandwidth_bytes_per_s", factor),
    "vector": lambda chip, factor: scale(chip, "vector_flops_per_s", factor),
    "sram": lambda chip, factor: scale(chip, "sram_bytes", factor),
    "start": lambda chip, factor: scale(chip, "overhead_s", 1 / factor),
    "peak": lambda chip, factor: replace(
        chip, flops_per_s={key: replace(row, value=row.value * factor) for key, row in chip.flops_per_s.items()}
    ),
}


@given(st.sampled_from(sorted(BETTER)), st.floats(1, 1e3), st.integers(1, 512), st.integers(1, 2048))
def test_a_better_chip_is_never_slower(part: str, factor: float, batch: int, width: int) -> None:
    graph, chip = example_graph(batch, width), load("trainium1")
    better = BETTER[part](chip, factor)
    assert estimate(graph, better).latency_s <= estimate(graph, chip).latency_s * (1 + 1e-12)


@given(st.integers(1, 64), st.integers(1, 512))
def test_costs_add_over_two_networks_run_in_turn(batch: int, width: int) -> None:
    graph, chip = example_graph(batch, width), replace(load("trainium1"), sram_bytes=None)
    one = Roofline().estimate(graph, chip, "bf16")  # the fitted estimate also counts starting a network
    two = Roofline().estimate(twice(graph), chip, "bf16")
    assert two.latency_s == pytest.approx(2 * one.latency_s)
    assert two.energy_j == pytest.approx((one + one).energy_j)
    assert two.macs == (one + one).macs
    assert two.parameter_bytes == one.parameter_bytes  # the same weights


def twice(graph: Graph) -> Graph:
    """The graph, and behind it the same one on the same input, with edges of its own."""
    inputs = {spec.name for spec in graph.inputs}

    def again(spec: TensorSpec) -> TensorSpec:
        return spec if spec.name in inputs else replace(spec, name=f"{spec.name}_again")

    copies = tuple(
        replace(
            operator,
            name=f"{operator.name}_again",
            inputs=tuple(again(spec) for spec in operator.inputs),
            outputs=tuple(again(spec) for spec in operator.outputs),
        )
        for operator in graph.operators
    )
    outputs = (*graph.outputs, *(f"{name}_again" for name in graph.outputs))
    return Graph(graph.operators + copies, graph.inputs, outputs)


def test_energy_is_power_times_time() -> None:
    cost = estimate(example_graph(), plain_chip(), "fp32")
    assert cost.energy_j == pytest.approx(2.0 * cost.latency_s)


def test_memory_fit_and_its_sentence() -> None:
    chip = plain_chip()  # 1e6 bytes
    roomy, tight = Cost(parameter_bytes=4e5, peak_bytes=6e5), Cost(parameter_bytes=5e5, peak_bytes=6e5)
    assert fits(roomy, chip) == (
        True,
        "4e+05 bytes of parameters and 6e+05 of activations take 100.0% of the memory of plain",
    )
    assert fits(tight, chip)[0] is False
    assert "110.0%" in fits(tight, chip)[1]


def test_activations_are_compared_with_the_sram_of_a_board() -> None:
    """Of an Ethos-U55 they must lie there, a larger one has more memory for them; weights never do."""
    cost = Cost(parameter_bytes=2.0**23, peak_bytes=2.0**23)
    room, sentence = fits(cost, load("ethos-u55-128"))
    assert not room
    assert sentence.startswith("8,192 KiB of activations take 200.0% of the 4,096 KiB of SRAM that the sheet of ethos")
    assert "flash; how much yours has decides" in sentence
    assert fits(replace(cost, peak_bytes=2.0**22), load("ethos-u55-128"))[0]
    room, sentence = fits(cost, load("ethos-u85-128"))
    assert room
    assert "what is beyond the SRAM lie in its DRAM" in sentence


def test_rows_are_plain_enough_to_store() -> None:
    (row,) = Roofline().breakdown(one_matmul(), plain_chip(), "fp32")
    assert dataclasses.asdict(row)["cost"]["macs"] == 1_000_000


@pytest.mark.parametrize("estimator", [Roofline(), SlowRoofline(), Tiled()], ids=lambda member: type(member).__name__)
def test_scales_of_blocks_are_stored_and_read(estimator: Estimator) -> None:
    # 4 bits a value and a byte for every 32: 4.25 bits, docs/formats.md
    graph, chip = one_matmul(1, 1024, 1024), load("trainium3")
    cost = estimator.estimate(graph, chip, "mxfp4_e2m1")
    assert (cost.parameter_bytes, cost.peak_bytes) == (1024 * 1024 * 4.25 / 8, 2 * 1024 * 4.25 / 8)
    ((_, weights, activations),) = traffic(graph, replace(chip, sram_bytes=None), "mxfp4_e2m1")
    assert (weights, activations) == (1024 * 1024 * 4.25 / 8, 2 * 1024 * 4.25 / 8)
