# SPDX-License-Identifier: Apache-2.0
"""Claim: each rung of the ladder has a lower loss on M5 than the one below it, and MQTransformer revises less in vain.

A random sample of 5,000 daily series of M5 (`m5.frame`, seed 0), the 28 days of the validation split, one window,
quantiles 0.1 to 0.9, every rung at its default settings, trained once on all before the window. Nothing was chosen on
it. WQL is the measure of the claim; SQL and MASE stand beside it. Networks are trained with three seeds, since the best
of them lie closer together than two seeds of one; their rows are means, and the WQL of each seed stands beside.
The stored costs of networks are means over runs before and after trainings kept freed memory (`sirdar.allocator`).

For excess volatility (`predictive.revision`) the origin moves on by a week, three times, within the window, and the
pooled rungs forecast with the weights they have. Textbook rungs and add-ons would have to be fitted anew each time,
which takes longer than all else here, and are scored at the first origin alone.

The ladder is put together from its rungs' forecasts, of the window and of the one before it, as `Ladder` does inside:
weights by `selection.select` on the earlier window, then the weighted mean of quantiles. `--no-ladder` leaves it
out, and with it half of the trainings.

Data under --data: `m5/`. Each rung runs in a process of its own; its scores are stored as soon as it has finished, its
forecasts stay in --keep, and a run that was stopped goes on from there, the networks from within their training.
`--series N` takes a smaller sample, and scores the window before the last: a rehearsal, which is not stored.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import m5
import numpy as np
import torch
from store import RESULTS, bar, store

from sirdar.forecasting import ladder
from sirdar.forecasting.meter import Meter
from sirdar.forecasting.models.ladder import told
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.selection import Validation, reference_of, select
from sirdar.forecasting.training import Training
from sirdar.predictive import DECILES, scores
from sirdar.predictive.revision import revisions

NAME = "forecasting/rungs"
SERIES, SEASON = 5000, 7
TEXTBOOK = ("seasonal-naive", "tsb", "theta")
POOLED = ("sqrf", "feed-forward", "mq-cnn", "mq-transformer")
NETWORKS = POOLED[1:]
RUNGS = (*TEXTBOOK, "add-ons", *POOLED)
MOVES, STRIDE = 4, 7  # origins, and days between them


def main() -> None:
    """Every rung that has no score yet, the ladder over them, and the stored result."""
    asked = _options()
    if asked.data is None or not (asked.data / "m5").is_dir():
        print(f"skipped: {asked.data} holds no m5/")
        return
    if asked.one is not None:
        torch.set_num_threads(asked.threads)
        print(json.dumps(rung(asked.one, panel_of(asked), asked)))
        return
    stored = RESULTS / f"{NAME}.json"
    measured: dict[str, Any] = json.loads(stored.read_text())["measured"] if stored.exists() else {}
    measured = {} if asked.series else measured
    for name in asked.rungs:
        if asked.again or name not in measured:
            done = subprocess.run([sys.executable, *sys.argv, "--one", name], check=True, stdout=subprocess.PIPE)
            measured[name] = json.loads(done.stdout.decode().splitlines()[-1])
            _tell(name, measured[name])
            _store(measured, asked)
    if asked.ladder and all((asked.keep / f"{name}-before.npz").exists() for name in RUNGS):
        measured["ladder"] = whole(panel_of(asked), asked.keep)
        _tell("ladder", measured["ladder"])
        _store(measured, asked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds m5/")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "sirdar-rungs", help="forecasts")
    parser.add_argument("--series", type=int, help="rehearse on so many series and an earlier window")
    parser.add_argument("--rungs", type=lambda text: text.split(","), default=list(RUNGS), help="comma-separated")
    parser.add_argument("--no-ladder", dest="ladder", action="store_false", help="only the rungs")
    parser.add_argument("--again", action="store_true", help="run them even where a score is stored")
    parser.add_argument("--seeds", type=int, default=3, help="of the networks' trainings")
    parser.add_argument("--steps", type=int, help="of the networks' training; rehearsals only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", metavar="RUNG", help="run one rung here and print its scores as JSON")
    asked = parser.parse_args()
    ladder.check_names(asked.rungs)
    asked.keep = asked.keep / str(asked.series or SERIES)
    asked.keep.mkdir(parents=True, exist_ok=True)
    return asked


def panel_of(asked: argparse.Namespace) -> Panel:
    """The sample; its last 28 days are the window to score."""
    panel = m5.read(asked.data / "m5", asked.series or SERIES)
    return panel.cut(m5.HORIZON) if asked.series else panel


def rung(name: str, panel: Panel, asked: argparse.Namespace) -> dict[str, Any]:
    """Scores of one rung, of a network the mean over its seeds; forecasts of both windows are kept for the ladder."""
    rows = [seeded(name, seed, panel, asked) for seed in range(asked.seeds if name in NETWORKS else 1)]
    row: dict[str, Any] = {key: float(np.mean([each[key] for each in rows])) for key in rows[0]}
    if len(rows) > 1:
        row["wql_by_seed"] = [each["wql"] for each in rows]
    second = asked.keep / f"{name}-before.npz"
    earlier = panel.cut(m5.HORIZON)
    if asked.ladder and not second.exists():
        past = earlier.cut(m5.HORIZON)
        write(second, values=made(name, asked).fit(past).predict(past).values)
    return row | ({"before": scored(earlier, kept(second)[:, None])} if second.exists() else {})


def seeded(name: str, seed: int, panel: Panel, asked: argparse.Namespace) -> dict[str, float]:
    """Scores and cost of one training."""
    file = asked.keep / (f"{name}-{seed}.npz" if seed else f"{name}.npz")
    if not file.exists():
        meter = Meter()
        with meter.running():
            origins = moved(name, seed, panel, asked)
        cost = {
            "seconds": meter.seconds,
            "cpu_seconds": meter.cpu_seconds,
            "peak_memory_bytes": meter.peak_bytes,
        }
        write(file, values=origins, row=np.array(json.dumps(scored(panel, origins) | cost)))
    with np.load(file) as stored:
        return json.loads(str(stored["row"]))


def write(file: Path, **arrays: np.ndarray) -> None:
    """Under a temporary name, then renamed."""
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    part.replace(file)


def kept(file: Path) -> np.ndarray:
    """The quantiles of a file."""
    with np.load(file) as stored:
        return stored["values"]


def made(name: str, asked: argparse.Namespace, seed: int = 0) -> Any:  # noqa: ANN401
    """A rung at its default settings; a network's training can be taken up again."""
    if name in NETWORKS:
        steps = {"steps": asked.steps} if asked.steps and asked.series else {}
        options = Training(checkpoint=asked.keep / "training")
        return ladder.class_of(name)(m5.HORIZON, seed=seed, training=options, **steps)
    if name == "sqrf":
        return ladder.class_of(name)(m5.HORIZON, threads=asked.threads)
    return ladder.build(name, m5.HORIZON)


