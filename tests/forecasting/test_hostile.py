# SPDX-License-Identifier: Apache-2.0
"""Whatever table `Panel.read` is given, it answers a valid panel or one sentence."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sirdar.errors import SirdarError
from sirdar.forecasting.panel import Panel

EXAMPLES = int(os.environ.get("SIRDAR_HOSTILE_EXAMPLES", "250"))
NAMES = st.sampled_from(["price", "price", "shop", "id", "time", "target", "period", "", "é\n", "y"])
WEEKS = [f"2024-01-{day:02}" for day in (1, 7, 8, 14, 15, 21, 22, 28)]
DATES = st.one_of(
    st.sampled_from(
        [*WEEKS, "2024-01-01 12:00:00", "2024-01", "0001-01-01", "9999-12-31", "-5", "+12024-01-01", "x", ""]
    ),
    st.dates().map(str),
    st.text(max_size=12),
)
NUMBERS = st.one_of(
    st.integers(0, 9).map(float),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e308, 3e38, -0.0, 1e-300, -1.0]),
    st.floats(),
)
DTYPES: dict[Any, st.SearchStrategy] = {
    pl.String: st.one_of(st.sampled_from(["a", "b", "1", " 2.5", "1e400", "NaN", "true", "007"]), DATES),
    pl.Float64: NUMBERS,
    pl.Float32: st.floats(width=32),
    pl.Int64: st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1)),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Int128: st.integers(-(2**120), 2**120),
    pl.Int8: st.integers(-128, 127),
    pl.Boolean: st.booleans(),
    pl.Categorical: st.sampled_from(["a", "b", "3", "2024-01-01"]),
    pl.Enum(["a", "4"]): st.sampled_from(["a", "4"]),
    pl.Decimal(20, 2): st.decimals(-(10**9), 10**9, places=2),
    pl.Date: st.one_of(st.dates(), st.integers(19_700, 19_730).map(lambda day: np.datetime64(day, "D").item())),
    pl.Datetime("ms"): st.datetimes(),
    pl.Datetime("ns"): st.datetimes(min_value=dt.datetime(1700, 1, 1), max_value=dt.datetime(2262, 1, 1)),
    pl.Datetime("us", "Europe/London"): st.datetimes(),
    pl.Duration: st.timedeltas(),
    pl.Time: st.times(),
    pl.Binary: st.binary(max_size=4),
    pl.List(pl.Int64): st.lists(st.integers(0, 3), max_size=2),
    pl.Array(pl.Int64, 1): st.lists(st.integers(0, 3), min_size=1, max_size=1),
    pl.Struct({"a": pl.Int64}): st.fixed_dictionaries({"a": st.integers(0, 3)}),
    pl.Null: st.none(),
    pl.Object: st.sampled_from([object(), 1, "a", {1}]),
}
FAR = [-(2**62), -(10**9), -719_529, 0, 19_723, 10**6, 2**31 - 1, 2**62]  # physical values of dates
LIKELY = {
    "unique_id": (pl.String, pl.Categorical, pl.Int64, pl.Int8),
    "ds": (pl.Date, pl.String, pl.Datetime("ms"), pl.Datetime("us", "Europe/London")),
    "y": (pl.Float64, pl.Int8, pl.Decimal(20, 2), pl.String),
}


@st.composite
def columns(draw: st.DrawFn, name: str, rows: int) -> pl.Series:
    """A column of a likely type, or of any."""
    likely = name in LIKELY and draw(st.integers(0, 19)) > 0
    dtype = draw(st.sampled_from(list(LIKELY[name] if likely else DTYPES)))
    if dtype in (pl.Date, pl.Datetime) and draw(st.integers(0, 9)) == 0:
        far = draw(st.lists(st.sampled_from(FAR), min_size=rows, max_size=rows))
        physical = pl.Int32 if dtype == pl.Date else pl.Int64
        return pl.Series(name, far, dtype=pl.Int64).cast(physical, strict=False).cast(dtype)
    if name == "unique_id" and dtype in (pl.String, pl.Categorical):
        strategy: st.SearchStrategy = st.sampled_from(["a", "b", "007"])
    elif name == "ds" and likely and draw(st.integers(0, 7)):
        first, step = draw(st.integers(19_000, 20_000)), draw(st.sampled_from([1, 1, 7, 7, 28, 30, 365]))
        days = [np.datetime64(first + step * row, "D").item() for row in range(rows)]
        return pl.Series(name, days, dtype=pl.Date).cast(dtype if dtype == pl.String else pl.Date)
    else:
        tame = name == "y" and likely and draw(st.integers(0, 3))
        strategy = st.integers(0, 9).map(str if dtype == pl.String else int) if tame else DTYPES[dtype]
    if draw(st.integers(0, 19)) == 0:
        strategy = st.one_of(st.none(), strategy)
    values = draw(st.lists(strategy, min_size=rows, max_size=rows))
    return pl.Series(name, values, dtype=dtype, strict=False)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """A long table, more or less."""
    rows = draw(st.integers(0, 12))
    names = ["unique_id", "ds", "y"] if draw(st.integers(0, 9)) else []
    names += ["price", *draw(st.lists(NAMES, max_size=3))]
    return pl.DataFrame([draw(columns(name, rows)) for name in dict.fromkeys(names)])


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `Panel.read`, right or wrong."""
    result: dict[str, Any] = {}
    if draw(st.integers(0, 2)) == 0:
        return {"gaps": "zero"}
    if draw(st.booleans()):
        result["freq"] = draw(st.sampled_from([None, "h", "D", "B", "W", "M", "Q", "Y", "w", "MS", ""]))
    if draw(st.booleans()):
        result["gaps"] = draw(st.sampled_from(["missing", "zero", "zero", "none"]))
    if draw(st.integers(0, 9)) == 0:
        result[draw(st.sampled_from(["id", "time", "target"]))] = draw(NAMES)
    if draw(st.booleans()):
        return result
    for role in draw(st.lists(st.sampled_from(["price", "promotion", "in_stock", "static", "past", "future", "role"]))):
        one = draw(NAMES)
        several = role in {"static", "past", "future"} and draw(st.booleans())
        result[role] = [one] if several else one
        if draw(st.integers(0, 19)) == 0:
            result[role] = draw(st.sampled_from([None, 3, [3], [], ["y"], {"price"}, b"price"]))
    return result


