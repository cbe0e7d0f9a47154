# SPDX-License-Identifier: Apache-2.0
"""From a stranger's table to the arrays of a `Panel`; whatever is wrong with it is said in one sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from sirdar.errors import ArgumentError, DataError, nearest
from sirdar.forecasting.dating import infer_frequency, resample
from sirdar.forecasting.panel import Roles

_SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv"}
_TIME_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m")
_LONGEST_FLOAT32 = float(np.finfo(np.float32).max)
_NO_NUMBERS = (pl.Boolean, pl.Date, pl.Datetime, pl.Time, pl.Duration, pl.Binary, pl.Object)


class Columns(NamedTuple):
    """The table's columns by role."""

    key: str
    time: str
    target: str
    averaged: tuple[str, ...]  # price, promotion, in_stock, future
    summed: tuple[str, ...]  # past
    static: tuple[str, ...]


def read_panel(
    source: Any, names: tuple[str, str, str], *, freq: str | None, gaps: str, roles: Roles
) -> dict[str, Any]:
    """The fields of a `Panel`."""
    if gaps not in {"missing", "zero"}:
        msg = f"gaps must be 'missing' or 'zero', got {gaps!r}"
        raise ArgumentError(msg)
    columns = _columns(names, roles)
    frame, where, native = _load(source)
    frame = _checked(frame, columns, where)
    frequency = infer_frequency(frame, where, freq, regular=gaps == "missing")
    frame, notes = resample(frame, frequency, columns.averaged, columns.summed, roles.get("price"))
    fields = _arrays(frame, columns, zero=gaps == "zero", where=where)
    fields["static"] = _static(frame, columns, where)
    _assign_roles(fields, roles)
    return fields | {"frequency": frequency, "notes": tuple(notes), "native": native}


def _columns(names: tuple[str, str, str], roles: Roles) -> Columns:
    known = {"price", "promotion", "in_stock", "static", "past", "future"}
    for role in roles:
        if role not in known:
            msg = f"unknown column role {role!r}; the roles are {', '.join(sorted(known))}.{nearest(role, known)}"
            raise ArgumentError(msg)
    single = tuple(str(roles[role]) for role in ("price", "promotion", "in_stock") if roles.get(role))
    several = {}
    for role in ("static", "past", "future"):
        given = roles.get(role) or ()
        several[role] = (given,) if isinstance(given, str) else tuple(given)
    columns = Columns(*names, single + several["future"], several["past"], several["static"])
    used = [*names, *columns.averaged, *columns.summed, *columns.static]
    for name in used:
        if used.count(name) > 1:
            msg = f"column {name!r} is given two roles; give it one"
            raise ArgumentError(msg)
    return columns


def _load(source: Any) -> tuple[pl.DataFrame, str, Any]:
    """The table, the words that name it in errors, and the narwhals backend to answer in."""
    if isinstance(source, str | Path):
        path = Path(source)
        return load_table(path), f"{path}: ", None
    import narwhals as nw  # only frames need it

    try:
        wrapped = nw.from_native(source, eager_only=False)
    except TypeError:
        msg = f"expected a path or a frame (polars, pandas, Arrow), got {type(source).__name__}"
        raise DataError(msg) from None
    eager = wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped
    try:
        return eager.to_polars(), "", eager.implementation
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        msg = f"the frame cannot be read as columns of plain values: {_first_line(error)}"
        raise DataError(msg) from error


