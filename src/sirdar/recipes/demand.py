# SPDX-License-Identifier: Apache-2.0
"""A demand table as recipes read it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES
from sirdar.forecasting.panel import Panel
from sirdar.inventory import uncensor

SOLD_OUT = ("missing", "estimated")


@dataclass(frozen=True)
class Demand:
    """A table, how its columns are read, and how far it is to be forecast.

    Args:
        source: a Parquet or CSV file or a folder of them; the bundled retail demand when None.
        horizon: steps to forecast.
        roles: arguments of `Panel.read`: columns, frequency, what a gap means; and as `sold_out` what the demand of a
            step is that sold out, one of `SOLD_OUT`, see `with_lost_sales`.
    """

    source: Path | None = None
    horizon: int = 13
    roles: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> Panel:
        """The panel.

        Raises:
            ArgumentError: `sold_out` is not known, or demand is to be estimated where no column tells the stock.
            DataError: names the file, column, row or value and what to do.
        """
        roles = dict(self.roles)
        sold_out = roles.pop("sold_out", "missing")
        if sold_out not in SOLD_OUT:
            msg = f"what a step that sold out is must be one of {', '.join(SOLD_OUT)}, got {sold_out!r}"
            raise ArgumentError(msg)
        if sold_out == "estimated" and "in_stock" not in roles:
            msg = "demand that found no stock can be estimated where a column tells of the stock: name it as in_stock"
            raise ArgumentError(msg)
        panel = (
            Panel.read(ONLINE_RETAIL, **(ROLES | roles)) if self.source is None else Panel.read(self.source, **roles)
        )
        return with_lost_sales(panel) if sold_out == "estimated" else panel

    def digest(self) -> str:
        """Names the table's content and how it is read."""
        source = self.source or ONLINE_RETAIL
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        found = hashlib.sha256(json.dumps(dict(self.roles), sort_keys=True).encode())
        for file in files:
            found.update(file.read_bytes())
        return found.hexdigest()[:16]


def with_lost_sales(panel: Panel, seed: int = 0) -> Panel:
    """The panel with the demand that steps which sold out would have had, in place of none.

    It is drawn given that it was at least what was sold, see `inventory.uncensor`; demand in fractions of a unit is the
    expected one. A step out of stock in which nothing was sold shows nothing, and stays unknown.

    Args:
        panel: one that knows when there was stock; another is given back as it is.
        seed: of the draws.
    """
    if panel.in_stock is None:
        return panel
    time = int(panel.history.max(initial=0))
    sales = panel.tail(panel.target, time).astype(np.float64)
    seen = np.isfinite(sales) & (panel.tail(panel.in_stock.astype(np.float32), time) > 0)
    sold = np.maximum(np.nan_to_num(sales), 0)
    rows, steps = np.nonzero(~seen & (sold > 0))
    target, in_stock = panel.target.copy(), panel.in_stock.copy()
    notes = [each for each in panel.notes if "steps out of stock" not in each]
    if len(rows):
        told = (seen | (sold > 0)).any(axis=1)
        wanted = sold.copy()
        wanted[told] = uncensor(sold[told], seen[told], together=True, seed=seed if panel.whole else None)
        place = (panel.indptr[:-1] + panel.history)[rows] - time + steps
        target[place], in_stock[place] = wanted[rows, steps], True
        found, before = wanted[rows, steps].sum(), sold[rows, steps].sum()
        notes.append(
            f"{len(rows)} steps sold out: their demand is estimated, {found:,.0f} units in place of {before:,.0f} "
            "sold; a backtest is scored on it too."
        )
    left = int((np.isfinite(target) & ~in_stock & panel.in_history).sum())
    if left:
        notes.append(
            f"{left} steps without stock, in which nothing was sold, are left out: they tell nothing of demand."
        )
    return replace(panel, target=target, in_stock=in_stock, notes=tuple(notes))
