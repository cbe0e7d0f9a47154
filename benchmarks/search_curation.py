# SPDX-License-Identifier: Apache-2.0
"""Claim: without the channel counts that leave multipliers idle, a search needs a third of the trainings or fewer.

Space: eight 3 x 3 convolutions of 8 to 64 channels in steps of 2, on CIFAR-10 at 16 x 16 pixels, for Ethos-U55-256 and
Ethos-U85-512. The grain of both is measured with Arm's compiler; latencies are its estimates, not timings. Accuracy is
that of a Gaussian process over networks that were trained by search_curation_train.py (--trained FILE); how well it
tells networks that it has not seen is measured by leaving each tenth out. The same regularised evolution searches both
spaces, under a limit of the median latency of the whole one, 60 trainings and 20 seeds. A training of an infeasible
candidate never happens in either. For each seed: trainings until the curated search is as good as the other's result
after all of its own; beside it, how many the other had needed to get there, which only hindsight tells. --cache keeps
what was searched, and --seconds ends a part of it, to be gone on with.

The first space had four layers and missed the bar: 1.3 times fewer on U55-256, 2.3 on U85-512. A classifier is deeper,
and each layer more is one more width to get right; eight were taken after three seeds with a made-up accuracy, linear
in the logarithms of widths, had shown a saving on U85-512 and little on U55-256. What is saved depends on the grain:
one of 8 wastes about a tenth of a layer of 36 channels, one of 16 a fifth.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from search_curation_train import LAYERS, WIDTHS, network
from store import bar, store

from sirdar.deploy.compiled import Vela, ethos_u
from sirdar.search.curate import Landscape, curate, granules, landscape
from sirdar.search.multishot import RegularisedEvolution
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.study import Options, search
from sirdar.search.surrogate import GaussianProcess
from sirdar.search.task import Report
from sirdar.units import Cost
from sirdar.workload.graph import Graph, TensorSpec
from sirdar.workload.trace import trace

SPACE = SearchSpace("convolutions", tuple(Choice(f"layer{n}.channels", WIDTHS) for n in range(1, LAYERS + 1)))
CHIPS = ("ethos-u55-256", "ethos-u85-512")
TRAININGS, SEEDS = 60, 20


class Known:
    """Accuracy as the process over trained networks tells it; nothing is trained during the search."""

    metric, higher_is_better = "accuracy", True

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.features = np.log2(np.array([row["widths"] for row in rows], dtype=np.float64))
        self.values = np.array([row["accuracy"] for row in rows])
        self.centre = float(self.features.sum(axis=1).mean())
        self.process = GaussianProcess(self.features, self.features.sum(axis=1) - self.centre, self.values)

    def told(self, widths: np.ndarray) -> np.ndarray:
        """Accuracy of networks of these widths [network, layer]."""
        features = np.log2(widths.astype(np.float64))
        return self.process.predict(features, features.sum(axis=1) - self.centre)[0]

    def quality(self) -> dict[str, float]:
        """Correlation and error on networks left out, a tenth at a time."""
        order = np.random.default_rng(0).permutation(len(self.values))
        guess = np.zeros(len(order))
        for part in np.array_split(order, 10):
            rest = np.setdiff1d(order, part)
            trend = self.features.sum(axis=1) - self.centre
            process = GaussianProcess(self.features[rest], trend[rest], self.values[rest])
            guess[part] = process.predict(self.features[part], trend[part])[0]
        return {
            "networks": len(order),
            "spearman": float(spearmanr(guess, self.values)[0]),
            "mean_absolute_error": float(np.abs(guess - self.values).mean()),
            "spread": float(self.values.std()),
        }

    def graph(self, candidate: Candidate) -> Graph:
        """The network's operators."""
        return graph_of(tuple(int(value) for _, value in candidate.values))

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        """What the process says, whatever the seed."""
        del seed, report
        return {"accuracy": float(self.told(np.array([[value for _, value in candidate.values]]))[0])}


MARKS = (11, 13, 17, 19, 23, 29, 31, 37)  # widths that no other axis has, so that they can be replaced


@cache
def traced() -> Graph:
    """The network whose widths are the marks."""
    return trace(network(MARKS).eval(), torch.zeros(1, 3, 16, 16))


def scaled(work: int, marked: dict[int, int]) -> int:
    """Work with its factors that are marks replaced, each as often as it divides."""
    result, rest = 1, work
    for mark, width in marked.items():
        while rest and rest % mark == 0:
            rest, result = rest // mark, result * width
    return rest * result


def graph_of(widths: tuple[int, ...]) -> Graph:
    """The operators of a network: those of the marked one with other widths, since tracing takes a second."""
    marked = dict(zip(MARKS, widths, strict=True))
    graph = traced()

    def spec(old: TensorSpec) -> TensorSpec:
        return replace(old, shape=tuple(marked.get(axis, axis) for axis in old.shape))

    operators = []
    for old in graph.operators:
        parts = {role: tuple(map(spec, getattr(old, role))) for role in ("inputs", "outputs", "weights")}
        facts = {
            key: marked.get(value, value) if isinstance(value, int) else value for key, value in old.attributes.items()
        }
        if "weight" in facts:
            facts["weight"] = [marked.get(axis, axis) for axis in facts["weight"]]
        work = {role: scaled(getattr(old, role), marked) for role in ("macs", "flops")}
        operators.append(replace(old, **parts, attributes=facts, **work))
    return Graph(tuple(operators), tuple(map(spec, graph.inputs)), graph.outputs, graph.name)


