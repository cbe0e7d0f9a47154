# SPDX-License-Identifier: Apache-2.0
"""Claim: at an equal budget of 40 CPU-minutes, MQ-CNN or MQTransformer has the lowest scaled quantile loss on M5.

All 30,490 daily series, the 28 days of the validation split, one window, quantiles 0.1 to 0.9. Every contestant runs in
a process of its own, pinned to some cores, and is given the same covariates: price, events and SNAP days known ahead,
and statics. Its CPU seconds count from the start of the process to the last forecast. Our networks train for the time
that a probe says is left for it, the peers' for as many steps as fit; all are stopped when the budget is spent. Nothing
was chosen on this window; `--rehearse` runs the window before it. MQ-CNN's batches of 64 windows in place of 128 were
chosen there, on 7,600 series with one seed, by a trial that is not stored.

The loss is fev's SQL: pinball loss over the in-sample error of the seasonal naive, mean over levels, days and series.
Demand is a count, so all contestants' quantiles are sorted, drawn to zero and brought to whole numbers before they are
scored; the loss without this stands beside it.

In one go: `--data DIR`. In parts, as for a machine that has neither the data nor a data-frame library:
`--data DIR --pack FILE` writes one small file; `--packed FILE --run NAME --out FOLDER` runs one contestant;
`--packed FILE --score FOLDER` scores and stores.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from m5_budget import Budget
from m5_packed import HORIZON, SEASON, Daily, cut, pack, panel, read
from store import bar, store

from sirdar.predictive import DECILES, scores

OURS = ("mq-cnn", "mq-transformer", "sqrf", "feed-forward")
PEERS = ("nhits", "tft", "lightgbm", "autogluon")
MINUTES = 40.0
_PROBE = 8  # steps
_BATCH = {"mq-cnn": 64}  # windows; not the default where a trial on the window before spoke for another


def main() -> None:
    """The part that is asked for, or all of them."""
    asked = _options()
    if asked.packed is None:
        if asked.data is None or not (asked.data / "m5").is_dir():
            print(f"skipped: {asked.data} holds no m5/")
            return
        if asked.pack is not None:
            pack(asked.data / "m5", asked.pack)
            return
    if asked.run is not None:
        run(asked)
    elif asked.score is not None:
        score(asked)
    else:
        everything(asked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds m5/")
    parser.add_argument("--pack", type=Path, help="only write the packed panel here")
    parser.add_argument("--packed", type=Path, help="a packed panel, in place of --data")
    parser.add_argument("--run", choices=(*OURS, *PEERS), help="only run this contestant")
    parser.add_argument("--out", type=Path, default=Path("m5"), help="folder of forecasts")
    parser.add_argument("--score", type=Path, help="only score the forecasts of this folder")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="CPU-minutes of each")
    parser.add_argument("--wall", type=float, default=float("inf"), help="most minutes by the clock, of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--series", type=int, help="a random sample of so many; all when not given")
    parser.add_argument("--rehearse", action="store_true", help="the window before the last; store nothing")
    parser.add_argument("--peer", type=Path, default=Path(sys.executable), help="python that has neuralforecast")
    parser.add_argument("--autogluon", type=Path, default=Path(sys.executable), help="python that has AutoGluon")
    return parser.parse_args()


def daily(asked: argparse.Namespace) -> Daily:
    """The panel that is asked for, its last `HORIZON` days being those to forecast."""
    every = read(asked.packed, asked.series)
    return cut(every, HORIZON) if asked.rehearse else every


def everything(asked: argparse.Namespace) -> None:
    """All contestants one after another, and the scores."""
    with tempfile.TemporaryDirectory() as folder:
        packed = asked.packed
        if packed is None:
            packed = Path(folder) / "daily.npz"
            pack(asked.data / "m5", packed)
        rest = ["--packed", str(packed), "--minutes", str(asked.minutes), "--threads", str(asked.threads)]
        rest += ["--series", str(asked.series)] if asked.series else []
        rest += ["--rehearse"] if asked.rehearse else []
        for name in (*OURS, *PEERS):
            if (asked.out / f"{name}.npz").exists():
                print(f"{name}: its forecast is there already", flush=True)
                continue
            python = asked.autogluon if name == "autogluon" else asked.peer if name in PEERS else sys.executable
            command = [str(python), __file__, "--run", name, "--out", str(asked.out), *rest]
            done = subprocess.run(command, check=False)
            print(name, "done" if done.returncode == 0 else f"failed ({done.returncode})", flush=True)
        asked.packed = packed
        asked.score = asked.out
        score(asked)


def run(asked: argparse.Namespace) -> None:
    """One contestant: its quantiles and what they cost, written under a temporary name that is renamed."""
    budget = Budget(60 * asked.minutes, 60 * asked.wall)
    begin = time.perf_counter()
    values, facts = contestant(asked.run, daily(asked), budget, asked.threads)
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    facts |= {
        "cpu_s": sum(used.ru_utime + used.ru_stime for used in (own, others)),
        "wall_s": time.perf_counter() - begin,
        "peak_bytes": max(own.ru_maxrss, others.ru_maxrss) * 1024,
        "threads": asked.threads,
        "minutes": asked.minutes,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    part = asked.out / f"{asked.run}.part"
    with part.open("wb") as stream:
        np.savez_compressed(stream, values=values.astype(np.float16), facts=np.array(json.dumps(facts)))
    part.replace(asked.out / f"{asked.run}.npz")
    print(asked.run, json.dumps(facts), flush=True)


def contestant(name: str, data: Daily, budget: Budget, threads: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Quantiles [series, day, level], and settings."""
    import torch

    torch.set_num_threads(threads)
    if name in {"nhits", "tft"}:
        from peers.m5_daily import network as peer

        return peer(name, data, budget)
    if name == "autogluon":
        from peers.m5_daily import automl

        return automl(data, budget)
    if name == "lightgbm":
        from peers.m5_daily import boosted

        return boosted(data, budget, threads)
    return forest(data, threads) if name == "sqrf" else network(name, data, budget)


