# SPDX-License-Identifier: Apache-2.0
"""Claim: networks that are told a country's holidays forecast better than those that are not.

NN5: cash drawn from 111 machines in England, daily, 18 March 1996 to 17 May 1998 (the dates are those of the
competition; the table counts days). Six origins 28 days apart: Christmas, New Year, Easter and a bank holiday lie in
what is forecast. Quantiles 0.1 to 0.9, default settings, one seed. That holidays help the networks, and the days beside
them too, was seen on these windows before the benchmark was written. Data under --data: `competitions/`.
"""

import argparse
import sys
from pathlib import Path

import polars as pl
import torch
from store import bar, store

from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import backtest
from sirdar.forecasting.panel import Panel

RUNGS = ("mq-cnn", "feed-forward", "sqrf")
HORIZON, WINDOWS = 28, 6
KEPT = ("wql", "sql", "mase", "coverage_80", "cpu_seconds")


def main() -> None:
    """Every rung with and without holidays, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds competitions/")
    table = parser.parse_args().data / "competitions" / "nn5_daily.parquet"
    if not table.exists():
        print(f"skipped: {table} is not there")
        sys.exit(0)
    torch.set_num_threads(1)
    days = pl.date(1996, 3, 18) + pl.duration(days=pl.col("t"))
    frame = pl.read_parquet(table).select("unique_id", days.alias("ds"), "y")
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for told, country in (("none", None), ("GB", "GB")):
        panel = Panel.read(frame, holidays=country)
        for rung in RUNGS:
            score = backtest({rung: ladder.build(rung, HORIZON)}, panel, windows=WINDOWS, season=7).scores[0]
            measured.setdefault(rung, {})[told] = {name: getattr(score, name) for name in KEPT}
            print(rung, told, measured[rung][told], flush=True)
    ratios = {rung: rows["GB"]["wql"] / rows["none"]["wql"] for rung, rows in measured.items()}
    store(
        "forecasting/holidays",
        "networks that are told a country's holidays forecast better than those that are not",
        "python benchmarks/forecasting_holidays.py --data DIR",
        {"models": measured, "wql_over_untold": ratios},
        [bar(f"{rung}: WQL over that without holidays", ratio, 1.0) for rung, ratio in ratios.items()],
    )


if __name__ == "__main__":
    main()