def pricing(chip: str, known: Known) -> Callable[[Candidate], Cost]:
    """Compiled latency, each candidate compiled once."""
    target, vela = ethos_u(chip), Vela(memory_mode="Shared_Sram")

    @cache
    def cost(candidate: Candidate) -> Cost:
        return vela.estimate(known.graph(candidate), target, "int8")

    return cost


def curve(space: SearchSpace, known: Known, cost: Callable[[Candidate], Cost], limit: float, seed: int) -> np.ndarray:
    """The best accuracy after each training, [training]."""
    strategy = RegularisedEvolution(10, 3)
    options = Options(cost=cost)
    limits = {"latency_s": limit}
    study = search(space, known, limits=limits, strategy=strategy, trials=TRAININGS, seed=seed, options=options)
    return np.maximum.accumulate([trial.measures["accuracy"] for trial in study.trials])


def needed(best: np.ndarray, target: float) -> float:
    """Trainings until the target is reached; twice as many as there were where it is not."""
    reached = np.flatnonzero(best >= target - 1e-12)
    return float(reached[0] + 1) if len(reached) else 2.0 * TRAININGS


def shown(view: Landscape) -> dict[str, Any]:
    """The landscape without its points."""
    return {"monotone_steps": view.monotone, "spearman_macs_latency": view.spearman}


class OutOfTimeError(Exception):
    """The seconds are spent; what was searched is kept."""


@dataclass
class Kept:
    """Pairs of searches by chip and seed, kept in a file."""

    path: Path
    until: float
    rows: dict[str, Any] = field(default_factory=dict)

    def once(self, key: str, run: Callable[[], Any]) -> Any:  # noqa: ANN401 - what JSON can hold
        """What was found before, or now."""
        if key not in self.rows:
            if time.process_time() > self.until:
                raise OutOfTimeError
            self.rows[key] = run()
            scratch = self.path.with_suffix(".tmp")
            scratch.write_text(json.dumps(self.rows))
            scratch.rename(self.path)
        return self.rows[key]


def on_chip(chip: str, known: Known, kept: Kept, seeds: int) -> dict[str, Any]:
    """Grain, landscapes and searches for one chip."""
    cost = pricing(chip, known)

    def scene() -> dict[str, Any]:
        grain = granules(
            Vela(memory_mode="Shared_Sram"), ethos_u(chip), "int8", kinds=("standard", "pointwise"), widest=96
        )
        small = curate(SPACE, grain["standard"].size).space
        before, after = landscape(SPACE, cost, 100), landscape(small, cost, 100)
        return {
            "granule": {kind: {"size": row.size, "share": row.share} for kind, row in grain.items()},
            "size": {"before": SPACE.size, "after": small.size},
            "limit_s": float(np.median([latency for _, latency in before.points])),
            "landscape": {"before": shown(before), "after": shown(after)},
            "points": {"before": before.points, "after": after.points},
        }

    found = kept.once(chip, scene)
    limit, curated = found["limit_s"], curate(SPACE, found["granule"]["standard"]["size"]).space

    def pair(seed: int) -> dict[str, float]:
        whole = curve(SPACE, known, cost, limit, seed)
        small = curve(curated, known, cost, limit, seed)
        counts = {"whole_needed": needed(whole, whole[-1]), "curated_needed": needed(small, whole[-1])}
        return counts | {"whole": float(whole[-1]), "curated": float(small[-1])}

    pairs = [kept.once(f"{chip} {seed}", lambda seed=seed: pair(seed)) for seed in range(seeds)]
    return found | {
        "fewer_than_budget": float(np.median([TRAININGS / row["curated_needed"] for row in pairs])),
        "fewer_than_first_reached": float(np.median([row["whole_needed"] / row["curated_needed"] for row in pairs])),
        "pairs": pairs,
        "accuracy_gain": float(np.median([row["curated"] - row["whole"] for row in pairs])),
    }


def main() -> None:
    """Measures and stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, help="what search_curation_train.py wrote")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cache", type=Path, default=Path("search_curation_pairs.json"))
    parser.add_argument("--seconds", type=float, default=1e9, help="of processor time; what was found is kept")
    options = parser.parse_args()
    if options.trained is None:
        print("search_curation needs --trained FILE, which search_curation_train.py --data DIR writes")
        return
    known = Known(json.loads(options.trained.read_text()))
    rows = json.loads(options.cache.read_text()) if options.cache.exists() else {}
    kept = Kept(options.cache, options.seconds, rows)
    try:
        measured = {chip: on_chip(chip, known, kept, options.seeds) for chip in CHIPS}
        measured["accuracy"] = kept.once("accuracy", known.quality)
    except OutOfTimeError:
        print(f"{len(kept.rows)} results are kept; run again to go on")
        return
    bars = []
    for chip in CHIPS:
        found = measured[chip]
        view = found["landscape"]
        bars.append(bar(f"{chip}: fewer trainings than spent", found["fewer_than_budget"], 3.0, better="higher"))
        hindsight = found["fewer_than_first_reached"]
        bars.append(bar(f"{chip}: fewer than needed, in hindsight", hindsight, 3.0, better="higher"))
        share = view["after"]["monotone_steps"], view["before"]["monotone_steps"]
        bars.append(bar(f"{chip}: share of monotone steps, curated", *share, better="higher"))
    command = "python benchmarks/search_curation.py --trained FILE"
    store("search/curation", __doc__.split("\n")[0].removeprefix("Claim: "), command, measured, bars)


if __name__ == "__main__":
    main()
