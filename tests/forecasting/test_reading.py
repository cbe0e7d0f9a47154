# SPDX-License-Identifier: Apache-2.0
"""From tables to the arrays of a panel; every expectation is a short list worked out by hand."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.reading import read_panel

NAN = float("nan")


def day(number: int) -> dt.date:
    return dt.date(2024, 1, number)


def frame_of(rows: list[tuple], *more: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["unique_id", "ds", "y", *more], orient="row")


@pytest.fixture
def shop() -> pl.DataFrame:
    """Days 1 to 5; nobody has a row on day 3 (closed), "b" none on day 4 either; "c" begins late."""
    rows = [
        ("a", 1, 1.0),
        ("a", 2, 2.0),
        ("a", 4, 4.0),
        ("a", 5, 5.0),
        ("b", 1, 7.0),
        ("b", 2, 0.0),
        ("c", 4, 9.0),
        ("c", 5, 9.0),
    ]
    return frame_of([(key, day(number), value) for key, number, value in rows])


def test_gaps_are_missing_or_zero(shop: pl.DataFrame) -> None:
    missing = Panel.read(shop)
    assert missing.history.tolist() == [5, 2, 2]
    # A forecast for days that are over must not surprise whoever orders by it.
    assert missing.notes == ("1 of 3 series ('b', ...) end before 2024-01-05 and are forecast from their own ends on",)
    np.testing.assert_array_equal(missing.target, [1, 2, NAN, 4, 5, 7, 0, 9, 9])
    zero = Panel.read(shop, gaps="zero")
    assert zero.history.tolist() == [5, 5, 2]
    assert zero.notes == ()
    np.testing.assert_array_equal(zero.target, [1, 2, NAN, 4, 5, 7, 0, NAN, 0, 0, 9, 9])  # the closed day stays unknown


def test_a_shop_that_never_opens_on_some_day_sells_nothing_then() -> None:
    monday = dt.date(2024, 1, 1)
    days = [monday + dt.timedelta(days=place) for place in range(30)]
    table = frame_of([("a", each, 2.0) for each in days if each.weekday() not in {1, 6} and each != days[9]])
    zero = Panel.read(table, gaps="zero")
    assert zero.notes == ()
    closed = [each.weekday() in {1, 6} for each in days[: len(zero.target)]]  # the last day is a Tuesday
    np.testing.assert_array_equal(zero.target[closed], 0.0)
    assert np.isnan(zero.target[9])  # one Wednesday on which nobody sold
    missing = Panel.read(table)
    np.testing.assert_array_equal(np.isfinite(missing.target), np.isfinite(zero.target) & (zero.target > 0))
    assert missing.notes == (
        "no row falls on Tuesday or Sunday: not observed, yet forecast; where nothing is sold then, "
        "read with gaps 'zero'",
    )
    early = Panel.read(table.head(14), gaps="zero")  # three weeks may be chance
    assert len(early.target) == 20
    assert np.isnan(early.target).sum() == 6


def test_business_days_on_which_a_shop_is_closed() -> None:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=place) for place in range(60)]
    table = frame_of([("a", each, 2.0) for each in days if each.weekday() in {0, 2, 4}])
    zero = Panel.read(table, gaps="zero")
    assert zero.frequency.unit == "B"
    assert zero.target.tolist() == [2.0, 0.0, 2.0, 0.0, 2.0] * 8 + [2.0, 0.0, 2.0][: len(zero.target) - 40]
    assert "no row falls on Tuesday or Thursday" in Panel.read(table).notes[0]


def test_hours_at_which_a_shop_is_closed() -> None:
    begin = dt.datetime(2024, 1, 1)
    opened = [begin + dt.timedelta(hours=place) for place in range(24 * 30) if 8 <= place % 24 < 20]
    table = frame_of([("a", time, 2.0) for time in opened])
    assert "no row falls on 84 hours of the week" in Panel.read(table).notes[0]
    zero = Panel.read(table, gaps="zero").target
    assert zero[:24].tolist() == [2.0] * 12 + [0.0] * 12


def test_ids_keep_their_leading_zeros_and_files_their_quirks(tmp_path: Path) -> None:
    text = "\ufeffunique_id;ds;y;size;code\n007;2024-01-01;1,5;2.5;01\n"
    path = tmp_path / "table.csv"
    path.write_text(
        text.replace("1,5", " 1.5 ") + "007;2024-01-02;NA;2.5;01\n08;2024-01-01 00:00:00;2;3;02\n", encoding="utf-8"
    )
    panel = Panel.read(path, static=["size", "code"])
    assert panel.ids == ["007", "08"]
    np.testing.assert_array_equal(panel.target, [1.5, NAN, 2])
    assert panel.static["size"].tolist() == [2.5, 3.0]
    assert panel.static["size"].dtype == np.float32
    assert panel.static["code"].tolist() == ["01", "02"]


def test_days_of_a_time_zone_begin_at_its_midnight() -> None:
    times = pl.datetime_range(
        dt.datetime(2024, 3, 29), dt.datetime(2024, 4, 2), "1d", time_zone="Europe/Berlin", eager=True
    )
    panel = Panel.read(pl.DataFrame({"unique_id": "a", "ds": times, "y": [1, 2, 3, 4, 5]}))
    assert panel.frequency.unit == "D"  # although one of the days had 23 hours
    assert panel.series(0)[0][0] == np.datetime64("2024-03-29")


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "arrow", "file"])
def test_the_answer_is_a_frame_of_the_callers_kind(shop: pl.DataFrame, kind: str, tmp_path: Path) -> None:
    shop.write_parquet(tmp_path / "table.parquet")
    source: Any = {
        "polars": lambda: shop,
        "lazy": shop.lazy,
        "pandas": lambda: pd.DataFrame(shop.to_dict(as_series=False)),
        "arrow": shop.to_arrow,
        "file": lambda: tmp_path / "table.parquet",
    }[kind]()
    panel = Panel.read(source)
    np.testing.assert_array_equal(panel.target, [1, 2, NAN, 4, 5, 7, 0, 9, 9])
    answer = Textbook(2, "seasonal-naive").fit(panel).predict(panel).to_frame()
    assert isinstance(answer, {"pandas": pd.DataFrame, "arrow": pa.Table}.get(kind, pl.DataFrame))
    columns = answer.column_names if kind == "arrow" else list(answer.columns)
    assert columns[:3] == ["unique_id", "ds", "q0.1"]
    assert len(answer) == 6


@pytest.mark.parametrize("role", ["promotion", "future"])
def test_a_flag_that_the_plan_leaves_open_is_off_and_a_number_is_not(role: Any) -> None:  # noqa: ANN401
    rows = [("a", day(1), 1.0, 0.0, 2.5), ("a", day(2), 3.0, None, 2.5), ("a", day(3), 3.0, 1.0, 2.0)]
    plan = [("a", day(4), None, None, None), ("a", day(5), None, 0.0, 3.0)]
    panel = Panel.read(frame_of(rows + plan, "flag", "index"), **{role: "flag" if role == "promotion" else ["flag"]})
    assert panel.future["flag"][2:].tolist() == [1, 0, 0]
    other = Panel.read(frame_of(rows + plan, "flag", "index"), future=["index"])
    assert np.isnan(other.future["index"][3])


def test_what_is_planned_is_known_ahead_and_what_was_sold_is_not() -> None:
    rows = [("a", day(n), float(n) if n < 5 else None, 10.0 + n, n % 2 == 0, float(n)) for n in range(1, 8)]
    frame = frame_of(rows, "price", "promotion", "holiday")
    roles: dict[str, Any] = {"price": "price", "promotion": "promotion", "future": "holiday"}
    ahead = Panel.read(frame, **roles)
    assert (ahead.history.tolist(), len(ahead.target)) == ([4], 7)
    assert sorted(ahead.future) == ["holiday", "price", "promotion"]
    assert ahead.future["price"].tolist() == [11, 12, 13, 14, 15, 16, 17]
    assert ahead.future["promotion"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    sold = Panel.read(frame.filter(pl.col("y").is_not_null()), **roles)
    assert (sorted(sold.past), sorted(sold.future)) == (["price", "promotion"], ["holiday"])


def test_a_price_holds_until_the_next_is_known(shop: pl.DataFrame) -> None:
    panel = Panel.read(shop.with_columns(price=pl.when(pl.col("y") > 1).then(pl.col("y"))), price="price")
    np.testing.assert_array_equal(panel.past["price"], [NAN, 2, 2, 4, 5, 7, 7, 9, 9])
    assert panel.price == "price"


def test_what_was_out_of_stock_is_not_observed(shop: pl.DataFrame) -> None:
    stocked = shop.with_columns(shelf=pl.Series([1.0, 0.0, 1.0, None, 0.5, 1.0, 1.0, 1.0]))
    panel = Panel.read(stocked, in_stock="shelf")
    assert panel.observed.tolist() == [True, False, False, True, True, False, True, True, True]
    with pytest.raises(DataError, match="column 'shelf' says that nothing was ever in stock"):
        Panel.read(stocked.with_columns(shelf=pl.lit(value=False)), in_stock="shelf")


def test_statics_are_text_or_numbers(shop: pl.DataFrame) -> None:
    frame = shop.with_columns(
        size=pl.when(pl.col("unique_id") != "b").then(2),
        group=pl.concat_str(pl.lit("g"), "unique_id"),
        gone=pl.lit(None),
    )
    panel = Panel.read(frame, static=["size", "group", "gone"])
    np.testing.assert_array_equal(panel.static["size"], np.array([2, NAN, 2], dtype=np.float32))
    assert panel.static["group"].tolist() == ["ga", "gb", "gc"]
    assert panel.static["gone"].tolist() == [None] * 3
    with pytest.raises(
        DataError, match=r"static column 'y' has 1.0 and 2.0 in series 'a'; give it one value per series"
    ):
        Panel.read(frame.with_columns(z=1.0), target="z", static=["y"])


def test_columns_may_be_called_as_the_reader_calls_its_own(shop: pl.DataFrame) -> None:
    frame = shop.with_columns(id=1.0, time=2.0, target=3.0, period=pl.lit("x"))
    panel = Panel.read(frame, price="target", past=["id"], future=["time"], static="period")
    assert panel.past["id"].tolist()[:2] == [1, 1]
    assert panel.past["target"].tolist()[:2] == [3, 3]
    assert panel.static["period"].tolist() == ["x"] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"gaps": "none"}, "gaps must be 'missing' or 'zero', got 'none'"),
        ({"freq": "2h"}, "freq must be one of 5min, 10min, 15min, 30min, h, D, B, W, M, Q, Y, got '2h'"),
        ({"prize": "y"}, "unknown column role 'prize'; the roles are .* Did you mean 'price'\\?"),
        ({"price": "y"}, "column 'y' is given two roles; give it one"),
        ({"past": ["x", "x"]}, "column 'x' is given two roles"),
        ({"price": ["x"]}, r"role price must be one column name, got \['x'\]"),
        ({"static": [3]}, r"role static must be column names, got \[3\]"),
    ],
)
def test_wrong_arguments_are_refused_before_the_file_is_read(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        Panel.read("no such file.csv", **arguments)


@pytest.mark.parametrize("key", [["sku", "store"], 0])
def test_one_column_names_the_series(shop: pl.DataFrame, key: object) -> None:
    with pytest.raises(ArgumentError, match="id must be the name of one column, got .*; join several into one first"):
        read_panel(shop, (key, "ds", "y"), freq=None, gaps="missing", roles={})


def test_a_missing_covariate_is_refused_with_the_nearest(shop: pl.DataFrame) -> None:
    with pytest.raises(DataError, match=r"no column 'Prices'; the columns are .* Did you mean 'price'\?"):
        Panel.read(shop.with_columns(price=1.0), price="Prices")


def test_demand_beyond_all_measure_is_refused_by_its_series(shop: pl.DataFrame) -> None:
    """A square of it is no float32."""
    huge = shop.with_columns(y=pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(3e37).otherwise(1.0))
    last = shop["unique_id"][-1]
    with pytest.raises(DataError, match=rf"demand of series '{last}' is 3e\+37, beyond 1e\+30; give it in a larger"):
        Panel.read(huge)


def test_frames_that_cannot_be_read_are_refused(shop: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="the frame cannot be read as columns of plain values"):
        Panel.read(shop.lazy().select("nothing"))
    with pytest.raises(DataError, match=r"expected a path or a frame \(polars, pandas, Arrow\), got dict"):
        Panel.read(shop.to_dict())
    with pytest.raises(DataError, match="the table has no rows"):
        Panel.read(shop.clear())
    twice = shop.to_pandas()
    with pytest.raises(DataError, match="column 'y' comes 2 times; rename or remove all but one"):
        Panel.read(pd.concat([twice, twice[["y"]]], axis=1))


def test_a_date_that_is_far_from_all_others_is_noted() -> None:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=place) for place in range(40)]
    rows = [(name, day, 1.0) for name in "abc" for day in days] + [("c", dt.date(1992, 1, 1), 1.0)]
    frame = pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row")
    (note,) = [note for note in Panel.read(frame).notes if "check its dates" in note]
    assert "series 'c' has 41 rows over 11728 periods" in note
    assert not any("check its dates" in note for note in Panel.read(frame[:-1]).notes)


def test_rows_of_sums_and_ids_with_blanks_are_noted() -> None:
    names = ["3-1", "3-1 ", "Grand-Total", "Summe:", "total recall"]
    frame = frame_of([(name, day(place), 1.0) for name in names for place in (1, 2)])
    assert Panel.read(frame).notes == (
        "series 'Grand-Total' may be a sum of others, and counts as one more; if so, remove its rows",
        "series 'Summe:' may be a sum of others, and counts as one more; if so, remove its rows",
        "2 of 5 series ('3-1' and '3-1 ', ...) differ by blanks alone, and count as different ones; write them alike",
    )
    assert Panel.read(frame.filter(pl.col("unique_id") == "Grand-Total")).notes == ()


def test_lines_of_a_till_at_one_time_are_summed_when_a_period_is_given() -> None:
    times = [dt.datetime(2024, 1, number, 9, 30) for number in range(1, 15)]
    rows = [("a", time, 1.0, 2.0) for time in times] + [("a", time, 3.0, 6.0) for time in times]
    frame = frame_of(rows, "price")
    panel = Panel.read(frame, freq="D", price="price")
    assert panel.target.tolist() == [4.0] * 14
    assert panel.past["price"].tolist() == [5.0] * 14  # by units
    assert panel.notes == (
        "rows were summed into daily periods",
        "28 rows share their series and time with others, and are summed with them",
    )
    assert np.nanmax(Panel.read(frame, freq="h", gaps="zero").target) == 4
    for freq in (None, "30min"):
        with pytest.raises(DataError, match="series 'a' has 2 rows for 2024-01-01"):
            Panel.read(frame, freq=freq)


def test_lines_by_date_are_summed_when_a_period_is_given_unless_they_are_few_or_copies() -> None:
    numbers = [*range(1, 15), *range(1, 15), 1]
    rows = [("a", day(number), 1.0 + (place > 13), "x") for place, number in enumerate(numbers)]
    frame = frame_of(rows, "shop")
    panel = Panel.read(frame, freq="D")
    assert panel.target.tolist() == [5.0] + [3.0] * 13
    note = "29 rows share their series and time with others, and are summed with them"
    told = "2 of them equal another in every column: if they are stored twice, remove them"
    assert panel.notes == ("rows were summed into daily periods", f"{note}; {told}")
    assert Panel.read(frame, freq="W").target.tolist() == [23.0, 21.0]
    by_shop = frame.with_columns(shop=pl.int_range(pl.len()))  # a column that is not read tells one line from another
    assert Panel.read(by_shop, freq="D").notes[1] == note
    once = frame_of([(key, day(number), 1.0, "x") for key in "bc" for number in range(1, 31)], "shop")
    few, copies = pl.concat([once, frame[[0, 14]]]), pl.concat([once, once])
    for table, freq, key in ((frame, None, "a"), (few, "D", "a"), (copies, "W", "b")):
        with pytest.raises(DataError, match=f"series '{key}' has 2 rows for 2024-01-01|'a' has 3 rows for 2024-01-01"):
            Panel.read(table, freq=freq)


def test_in_stock_may_be_yes_or_no(shop: pl.DataFrame) -> None:
    words = ["yes", "no", " Yes", "", "NO", "1", "true", "yes"]
    panel = Panel.read(shop.with_columns(shelf=pl.Series(words)), in_stock="shelf")
    assert panel.observed.tolist() == [True, False, False, True, True, False, True, True, True]
    with pytest.raises(DataError, match="column 'shelf', row 1: 'Perhaps' is not a number"):
        Panel.read(shop.with_columns(shelf=pl.lit("Perhaps")), in_stock="shelf")


def test_steps_out_of_stock_are_told_of() -> None:
    """Those that sold something may have been sold out; those that sold nothing were never in stock."""
    days = [dt.date(2024, 1, 1) + dt.timedelta(weeks=week) for week in range(4)]
    table = {"unique_id": ["a"] * 4, "ds": days, "y": [3, 5, 0, 4], "stocked": [1, 0, 0, 1]}
    found = Panel.read(pl.DataFrame(table), in_stock="stocked")
    assert found.notes[0].startswith("2 steps out of stock are left out. Where high demand is what empties shelves")
    found = Panel.read(pl.DataFrame(table | {"y": [3, 0, 0, 4]}), in_stock="stocked")
    assert found.notes[0] == "2 steps out of stock, in which nothing was sold, are left out."
