# SPDX-License-Identifier: Apache-2.0
"""Public holidays of a country as a part of the calendar, dated by the `holidays` library."""

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

import holidays
import numpy as np
from jaxtyping import Float32

from sirdar.errors import ArgumentError, nearest
from sirdar.predictive import Frequency

_BLOCK = 1024  # periods whose holidays are looked up at once
_SUBSTITUTE = re.compile(r"\((observed|in lieu)\)|^(substitute|alternative) holiday|^day off", re.IGNORECASE)
_BESIDE = {"day before a holiday": -1, "day after a holiday": 1}  # where it is none itself


def require_country(country: str | None) -> str | None:
    """The country, known to have holidays: "US", or with a part of it "US-CA".

    Raises:
        ArgumentError: there is no such country or part.
    """
    if country is None:
        return None
    known = holidays.list_supported_countries()
    code, dash, part = str(country).partition("-")
    if code not in known:
        told = f"holidays must be the code of a country, such as 'US' or 'DE-BY', got {country!r}."
        msg = told + nearest(code, known)
        raise ArgumentError(msg)
    if dash and part not in known[code]:
        parts = ", ".join(known[code]) or "none"
        msg = f"holidays: {code} has no part {part!r}; its parts are {parts}.{nearest(part, known[code])}"
        raise ArgumentError(msg)
    return country


def holiday_names(frequency: Frequency, first: int, last: int, country: str) -> tuple[str, ...]:
    """The holidays of some of the periods from `first` to `last`, but not of all of them.

    Where steps are days or shorter, a day off in place of a holiday, "Christmas Day (observed)", is one too, and the
    days before and after holidays count as such.
    """
    found: dict[str, set[int]] = {}
    for day, names in _days_of(frequency, first, last, country).items():
        for name in names:
            if frequency.week == 1 and (name in _BESIDE or _SUBSTITUTE.search(name)):
                continue
            found.setdefault(name, set()).update(p for p in _periods_of(day, frequency) if first <= p <= last)
    return tuple(sorted(name for name, periods in found.items() if 0 < len(periods) < last + 1 - first))


def holiday_features(
    frequency: Frequency, periods: np.ndarray, country: str, names: Sequence[str]
) -> Float32[np.ndarray, "... name"]:
    """1 where a period holds a day of the holiday, else 0."""
    if not names or not periods.size:
        return np.zeros((*periods.shape, len(names)), dtype=np.float32)
    first, last = int(periods.min()) // _BLOCK, int(periods.max()) // _BLOCK
    table = np.concatenate([_block(frequency, block, country, tuple(names)) for block in range(first, last + 1)])
    return table[periods - first * _BLOCK]


@lru_cache(maxsize=256)
def _block(frequency: Frequency, block: int, country: str, names: tuple[str, ...]) -> np.ndarray:
    first = block * _BLOCK
    table = np.zeros((_BLOCK, len(names)), dtype=np.float32)
    for day, found in _days_of(frequency, first, first + _BLOCK, country).items():
        columns = [names.index(name) for name in found if name in names]
        rows = [period - first for period in _periods_of(day, frequency) if first <= period < first + _BLOCK]
        table[np.ix_(rows, columns)] = 1.0
    return table


def _days_of(frequency: Frequency, first: int, last: int, country: str) -> dict[np.datetime64, list[str]]:
    """`_days` of the years in which the first period begins and the last one ends."""
    years = frequency.begins(np.array([first, last + 1])).astype("datetime64[Y]").astype(np.int64) + 1970
    return _days(country, int(years[0]), int(years[1]), weekends=frequency.unit != "B")


def _periods_of(day: np.datetime64, frequency: Frequency) -> range:
    """The periods that hold some of the day."""
    begin = day.astype("datetime64[m]")
    first, last = frequency.holding(np.array([begin, begin + np.timedelta64(1439, "m")]))
    return range(int(first), int(last) + 1)


@lru_cache(maxsize=64)
def _days(country: str, first: int, last: int, *, weekends: bool) -> dict[np.datetime64, list[str]]:
    """The holidays of some years by day, and of the days beside them; several may fall on one."""
    code, _, part = country.partition("-")
    years = range(first - 1, last + 2)
    with warnings.catch_warnings():  # that it knows not all of these years
        warnings.simplefilter("ignore")
        found = holidays.country_holidays(code, subdiv=part or None, years=years, language="en_US")
    days = {np.datetime64(day): list(dict.fromkeys(map(_plain, found.get_list(day)))) for day in sorted(found)}
    if not weekends:
        days = {day: names for day, names in days.items() if np.is_busday(day)}
    beside: dict[np.datetime64, list[str]] = {}
    for day in days:
        for name, step in _BESIDE.items():
            next_to = day + step if weekends else np.busday_offset(day, step)
            if next_to not in days:
                beside.setdefault(next_to, []).append(name)
    return days | beside


def _plain(name: str) -> str:
    """A holiday's name without what is said of one year's alone: that it is estimated, or which day it replaces."""
    name = name.removesuffix(" (estimated)").replace(", estimated)", ")")
    return name.partition(" (substituted from ")[0]
