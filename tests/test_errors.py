# SPDX-License-Identifier: Apache-2.0
"""Checks that every layer shares."""

import numpy as np
import pytest

from sirdar.errors import ArgumentError, require_positive_integer


def test_a_count_may_be_numpys_and_is_plain_then() -> None:
    found = require_positive_integer(np.int64(13), "horizon")
    assert found == 13
    assert type(found) is int


@pytest.mark.parametrize("value", [0, -3, 2.0, True, "3", None, np.int64(0)])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(ArgumentError, match="horizon must be a positive integer, got "):
        require_positive_integer(value, "horizon")
