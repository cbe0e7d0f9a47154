# SPDX-License-Identifier: Apache-2.0
"""From a stranger's table to the arrays of a `Panel`; whatever is wrong with it is said in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import polars.selectors as cs
from jaxtyping import Int64

from sirdar.errors import ArgumentError, DataError, nearest
from sirdar.forecasting.covariates import is_flag
from sirdar.forecasting.dating import (
    DAY_NAMES,
    are_dated_lines,
    are_lines,
    covariate,
    in_order,
    infer_frequency,
    repeats,
    require_freq,
)
from sirdar.forecasting.gathering import gathered
from sirdar.forecasting.panel import Roles
from sirdar.forecasting.tables import (
    Table,
    dated_by_end,
    first_row,
    place_of,
    plain_ids,
    plain_numbers,
    plain_times,
    read_tables,
    require_columns,
    stripped,
)
from sirdar.forecasting.tables import load_table as load_table
from sirdar.forecasting.texts import by_value, yes_or_no
from sirdar.predictive import Frequency

_NUMBER = r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$"  # "007" is a code
# Ids of rows that sum the others, as reports and pivot tables have them.
_TOTALS = ("total", "totals", "grand total", "subtotal", "sub total", "overall total", "total general", "total général")
_TOTALS += ("sum", "summe", "gesamt", "gesamtsumme", "gesamtergebnis", "zwischensumme", "insgesamt")
_TOTALS += ("somme", "suma", "totale", "totaal")
_LARGEST = 1e30  # demand of a step
_FAR = 20  # times as long as others
_WEEKS = 4  # in which a shop that never opens at some time has shown that it is closed then


class Columns(NamedTuple):
    """The table's columns by role."""

    key: str
    time: str
    target: str
    averaged: tuple[str, ...]  # price, promotion, in_stock, future
    summed: tuple[str, ...]  # past
    static: tuple[str, ...]


def read_panel(
    source: Any,  # noqa: ANN401 - any frame
    names: tuple[Any, Any, Any],
    *,
    freq: str | None,
    gaps: str,
    roles: Roles,
    holidays: str | None = None,
) -> dict[str, Any]:
    """The fields of a `Panel`; with holidays, a note says which days a week that is dated by one of them holds."""
    if gaps not in {"missing", "zero"}:
        msg = f"gaps must be 'missing' or 'zero', got {gaps!r}"
        raise ArgumentError(msg)
    freq = require_freq(freq)
    columns = _columns(names, roles)
    tables, where, native = read_tables(source, columns.key, columns.time)
    tables = [_prepared(table, columns, roles) for table in tables]
    words = [name for role in ("promotion", "past", "future") for name in _named(roles, role)]
    tables, texts, rare = by_value(tables, words, where)
    averaged, summed = (
        tuple(part for name in given for part in texts.get(name, (name,)))
        for given in (columns.averaged, columns.summed)
    )
    columns = columns._replace(averaged=averaged, summed=summed)
    frame, shared = _checked(tables, columns, where, {part for parts in texts.values() for part in parts}, freq)
    # Covariates are known ahead when the table goes on after the last demand.
    planned = frame["time"].max() != frame.filter(pl.col("target").is_not_null())["time"].max()
    regular = gaps == "missing"
    ended = dated_by_end(tables[0], columns.time)
    calendar = infer_frequency(frame, where, freq, regular=regular, ended=ended)
    price = roles.get("price")
    covariates = (
        tuple(map(covariate, columns.averaged)),
        tuple(map(covariate, columns.summed)),
        None if price is None else covariate(price),
    )
    frame, notes = gathered(frame, calendar, where, covariates, regular=regular)
    told = frame["period"].unique().sort().to_numpy().astype(np.int64)
    closed = _closed(told, calendar.wanted)
    fields = _arrays(frame, columns, zeros=None if regular else np.union1d(told, closed), where=where)
    fields["static"] = _static(frame, columns, where, text=all(table.text for table in tables))
    notes += [
        *shared,
        *rare,
        *fields.pop("notes"),
        *_odd_ids(fields["ids"]),
        *_ended(fields, calendar.wanted),
        *([] if holidays is None else _weeks(calendar.own)),
        *(_shut(closed, calendar.wanted) if regular else []),
    ]
    _assign_roles(fields, roles, texts, planned=planned)
    if fields["in_stock"] is not None and not (np.isfinite(fields["target"]) & fields["in_stock"]).any():
        msg = f"{where}column {roles.get('in_stock')!r} says that nothing was ever in stock; 1 or true means in stock"
        raise DataError(msg)
    notes += [*_sold_out(fields), *_below_zero(fields)]
    if native is not None and not _alike(native.times, calendar.wanted):
        native = native._replace(times=None)
    return fields | {"frequency": calendar.wanted, "texts": tuple(texts), "notes": tuple(notes), "native": native}


