# SPDX-License-Identifier: Apache-2.0
"""How the rows of a table are gathered into the periods of a coarser calendar, and what a period lacks.

A sum over a part of a period is not the period's demand. What is observed to less than 80 % counts as not observed;
the rest is scaled up to the whole. Which rows a series should have is known where the table has (nearly) one for every
step: those at the weekdays and hours at which the series nearly always has one. Where a table lists sales only, rows
are summed as they are, and the ends of the table alone tell of periods that are not over.
"""

import numpy as np
import polars as pl
from jaxtyping import Float64

from sirdar.errors import DataError
from sirdar.forecasting.dating import DAY_NAMES, Calendar, repeats
from sirdar.predictive import Frequency

_DAYS_OF_HOURS, _DAYS_OF_WEEK = 7, 10  # that tell at which hours and on which weekdays a shop is closed
_WEEKS = 4  # likewise, of every hour of the week
_WHOLE = 0.8  # share of a period that must be observed
_OPEN = 0.75  # share of weeks in which a series has a row at a place of the week at which it should have one
_FULL = 0.9  # share of such rows in a table that lists more than sales
_ZEROS = 0.02  # or share of zeros in it
_LARGEST = 50_000_000  # places of all series
_LONGEST_FLOAT32 = float(np.finfo(np.float32).max)


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
    own, wanted = calendar
    if wanted.unit == "W" and wanted.phase and own.unit != "W":  # days are summed by the last one of their week
        late, offset = divmod(wanted.offset + wanted.phase, 7)
        calendar = Calendar(own, Frequency("W", offset=offset))
        frame, notes = gathered(frame, calendar, where, covariates, regular=regular)
        return frame.with_columns(pl.col("period") - late), notes
    frame = frame.with_columns(pl.Series("period", wanted.periods(frame["time"].to_numpy())))
    several = repeats(frame, "period")
    if not several and (regular or own == wanted):
        return frame, []
    averaged, summed, price = covariates
    name = wanted.name
    notes = [f"rows were summed into {name} periods{_days(wanted)}"]
    first, last = _complete(frame, calendar, where, regular=regular)
    whole = pl.col("period").is_between(first, last)
    outside = frame.filter(~whole & pl.col("target").is_not_null()).height
    if outside:
        notes.append(f"{outside} rows lie in incomplete periods at the ends, which count as not observed")
    given = [pl.when(whole & pl.col(column).is_not_null()).then(pl.col(column)) for column in ("target", *summed)]
    measures: list[pl.Expr] = [pl.when(column.is_not_null().any()).then(column.sum()) for column in given]
    measures.append(pl.col("target").is_not_null().sum().alias("#known"))
    for column in averaged:
        mean = pl.col(column).mean()
        measures.append((_by_units(column).fill_null(mean) if column == price else mean).alias(column))
    static = [c for c in frame.columns if c not in {"id", "time", "period", "target", *averaged, *summed}]
    measures += [pl.col(column).drop_nulls().first() for column in static]
    rows, frame = frame, frame.group_by("id", "period", maintain_order=True).agg(measures)
    expected = _expected(rows, frame, calendar) if regular else None
    if expected is not None:
        frame, more = _made_whole(frame, expected, units=bool((rows["target"] % 1 == 0).all()))
        notes += more
    _refuse_sums(frame, ("target", *summed), name, where)
    return frame.drop("#known"), notes


def _days(frequency: Frequency) -> str:
    """Which days a week holds, in words; none for other periods."""
    last = (frequency.offset + frequency.phase + 3) % 7  # from a Monday on
    return f" from {DAY_NAMES[(last + 1) % 7]} to {DAY_NAMES[last]}" if frequency.unit == "W" else ""


def _by_units(price: str) -> pl.Expr:
    """The price's mean over the units sold; null where none was."""
    weight = pl.col("target").clip(lower_bound=0).fill_null(0) * pl.col(price).is_not_null()
    return pl.when(weight.sum() > 0).then((pl.col(price) * weight).sum() / weight.sum())


