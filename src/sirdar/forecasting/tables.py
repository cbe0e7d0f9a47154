# SPDX-License-Identifier: Apache-2.0
"""A stranger's files and frames as polars tables, and their columns as ids, times and numbers."""

import gzip
import re
import zlib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from sirdar.errors import DataError, nearest
from sirdar.predictive.native import Native, native_of

_SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv"}
_MAGIC, _GZIP = b"PAR1", b"\x1f\x8b"
_TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m",
    "%d.%m.%Y",  # with points no country writes the month first
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d-%b-%Y",
    "%d %b %Y",
)
_DAY = r"^\d{4}-\d\d-\d\d$"
_SLASHED = r"^(\d{4})/(\d\d?)/(\d\d?)"  # with the year first, no country writes the day before the month
_CLOCK_OFFSET = r"(:\d\d(?:\.\d+)?) ?(?:UTC|[+-]\d\d(?::?\d\d)?)$"  # behind a time of day
_SPAN = r"^\d{4}-\d\d-\d\d/(\d{4}-\d\d-\d\d)$"  # a week of pandas, dated by its last day
_PERIODS = (  # their form, and a day of theirs, with its format: the first where nothing else is said
    (r"^(\d{4})-?W(\d\d)$", "$1-W$2-1", "%G-W%V-%u"),  # a week of ISO 8601, which begins on a Monday
    (_SPAN, "$1", "%Y-%m-%d"),
    *((rf"^(\d{{4}})[- ]?[Qq]{place + 1}$", f"${{1}}-{3 * place + 1:02}-01", "%Y-%m-%d") for place in range(4)),
)
_COMPACT = {8: "", 6: "01", 4: "0101"}  # digits of a day, a month or a year, and what makes them a day
_COMPACT_YEARS = (1900, 2100)  # others are more likely to be numbers than dates
_LONG_YEAR = r"[. -]\d{4}(\s|$)"
_SHORT_YEARS = (  # their form, and the format of a day of theirs, which is put before a month
    (r"^\d{1,2}\.\d{1,2}\.\d\d$", "", "%d.%m.%y"),
    (r"^\d{1,2}[- ][A-Za-z]{3}[- ]\d\d$", "", "%d %b %y"),
    (r"^[A-Za-z]{3}[- ]\d\d$", "1 ", "%d %b %y"),
    (r"^[A-Za-z]{3}[- ]\d{4}$", "1 ", "%d %b %Y"),
)
_MOST_YEARS = 25  # in a table that writes two digits of them
_SERIAL = r"^[34]\d{4}(\.\d+)?$"  # days from 1900 on, of 1982 to 2036
_WITH_COMMA, _LIKE_THOUSANDS = r"^-?\d+,\d+$", r"^-?\d{1,3},\d{3}$"
_YEARS = (1678, 2261)  # what every kind of frame can hold
_SECONDS = np.array([f"{_YEARS[0]}-01-01", f"{_YEARS[1] + 1}-01-01"], dtype="datetime64[s]").astype(np.int64)
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_LONGEST_FLOAT32 = float(np.finfo(np.float32).max)
_NO_NUMBERS = (pl.Date, pl.Datetime, pl.Time, pl.Duration, pl.Binary, pl.Object)
_NO_IDS = (pl.Binary, pl.Object)
_LIKE_A_NUMBER = r"^\W*\d[\d.,\s]*\W*$"  # "1,5" or "10 %", which is better refused than taken as a word
_WITH_POINTS = r"^-?[1-9]\d{0,2}(\.\d{3})+$"  # 1.008 is a thousand and eight where commas are decimal
_NOT_UTF8 = "the text is not UTF-8; save the table as UTF-8 CSV or Parquet"
_SHOWN = 20  # column names in a message
_UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zlib.error,
)


class Table(NamedTuple):
    """One file of a table, or the caller's frame."""

    frame: pl.DataFrame
    where: str  # the words that name it in errors
    text: bool  # a CSV file, whose columns are all text
    semicolons: bool = False  # such as programs write where a comma is decimal and a point groups thousands
    spans: bool = False  # its times were periods of pandas, of which weeks are dated by their last day