def moved(name: str, seed: int, panel: Panel, asked: argparse.Namespace) -> np.ndarray:
    """Quantiles [series, origin, day, level] from origins a week apart, the first at the begin of the window."""
    model = made(name, asked, seed).fit(panel.cut(m5.HORIZON))
    moves = range(MOVES if name in POOLED else 1)
    return np.stack([model.predict(panel.cut(m5.HORIZON - move * STRIDE)).values for move in moves], axis=1)


def scored(panel: Panel, origins: np.ndarray) -> dict[str, float]:
    """Losses of the first origin, and what the revisions after it amounted to."""
    past = panel.cut(m5.HORIZON)
    actual, values = after(panel, past), origins[:, 0]
    scale = scale_of(past)
    row = {
        "wql": scores.wql(actual, values, DECILES),
        "sql": scores.sql(actual, values, DECILES, scale),
        "mase": scores.mase(actual, values[..., DECILES.index(0.5)], scale),
        "coverage_80": scores.coverage(actual, values, DECILES),
    }
    if origins.shape[1] == 1:
        return row
    beyond = np.full((len(actual), (MOVES - 1) * STRIDE), np.float32(np.nan))  # dates after the window are not known
    revision = revisions(np.concatenate([actual, beyond], axis=1), origins, DECILES, STRIDE)
    return row | {
        "volatility": revision.volatility,
        "improvement": revision.improvement,
        "excess_volatility": revision.excess,
    }


def after(panel: Panel, past: Panel) -> np.ndarray:
    """Demand of the 28 days after `past`, as far as it is history of `panel`."""
    values = past.actuals(m5.HORIZON)
    known = (panel.history - past.history)[:, None]
    return np.where(np.arange(m5.HORIZON) < known, values, np.float32(np.nan))


def scale_of(past: Panel) -> np.ndarray:
    """Of MASE and SQL."""
    seen = np.where(past.observed, past.target, np.float32(np.nan))
    return scores.seasonal_scale(past.tail(seen, int(past.history.max())), SEASON)


def whole(panel: Panel, keep: Path) -> dict[str, Any]:
    """The ladder over all rungs, from their kept forecasts."""
    earlier, past = panel.cut(2 * m5.HORIZON), panel.cut(m5.HORIZON)
    actual, scale = after(past, earlier), scale_of(earlier)
    usable = np.isfinite(actual).any(axis=1) & (earlier.observations() > 0)
    before = {name: kept(keep / f"{name}-before.npz")[usable] for name in RUNGS}
    reference = reference_of(actual[usable], before[ladder.NAIVE], DECILES, scale[usable])
    selection = select(before, Validation(actual[usable], scale[usable], DECILES, reference))
    mean = sum(np.float32(weight) * kept(keep / f"{name}.npz")[:, :1] for name, weight in selection.weights.items())
    why = told(selection, series=int(usable.sum()), windows=1)
    return scored(panel, np.maximum.accumulate(mean, axis=-1)) | {"weights": selection.weights, "why": why}


def _tell(name: str, row: dict[str, Any]) -> None:
    measures = ("wql", "sql", "mase", "coverage_80", "excess_volatility")
    parts = "  ".join(f"{key} {row[key]:.4f}" for key in measures if key in row)
    print(f"{name:15s} {parts}  {row.get('cpu_seconds', 0):.0f} CPU s", flush=True)


def _store(measured: dict[str, Any], asked: argparse.Namespace) -> None:
    if asked.series:
        return
    claim = f"Every rung of the ladder on {SERIES} series of M5, one final window, default settings"
    store(NAME, claim, "python benchmarks/forecasting_rungs.py --data DIR", measured, bars(measured))


def bars(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the rungs that have been scored."""
    found: list[dict[str, Any]] = []
    wql: Callable[[str], float] = lambda name: measured[name]["wql"]  # noqa: E731
    if set(TEXTBOOK) <= set(measured):
        best = min(TEXTBOOK, key=wql)
        steps = [best, "add-ons", *POOLED, "ladder"]
        for lower, upper in pairwise(steps):
            if {lower, upper} <= set(measured):
                found.append(bar(f"WQL of {upper} over {lower}'s", wql(upper) / wql(lower), 1.0))
    if {"mq-cnn", "mq-transformer"} <= set(measured):
        less = measured["mq-transformer"]["excess_volatility"] - measured["mq-cnn"]["excess_volatility"]
        found.append(bar("excess volatility of MQTransformer less MQ-CNN's", less, 0.0))
    return found


if __name__ == "__main__":
    main()
