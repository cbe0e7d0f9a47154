# SPDX-License-Identifier: Apache-2.0
"""Holidays in the calendar; dates from the calendars of the countries, effects known beforehand."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting.covariates import Encoding, calendar_features
from sirdar.forecasting.features import Features
from sirdar.forecasting.holidays import holiday_features, holiday_names, require_country
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Frequency
from sirdar.testing.forecasters import panel_of


def periods_of(frequency: Frequency, first: str, last: str) -> np.ndarray:
    """All periods from one date to another."""
    ends = frequency.periods(np.array([first, last], dtype="datetime64[D]"))
    return np.arange(ends[0], ends[1] + 1)


@pytest.mark.parametrize(
    ("country", "name", "dates"),
    [
        ("US", "Thanksgiving Day", ["2022-11-24", "2023-11-23", "2024-11-28"]),  # the fourth Thursday of November
        ("DE", "Easter Monday", ["2022-04-18", "2023-04-10", "2024-04-01"]),
        ("DE-BY", "Epiphany", ["2022-01-06", "2023-01-06", "2024-01-06"]),  # not of all Germany
    ],
)
def test_days_of_a_holiday(country: str, name: str, dates: list[str]) -> None:
    days = Frequency("D")
    periods = periods_of(days, "2022-01-01", "2024-12-31")
    found = holiday_features(days, periods, country, [name])
    assert days.written(days.labels(periods[found[:, 0] == 1])) == dates
    assert name in holiday_names(days, int(periods[0]), int(periods[-1]), country)
    assert (name in holiday_names(days, int(periods[0]), int(periods[-1]), country[:2])) == ("-" not in country)


def test_a_step_of_any_length_tells_whether_it_holds_the_day() -> None:
    hours = Frequency("h")
    periods = periods_of(hours, "2024-07-03", "2024-07-06")
    found = holiday_features(hours, periods, "US", ["Independence Day"])[:, 0]
    assert np.flatnonzero(found).tolist() == list(range(24, 48))
    weeks = Frequency("W", offset=3)  # labelled by Sunday, 1970-01-04
    periods = periods_of(weeks, "2024-01-01", "2024-12-31")
    found = holiday_features(weeks, periods, "US", ["Independence Day", "Christmas Day"])
    held = [weeks.written(weeks.labels(periods[column == 1])) for column in found.T]
    assert held == [["2024-07-07"], ["2024-12-29"]]
    business = Frequency("B")
    periods = periods_of(business, "2021-06-28", "2021-07-30")
    names = holiday_names(business, int(periods[0]), int(periods[-1]), "US")
    table = holiday_features(business, periods, "US", names)
    held = {
        name: business.written(business.labels(periods[column == 1]))
        for name, column in zip(names, table.T, strict=True)
    }
    assert held == {  # the fourth was a Sunday
        "Independence Day (observed)": ["2021-07-05"],
        "day before a holiday": ["2021-07-02"],
        "day after a holiday": ["2021-07-06"],
    }
    months = Frequency("M")
    periods = periods_of(months, "2022-01-01", "2024-12-31")
    found = holiday_features(months, periods, "DE", ["Easter Monday"])[:, 0]
    assert months.written(months.labels(periods[found == 1])) == ["2022-04-01", "2023-04-01", "2024-04-01"]
    years = Frequency("Y")  # every year has its Christmas, which tells nothing
    assert holiday_names(years, 30, 49, "US") == ()


def test_the_days_beside_a_holiday() -> None:
    """Good Friday and Easter Monday of 2024 are 29 March and 1 April, and 25 and 26 December have none between."""
    days = Frequency("D")
    beside = ["day before a holiday", "day after a holiday"]
    for first, last, before, after in (
        ("2024-03-20", "2024-04-10", ["2024-03-28", "2024-03-31"], ["2024-03-30", "2024-04-02"]),
        ("2023-12-20", "2024-01-05", ["2023-12-24", "2023-12-31"], ["2023-12-27", "2024-01-02"]),
    ):
        periods = periods_of(days, first, last)
        found = holiday_features(days, periods, "DE", beside)
        assert [days.written(days.labels(periods[column == 1])) for column in found.T] == [before, after]
    assert not set(beside) & set(holiday_names(Frequency("W"), 2700, 2800, "DE"))


def test_names_are_the_same_in_every_year_and_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    days = Frequency("D")
    first, last = (int(period) for period in periods_of(days, "2022-01-01", "2027-12-31")[[0, -1]])
    names = holiday_names(days, first, last, "EG")  # those to come are estimated
    assert "Eid al-Adha" in names
    assert not [name for name in names if "estimated" in name]
    assert "Second Day of Christmas" in holiday_names(days, first, last, "DE")
    assert [name for name in holiday_names(days, first, last, "CN") if name.startswith("Day off")] == ["Day off"]
    weeks = holiday_names(Frequency("W"), 2740, 2940, "CN")  # in which a day in another's place tells nothing
    assert not [name for name in weeks if "off" in name or "observed" in name]
    holiday_names(Frequency("Y"), 30, 70, "IN")  # of which the library knows some years


def test_periods_of_any_shape_and_far_apart() -> None:
    days = Frequency("D")
    periods = periods_of(days, "2019-01-01", "2025-12-31")
    flat = holiday_features(days, periods, "US", ["Christmas Day", "Labor Day"])
    assert flat.sum(axis=0).tolist() == [7, 7]
    shuffled = np.random.default_rng(0).permutation(len(periods))[:60].reshape(4, 15)
    np.testing.assert_array_equal(
        holiday_features(days, periods[shuffled], "US", ["Christmas Day", "Labor Day"]), flat[shuffled]
    )
    assert holiday_features(days, periods[:0], "US", ["Labor Day"]).shape == (0, 1)


@pytest.mark.parametrize(
    ("country", "sentence"),
    [
        ("us", "holidays must be the code of a country, such as 'US' or 'DE-BY', got 'us'. Did you mean 'US'"),
        ("Germany", "holidays must be the code of a country, such as 'US' or 'DE-BY', got 'Germany'"),
        ("DE-XX", "holidays: DE has no part 'XX'; its parts are BB, BE, BW, BY"),
        ("", "holidays must be the code of a country, such as 'US' or 'DE-BY', got ''"),
    ],
)
def test_an_unknown_country_is_refused_before_the_file_is_read(country: str, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        Panel.read("no such file.csv", holidays=country)
    assert require_country(None) is None


def test_the_calendar_has_them_after_its_waves() -> None:
    frame = pl.DataFrame({"ds": pl.date_range(dt.date(2023, 11, 1), dt.date(2024, 1, 31), eager=True)})
    panel = Panel.read(frame.with_columns(unique_id=pl.lit("a"), y=1.0), holidays="US")
    encoding = Encoding.fit(panel)
    named = (
        "Christmas Day",
        "Martin Luther King Jr. Day",
        "New Year's Day",
        "Thanksgiving Day",
        "Veterans Day",
        "Veterans Day (observed)",
        "day after a holiday",
        "day before a holiday",
    )
    assert encoding.holidays == named
    periods = panel.start[0] + np.arange(100).reshape(2, 50)
    calendar = encoding.calendar(panel.frequency, periods)
    waves = calendar_features(panel.frequency, periods, yearly=False)
    np.testing.assert_array_equal(calendar[..., :6], waves)
    np.testing.assert_array_equal(calendar[..., 6:], holiday_features(panel.frequency, periods, "US", named))
    features = Features.fit(panel)
    row = features.rows(panel, np.array([0]), np.array([54]), np.array([[1, 2]]))  # 25 and 26 December
    column = features.names.index("Christmas Day")
    assert row.matrix.toarray()[:, column].tolist() == [1, 0]
    assert row.matrix.shape[1] == len(features.names)


@pytest.fixture(scope="module")
def closed() -> Panel:
    """Fifteen series over two years that sell nothing on the Fourth of July and on Christmas Day; ends on 30 June."""
    days = Frequency("D")
    periods = periods_of(days, "2022-07-01", "2024-06-30")
    shut = holiday_features(days, periods, "US", ["Independence Day", "Christmas Day"]).any(axis=1)
    rng = np.random.default_rng(0)
    rows = [np.where(shut, 0, rng.poisson(30, len(periods))).astype(np.float32) for _ in range(15)]
    return replace(panel_of(rows, start=[int(periods[0])] * 15, unit="D"), holidays="US")


@pytest.mark.parametrize("rung", [MQCNN, FeedForward])
def test_networks_learn_what_a_holiday_does(rung: type[MQCNN | FeedForward], closed: Panel, tmp_path: Path) -> None:
    model = rung(7).fit(closed)
    model.save(tmp_path / "model")
    for forecaster in (model, rung.load(tmp_path / "model")):
        week = np.median(forecaster.predict(replace(closed, holidays=None)).values[:, :, 4], axis=0)  # 1 to 7 July
        assert week[3] < 0.6 * np.median(week)  # the fourth
        assert np.delete(week, 3).min() > 0.8 * np.median(week)
    if rung is MQCNN:  # the day itself is the holiday's, and that it is no other one
        moved = model.explain(closed, closed.ids[0]).parts
        most = min(moved, key=lambda part: part[2])
        assert most[:2] == ("Independence Day", "2024-07-04")
