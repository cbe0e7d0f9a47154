# SPDX-License-Identifier: Apache-2.0
"""The four rules of the bundled demand on small transactions made by hand, and the file that they made."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES
from sirdar.forecasting.bundled.build import clean, daily, main
from sirdar.forecasting.panel import Panel

NOON = dt.datetime(2011, 1, 4, 12)


def line(**changes: object) -> dict:
    usual = {"InvoiceNo": "1", "StockCode": "22423", "Description": "CAKESTAND", "Quantity": 5, "UnitPrice": 2.0}
    return usual | {"InvoiceDate": NOON, "CustomerID": 7} | changes


def transactions(*lines: dict) -> pl.DataFrame:
    return pl.DataFrame(list(lines), schema_overrides={"UnitPrice": pl.Float64, "CustomerID": pl.Int64})


def kept(*lines: dict) -> list[str]:
    return sorted(clean(transactions(*lines))["InvoiceNo"].to_list())


def test_rule_1_only_products_are_demand() -> None:
    codes = [
        "22423",
        "85123a",
        " 85123A ",
        "15056BL",
        "DCGS0003",
        "PADS",
        "POST",
        "M",
        "D",
        "C2",
        "gift_0001_20",
        "2242",
    ]
    found = clean(transactions(*[line(InvoiceNo=str(i), StockCode=code) for i, code in enumerate(codes)]))
    assert sorted(found["code"]) == ["15056BL", "22423", "85123A", "85123A", "DCGS0003", "PADS"]


@pytest.mark.parametrize("price", [0.0, -11.0])
def test_rule_2_lines_without_a_price_are_adjustments(price: float) -> None:
    assert kept(line(), line(InvoiceNo="2", UnitPrice=price)) == ["1"]


def test_rule_3_a_cancellation_undoes_a_whole_line_of_the_week_before() -> None:
    undo = line(InvoiceNo="C2", Quantity=-5, InvoiceDate=NOON + dt.timedelta(days=6))
    assert kept(line(), undo) == []
    assert kept(line(), undo | {"InvoiceDate": NOON + dt.timedelta(days=8)}) == ["1"]  # a return: demand stays
    assert kept(line(), undo | {"Quantity": -4}) == ["1"]
    assert kept(line(), undo | {"CustomerID": 8}) == ["1"]
    assert kept(line(CustomerID=None), undo | {"CustomerID": None}) == ["1"]
    assert kept(line(InvoiceDate=NOON + dt.timedelta(days=7)), undo) == ["1"]  # it cannot undo what came later


def test_rule_3_one_cancellation_undoes_one_line() -> None:
    undo = line(InvoiceNo="C3", Quantity=-5, InvoiceDate=NOON + dt.timedelta(days=2))
    assert kept(line(), line(InvoiceNo="2", InvoiceDate=NOON + dt.timedelta(days=1)), undo) == ["1"]


def test_rule_4_days_without_an_order_have_no_row() -> None:
    table = daily(
        clean(
            transactions(
                line(Quantity=1, UnitPrice=4.0),
                line(InvoiceNo="2", Quantity=3, UnitPrice=2.0),
                line(InvoiceNo="2", Quantity=4, UnitPrice=2.0, Description="OTHER NAME"),
                line(InvoiceNo="3", InvoiceDate=NOON + dt.timedelta(days=2)),
            )
        )
    )
    assert table["ds"].to_list() == [dt.date(2011, 1, 4), dt.date(2011, 1, 6)]
    assert table["y"].to_list() == [8, 5]
    assert table["price"].to_list() == [2.25, 2.0]  # (1 * 4 + 7 * 2) / 8
    assert table["orders"].to_list() == [2, 1]
    assert table["description"].to_list() == ["CAKESTAND"] * 2  # the commonest


def test_the_script_writes_the_same_table_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transactions(line()).write_parquet(tmp_path / "transactions.parquet")
    for name in ("first", "second"):
        main(str(tmp_path / "transactions.parquet"), str(tmp_path / f"{name}.parquet"))
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "second.parquet").read_bytes()
    assert "1 products, 1 rows, 2011-01-04 to 2011-01-04, 5 units" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 3


def test_the_packaged_panel_is_what_the_issue_asks_for() -> None:
    assert ONLINE_RETAIL.stat().st_size <= 1.5e6
    table = pl.read_parquet(ONLINE_RETAIL)
    assert table.columns == ["unique_id", "ds", "y", "price", "orders", "description"]
    assert 3700 <= table["unique_id"].n_unique() <= 3900
    assert 6 not in table["ds"].dt.weekday()  # Saturday
    assert not table["ds"].is_between(dt.date(2010, 12, 24), dt.date(2011, 1, 3)).any()  # Christmas
    assert table["y"].max() < 74_215  # the two bulk-entry errors of the source are gone
    assert (table["y"] > 0).all()
    assert (table["price"] > 0).all()


def test_the_packaged_panel_is_read_by_the_week() -> None:
    panel = Panel.read(ONLINE_RETAIL, **ROLES)
    quality = panel.quality()
    assert (quality["frequency"], quality["periods"], quality["last period"]) == ("weekly", 53, "2011-12-09")
    assert len(panel) == quality["series"] > 3700
    assert list(panel.past) == ["orders", "price"]  # never known ahead
