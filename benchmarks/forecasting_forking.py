# SPDX-License-Identifier: Apache-2.0
"""Claim: forking sequences beat window sampling at equal CPU time, and train many more origins a second than a peer.

The same MQ-CNN is trained twice on each data set: on all origins of every window (forking), and on one random origin of
each (window sampling), for as many steps as take the same CPU time. Final window, quantiles 0.1 to 0.9, two seeds.
Beside it, without a bar, stands window sampling for equally many steps, as published comparisons have it.
With --peer, the Python of an environment that has neuralforecast and this package, its TCN of equal width trains beside
ours, and origins per CPU second are compared: of ours on every origin of a window, as forking sequences are published,
and on the 16 of a window that are the default. Data under --data: `competitions/`.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import competitions
import numpy as np
import torch
from competitions import Task
from store import RESULTS, bar, store

from sirdar.forecasting import training
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.neural import Learned
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.training import Run, Training
from sirdar.forecasting.windows import Windows
from sirdar.predictive import scores

TASKS = {
    "M1 monthly": competitions.TASKS["M1 monthly"],
    "M3 monthly": competitions.TASKS["M3 monthly"],
    "M4 weekly": competitions.TASKS["M4 weekly"],
    "M4 hourly": Task("m4_hourly", "h", 48, 24, 1.193, (None, None)),
}
NAME = "forecasting/forking"
STEPS = 150
SEEDS = 2


def main() -> None:
    """Both ways on every task, the peer, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds competitions/")
    parser.add_argument("--peer", type=Path, help="python that has neuralforecast")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated; the others keep their stored rows")
    arguments = parser.parse_args()
    folder = arguments.data / "competitions"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there")
        sys.exit(0)
    torch.set_num_threads(1)
    stored = RESULTS / f"{NAME}.json"
    measured: dict[str, Any] = json.loads(stored.read_text())["measured"] if stored.exists() else {}
    for name in filter(None, arguments.tasks.split(",")):
        task = TASKS[name]
        panel = competitions.read(task, folder).cut(task.horizon)
        rows = [compare(panel, task.horizon, seed) for seed in range(arguments.seeds)]
        means = {way: float(np.mean([row[way]["wql"] for row in rows])) for way in rows[0]}
        forking, sampling, few = means.values()
        gains = {"gain": 1 - forking / sampling, "gain_at_equal_steps": 1 - forking / few}
        measured[name] = means | gains | {"runs": rows}
        print(
            f"{name}: forking {forking:.4f}, window sampling {sampling:.4f}, gain {1 - forking / sampling:.1%}",
            flush=True,
        )
        keep(measured)
    if arguments.peer is not None:
        task = TASKS["M3 monthly"]
        measured["throughput"] = speed(competitions.read(task, folder).cut(task.horizon), task, arguments.peer)
        keep(measured)


def keep(measured: dict[str, Any]) -> None:
    """Store what is known so far."""
    gains = [measured[name]["gain"] for name in TASKS if name in measured]
    bars = []
    if gains:
        name = f"WQL below window sampling's at equal CPU time, median share over {len(gains)} tasks"
        bars.append(bar(name, float(np.median(gains)), 0.2, better="higher"))
    if "throughput" in measured:
        ratio = measured["throughput"]["ratio"]
        bars.append(bar("origins per CPU second over neuralforecast's", ratio, 5.0, better="higher"))
    claim = "forking sequences against window sampling at equal CPU time, and against neuralforecast's throughput"
    store(NAME, claim, "python benchmarks/forecasting_forking.py --data DIR --peer PYTHON", measured, bars)


