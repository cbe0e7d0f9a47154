# SPDX-License-Identifier: Apache-2.0
"""What a run leaves on disk: whole files or none."""

import dataclasses
import errno
import json
import math
import os
import platform
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sirdar.errors import DataError, OutputError
from sirdar.forecasting.backtest import Backtest
from sirdar.forecasting.tables import load_table
from sirdar.placing import MARK, scratch, sweep
from sirdar.predictive import Forecast, Frequency
from sirdar.recipes.plan import Orders

_VERSIONED = ("sirdar", "torch", "numpy", "polars", "statsforecast", "altair", "vl-convert-python")
_METADATA = "sirdar"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def output_folder(path: Path, stale: Sequence[str] = ()) -> Iterator[Path]:
    """A scratch folder whose files move into `path` when the block ends well, and vanish when it does not.

    It lies in `path` where that exists, which may be a disk of its own, and beside it otherwise.

    Args:
        path: the folder, made if missing; files of it that the block does not write stay.
        stale: names of an earlier run's files that do not: where the block does not write them, they go.

    Raises:
        OutputError: at once, before any work, when `path` cannot be written; later, when the disk is full.
    """
    shown, made = path, []
    with ExitStack() as stack:
        try:
            path = path.resolve()
            if path.exists() and not path.is_dir():
                msg = f"{shown}: exists and is no folder; choose another --out"
                raise OutputError(msg)
            made = [parent for parent in path.parents if not parent.exists()]  # nearest first
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove_empty, made)
            sweep(path.parent, path.name)  # where an earlier run died before `path` was there
            folder = stack.enter_context(scratch(path if path.is_dir() else path.parent, path.name))
        except (OSError, RuntimeError) as error:  # the latter of links that go round
            msg = f"{shown}: the output folder cannot be written ({_reason(error)}); choose another --out"
            raise OutputError(msg) from error
        try:
            yield folder
        except OSError as error:
            if error.errno not in _FULL or error.filename:
                raise
            msg = f"{shown}: cannot be written ({_reason(error)})"  # a write to a full disk names no file
            raise OutputError(msg) from error
        try:
            _move(folder, path, stale)
        except OSError as error:
            msg = f"{shown}: cannot be written ({_reason(error)})"
            raise OutputError(msg) from error


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # something stands in it
            folder.rmdir()


def _move(folder: Path, path: Path, stale: Sequence[str]) -> None:
    if not path.exists():
        folder.rename(path)
        return
    new = {item.name for item in folder.iterdir()}
    aside = folder / MARK
    aside.mkdir()
    for name in sorted(new | set(stale)):
        item, target = folder / name, path / name
        there = target.exists() or target.is_symlink()
        if there and (name not in new or item.is_dir() or target.is_dir()):  # a file takes a file's place in one step
            target.rename(aside / name)
        if name in new:
            item.replace(target)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def write_table(frame: pl.DataFrame, path: Path, metadata: dict[str, str] | None = None) -> None:
    """A frame as Parquet, or as CSV by the path's name.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        if path.suffix == ".csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path, metadata=metadata)
    except (OSError, pl.exceptions.PolarsError) as error:
        msg = f"{path.name}: cannot be written ({_reason(error)})"
        raise OutputError(msg) from error


def write_forecast(forecast: Forecast, path: Path) -> None:
    """A long table (unique_id, ds, one column per level), with the calendar in the file's metadata."""
    facts = {
        "frequency": dataclasses.asdict(forecast.frequency),
        "floor": _without_infinity(np.asarray(forecast.floor).tolist()),
        "correlation": forecast.correlation,
    }
    frame = pl.DataFrame(dataclasses.replace(forecast, native=None).to_frame())
    if not forecast.frequency.intraday:
        frame = frame.with_columns(pl.col("ds").cast(pl.Date))
    write_table(frame, path, {_METADATA: json.dumps(facts)})


def _without_infinity(floor: float | list[float]) -> float | list[float | None] | None:
    """The floors of a forecast as JSON can hold them: None for minus infinity."""
    if isinstance(floor, list):
        return [None if math.isinf(part) else part for part in floor]
    return None if math.isinf(floor) else floor


