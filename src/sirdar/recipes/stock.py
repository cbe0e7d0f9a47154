# SPDX-License-Identifier: Apache-2.0
"""The stock that orders start from: a table of what is on hand and under way, or a stated assumption."""

from pathlib import Path

import numpy as np
import polars as pl

from sirdar.errors import DataError
from sirdar.forecasting.tables import Table, first_row, load_table, plain_ids, plain_numbers, require_columns
from sirdar.inventory import InventoryProblem, Stock
from sirdar.predictive import Forecast


def read_stock(path: Path, ids: list[str], problem: InventoryProblem) -> tuple[Stock, str]:
    """Stock of the forecast's products, and a sentence that says what was read.

    The table has columns unique_id and on_hand, and optionally arriving_1, arriving_2, ...: units ordered before that
    arrive ahead of the demand of the first, second, ... step. A product without a row has nothing.
    """
    frame, where = load_table(path), f"{path}: "
    require_columns(Table(frame, where, text=False), ("unique_id", "on_hand"))
    if not frame.height:
        msg = f"{where}the table has no rows; give one per product, or omit --inventory"
        raise DataError(msg)
    lead = problem.longest_lead_time
    columns = ["on_hand", *[f"arriving_{step + 1}" for step in range(lead)]]
    # "Arriving_1" or "arriving" too: units under way that nobody counts would be ordered once more.
    late = [name for name in frame.columns if name.strip().lower().startswith("arriving") and name not in columns]
    if late:
        known = f"arriving_1 to arriving_{lead} (lead time {lead})"
        msg = f"{where}column {late[0]!r} is none of {known}; rename or remove it"
        raise DataError(msg)
    keys = plain_ids(frame["unique_id"], where).to_list()
    twice = pl.Series(keys).is_duplicated()
    if twice.any():
        msg = f"{where}product {keys[first_row(twice) - 1]!r} has more than one row; keep one"
        raise DataError(msg)
    row_of = {key: row for row, key in enumerate(keys)}
    on_hand = plain_numbers(frame["on_hand"], where)
    if on_hand.null_count():
        row = first_row(on_hand.is_null())
        msg = f"{where}column 'on_hand' has no value in row {row} ({keys[row - 1]!r}); write 0 if there is nothing"
        raise DataError(msg)
    table = np.zeros((len(keys), len(columns)))
    for index, name in enumerate(columns):
        if name in frame.columns:
            table[:, index] = plain_numbers(frame[name], where).fill_null(0.0).to_numpy()
    bad = np.argwhere(table < 0)
    if len(bad):
        row, column = bad[0]
        msg = f"{where}column {columns[column]!r} is {table[row, column]:g} for {keys[row]!r}; stock cannot be negative"
        raise DataError(msg)
    rows = np.array([row_of.get(key, -1) for key in ids])
    _refuse_strangers(keys, ids, rows < 0, where)
    table = np.vstack([table, np.zeros(len(columns))])[rows]
    missing, others = int((rows < 0).sum()), len(keys) - int((rows >= 0).sum())
    note = f"Stock was read from {path.name}; {missing} products have no row there and count as empty"
    note += f", and {others} of its rows are products without a forecast." if others else "."
    return Stock(table[:, 0], table[:, 1:]), note


def _refuse_strangers(keys: list[str], ids: list[str], missing: np.ndarray, where: str) -> None:
    """Stock of other products, or of these under other names: orders would be made as if there was none."""
    if missing.all():
        msg = f"{where}none of its products ({keys[0]!r}, ...) is among those forecast ({ids[0]!r}, ...)"
        raise DataError(msg)
    strangers = sorted(set(keys) - set(ids))
    alike = len({_bare(key) for key in keys} & {_bare(one) for one in ids})
    if alike > 2 * (~missing).sum():
        msg = (
            f"{where}{len(strangers)} of its {len(keys)} products ({strangers[0]!r}, ...) have no forecast, and "
            f"{missing.sum()} of {len(ids)} forecast ({ids[int(missing.argmax())]!r}, ...) have no row; write both "
            "alike, zeros in front too"
        )
        raise DataError(msg)


def _bare(key: str) -> str:
    """An id without what spreadsheets change in it."""
    return key.strip().lstrip("0").lower()


def assumed_stock(forecast: Forecast, problem: InventoryProblem) -> tuple[Stock, str]:
    """As much on hand as is expected to sell until an order placed now arrives; whole where goods are counted."""
    lead = problem.longest_lead_time
    expected = np.maximum(forecast.mean()[:, :lead].sum(axis=1), 0)
    note = (
        f"No stock was given: each product is assumed to hold the mean demand of the lead time ({lead} steps) and to "
        "have nothing under way. Give --inventory FILE for orders that can be placed."
    )
    return Stock(problem.rules.counted(expected)), note
