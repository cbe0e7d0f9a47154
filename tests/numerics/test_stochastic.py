# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding: its expectation is the value itself, and it depends on seed and index alone."""

from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
from numba.core import config

from sirdar.numerics import FORMATS, Format, engine, quantise
from sirdar.numerics.counter import child_seed, keys, random_array, random_bits

POINTS, DRAWS = 50, 2_000_000


def neighbours(x: float, row: Format) -> tuple[float, float]:
    """The values below and above, by the definition of a step."""
    exponent = max(np.frexp(abs(x))[1] - 1, 1 - row.bias) if row.floating else 0
    step = 2.0 ** (int(exponent) - row.mantissa) if row.floating else row.smallest
    return float(np.floor(x / step) * step), float(np.ceil(x / step) * step)


@pytest.mark.parametrize("row", FORMATS[1:], ids=lambda row: row.name)  # fp32 into fp32 has nothing to round
def test_the_expectation_is_the_value(row: Format, oracles: ModuleType) -> None:
    points = oracles.near(row, 4 * POINTS, seed=20)
    points = points[np.abs(points) < row.largest][:POINTS]  # subnormals and values below the smallest among them
    assert points.size == POINTS
    out, worst = np.empty(DRAWS, np.float32), 0.0
    for i, x in enumerate(points):
        low, high = neighbours(float(x), row)
        if low == high:
            continue
        x_again = np.full(DRAWS, x, np.float32)
        quantise(x_again, row, rounding="stochastic", seed=21, offset=i * DRAWS, out=out)
        ups = np.count_nonzero(out == np.float32(high))
        assert ups + np.count_nonzero(out == np.float32(low)) == DRAWS
        share = (float(x) - low) / (high - low)
        worst = max(worst, abs(ups - DRAWS * share) / np.sqrt(DRAWS * share * (1 - share)))
    assert worst < 4


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_values_of_the_format_never_move(row: Format, oracles: ModuleType) -> None:
    x = quantise(oracles.near(row, 100_000, seed=22), row)
    for seed in range(20):
        np.testing.assert_array_equal(quantise(x, row, rounding="stochastic", seed=seed), x)


def test_fp64_has_the_same_expectation() -> None:
    x = np.full(DRAWS, 1 + 2.0**-7 * 0.3 + 2.0**-35)  # bf16: three tenths of a step, and a tail that fp32 cannot hold
    ups = np.count_nonzero(quantise(x, "bf16", rounding="stochastic", seed=23) > 1)
    assert abs(ups - 0.3 * DRAWS) < 4 * np.sqrt(0.3 * 0.7 * DRAWS)
    tail = np.full(DRAWS, 1 + 2.0**-25)  # a quarter of a step of fp32
    up = np.count_nonzero(quantise(tail, "fp32", rounding="stochastic", seed=24) > 1)
    assert abs(up - 0.25 * DRAWS) < 4 * np.sqrt(0.25 * 0.75 * DRAWS)


@pytest.mark.parametrize("name", ["bf16", "e4m3fn"])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_and_splits_change_nothing(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(25).standard_normal(500_000, dtype=np.float32)
    whole = quantise(x, name, rounding="stochastic", seed=26)
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
    np.testing.assert_array_equal(quantise(x, name, rounding="stochastic", seed=26), whole)
    cuts = [0, 1, 17, 131_072, 300_001, 500_000]
    parts = [quantise(x[a:b], name, rounding="stochastic", seed=26, offset=a) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_slices_are_cut_where_the_keys_change() -> None:
    x = np.full(200_000, 1 + 2.0**-9, np.float32)
    start = (1 << 32) - 100_000
    whole = quantise(x, "bf16", rounding="stochastic", seed=27, offset=start)
    late = quantise(x[100_000:], "bf16", rounding="stochastic", seed=27, offset=1 << 32)
    np.testing.assert_array_equal(whole[100_000:], late)
    assert next(engine._slices(200_000, start))[1] <= 100_000


def test_seeds_differ_and_repeat() -> None:
    x = np.random.default_rng(28).standard_normal(10_000, dtype=np.float32)
    a, b, again = (quantise(x, "e4m3", rounding="stochastic", seed=seed) for seed in (1, 2, 1))
    np.testing.assert_array_equal(a, again)
    assert np.mean(a != b) > 0.1


def test_small_steps_add_up() -> None:
    # aws-neuron-sdk, rounding-modes.rst: fp16 1024 with 0.5 added 2048 times; the step of fp16 there is 1
    nearest, stochastic = np.array([1024.0], np.float32), np.full(256, 1024.0, np.float32)
    for step in range(2048):
        nearest = quantise(nearest + np.float32(0.5), "fp16")
        for_step = child_seed(29, step)
        stochastic = quantise(stochastic + np.float32(0.5), "fp16", rounding="stochastic", seed=for_step)
    assert nearest[0] == 1024
    assert abs(stochastic.mean() - 2048) < 5


def test_the_counter_in_numpy_is_that_in_python() -> None:
    start = (1 << 32) - 3
    assert random_array(30, start, 6).tolist() == [random_bits(30, start + i) for i in range(6)]
    assert random_array(30, 0, 0).size == 0


def test_the_counter_is_spread_evenly_and_its_neighbours_are_independent() -> None:
    n = 1 << 20
    a, b = random_array(31, 0, n), random_array(32, 0, n)
    for other in (a ^ np.roll(a, 1), a ^ b):  # the differences of neighbours, and of neighbouring seeds
        for bits in (a, other):
            ones = np.array([np.count_nonzero(bits >> np.uint32(k) & np.uint32(1)) for k in range(32)])
            assert np.abs(ones - n / 2).max() < 5 * np.sqrt(n) / 2
            counts = np.bincount(bits >> np.uint32(24), minlength=256)
            chi = np.sum((counts - n / 256) ** 2) / (n / 256)
            assert abs(chi - 255) < 5 * np.sqrt(2 * 255)  # chi-square of 255 degrees
    assert keys(31, 0) != keys(31, 1 << 32)
