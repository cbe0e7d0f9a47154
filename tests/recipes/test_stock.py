# SPDX-License-Identifier: Apache-2.0
"""Stock that orders start from: read as it stands, or refused in a sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import DataError
from sirdar.inventory import InventoryProblem, OrderRules
from sirdar.predictive import Forecast, Frequency
from sirdar.recipes.stock import assumed_stock, own_terms, read_stock

PROBLEM = InventoryProblem(lead_time=2)
IDS = ["007", "b", "c"]


def stock_file(folder: Path, text: str) -> Path:
    path = folder / "stock.csv"
    path.write_text(text)
    return path


def test_stock_is_read_in_the_order_of_the_forecast(tmp_path: Path) -> None:
    path = stock_file(tmp_path, "unique_id,on_hand,arriving_2,shelf\nb,3,,x\n007,1.5,4,y\nz,9,9,z\n")
    stock, note = read_stock(path, IDS, PROBLEM)
    assert stock.on_hand.tolist() == [1.5, 3, 0]
    assert stock.pipeline.tolist() == [[0, 4], [0, 0], [0, 0]]
    assert note == (
        "Stock was read from stock.csv; 1 products ('c') have no row there and count as empty, and 1 of its rows are "
        "products without a forecast."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "unique_id,On_Hand\nb,1\n",
            "no column 'on_hand'; the columns are unique_id, On_Hand; call that of their units on hand on_hand$",
        ),
        ("on_hand\n1\n", "no column 'unique_id'"),
        ("unique_id,on_hand\n", "stock.csv: the table has no rows; give one per product, or omit --inventory"),
        ("unique_id,on_hand\nb,1\nb,2\n", "product 'b' has more than one row; keep one"),
        ("unique_id,on_hand\nb,many\n", "column 'on_hand', row 1: 'many' is not a number"),
        ("unique_id,on_hand\nb,-1\n", "column 'on_hand' is -1 for 'b'; stock cannot be negative"),
        ("unique_id,on_hand\nb,\n", r"column 'on_hand' has no value in row 1 \('b'\); write 0 if there is nothing"),
        ("unique_id,on_hand,arriving_1\nb,1,-2\n", "column 'arriving_1' is -2 for 'b'"),
        ("unique_id,on_hand,arriving_3\nb,1,2\n", "column 'arriving_3' is none of arriving_1 to arriving_2"),
        ("unique_id,on_hand,Arriving_1\nb,1,2\n", "column 'Arriving_1' is none of arriving_1 to arriving_2"),
        ("unique_id,on_hand,arriving\nb,1,2\n", "column 'arriving' is none of arriving_1 to arriving_2"),
        ("unique_id,on_hand,in_transit_1\nb,1,2\n", "column 'in_transit_1' is none of .*, by step of arrival; rename"),
        ("unique_id,on_hand,On Order\nb,1,2\n", "column 'On Order' is none of arriving_1 to arriving_2"),
        ("unique_id,on_hand,pipeline_2\nb,1,2\n", "column 'pipeline_2' is none of arriving_1 to arriving_2"),
        ("unique_id,on_hand,OnOrder\nb,1,2\n", "column 'OnOrder' is none of"),
        ("unique_id,on_hand,qty on order\nb,1,2\n", "column 'qty on order' is none of"),
        ("unique_id,on_hand,incoming\nb,1,2\n", "column 'incoming' is none of"),
        ("unique_id,on_hand,expected_receipts\nb,1,2\n", "column 'expected_receipts' is none of"),
        ("unique_id,on_hand,under_way,quantity\nb,1,2,3\n", "column 'under_way' is none of"),  # Sirdar's own orders
        (
            "unique_id,on_hand,backorders\nb,1,0\nc,1,3\n",
            "column 'backorders' is 3 in row 2, and units owed are .* sold",
        ),
        ("unique_id,on_hand,QtyReserved\nb,1,3\n", "'QtyReserved' is 3 in row 1, .*; subtract them from on_hand"),
        ("unique_id,on_hand\n,1\n", "column 'unique_id' has no value in row 1"),
        ("unique_id,on_hand\n7,1\n", r"none of its products \('7', ...\) is among those forecast \('007', ...\)"),
        (
            "unique_id,on_hand\nb,1\n7,1\nC,1\n",
            "product '7' has no forecast, and '007', .* no row, as 2 of 3 products in it; write both alike, zeros in",
        ),
        (
            "SKU,Qty\n7,1\n",
            "no column 'unique_id'; the columns are SKU, Qty; call that of products unique_id and that of their units",
        ),
        ("", "stock.csv: the file is empty"),
    ],
)
def test_a_table_that_is_no_stock_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read_stock(stock_file(tmp_path, text), IDS, PROBLEM)
    assert "stock.csv: " in str(caught.value)


def test_blanks_in_the_header_are_none_of_its_names_and_other_numbers_are_named(tmp_path: Path) -> None:
    path = stock_file(tmp_path, "unique_id, on_hand , arriving_1,weight,shelf\n007, 2, 3,1.5,x\n")
    stock, note = read_stock(path, IDS, PROBLEM)
    assert stock.on_hand.tolist() == [2, 0, 0]
    assert stock.pipeline[0].tolist() == [3, 0]
    assert note.endswith("count as empty. Not read: 'weight'.")


def test_products_are_found_under_the_name_that_the_demand_has_them(tmp_path: Path) -> None:
    path = stock_file(tmp_path, "SKU,on_hand,price,allocated,backorder_cost,date,shelf\n007,2,3,0,9,2024-01-07,x\n")
    stock, note = read_stock(path, IDS, PROBLEM, "SKU")
    assert stock.on_hand.tolist() == [2, 0, 0]
    assert np.asarray(own_terms(path, IDS, PROBLEM, "SKU").trade.price).tolist() == [3, 0, 0]
    assert note.endswith(
        "Not read: 'price', 'allocated', 'backorder_cost'. "
        "Not read: 'date'; stock is taken as it is after the last step of the history."
    )


def test_a_product_may_have_its_own_costs_and_times(tmp_path: Path) -> None:
    path = stock_file(tmp_path, "unique_id,on_hand,lead_time,holding_cost,price,case_pack\nb,3,3,,7,6\n007,1,,0.5,,\n")
    own = own_terms(path, IDS, PROBLEM)
    assert np.asarray(own.lead_time).tolist() == [2, 3, 2]
    assert np.asarray(own.holding_cost).tolist() == [0.5, 0.2, 0.2]
    assert (own.lost_sale_cost, own.trade.unit_cost, own.rules.minimum) == (1.0, 0.0, 0.0)
    assert np.asarray(own.trade.price).tolist() == [0, 7, 0]
    assert np.asarray(own.rules.case_pack).tolist() == [1, 6, 1]
    assert "lead_time, holding_cost, price, case_pack are those of each product." in read_stock(path, IDS, own)[1]
    assert "Not read: 'lead_time', 'holding_cost', 'price', 'case_pack'." in read_stock(path, IDS, PROBLEM)[1]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("lead_time", "1.5", "column 'lead_time' is 1.5 in row 1; it must be a whole number of steps, 1 or more"),
        ("lead_time", "0", "column 'lead_time' is 0 in row 1; it must be a whole"),
        ("minimum", "-2", "column 'minimum' is -2 in row 1; it must not be negative"),
        ("unit_cost", "2", "column 'unit_cost' needs a price, in a column 'price'"),
        ("holding_cost", "0", "column 'holding_cost' is 0 for 'b'; both costs must be above 0"),
    ],
)
def test_terms_that_cannot_be_are_refused(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    with pytest.raises(DataError, match=f"stock.csv: {sentence}"):
        own_terms(stock_file(tmp_path, f"unique_id,on_hand,{name}\nb,1,{value}\n"), IDS, PROBLEM)


def test_one_product_whose_zeros_a_spreadsheet_took_is_enough(tmp_path: Path) -> None:
    """Its stock would count as none, and be ordered once more."""
    ids = ["00123", *[f"3-{number}" for number in range(1, 8)]]
    path = stock_file(tmp_path, "unique_id,on_hand\n123,100\n" + "".join(f"{one},100\n" for one in ids[1:]))
    with pytest.raises(DataError, match="product '123' has no forecast, and '00123', .* as 1 of 8 products in it"):
        read_stock(path, ids, PROBLEM)


def test_what_arrives_too_late_is_refused_by_product(tmp_path: Path) -> None:
    path = stock_file(tmp_path, "unique_id,on_hand,lead_time,arriving_2\nb,3,1,5\n007,1,3,\n")
    sentence = "column 'arriving_2' is 5 for 'b', but an order placed now .* of step 2 .lead time 1."
    with pytest.raises(DataError, match=sentence):
        read_stock(path, IDS, own_terms(path, IDS, PROBLEM))


def test_the_assumed_stock_lasts_for_the_lead_time() -> None:
    values = np.repeat(np.arange(1.0, 5.0, dtype=np.float32)[None, :, None], 9, axis=2)  # demand is surely 1, 2, 3, 4
    levels = tuple(place / 10 for place in range(1, 10))
    forecast = Forecast(["a"], np.array([0]), Frequency("W"), levels, values, floor=0.0)
    stock, note = assumed_stock(forecast, PROBLEM)
    assert stock.on_hand.tolist() == [3]
    assert "the lead time (2 steps)" in note
    tonnes = replace(forecast, values=values / 1000)
    assert assumed_stock(tonnes, replace(PROBLEM, rules=OrderRules(case_pack=0.0)))[0].on_hand == pytest.approx([0.003])
