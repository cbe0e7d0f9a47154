# SPDX-License-Identifier: Apache-2.0
"""Amounts as people read them; every expected text is what a person would write."""

import math

import pytest

from sirdar.report.amounts import duration, number, share, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.inf, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (12.34, "12.3"),
        (0.5, "0.5"),
        (0.00123, "0.00123"),
        (2e-9, "2.0e-09"),
        (-3.14159, "-3.14"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (3e-9, "0.003 µs"),
        (2.5e-4, "250 µs"),
        (0.0021, "2.1 ms"),
        (1, "1 s"),
        (90, "90 s"),
        (42, "42 s"),
        (600, "10 min"),
        (7200, "2 h"),
        (864000, "10 d"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_share() -> None:
    assert share(0.9341) == "93.4\u00a0%"
    assert share(0.9341, 0) == "93\u00a0%"
    assert share(math.nan) == "–"


def test_size() -> None:
    assert [size(value) for value in (10, 2048, 3 * 2**20, 2**31)] == ["10 B", "2 KiB", "3 MiB", "2 GiB"]
