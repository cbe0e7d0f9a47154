# SPDX-License-Identifier: Apache-2.0
"""Claim: on a few series MQ-CNN's own number of steps forecasts better than the 400 of large panels.

Panels of 5, 20 and 80 series drawn at random from competition tables, final window, quantiles 0.1 to 0.9, one seed. In
400 steps a network learns so few observations by heart. How the steps fall was chosen on earlier windows of other draws
from these tables, which may share series with these, and on tables that are not here. A first draw, scored before, had
shown five hourly series trained too short; since then long series keep their steps, and these panels were drawn anew.
Theta and AutoETS stand beside it; ratios are geometric means over panels. Data under --data: `competitions/`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import competitions
import numpy as np
import torch
from competitions import Task
from store import bar, store

from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import backtest
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel

TASKS = competitions.TASKS | {"M4 hourly": Task("m4_hourly", "h", 48, 24, 1.193, (None, None))}
SIZES = (5, 20, 80)
OURS, LONG = "mq-cnn", "mq-cnn, 400 steps"
RIVALS = ("theta", "auto-ets")
KEPT = ("sql", "wql", "mase", "coverage_80", "cpu_seconds")


def main() -> None:
    """Every panel and model, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds competitions/")
    folder = parser.parse_args().data / "competitions"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there")
        sys.exit(0)
    torch.set_num_threads(1)
    measured: dict[str, Any] = {}
    for name, task in TASKS.items():
        panel = competitions.read(task, folder)
        for size in SIZES:
            key = f"{name}, {size} series"
            measured[key] = scored(drawn(panel, size, task.horizon), task)
            print(key, {model: round(row["sql"], 4) for model, row in measured[key].items()}, flush=True)
    ratios = {
        f"{metric} over {rival}": ratio(measured, metric, rival)
        for rival in (LONG, *RIVALS)
        for metric in ("sql", "wql")
    }
    coverage = {
        model: float(np.mean([row[model]["coverage_80"] for row in measured.values()])) for model in (OURS, LONG)
    }
    store(
        "forecasting/small",
        "on a few series MQ-CNN's own number of steps forecasts better than the 400 of large panels",
        "python benchmarks/forecasting_small.py --data DIR",
        {"panels": measured, "ratios": ratios, "mean_coverage_80": coverage},
        [
            bar("SQL over that of 400 steps", ratios[f"sql over {LONG}"], 1.0),
            bar("WQL over that of 400 steps", ratios[f"wql over {LONG}"], 1.0),
            bar("SQL over theta's", ratios["sql over theta"], 1.0),
            bar("SQL over AutoETS's", ratios["sql over auto-ets"], 1.0),
        ],
    )


def drawn(panel: Panel, size: int, horizon: int) -> Panel:
    """So many series at random, of those with more than two horizons of history."""
    long = np.flatnonzero(panel.observations() > 3 * horizon)
    return panel.select(np.sort(np.random.default_rng((size, 2)).choice(long, size, replace=False)))


def scored(panel: Panel, task: Task) -> dict[str, dict[str, float]]:
    """The scores of all models on the last window."""
    models = {OURS: MQCNN(task.horizon), LONG: MQCNN(task.horizon, steps=400)}
    models |= {name: ladder.build(name, task.horizon) for name in RIVALS}
    scores = backtest(models, panel, windows=1, season=task.season).scores
    rows = {score.model: {key: getattr(score, key) for key in KEPT} for score in scores}
    return {name: rows[name] for name in models}


def ratio(measured: dict[str, Any], metric: str, rival: str) -> float:
    """Ours over the rival's, geometric mean over panels."""
    return float(np.exp(np.mean([np.log(row[OURS][metric] / row[rival][metric]) for row in measured.values()])))


if __name__ == "__main__":
    main()
