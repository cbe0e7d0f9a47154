# SPDX-License-Identifier: Apache-2.0
"""The competition tables under --data as panels, each with its horizon and the season that its MASE refers to."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sirdar.forecasting.panel import Panel


@dataclass(frozen=True)
class Task:
    """One table, its final window and what others reached there.

    Args:
        file: parquet file in `competitions/`.
        freq: of the panel.
        horizon: steps of the final window.
        season: of MASE and of the seasonal naive.
        naive: MASE of the seasonal naive in Chronos Benchmark II (autogluon/fev): the check of the loader.
        targets: MASE and WQL to reach; None where there is none.
    """

    file: str
    freq: str
    horizon: int
    season: int
    naive: float
    targets: tuple[float | None, float | None]


TASKS = {
    "M3 monthly": Task("m3", "M", 18, 12, 1.146, (0.835, 0.090)),
    "M1 monthly": Task("m1", "M", 18, 12, 1.314, (1.06, 0.132)),
    "M4 weekly": Task("m4_weekly", "W", 13, 1, 2.777, (2.05, None)),
    "car parts": Task("carparts_monthly", "M", 12, 12, 1.201, (0.81, 0.95)),
}


def read(task: Task, folder: Path) -> Panel:
    """The whole panel, test window included: `cut(horizon)` is what may be learned from."""
    path = folder / f"{task.file}.parquet"
    if task.freq == "M" and task.file.startswith("carparts"):
        return Panel.read(path, freq="M")
    frame = pl.read_parquet(path)
    if task.freq == "M":
        frame = frame.filter(pl.col("freq") == 12).with_columns(ds=_months(frame.filter(pl.col("freq") == 12)))
    elif task.freq == "h":  # nor have the hours
        frame = frame.with_columns(ds=pl.datetime(1970, 1, 4) + pl.duration(hours=pl.col("t")))
    else:  # the weeks of M4 have no dates: all series are said to begin on one Sunday
        frame = frame.with_columns(ds=pl.date(1970, 1, 4) + pl.duration(weeks=pl.col("t")))
    return Panel.read(frame.select("unique_id", "ds", "y"), freq=task.freq)


def _months(frame: pl.DataFrame) -> pl.Series:
    """The first day of each row's month; a year that is not known (1, 2, ...) is counted from 1900."""
    first = (frame["start"] * 12).round().cast(pl.Int64)
    month = first + pl.Series((first < 1000 * 12).cast(pl.Int64)) * 1900 * 12 + frame["t"].cast(pl.Int64)
    return pl.DataFrame({"year": month // 12, "month": month % 12 + 1}).select(pl.date("year", "month", 1))["date"]