def read_forecast(path: Path) -> Forecast:
    """What `write_forecast` wrote."""
    if path.is_dir():
        msg = f"{path}: is a folder; give the forecast.parquet in it"
        raise DataError(msg)
    frame = load_table(path)
    try:
        facts = json.loads(pl.read_parquet_metadata(path)[_METADATA])
        frequency = Frequency(**facts["frequency"])
        columns = [name for name in frame.columns if name not in {"unique_id", "ds"}]
        levels = tuple(float(name[1:]) for name in columns)
        ids = frame["unique_id"].unique(maintain_order=True).to_list()
        values = frame.select(columns).to_numpy().astype(np.float32).reshape(len(ids), -1, len(levels))
        first = frame["ds"].to_numpy().reshape(len(ids), -1)[:, 0].astype("datetime64[s]")
    except (pl.exceptions.PolarsError, KeyError, TypeError, ValueError) as error:
        msg = f"{path}: not a forecast that `sirdar forecast` or `sirdar plan` wrote"
        raise DataError(msg) from error
    floor = np.array(facts["floor"], dtype=np.float64)  # of all series or of each; null becomes NaN
    floor = np.where(np.isnan(floor), -np.inf, floor)[()]
    return Forecast(ids, frequency.periods(first), frequency, levels, values, floor, facts["correlation"])


def orders_frame(orders: Orders) -> pl.DataFrame:
    """One row per product: what it has, what to order, and what to expect of it."""
    columns = orders.plan.columns()
    frame = pl.DataFrame({"unique_id": columns.pop("unique_id"), "on_hand": orders.stock.on_hand} | columns)
    under_way = orders.stock.pipeline.sum(axis=1)
    return frame.insert_column(2, pl.Series("under_way", under_way))


def write_orders(orders: Orders, folder: Path) -> None:
    """orders.parquet, and orders.csv for spreadsheets and ordering systems.

    Raises:
        OutputError: a file cannot be written.
    """
    frame = orders_frame(orders)
    write_table(frame, folder / "orders.parquet")
    write_table(frame, folder / "orders.csv")


def order_totals(orders: Orders) -> dict[str, float]:
    """Sums over all products."""
    frame = orders_frame(orders)
    units = ("on_hand", "under_way", "quantity", "expected_demand", "expected_sold", "expected_lost")
    costs = ("holding_cost", "lost_sale_cost", "ordering_cost", "expected_cost")
    totals = {name: float(frame[name].sum()) for name in (*units, *costs)}
    trade, rules = orders.problem.trade, orders.problem.rules
    if np.any(trade.unit_cost):
        totals["spent"] = float((orders.plan.quantity * trade.unit_cost).sum())
    if math.isfinite(rules.capacity):
        filled = frame["on_hand"] + frame["under_way"] + frame["quantity"]
        totals["room_filled"] = float((filled.to_numpy() * rules.volume).sum())
    return totals | {"products_ordered": int((frame["quantity"] > 0).sum()), "fill_rate": orders.plan.total_fill_rate}


def leaderboard(evaluation: Backtest) -> dict[str, Any]:
    """The backtest as plain data."""
    return {
        "winner": evaluation.winner,
        "horizon": evaluation.horizon,
        "season": evaluation.season,
        "origins": [{"last_period": origin.label, "series": len(origin.ids)} for origin in evaluation.origins],
        "models": [dataclasses.asdict(score) for score in evaluation.scores],
        "why": evaluation.why,
    }


def write_json(content: Any, path: Path) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Indented JSON; numbers that are not finite become null."""
    path.write_text(json.dumps(finite(content), indent=1, default=str) + "\n")


def finite(value: Any) -> Any:  # noqa: ANN401
    """The same plain data with NaN and infinity as None, which JSON can say."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def environment() -> dict[str, Any]:
    """Versions, machine and peak memory of this process and its largest child."""
    peak = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _VERSIONED}},
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "architecture": platform.machine()},
        "peak_memory_bytes": peak[0],
        "peak_memory_of_largest_child_bytes": peak[1],
        "arguments": sys.argv[1:],
    }
