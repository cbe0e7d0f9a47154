# SPDX-License-Identifier: Apache-2.0
"""Covariates of text, such as the names of events: every value becomes a column of its own."""

from collections.abc import Sequence

import polars as pl

from sirdar.errors import DataError
from sirdar.forecasting.tables import Table, plain_text

_MOST = 32  # values of one column that are told apart, the commonest


def by_value(
    tables: list[Table], names: Sequence[str], where: str
) -> tuple[list[Table], dict[str, tuple[str, ...]], list[str]]:
    """The tables with a Boolean column in place of each value of a text column.

    Args:
        tables: the parts of one table.
        names: of columns that may be text or numbers.
        where: words that name the whole in errors.

    Returns:
        The tables; of each text column the columns of its values, `event=Easter`, or itself where it holds nothing at
        all; and what was left out, as sentences.

    Raises:
        DataError: a column is already called as a value's would be.
    """
    found: dict[str, tuple[str, ...]] = {}
    notes = []
    for name in names:
        parts = [plain_text(table.frame[name]) for table in tables]
        texts = [part for part in parts if part is not None]
        if len(texts) < len(parts):
            continue
        values, note = _commonest(pl.concat(texts).drop_nulls(), name)
        columns = {f"{name}={value}": value for value in values}
        taken = next((column for column in columns if column in tables[0].frame.columns), None)
        if taken is not None:
            msg = f"{where}column {name!r} holds {columns[taken]!r}, but column {taken!r} exists; rename one of them"
            raise DataError(msg)
        tables = [
            table._replace(
                frame=table.frame.with_columns(
                    text.eq_missing(value).alias(column) for column, value in columns.items()
                )
            )
            for table, text in zip(tables, texts, strict=True)
        ]
        found[name] = tuple(columns) or (name,)
        notes += note
    return tables, found, notes


def yes_or_no(table: Table, name: str) -> Table:
    """The table with 1 and 0 for yes and no in a column that tells whether something was in stock."""
    column = table.frame[name]
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return table
    text = column.cast(pl.String)
    plain = text.str.strip_chars().str.to_lowercase()
    flags = plain.replace_strict({"yes": "1", "no": "0"}, default=None, return_dtype=pl.String)
    return table._replace(frame=table.frame.with_columns(flags.fill_null(text)))


def _commonest(text: pl.Series, name: str) -> tuple[list[str], list[str]]:
    """The values told apart, in order, and what is said of the others."""
    counts = text.rename("value").value_counts().sort("count", "value", descending=[True, False])
    kept = counts["value"].head(_MOST).sort().to_list()
    left = len(counts) - len(kept)
    if not left:
        return kept, []
    return kept, [f"{left} of the {len(counts)} values of {name!r} are rare and count as none"]
