# SPDX-License-Identifier: Apache-2.0
"""Which calendar a table's dates follow, and how finer rows are gathered into its periods."""

import numpy as np
import polars as pl

from sirdar.errors import ArgumentError, DataError
from sirdar.predictive import Frequency
from sirdar.predictive.frequency import SEASONS

_ORDER = list(SEASONS)  # finest first
_RUN = 3  # this many equal steps in a row are a rhythm, not chance


def infer_frequency(frame: pl.DataFrame, where: str, freq: str | None, *, regular: bool) -> Frequency:
    """The table's frequency, or the coarser one asked for.

    Args:
        frame: columns id and time.
        where: words that name the table in errors.
        freq: the frequency asked for, or None for the table's own.
        regular: rows stand for every period (not only those with sales), so two rhythms in one table are a mistake.
    """
    if freq is not None and freq not in _ORDER:
        msg = f"freq must be one of {', '.join(_ORDER)}, got {freq!r}"
        raise ArgumentError(msg)
    frame = frame.select("id", "time").sort("id", "time")
    times = frame["time"].to_numpy().astype("datetime64[s]")
    same = (frame["id"] == frame["id"].shift(1)).fill_null(value=False).to_numpy()[1:]
    own = _unit(times, same)
    if own is None:
        if freq is None:
            msg = f"{where}no series has two rows, so the frequency cannot be inferred; give freq"
            raise DataError(msg)
        own = freq
    if regular:
        _refuse_mixture(frame, times, same, own, where)
    if freq is None or freq == own:
        return _anchored(own, times)
    if _ORDER.index(freq) < _ORDER.index(own):
        msg = f"{where}the dates step by {own}, coarser than freq {freq}; give freq {own} or coarser"
        raise DataError(msg)
    return Frequency(freq, offset=_last_weekday(times) if freq == "W" else 0)


def _unit(times: np.ndarray, same: np.ndarray) -> str | None:
    """The finest calendar step that explains every difference; None when no series has two rows."""
    if not same.any():
        return None
    seconds = times.astype(np.int64)
    if (seconds % 86400).any():
        return "h"
    days = seconds // 86400
    gap = np.diff(days)[same]
    months, day = times.astype("datetime64[M]").astype(np.int64), _day_of_month(times)
    if (day == 1).all() or _at_month_end(times).all():
        step = np.gcd.reduce(np.diff(months)[same])
        return "Y" if step % 12 == 0 else "Q" if step % 3 == 0 else "M"
    return "W" if (gap % 7 == 0).all() and (days % 7 == days[0] % 7).all() else "D"


def _refuse_mixture(frame: pl.DataFrame, times: np.ndarray, same: np.ndarray, own: str, where: str) -> None:
    """Two rhythms in one table (daily rows and weekly or monthly ones) are refused, with a series that has the odd one."""
    if own == "h":
        seconds = times.astype(np.int64)
        odd = seconds % 3600 != 0
        if odd.any():
            row = int(np.argmax(odd))
            msg = f"{where}series {frame['id'][row]!r} has a row at {times[row]}; times finer than the hour are not supported"
            raise DataError(msg)
    periods = Frequency(own, *_weekday_for(own, times)).periods(times)
    step = np.where(same, np.diff(periods), 0)
    rhythm = _ending_runs(step)
    fine = rhythm == 1
    coarse = (rhythm > 1) & np.isin(step, _coarser_steps(own))
    days = np.diff(times.astype("datetime64[D]").astype(np.int64))
    month_like = _ending_runs(np.where(same & (days >= 28) & (days <= 31), 1, 0)) == 1
    coarse |= month_like & (own in {"D", "h", "W"})
    if fine.any() and coarse.any():
        row = int(np.argmax(coarse))
        msg = (
            f"{where}mixed frequencies: series {frame['id'][int(np.argmax(fine))]!r} has {Frequency(own).name} rows, but "
            f"series {frame['id'][row]!r} steps from {times[row]} to {times[row + 1]}; "
            "give one frequency per table, or gaps='zero' if it lists sales only"
        )
        raise DataError(msg)


def _coarser_steps(own: str) -> list[int]:
    return {"h": [24, 168], "D": [7], "W": [], "M": [3, 12], "Q": [4], "Y": []}[own]