def read_tables(source: Any, key: str, time: str) -> tuple[list[Table], str, Native | None]:  # noqa: ANN401 - any frame
    """The parts of a table, the words that name the whole in errors, and how to answer a caller who gave a frame.

    Columns `key` and `time` name the series and date the steps.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return _files(path), f"{path}: ", None
    import narwhals as nw  # only frames need it

    pyarrow = nw.dependencies.get_pyarrow()
    if pyarrow is not None and isinstance(source, pyarrow.RecordBatch):
        source = pyarrow.Table.from_batches([source])
    try:
        wrapped = nw.from_native(source, eager_only=False)
    except nw.exceptions.DuplicateError:
        _refuse_twins([str(name) for name in source.columns], "")
        raise
    except (TypeError, AttributeError):
        what = type(source).__name__
        way = f"; make it one: {what.lower()}.reset_index()" if nw.dependencies.is_pandas_series(source) else ""
        msg = f"expected a path or a frame (polars, pandas, Arrow), got {what}{way}"
        raise DataError(msg) from None
    try:
        periods = None
        if nw.dependencies.is_pandas_dataframe(source):
            plain, periods = _plain_pandas(source, time)
            wrapped = nw.from_native(plain)
        eager = wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped
        frame = eager.to_polars()
        native = native_of(eager, time, _known_ids(eager, frame, key), periods or _written(eager, frame, time))
        return [Table(frame, "", text=False, spans=str(periods).startswith("period[W"))], "", native
    except _UNREADABLE as error:
        msg = f"the frame cannot be read as columns of plain values: {_first_line(error)}"
        raise DataError(msg) from error


def _plain_pandas(frame: Any, time: str) -> tuple[Any, Any]:  # noqa: ANN401 - pandas may be absent
    """The frame with the named levels of its index as columns, and with timestamps for periods.

    They are those at which a period begins, of a week that of its last day. It shares the values of the caller's. Then
    the type of the column `time`, where it held periods; else None.
    """
    names = list(frame.index.names)
    if names == [None] and time not in frame.columns and str(frame.index.dtype).startswith(("datetime64", "period[")):
        msg = f"no column {time!r}, but an index of dates without a name; name it: frame.rename_axis({time!r})"
        raise DataError(msg)
    levels = [name for name in names if name is not None and name not in frame.columns and names.count(name) == 1]
    plain = frame.copy(deep=False)
    for name in levels:
        plain[name] = frame.index.get_level_values(name)
    periods = {name: kind for name, kind in plain.dtypes.items() if str(kind).startswith("period[")}
    for name, kind in periods.items():
        side = "end" if str(kind).startswith("period[W") else "start"
        plain[name] = plain[name].dt.to_timestamp(how=side).dt.floor("s" if side == "start" else "D")
    return plain, periods.get(time)


def _known_ids(frame: Any, plain: pl.DataFrame, key: str) -> tuple[list[str], Any] | None:  # noqa: ANN401 - of narwhals
    """`Native.ids` of a frame; `plain` is the same of polars."""
    kind = plain.schema.get(key)
    if kind is None or not (kind.is_numeric() or kind in (pl.Boolean, pl.Categorical, pl.Enum)):
        return None
    rows = plain[key].arg_unique()
    return _id_texts(plain[key].gather(rows)).to_list(), frame[key][rows.to_list()].to_native()


def _written(frame: Any, plain: pl.DataFrame, time: str) -> type | None:  # noqa: ANN401 - of narwhals
    """`Native.times` of objects: `str` where all are written like 2024-01-31, `date` for dates; None for others."""
    kind = plain.schema.get(time)
    if kind == pl.String:
        column = plain[time]
        alike = column.head(1).str.contains(_DAY).all() and column.str.len_bytes().max() == len("2024-01-31")
        return str if alike else None
    return date if kind == pl.Date and type(frame.schema[time]).__name__ == "Object" else None


def load_table(path: Path) -> pl.DataFrame:
    """A Parquet or CSV file, or a folder of them; CSV columns are text."""
    try:
        return pl.concat([table.frame for table in _files(path)], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        msg = f"{path}: the types of the columns differ between its files: {_first_line(error)}"
        raise DataError(msg) from error


def _files(path: Path) -> list[Table]:
    try:
        if not path.is_dir():
            if not path.exists():
                msg = f"{path}: no such file or folder"
                raise DataError(msg)
            return [_load_file(path)]
        files = sorted(file for file in path.iterdir() if _kind(file) and file.is_file())
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise DataError(msg) from error
    if not files:
        return [_load_partitions(path)]
    tables = [_load_file(file) for file in files]
    first = tables[0].frame.columns
    for file, table in zip(files, tables, strict=True):
        if set(table.frame.columns) != set(first):
            odd = next(iter(set(table.frame.columns) ^ set(first)))
            msg = f"{file}: column {odd!r} is in only one of it and {files[0].name}; all need the same columns"
            raise DataError(msg)
    return [table._replace(frame=table.frame.select(first)) for table in tables]


def _load_partitions(folder: Path) -> Table:
    """Folders that are called NAME=VALUE, as pandas and Spark write them; what they name is a column of text."""
    try:
        files = sorted(folder.glob("*=*/**/*.parquet"))
        if not files:
            msg = f"{folder}: the folder holds no .parquet or .csv file, nor folders NAME=VALUE of Parquet files"
            raise DataError(msg)
        names = [part.partition("=")[0] for part in files[0].relative_to(folder).parent.parts if "=" in part]
        frame = pl.read_parquet(folder, hive_partitioning=True, hive_schema=dict.fromkeys(names, pl.String))
    except _UNREADABLE as error:
        msg = f"{folder}: not readable as folders NAME=VALUE of Parquet files: {_first_line(error)}"
        raise DataError(msg) from error
    return Table(frame, f"{folder}: ", text=False)


def _kind(path: Path) -> str | None:
    """Parquet or csv by the suffix, which of text may end in .gz; None for others."""
    packed = path.suffix.lower() == ".gz"
    kind = _SUFFIXES.get((path.with_suffix("") if packed else path).suffix.lower())
    return None if packed and kind == "parquet" else kind


def _load_file(path: Path) -> Table:
    kind, separator = _kind(path), ""
    if kind is None:
        msg = f"{path}: expected a .parquet or .csv file or a folder of them, got {path.suffix or 'no suffix'!r}"
        raise DataError(msg)
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
        _refuse_disguise(path, kind, head)
        if kind == "parquet":
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
        else:
            # As text first: ids keep their leading zeros, and a bad number is reported with its row.
            separator = _separator(path)
            frame = pl.read_csv(path, infer_schema=False, separator=separator, glob=False)
            if any("_duplicated_" in name for name in frame.columns):  # which polars calls them then
                head = pl.read_csv(
                    path, infer_schema=False, separator=separator, glob=False, has_header=False, n_rows=1
                )
                _refuse_twins(list(head.row(0)), f"{path}: ")
    except _UNREADABLE as error:
        msg = f"{path}: {_unreadable(error, kind)}"
        raise DataError(msg) from error
    return Table(frame, f"{path}: ", text=kind == "csv", semicolons=separator == ";")


def _unreadable(error: BaseException, kind: str) -> str:
    """What is wrong with a file that a reader gave up, and what to do."""
    if isinstance(error, UnicodeDecodeError) or "invalid utf-8" in str(error):
        return _NOT_UTF8
    if "found more fields" in str(error):
        return "a row has more fields than the header; remove titles above it, quote texts with separators"
    return f"not a readable {kind} file (truncated or damaged?): {_first_line(error)}"


def _refuse_disguise(path: Path, kind: str, head: bytes) -> None:
    """An empty file, or one whose suffix says something else than its first bytes."""
    if not head:
        msg = f"{path}: the file is empty"
        raise DataError(msg)
    if kind == "csv" and head == _MAGIC:
        msg = f"{path}: holds Parquet, not text; rename it to {path.with_suffix('.parquet').name}"
        raise DataError(msg)
    packed = path.suffix.lower() == ".gz"
    if kind == "csv" and head.startswith(_GZIP) != packed:
        what, name = ("text, not gzip", path.stem) if packed else ("gzip, not text", f"{path.name}.gz")
        msg = f"{path}: holds {what}; rename it to {name}"
        raise DataError(msg)
    if kind == "parquet" and head != _MAGIC:
        msg = (
            f"{path}: not Parquet, which begins with PAR1; if it is text, rename it to {path.with_suffix('.csv').name}"
        )
        raise DataError(msg)


def _refuse_twins(names: list[str | None], where: str) -> None:
    """Two columns of one name: which of them is meant cannot be told. Those without any are not asked for."""
    for name in names:
        if name is not None and names.count(name) > 1:
            msg = f"{where}column {name!r} comes {names.count(name)} times; rename or remove all but one"
            raise DataError(msg)


def _separator(path: Path) -> str:
    """Of the first line that is not empty, which is the header; what stands in quotes is a name.

    Raises:
        DataError: it is no text of lines in UTF-8.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = next((line for line in file if line.strip("\r\n")), "")
    if "\0" in header:
        msg = f"{path}: {_NOT_UTF8}"
        raise DataError(msg)
    if header.endswith("\r"):
        msg = f"{path}: its lines end in CR, or CR CR LF; save the table with the line ends of today, LF or CRLF"
        raise DataError(msg)
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t|", key=bare.count)


