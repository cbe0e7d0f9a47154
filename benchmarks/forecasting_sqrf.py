# SPDX-License-Identifier: Apache-2.0
"""Claim: the sparse quantile forest is as accurate as quantile-forest, in a tenth of its memory and far less time.

Data under --data: `m5/`. Both forests learn from the same 100,000 rows of features of M5's training split and are
scored on 20,000 rows of the 28 days after it, by pinball loss in units over nine deciles. Each has its settings chosen
on the 28 days before, the last ones of the training split, with rows that end before these. quantile-forest knows no
missing values, so unknown features are -1 for both; it may learn from the ranks of targets as ours does, or from the
targets. Both run on one thread, one after another. Memory is that of a process that loads the stored model, and of the
file.

Then ten million sparse rows (500 features, 24 of them not zero) are fitted in a process of their own, and the
forecaster is set beside textbook models, at default settings, on the bundled panel and on 1,000 series of M5.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import m5
import numpy as np
from quantile_forest import RandomForestQuantileRegressor
from safetensors.numpy import load_file, save_file
from scipy import sparse
from store import bar, store

from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import backtest
from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES
from sirdar.forecasting.features import Features
from sirdar.forecasting.forest import QuantileForest
from sirdar.forecasting.models.sqrf import SparseQuantileForest, ranks
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, scores

TRAIN, TEST, TREES, TRIAL_TREES = 100_000, 20_000, 100, 20
OURS = [
    {"leaf_rows": rows, "leaves": leaves, "feature_share": share, "points": 16}
    for rows, leaves in ((20, 512), (50, 256), (50, 512), (100, 512), (200, 512))
    for share in (0.3, 0.5)
]
PEER = [
    {"ranked": ranked, "min_samples_leaf": rows, "max_samples_leaf": kept, "max_features": share}
    for ranked, rows, kept, share in (
        (False, 30, 32, 0.3),
        (False, 100, 32, 0.3),
        (True, 10, 32, 0.3),
        (True, 30, 32, 0.3),
        (True, 100, 1, 0.3),
        (True, 100, 32, 0.3),
        (True, 100, 128, 0.3),
        (True, 300, 32, 0.3),
        (True, 100, 32, 1.0),
    )
]


class Split(NamedTuple):
    """Rows to learn from, scale-free, and rows to be scored on, in units."""

    rows: sparse.csr_matrix
    targets: np.ndarray
    later: sparse.csr_matrix
    scale: np.ndarray
    actual: np.ndarray


def split(panel: Panel, seed: int) -> Split:
    """100,000 rows of history, 20,000 of the 28 days after it."""
    rng = np.random.default_rng(seed)
    features = Features.fit(panel)
    learn = features.rows(panel, *features.sample(panel, m5.HORIZON, TRAIN, rng))
    series = rng.choice(np.flatnonzero(panel.history > 0), TEST)
    step = rng.integers(1, m5.HORIZON + 1, (TEST, 1))
    later = features.rows(panel, series, panel.history[series], step)
    actual = panel.actuals(m5.HORIZON)[series, step[:, 0] - 1]
    known = np.isfinite(actual)
    for matrix in (learn.matrix, later.matrix):
        matrix.data[np.isnan(matrix.data)] = -1
    return Split(learn.matrix, learn.target / learn.scale, later.matrix[known], later.scale[known], actual[known])


def loss(data: Split, quantiles: np.ndarray) -> float:
    """Pinball loss in units, mean over rows and deciles."""
    values = quantiles * data.scale[:, None]
    return float(scores.pinball(data.actual[:, None], values[:, None], DECILES).mean())


def ours(data: Split, trees: int, **settings: Any) -> QuantileForest:  # noqa: ANN401
    """Our forest, splitting on ranks."""
    forest = QuantileForest(trees=trees, threads=1, **settings)
    return forest.fit(data.rows, data.targets, guide=ranks(data.targets))


class Peer:
    """quantile-forest, from ranks of the targets if told so: monotone maps commute with quantiles."""

    def __init__(self, data: Split, dense: np.ndarray, trees: int, *, ranked: bool, **settings: Any) -> None:  # noqa: ANN401
        self.table = np.sort(data.targets) if ranked else None
        self.forest = RandomForestQuantileRegressor(trees, n_jobs=1, random_state=0, **settings)
        self.forest.fit(dense, ranks(data.targets) if ranked else data.targets)

    def quantiles(self, dense: np.ndarray) -> np.ndarray:
        """[row, decile]."""
        values = np.asarray(self.forest.predict(dense, quantiles=list(DECILES)))
        if self.table is None:
            return values
        return self.table[np.clip((values * len(self.table)).astype(int), 0, len(self.table) - 1)]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The answer, and CPU seconds."""
    begin = time.process_time()
    answer = work()
    return answer, time.process_time() - begin