def _ending_runs(step: np.ndarray) -> np.ndarray:
    """The step's value where it ends a run of at least `_RUN` equal non-zero steps, else 0."""
    result = np.zeros_like(step)
    if len(step) >= _RUN:
        equal = np.ones(len(step) - _RUN + 1, dtype=bool)
        for lag in range(1, _RUN):
            equal &= step[_RUN - 1 :] == step[_RUN - 1 - lag : len(step) - lag]
        result[_RUN - 1 :] = np.where(equal, step[_RUN - 1 :], 0)
    return result


def _anchored(unit: str, times: np.ndarray) -> Frequency:
    if unit == "W":
        return Frequency("W", offset=_last_weekday(times))
    if unit in {"M", "Q", "Y"}:
        at_end = bool(_at_month_end(times).all()) and not bool((_day_of_month(times) == 1).all())
        length = {"M": 1, "Q": 3, "Y": 12}[unit]
        month = int(times.astype("datetime64[M]").astype(np.int64)[0])
        return Frequency(unit, offset=-1 if at_end else 0, phase=(month + (1 if at_end else 0)) % length)
    return Frequency(unit)


def _weekday_for(unit: str, times: np.ndarray) -> tuple[int, ...]:
    return (_last_weekday(times),) if unit == "W" else ()


def _last_weekday(times: np.ndarray) -> int:
    """Weeks end on the weekday of the last row, so that the newest week is a whole one."""
    return int(times.max().astype("datetime64[D]").astype(np.int64)) % 7


def _day_of_month(times: np.ndarray) -> np.ndarray:
    days = times.astype("datetime64[D]")
    return (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1


def _at_month_end(times: np.ndarray) -> np.ndarray:
    return _day_of_month((times.astype("datetime64[D]") + 1)) == 1


def resample(
    frame: pl.DataFrame, frequency: Frequency, averaged: tuple[str, ...], summed: tuple[str, ...], price: str | None
) -> tuple[pl.DataFrame, list[str]]:
    """Rows gathered by (id, period); a first or last period of which less than 80 % is covered counts as not observed."""
    times = frame["time"].to_numpy().astype("datetime64[s]")
    frame = frame.with_columns(pl.Series("period", frequency.periods(times)))
    if not frame.select("id", "period").is_duplicated().any() and len(np.unique(times)) == frame["period"].n_unique():
        return frame, []
    notes = [f"rows were summed into {frequency.name} periods"]
    first, last = _complete(times, frequency)
    whole = pl.col("period").is_between(first, last)
    outside = frame.height - frame.filter(whole).height
    if outside:
        notes.append(f"{outside} rows lie in incomplete periods at the ends, which count as not observed")
    weight_of = pl.col("target").clip(lower_bound=0).fill_null(0)
    gathered = [pl.when(whole & pl.col(name).is_not_null()).then(pl.col(name)) for name in ("target", *summed)]
    measures = [pl.when(column.is_not_null().any()).then(column.sum()) for column in gathered]
    for name in averaged:
        weight = weight_of * pl.col(name).is_not_null()
        mean = pl.col(name).mean()
        by_units = (pl.col(name) * weight).sum() / weight.sum()
        measures.append(
            (pl.when(weight.sum() > 0).then(by_units).otherwise(mean) if name == price else mean).alias(name)
        )
    static = [name for name in frame.columns if name not in {"id", "time", "period", "target", *averaged, *summed}]
    measures += [pl.col(name).drop_nulls().first() for name in static]
    return frame.sort("id", "period").group_by("id", "period", maintain_order=True).agg(measures), notes


def _complete(times: np.ndarray, frequency: Frequency) -> tuple[int, int]:
    """The first and last period of which at least 80 % lies within the table's span."""
    days = times.astype("datetime64[D]").astype(np.int64)
    first, last = int(frequency.periods(times).min()), int(frequency.periods(times).max())
    every = np.arange(days.min() - 400, days.max() + 401).astype("datetime64[D]")
    owner = frequency.periods(every)
    inside = (every.astype(np.int64) >= days.min()) & (every.astype(np.int64) <= days.max())
    covered = {p: inside[owner == p].mean() for p in (first, last)}
    if first < last:
        first += covered[first] < 0.8
        last -= covered[last] < 0.8
    return first, max(last, first)