def _alike(times: Any, frequency: Frequency) -> bool:  # noqa: ANN401 - of any library
    """Whether times of this type, where they are periods, are of this length."""
    _, _, unit = str(times).partition("period[")
    return not unit or unit[0].lower() == frequency.unit[0].lower()


def _prepared(table: Table, columns: Columns, roles: Roles) -> Table:
    """The table with the columns asked for, under their names; refused if it lacks one."""
    key, time, target, *covariates = columns
    asked = [key, time, target, *(name for names in covariates for name in names)]
    table = stripped(table, asked)
    require_columns(table, asked, key)
    stock = roles.get("in_stock")
    return table if stock is None else yes_or_no(table, stock)


def _columns(names: tuple[Any, Any, Any], roles: Roles) -> Columns:
    for role, name in zip(("id", "time", "target"), names, strict=True):
        if not isinstance(name, str):
            join = "; join several into one first, such as df['a'] + '/' + df['b']" if role == "id" else ""
            msg = f"{role} must be the name of one column, got {name!r}{join}"
            raise ArgumentError(msg)
    known = {"price", "promotion", "in_stock", "static", "past", "future"}
    for role in roles:
        if role not in known:
            msg = f"unknown column role {role!r}; the roles are {', '.join(sorted(known))}.{nearest(role, known)}"
            raise ArgumentError(msg)
    single = tuple(name for role in ("price", "promotion", "in_stock") for name in _named(roles, role, single=True))
    averaged = single + _named(roles, "future")
    columns = Columns(*names, averaged, _named(roles, "past"), _named(roles, "static"))
    used = [*names, *columns.averaged, *columns.summed, *columns.static]
    for name in used:
        if used.count(name) > 1:
            msg = f"column {name!r} is given two roles; give it one"
            raise ArgumentError(msg)
    return columns


def _named(roles: Roles, role: str, *, single: bool = False) -> tuple[str, ...]:
    """The columns of one role."""
    given: Any = roles.get(role)
    several = () if given is None else (given,) if isinstance(given, str) or not isinstance(given, Sequence) else given
    if not all(isinstance(name, str) for name in several) or (single and not isinstance(given, str | None)):
        msg = f"role {role} must be {'one column name' if single else 'column names'}, got {given!r}"
        raise ArgumentError(msg)
    return tuple(several)


def _checked(
    tables: list[Table], columns: Columns, where: str, words: set[str], freq: str | None
) -> tuple[pl.DataFrame, list[str]]:
    """One table with columns id (Enum), time (Datetime), target and covariates (Float64), checked row by row, in order.

    Those of `words`, the values of texts, stay Boolean: there may be many. A series has several rows at one time only
    where they are lines of a till or of orders, to be summed into the periods of `freq`; a note says how many.

    From here on covariates go by marked names, so that one called "id" or "period" does no harm.
    """
    if not any(table.frame.height for table in tables):
        msg = f"{where}the table has no rows"
        raise DataError(msg)
    numbers = (*columns.averaged, *columns.summed)
    parts = [
        pl.DataFrame(
            [
                plain_ids(frame[columns.key], at).alias("id"),
                plain_times(frame[columns.time], at).alias("time"),
                plain_numbers(frame[columns.target], at, semicolons=semicolons).alias("target"),
                *[
                    (
                        frame[name]
                        if name in words and frame[name].dtype == pl.Boolean
                        else plain_numbers(frame[name], at, semicolons=semicolons)
                    ).alias(covariate(name))
                    for name in numbers
                ],
                *[_plain_static(frame[name], at).alias(covariate(name)) for name in columns.static],
            ]
        )
        for frame, at, _, semicolons, _ in tables
    ]
    for name in columns.static:
        if len({part[covariate(name)].dtype for part in parts}) > 1:
            msg = f"{where}static column {name!r} is text in one file and a number in another; store it alike"
            raise DataError(msg)
    checked = pl.concat(parts)
    # Whatever groups or sorts by series is many times faster on ordered codes than on text.
    checked = checked.with_columns(pl.col("id").cast(pl.Enum(checked["id"].unique().sort())))
    if checked["target"].null_count() == checked.height:
        msg = f"{where}column {columns.target!r} holds no value at all"
        raise DataError(msg)
    ordered = in_order(checked)
    return ordered, _lines(checked, tables, where, freq) if repeats(ordered, "time") else []


