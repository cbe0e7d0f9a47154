# SPDX-License-Identifier: Apache-2.0
"""Claim: the rungs and the ladder on public competition data, beside published figures.

One final window, quantiles 0.1 to 0.9, default settings (but for the row that says otherwise in its name), nothing
chosen on it: the ladder's weights come from windows inside the training part. Eight of its rungs are tried, since all
thirteen take hours on the longest series; --rungs names others. Every model runs in a process of its own, so that CPU
seconds and peak memory are its own. The targets stand at or below TiRex in Chronos Benchmark II (autogluon/fev) and,
for M4 weekly, Chronos-Bolt in GIFT-Eval. Scores of models that were not run anew are kept from the stored result.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from competitions import TASKS, Task, read
from store import RESULTS, bar, store

from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import backtest
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel

NAME = "forecasting/competitions"
MEMBERS = "mq-cnn x 3"  # the mean of three networks
MODELS = ("seasonal-naive", "auto-ets", "theta", "ces", "tsb", "mq-cnn", MEMBERS, "ladder")
RUNGS = ("seasonal-naive", "auto-ets", "theta", "ces", "tsb", "adida", "feed-forward", "mq-cnn")  # of the ladder
KEPT = ("mase", "wql", "sql", "coverage_80", "seconds", "cpu_seconds", "peak_memory_bytes")


def main() -> None:
    """Score every task and model, each in its own process, and store."""
    options = _options()
    folder = options.data / "competitions"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there")
        sys.exit(0)
    if options.one is not None:
        task, model = options.one
        panel = read(TASKS[task], folder)
        # A rehearsal scores the window before the last, as if the last one were not known.
        panel = panel.cut(TASKS[task].horizon) if options.rehearse else panel
        print(json.dumps(score(TASKS[task], model, panel, options.rungs, options.checkpoint)))
        return
    stored = RESULTS / f"{NAME}.json"
    measured: dict[str, Any] = json.loads(stored.read_text())["measured"] if stored.exists() else {}
    for task in options.tasks:
        for model in options.models:
            row = _apart(task, model)
            measured.setdefault(task, {})[model] = row
            print(task, model, {key: round(value, 4) for key, value in row.items() if key in KEPT}, flush=True)
        if options.rehearse:
            continue
        claim = "The rungs and the ladder at default settings on public competition data, one final window"
        store(NAME, claim, "python benchmarks/forecasting_competitions.py --data DIR", measured, _bars(measured))


def score(task: Task, model: str, panel: Panel, rungs: tuple[str, ...], checkpoint: Path | None) -> dict[str, Any]:
    """The scores of one model on the panel's last window."""
    if model == ladder.NAIVE:
        forecaster = Textbook(task.horizon, model, season=task.season)
    elif model == ladder.LADDER:
        forecaster = Ladder(task.horizon, rungs, checkpoint=checkpoint)
    elif model == MEMBERS:
        forecaster = MQCNN(task.horizon, members=3)
    else:
        forecaster = ladder.build(model, task.horizon)
    result = backtest({model: forecaster}, panel, windows=1, season=task.season).scores[0]
    row = {key: getattr(result, key) for key in KEPT}
    return row | ({"why": forecaster.reasons} if isinstance(forecaster, Ladder) else {})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = lambda text: tuple(part.strip() for part in text.split(","))  # noqa: E731
    parser.add_argument("--data", type=Path, required=True, help="folder that holds competitions/")
    parser.add_argument("--tasks", type=names, default=tuple(TASKS), help=f"of {', '.join(TASKS)}")
    parser.add_argument("--models", type=names, default=MODELS, help="rungs, comma-separated")
    parser.add_argument("--rungs", type=names, default=RUNGS, help="rungs of the ladder, comma-separated")
    parser.add_argument("--checkpoint", type=Path, help="folder that keeps the ladder's validation forecasts")
    parser.add_argument("--rehearse", action="store_true", help="score the window before the last; store nothing")
    parser.add_argument("--one", nargs=2, metavar=("TASK", "MODEL"), help="score one model here and print it as JSON")
    options = parser.parse_args()
    ladder.check_names([*(set(options.models) - {MEMBERS}), *options.rungs])
    return options


def _apart(task: str, model: str) -> dict[str, Any]:
    """What `score` gives in a process of its own."""
    command = [sys.executable, *sys.argv, "--one", task, model]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _bars(measured: dict[str, Any]) -> list[dict[str, Any]]:
    bars = []
    for name, task in TASKS.items():
        rows = measured.get(name, {})
        if ladder.NAIVE in rows:
            gap = abs(rows[ladder.NAIVE]["mase"] - task.naive)
            bars.append(bar(f"{name}: MASE of the seasonal naive, distance from the published", gap, 0.001))
        for measure, target in zip(("mase", "wql"), task.targets, strict=True):
            if ladder.LADDER in rows and target is not None:
                bars.append(bar(f"{name}: {measure.upper()} of the ladder", rows[ladder.LADDER][measure], target))
        neural = [row for model, row in rows.items() if model.startswith("mq-") or model == "feed-forward"]
        if name == "M3 monthly" and neural:
            best = min(neural, key=lambda row: row["mase"])
            bars.append(bar(f"{name}: MASE of the best network", best["mase"], 0.851))
            bars.append(bar(f"{name}: WQL of the same network", best["wql"], 0.093))
    return bars


if __name__ == "__main__":
    main()
