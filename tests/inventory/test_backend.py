# SPDX-License-Identifier: Apache-2.0
"""Rounding up, in both kinds of number and both kinds of array."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sirdar.inventory.backend import precision, round_up
from sirdar.inventory.terms import OrderRules, permitted


@given(whole=st.integers(0, 2**24), wide=st.booleans())
def test_whole_numbers_stay_what_they_are(whole: int, *, wide: bool) -> None:
    dtype = np.float64 if wide else np.float32
    units = np.array([whole], dtype=dtype)
    for value in (units, torch.from_numpy(units)):
        assert round_up(value, precision(value)).tolist() == [whole]
    assert round_up(units.astype(np.float64) + 0.3, precision(units)).tolist() == [whole + 1]


@given(whole=st.integers(2**24, 2**53))
def test_so_do_large_ones(whole: int) -> None:
    for dtype in (np.float32, np.float64):
        units = np.array([whole], dtype=dtype)
        assert round_up(units, precision(units)).tolist() == units.tolist()


@given(count=st.integers(1, 10**5), pack=st.sampled_from([0.01, 0.1, 0.3, 0.7, 2.5]), wide=st.booleans())
def test_rounding_error_buys_no_pack_more(count: int, pack: float, *, wide: bool) -> None:
    units = np.array([count * pack], dtype=np.float64 if wide else np.float32)
    for quantity in (units, torch.from_numpy(units)):
        assert round(float(permitted(quantity, OrderRules(case_pack=pack))[0]) / pack) == count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_is_that_of_the_numbers(dtype: type) -> None:
    units = np.ones(1, dtype=dtype)
    assert precision(units) == precision(torch.from_numpy(units)) == np.finfo(dtype).eps
    assert precision(np.ones(1, dtype=np.int64)) == precision(torch.ones(1, dtype=torch.int64)) == np.finfo(float).eps