def _lines(checked: pl.DataFrame, tables: list[Table], where: str, freq: str | None) -> list[str]:
    """A note on rows of a series at one time, which may be stored twice; refused where they are no lines."""
    repeated = checked.select("id", "time").is_duplicated()
    note = f"{repeated.sum()} rows share their series and time with others, and are summed with them"
    if are_lines(checked["time"], freq):
        return [note]
    copies = repeated & _copies(tables)
    if not are_dated_lines(repeated, copies, freq):
        _refuse_repeats(checked, tables, where)
    told = f"; {copies.sum()} of them equal another in every column: if they are stored twice, remove them"
    return [note + told * bool(copies.any())]


def _copies(tables: list[Table]) -> pl.Series:
    """Rows that equal another of the table in every column, those that are not read too."""
    plain = [table.frame.select(~(cs.nested() | cs.object())) for table in tables]
    return pl.concat([frame.hash_rows() for frame in plain]).is_duplicated()


def _refuse_repeats(checked: pl.DataFrame, tables: list[Table], where: str) -> None:
    row = first_row(checked.select("id", "time").is_duplicated()) - 1
    key, time = checked["id"][row], checked["time"][row]
    rows = (checked["id"].eq(key) & checked["time"].eq(time)).arg_true().to_list()
    msg = (
        f"{where}series {key!r} has {len(rows)} rows for {time} ({place_of(tables, rows[0])} and "
        f"{place_of(tables, rows[1])}); keep one row per series and time, or sum them first"
    )
    raise DataError(msg)


def _plain_static(column: pl.Series, where: str) -> pl.Series:
    """Numbers or text."""
    if column.dtype.is_nested() or column.dtype.is_temporal() or column.dtype in (pl.Binary, pl.Object):
        msg = f"{where}static column {column.name!r} holds {column.dtype}; give text or numbers"
        raise DataError(msg)
    return plain_numbers(column, where) if column.dtype.is_numeric() else column.cast(pl.String)


def _closed(told: Int64[np.ndarray, " told"], frequency: Frequency) -> Int64[np.ndarray, " closed"]:
    """The days, or shorter steps, of those weekdays, or steps of the week, at which no series ever has a row."""
    week = frequency.week
    if told[-1] - told[0] > 1_000_000 + 1000 * len(told):  # a mistyped year, see `_refuse_sparse`
        return told[:0]
    span = np.arange(told[0], told[-1] + 1)
    return span[~np.isin(span % week, told % week)] if len(span) >= _WEEKS * week else span[:0]


def _shut(closed: Int64[np.ndarray, " closed"], frequency: Frequency) -> list[str]:
    """A note on weekdays, or shorter steps of the week, that are forecast though nothing is known of them."""
    if not len(closed):
        return []
    if frequency.intraday:
        what = f"{len(np.unique(closed % frequency.week))} {frequency.step}s of the week"
    else:
        days = frequency.labels(closed).astype("datetime64[D]").astype(np.int64) + 3  # from a Monday on
        what = " or ".join(DAY_NAMES[day] for day in np.unique(days % 7))
    return [f"no row falls on {what}: not observed, yet forecast; where nothing is sold then, read with gaps 'zero'"]