def network(name: str, data: Daily, budget: Budget) -> tuple[np.ndarray, dict[str, Any]]:
    """One of our networks at default width, for as long as fits."""
    from sirdar.forecasting import ladder
    from sirdar.forecasting.training import Training

    kind, some, batch = ladder.class_of(name), panel(data), _BATCH.get(name, Training.batch)
    few = some.select(np.arange(0, len(some), max(1, len(some) // 1024)))
    tried = kind(HORIZON, steps=_PROBE, training=Training(batch), progress=budget.tell)
    budget.probe(lambda: tried.fit(some), predict=lambda: tried.predict(few), share=len(few) / len(some))
    told = budget.note  # `seconds` ends the training: what is interrupted leaves no network
    model = kind(HORIZON, steps=10**9, training=Training(batch, seconds=budget.seconds), progress=told).fit(some)
    return model.predict(some).values, {"steps": len(budget.told), "width": model.width, "batch": batch}


def forest(data: Daily, threads: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The sparse quantile forest; its settings, not the clock, bound its time."""
    from sirdar.forecasting.models.sqrf import SparseQuantileForest

    some = panel(data)
    settings: dict[str, Any] = {"rows": min(1_000_000, 200 * len(some)), "trees": 200, "leaves": 1024}
    model = SparseQuantileForest(HORIZON, threads=threads, **settings).fit(some)
    return model.predict(some).values, settings


def whole(values: np.ndarray) -> np.ndarray:
    """Quantiles of a count: they rise, are not negative, and are whole."""
    return np.floor(np.maximum(np.sort(values, axis=-1), 0) + 0.5)


def score(asked: argparse.Namespace) -> None:
    """The table, and the stored result unless this is a rehearsal or a sample."""
    data = daily(asked)
    actual, history = data.sales[:, -HORIZON:], data.sales[:, :-HORIZON]
    scale = scores.seasonal_scale(history, SEASON)
    measured: dict[str, Any] = {"series": len(actual), "days": HORIZON, "contestants": {}}
    for file in sorted(asked.score.glob("*.npz")):
        with np.load(file) as stored:
            values, facts = stored["values"].astype(np.float32), json.loads(str(stored["facts"]))
        if values.shape[:2] != actual.shape:
            print(f"{file.name}: {values.shape[0]} series in place of {len(actual)}, left out")
            continue
        counted = whole(values)
        measured["contestants"][file.stem] = {
            "sql": scores.sql(actual, counted, DECILES, scale),
            "sql_as_given": scores.sql(actual, values, DECILES, scale),
            "wql": scores.wql(actual, counted, DECILES),
            "wql_as_given": scores.wql(actual, values, DECILES),
            "coverage_80": scores.coverage(actual, counted, DECILES),
            "crossing_rate": scores.crossing_rate(values),
            **facts,
        }
    rows = sorted(measured["contestants"].items(), key=lambda row: row[1]["sql"])
    for name, row in rows:
        print(
            f"{name:15s} SQL {row['sql']:.4f} ({row['sql_as_given']:.4f} as given)  WQL {row['wql']:.4f}  "
            f"{row['cpu_s'] / 60:.1f} CPU-minutes  {row['peak_bytes'] / 2**30:.1f} GiB"
        )
    if asked.rehearse or asked.series or not rows:
        return
    found = measured["contestants"]
    ours = min((found[name]["sql"] for name in ("mq-cnn", "mq-transformer") if name in found), default=np.inf)
    others = [row["sql"] for name, row in rows if name not in {"mq-cnn", "mq-transformer"}]
    missing = [name for name in (*OURS, *PEERS) if name not in found]
    without = f" (without {', '.join(missing)}, not run)" if missing else ""
    bars = [bar(f"SQL of MQ-CNN or MQTransformer over the best of the others{without}", ours / min(others), 1.0)]
    for name in ("mq-cnn", "mq-transformer"):
        if name in found:
            bars.append(bar(f"{name}: peak bytes", found[name]["peak_bytes"], 4 * 2**30))
    bars.append(bar("most CPU-minutes of a contestant", max(row["cpu_s"] for _, row in rows) / 60, MINUTES))
    measured["not_run"] = missing
    claim = f"All of M5 within 40 CPU-minutes each: {', '.join(name for name, _ in rows)}, best first"
    store("forecasting/m5", claim, "python benchmarks/forecasting_m5.py --data DIR", measured, bars)


if __name__ == "__main__":
    main()
