# SPDX-License-Identifier: Apache-2.0
"""Kept memory is never seen by two at once, and is bounded."""

import gc

import numpy as np
import pytest
import torch

from sirdar.numerics import memory, quantise

SHAPE = (memory.SMALLEST_BYTES // 4,)


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    gc.collect()
    memory.release()


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    array = memory.empty(SHAPE)
    place, part = array.ctypes.data, array[5:10]
    del array
    other = memory.empty(SHAPE)
    assert other.ctypes.data != place  # a view is still there
    del part
    assert memory.empty(SHAPE).ctypes.data == place


def test_tensors_hold_their_memory() -> None:
    tensor = torch.from_numpy(memory.empty(SHAPE))
    row = tensor.fill_(1.0)[3:]
    del tensor
    memory.empty(SHAPE).fill(2.0)
    assert bool((row == 1).all())


def test_results_of_two_calls_are_apart() -> None:
    x = np.full(SHAPE, 1.01, np.float32)
    first, second = quantise(x, "bf16"), quantise(-x, "bf16")
    assert float(first[0]) == -float(second[0]) > 0
    assert first.flags.writeable


def test_small_and_huge_results_are_numpy_s_own() -> None:
    assert memory.empty((4, 3)).base is None
    assert memory.empty((4, 3)).shape == (4, 3)
    assert not memory._free


def test_what_is_kept_is_bounded() -> None:
    held = [memory.empty((memory.KEPT_BYTES // 8,)) for _ in range(3)]
    del held
    gc.collect()
    assert sum(kept.nbytes for kept in memory._free) <= memory.KEPT_BYTES
    memory.release()
    assert not memory._free
