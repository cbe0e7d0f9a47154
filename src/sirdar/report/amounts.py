# SPDX-License-Identifier: Apache-2.0
"""Amounts as people read them: numbers, times, shares and bytes."""

import math

Number = float | int


def number(value: Number | None) -> str:
    """A number as people read it: about three figures, thousands parted; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0 or size >= 100:
        return f"{value:,.0f}"
    if size < 1e-6:
        return f"{value:.1e}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}".rstrip("0").rstrip(".")


def duration(seconds: Number) -> str:
    """A time in the unit that suits its size."""
    units = ((86400, 2, "d"), (3600, 2, "h"), (60, 2, "min"), (1, 1, "s"), (1e-3, 1, "ms"), (1e-6, 0, "µs"))
    if not math.isfinite(seconds) or seconds <= 0:
        return number(seconds)
    size, _, unit = next(row for row in units if seconds >= row[0] * row[1])
    return f"{number(seconds / size)} {unit}"


def share(value: Number, digits: int = 1) -> str:
    """A share of one in per cent; a dash for none."""
    return f"{100 * value:.{digits}f}\u00a0%" if math.isfinite(value) else "–"


def size(value: float | int) -> str:
    """Bytes with a unit that suits them."""
    for bound, scale, unit in ((2**10, 1, "B"), (2**20, 2**10, "KiB"), (2**30, 2**20, "MiB")):
        if value < bound:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 2**30:.3g} GiB"