def chosen(name: str, settings: list[dict[str, Any]], score: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """The settings of least loss on the validation split."""
    losses = []
    for one in settings:
        losses.append(score(one))
        print(name, one, round(losses[-1], 5), flush=True)
    return settings[int(np.argmin(losses))]


def compare(panel: Panel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Accuracy, memory and time of both forests."""
    trial, final = split(panel.cut(2 * m5.HORIZON), 0), split(panel.cut(m5.HORIZON), 1)
    dense, later = trial.rows.toarray(), trial.later.toarray()
    ours(trial, 2)  # compiles
    mine = chosen(
        "ours", OURS, lambda one: loss(trial, ours(trial, TRIAL_TREES, **one).quantiles(trial.later, DECILES))
    )
    theirs = chosen("peer", PEER, lambda one: loss(trial, Peer(trial, dense, TRIAL_TREES, **one).quantiles(later)))
    dense, later = final.rows.toarray(), final.later.toarray()
    forest, seconds = timed(lambda: ours(final, TREES, **mine))
    peer, peer_seconds = timed(lambda: Peer(final, dense, TREES, **theirs))
    answer, answer_seconds = timed(lambda: forest.quantiles(final.later, DECILES))
    peer_answer, peer_answer_seconds = timed(lambda: peer.quantiles(later))
    memory = stored(forest, peer)
    measured = {
        "features": int(final.rows.shape[1]),
        "ours": {"settings": mine, "loss": loss(final, answer), "fit_s": seconds, "predict_s": answer_seconds},
        "peer": {"settings": theirs, "loss": loss(final, peer_answer), "fit_s": peer_seconds},
        "peer_predict_s": peer_answer_seconds,
        "memory": memory,
    }
    print(json.dumps(measured), flush=True)
    return measured, [
        bar("pinball loss over quantile-forest's", loss(final, answer) / loss(final, peer_answer), 1.01),
        bar("file: times smaller", memory["peer_file"] / memory["our_file"], 10, better="higher"),
        bar("in process: times smaller", memory["peer_resident"] / memory["our_resident"], 10, better="higher"),
        bar("fit: times faster", peer_seconds / seconds, 5, better="higher"),
    ]


def stored(forest: QuantileForest, peer: Peer) -> dict[str, int]:
    """Bytes of the stored models, and by how much a process grows that loads them."""
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = Path(folder) / "ours.safetensors", Path(folder) / "peer.joblib"
        save_file(forest.arrays, mine)
        joblib.dump(peer.forest, theirs)
        return {
            "our_file": mine.stat().st_size,
            "our_arrays": forest.nbytes,
            "peer_file": theirs.stat().st_size,
            "our_resident": int(child("--grown", str(mine))["bytes"]),
            "peer_resident": int(child("--grown", str(theirs))["bytes"]),
        }


def child(*arguments: str) -> dict[str, Any]:
    """What this script, run in a process of its own, printed last."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def grown(path: Path) -> dict[str, Any]:
    """Resident bytes that loading adds, every library being loaded already."""
    load = load_file if path.suffix == ".safetensors" else joblib.load
    before = resident()
    model = load(path)
    if isinstance(model, dict):
        model = {name: array.copy() for name, array in model.items()}  # not a view of the file
    return {"bytes": resident() - before, "kind": type(model).__name__}


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def large(rows: int, trees: int = 20) -> dict[str, Any]:
    """Fits rows of 8 features that all have and 16 that one product line of 30 has."""
    rng = np.random.default_rng(0)
    indices = np.empty((rows, 24), dtype=np.int32)
    indices[:, :8] = np.arange(8)
    indices[:, 8:] = 8 + 16 * rng.integers(0, 30, (rows, 1), dtype=np.int32) + np.arange(16, dtype=np.int32)
    data = rng.standard_normal((rows, 24), dtype=np.float32)
    targets = np.exp(data[:, 0] + data[:, 8] * (indices[:, 8] % 3)) * rng.standard_exponential(rows, dtype=np.float32)
    indptr = np.arange(0, 24 * rows + 1, 24, dtype=np.int64)
    matrix = sparse.csr_matrix((data.reshape(-1), indices.reshape(-1), indptr), shape=(rows, 500), copy=False)
    begin = time.perf_counter()
    forest = QuantileForest(trees=trees, leaves=256, leaf_rows=100).fit(matrix, targets, guide=np.log1p(targets))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"rows": rows, "trees": trees, "fit_s": seconds, "peak_bytes": peak, "model_bytes": forest.nbytes}


def forecasts(panel: Panel, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """WQL of one final window on two panels, and the time that all of M5 takes."""
    measured, bars = {}, []
    tasks = {"Online Retail": (Panel.read(ONLINE_RETAIL, **ROLES), 8), "M5, 1,000 series": (m5.read(folder, 1000), 28)}
    for task, (some, horizon) in tasks.items():
        models = {name: ladder.build(name, horizon) for name in ("tsb", "theta", "sqrf")}
        result = backtest(models, some, windows=1, ensemble=False)
        wql = {row.model: row.wql for row in result.scores}
        measured[task] = {row.model: {"wql": row.wql, "coverage_80": row.coverage_80} for row in result.scores}
        bars.append(
            bar(
                f"{task}: WQL of sqrf over the better of tsb and theta",
                wql["sqrf"] / min(wql["tsb"], wql["theta"]),
                0.98,
            )
        )
        print(task, wql, flush=True)
    past = panel.cut(m5.HORIZON)
    begin = time.perf_counter()
    forecaster = SparseQuantileForest(m5.HORIZON).fit(past)
    between = time.perf_counter()
    forecast = forecaster.predict(past)
    measured["all of M5"] = {
        "series": len(past),
        "fit_s": between - begin,
        "predict_s": time.perf_counter() - between,
        "wql": scores.wql(past.actuals(m5.HORIZON), forecast.values, DECILES),
    }
    bars.append(bar("all of M5: seconds to forecast", measured["all of M5"]["predict_s"], 180))
    return measured, bars


def main() -> None:
    """All parts, store; or the part of a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds m5/")
    parser.add_argument("--rows", type=int, help="only fit so many sparse rows")
    parser.add_argument("--grown", type=Path, help="only load a stored model")
    asked = parser.parse_args()
    if asked.rows or asked.grown:
        print(json.dumps(large(asked.rows) if asked.rows else grown(asked.grown)))
        return
    if asked.data is None or not (asked.data / "m5").is_dir():
        print(f"skipped: {asked.data} holds no m5/")
        return
    panel = m5.read(asked.data / "m5")
    measured, bars = compare(panel)
    measured["forecasts"], more = forecasts(panel, asked.data / "m5")
    measured["large"] = child("--rows", "10000000")
    bars += [*more, bar("ten million rows: peak bytes", measured["large"]["peak_bytes"], 8e9)]
    claim = "The sparse quantile forest against quantile-forest on M5 features, and as a rung of the ladder"
    store("forecasting/sqrf", claim, "python benchmarks/forecasting_sqrf.py --data DIR", measured, bars)


if __name__ == "__main__":
    main()