def _first_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def stripped(table: Table, names: Iterable[str]) -> Table:
    """The table with its columns called without blanks around, where some of `names` is none of them as they are."""
    columns = table.frame.columns
    plain = [column.strip() for column in columns]
    if set(names) <= set(columns) or len(set(plain)) < len(plain):
        return table
    return table._replace(frame=table.frame.rename(dict(zip(columns, plain, strict=True))))


def require_columns(table: Table, names: Iterable[str], key: str | None = None) -> None:
    """Refuses a table that lacks a column, naming those it has and the nearest; `key` names the series."""
    known = table.frame.columns
    for name in names:
        if name not in known:
            listed = ", ".join(" ".join(column.split()) for column in known[:_SHOWN])
            listed += f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
            several = "," in name and all(part.strip() in known for part in name.split(","))
            hint = " Join these into one column first." if several else nearest(name, known)
            if name == key and not hint:
                hint = f" Give id the name of another, or for one series alone add a column {name!r} of one value."
            msg = f"{table.where}no column {name!r}; the columns are {listed}.{hint}"
            raise DataError(msg)


def place_of(tables: list[Table], row: int) -> str:
    """A row of the whole, counted from 0, in the words of its part: "row 3 of sales.csv"."""
    part = 0
    while row >= tables[part].frame.height:
        row -= tables[part].frame.height
        part += 1
    name = Path(tables[part].where.removesuffix(": ")).name
    return f"row {row + 1}" + (f" of {name}" if len(tables) > 1 else "")


