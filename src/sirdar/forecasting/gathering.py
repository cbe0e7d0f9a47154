# SPDX-License-Identifier: Apache-2.0
"""How the rows of a table are gathered into the periods of a coarser calendar, and what a period lacks.

A sum over a part of a period is not the period's demand. What is observed to less than 80 % counts as not observed;
the rest is scaled up to the whole. Which rows a period should have is known where a table has (nearly) one for every
step: all steps of its weekdays and hours but those at which no series ever has a row. Where it lists sales only, the
ends of the table alone tell of periods that are not over.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int64

from sirdar.errors import DataError
from sirdar.forecasting.dating import Calendar, repeats
from sirdar.predictive import Frequency

_DAYS_OF_HOURS, _DAYS_OF_WEEK = 7, 10  # that tell at which hours and on which weekdays a shop is closed
_WEEKS = 4  # likewise, of every hour of the week
_WHOLE = 0.8  # share of a period that must be observed
_FULL, _FULL_OF_ZEROS = 0.9, 0.5  # share of steps with a row in a table of every step; of one that has rows of zeros
_LONGEST_FLOAT32 = float(np.finfo(np.float32).max)


class _Steps(NamedTuple):
    """How many rows a series should have in each period."""

    first: int
    number: Int64[np.ndarray, " period"]

    def of(self, periods: pl.Series) -> pl.Series:
        """The number for each of some periods."""
        return pl.Series(self.number[periods.to_numpy() - self.first])


def gathered(
    frame: pl.DataFrame,
    calendar: Calendar,
    where: str,
    covariates: tuple[tuple[str, ...], tuple[str, ...], str | None],
    *,
    regular: bool,
) -> tuple[pl.DataFrame, list[str]]:
    """Rows by (id, period), and notes on what was done to them.

    Args:
        frame: as for `dating.infer_frequency`, with the covariates and any others, of which the first value is kept.
        calendar: of the rows, and of the panel.
        where: words that name the table in errors.
        covariates: names of those averaged, of those summed, and of the price, which is averaged by units.
        regular: rows stand for every period, so that one row per period means that nothing is gathered.
    """
    frame = frame.with_columns(pl.Series("period", calendar.wanted.periods(frame["time"].to_numpy())))
    several = repeats(frame, "period")
    if not several and (regular or calendar.own == calendar.wanted):
        return frame, []
    averaged, summed, price = covariates
    name = calendar.wanted.name
    notes = [f"rows were summed into {name} periods"]
    ends = _ends(frame, calendar, where, regular=regular)
    short = [period for period, share in ends.items() if share < _WHOLE]
    whole = pl.col("period").is_between(min(ends), max(ends)) & ~pl.col("period").is_in(short)
    outside = frame.filter(~whole & pl.col("target").is_not_null()).height
    if outside:
        notes.append(f"{outside} rows lie in incomplete periods at the ends, which count as not observed")
    steps = _steps(frame, calendar) if regular else None
    sums = ("target", *summed)
    given = {column: pl.when(whole & pl.col(column).is_not_null()).then(pl.col(column)) for column in sums}
    measures: list[pl.Expr] = [pl.when(column.is_not_null().any()).then(column.sum()) for column in given.values()]
    measures += [column.is_not_null().sum().alias(f"#{name}") for name, column in given.items()]
    for column in averaged:
        mean = pl.col(column).mean()
        measures.append((_by_units(column).fill_null(mean) if column == price else mean).alias(column))
    static = [c for c in frame.columns if c not in {"id", "time", "period", *sums, *averaged}]
    measures += [pl.col(column).drop_nulls().first() for column in static]
    units = [column for column in sums if frame.select((pl.col(column) % 1 == 0).all()).item()]
    frame = frame.group_by("id", "period", maintain_order=True).agg(measures)
    shares = {column: _share(frame, column, steps, ends) for column in sums}
    notes += _told(frame, shares["target"])
    frame = frame.with_columns(_scaled(column, shares[column], rounded=column in units) for column in sums)
    _refuse_sums(frame, sums, name, where)
    return frame.drop(f"#{column}" for column in sums), notes


def _by_units(price: str) -> pl.Expr:
    """The price's mean over the units sold; null where none was."""
    weight = pl.col("target").clip(lower_bound=0).fill_null(0) * pl.col(price).is_not_null()
    return pl.when(weight.sum() > 0).then((pl.col(price) * weight).sum() / weight.sum())


def _share(frame: pl.DataFrame, column: str, steps: _Steps | None, ends: dict[int, float]) -> pl.Series:
    """The share of each row's period that is observed."""
    if steps is None:
        return frame["period"].replace_strict(ends, default=1.0, return_dtype=pl.Float64)
    return (frame[f"#{column}"] / steps.of(frame["period"])).clip(upper_bound=1.0)


def _scaled(column: str, share: pl.Series, *, rounded: bool) -> pl.Expr:
    """The sum of a whole period, in whole units where all rows are."""
    value = pl.col(column) / share
    return pl.when(share >= _WHOLE).then(value.round() if rounded else value).alias(column)


