# SPDX-License-Identifier: Apache-2.0
"""Energy by layer: sums by hand from the published table, and the claim about 16 bits."""

from dataclasses import replace
from datetime import date

import pytest

from sirdar.chips import Number, layers, load
from sirdar.chips.joules import table_for, tables
from sirdar.chips.tiled import Tiled
from sirdar.testing.chips import example_graph

GRAPH = example_graph(64, 512)


def test_a_layer_by_hand() -> None:
    # Horowitz, ISSCC 2014, 45 nm: 3.7 pJ for a product in fp32 and 0.9 for a sum; wires are three times as much here
    old = Number(45.0, "by hand", date(2026, 11, 24))
    row = layers(GRAPH, replace(load("trainium1"), node_nm=old), "fp32")[0]
    macs = GRAPH.operators[0].macs
    assert row.multiply.mid_j == pytest.approx(macs * 3.7e-12 * 3)
    assert row.accumulate.mid_j == pytest.approx(macs * 0.9e-12 * 3)
    assert row.sram.mid_j == pytest.approx(4 * (64 * 512 * 2 + 512 * 512) * 2.5e-12)
    parts = (row.multiply, row.accumulate, row.elementwise, row.sram, row.dram, row.static)
    assert row.total.mid_j == pytest.approx(sum(part.mid_j for part in parts))


def test_a_third_is_true_of_the_multiplier_and_false_of_the_layer() -> None:
    chip = load("trainium1")
    narrow, wide = (layers(GRAPH, chip, dtype)[0] for dtype in ("bf16", "fp32"))
    assert narrow.multiply.mid_j / wide.multiply.mid_j == pytest.approx(0.21 / 1.31)  # Jouppi et al. 2021, 7 nm
    both = [row.multiply.mid_j + row.accumulate.mid_j for row in (narrow, wide)]
    assert both[0] / both[1] == pytest.approx(0.59 / 1.69)  # summed in fp32: above a third
    assert narrow.sram.mid_j / wide.sram.mid_j == 0.5


def test_bounds_enclose_and_leakage_lasts_as_long_as_the_layer() -> None:
    chip = load("inferentia2")
    times = Tiled().breakdown(GRAPH, chip, "bf16")
    for row, time in zip(layers(GRAPH, chip, "bf16"), times, strict=True):
        assert row.total.low_j < row.total.mid_j < row.total.high_j
        assert row.static.mid_j == pytest.approx(0.3 * chip.power_w.value * time.cost.latency_s)


@pytest.mark.parametrize("dtype", ["int8", "e4m3fn", "fp16", "tf32", "fp32"])
def test_every_format_has_an_energy(dtype: str) -> None:
    assert sum(row.total.mid_j for row in layers(GRAPH, load("h100"), dtype)) > 0


def test_the_table_is_that_of_the_nearest_process() -> None:
    assert sorted(tables()) == [7.0, 45.0]
    assert table_for(load("h100")) is tables()[7.0]
