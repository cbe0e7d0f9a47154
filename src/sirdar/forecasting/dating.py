# SPDX-License-Identifier: Apache-2.0
"""Which calendar a table's dates follow, and how finer rows are gathered into its periods."""

from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64, Shaped

from sirdar.errors import ArgumentError, DataError
from sirdar.predictive import Frequency
from sirdar.predictive.frequency import SEASONS

_ORDER = list(SEASONS)  # finest first
_ALIASES = {f"{count}{name}": f"{count}min" for count in (5, 10, 15, 30) for name in "Tm"}
_ALIASES |= {"60min": "h", "H": "h", "1h": "h", "1D": "D", "1d": "D", "1mo": "M", "1q": "Q", "1y": "Y"}
_ALIASES |= {"MS": "M", "ME": "M", "QS": "Q", "QE": "Q", "YS": "Y", "YE": "Y"}
_MONDAY_WEEKS = "1w"  # of polars, which begin on it
# Days from a Thursday to the weekday.
_WEEK_ENDS = {f"W-{day}": place for place, day in enumerate(("THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED"))}
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_INTRADAY = [unit for unit in _ORDER if Frequency(unit).intraday]
_RUN = 3  # this many equal steps in a row are a rhythm, not chance
_WEEKDAYS = 20  # dates, none of them on a weekend, that are no chance
_LINES = 0.05  # share of the rows that share their date with another of their series where a table lists lines
_DAY = 1440  # minutes
_MONDAY = 4  # days from Thursday 1970-01-01 to the next
# The lengths of each calendar's steps in minutes, shortest and longest.
_MINUTES = {unit: (Frequency(unit).minutes,) * 2 for unit in _ORDER if Frequency(unit).intraday} | {
    unit: (_DAY * least, _DAY * most)
    for unit, least, most in (("D", 1, 1), ("W", 7, 7), ("M", 28, 31), ("Q", 90, 92), ("Y", 365, 366))
}
_PLACE = {
    "5min": "on a full 5 minutes",
    "10min": "on a full 10 minutes",
    "15min": "on a full quarter of an hour",
    "30min": "on the hour or half past",
    "h": "on the hour",
    "D": "at midnight",
    "W": "on the same weekday",
    "M": "on the first or the last day of a month",
    "Q": "on the first or the last day of the same quarters",
    "Y": "on the first or the last day of the same month",
}


class Calendar(NamedTuple):
    """The step that a table's rows have, and the one that its panel gets."""

    own: Frequency
    wanted: Frequency


class _Rows(NamedTuple):
    """The table's dates by series, and the steps between neighbours."""

    ids: pl.Series
    times: Shaped[np.ndarray, " row"]  # datetime64[us]
    same: Bool[np.ndarray, " step"]  # whether the step lies within one series

    def step(self, index: int) -> str:
        """One step in words."""
        return f"series {self.ids[index]!r} steps from {_words(self.times[index])} to {_words(self.times[index + 1])}"


def covariate(name: str) -> str:
    """What a covariate's column is called beside id, time, period and target, with which it may share its name."""
    return f"={name}"


def require_freq(freq: str | None) -> str | None:
    """The frequency as it is called here, also where pandas or polars call it otherwise; refused if it is not known.

    Of weeks that end on a weekday, "W-SUN", and of those that begin on a Monday, "1w", the name stays.
    """
    plain = freq if freq is None else _ALIASES.get(freq, freq)
    if plain is not None and plain not in {*_ORDER, *_WEEK_ENDS, _MONDAY_WEEKS}:
        msg = f"freq must be one of {', '.join(_ORDER)}, got {freq!r}"
        raise ArgumentError(msg)
    return plain


def are_lines(times: pl.Series, freq: str | None) -> bool:
    """Whether most rows stand within the periods asked for, at a time of day, as a till's lines: several share one."""
    if freq is None:
        return False
    minutes = Frequency(freq).minutes if freq in _INTRADAY else _DAY
    return bool((times.to_physical() % (minutes * 60_000_000) != 0).sum() > 0.5 * len(times))


