# SPDX-License-Identifier: Apache-2.0
"""A number with its source and date: what spec sheets are made of."""

from dataclasses import dataclass
from datetime import date as calendar_date


@dataclass(frozen=True)
class Number:
    """A fact about a chip.

    Args:
        value: in the unit that the name of its key ends with.
        source: the document it stands in, or "assumption: ..." where nobody published it.
        date: the day the source is from or was read.
        low: least plausible value; the value itself when the source leaves no doubt.
        high: greatest plausible value.
        alternatives: what other pages of the same publisher say.
    """

    value: float
    source: str
    date: calendar_date
    low: float | None = None
    high: float | None = None
    alternatives: tuple["Number", ...] = ()

    @property
    def bounds(self) -> tuple[float, float, float]:
        """Low, value and high."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return low, self.value, high

    @property
    def assumed(self) -> bool:
        """Whether it is an assumption and not a published figure."""
        return self.source.startswith("assumption")
