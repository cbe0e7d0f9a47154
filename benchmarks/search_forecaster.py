# SPDX-License-Identifier: Apache-2.0
"""Claim: MQ-CNN searched for a chip takes 40 % less of its time at no worse a forecast.

Data under --data: `m5/`, 5,000 random series by week, the next four weeks forecast. The last four weeks are the test;
no search sees them. A search trains for 100 steps on all before the last eight weeks, judges on the next four, and must
stay below 60 % of the latency of MQ-CNN as it comes (32 channels). Baseline and winners then train on all before the
test, as long as MQ-CNN does by itself, with three seeds; the loss is the weighted quantile loss over nine deciles.

Latency: Trainium 1 as `sirdar estimate` has it, all 30,490 series of M5 at once in bf16; Ethos-U85-512 by Arm's
compiler, one series in int8, the part of the network that has weights; this processor measured, one thread's processor
time for 1,024 series, the least of seven. The first two are estimates. What starts a run on Trainium is never saved, so
the winner's saving at 4,096 series stands beside it. Trainings are kept in --cache, and --seconds ends a part, to be
gone on with.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import m5
import numpy as np
import torch
from scipy.stats import t as student
from store import bar, store

from sirdar.forecasting.panel import Panel
from sirdar.recipes.forecaster import ForecasterTask, baseline, pricing, shaped, wql
from sirdar.search.space import Candidate
from sirdar.search.spaces import mqcnn
from sirdar.search.study import Options, Study, search
from sirdar.search.task import Report

CHIPS = {"trainium1": 30490, "ethos-u85-512": 1, "this-cpu": 1024}
HORIZON, SERIES, TRIALS, SEEDS = 4, 5000, 14, 3
STEPS, LONG = 100, 400  # of trainings in a search, and of final ones: MQ-CNN's default for so much data
SPACE = mqcnn()


class OutOfTimeError(Exception):
    """The seconds are spent; what was trained is kept."""


class Kept:
    """A forecaster task that trains nothing twice, on whatever chip it is searched for."""

    metric, higher_is_better = "wql", False

    def __init__(self, panel: Panel, cache: Path, seconds: float) -> None:
        self.panel, self.cache, self.until = panel, cache, time.monotonic() + seconds
        self.known: dict[str, float] = json.loads(cache.read_text()) if cache.exists() else {}
        self.inner = ForecasterTask(panel.cut(HORIZON), HORIZON, STEPS)
        self.graph = self.inner.graph

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        """The validation loss."""
        return {
            "wql": self.keep(f"val {candidate.key} {seed}", lambda: self.inner.evaluate(candidate, seed, report)["wql"])
        }

    def test(self, candidate: Candidate, seed: int) -> float:
        """The test loss after training on all before the test."""

        def train() -> float:
            past = self.panel.cut(HORIZON)
            return wql(shaped(candidate, HORIZON, LONG, seed).fit(past), past, past.actuals(HORIZON))

        return self.keep(f"test {LONG} {candidate.key} {seed}", train)

    def keep(self, key: str, train: Any) -> float:  # noqa: ANN401 - a function without arguments
        """What was trained before, or now."""
        if key not in self.known:
            if time.monotonic() > self.until:
                raise OutOfTimeError
            self.known[key] = float(train())
            scratch = self.cache.with_suffix(".tmp")
            scratch.write_text(json.dumps(self.known))
            scratch.rename(self.cache)
        return self.known[key]


def searched(task: Kept, chip: str, start: Candidate) -> tuple[Study, dict[str, float]]:
    """A study under the limit, and the latency of baseline and winner, each asked for again at the end."""
    task.inner.batch = CHIPS[chip]
    cost = pricing(task.inner, chip)
    limit = 0.6 * cost(start).latency_s
    study = search(SPACE, task, limits={"latency_s": limit}, trials=TRIALS, options=Options(cost=cost))
    again = [cost(candidate).latency_s for candidate in (start, study.best.candidate)]
    return study, {"baseline_s": again[0], "winner_s": again[1], "limit_s": limit}


def saved(task: Kept, chip: str, start: Candidate, winner: Candidate, series: int) -> float:
    """The share of latency that a winner saves where fewer series are forecast at once."""
    task.inner.batch = series
    cost = pricing(task.inner, chip)
    return 1 - cost(winner).latency_s / cost(start).latency_s


def interval(values: list[float]) -> dict[str, float]:
    """Mean and half the width of its 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return {"mean": float(np.mean(values)), "half_width": float(half)}


def measure(task: Kept) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Searches for every chip, trains baseline and winners, and what came out."""
    start = baseline(SPACE, task.inner.length)
    base = interval([task.test(start, seed) for seed in range(SEEDS)])
    found: dict[str, Any] = {"baseline": {"candidate": start.as_dict(), "test_wql": base}}
    bars = []
    for chip in CHIPS:
        study, latency = searched(task, chip, start)
        winner = study.best.candidate
        loss = interval([task.test(winner, seed) for seed in range(SEEDS)])
        cut = 1 - latency["winner_s"] / latency["baseline_s"]
        found[chip] = {
            "winner": winner.as_dict(),
            "latency": latency,
            "cut": cut,
            "test_wql": loss,
            "priced": study.priced,
        }
        if chip == "trainium1":
            found[chip]["cut_of_4096_series"] = saved(task, chip, start, winner, 4096)
        found[chip]["validation_wql"] = study.best.measures["wql"]
        bars.append(bar(f"{chip}: share of latency saved", cut, 0.4, better="higher"))
        bars.append(bar(f"{chip}: WQL over the baseline's, upper end", loss["mean"], base["mean"] + base["half_width"]))
        bars.append(bar(f"{chip}: WQL over the baseline's, mean", loss["mean"] / base["mean"], 1.0))
    return found, bars


def main() -> None:
    """Measures and stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("search_forecaster_trained.json"))
    parser.add_argument("--seconds", type=float, default=1e9)
    options = parser.parse_args()
    if options.data is None or not (options.data / "m5").is_dir():
        print("search_forecaster needs --data DIR with m5/")
        return
    torch.set_num_threads(1)
    panel = Panel.read(
        m5.frame(options.data / "m5", SERIES).collect(),
        freq="W",
        price="sell_price",
        future=[*(kind.lower() for kind in m5.EVENTS), "snap"],
        static=["dept_id", "store_id"],
    )
    task = Kept(panel, options.cache, options.seconds)
    try:
        measured, bars = measure(task)
    except OutOfTimeError:
        print(f"{len(task.known)} trainings are kept; run again to go on")
        return
    measured |= {
        "series": len(panel),
        "horizon_weeks": HORIZON,
        "steps": {"search": STEPS, "final": LONG},
        "trials": TRIALS,
        "trained": len(task.known),
    }
    command = "python benchmarks/search_forecaster.py --data DIR"
    store("search/forecaster", __doc__.split("\n")[0].removeprefix("Claim: "), command, measured, bars)


if __name__ == "__main__":
    main()
