# SPDX-License-Identifier: Apache-2.0
"""Conformance suite for a number format of one's own.

Derive a class whose name starts with "Test", return the row, and let pytest find it:

    class TestMyFormat(FormatChecks):
        def format(self) -> Format:
            return cfp8("e4m3", 9)
"""

import math
from abc import ABC, abstractmethod

import numpy as np

from sirdar.numerics.formats import Format
from sirdar.numerics.reference import quantise_values
from sirdar.numerics.rounding import decode, encode, quantise


class FormatChecks(ABC):
    """What must hold for any format of at most 16 bits."""

    @abstractmethod
    def format(self) -> Format:
        """The row to test."""

    def values(self) -> np.ndarray:
        """Every value of the format, from the stored bits."""
        row = self.format()
        codes = np.arange(1 << row.bits, dtype=np.uint16).astype(np.uint8 if row.bits <= 8 else np.uint16)
        return decode(codes, row)

    def points(self) -> np.ndarray:
        """Finite values, the points half way between them, and random ones."""
        values = self.values()
        values = np.unique(values[np.isfinite(values)])
        rng = np.random.default_rng(0)
        between = values[:-1] + rng.random(values.size - 1, np.float32) * np.diff(values)
        return np.concatenate([values, (values[1:] + values[:-1]) / 2, between]).astype(np.float32)

    def test_the_row_agrees_with_the_stored_bits(self) -> None:
        """Largest, lowest and smallest value, infinities and NaN are those that decoding finds."""
        row, values = self.format(), self.values()
        finite = values[np.isfinite(values)]
        assert row.significant_bits <= row.bits
        assert (float(finite.max()), float(finite.min())) == (row.largest, row.lowest)
        assert float(finite[finite > 0].min()) == row.smallest
        assert bool(np.isinf(values).any()) == row.infinity
        assert bool(np.isnan(values).any()) == row.nan
        assert row.overflow == "saturate" or getattr(row, row.overflow)

    def test_values_are_stored_and_read_back(self) -> None:
        """Value to bits to value, signs of zero included."""
        values = self.values()
        again = decode(encode(values, self.format(), overflow="ieee"), self.format())
        np.testing.assert_array_equal(again, values)
        np.testing.assert_array_equal(np.signbit(again), np.signbit(values))

    def test_values_do_not_move(self) -> None:
        """Neither by nearest nor by stochastic rounding."""
        values = self.values()
        for rounding in ("nearest", "stochastic"):
            rounded = quantise(values, self.format(), rounding=rounding, overflow="ieee", seed=1)
            np.testing.assert_array_equal(rounded, values)

    def test_rounding_is_that_of_the_reference(self) -> None:
        """Bit for bit, in both roundings and both rules of overflow."""
        row = self.format()
        points = self.points()
        x = np.concatenate([points[:: max(1, points.size // 2000)], points[-3:] * 4, points[:3] * 4]).astype(np.float32)
        for overflow in ("saturate", "ieee"):
            for seed in (None, 2):
                rounding = "nearest" if seed is None else "stochastic"
                actual = quantise(x, row, rounding=rounding, overflow=overflow, seed=seed)
                expected = quantise_values([float(v) for v in x], row, overflow=overflow, seed=seed)
                np.testing.assert_array_equal(actual, np.array(expected, np.float32))

    def test_the_expectation_of_stochastic_rounding_is_the_value(self) -> None:
        """Within five deviations of the mean of 100,000 draws."""
        row = self.format()
        for x in (0.3 * row.smallest, 1.3 * row.smallest_normal, -0.4 * row.largest):
            draws = quantise(np.full(100_000, x), row, rounding="stochastic", seed=3)
            assert abs(draws.mean() - x) <= 5 * draws.std() / math.sqrt(draws.size) + 1e-12 * abs(x)