def plain_ids(column: pl.Series, where: str) -> pl.Series:
    """Series ids as text, all there."""
    broken = column.dtype.is_float() and bool((column.is_finite() & (column == column.round())).not_().any())
    if column.dtype.is_nested() or column.dtype.is_temporal() or column.dtype in _NO_IDS or broken:
        msg = f"{where}column {column.name!r} holds {column.dtype}; series ids must be text or whole numbers"
        raise DataError(msg)
    text = _id_texts(column)
    empty = text.is_null() | (text == "")
    if empty.any():
        msg = f"{where}column {column.name!r} has no value in row {first_row(empty)}; every row needs a series id"
        raise DataError(msg)
    return text


def _id_texts(column: pl.Series) -> pl.Series:
    whole = column.cast(pl.Int64, strict=False) if column.dtype.is_float() else column
    return whole.cast(pl.String)


def dated_by_end(table: Table, time: str) -> bool:
    """Whether the times are weeks that tell their first and last day, and are dated by the last."""
    column = table.frame[time]
    return table.spans or (column.dtype == pl.String and bool(column.head(1).str.contains(_SPAN).any()))


def plain_times(column: pl.Series, where: str) -> pl.Series:
    """Dates or timestamps as Datetime without a time zone, all there."""
    if column.null_count():
        row = first_row(column.is_null())
        msg = f"{where}column {column.name!r} has no value in row {row}; every row needs a date"
        raise DataError(msg)
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = _parsed(column, where)
    if column.dtype.is_integer():
        days = _compact(column.cast(pl.String))
        column = column if days.null_count() else days
    if column.dtype not in (pl.Date, pl.Datetime):
        msg = f"{where}column {column.name!r} holds {column.dtype}, not dates; write them as YYYY-MM-DD"
        raise DataError(msg)
    _refuse_far(column, where)
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        column = _wall_clock(column, where)
    return column.cast(pl.Datetime("us"))