def _told(frame: pl.DataFrame, share: pl.Series) -> list[str]:
    known = frame["target"].is_not_null()
    scaled, lost = int((known & (share >= _WHOLE) & (share < 1)).sum()), int((known & (share < _WHOLE)).sum())
    notes = [f"{scaled} periods of series that are observed to 80 % or more were scaled up to whole ones"] * (
        scaled > 0
    )
    return notes + [f"{lost} periods of series that are observed to less count as not observed"] * (lost > 0)


def _refuse_sums(frame: pl.DataFrame, columns: Sequence[str], period: str, where: str) -> None:
    for column in columns:
        huge = frame.filter(pl.col(column).abs() > _LONGEST_FLOAT32)
        if huge.height:
            what = column if column == "target" else f"column {column[1:]!r}"
            msg = (
                f"{where}{what} of series {huge['id'][0]!r} sums to {huge[column][0]:g} in a {period} "
                "period, which is too large; correct its values"
            )
            raise DataError(msg)
    if frame["target"].null_count() == frame.height:
        msg = f"{where}no whole {period} period was observed; give a finer freq or more rows"
        raise DataError(msg)


def _steps(frame: pl.DataFrame, calendar: Calendar) -> _Steps | None:
    """How many rows a series should have in each period; None where the table does not tell."""
    own, wanted = calendar
    rows = own.periods(frame["time"].to_numpy())
    told = np.unique(rows)
    cycle = _cycle(own, int(told[-1] - told[0]) + 1)
    if not cycle or repeats(frame.with_columns(pl.Series("own", rows)), "own"):
        return None
    first, last = int(frame["period"].min()), int(frame["period"].max())  # pyright: ignore[reportArgumentType]
    bounds = own.periods(wanted.begins(np.arange(first, last + 2)))
    span = np.arange(bounds[0], bounds[-1])
    total = np.concatenate([[0], np.cumsum(np.isin(span % cycle, told % cycle))])
    steps = _Steps(first, np.diff(total[bounds - bounds[0]]))
    groups = frame.select("id", "period").unique()
    full = _FULL_OF_ZEROS if frame.select((pl.col("target") == 0).any()).item() else _FULL
    return steps if frame.height >= full * float(steps.of(groups["period"]).to_numpy().sum()) else None


def _cycle(own: Frequency, span: int) -> int:
    """Steps in the week, or in the day, whose places a table of some length shows to be open or closed; 0 for none."""
    if span >= _WEEKS * own.week:
        return own.week
    return own.season if own.intraday and span >= _DAYS_OF_HOURS * own.season else 0


def _closed_about(
    begin: np.datetime64, after: np.datetime64, observed: np.ndarray
) -> tuple[np.datetime64, np.datetime64]:
    """The span, and the hours before and after it at which no row ever stands: a shop is closed then."""
    opened = {int(hour) for hour in observed.astype("datetime64[h]").astype(np.int64) % 24}
    hour = np.timedelta64(1, "h")
    while int((begin - hour).astype("datetime64[h]").astype(np.int64)) % 24 not in opened:
        begin = begin - hour
    while int(after.astype("datetime64[h]").astype(np.int64)) % 24 not in opened:
        after = after + hour
    return begin, after


def _ends(frame: pl.DataFrame, calendar: Calendar, where: str, *, regular: bool) -> dict[int, float]:
    """The shares of the first and of the last period that lie within the table's span of observed rows."""
    own, wanted = calendar
    if own.intraday and not regular:
        own = Frequency("D")  # a sale at noon says that the shop was open that day, not from when to when
    observed = frame.filter(pl.col("target").is_not_null())["time"].unique().sort().to_numpy()
    span = observed[[0, -1]]
    begin, after = own.begins(own.periods(span) + np.array([0, 1]))
    steps = np.sort(np.diff(observed))
    if own.intraday and len(steps):  # rows may stand at any second: they last until the next
        usual = steps[len(steps) // 2]
        finer = usual < np.timedelta64(own.minutes, "m")
        begin, after = span[0] if finer else begin, span[1] + usual if finer else max(after, span[1] + usual)
    days = np.unique(observed.astype("datetime64[D]"))
    if own.intraday and len(days) >= _DAYS_OF_HOURS:
        begin, after = _closed_about(begin, after, observed)
    weekdays = own.unit == "B" or (len(days) >= _DAYS_OF_WEEK and bool(np.is_busday(days).all()))

    def share(period: int) -> float:
        start, end = wanted.begins(np.array([period, period + 1]))
        if weekdays:  # a weekend is no gap
            first_whole = max(start, begin) + np.timedelta64(86_399, "s")
            dates = np.array([first_whole, min(end, after), start, end]).astype("datetime64[D]")
            covered, all_of_it = np.busday_count(dates[[0, 2]], dates[[1, 3]])
            return float(covered / all_of_it)
        return float((min(end, after) - max(start, begin)) / (end - start))

    first, last = (int(period) for period in wanted.periods(span))
    shares = {period: share(period) for period in (first, last)}
    if all(value < _WHOLE for value in shares.values()) and last - first < 2:
        msg = f"{where}no {wanted.name} period is covered by rows to 80 %; give a finer freq or more rows"
        raise DataError(msg)
    return shares
