# SPDX-License-Identifier: Apache-2.0
"""A calendar step as an integer: periods are counted, so that time arithmetic on panels is integer arithmetic."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sirdar.errors import ArgumentError

_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_MINUTES = {"5min": 5, "10min": 10, "15min": 15, "30min": 30, "h": 60, "D": 1440, "B": 10080 / 5, "W": 10080}
_DAY = 1440  # minutes
_MONDAY = 3  # days from the last Monday before 1970 to its first day
SEASONS = {
    "5min": 288,
    "10min": 144,
    "15min": 96,
    "30min": 48,
    "h": 24,
    "D": 7,
    "B": 5,
    "W": 52,
    "M": 12,
    "Q": 4,
    "Y": 1,
}
_NAMES = {
    "5min": ("5-minute", "5-minute period"),
    "10min": ("10-minute", "10-minute period"),
    "15min": ("quarter-hourly", "quarter-hour"),
    "30min": ("half-hourly", "half-hour"),
    "h": ("hourly", "hour"),
    "D": ("daily", "day"),
    "B": ("business-daily", "business day"),
    "W": ("weekly", "week"),
    "M": ("monthly", "month"),
    "Q": ("quarterly", "quarter"),
    "Y": ("yearly", "year"),
}


@dataclass(frozen=True)
class Frequency:
    """One step of a panel's calendar.

    Args:
        unit: "5min", "10min", "15min", "30min", "h", "D", "B", "W", "M", "Q" or "Y"; "B" for business days, where a
            weekend belongs to its Friday.
        offset: where a period's label stands. For "W" the days from Thursday 1970-01-01 to the labelled weekday
            (0..6); for days and shorter always 0; for months and longer, 0 labels the first day and -1 the last; for
            "Q" and "Y" `phase` says in which month periods begin.
        phase: months by which quarters or years are shifted against January; for "W" the days of a week that come
            after its label: 0 where its last day is its label, 6 where its first day is.
    """

    unit: str
    offset: int = 0
    phase: int = 0

    def __post_init__(self) -> None:
        if self.unit not in SEASONS:
            msg = f"freq must be one of {', '.join(SEASONS)}, got {self.unit!r}"
            raise ArgumentError(msg)

    @property
    def season(self) -> int:
        """Steps in the usual season: 52 weeks, 12 months, 7 days, 5 business days, or a day of shorter steps."""
        return SEASONS[self.unit]

    @property
    def per_year(self) -> float:
        """Steps in a year."""
        minutes = 8766.0 * 60
        return 12 / _MONTHS[self.unit] if self.unit in _MONTHS else minutes / _MINUTES[self.unit]

    @property
    def intraday(self) -> bool:
        """Whether a day has several steps."""
        return _MINUTES.get(self.unit, _DAY) < _DAY

    @property
    def minutes(self) -> int:
        """Of a step that is shorter than a day."""
        return int(_MINUTES[self.unit])

    @property
    def week(self) -> int:
        """Steps in a week, 1 where they are as long or longer."""
        return 5 if self.unit == "B" else max(1, int(_MINUTES["W"] // _MINUTES.get(self.unit, math.inf)))

    @property
    def name(self) -> str:
        """In words: "weekly"."""
        return _NAMES[self.unit][0]

    @property
    def step(self) -> str:
        """What one is called: "week"."""
        return _NAMES[self.unit][1]

    def periods(self, times: np.ndarray) -> Int64[np.ndarray, "..."]:
        """The period number that each instant (datetime64) falls in; weeks count as if they ended with their labels."""
        if self.unit in _MONTHS:
            months = times.astype("datetime64[M]").astype(np.int64) - self.phase
            return months // _MONTHS[self.unit]
        minutes = times.astype("datetime64[m]").astype(np.int64)
        if self.unit == "W":
            # Days after the previous label, up to this one, whatever the phase: models know the places in the year so.
            return -((self.offset - minutes // _DAY) // 7)
        if self.unit == "B":
            week, day = np.divmod(minutes // _DAY + _MONDAY, 7)
            return week * 5 + np.minimum(day, 4)
        return minutes // self.minutes

    def holding(self, times: np.ndarray) -> Int64[np.ndarray, "..."]:
        """The period whose demand holds each instant (datetime64): `periods`, but weeks may begin with their labels."""
        return self.periods(times - np.timedelta64(self.phase if self.unit == "W" else 0, "D"))

    def begins(self, periods: np.ndarray) -> np.ndarray:
        """The instants (datetime64[s]) at which periods begin; one ends where the next begins."""
        if self.unit in _MONTHS:
            return (periods * _MONTHS[self.unit] + self.phase).astype("datetime64[M]").astype("datetime64[s]")
        if self.unit == "W":
            return (periods * 7 + self.offset - 6).astype("datetime64[D]").astype("datetime64[s]")
        if self.unit == "B":
            return (periods // 5 * 7 + periods % 5 - _MONDAY).astype("datetime64[D]").astype("datetime64[s]")
        return (periods * self.minutes).astype("datetime64[m]").astype("datetime64[s]")

    def labels(self, periods: np.ndarray) -> np.ndarray:
        """The instants (datetime64[s]) by which periods are known outside."""
        last_day = self.unit == "W" or (self.unit in _MONTHS and self.offset == -1)
        return self.begins(periods + 1) - np.timedelta64(1, "D") if last_day else self.begins(periods)

    def written(self, labels: np.ndarray) -> list[str]:
        """Labels as ISO 8601 has them: 2024-01-07, and with the time of day where a step is shorter."""
        return [str(label) for label in labels.astype("datetime64[m]" if self.intraday else "datetime64[D]")]
