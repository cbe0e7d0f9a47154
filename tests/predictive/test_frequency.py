# SPDX-License-Identifier: Apache-2.0
"""Periods are counted so that labels and instants agree; dates are read off a calendar."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.predictive import Frequency

FREQUENCIES = [
    *[Frequency(unit) for unit in ("5min", "10min", "15min", "30min", "h")],
    Frequency("D"),
    Frequency("B"),
    *[Frequency("W", offset=offset) for offset in range(7)],
    Frequency("W", offset=4, phase=6),
    *[Frequency("M", offset=offset) for offset in (0, -1)],
    *[Frequency("Q", offset=offset, phase=phase) for offset in (0, -1) for phase in range(3)],
    *[Frequency("Y", offset=offset, phase=phase) for offset in (0, -1) for phase in (0, 6)],
]


@given(frequency=st.sampled_from(FREQUENCIES), period=st.integers(-3000, 3000))
def test_a_label_lies_in_its_own_period(frequency: Frequency, period: int) -> None:
    periods = np.array([period])
    assert frequency.periods(frequency.labels(periods))[0] == period


@given(frequency=st.sampled_from(FREQUENCIES), day=st.integers(-60_000, 60_000), second=st.integers(0, 86_399))
def test_an_instant_lies_between_the_ends_of_its_period(frequency: Frequency, day: int, second: int) -> None:
    instant = np.array([day * 86_400 + second], dtype="datetime64[s]")
    period = frequency.periods(instant)
    assert frequency.begins(period)[0] <= instant[0] < frequency.begins(period + 1)[0]


@given(first=st.integers(-60_000, 60_000), count=st.integers(0, 3000))
def test_business_days_are_counted_as_numpy_counts_them(first: int, count: int) -> None:
    days = np.array([first, first + count]).astype("datetime64[D]")
    on_weekdays = np.busday_offset(days, 0, roll="backward")
    begin, end = Frequency("B").periods(days)
    assert end - begin == np.busday_count(*on_weekdays)
    assert np.is_busday(Frequency("B").labels(np.arange(begin, end + 1)).astype("datetime64[D]")).all()


@pytest.mark.parametrize(
    ("frequency", "time", "label"),
    [
        (Frequency("15min"), "1969-12-31T23:59", "1969-12-31T23:45"),
        (Frequency("h"), "1969-12-31T23:59", "1969-12-31T23:00"),
        (Frequency("D"), "2024-02-29T23:59", "2024-02-29"),
        (Frequency("B"), "2024-03-01T23:59", "2024-03-01"),  # a Friday
        (Frequency("B"), "2024-03-03T23:59", "2024-03-01"),  # the Sunday after it
        (Frequency("B"), "2024-03-04", "2024-03-04"),
        (Frequency("W", offset=3), "2024-01-01", "2024-01-07"),  # Thursday + 3: the Sunday that ends the week
        (Frequency("W", offset=3), "2024-01-07T18:00", "2024-01-07"),
        (Frequency("W", offset=4), "2024-01-07", "2024-01-08"),
        (Frequency("M"), "2024-02-29", "2024-02-01"),
        (Frequency("M", offset=-1), "2024-02-03", "2024-02-29"),
        (Frequency("Q"), "2024-05-20", "2024-04-01"),
        (Frequency("Q", offset=-1, phase=1), "2024-05-20", "2024-07-31"),  # quarters from February, May, August, ...
        (Frequency("Y"), "1969-07-20", "1969-01-01"),
        (Frequency("Y", offset=-1, phase=6), "2024-06-30", "2024-06-30"),  # a year that ends in June
    ],
)
def test_labels_are_what_a_calendar_says(frequency: Frequency, time: str, label: str) -> None:
    period = frequency.periods(np.array([time], dtype="datetime64[s]"))
    assert frequency.labels(period)[0] == np.datetime64(label)


@pytest.mark.parametrize(("phase", "label"), [(0, "2024-01-08"), (6, "2024-01-01")])
def test_a_week_holds_the_days_up_to_its_label_or_from_it_on(phase: int, label: str) -> None:
    weeks = Frequency("W", offset=4, phase=phase)  # labelled by Mondays
    held = weeks.holding(np.array(["2024-01-02", "2024-01-07T23:59"], dtype="datetime64[s]"))
    assert weeks.written(weeks.labels(held)) == [label] * 2


def test_labels_are_written_with_their_hour_where_a_step_is_one() -> None:
    time = np.array(["2024-02-29T13:45"], dtype="datetime64[s]")
    for unit, text in {
        "30min": "2024-02-29T13:30",
        "h": "2024-02-29T13:00",
        "D": "2024-02-29",
        "M": "2024-02-01",
    }.items():
        frequency = Frequency(unit)
        assert frequency.written(frequency.labels(frequency.periods(time))) == [text]


def test_seasons_and_names() -> None:
    weekly = Frequency("W")
    assert (weekly.season, weekly.name) == (52, "weekly")
    assert weekly.per_year == pytest.approx(365.25 / 7)
    assert Frequency("Q").per_year == 4
    assert [Frequency(unit).season for unit in ("5min", "10min", "15min", "30min")] == [288, 144, 96, 48]
    assert [Frequency(unit).week for unit in ("15min", "h", "D", "B", "W", "M")] == [672, 168, 7, 5, 1, 1]
    assert [Frequency(unit).intraday for unit in ("30min", "h", "D", "B", "W", "Y")] == [True, True] + 4 * [False]
    business = Frequency("B")
    assert (business.season, business.name, business.step) == (5, "business-daily", "business day")
    assert business.per_year == pytest.approx(365.25 * 5 / 7)


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ArgumentError, match="freq must be one of 5min, 10min, 15min, 30min, h, D, B, W, M, Q, Y, got 'MS'"
    ):
        Frequency("MS")