def are_dated_lines(repeated: pl.Series, copies: pl.Series, freq: str | None) -> bool:
    """Whether rows by date, of which several share one, are lines such as those of orders, to be summed by day or more.

    Few of them, or none but copies of others, are more likely a mistake.

    Args:
        repeated: rows that share their series and time with another.
        copies: rows that equal another in all else too.
        freq: the frequency asked for, or None.
    """
    wanted = freq is not None and freq not in _INTRADAY
    return wanted and repeated.sum() >= _LINES * len(repeated) and bool((repeated & ~copies).any())


def infer_frequency(
    frame: pl.DataFrame, where: str, freq: str | None, *, regular: bool, ended: bool = False
) -> Calendar:
    """The table's frequency, and the coarser one if asked for.

    Args:
        frame: columns id (Enum), time and target, in the order of the first two.
        where: words that name the table in errors.
        freq: the frequency asked for, as `require_freq` answers it, or None for the table's own.
        regular: rows stand for every period (not only those with sales), so two rhythms in one table are a mistake.
        ended: weeks are known to be dated by their last day.
    """
    weekday = _WEEK_ENDS.get(freq or "")
    asked, freq = freq, "W" if weekday is not None or freq == _MONDAY_WEEKS else require_freq(freq)
    last = frame.filter(pl.col("target").is_not_null()).select(pl.col("time").max()).to_series().to_numpy()
    codes = frame["id"].to_physical().to_numpy()
    same = codes[1:] == codes[:-1]
    rows = _Rows(frame["id"], frame["time"].to_numpy().astype("datetime64[us]"), same)
    dates = frame["time"].unique().to_numpy().astype("datetime64[us]")
    unit = _unit(dates, regular=regular or freq is not None) if same.any() else None
    if unit is None:
        if freq is None:
            listed = ", ".join(_ORDER)
            msg = f"{where}no series has two rows, so the frequency cannot be inferred; give freq, one of {listed}"
            raise DataError(msg)
        unit = freq
    if (unit, freq) == ("B", "D"):
        unit = "D"
    own = _anchored(unit, dates, ended=ended or weekday is not None)
    if regular:
        _refuse_mixture(rows, own, where)
        if freq is None:
            _refuse_minutes(rows, own, where)
            _refuse_coarser_series(rows, own, where)
            _refuse_irregular(rows, own, where)
    if own.unit == "W" and weekday not in {None, own.offset}:
        msg = f"{where}the weeks are dated by another weekday than those of freq {asked}; give freq W"
        raise DataError(msg)
    if freq is None or freq == own.unit:
        return Calendar(own, own)
    if _ORDER.index(freq) < _ORDER.index(unit):
        msg = f"{where}the dates step by {unit}, coarser than freq {freq}; give freq {unit} or coarser"
        raise DataError(msg)
    if regular:
        _refuse_uneven(rows, freq, where)
    return Calendar(own, _of_sums(asked or freq, freq, last[0]))


def _of_sums(asked: str, freq: str, last: np.datetime64) -> Frequency:
    """The frequency of sums: weeks begin or end as was asked for, or else end on the weekday of the last row."""
    if asked == _MONDAY_WEEKS:
        return Frequency("W", offset=_MONDAY, phase=6)
    return Frequency(freq, offset=_WEEK_ENDS.get(asked, _weekday(last)) if freq == "W" else 0)


def _unit(dates: Shaped[np.ndarray, " date"], *, regular: bool) -> str:
    """The calendar step that explains every difference between a table's dates; hours for sales at any minute."""
    days = dates.astype("datetime64[D]")
    if (dates != days).any():
        if not regular:
            return "h"
        common = int(np.gcd.reduce((dates - days).astype("timedelta64[us]").astype(np.int64)))
        fitting = (unit for unit in reversed(_INTRADAY) if common % (Frequency(unit).minutes * 60_000_000) == 0)
        return next(fitting, _ORDER[0])
    if (_day_of_month(days) == 1).all() or _at_month_end(days).all():
        months = days.astype("datetime64[M]").astype(np.int64)
        step = int(np.gcd.reduce(months - months[0]))  # across series too: all must share one calendar
        return "Y" if step % 12 == 0 else "Q" if step % 3 == 0 else "M"
    if len(np.unique(days.astype(np.int64) % 7)) == 1:
        return "W"
    return "B" if len(days) >= _WEEKDAYS and np.is_busday(days).all() else "D"