def _arrays(
    frame: pl.DataFrame, columns: Columns, *, zeros: Int64[np.ndarray, " period"] | None, where: str
) -> dict[str, Any]:
    """Ragged arrays of a frame with columns id, period, target and covariates.

    Args:
        frame: sorted by id and period.
        columns: by role.
        zeros: periods in which a step without a row is zero; None for none.
        where: words that name the table in errors.
    """
    runs = frame.select(pl.col("id").rle()).unnest("id")
    ids, count = runs["value"].cast(pl.String).to_numpy(), runs["len"].to_numpy().astype(np.int64)
    first_row = np.cumsum(count) - count
    period = frame["period"].to_numpy().astype(np.int64)
    target = frame["target"].to_numpy().astype(np.float64)
    _refuse_huge(target, ids, count, where)
    last_observed = int(period[np.isfinite(target)].max())
    start, last = period[first_row], period[first_row + count - 1]
    if zeros is not None:  # a table of sales is as long as the panel, and a product's life begins with its first row
        last = np.maximum(last, last_observed)
    lengths = last - start + 1
    _refuse_sparse(ids, lengths, count, where)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    place = np.repeat(indptr[:-1] - start, count) + period

    def spread(values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        out = np.full(indptr[-1], fill, dtype=np.float32)
        out[place] = values
        return out

    demand = spread(target)
    if zeros is not None:
        when = np.repeat(start - indptr[:-1], lengths) + np.arange(indptr[-1])
        absent = np.ones(indptr[-1], dtype=bool)
        absent[place] = False
        demand[absent & np.isin(when, zeros) & (when <= last_observed)] = 0.0
    numeric = {name: spread(frame[covariate(name)].to_numpy()) for name in (*columns.averaged, *columns.summed)}
    return {
        "ids": [str(key) for key in ids],
        "start": start,
        "indptr": indptr,
        "history": np.clip(last_observed + 1 - start, 0, lengths),
        "target": demand,
        "numeric": numeric,
        "notes": _far([str(key) for key in ids], lengths, count),
    }


def _odd_ids(ids: list[str]) -> list[str]:
    """Notes on a series that may be the sum of the others, and on series that a blank alone makes two."""
    names = pl.Series("id", ids, dtype=pl.String)
    words = names.str.to_lowercase().str.replace_all("-", " ", literal=True).str.strip_chars(" :")
    total = names.filter(words.is_in(_TOTALS)) if len(ids) > 1 else []
    notes = [
        f"series {name!r} may be a sum of others, and counts as one more; if so, remove its rows" for name in total
    ]
    plain = names.str.strip_chars().str.replace_all(r"\s+", " ")
    twins = names.filter(plain.is_duplicated())
    if len(twins):
        same = names.filter(plain == plain.filter(plain.is_duplicated())[0])
        notes.append(
            f"{len(twins)} of {len(ids)} series ({same[0]!r} and {same[1]!r}, ...) differ by blanks alone, and count "
            "as different ones; write them alike"
        )
    return notes


def _ended(fields: dict[str, Any], frequency: Frequency) -> list[str]:
    """A note on the series whose history ends before the others': their forecasts begin there, not today."""
    end, begun = fields["start"] + fields["history"], fields["history"] > 0
    last = int(end[begun].max())
    early = np.flatnonzero(begun & (end < last))
    if not len(early):
        return []
    date = frequency.written(frequency.labels(np.array([last - 1])))[0]
    return [
        f"{len(early)} of {len(end)} series ({fields['ids'][early[0]]!r}, ...) end before {date} and are forecast from "
        "their own ends on"
    ]


def _weeks(own: Frequency) -> list[str]:
    """A note on which days the weeks of a weekly table hold, for its dates alone do not tell."""
    if own.unit != "W":
        return []
    day = DAY_NAMES[(own.offset + 3) % 7]
    return [f"weeks are taken to {'begin' if own.phase else 'end'} on the {day} that dates them, to place the holidays"]


def _far(ids: Sequence[str], lengths: np.ndarray, count: np.ndarray) -> list[str]:
    """A note on series whose dates span far more than their rows and the others' fill: a date may be mistyped."""
    far = np.flatnonzero((lengths > _FAR * np.median(lengths)) & (lengths > _FAR * count))
    if not len(far):
        return []
    row = far[int(lengths[far].argmax())]
    return [
        f"series {ids[row]!r} has {count[row]} rows over {lengths[row]} periods, far more than others; check its dates"
    ]


def _refuse_huge(target: np.ndarray, ids: np.ndarray, count: np.ndarray, where: str) -> None:
    """Means, squares and forecasts of such demand overflow float32, and with them a network that learns of it."""
    huge = np.abs(target) > _LARGEST
    if huge.any():
        row = int(np.argmax(huge))
        name = ids[np.searchsorted(np.cumsum(count), row, side="right")]
        msg = f"{where}demand of series {name!r} is {target[row]:g}, beyond {_LARGEST:g}; give it in a larger unit"
        raise DataError(msg)


def _refuse_sparse(ids: np.ndarray, lengths: np.ndarray, count: np.ndarray, where: str) -> None:
    """A mistyped year must not ask for a gigabyte."""
    if int(lengths.sum()) > 1_000_000 + 1000 * int(count.sum()):
        worst = int(np.argmax(lengths - count))
        msg = f"{where}series {ids[worst]!r} has {count[worst]} rows over {lengths[worst]} periods; check its dates"
        raise DataError(msg)


def _static(frame: pl.DataFrame, columns: Columns, where: str, *, text: bool) -> dict[str, np.ndarray]:
    """One value per series, in the order of the ids; numbers in CSV files where every value is one."""
    result = {}
    codes = frame["id"].to_physical().to_numpy()
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    for name in columns.static:
        column = frame[covariate(name)]
        lengths = column.rle().struct.field("len").to_numpy().astype(np.int64)
        rows = np.union1d(begins, np.cumsum(lengths) - lengths)  # most values repeat the one above, and tell nothing
        column, first = column.gather(rows), np.searchsorted(rows, begins)
        values = column.cast(pl.Categorical).to_physical() if column.dtype == pl.String else column
        values = values.cast(pl.Float64).to_numpy()
        varying = np.flatnonzero(np.fmin.reduceat(values, first) < np.fmax.reduceat(values, first))
        if len(varying):
            several = frame.filter(pl.col("id").to_physical() == codes[begins[varying[0]]])
            odd = several[covariate(name)].drop_nulls().unique(maintain_order=True)
            msg = (
                f"{where}static column {name!r} has {odd[0]!r} and {odd[1]!r} in series {several['id'][0]!r}; "
                "give it one value per series, or another role"
            )
            raise DataError(msg)
        known = np.minimum.reduceat(np.where(np.isfinite(values), np.arange(len(values)), len(values)), first)
        one = column.extend_constant(None, 1)[known]
        if text and one.is_not_null().any() and one.str.contains(_NUMBER).all():
            one = plain_numbers(one.alias(name), where)
        result[name] = one.cast(pl.Float32 if one.dtype.is_numeric() else pl.String).to_numpy()
    return result


def _sold_out(fields: Mapping[str, Any]) -> list[str]:
    """What is left of demand where it was sold out is no fair sample of it."""
    if fields["in_stock"] is None:
        return []
    target = fields["target"][~fields["in_stock"]]
    count = int(np.isfinite(target).sum())
    if not count:
        return []
    if not (target > 0).any():
        return [f"{count} steps out of stock, in which nothing was sold, are left out."]
    return [
        f"{count} steps out of stock are left out. Where high demand is what empties shelves, forecasts lie "
        "below demand; --sold-out estimated takes an estimate of what could have been sold."
    ]


def _below_zero(fields: Mapping[str, Any]) -> list[str]:
    steps = np.flatnonzero(fields["target"] < 0)
    if not len(steps):
        return []
    rows = np.unique(np.searchsorted(fields["indptr"], steps, side="right") - 1)
    return [
        f"{len(steps)} steps of {len(rows)} series ({fields['ids'][rows[0]]!r}{', ...' if len(rows) > 1 else ''}) are "
        "below zero, as more was returned than sold: forecasts of these series may be too."
    ]


def _assign_roles(fields: dict[str, Any], roles: Roles, texts: dict[str, tuple[str, ...]], *, planned: bool) -> None:
    """Sorts the numeric covariates into past, future and in_stock; those of `texts` by the columns of their values.

    Prices, and promotions in numbers, hold until the next is known. They are known ahead only when the table has rows
    after the last demand: a price that was computed from sales exists only because something sold, so a backtest must
    not see it.
    """
    numeric: dict[str, np.ndarray] = fields.pop("numeric")
    words = {part for name, parts in texts.items() for part in parts if part != name}
    numeric |= {part: np.nan_to_num(numeric[part]) for part in words}  # no row, no event

    def columns(role: str) -> list[str]:
        return [part for name in _named(roles, role) for part in texts.get(name, (name,))]

    offset = np.arange(len(fields["target"])) - np.repeat(fields["indptr"][:-1], np.diff(fields["indptr"]))
    ahead = offset >= np.repeat(fields["history"], np.diff(fields["indptr"]))
    for name in (*columns("promotion"), *columns("future")):
        if is_flag(numeric[name]):  # what a plan leaves open is off, as where no row tells of it
            numeric[name] = np.where(ahead & np.isnan(numeric[name]), np.float32(0), numeric[name])
    fields["future"] = {name: numeric[name] for name in columns("future")}
    fields["past"] = {name: numeric[name] for name in columns("past")}
    planned = planned and bool((np.diff(fields["indptr"]) > fields["history"]).any())
    fields["price"] = roles.get("price")
    for name in (*columns("price"), *columns("promotion")):
        column = numeric[name] if name in words else hold(numeric[name], fields["indptr"])
        fields["future" if planned else "past"][name] = column
    stock = roles.get("in_stock")
    # Partly out of stock is out of stock: the step's sales understate demand. Unknown counts as in stock.
    fields["in_stock"] = None if stock is None else np.nan_to_num(numeric[stock], nan=1.0) >= 1.0


def hold(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Each gap filled with the last value before it in the same series."""
    known = np.isfinite(values)
    index = np.where(known, np.arange(len(values)), -1)
    last = np.maximum.accumulate(index) if len(index) else index
    first = np.repeat(indptr[:-1], np.diff(indptr))
    return np.where(last >= first, values[np.maximum(last, 0)], np.float32(np.nan)).astype(np.float32)
