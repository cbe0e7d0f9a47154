# SPDX-License-Identifier: Apache-2.0
"""Sums of whole periods; what a period lacks is told by the calendar, and every expected number is counted by hand."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from sirdar.forecasting.panel import Panel


def daily(first: dt.date, count: int, *, but: tuple[int, ...] = ()) -> list[dt.date]:
    """Days from a first one on, without some."""
    return [first + dt.timedelta(days=place) for place in range(count) if place not in but]


def table(value: float = 1.0, **series: list[dt.date]) -> pl.DataFrame:
    """A row with one value for each date."""
    return pl.concat(
        [
            pl.DataFrame({"unique_id": [name] * len(days), "ds": days, "y": [value] * len(days)})
            for name, days in series.items()
        ]
    )


JUNE = 152  # days from 2020-01-01 to 2020-06-01


def test_a_gap_within_a_series_is_no_low_demand() -> None:
    panel = Panel.read(table(a=daily(dt.date(2020, 1, 1), 366, but=tuple(range(JUNE + 4, JUNE + 28)))), freq="M")
    sums = panel.series(0)[1]
    assert np.isnan(sums[5])
    assert np.delete(sums, 5).tolist() == [31, 29, 31, 30, 31, 31, 31, 30, 31, 30, 31]
    assert "1 periods of series that are observed to less count as not observed" in panel.notes


def test_a_series_that_begins_or_ends_within_a_period_has_not_observed_it() -> None:
    first = dt.date(2020, 1, 1)
    panel = Panel.read(
        table(a=daily(first, 366), b=daily(first, JUNE + 3), c=daily(first + dt.timedelta(178), 188)), freq="M"
    )
    np.testing.assert_array_equal(panel.series(1)[1], [31, 29, 31, 30, 31, np.nan])
    np.testing.assert_array_equal(panel.series(2)[1], [np.nan, 31, 31, 30, 31, 30, 31])


def test_a_day_that_is_missing_is_made_up_for_and_closed_days_are_not() -> None:
    monday = dt.date(2024, 1, 1)
    weeks = [day for day in daily(monday, 70) if day.weekday() < 6]  # closed on Sundays
    panel = Panel.read(table(6.0, a=weeks, b=[day for day in weeks if day != dt.date(2024, 1, 18)]), freq="W")
    assert panel.series(0)[1].tolist() == [36] * 10
    assert panel.series(1)[1].tolist() == [36] * 10  # 30 in five of six days
    assert "1 periods of series that are observed to 80 % or more were scaled up to whole ones" in panel.notes


def test_whole_units_stay_whole() -> None:
    days = daily(dt.date(2024, 1, 1), 56, but=(8,))
    assert Panel.read(table(a=days), freq="W").series(0)[1].tolist() == [7] * 8
    pieces = Panel.read(table(2.0, a=days), freq="W").series(0)[1]
    assert pieces[1] == 14
    kilos = Panel.read(table(0.25, a=days), freq="W").series(0)[1]
    assert kilos[1] == pytest.approx(1.75)


def test_tables_of_sales_only_are_summed_as_they_are() -> None:
    """Two sales a week in every week: with no row for the other days, nobody knows whether these were observed."""
    days = [day for day in daily(dt.date(2024, 1, 1), 70) if day.weekday() in {1, 4} or day.day == 8]
    for gaps in ("missing", "zero"):
        panel = Panel.read(table(a=days), freq="W", gaps=gaps)
        assert np.nansum(panel.target) >= len(days)


def test_past_covariates_are_made_up_for_by_their_own_rows() -> None:
    days = daily(dt.date(2024, 1, 1), 56)
    frame = table(a=days).with_columns(views=pl.Series([None if place == 8 else 3.0 for place in range(56)]))
    panel = Panel.read(frame, freq="W", past=["views"])
    assert panel.past["views"].tolist() == [21] * 8
    assert panel.target.tolist() == [7] * 8


def test_the_last_month_that_is_nearly_over_is_made_up_for() -> None:
    panel = Panel.read(table(10.0, a=daily(dt.date(2023, 1, 1), 365 - 37)), freq="M")  # to 2023-11-24
    assert panel.history.tolist() == [11]
    assert panel.series(0)[1][-1] == 300