def _refuse_minutes(rows: _Rows, own: Frequency, where: str) -> None:
    if own.unit != _ORDER[0]:
        return
    odd = rows.times != own.begins(own.periods(rows.times))
    if odd.any():
        row = int(np.argmax(odd))
        msg = (
            f"{where}series {rows.ids[row]!r} has a row at {_words(rows.times[row])}, and the finest steps are "
            f"{own.minutes} minutes; give freq {own.unit}, or a coarser one, to sum rows by it"
        )
        raise DataError(msg)


def _refuse_coarser_series(rows: _Rows, own: Frequency, where: str) -> None:
    """A series that steps by hours among others of quarters of an hour would have demand in every fourth step alone."""
    if not own.intraday or not rows.same.any():
        return
    minutes = (np.diff(rows.times) // np.timedelta64(1, "m"))[rows.same]
    series = rows.ids.to_physical().to_numpy()[1:][rows.same]
    least, steps = np.full(int(series.max()) + 1, np.iinfo(np.int64).max), np.bincount(series)
    np.minimum.at(least, series, minutes.astype(np.int64))
    coarse = np.flatnonzero((steps >= _RUN) & (least > own.minutes))
    if len(coarse) and (least[steps > 0] <= own.minutes).any():
        row = int(np.argmax(rows.ids.to_physical().to_numpy() == coarse[0]))
        msg = (
            f"{where}mixed frequencies: series {rows.ids[row]!r} steps by {least[coarse[0]]} minutes or more, others "
            f"by {own.minutes}; give one frequency per table, or a freq that all add up to"
        )
        raise DataError(msg)


def _refuse_uneven(rows: _Rows, freq: str, where: str) -> None:
    """Rows every 20 minutes: of half an hour one or two would be summed."""
    days = rows.times.astype("datetime64[D]")
    common = int(np.gcd.reduce((rows.times - days).astype(np.int64))) // 60_000_000
    if Frequency(freq).intraday and common and Frequency(freq).minutes % common:
        msg = f"{where}rows of {common} minutes do not add up to {freq}; give another freq"
        raise DataError(msg)


def _refuse_mixture(rows: _Rows, own: Frequency, where: str) -> None:
    """Two rhythms in one table (daily rows and weekly ones) are refused, with a series that has the odd one."""
    kinds = _ending_runs(_kinds(rows, own))
    fine, coarse = kinds == _ORDER.index(own.unit) + 1, kinds > max(_ORDER.index(own.unit), len(_INTRADAY) - 1) + 1
    if fine.any() and coarse.any():
        msg = (
            f"{where}mixed frequencies: series {rows.ids[int(np.argmax(fine))]!r} has {own.name} rows, but "
            f"{rows.step(int(np.argmax(coarse)))}; "
            "give one frequency per table, or gaps='zero' if it lists sales only"
        )
        raise DataError(msg)


def _refuse_irregular(rows: _Rows, own: Frequency, where: str) -> None:
    """Rows that mostly keep a coarser rhythm than their common calendar are not gaps in the finer one."""
    kinds, base = _kinds(rows, own)[rows.same], _ORDER.index(own.unit) + 1
    index = np.flatnonzero(rows.same)
    coarse = kinds > base
    if coarse.mean() > 0.5:
        most = int(np.argmax(np.bincount(kinds[coarse])))
        unit = _ORDER[most - 1]
        usual, odd = Frequency(unit).name, index[kinds != most]
        if (np.diff(rows.times)[index] == np.timedelta64(28, "D")).all():
            msg = (
                f"{where}the rows step by four weeks, which is none of {', '.join(_ORDER)}; give rows by week or by day"
            )
        elif len(odd):
            msg = f"{where}most rows are {usual}, but {rows.step(int(odd[0]))}; correct the dates, or give freq {unit}"
        else:
            first, other = _out_of_place(rows, unit)
            msg = (
                f"{where}the rows are {usual}, but do not all stand {_PLACE[unit]} ({first} and {other}); "
                f"move the dates, or give freq {unit}"
            )
        raise DataError(msg)
    steps = np.diff(own.periods(rows.times))[index]
    if steps.min() > 1:
        near = int(np.argmin(steps))
        msg = (
            f"{where}no series has rows in two neighbouring periods of the {own.name} calendar: at the nearest, "
            f"{rows.step(int(index[near]))}; give freq {own.unit} where the periods between were not observed, or a "
            "coarser one to sum rows by it"
        )
        raise DataError(msg)


def _out_of_place(rows: _Rows, unit: str) -> tuple[str, str]:
    """Two rows that stand differently within the period of a unit, in words."""
    days = rows.times.astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)
    if unit in _INTRADAY:
        place = (rows.times - days).astype(np.int64) % (Frequency(unit).minutes * 60_000_000)
    else:
        place = {"W": days.astype(np.int64) % 7, "Q": months % 3, "Y": months % 12}.get(unit, _day_of_month(days))
    other = int(np.argmax(place != place[0])) or len(days) - 1
    first, second = (f"{_words(rows.times[row])} in series {rows.ids[row]!r}" for row in (0, other))
    return first, second