def _parsed(column: pl.Series, where: str) -> pl.Series:
    text = column.str.strip_chars()
    if 2 * text.to_frame().select(pl.all().approx_n_unique()).item() >= len(text):
        parsed = _dates(text)
    else:  # most dates come in every series, and are read once
        distinct = text.unique(maintain_order=True)
        parsed = text.replace_strict(distinct, _dates(distinct), return_dtype=pl.Datetime("us"))
    if parsed.null_count():
        row = first_row(parsed.is_null())
        serial = re.match(_SERIAL, text[row - 1]) and ", not as Excel's count of days"
        advice = f"write dates as YYYY-MM-DD{serial or ''}"
        msg = f"{where}column {column.name!r}, row {row}: {text[row - 1]!r} is not a date; {advice}"
        raise DataError(msg)
    return parsed


def _dates(text: pl.Series) -> pl.Series:
    """Texts as dates, null where one is none; of times with an offset, what the clocks showed, as in `_wall_clock`."""
    if text.head(1).str.contains(_SLASHED).any():
        text = text.str.replace(_SLASHED, "$1-$2-$3")
    if text.head(1).str.ends_with("Z").any():
        text = text.str.strip_suffix("Z")
    elif text.head(1).str.contains(_CLOCK_OFFSET).any():
        text = text.str.replace(_CLOCK_OFFSET, "$1")
    parsed = pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us"))
    for pattern in _TIME_FORMATS:
        if not parsed.null_count():
            break
        known = text.set(~text.str.contains(_LONG_YEAR), None) if pattern.startswith("%d") else text
        parsed = parsed.fill_null(known.str.to_datetime(pattern, time_unit="us", strict=False))
    for form, day, pattern in _PERIODS if parsed.null_count() else ():
        known = text.set(~text.str.contains(form), None).str.replace(form, day)
        parsed = parsed.fill_null(known.str.to_datetime(pattern, time_unit="us", strict=False))
    if parsed.null_count() == len(text):
        parsed = _short_years(text)
    return parsed.fill_null(_compact(text)) if parsed.null_count() else parsed


def _short_years(text: pl.Series) -> pl.Series:
    """31.01.24, 31-Jan-24, Jan-24 and Jan 2024 as dates, where all are written alike.

    Null where the last two digits may be days: taken as years, these lie far apart, or are many.
    """
    for form, day, pattern in _SHORT_YEARS:
        if text.str.contains(form).all():
            plain = day + text.str.replace_all("-", " ", literal=True)
            parsed = plain.str.to_datetime(pattern, time_unit="us", strict=False)
            months = (parsed.dt.year().cast(pl.Int64) * 12 + parsed.dt.month()).drop_nulls().unique().sort().to_list()
            span = months[-1] - months[0] if months else 0
            days = pattern.endswith("%y") and (span >= 2 * len(months) or span > 12 * _MOST_YEARS)
            return parsed.clear(len(text)) if days else parsed
    return text.clear(len(text)).cast(pl.Datetime("us"))


def _compact(text: pl.Series) -> pl.Series:
    """20240131, 202401 or 2024 as dates, where all are written alike; null where one is none of those years."""
    lengths = text.str.len_chars().unique()
    rest = _COMPACT.get(lengths[0]) if len(lengths) == 1 else None
    days = text.clear(len(text)) if rest is None else text + rest
    parsed = days.str.to_datetime("%Y%m%d", time_unit="us", strict=False)
    return parsed.set(~parsed.dt.year().is_between(*_COMPACT_YEARS), None)


def _refuse_far(column: pl.Series, where: str) -> None:
    """Dates that no calendar of demand has, and that other libraries cannot hold."""
    whole = column.to_physical().cast(pl.Int64)
    unit = column.dtype.time_unit if isinstance(column.dtype, pl.Datetime) else None
    seconds = whole // _PER_SECOND[unit] if unit else whole * 86400
    far = (seconds < _SECONDS[0]) | (seconds >= _SECONDS[1])
    if far.any():
        row = first_row(far)
        date = np.datetime64(int(seconds[row - 1]), "s").astype("datetime64[D]")
        years = f"{_YEARS[0]} to {_YEARS[1]}"
        msg = f"{where}column {column.name!r}, row {row}: {date} lies outside the years {years}; correct it"
        raise DataError(msg)


def _wall_clock(column: pl.Series, where: str) -> pl.Series:
    """Local times without their zone: a day begins at local midnight."""
    local = column.dt.replace_time_zone(None)
    if local.n_unique() < column.n_unique():
        pair = pl.DataFrame({"local": local, "instant": column.to_physical()}).with_row_index("row")
        twice = pair.filter(pl.col("instant").n_unique().over("local") > 1)
        row, time = int(twice["row"][0]) + 1, twice["local"][0]
        msg = (
            f"{where}column {column.name!r}, row {row}: {time} comes twice, as the clocks of "
            f"{getattr(column.dtype, 'time_zone', None)} go back; convert the column to UTC"
        )
        raise DataError(msg)
    return local


