# SPDX-License-Identifier: Apache-2.0
"""Stock that orders start from: read as it stands, or refused in a sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import DataError
from sirdar.inventory import InventoryProblem, OrderRules
from sirdar.predictive import Forecast, Frequency
from sirdar.recipes.stock import assumed_stock, read_stock

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
        "Stock was read from stock.csv; 1 products have no row there and count as empty, and 1 of its rows are "
        "products without a forecast."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unique_id,onhand\nb,1\n", "no column 'on_hand'; the columns are unique_id, onhand. Did you mean 'onhand'\\?"),
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
        ("unique_id,on_hand\n,1\n", "column 'unique_id' has no value in row 1"),
        ("unique_id,on_hand\n7,1\n", r"none of its products \('7', ...\) is among those forecast \('007', ...\)"),
        (
            "unique_id,on_hand\nb,1\n7,1\nC,1\n",
            "2 of its 3 products \\('7', ...\\) have no forecast, and .* write both alike, zeros in front too",
        ),
        ("", "stock.csv: the file is empty"),
    ],
)
def test_a_table_that_is_no_stock_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read_stock(stock_file(tmp_path, text), IDS, PROBLEM)
    assert "stock.csv: " in str(caught.value)


def test_the_assumed_stock_lasts_for_the_lead_time() -> None:
    values = np.repeat(np.arange(1.0, 5.0, dtype=np.float32)[None, :, None], 9, axis=2)  # demand is surely 1, 2, 3, 4
    levels = tuple(place / 10 for place in range(1, 10))
    forecast = Forecast(["a"], np.array([0]), Frequency("W"), levels, values, floor=0.0)
    stock, note = assumed_stock(forecast, PROBLEM)
    assert stock.on_hand.tolist() == [3]
    assert "the lead time (2 steps)" in note
    tonnes = replace(forecast, values=values / 1000)
    assert assumed_stock(tonnes, replace(PROBLEM, rules=OrderRules(case_pack=0.0)))[0].on_hand == pytest.approx([0.003])