def _kinds(rows: _Rows, own: Frequency) -> Int64[np.ndarray, " step"]:
    """The calendar that each step within a series belongs to, as its place in `_ORDER` plus one; 0 for none."""
    minutes = np.diff(rows.times) / np.timedelta64(1, "m")
    kinds = np.zeros(len(minutes), dtype=np.int64)
    for unit, (least, most) in _MINUTES.items():
        kinds[(minutes >= least) & (minutes <= most)] = _ORDER.index(unit) + 1
    kinds[np.diff(own.periods(rows.times)) == 1] = _ORDER.index(own.unit) + 1
    return np.where(rows.same, kinds, 0)


def _ending_runs(step: Int64[np.ndarray, " step"]) -> Int64[np.ndarray, " step"]:
    """The step's value where it ends a run of at least `_RUN` equal non-zero steps, else 0."""
    result = np.zeros_like(step)
    if len(step) >= _RUN:
        equal = np.ones(len(step) - _RUN + 1, dtype=bool)
        for lag in range(1, _RUN):
            equal &= step[_RUN - 1 :] == step[_RUN - 1 - lag : len(step) - lag]
        result[_RUN - 1 :] = np.where(equal, step[_RUN - 1 :], 0)
    return result


def _anchored(unit: str, times: np.ndarray, *, ended: bool) -> Frequency:
    if unit == "W":
        days = times.astype("datetime64[D]").astype(np.int64)
        first = not ended and bool((days % 7 == _MONDAY).all())  # no calendar of business ends its weeks on it
        return Frequency("W", offset=_weekday(times.max()), phase=6 if first else 0)
    if unit in {"M", "Q", "Y"}:
        days = times.astype("datetime64[D]")
        at_end = bool(_at_month_end(days).all()) and not bool((_day_of_month(days) == 1).all())
        length = {"M": 1, "Q": 3, "Y": 12}[unit]
        month = int(days.astype("datetime64[M]").astype(np.int64)[0])
        return Frequency(unit, offset=-1 if at_end else 0, phase=(month + (1 if at_end else 0)) % length)
    return Frequency(unit)


def _weekday(time: np.datetime64) -> int:
    """Weeks end on the weekday of the last row, so that the newest week is a whole one."""
    return int(time.astype("datetime64[D]").astype(np.int64)) % 7


def _day_of_month(days: np.ndarray) -> np.ndarray:
    return (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1


def _at_month_end(days: np.ndarray) -> np.ndarray:
    return _day_of_month(days + 1) == 1


def _words(time: np.datetime64) -> str:
    """2024-01-07, or 2024-01-07 12:00:00 where it is not midnight."""
    return str(time.astype("datetime64[s]")).replace("T", " ").removesuffix(" 00:00:00")


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame sorted by id and time; by one number in place of two columns, which takes a third of the time."""
    codes, times = (frame[name].to_physical().to_numpy().astype(np.int64) for name in ("id", "time"))
    values = pl.Series(times).unique().sort().to_numpy()
    key = codes * len(values) + np.searchsorted(values, times)
    return frame if (key[1:] >= key[:-1]).all() else frame[pl.Series(key).arg_sort()]


def repeats(frame: pl.DataFrame, column: str) -> bool:
    """Whether a frame that is sorted by id and this column has two equal rows."""
    codes, times = (frame[name].to_physical().to_numpy() for name in ("id", column))
    return bool(((codes[1:] == codes[:-1]) & (times[1:] == times[:-1])).any())
