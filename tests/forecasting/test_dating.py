# SPDX-License-Identifier: Apache-2.0
"""Calendars told from dates, and finer rows gathered into periods; sums and dates were worked out by hand."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from sirdar.errors import DataError
from sirdar.forecasting.holidays import holiday_features
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.reading import read_panel
from sirdar.predictive import Frequency

MONDAY = dt.date(2024, 1, 1)


def days(count: int, step: int = 1, first: dt.date = MONDAY) -> list[dt.date]:
    return [first + dt.timedelta(days=step * place) for place in range(count)]


def weekdays(count: int) -> list[dt.date]:
    return [day for day in days(2 * count) if day.weekday() < 5][:count]


def months(count: int, step: int = 1, *, end: bool = False) -> list[dt.date]:
    first = [dt.date(2020 + place * step // 12, place * step % 12 + 1, 1) for place in range(count + 1)]
    return [day - dt.timedelta(days=1) for day in first[1:]] if end else first[:count]


def hours(count: int, step: int = 1) -> list[dt.datetime]:
    return [dt.datetime(2024, 1, 1) + dt.timedelta(hours=step * place) for place in range(count)]


def table(**series: list) -> pl.DataFrame:
    rows = [(key, time, 1.0) for key, times in series.items() for time in times]
    frame = pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row")
    return frame if frame["ds"].dtype == pl.Date else frame.with_columns(pl.col("ds").cast(pl.Datetime("us")))


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("h", hours(50)),
        ("D", days(20)),
        ("B", weekdays(20)),
        ("W", days(10, 7)),
        ("W", days(10, 7, dt.date(2024, 1, 7))),
        ("M", months(14)),
        ("M", months(14, end=True)),
        ("Q", months(6, 3)),
        ("Y", months(4, 12)),
        ("Y", [dt.date(year, 12, 31) for year in range(2015, 2024)]),
    ],
)
def test_the_frequency_is_told_from_dates_with_gaps(unit: str, times: list) -> None:
    gappy = [time for place, time in enumerate(times) if place != 2]
    panel = Panel.read(table(a=times, b=gappy))
    assert panel.frequency.unit == unit
    for row, kept in enumerate((times, gappy)):
        labels, demand = panel.series(row)
        seen = labels[np.isfinite(demand)]
        np.testing.assert_array_equal(seen, np.array(kept, dtype="datetime64[s]"))
        assert len(labels) == len(times)


@pytest.mark.parametrize(
    ("series", "sentence"),
    [
        ({"a": days(20), "b": days(6, 7)}, "'a' has daily rows, but series 'b' steps from 2024-01-15 to 2024-01-22"),
        ({"a": days(120), "b": months(5)}, "mixed frequencies: series 'a' has daily rows, but series 'b'"),
        ({"a": [*days(10), *days(5, 7, dt.date(2024, 2, 1))]}, "has daily rows, but series 'a' steps from 2024-02-15"),
        ({"a": hours(50), "b": hours(5, 24)}, "'a' has hourly rows, but series 'b' steps from"),
        ({"a": months(14), "b": months(5, 3)}, "'a' has monthly rows, but series 'b' steps from"),
        (
            {"a": days(9, 7), "b": days(9, 7, dt.date(2024, 1, 7))},
            r"weekly, but do not all stand .*same weekday \(2024-01-01 in series 'a' and 2024-01-07 in series 'b'\)",
        ),
        ({"a": [*days(5, 7), dt.date(2024, 2, 6)]}, "most rows are weekly, but series 'a' steps from 2024-01-29 to"),
        ({"a": days(9, 7), "b": months(9)}, "most rows are|mixed frequencies"),
        ({"a": months(5), "b": months(5, end=True)}, "monthly, but do not all stand on the first or the last day"),
        ({"a": [day.replace(day=15) for day in months(6)]}, "monthly, but do not all stand .* or give freq M"),
        (
            {"a": months(5, 3), "b": months(16, 3)[1:], "c": [dt.date(2020, 2, 1), dt.date(2020, 5, 1)]},
            "quarterly, but",
        ),
        ({"a": [time + dt.timedelta(hours=12) for time in hours(6, 24)]}, "daily, but do not all stand at midnight"),
        (
            {"a": [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 7)]},
            "2024-01-01 00:07:00, and the finest steps are 5 minutes; give freq 5min, or a coarser one",
        ),
        (
            {"a": [*hours(6), dt.datetime(2024, 1, 1, 6, 5)]},
            "most rows are hourly, but series 'a' steps from 2024-01-01 05:00:00 to 2024-01-01 06:05:00",
        ),
        (
            {"a": hours(9), "b": [dt.datetime(2024, 1, 1) + dt.timedelta(minutes=15 * place) for place in range(9)]},
            "mixed frequencies: series 'a' steps by 60 minutes or more, others by 15; give one frequency per table",
        ),
        ({"a": [time + dt.timedelta(minutes=30) for time in hours(3)]}, "hourly, but do not all stand on the hour"),
        (
            {"a": hours(3), "b": [time + dt.timedelta(minutes=30) for time in hours(3)]},
            r"hourly, but do not all stand on the hour \(2024-01-01 in series 'a' and 2024-01-01 00:30:00 in",
        ),
        ({"a": days(14, 28)}, "the rows step by four weeks, which is none of .* give rows by week or by day"),
        ({"a": days(2, 10)}, "no series has rows in two neighbouring periods of the daily calendar"),
        ({"a": days(1), "b": days(1)}, "no series has two rows, so the frequency cannot be inferred; give freq"),
    ],
)
def test_two_rhythms_in_one_table_are_refused(series: dict[str, list], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Panel.read(table(**series))


@pytest.mark.parametrize(("own", "times"), [("W", days(9, 7)), ("M", months(9)), ("D", days(9))])
def test_a_finer_frequency_than_the_table_has_is_refused(own: str, times: list) -> None:
    with pytest.raises(DataError, match=f"the dates step by {own}, coarser than freq h; give freq {own} or coarser"):
        Panel.read(table(a=times), freq="h")


def test_business_days() -> None:
    assert Panel.read(table(a=weekdays(15))).frequency.unit == "D"  # three weeks without a weekend may be chance
    assert Panel.read(table(a=weekdays(40)), freq="D").history.tolist() == [54]
    panel = Panel.read(table(a=weekdays(40)))
    assert panel.history.tolist() == [40]
    ahead = panel.frequency.labels(panel.end[:1] + np.arange(2)).astype("datetime64[D]")
    assert ahead.tolist() == [dt.date(2024, 2, 26), dt.date(2024, 2, 27)]  # after Friday the 23rd
    assert Panel.read(table(a=weekdays(40)), freq="W").target.tolist() == [5] * 8
    whole = Panel.read(table(a=days(22)), freq="B")  # ends on a Monday
    assert whole.target.tolist() == [1, 1, 1, 1, 3] * 3 + [1]  # Friday's period holds the weekend


@pytest.mark.parametrize(
    ("first", "phase", "label", "note"),
    [
        (1, 6, "2024-11-25", "begin on the Monday"),
        (4, 0, "2024-11-28", "end on the Thursday"),
        (6, 0, "2024-11-30", "end on the Saturday"),
        (7, 0, "2024-12-01", "end on the Sunday"),
    ],
)
def test_weeks_that_are_dated_by_a_monday_begin_on_it(first: int, phase: int, label: str, note: str) -> None:
    """Thanksgiving Day of 2024 was Thursday the 28th of November."""
    dates = days(60, 7, dt.date(2024, 1, first))
    panel = Panel.read(table(a=dates), freq="W")
    weeks = panel.frequency
    assert weeks.phase == phase
    labels = weeks.labels(panel.start[0] + np.arange(61))
    np.testing.assert_array_equal(labels, np.array([*dates, dates[-1] + dt.timedelta(7)], dtype="datetime64[s]"))
    found = holiday_features(weeks, panel.start[0] + np.arange(60), "US", ["Thanksgiving Day"])[:, 0]
    assert weeks.written(labels[:-1][found == 1]) == [label]
    told = {"freq": None, "gaps": "missing", "roles": {}, "holidays": "US"}
    notes = read_panel(table(a=dates), ("unique_id", "ds", "y"), **told)["notes"]
    assert notes == (f"weeks are taken to {note} that dates them, to place the holidays",)
    daily = table(a=days(15, first=dt.date(2024, 1, first)))  # of days, the last one's weekday ends the weeks
    assert Panel.read(daily, freq="W").frequency == Frequency("W", offset=weeks.offset)
    assert not any("weeks" in note for note in read_panel(daily, ("unique_id", "ds", "y"), **told)["notes"])


def test_a_shop_that_closes_has_whole_days_and_weeks() -> None:
    """Sixty business days to a Friday: neither its nights nor its weekends are gaps at the ends."""
    afternoons = [dt.datetime.combine(day, dt.time(13)) for day in weekdays(60)]
    opened = [dt.datetime.combine(day, dt.time(hour)) for day in weekdays(60) for hour in range(9, 18)]
    for times in (afternoons, opened):
        for freq, steps in (("D", 82), ("B", 60), ("W", 12)):
            panel = Panel.read(table(a=times), freq=freq, gaps="zero")
            assert panel.history.tolist() == [steps]
            assert np.nansum(panel.target) == len(times)
    assert Panel.read(table(a=weekdays(15)), freq="B", gaps="zero").history.tolist() == [15]
    round_the_clock = [dt.datetime.combine(day, dt.time(hour)) for day in weekdays(15) for hour in range(24)]
    halves = Panel.read(table(a=round_the_clock[12:-12]), freq="D")  # of the first day, and of the last
    assert np.nansum(halves.target) == 13 * 24
    assert Panel.read(table(a=weekdays(60)[1:]), freq="W").target.tolist() == [5] * 12  # four days of five make a week


def test_a_stated_frequency_settles_what_cannot_be_told() -> None:
    weekly = Panel.read(table(a=days(9, 7), b=days(9, 7, dt.date(2024, 1, 3))), freq="W")
    assert weekly.history.tolist() == [9, 9]
    assert np.nansum(weekly.target) == 18
    monthly = Panel.read(table(a=[day.replace(day=15) for day in months(6)]), freq="M")
    assert monthly.history.tolist() == [6]
    assert monthly.series(0)[0][0] == np.datetime64("2020-01-01")
    assert Panel.read(table(a=days(1)), freq="D").history.tolist() == [1]


def priced() -> pl.DataFrame:
    """31 days from a Monday: one unit on weekdays at 4, three on Sundays at 2; the table ends on a Wednesday."""
    rows = [
        ("a", day, 3.0 if day.isoweekday() == 7 else 1.0, 2.0 if day.isoweekday() == 7 else 4.0) for day in days(31)
    ]
    return pl.DataFrame(rows, schema=["unique_id", "ds", "y", "price"], orient="row").with_columns(orders=pl.col("y"))


def test_daily_rows_are_summed_by_week_and_prices_weighed_by_units() -> None:
    panel = Panel.read(priced(), freq="W", price="price", past=["orders"])
    labels, demand = panel.series(0)
    # Weeks end on Wednesday as the table does; the first one would hold only Monday to Wednesday.
    assert labels[-1] == np.datetime64("2024-01-31")
    np.testing.assert_array_equal(demand, [np.nan, 9, 9, 9, 9])
    np.testing.assert_allclose(panel.past["price"][1:], (6 * 4 + 3 * 2) / 9, rtol=1e-6)
    np.testing.assert_array_equal(panel.past["orders"][1:], 9)
    assert panel.notes == (
        "rows were summed into weekly periods from Thursday to Wednesday",
        "3 rows lie in incomplete periods at the ends, which count as not observed",
    )


def test_an_incomplete_last_month_is_not_observed_and_its_prices_are_not_known_ahead() -> None:
    frame = (
        priced()
        .vstack(priced().with_columns(pl.col("ds").dt.offset_by("31d")))
        .filter(pl.col("ds") < dt.date(2024, 2, 20))
    )
    panel = Panel.read(frame, freq="M", price="price")
    assert panel.history.tolist() == [1]
    assert panel.target[0] == 27 + 4 * 3  # 27 weekdays and Saturdays, 4 Sundays
    assert panel.end.tolist() == [(2024 - 1970) * 12 + 1]
    assert list(panel.past) == ["price"]
    assert not panel.future


@pytest.mark.parametrize("end", [False, True])
def test_months_make_whole_quarters(end: bool) -> None:  # noqa: FBT001 - a parameter
    panel = Panel.read(table(a=months(12, end=end)), freq="Q")
    assert panel.series(0)[1].tolist() == [3, 3, 3, 3]


def test_hours_make_days_of_which_the_unfinished_are_not_observed() -> None:
    panel = Panel.read(table(a=hours(24 * 3 + 5)), freq="D")
    assert panel.history.tolist() == [3]
    assert panel.target[:3].tolist() == [24, 24, 24]


@pytest.mark.parametrize(("first", "count", "whole"), [(0, 12, [4, 4, 4]), (1, 11, [np.nan, 4, 4]), (0, 11, [4, 4])])
def test_quarters_of_an_hour_make_hours_when_asked_to(first: int, count: int, whole: list[float]) -> None:
    times = [dt.datetime(2024, 1, 1) + dt.timedelta(minutes=15 * (first + place)) for place in range(count)]
    panel = Panel.read(table(a=times))
    assert (panel.frequency.name, panel.history.tolist()) == ("quarter-hourly", [count])
    panel = Panel.read(table(a=times), freq="h")
    np.testing.assert_array_equal(panel.series(0)[1], whole)
    assert panel.history.tolist() == [len(whole)]


@pytest.mark.parametrize(("minutes", "name"), [(5, "5-minute"), (10, "10-minute"), (30, "half-hourly"), (60, "hourly")])
def test_the_coarsest_step_that_explains_all_times_is_taken(minutes: int, name: str) -> None:
    times = [dt.datetime(2024, 1, 1) + dt.timedelta(minutes=minutes * place) for place in range(50)]
    panel = Panel.read(table(a=times, b=[*times[:2], *times[2:-1:3], times[-1]]))  # `b` has gaps
    assert panel.frequency.name == name
    assert panel.history.tolist() == [50, 50]
    assert panel.frequency.labels(panel.end[:1] - 1)[0] == np.datetime64(times[-1])


def test_minutes_are_gathered_into_those_that_they_add_up_to() -> None:
    times = [dt.datetime(2024, 1, 1) + dt.timedelta(minutes=10 * place) for place in range(12)]
    assert Panel.read(table(a=times), freq="30min").series(0)[1].tolist() == [3, 3, 3, 3]
    with pytest.raises(DataError, match="rows of 10 minutes do not add up to 15min; give another freq"):
        Panel.read(table(a=times), freq="15min")
    sales = [dt.datetime(2024, 1, 1, 9, minute) for minute in (0, 5, 20, 50)]
    panel = Panel.read(table(a=sales), gaps="zero")
    assert panel.frequency.unit == "h"  # they may happen at any minute
    quarters = Panel.read(table(a=sales, b=[dt.datetime(2024, 1, 1, 9, 31)]), gaps="zero", freq="15min")
    assert quarters.series(0)[1].tolist() == [2, 1, 0, 1]


def test_a_day_of_minutes_is_a_day() -> None:
    times = [dt.datetime(2024, 1, 1) + dt.timedelta(minutes=10 * place) for place in range(288)]
    assert Panel.read(table(a=times), freq="D").series(0)[1].tolist() == [144, 144]
    assert Panel.read(table(a=times[:1] + times[144:145]), freq="D").series(0)[1].tolist() == [1, 1]
    half_past = [time + dt.timedelta(minutes=30) for time in hours(3)]
    assert Panel.read(table(a=half_past), freq="h").series(0)[1].tolist() == [1, 1, 1]
    late = [time + dt.timedelta(seconds=place % 7) for place, time in enumerate(times)]
    assert Panel.read(table(a=late), freq="D").series(0)[1].tolist() == [144, 144]
    assert Panel.read(table(a=times[1:2]), freq="h").series(0)[1].tolist() == [1]


def test_sales_at_any_hour_make_whole_days() -> None:
    sales = [dt.datetime(2024, 1, day, hour, 7) for day in (1, 2, 4) for hour in (9, 15)]
    panel = Panel.read(table(a=sales), freq="D", gaps="zero")
    np.testing.assert_array_equal(panel.series(0)[1], [2, 2, np.nan, 2])


def test_plans_beyond_the_last_demand_do_not_fill_its_week() -> None:
    frame = table(a=days(24)).with_columns(y=pl.when(pl.col("ds") <= dt.date(2024, 1, 17)).then(pl.col("y")), price=1.0)
    panel = Panel.read(frame, freq="W", price="price")  # weeks end on Wednesday the 17th, as demand does
    assert panel.series(0)[0][-1] == np.datetime64("2024-01-17")
    np.testing.assert_array_equal(panel.series(0)[1], [np.nan, 7, 7])
    assert list(panel.future) == ["price"]


@pytest.mark.parametrize("count", [3, 20])
def test_no_whole_period_is_refused(count: int) -> None:
    with pytest.raises(DataError, match=r"no (weekly|monthly) period is covered by rows to 80 %"):
        Panel.read(table(a=days(count)), freq="W" if count == 3 else "M")


def test_sums_that_no_float32_holds_are_refused() -> None:
    frame = table(a=days(14)).with_columns(y=3e38)
    with pytest.raises(DataError, match=r"target of series 'a' sums to 2.1e\+39 in a weekly period"):
        Panel.read(frame, freq="W")


@pytest.mark.parametrize(
    ("times", "names"),
    [
        (hours(200), ("h", "H", "1h", "60min", "D", "1d", "1D")),
        (days(60), ("D", "1d", "W")),
        (months(30), ("M", "MS", "ME", "1mo", "Q", "QS", "1q", "Y", "YE", "1y")),
    ],
)
def test_pandas_and_polars_names_of_frequencies(times: list, names: tuple[str, ...]) -> None:
    known: dict[str, Frequency] = {}
    for name in names:  # one of ours, then those that mean the same
        found = Panel.read(table(a=times), freq=name).frequency
        assert known.setdefault(found.unit, found) == found
    assert len(known) == sum(name in {"h", "D", "W", "M", "Q", "Y"} for name in names)


def test_weeks_end_on_the_weekday_asked_for() -> None:
    """Sixty days from a Monday on: the last one is a Thursday."""
    daily, weekly = table(a=days(60)), table(a=days(9, 7, dt.date(2024, 1, 7)))
    assert Panel.read(daily, freq="W").series(0)[0][0] == np.datetime64("2024-01-04")
    assert Panel.read(daily, freq="W-SUN").series(0)[0][0] == np.datetime64("2024-01-07")
    assert Panel.read(weekly, freq="W-SUN").frequency == Panel.read(weekly).frequency
    with pytest.raises(DataError, match="dated by another weekday than those of freq W-MON; give freq W"):
        Panel.read(weekly, freq="W-MON")


def test_weeks_of_polars_begin_on_the_monday_that_dates_them() -> None:
    """As `group_by_dynamic(every="1w")` dates and sums them, and as a table that is dated by Mondays is read."""
    frame = table(a=days(60)).with_columns(y=pl.arange(60).cast(pl.Float64))
    panel = Panel.read(frame, freq="1w")
    summed = frame.group_by_dynamic("ds", every="1w").agg(pl.col("y").sum())
    labels, demand = panel.series(0)
    assert labels.tolist() == summed["ds"].cast(pl.Datetime("ms")).to_list()[:8]
    np.testing.assert_array_equal(demand, summed["y"].to_numpy()[:8])  # four of its days are no ninth week
    assert panel.notes[0] == "rows were summed into weekly periods from Monday to Sunday"
    assert panel.frequency == Panel.read(summed.with_columns(unique_id=pl.lit("a")), freq="1w").frequency
    sparse = Panel.read(table(a=days(4, 9)), freq="1w")  # a row a week, on other days: nothing is summed
    assert sparse.series(0)[0].tolist() == labels.tolist()[:4]


def test_steps_of_two_hours_are_refused_with_a_way_out() -> None:
    with pytest.raises(DataError, match="give freq h where the periods between were not observed, or a coarser one"):
        Panel.read(table(a=hours(100, 2)))
    assert Panel.read(table(a=hours(96, 2)), freq="D").target.tolist() == [12.0] * 8