def compare(panel: Panel, horizon: int, seed: int) -> dict[str, dict[str, float]]:
    """The loss of both on what followed, and what they cost."""
    result = {}
    began = time.process_time()
    model = MQCNN(horizon, steps=STEPS, seed=seed).fit(panel)
    budget = time.process_time() - began
    result["forking"] = {"wql": wql(model, panel), "cpu_s": budget, "steps": STEPS}
    probe = 20
    began = time.process_time()
    sampled(panel, horizon, probe, seed)
    steps = max(probe, int(budget / (time.process_time() - began) * probe))
    began = time.process_time()
    model = sampled(panel, horizon, steps, seed)
    result["sampling"] = {"wql": wql(model, panel), "cpu_s": time.process_time() - began, "steps": steps}
    began = time.process_time()
    model = sampled(panel, horizon, STEPS, seed)
    result["sampling_equal_steps"] = {"wql": wql(model, panel), "cpu_s": time.process_time() - began, "steps": STEPS}
    return result


def sampled(panel: Panel, horizon: int, steps: int, seed: int) -> MQCNN:
    """MQ-CNN trained on one random origin of each window in the batch, the last of it."""
    model = MQCNN(horizon, steps=1, seed=seed).fit(panel)
    learned = model.learned
    assert isinstance(learned, Learned)
    with training.seeded(seed):
        network = model.build(learned.setting)
    model.learned = replace(learned, network=network)
    windows = Windows(panel, learned.encoding, learned.length, horizon)
    rows = np.flatnonzero(panel.observations() > 1)
    last = learned.length - 1

    def loss(generator: np.random.Generator) -> torch.Tensor:
        chosen = generator.choice(rows, size=min(model.training.batch, len(rows)), replace=False)
        back = generator.integers(1, panel.history[chosen])
        inputs, targets = windows.inputs(chosen, back), windows.targets(chosen, back)
        quantiles, scale = network(*inputs, range(last, last + 1))
        begun = torch.ones(len(chosen), 1, dtype=torch.bool)
        return training.quantile_loss(quantiles, scale.spread, targets[:, last:], begun, model.levels, scale.error)

    training.train(network, Run(loss, steps, seed), Training())
    return model


def wql(model: MQCNN, panel: Panel) -> float:
    """Of the steps that follow the panel's history."""
    forecast = model.predict(panel)
    return scores.wql(panel.actuals(model.horizon), forecast.values, forecast.levels)


def speed(panel: Panel, task: Task, peer: Path) -> dict[str, float]:
    """Origins that are trained in a CPU second, ours and the peer's, taken in turns."""
    ours, spread, theirs = [], [], []
    asked = {"horizon": task.horizon, "width": 32, "steps": 20, "batch": 128, "length": int(panel.history.max())}
    for _ in range(3):
        ours.append(trained(panel, task.horizon, int(panel.history.max())))
        spread.append(trained(panel, task.horizon, MQCNN.FORKS))
        script = Path(__file__).with_name("peer_throughput.py")
        answer = subprocess.run(
            [str(peer), str(script)], input=json.dumps(asked), capture_output=True, text=True, check=True
        )
        theirs.append(json.loads(answer.stdout.splitlines()[-1])["origins_per_cpu_s"])
        print(f"origins per CPU second: {ours[-1]:.0f}, {spread[-1]:.0f}, neuralforecast {theirs[-1]:.0f}", flush=True)
    return {
        "ours": float(np.median(ours)),
        "ours, 16 of a window": float(np.median(spread)),
        "peer": float(np.median(theirs)),
        "ratio": float(np.median(np.divide(ours, theirs))),
        "ratio, 16 of a window": float(np.median(np.divide(spread, theirs))),
    }


def trained(panel: Panel, horizon: int, forks: int, steps: int = 20) -> float:
    """Origins a CPU second of training on at most `forks` of each window, which begin with the series."""
    usual, MQCNN.FORKS = MQCNN.FORKS, forks
    length = int(panel.history.max())
    share = len(range(0, length, max(1, length // forks))) / length
    times = []
    for count in (1, steps + 1):
        began = time.process_time()
        MQCNN(horizon, steps=count).fit(panel)
        times.append(time.process_time() - began)
    MQCNN.FORKS = usual
    return steps * Training().batch * share * float(panel.history.mean()) / (times[1] - times[0])


if __name__ == "__main__":
    main()