def check(panel: Panel) -> None:
    """What every panel promises."""
    steps = len(panel.target)
    assert len(panel) == len(set(panel.ids)) == len(panel.start) == len(panel.history) == len(panel.indptr) - 1 > 0
    assert panel.indptr[0] == 0
    assert panel.indptr[-1] == steps
    assert (np.diff(panel.indptr) > 0).all()
    assert ((panel.history >= 0) & (panel.history <= np.diff(panel.indptr))).all()
    for column in (panel.target, *panel.past.values(), *panel.future.values()):
        assert column.dtype == np.float32
        assert column.shape == (steps,)
        assert not np.isinf(column).any()
    for column in panel.static.values():
        assert column.shape == (len(panel),)
        assert column.dtype == object or (column.dtype == np.float32 and not np.isinf(column).any())
    assert panel.in_stock is None or panel.in_stock.shape == (steps,)
    assert panel.price is None or panel.price in {**panel.past, **panel.future}
    assert panel.observed.any()
    assert panel.quality()["series"] == len(panel)


def read(source: Any, roles: dict[str, Any]) -> Panel | None:  # noqa: ANN401 - a path or any frame
    """A valid panel, or None where one sentence refused the table; anything else fails."""
    try:
        panel = Panel.read(source, **roles)
    except SirdarError as error:
        sentence = str(error)
        assert sentence
        assert len(sentence.splitlines()) == 1
        assert len(sentence) < 1000
        return None
    check(panel)
    return panel


HOSTILE = settings(
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@HOSTILE
@given(table=tables(), roles=arguments(), kind=st.sampled_from(["polars", "lazy", "parquet", "csv", "pandas", "arrow"]))
def test_any_table_is_a_panel_or_a_sentence(
    table: pl.DataFrame, roles: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    source: Any = table
    path = tmp_path / f"table.{kind}"
    try:
        if kind == "lazy":
            source = table.lazy()
        elif kind in {"pandas", "arrow"}:
            source = table.to_pandas() if kind == "pandas" else table.to_arrow()
        elif kind in {"parquet", "csv"}:
            table.write_parquet(path) if kind == "parquet" else table.write_csv(path)
            source = path
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001 - what cannot be written so is read as it is
        source = table
    panel = read(source, roles)
    event("a panel" if panel is not None else "a sentence")


@HOSTILE
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=60).map(lambda middle: b"PAR1" + middle + b"PAR1"),
        st.text(alphabet='unique_id,ds;y\n\r\t"0123456789-\x00é', max_size=120).map(str.encode),
        st.text(alphabet='a,;\n"0123456789-.\x00', max_size=80).map(lambda rows: f"unique_id,ds,y\n{rows}".encode()),
    ),
    suffix=st.sampled_from([".csv", ".parquet", ".tsv", ".PQ", ".xlsx", ""]),
    roles=arguments(),
)
def test_any_bytes_are_a_panel_or_a_sentence(
    content: bytes, suffix: str, roles: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f"table{suffix}"
    path.write_bytes(content)
    read(path, roles)


def test_a_truncated_parquet_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 20), eager=True)
    pl.DataFrame({"unique_id": ["a"] * 20, "ds": days, "y": range(20)}).write_parquet(path)
    content = path.read_bytes()
    assert read(path, {}) is not None
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert read(path, {}) is None


@pytest.mark.parametrize("source", [None, 3, [1], {"y": [1]}, np.zeros(3), pl.Series([1]), b"table.csv"])
def test_what_is_no_table_is_refused(source: object) -> None:
    assert read(source, {}) is None
