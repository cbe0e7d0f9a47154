# SPDX-License-Identifier: Apache-2.0
"""Claim: searching depth and fusion cuts a person detector's latency on Ethos-U85-512 by >= 53 % at no less mAP.

Rows as published: the baseline of inverted bottlenecks, V1 (depth multipliers), V2 (fused bottlenecks), V3 (both), and
every block fused. Searched on 80 Penn-Fudan images at 160 x 192, chosen on 30, trained again on these 110 with three
seeds and judged on 60 that nothing was chosen by. Latency is Vela's estimate for the int8 file; the same file is timed
by LiteRT on this CPU.

    python benchmarks/search_detection.py --data DIR --runs RUNS   (goes on where it was killed)
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import vision_data
import vision_report as vr
from store import bar, store
from torch import Tensor, nn
from vision_runs import Arm, Plan, PlayOff, Studies, finished

from sirdar.recipes import detection
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.space import Candidate
from sirdar.vision.detection import decode, found_by, mean_average_precision
from sirdar.vision.images import Boxed, signed
from sirdar.vision.training import Schedule

PRODUCT = replace(detection.PRODUCT, schedule=replace(detection.PRODUCT.schedule, precision="bf16"))
FINAL = Schedule(steps=300, batch=16, learning_rate=0.003, average=0.99, precision="bf16")
BATCH = 10
LIMITS = {"V1": 0.7, "V2": 0.9, "V3": 0.465}  # of the baseline's latency
TRIALS = {"V1": 6, "V2": 4, "V3": 10}


def arms(base: Mapping[str, float]) -> tuple[Arm, ...]:
    """V1, V2 and V3, each from a network that a person would try first."""
    space, start = detection.SPACE, detection.BASELINE.as_dict()
    half = {name: 0.5 if name.endswith(".deep") else value for name, value in start.items()}
    early = {"stage1.kind": "fused", "stage2.kind": "fused"}
    first = {"V1": half, "V2": start | early, "V3": half | early}
    return tuple(
        Arm(
            name,
            detection.SPACES[name],
            TRIALS[name],
            {"latency_s": LIMITS[name] * base["latency_s"]},
            (space.candidate(first[name]),),
        )
        for name in ("V3", "V1", "V2")
    )


def roles(studies: Studies, _play_off: PlayOff) -> dict[str, Candidate]:
    """The published rows: of each search the candidate with the best validation mAP."""
    goal = Objectives((Objective("map", "maximise"),))
    best = {name: goal.best(trials) for name, (_, _, trials) in studies.items()}
    found = {name: trial.candidate for name, trial in best.items() if trial is not None}
    order = {"baseline": detection.BASELINE, **{name: found[name] for name in ("V3", "V1", "V2")}}
    return order | {"fused": detection.FUSED}


def map_of(network: nn.Module, data: Boxed) -> float:
    """COCO's mAP by its reference tool."""
    found = found_by(network, data)
    return mean_average_precision(found, detection.true_boxes(data), detection.SIZE)["map"]


def int8_map(file: bytes, data: Boxed) -> float:
    """The same of an int8 file for a batch, run by LiteRT."""
    found = []
    for outputs in vr.int8_outputs(file, signed(data.images), BATCH):
        scores, distances = sorted(outputs, key=lambda out: out.shape[1])
        found += decode(scores, distances, detection.SIZE)
    return mean_average_precision(found, detection.true_boxes(data), detection.SIZE)["map"]


def plan_of(folder: Path) -> tuple[Plan, Tensor]:
    """The work, and the images that int8 scales come from."""
    every, split = vision_data.penn_fudan(folder, detection.SIZE), vision_data.penn_fudan_split()
    train, held, test = (every.take(split[name]) for name in ("train", "validation", "test"))
    whole = every.take(split["development"])
    calibration = signed(whole.images[:60])

    def score(_candidate: Candidate, network: nn.Module) -> dict[str, float]:
        quantised = int8_map(vr.int8_file(network, calibration, BATCH), test)
        return {"map": map_of(network, test), "map_int8": quantised}

    search, final = detection.data_of(train, held), detection.data_of(whole, held)
    return Plan(PRODUCT, lambda: search, lambda: final, score, arms, roles, FINAL), calibration


def main() -> None:
    """See the module's docstring."""
    given = vr.given_or_skipped(vr.parser_of(__doc__))
    if given is None:
        return
    plan, calibration = plan_of(given.data)
    runs = finished(plan, given)
    if runs is None:
        return
    rows = vr.rows_of(runs, lambda _candidate: calibration)
    facts, base, best = vr.facts_of(runs, rows), rows["baseline"], rows["V3"]
    facts["V3_fused_in"] = sorted(name for name, kind in best["choices"].items() if kind == "fused")
    facts["images"] = {name: len(numbers) for name, numbers in vision_data.penn_fudan_split().items()}
    above = {name: best[name]["mean"] - base[name]["low"] for name in ("map", "map_int8")}
    blanket = rows["fused"]["compiled"]["latency_s"] / base["compiled"]["latency_s"]
    bars = [
        bar("V3 latency cut (Vela, Ethos-U85-512)", best["latency_cut"], 0.53, better="higher"),
        bar("V3 mAP less the low end of the baseline's interval", above["map"], 0, better="higher"),
        bar("V3 int8 mAP less the low end of the baseline's int8 interval", above["map_int8"], 0, better="higher"),
        bar("latency with every block fused over the baseline's", blanket, 1.0, better="higher"),
        vr.time_bar(facts),
    ]
    vr.keep(given.save, runs, "V3", lambda _candidate: calibration)
    command = "python benchmarks/search_detection.py --data DIR --runs RUNS"
    store("search/detection", vr.claim(__doc__), command, facts, bars)


if __name__ == "__main__":
    main()
