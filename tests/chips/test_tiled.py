# SPDX-License-Identifier: Apache-2.0
"""The analytic estimator: conformance, tiles, fitted shares."""

from dataclasses import replace

import pytest

from sirdar.chips import Roofline, Tiled, layers, load
from sirdar.chips.calibration import Calibration
from sirdar.chips.reading import names
from sirdar.chips.tiled import ideal
from sirdar.testing.chips import EstimatorChecks, example_graph
from sirdar.workload.graph import Graph, Operator, TensorSpec


class TestTiled(EstimatorChecks):
    def estimator(self) -> Tiled:
        return Tiled()


class TestTiledOnAGpu(EstimatorChecks):
    def estimator(self) -> Tiled:
        return Tiled()

    def chip(self):  # noqa: ANN201
        return load("a100")


@pytest.mark.parametrize("name", ["t4", "graviton4"])
def test_a_chip_without_an_array_is_a_roofline(name: str) -> None:
    graph, chip = example_graph(), load(name)
    tiled, roofline = Tiled().estimate(graph, chip, "fp16"), Roofline().estimate(graph, chip, "fp16")
    assert tiled.latency_s == pytest.approx(roofline.latency_s)


@pytest.mark.parametrize(("rows", "depth", "columns", "groups"), [(49, 4608, 512, 1), (196, 9, 1, 512)])
def test_a_small_batch_is_no_slower_on_the_larger_gpu(rows: int, depth: int, columns: int, groups: int) -> None:
    """A late convolution and a depthwise one of one example: without low and narrow tiles an A100 came behind a T4."""
    x, y = TensorSpec((1, groups * depth // 9, rows), name="x"), TensorSpec((1, groups * columns, rows), name="y")
    weight = TensorSpec((groups * columns, depth // 9, 3, 3), name="w")
    macs = rows * depth * columns * groups
    graph = Graph((Operator("conv", "conv", (x,), (y,), (weight,), macs, 0, {"groups": groups}),), (x,), ("y",))
    large, small = (Tiled().estimate(graph, load(name), "fp16").latency_s for name in ("a100", "t4"))
    assert large <= small


def test_widths_beyond_a_multiple_of_the_array_cost_a_whole_tile() -> None:
    chip = load("trainium1")
    seconds = {width: ideal(example_graph(4096, width), chip, "bf16").array for width in (1024, 1025, 1152)}
    assert seconds[1025] == seconds[1152]
    assert seconds[1025] == pytest.approx((9 / 8) ** 2 * seconds[1024])  # nine tiles for eight, in depth and in columns


def test_fitted_shares_explain_the_whole() -> None:
    graph, chip = example_graph(512, 1024), load("trainium1")
    shares = Calibration(array=3.0, run_s=1e-3)
    whole = Tiled(shares).estimate(graph, chip, "bf16").latency_s
    assert whole == pytest.approx(shares.seconds(ideal(graph, chip, "bf16")))
    first, *others = Tiled(shares).breakdown(graph, chip, "bf16")
    assert first.overhead_s == pytest.approx(shares.start_s + 1e-3)  # the start of the network
    assert all(row.overhead_s == pytest.approx(shares.start_s) for row in others)


def test_the_sheet_s_own_shares_are_used() -> None:
    graph, chip = example_graph(), load("inferentia2")
    mine = Calibration.of({name: number.value for name, number in chip.fitted.items()})
    assert Tiled().estimate(graph, chip, "bf16") == Tiled(mine).estimate(graph, chip, "bf16")
    assert Tiled().estimate(graph, replace(chip, fitted={}), "bf16") != Tiled().estimate(graph, chip, "bf16")


def test_block_formats_run_where_a_chip_has_them_and_give_way_elsewhere() -> None:
    graph, new = example_graph(4096, 2048), load("trainium3")
    assert new.usable_dtype("mxfp8_e4m3") == "mxfp8_e4m3"
    assert load("h100").usable_dtype("mxfp8_e4m3") == "e4m3fn"
    assert load("trainium1").usable_dtype("mxint8") == "bf16"
    fast, slow = (Tiled().estimate(graph, new, dtype).latency_s for dtype in ("mxfp4_e2m1", "bf16"))
    assert fast < slow
    assert [row.dtype for row in layers(graph, new, "mxfp8_e5m2")] == ["mxfp8_e5m2"] * 3


@pytest.mark.parametrize("name", names())
def test_nothing_is_read_faster_than_memory_gives_it(name: str) -> None:
    # One example through wide layers, whose weights fit in no on-chip memory, and one wide sum: bound by memory alone.
    graph, chip = example_graph(1, 50_000), load(name)
    dtype = chip.usable_dtype("bf16")
    least = graph.parameter_bytes(dtype) / chip.bandwidth_bytes_per_s.value
    assert Tiled().estimate(graph, chip, "bf16").latency_s >= least
    x, y = (TensorSpec((1 << 30,), "fp32", edge) for edge in ("x", "y"))
    plus = Graph((Operator("add", "elementwise", (x,), (y,), flops=1 << 30),), (x,), ("y",))
    least = 2 * x.bytes(dtype) / chip.bandwidth_bytes_per_s.value
    (row,) = Tiled().breakdown(plus, chip, "bf16")
    assert row.cost.latency_s >= least
    assert row.cost.latency_s == pytest.approx(
        row.overhead_s + (row.compute_s + row.memory_s if chip.fitted else max(row.compute_s, row.memory_s))
    )