def plain_numbers(column: pl.Series, where: str, *, semicolons: bool = False) -> pl.Series:
    """A column as finite numbers, null where there is none; `semicolons` as for a `Table`."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype.is_nested() or column.dtype in _NO_NUMBERS:
        msg = f"{where}column {column.name!r} holds {column.dtype}, not numbers"
        raise DataError(msg)
    text = column.dtype == pl.String
    values = _parsed_numbers(column, where, semicolons=semicolons) if text else column.cast(pl.Float64, strict=False)
    too_large = (values.abs() > _LONGEST_FLOAT32).fill_null(value=False) & values.is_not_nan()
    if too_large.any():
        row = first_row(too_large)
        value = f"{values[row - 1]:g} is infinite or too large"
        msg = f"{where}column {column.name!r}, row {row}: {value}; give a finite number"
        raise DataError(msg)
    return values.fill_nan(None)


def plain_text(column: pl.Series) -> pl.Series | None:
    """A column of words, null where there is none; None when it is of another kind, or a value looks like a number."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        empty = column.null_count() if not column.dtype.is_float() else column.fill_nan(None).null_count()
        return None if empty < len(column) else pl.Series(column.name, [None] * len(column), dtype=pl.String)
    text, values = _numbers(column)
    return None if values.is_not_null().any() or text.str.contains(_LIKE_A_NUMBER).any() else text


def _numbers(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The texts of a column, null where there is none, and those that are numbers, null where it is none."""
    text = column.str.strip_chars().replace(["", "NA", "#N/A", "NaN", "nan", "null"], None)
    flags = text.str.to_lowercase().replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    return text, _pointed(text).cast(pl.Float64, strict=False).fill_null(flags)


def _pointed(text: pl.Series) -> pl.Series:
    """Decimal commas as points, where every number has one or is whole, and no comma need group thousands."""
    comma = text.str.contains(_WITH_COMMA).fill_null(value=False)
    if not comma.any() or text.filter(comma).str.contains(_LIKE_THOUSANDS).all():
        return text
    return text.str.replace(",", ".", literal=True) if not text.str.contains(".", literal=True).any() else text


def _parsed_numbers(column: pl.Series, where: str, *, semicolons: bool) -> pl.Series:
    text, values = _numbers(column)
    bad = values.is_null() & text.is_not_null()
    if bad.any():
        row = first_row(bad)
        advice = "correct it or leave it empty"
        if "," in text[row - 1]:
            advice = "write decimals with a point, and thousands without a comma"
        msg = f"{where}column {column.name!r}, row {row}: {text[row - 1]!r} is not a number; {advice}"
        raise DataError(msg)
    points = text.str.contains(".", literal=True).fill_null(value=False)
    if _like_thousands(text.filter(points), values.filter(~points).abs().max(), semicolons=semicolons):
        row = first_row(points)
        msg = (
            f"{where}column {column.name!r}, row {row}: {text[row - 1]!r} may have a point that groups thousands, as "
            "all points of this column; write its numbers without, or with another number of decimals"
        )
        raise DataError(msg)
    return values


def _like_thousands(pointed: pl.Series, most: object, *, semicolons: bool) -> bool:
    """Whether points group thousands: whole numbers up to a thousand have none, others three digits behind every one.

    More must speak for it: semicolons between the columns; a zero at the end, which decimals beside whole numbers do
    not have; or no gap between the numbers without and with points: 982, 995, 1.008.

    Args:
        pointed: the numbers with a point.
        most: the largest of those without, if any.
        semicolons: as for a `Table`.
    """
    if not isinstance(most, float) or most >= 1000 or not pointed.len() or not pointed.str.contains(_WITH_POINTS).all():
        return False
    least = pointed.str.replace_all(".", "", literal=True).cast(pl.Float64, strict=False).abs().min()
    near = isinstance(least, float) and most >= 100 and least <= 10 * most
    return semicolons or near or bool(pointed.str.ends_with("0").any())


def first_row(flags: pl.Series) -> int:
    """The first flagged row, counted from 1 as people do."""
    return int(flags.arg_true()[0]) + 1