def load_table(path: Path) -> pl.DataFrame:
    """A Parquet or CSV file, or a folder of them; CSV columns are text."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            msg = f"{path}: the folder holds no .parquet or .csv file"
            raise DataError(msg)
        frames = [_load_file(file) for file in files]
        for file, frame in zip(files, frames, strict=True):
            if frame.columns != frames[0].columns:
                msg = f"{file}: its columns {frame.columns} differ from those of {files[0].name}, {frames[0].columns}"
                raise DataError(msg)
        return pl.concat(frames, how="vertical_relaxed")
    if not path.exists():
        msg = f"{path}: no such file or folder"
        raise DataError(msg)
    return _load_file(path)


def _load_file(path: Path) -> pl.DataFrame:
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        msg = f"{path}: expected a .parquet or .csv file or a folder of them, got {path.suffix or 'no suffix'!r}"
        raise DataError(msg)
    try:
        if path.stat().st_size == 0:
            msg = f"{path}: the file is empty"
            raise DataError(msg)
        if kind == "parquet":
            return pl.read_parquet(path)
        # As text first: ids keep their leading zeros, and a bad number is reported with its row.
        return pl.read_csv(path, infer_schema=False, separator=_separator(path))
    except UnicodeDecodeError as error:
        msg = f"{path}: the text is not UTF-8; save the table as UTF-8 CSV or Parquet"
        raise DataError(msg) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        msg = f"{path}: not a readable {kind} file (truncated or damaged?): {_first_line(error)}"
        raise DataError(msg) from error


def _separator(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    return max(",;\t|", key=header.count)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _checked(frame: pl.DataFrame, columns: Columns, where: str) -> pl.DataFrame:
    """The table with columns id (text), time (Datetime), target and covariates (Float64), checked row by row."""
    wanted = [columns.key, columns.time, columns.target, *columns.averaged, *columns.summed, *columns.static]
    for name in wanted:
        if name not in frame.columns:
            msg = (
                f"{where}no column {name!r}; the columns are {', '.join(frame.columns)}.{nearest(name, frame.columns)}"
            )
            raise DataError(msg)
    if frame.height == 0:
        msg = f"{where}the table has no rows"
        raise DataError(msg)
    frame = frame.select(wanted)
    numbers = (columns.target, *columns.averaged, *columns.summed)
    checked = frame.select(
        plain_ids(frame[columns.key], where).alias("id"),
        _times(frame[columns.time], where).alias("time"),
        *[plain_numbers(frame[name], where).alias("target" if name == columns.target else name) for name in numbers],
        *[frame[name] for name in columns.static],
    )
    if checked["target"].null_count() == checked.height:
        msg = f"{where}column {columns.target!r} holds no value at all"
        raise DataError(msg)
    twice = checked.select("id", "time").is_duplicated()
    if twice.any():
        row = int(twice.arg_true()[0])
        key, time = checked["id"][row], checked["time"][row]
        first = checked.select(((pl.col("id") == key) & (pl.col("time") == time)).arg_true()).to_series().to_list()
        msg = (
            f"{where}series {key!r} has {len(first)} rows for {time} (rows {first[0] + 1} and {first[1] + 1}); "
            "keep one row per series and time, or sum them first"
        )
        raise DataError(msg)
    return checked


def plain_ids(column: pl.Series, where: str) -> pl.Series:
    """Series ids as text, all there."""
    if column.dtype.is_nested() or column.dtype in {pl.Binary, pl.Object}:
        msg = f"{where}column {column.name!r} holds {column.dtype}; series ids must be text or whole numbers"
        raise DataError(msg)
    if column.null_count():
        msg = (
            f"{where}column {column.name!r} has no value in row {_first(column.is_null())}; every row needs a series id"
        )
        raise DataError(msg)
    return column.cast(pl.String)


def _times(column: pl.Series, where: str) -> pl.Series:
    if column.null_count():
        msg = f"{where}column {column.name!r} has no value in row {_first(column.is_null())}; every row needs a date"
        raise DataError(msg)
    if column.dtype == pl.Date or column.dtype == pl.Datetime:
        plain = column.dt.replace_time_zone(None) if column.dtype == pl.Datetime else column
        return plain.cast(pl.Datetime("us"), strict=False)
    if column.dtype == pl.Categorical or column.dtype == pl.Enum:
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        msg = f"{where}column {column.name!r} holds {column.dtype}, not dates; write them as YYYY-MM-DD"
        raise DataError(msg)
    text = column.str.strip_chars()
    parsed = pl.Series([None] * len(text), dtype=pl.Datetime("us"))
    for pattern in _TIME_FORMATS:
        parsed = parsed.fill_null(text.str.to_datetime(pattern, time_unit="us", strict=False))
    if parsed.null_count():
        row = _first(parsed.is_null())
        msg = f"{where}column {column.name!r}, row {row}: {text[row - 1]!r} is not a date; write dates as YYYY-MM-DD"
        raise DataError(msg)
    return parsed


def plain_numbers(column: pl.Series, where: str) -> pl.Series:
    """A column as finite numbers, null where there is none."""
    if column.dtype == pl.Null:
        return column.cast(pl.Float64)
    if column.dtype == pl.Categorical or column.dtype == pl.Enum:
        column = column.cast(pl.String)
    if column.dtype.is_nested() or (column.dtype in _NO_NUMBERS and column.dtype != pl.Boolean):
        msg = f"{where}column {column.name!r} holds {column.dtype}, not numbers"
        raise DataError(msg)
    if column.dtype == pl.String:
        text = column.str.strip_chars().replace(["", "NA", "NaN", "nan", "null"], None)
        flags = text.str.to_lowercase().replace_strict(
            {"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64
        )
        values = text.cast(pl.Float64, strict=False).fill_null(flags)
        bad = values.is_null() & text.is_not_null()
        if bad.any():
            msg = f"{where}column {column.name!r}, row {_first(bad)}: {text[_first(bad) - 1]!r} is not a number"
            raise DataError(msg)
    else:
        values = column.cast(pl.Float64, strict=False)
    too_large = (values.abs() > _LONGEST_FLOAT32).fill_null(value=False) & values.is_not_nan()
    if too_large.any():
        row = _first(too_large)
        msg = f"{where}column {column.name!r}, row {row}: {values[row - 1]:g} is infinite or too large; give a finite number"
        raise DataError(msg)
    return values.fill_nan(None)


def _first(flags: pl.Series) -> int:
    """The first flagged row, counted from 1 as people do."""
    return int(flags.arg_true()[0]) + 1


def _arrays(frame: pl.DataFrame, columns: Columns, *, zero: bool, where: str) -> dict[str, Any]:
    """Ragged arrays of a frame with columns id, period, target and covariates."""
    frame = frame.sort("id", "period")
    ids, first_row, count = np.unique(frame["id"].to_numpy(), return_index=True, return_counts=True)
    period = frame["period"].to_numpy().astype(np.int64)
    target = frame["target"].to_numpy().astype(np.float64)
    last_observed = int(period[np.isfinite(target)].max())
    start, last = period[first_row], period[first_row + count - 1]
    if zero:  # a table of sales is as long as the panel, and a product's life begins with its first row
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
    if zero:
        when = np.repeat(start - indptr[:-1], lengths) + np.arange(indptr[-1])
        absent = np.ones(indptr[-1], dtype=bool)
        absent[place] = False
        open_periods = np.isin(when, np.unique(period)) & (when <= last_observed)
        demand[absent & open_periods] = 0.0
    numeric = {name: spread(frame[name].to_numpy().astype(np.float64)) for name in (*columns.averaged, *columns.summed)}
    return {
        "ids": [str(key) for key in ids],
        "start": start,
        "indptr": indptr,
        "history": np.clip(last_observed + 1 - start, 0, lengths),
        "target": demand,
        "numeric": numeric,
    }


def _refuse_sparse(ids: np.ndarray, lengths: np.ndarray, count: np.ndarray, where: str) -> None:
    """A mistyped year must not ask for a gigabyte."""
    if int(lengths.sum()) > 1_000_000 + 1000 * int(count.sum()):
        worst = int(np.argmax(lengths - count))
        msg = f"{where}series {ids[worst]!r} has {count[worst]} rows over {lengths[worst]} periods; check its dates"
        raise DataError(msg)


def _static(frame: pl.DataFrame, columns: Columns, where: str) -> dict[str, np.ndarray]:
    """One value per series, in the order of the sorted ids."""
    result = {}
    for name in columns.static:
        if frame[name].dtype.is_nested() or frame[name].dtype in {pl.Binary, pl.Object}:
            msg = f"{where}static column {name!r} holds {frame[name].dtype}; give text or numbers"
            raise DataError(msg)
        several = frame.group_by("id").agg(pl.col(name).drop_nulls().unique(maintain_order=True)).sort("id")
        varying = several.filter(pl.col(name).list.len() > 1)
        if varying.height:
            values = varying[name][0].to_list()
            msg = f"{where}static column {name!r} has {values[0]!r} and {values[1]!r} in series {varying['id'][0]!r}"
            raise DataError(msg)
        one = several[name].list.first()
        number = one.dtype.is_numeric()
        result[name] = one.cast(pl.Float32 if number else pl.String).to_numpy()
    return result


def _assign_roles(fields: dict[str, Any], roles: Roles) -> None:
    """Sorts the numeric covariates into past, future and in_stock.

    Prices and promotions hold until the next is known. They are known ahead only when the table has rows after the last
    demand: a price that was computed from sales exists only because something sold, so a backtest must not see it.
    """
    numeric: dict[str, np.ndarray] = fields.pop("numeric")
    known: Sequence[str] = roles.get("future") or ()
    past: Sequence[str] = roles.get("past") or ()
    fields["future"] = {name: numeric[name] for name in ([known] if isinstance(known, str) else known)}
    fields["past"] = {name: numeric[name] for name in ([past] if isinstance(past, str) else past)}
    planned = bool((np.diff(fields["indptr"]) > fields["history"]).any())
    fields["price"] = roles.get("price")
    for name in (roles.get("price"), roles.get("promotion")):
        if name:
            fields["future" if planned else "past"][name] = hold(numeric[name], fields["indptr"])
    stock = roles.get("in_stock")
    # Partly out of stock is out of stock: the step's sales understate demand. Unknown counts as in stock.
    fields["in_stock"] = None if not stock else np.nan_to_num(numeric[stock], nan=1.0) >= 1.0


def hold(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Each gap filled with the last value before it in the same series."""
    known = np.isfinite(values)
    index = np.where(known, np.arange(len(values)), -1)
    last = np.maximum.accumulate(index) if len(index) else index
    first = np.repeat(indptr[:-1], np.diff(indptr))
    return np.where(last >= first, values[np.maximum(last, 0)], np.float32(np.nan)).astype(np.float32)
