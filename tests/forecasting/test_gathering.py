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


def test_the_last_month_that_is_nearly_over_is_made_up_for() -> None:
    panel = Panel.read(table(10.0, a=daily(dt.date(2023, 1, 1), 365 - 37)), freq="M")  # to 2023-11-24
    assert panel.history.tolist() == [11]
    assert panel.series(0)[1][-1] == 300


def open_on(weekdays: str, count: int = 364, *, but: tuple[int, ...] = ()) -> list[dt.date]:
    """Days of a year that begins on a Monday, of some weekdays (0 to 6)."""
    return [day for day in daily(dt.date(2024, 1, 1), count, but=but) if str(day.weekday()) in weekdays]


@pytest.mark.parametrize("zero", [False, True])
def test_every_series_has_opening_days_of_its_own(zero: bool) -> None:  # noqa: FBT001 - a parameter
    frame = table(10.0, a=open_on("0123456"), b=open_on("012345"), c=open_on("01234"), d=open_on("2345"))
    if zero:  # as tables of every step have them
        frame = frame.with_columns(y=pl.when(pl.int_range(pl.len()) == 0).then(0.0).otherwise(pl.col("y")))
    panel = Panel.read(frame, freq="W")
    for row, week in enumerate((70, 60, 50, 40)):
        assert panel.series(row)[1].tolist()[1:] == [week] * 51


def test_one_odd_opening_day_opens_no_other() -> None:
    frame = table(10.0, a=[*open_on("01234"), dt.date(2024, 12, 14), dt.date(2024, 12, 15)]).sort("ds")
    frame = frame.with_columns(y=pl.when(pl.int_range(pl.len()) == 100).then(0.0).otherwise(pl.col("y")))
    sums = Panel.read(frame, freq="W").series(0)[1].tolist()[1:]  # whether the first was whole is not told
    assert sorted(sums) == [40, *[50] * 49, 70]


def test_rows_without_a_value_open_no_day() -> None:
    frame = table(10.0, a=open_on("0123456")).with_columns(
        y=pl.when(pl.col("ds").dt.weekday() < 6).then(pl.col("y")).otherwise(None)
    )
    assert Panel.read(frame, freq="W").series(0)[1].tolist() == [50] * 52


@pytest.mark.parametrize("gaps", ["zero", "missing"])
def test_the_ends_of_tables_that_do_not_tell_are_summed_as_they_are(gaps: str) -> None:
    panel = Panel.read(table(10.0, a=open_on("012345", 20)), freq="W", gaps=gaps)
    assert panel.series(0)[1].tolist() == [60, 60, 60]


def test_opening_hours_are_each_series_own() -> None:
    def hourly(first: int, last: int) -> list[dt.datetime]:
        days = daily(dt.date(2024, 1, 1), 60)
        return [dt.datetime.combine(day, dt.time(hour)) for day in days for hour in range(first, last)]

    frame = pl.concat(
        [
            pl.DataFrame(
                {
                    "unique_id": [name] * len(times),
                    "ds": times,
                    "y": [float(place > 0) * 10 for place in range(len(times))],
                }
            )
            for name, times in {"a": hourly(8, 20), "b": hourly(9, 18)}.items()
        ]
    )
    panel = Panel.read(frame, freq="D")
    assert panel.series(0)[1].tolist()[1:] == [120] * 59
    assert panel.series(1)[1].tolist()[1:] == [90] * 59


def test_a_past_covariate_that_is_seldom_given_is_summed_as_it_is() -> None:
    frame = table(10.0, a=open_on("0123456", 56))
    frame = frame.with_columns(ads=pl.when(pl.col("ds").dt.weekday() < 4).then(5.0).otherwise(None))
    assert Panel.read(frame, freq="W", past=["ads"]).past["ads"].tolist() == [15] * 8


def test_one_row_of_nothing_makes_no_table_of_every_step() -> None:
    """Sales on six days of seven, one of them corrected to nothing: on the seventh nothing was sold."""
    draw = np.random.default_rng(0)
    days = [day for day in open_on("0123456") if draw.random() < 0.85]
    frame = table(10.0, a=days).with_columns(y=pl.when(pl.int_range(pl.len()) == 9).then(0.0).otherwise(pl.col("y")))
    assert np.nansum(Panel.read(frame, freq="W").target) == pytest.approx(10 * (len(days) - 1), abs=60)  # but the ends
    often = frame.with_columns(y=pl.when(pl.int_range(pl.len()) % 20 == 9).then(0.0).otherwise(pl.col("y")))
    assert any("scaled up" in note for note in Panel.read(often, freq="W").notes)
