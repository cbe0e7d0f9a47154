# SPDX-License-Identifier: Apache-2.0
"""Gaps against what was taken out: expected values follow from how the series were made."""

import numpy as np
import pytest

from sirdar.forecasting import gaps
from sirdar.forecasting.gaps import Whole, filled, skipped
from sirdar.testing.forecasters import panel_of

NAN = np.nan
MONTH = np.arange(72)
SEASON = np.tile([4.0, 2, 0, -3, -5, -2, 0, 1, 3, 2, -1, -1], 6)


def values(whole: Whole, series: int) -> np.ndarray:
    return whole.frame.filter(whole.frame["unique_id"] == series)["y"].to_numpy()


def test_a_gap_is_a_line_between_the_means_of_two_values_on_each_side() -> None:
    row = [9.0, 4, 6, NAN, NAN, 1, 3, 8]
    whole = filled(panel_of([row, [5.0] * 8]), 1, 10)
    np.testing.assert_allclose(values(whole, 0), [9, 4, 6, 4, 3, 1, 3, 8])
    np.testing.assert_allclose(values(whole, 1), 5)
    np.testing.assert_allclose(whole.share, [6 / 8, 1])
    assert whole.after.tolist() == [0, 0]


def test_what_stands_before_the_first_value_and_after_the_last_is_no_gap() -> None:
    whole = filled(panel_of([[NAN, NAN, 1.0, NAN, 3.0, NAN, NAN]]), 1, 10)
    np.testing.assert_allclose(values(whole, 0), [1, 2, 3])
    assert whole.after.tolist() == [2]
    assert whole.share.tolist() == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("gap", "season", "most", "after"),
    [(5, 1, 10, 5), (15, 1, 10, 10), (15, 4, 10, 7), (12, 4, 12, 12), (13, 4, 12, 9)],
)
def test_of_a_long_gap_at_the_end_whole_seasons_are_left_out(gap: int, season: int, most: int, after: int) -> None:
    whole = filled(panel_of([[1.0] * 8 + [NAN] * gap]), season, most)
    assert whole.after.tolist() == [after]


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_season_goes_on_within_a_gap(slope: float) -> None:
    """A year that is missing, and a third of all months, of a season about a trend."""
    row = 30 + slope * MONTH + SEASON
    holes = np.random.default_rng(0).random(72) < 0.3
    holes[[0, -1]] = False
    block = (MONTH >= 30) & (MONTH < 42)
    whole = filled(panel_of([np.where(block, NAN, row), np.where(holes, NAN, row)], unit="M"), 12, 12)
    np.testing.assert_allclose(values(whole, 0), row, atol=0.1 + 4 * slope)
    np.testing.assert_allclose(values(whole, 1), row, atol=0.1 + 4 * slope)


def test_a_block_of_series_is_filled_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    rows = [np.where(rng.random(length) < 0.3, NAN, rng.poisson(9, length)) for length in (50, 8, 31, 30, 8, 90)]
    alone = [values(filled(panel_of([row], unit="D"), 7, 14), 0) for row in rows]
    rows = [np.append(np.full(number, NAN), row) for number, row in enumerate(rows)]  # not yet there
    for cells in (1, 70, 10_000):
        monkeypatch.setattr(gaps, "_CELLS", cells)
        together = filled(panel_of(rows, unit="D"), 7, 14)
        for number, expected in enumerate(alone):
            np.testing.assert_allclose(values(together, number), expected, rtol=1e-6)


def test_nothing_is_filled_beyond_what_was_seen() -> None:
    rng = np.random.default_rng(1)
    row = rng.poisson(0.4, 60).astype(float)
    row[rng.random(60) < 0.4] = NAN
    found = values(filled(panel_of([row]), 7, 14), 0)
    assert found.min() >= 0
    assert found.max() <= np.nanmax(row)


def test_skipped_steps_are_as_if_they_had_not_been() -> None:
    whole = skipped(panel_of([[NAN, 1.0, NAN, 2.0, NAN], [7.0, 8.0]]))
    assert whole.frame.rows() == [(0, 0, 1.0), (0, 1, 2.0), (1, 0, 7.0), (1, 1, 8.0)]
    assert whole.after.tolist() == [0, 0]
