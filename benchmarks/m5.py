# SPDX-License-Identifier: Apache-2.0
"""The M5 panel as the forecasting benchmarks use it: daily sales of 30,490 products in stores of Walmart."""

from pathlib import Path

import numpy as np
import polars as pl

from sirdar.forecasting.panel import Panel

HORIZON = 28
EVENTS = ("Cultural", "National", "Religious", "Sporting")
STATIC = ("item_id", "dept_id", "cat_id", "store_id", "state_id")


def frame(folder: Path, series: int | None = None, seed: int = 0) -> pl.LazyFrame:
    """Sales with price, events, SNAP days of the own state, and statics; a day without a price was not on sale.

    Args:
        folder: holds sales_daily, calendar and static.
        series: a random sample of so many; all when None.
        seed: of the sample.
    """
    static = pl.read_parquet(folder / "static.parquet")
    if series is not None:
        static = static[np.sort(np.random.default_rng(seed).choice(len(static), series, replace=False))]
    calendar = pl.scan_parquet(folder / "calendar.parquet").with_columns(pl.col("date").cast(pl.Date))
    kinds = [
        ((pl.col("event_type_1") == kind) | (pl.col("event_type_2") == kind))
        .fill_null(value=False)
        .cast(pl.Float32)
        .alias(kind.lower())
        for kind in EVENTS
    ]
    days = calendar.select("date", *kinds, "snap_CA", "snap_TX", "snap_WI")
    snap = pl.coalesce(
        pl.when(pl.col("state_id") == state).then(pl.col(f"snap_{state}").cast(pl.Float32))
        for state in ("CA", "TX", "WI")
    )
    sales = pl.scan_parquet(folder / "sales_daily.parquet").filter(pl.col("sell_price").is_not_null())
    return (
        sales.with_columns(pl.col("unique_id").cast(pl.String), pl.col("y").cast(pl.Float32))
        .join(static.lazy(), on="unique_id", maintain_order="left")
        .join(days, left_on="ds", right_on="date", maintain_order="left")
        .with_columns(snap.alias("snap"))
        .drop("snap_CA", "snap_TX", "snap_WI", "split")
    )


def read(folder: Path, series: int | None = None) -> Panel:
    """History to the end of the validation split; `cut(HORIZON)` of it is the training split."""
    return Panel.read(
        frame(folder, series).collect(),
        freq="D",
        price="sell_price",
        future=[*(kind.lower() for kind in EVENTS), "snap"],
        static=list(STATIC),
    )
