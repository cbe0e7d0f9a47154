# SPDX-License-Identifier: Apache-2.0
"""Cycles of products on arrays: published staircases and rules, and what must hold for any array."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.chips import load
from sirdar.chips.array import Array, Product, products, staircase
from sirdar.workload.graph import Operator, TensorSpec

SIZES = st.integers(1, 300)


@pytest.mark.parametrize(("columns", "cycles"), [(8, 10_061), (32, 10_061), (33, 20_123), (64, 20_123), (65, 30_185)])
def test_staircase_of_scale_sim(columns: int, cycles: int) -> None:
    # SCALE-Sim 3.0.0, weight-stationary 32 x 32: 3x3 convolution of 32 channels at 32 x 32 positions, total cycles
    array = Array(32, 32, 1e9, hidden_load=False)
    assert array.cycles(Product(32 * 32, 9 * 32, columns)) == cycles


@pytest.mark.parametrize(("rows", "dtype", "cycles"), [(512, "bf16", 512), (1, "bf16", 64), (512, "fp32", 2048)])
def test_rule_of_the_tensor_engine(rows: int, dtype: str, cycles: int) -> None:
    # AWS Neuron documentation, trainium_inferentia2_arch.rst: max(N, 64) cycles for 128 x 128 x N, fp32 four times
    blocks = load("trainium1").blocks
    assert blocks is not None
    array = blocks.array()
    assert array is not None
    assert replace(array, count=1).cycles(Product(rows, 128, 128), dtype) == cycles


def test_waves_of_a_gpu() -> None:
    # 12 x 9 tiles of 128 x 128 fill 108 multiprocessors once; one tile more makes a second wave.
    array = Array(128, 128, 1e9, count=108, stationary="output", macs_per_cycle=1024.0)
    full = array.cycles(Product(12 * 128, 512, 9 * 128))
    assert full == 128 * 128 * 512 / 1024
    assert array.cycles(Product(12 * 128, 512, 9 * 128 + 1)) == 2 * full


def test_a_gpu_at_a_small_batch() -> None:
    """One row has a tile of 16 rows; its 32 tiles of columns share out the depth among 108 multiprocessors, 3 each."""
    array = Array(128, 128, 1e9, count=108, stationary="output", macs_per_cycle=1024.0)
    assert array.cycles(Product(1, 4096, 4096)) == 16 * 128 * 1366 / 1024
    assert array.cycles(Product(17, 4096, 4096)) == 32 * 128 * 1366 / 1024
    assert array.cycles(Product(1, 100, 128)) == 16 * 128 * 100 / 1024  # no piece is smaller than a tile


def test_a_gpu_has_narrow_tiles_for_few_columns() -> None:
    """A channel of its own, as in a depthwise convolution, has 8 columns and not 128; 33 have 64."""
    array = Array(128, 128, 1e9, count=108, stationary="output", macs_per_cycle=1024.0)
    assert array.cycles(Product(128, 9, 1, 108)) == 128 * 8 * 9 / 1024
    assert array.cycles(Product(128, 9, 33, 108)) == 128 * 64 * 9 / 1024


KINDS = st.sampled_from(["weight", "output"])


@given(SIZES, SIZES, SIZES, st.integers(1, 5), st.integers(0, 1), KINDS, st.integers(1, 9))
def test_no_array_beats_its_peak_and_more_work_takes_no_less(
    rows: int,
    depth: int,
    columns: int,
    batch: int,
    hidden: int,
    stationary: str,
    count: int,
) -> None:
    array = Array(32, 16, 1e9, count=count, stationary=stationary, hidden_load=hidden == 1, stream=64, least_stream=8)  # type: ignore[arg-type]
    work = Product(rows, depth, columns, batch)
    cycles = array.cycles(work)
    assert cycles * 32 * 16 * count >= work.macs
    for bigger in (replace(work, rows=rows + 1), replace(work, depth=depth + 1), replace(work, columns=columns + 1)):
        assert array.cycles(bigger) >= cycles * (1 - 1e-12)


def test_a_row_more_than_a_step_does_not_cost_less() -> None:
    """Two steps of 512 and 1 row, or 64, on two arrays: one of them has the long one."""
    array = load("trainium2").blocks.array()
    assert array.cycles(Product(513, array.rows, array.columns)) >= array.cycles(
        Product(512, array.rows, array.columns)
    )


def test_a_multiple_of_the_parallelism_costs_what_anything_below_it_does() -> None:
    steps = staircase(Array(32, 32, 1e9), Product(100, 64, 1), range(1, 97))
    assert [len({steps[c] for c in range(low, low + 32)}) for low in (1, 33, 65)] == [1, 1, 1]
    assert steps[33] == 2 * steps[32]


def spec(*shape: int, name: str) -> TensorSpec:
    return TensorSpec(shape, "fp32", name)


def test_products_of_operators_have_their_multiply_accumulates() -> None:
    x, w, y = spec(2, 8, 6, 6, name="x"), spec(12, 4, 3, 3, name="w"), spec(2, 12, 6, 6, name="y")
    conv = Operator("c", "conv", (x,), (y,), (w,), macs=2 * 12 * 36 * 36, attributes={"groups": 2})
    assert list(products(conv)) == [Product(72, 36, 6, 2)]
    back = Operator("t", "conv", (x,), (spec(2, 4, 12, 12, name="z"),), (spec(8, 4, 2, 2, name="v"),), macs=9216,
                    attributes={"groups": 1, "transposed": True})  # fmt: skip
    assert list(products(back)) == [Product(72, 8, 16, 1)]
    q = spec(2, 4, 10, 16, name="q")
    attention = Operator("a", "attention", (q,), (spec(2, 4, 10, 16, name="o"),), macs=2 * 4 * 10 * 10 * 32)
    assert list(products(attention)) == [Product(10, 16, 10, 8), Product(10, 10, 16, 8)]
    mask, roles = spec(10, 10, name="m"), {"query": (2, 4, 10, 16), "key": (2, 4, 10, 16), "value": (2, 4, 10, 16)}
    masked = replace(attention, inputs=(q, mask), attributes=roles)  # the mask stands where another key would
    assert list(products(masked)) == list(products(attention))
    plain = Operator("m", "matmul", (spec(3, 5, name="a"),), (spec(3, 7, name="b"),), macs=105)
    assert list(products(plain)) == [Product(3, 5, 7)]
    for operator in (conv, back, attention, masked, plain):
        assert math.fsum(work.macs for work in products(operator)) == operator.macs
    assert not list(products(Operator("e", "elementwise", (x,), (spec(2, 8, 6, 6, name="r"),), flops=1)))