def _made_whole(frame: pl.DataFrame, expected: np.ndarray, *, units: bool) -> tuple[pl.DataFrame, list[str]]:
    """Sums of whole periods, in whole units where all rows are, and notes on those that were not."""
    seen = frame["#known"].to_numpy()
    share = pl.Series(seen / np.maximum(expected, np.maximum(seen, 1)))
    known = frame["target"].is_not_null()
    scaled, lost = int((known & (share >= _WHOLE) & (share < 1)).sum()), int((known & (share < _WHOLE)).sum())
    notes = [f"{scaled} periods of series that are observed to 80 % or more were scaled up to whole ones"] * (
        scaled > 0
    )
    notes += [f"{lost} periods of series that are observed to less count as not observed"] * (lost > 0)
    value = frame["target"] / share
    whole = (value.round() if units else value).set((share < _WHOLE).fill_null(value=True), None)
    return frame.with_columns(whole.alias("target")), notes


def _refuse_sums(frame: pl.DataFrame, columns: tuple[str, ...], period: str, where: str) -> None:
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


def _expected(rows: pl.DataFrame, groups: pl.DataFrame, calendar: Calendar) -> Float64[np.ndarray, " group"] | None:
    """How many rows each group, a period of a series, should have; None where the table does not tell."""
    own, wanted = calendar
    cycle = _cycle(rows, own, wanted)
    step = own.periods(rows["time"].to_numpy())
    if not cycle or repeats(rows.with_columns(pl.Series("own", step)), "own"):
        return None
    series, period = groups["id"].to_physical().to_numpy(), groups["period"].to_numpy()
    count = int(series.max()) + 1
    if count * cycle > _LARGEST:
        return None
    seen = rows["target"].is_not_null().to_numpy()
    opened = _opened(rows["id"].to_physical().to_numpy()[seen], step[seen], count, cycle)
    before = np.concatenate([np.zeros((len(opened), 1)), np.cumsum(opened, axis=1)], axis=1)  # open places, before each
    begin, end = (own.periods(wanted.begins(period + late)) for late in (0, 1))
    through = (end // cycle - begin // cycle) * before[series, -1]  # whole cycles
    expected = through + before[series, end % cycle] - before[series, begin % cycle]
    full = float((rows["target"] == 0).sum()) >= _ZEROS * rows.height or rows.height >= _FULL * expected.sum()
    return expected if full else None


def _cycle(rows: pl.DataFrame, own: Frequency, wanted: Frequency) -> int:
    """Steps in the week, or the day, whose places a table of such a length shows to be open or closed; 0 for none."""
    step = own.periods(rows["time"].to_numpy())
    span = int(step.max() - step.min()) + 1
    if span >= _WEEKS * own.week:
        return own.week
    daily = own.intraday and (wanted.intraday or wanted.unit in {"D", "B"})
    return own.season if daily and span >= _DAYS_OF_HOURS * own.season else 0


def _opened(series: np.ndarray, step: np.ndarray, count: int, cycle: int) -> Float64[np.ndarray, "series place"]:
    """1 for the places of the cycle at which a series nearly always has a row, else 0.

    A series that is too short to tell opens when most others do.
    """
    rows = np.bincount(series * cycle + step % cycle, minlength=count * cycle).reshape(count, cycle)
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1 - np.iinfo(np.int64).max)
    np.minimum.at(first, series, step)
    np.maximum.at(last, series, step)
    length = np.where(rows.any(axis=1), last.astype(float) - first + 1, 0.0)
    opened = rows >= _OPEN * length[:, None] / cycle
    told = length >= (_WEEKS if cycle > 1 else 1) * cycle
    usual = opened[told].mean(axis=0) > 0.5 if told.any() else np.zeros(cycle, dtype=bool)
    return np.where(told[:, None], opened, usual).astype(np.float64)


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


def _complete(frame: pl.DataFrame, calendar: Calendar, where: str, *, regular: bool) -> tuple[int, int]:
    """The first and last period of which at least 80 % lies within the span of observed rows."""
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
    whole = first + (share(first) < _WHOLE), last - (share(last) < _WHOLE)
    if whole[0] > whole[1]:
        msg = f"{where}no {wanted.name} period is covered by rows to 80 %; give a finer freq or more rows"
        raise DataError(msg)
    return whole
