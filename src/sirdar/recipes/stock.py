# SPDX-License-Identifier: Apache-2.0
"""The stock that orders start from: a table of what is on hand and under way, or a stated assumption."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sirdar.errors import DataError
from sirdar.forecasting.tables import (
    first_row,
    load_table,
    plain_ids,
    plain_numbers,
    plain_text,
    plain_times,
)
from sirdar.inventory import InventoryProblem, RandomLeadTime, Stock
from sirdar.predictive import Forecast

# What a stock table may give for each product, and the part of the problem that it is in.
TERMS = {"holding_cost": "", "lost_sale_cost": "", "lead_time": "", "price": "trade", "unit_cost": "trade"}
TERMS |= {"order_cost": "trade", "minimum": "rules", "case_pack": "rules", "volume": "rules"}
_UNDER_WAY = re.compile(
    r"arriv|under_?way|on_?order|ordered|pipeline|transit|incoming|in_?bound|open_(orders?|pos?)\b|receipt|due_?in|en_?route"
)
_OWED = re.compile(
    r"^(?!.*(cost|price|rate|day|time)).*(back_?order|back_?log|owed|(?<!un)(allocated|reserved|committed)|reservation)"
)
_CALLED = {"unique_id": "that of products", "on_hand": "that of their units on hand"}
_SHOWN = 20  # column names in a message
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")  # between the words of "OnOrder"


def read_stock(path: Path, ids: list[str], problem: InventoryProblem, key: str = "unique_id") -> tuple[Stock, str]:
    """Stock of the forecast's products, and a sentence that says what was read.

    The table has columns unique_id (or `key`, as the demand's table has it) and on_hand, and optionally arriving_1,
    arriving_2, ...: units ordered before that arrive ahead of the demand of the first, second, ... step. A product
    without a row has nothing. The sentence names columns of other numbers and of dates; those that speak of units under
    way are refused, and those of units owed where any is.
    """
    frame, where = _loaded(path, ("unique_id", "on_hand"), key), f"{path}: "
    if not frame.height:
        msg = f"{where}the table has no rows; give one per product, or omit --inventory"
        raise DataError(msg)
    lead = problem.longest_lead_time
    columns = ["on_hand", *[f"arriving_{step + 1}" for step in range(lead)]]
    others = [name for name in frame.columns if name not in {"unique_id", *columns}]
    unread = [name for name in others if _has_numbers(frame[name])]
    _refuse_under_way(unread, lead, where)
    _refuse_owed(frame.select(unread), where)
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
    _refuse_late(table[:, 1:], ids, problem, where)
    missing, strangers = int((rows < 0).sum()), len(keys) - int((rows >= 0).sum())
    without = f" ({ids[int((rows < 0).argmax())]!r}{', ...' if missing > 1 else ''})" if missing else ""
    note = f"Stock was read from {path.name}; {missing} products{without} have no row there and count as empty"
    note += f", and {strangers} of its rows are products without a forecast." if strangers else "."
    return Stock(table[:, 0], table[:, 1:]), note + _on_others(frame.select(others), problem)


def _refuse_under_way(others: list[str], lead: int, where: str) -> None:
    """Units under way that nobody counts would be ordered once more: "Arriving_1" and "in_transit" too."""
    late = [name for name in others if _UNDER_WAY.search(_words(name))]
    if late:
        known = f"arriving_1 to arriving_{lead} (lead time {lead})"
        msg = f"{where}column {late[0]!r} is none of {known}, by step of arrival; rename or remove it"
        raise DataError(msg)


def _refuse_owed(others: pl.DataFrame, where: str) -> None:
    """Units that customers wait for: on hand as they may be, they are not there to be sold."""
    for name in filter(lambda name: _OWED.search(_words(name)), others.columns):
        owed = plain_numbers(others[name], where).fill_null(0.0)
        if (owed != 0).any():
            row = first_row(owed != 0)
            msg = (
                f"{where}column {name!r} is {owed[row - 1]:g} in row {row}, and units owed are not there to be sold; "
                "subtract them from on_hand, those beyond it from what arrives, and remove the column"
            )
            raise DataError(msg)


def _words(name: str) -> str:
    """A column's name as small words with a line between: "OnOrder" and "on order" as on_order."""
    return re.sub(r"[\s_-]+", "_", _HUMP.sub("_", name).lower())


def _refuse_late(pipeline: np.ndarray, ids: list[str], problem: InventoryProblem, where: str) -> None:
    """Units under way that would arrive after an order that is placed now."""
    lead = np.reshape(problem.lead_time, (-1, 1)) if not isinstance(problem.lead_time, RandomLeadTime) else np.inf
    late = np.argwhere((pipeline > 0) & (np.arange(pipeline.shape[1]) >= lead))
    if len(late):
        row, step = late[0]
        own = int(np.broadcast_to(lead, (len(ids), 1))[row, 0])
        msg = (
            f"{where}column 'arriving_{step + 1}' is {pipeline[row, step]:g} for {ids[row]!r}, but an order placed now "
            f"arrives ahead of the demand of step {own + 1} (lead time {own})"
        )
        raise DataError(msg)


def _on_others(frame: pl.DataFrame, problem: InventoryProblem) -> str:
    """Sentences on the columns that are no stock: which the problem has been told, and which nobody has read."""
    own = [name for name in frame.columns if name in TERMS and isinstance(_shared(problem, name), np.ndarray)]
    numbers = [repr(name) for name in frame.columns if name not in own and _has_numbers(frame[name])]
    told = f" {', '.join(own)} are those of each product." if own else ""
    told += f" Not read: {', '.join(numbers)}." if numbers else ""
    dates = [repr(name) for name in frame.columns if not _has_numbers(frame[name]) and _has_dates(frame[name])]
    return told + (
        f" Not read: {', '.join(dates)}; stock is taken as it is after the last step of the history." if dates else ""
    )


def own_terms(path: Path, ids: list[str], problem: InventoryProblem, key: str = "unique_id") -> InventoryProblem:
    """The problem with a value for each of the forecast's products, where a stock table has a column of TERMS.

    A product without a row, or without a value in it, keeps what all share. `key` as for `read_stock`.
    """
    frame, where = _loaded(path, ("unique_id",), key), f"{path}: "
    row_of = {one: row for row, one in enumerate(plain_ids(frame["unique_id"], where))}
    rows = np.array([row_of.get(one, -1) for one in ids])
    own: dict[str, dict[str, np.ndarray]] = {"": {}, "trade": {}, "rules": {}}
    for name in TERMS:
        if name in frame.columns:
            given = _term(frame, name, where)
            values = np.append(given, np.nan)[rows]
            own[TERMS[name]][name] = np.where(np.isnan(values), _shared(problem, name), values)
    if np.any((own["trade"].get("unit_cost", 0.0) > 0) & ~(own["trade"].get("price", problem.trade.price) > 0)):
        msg = (
            f"{where}column 'unit_cost' needs a price, in a column 'price': without income, buying nothing is cheapest"
        )
        raise DataError(msg)
    _refuse_free(own[""], ids, where)
    trade, rules = replace(problem.trade, **own["trade"]), replace(problem.rules, **own["rules"])
    return replace(problem, **own[""], trade=trade, rules=rules)


def _refuse_free(own: dict[str, np.ndarray], ids: list[str], where: str) -> None:
    """Costs of which one is nothing: there is no balance between them to order by."""
    for name in ("holding_cost", "lost_sale_cost"):
        nothing = np.flatnonzero(own.get(name, np.ones(1)) == 0)
        if len(nothing):
            msg = f"{where}column {name!r} is 0 for {ids[nothing[0]]!r}; both costs must be above 0"
            raise DataError(msg)


def _term(frame: pl.DataFrame, name: str, where: str) -> np.ndarray:
    """A column of `TERMS`, NaN where there is no value."""
    given = plain_numbers(frame[name], where).fill_null(np.nan).to_numpy()
    steps = name == "lead_time"
    wrong = np.flatnonzero((given < 0) | (steps & ((given < 1) | (given % 1 != 0)) & ~np.isnan(given)))
    if len(wrong):
        rule = "it must be a whole number of steps, 1 or more" if steps else "it must not be negative"
        msg = f"{where}column {name!r} is {given[wrong[0]]:g} in row {wrong[0] + 1}; {rule}"
        raise DataError(msg)
    return given


def _shared(problem: InventoryProblem, name: str) -> Any:  # noqa: ANN401
    return getattr(getattr(problem, TERMS[name]) if TERMS[name] else problem, name)


def _has_numbers(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or (column.dtype == pl.String and plain_text(column) is None)


def _has_dates(column: pl.Series) -> bool:
    try:
        return plain_times(column.drop_nulls(), "").len() > 0
    except DataError:
        return False


def _loaded(path: Path, names: tuple[str, ...], key: str) -> pl.DataFrame:
    """A table of stock that has some columns, unique_id also under the name `key`; else the error says what to do."""
    frame = _stripped(load_table(path))
    if "unique_id" not in frame.columns and key in frame.columns:
        frame = frame.rename({key: "unique_id"})
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        listed = f"{', '.join(frame.columns[:_SHOWN])}{', ...' if len(frame.columns) > _SHOWN else ''}"
        calls = " and ".join(f"{_CALLED[name]} {name}" for name in lacking)
        msg = f"{path}: no column {lacking[0]!r}; the columns are {listed}; call {calls}"
        raise DataError(msg)
    return frame


def _stripped(frame: pl.DataFrame) -> pl.DataFrame:
    """Column names without blanks around them, which is how "unique_id, on_hand" is read."""
    names = [name.strip() for name in frame.columns]
    return frame.rename(dict(zip(frame.columns, names, strict=True))) if len(set(names)) == len(names) else frame


def _refuse_strangers(keys: list[str], ids: list[str], missing: np.ndarray, where: str) -> None:
    """Stock of other products, or of these under other names: orders would be made as if there was none."""
    if missing.all():
        msg = f"{where}none of its products ({keys[0]!r}, ...) is among those forecast ({ids[0]!r}, ...)"
        raise DataError(msg)
    strangers = sorted(set(keys) - set(ids))
    bare = {_bare(one): one for one in np.array(ids, dtype=object)[missing]}
    alike = [(key, bare[_bare(key)]) for key in strangers if _bare(key) in bare]
    if alike:
        key, one = alike[0]
        msg = (
            f"{where}product {key!r} has no forecast, and {one!r}, which is forecast, has no row, as {len(alike)} of "
            f"{len(keys)} products in it; write both alike, zeros in front too"
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
