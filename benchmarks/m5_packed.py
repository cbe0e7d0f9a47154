# SPDX-License-Identifier: Apache-2.0
"""The daily M5 panel in one small file of arrays, so that a machine without a data-frame library can read it.

Sales, prices in cents by week, and the calendar: all that `m5.frame` joins. A day without a price was not on sale. Here
the price is known ahead, as in fev's task of the same name, which gives price, events and SNAP days of the horizon.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sirdar.forecasting.panel import Panel
from sirdar.predictive import Frequency

HORIZON = 28
SEASON = 7
EVENTS = ("cultural", "national", "religious", "sporting")
KNOWN = (*EVENTS, "snap", "sell_price")
STATIC = ("item_id", "dept_id", "cat_id", "store_id", "state_id")


class Daily(NamedTuple):
    """Arrays by series and day."""

    ids: np.ndarray  # [series], text
    first: np.datetime64  # the day of the first column
    sales: np.ndarray  # float32 [series, day]; NaN where not on sale
    known: dict[str, np.ndarray]  # float32 [series, day], by `KNOWN`
    static: dict[str, np.ndarray]  # text [series], by `STATIC`


def pack(folder: Path, file: Path) -> None:
    """Reads the tables of `folder` and writes the file under a temporary name, then renames it."""
    import polars as pl  # here, not above: who only reads the file need not have it

    static = pl.read_parquet(folder / "static.parquet")
    table = pl.read_parquet(folder / "sales_daily.parquet", columns=["unique_id", "ds", "y", "sell_price"])
    table = table.with_columns(pl.col("unique_id").cast(pl.String))
    series = len(static)
    days = table["ds"].n_unique()
    if (
        len(table) != series * days
        or not (table["unique_id"].to_numpy()[::days] == static["unique_id"].to_numpy()).all()
    ):
        msg = f"{folder}: sales_daily.parquet does not hold every series of static.parquet on every day, in its order"
        raise ValueError(msg)
    first, last = table["ds"].min(), table["ds"].max()
    calendar = pl.read_parquet(folder / "calendar.parquet").with_columns(pl.col("date").cast(pl.Date))
    calendar = calendar.filter(pl.col("date").is_between(first, last)).sort("date")
    week = np.unique(calendar["wm_yr_wk"].to_numpy(), return_inverse=True)[1]
    price = np.nan_to_num(table["sell_price"].to_numpy().reshape(series, days))
    cents = np.round(price * 100).astype(np.uint16)
    starts = np.searchsorted(week, np.arange(week.max() + 1))
    weekly = cents[:, starts]
    if not (weekly[:, week] == cents).all():
        msg = f"{folder}: a price changes within a week of the calendar"
        raise ValueError(msg)
    kinds = [(calendar["event_type_1"] == kind.title()) | (calendar["event_type_2"] == kind.title()) for kind in EVENTS]
    arrays: dict[str, Any] = {
        "sales": table["y"].to_numpy().reshape(series, days).astype(np.int16),
        "cents": weekly,
        "week": week.astype(np.uint8),
        "events": np.stack([kind.fill_null(value=False).to_numpy() for kind in kinds]).astype(np.uint8),
        "snap": np.stack([calendar[f"snap_{state}"].to_numpy() for state in ("CA", "TX", "WI")]).astype(np.uint8),
        "first": np.array(str(first)),
    }
    for name in STATIC:
        values, codes = np.unique(static[name].to_numpy().astype(str), return_inverse=True)
        arrays |= {f"{name}.values": values, f"{name}.codes": codes.astype(np.uint16)}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    part.replace(file)


def read(file: Path, series: int | None = None, seed: int = 0) -> Daily:
    """All of the file, or a random sample of its series, the same as `m5.frame` takes."""
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    total = len(arrays["sales"])
    rows = np.arange(total)
    if series is not None:
        rows = np.sort(np.random.default_rng(seed).choice(total, series, replace=False))
    static = {name: arrays[f"{name}.values"][arrays[f"{name}.codes"][rows]] for name in STATIC}
    price = arrays["cents"][rows][:, arrays["week"]].astype(np.float32) / 100
    price[price == 0] = np.nan
    sales = np.where(np.isfinite(price), arrays["sales"][rows], np.float32(np.nan)).astype(np.float32)
    shape = sales.shape
    known = {
        name: np.broadcast_to(days.astype(np.float32), shape)
        for name, days in zip(EVENTS, arrays["events"], strict=True)
    }
    state = np.searchsorted(["CA", "TX", "WI"], static["state_id"])
    known |= {"snap": arrays["snap"][state].astype(np.float32), "sell_price": price}
    ids = np.char.add(np.char.add(static["item_id"], "_"), static["store_id"])
    return Daily(ids, np.datetime64(str(arrays["first"])), sales, known, static)


def cut(daily: Daily, days: int) -> Daily:
    """As it stood so many days earlier, all later ones taken away."""
    keep = slice(0, daily.sales.shape[1] - days)
    known = {name: values[:, keep] for name, values in daily.known.items()}
    return daily._replace(sales=daily.sales[:, keep], known=known)


def panel(daily: Daily) -> Panel:
    """Series from their first day on sale; the last `HORIZON` days are the future, whose covariates alone are told."""
    days = daily.sales.shape[1]
    first = np.isfinite(daily.known["sell_price"]).argmax(axis=1)
    inside = np.arange(days) >= first[:, None]
    lengths = days - first
    origin = int((daily.first - np.datetime64("1970-01-01")) / np.timedelta64(1, "D"))
    sales = daily.sales.copy()
    sales[:, days - HORIZON :] = np.nan
    return Panel(
        ids=daily.ids.tolist(),
        frequency=Frequency("D"),
        start=(origin + first).astype(np.int64),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history=np.maximum(lengths - HORIZON, 0).astype(np.int64),
        target=sales[inside],
        static={name: values.astype(object) for name, values in daily.static.items()},
        future={name: np.ascontiguousarray(values[inside]) for name, values in daily.known.items()},
        price="sell_price",
    )
