# SPDX-License-Identifier: Apache-2.0
"""Claim: MQ-CNN and the plain ensemble on public competition data, beside published zero-shot and textbook figures.

Data under --data: `competitions/carparts_monthly.parquet`. One final window, quantiles 0.1 to 0.9,
default settings, nothing chosen on it. The targets stand below the MASE and WQL of TiRex in
Chronos Benchmark II (autogluon/fev): .839/.991.
"""

import argparse
import sys
from pathlib import Path

from store import bar, store

from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import Backtest, backtest
from sirdar.forecasting.panel import Panel

MODELS = ("seasonal-naive", "theta", "tsb", "mq-cnn")
# name: (file, freq, horizon, targets of MASE and WQL)
TASKS = {
    "car parts": ("carparts_monthly", "M", 12, (0.81, 0.95)),
}


def main() -> None:
    """Score every task, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds competitions/")
    folder = parser.parse_args().data / "competitions"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there")
        sys.exit(0)
    bars, measured = [], {}
    for task, (file, freq, horizon, (mase, wql)) in TASKS.items():
        result = score(Panel.read(folder / f"{file}.parquet", freq=freq), horizon)
        rows = {row.model: row for row in result.scores}
        measured[task] = {
            name: {"mase": row.mase, "wql": row.wql, "coverage_80": row.coverage_80, "seconds": row.seconds}
            for name, row in rows.items()
        }
        print(task, {name: (round(row.mase, 4), round(row.wql, 4)) for name, row in rows.items()}, flush=True)
        bars.append(bar(f"{task}: MASE of mq-cnn", rows["mq-cnn"].mase, mase))
        bars.append(bar(f"{task}: WQL of mq-cnn", rows["mq-cnn"].wql, wql))
        bars.append(bar(f"{task}: MASE of the plain ensemble", rows["ensemble"].mase, mase))
        bars.append(bar(f"{task}: WQL of the plain ensemble", rows["ensemble"].wql, wql))
    claim = "MQ-CNN at default settings on public competition data, one final window"
    store("forecasting/competitions", claim, "python benchmarks/forecasting_competitions.py --data DIR", measured, bars)


def score(panel: Panel, horizon: int) -> Backtest:
    """The final window."""
    return backtest({name: ladder.build(name, horizon) for name in MODELS}, panel, windows=1)


if __name__ == "__main__":
    main()
