# SPDX-License-Identifier: Apache-2.0
"""Claim: searching depth and fusion cuts a person detector's latency on Ethos-U85-512 by >= 53 % at no less mAP.

Rows as published: the baseline of inverted bottlenecks, V1 (depth multipliers), V2 (fused bottlenecks), V3 (both), and
every block fused. Searched on 80 Penn-Fudan images, chosen on 30, trained again on these 110 with five seeds and judged
on 60 that nothing was chosen by. Latency is Vela's estimate for the int8 file; the same file is timed by LiteRT.

    python benchmarks/vision_training.py --phase search ...   (see there)
    python benchmarks/vision_choice.py --results RUNS/search/results.jsonl --out jobs.json
    python benchmarks/vision_training.py --phase final --jobs jobs.json ...
    python benchmarks/search_detection.py --data DIR --runs RUNS
"""

from typing import Any

import numpy as np
import torch
import vision_data
import vision_results as vr
from store import bar, store

from sirdar.recipes import detection
from sirdar.recipes.vision_product import ProductTask
from sirdar.vision.detection import decode, found_by, mean_average_precision
from sirdar.vision.images import Boxed, signed

PRODUCT, BATCH = detection.PRODUCT, 10


def int8_map(file: bytes, data: Boxed) -> float:
    """COCO's mAP of an int8 file for a batch, by its reference tool."""
    found = []
    for outputs in vr.int8_outputs(file, signed(data.images), BATCH):
        scores, distances = sorted(outputs, key=lambda out: out.shape[1])
        found += decode(scores, distances, detection.SIZE)
    return mean_average_precision(found, detection.true_boxes(data), detection.SIZE)["map"]


def float_map(role: vr.Role, place: int, data: Boxed) -> float:
    """COCO's mAP in floating point, by its reference tool."""
    found = found_by(vr.trained(PRODUCT, role, place), data)
    return mean_average_precision(found, detection.true_boxes(data), detection.SIZE)["map"]


def row_of(role: vr.Role, every: Boxed, split: dict[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """All that is said of one network, and its int8 file of the first seed."""
    test, calibration = every.take(split["test"]), signed(every.take(split["development"][:60]).images)
    networks = [vr.trained(PRODUCT, role, place) for place in range(len(role.weights))]
    single = vr.int8_file(networks[0], calibration)
    row = {
        "choices": role.candidate.as_dict(),
        "map": vr.interval(role.scores),
        "map_each_seed": role.scores,
        "map_int8": vr.interval([int8_map(vr.int8_file(n, calibration, BATCH), test) for n in networks]),
        "map_reference_tool_seed0": float_map(role, 0, test),
        "compiled": vr.compiled(PRODUCT, role, single),
    }
    return row, single


def main() -> None:
    """See the module's docstring."""
    given = vr.given_or_skipped(vr.parser_of(__doc__))
    if given is None:
        return
    torch.set_num_threads(1)
    every, split = vision_data.penn_fudan(given.data), vision_data.penn_fudan_split()
    made = {name: row_of(role, every, split) for name, role in vr.finals(given.runs, PRODUCT).items()}
    rows = {name: row for name, (row, _) in made.items()}
    base = rows["baseline"]
    for name, seconds in vr.timed({name: file for name, (_, file) in made.items()}).items():
        rows[name]["litert_cpu_s"] = seconds
    for row in rows.values():
        row["latency_cut"] = 1 - row["compiled"]["latency_s"] / base["compiled"]["latency_s"]
        row["litert_cpu_cut"] = 1 - row["litert_cpu_s"] / base["litert_cpu_s"]
    best = rows["V3"]
    fused = sorted(name for name, kind in best["choices"].items() if kind == "fused")
    task = ProductTask(PRODUCT, detection.data_of(every.take(split["train"]), every.take(split["validation"])))
    step_s = vr.cpu_seconds_per_step(task, PRODUCT.space.candidate(best["choices"]))
    facts = vr.search_facts(given.runs, PRODUCT, ("V1", "V2", "V3"))
    steps = (
        facts["V3"]["candidates"] * PRODUCT.schedule.steps + facts["V3"]["trained_longer"] * 2 * PRODUCT.schedule.steps
    )
    measured = {
        "rows": rows,
        "V3_fused_in": fused,
        "search": facts,
        "rules_found": vr.rules_found(given.runs, PRODUCT, ("V3",)),
        "cpu_s_per_step_one_core": step_s,
        "images": {name: len(numbers) for name, numbers in split.items()},
        "trained_on": "one H200 (bf16), 12 networks at a time; compiled, quantised, scored and timed on this machine",
    }
    bars = [
        bar("V3 latency cut (Vela, Ethos-U85-512)", best["latency_cut"], 0.53, better="higher"),
        bar(
            "V3 mAP less the low end of the baseline's interval",
            best["map"]["mean"] - base["map"]["low"],
            0,
            better="higher",
        ),
        bar(
            "V3 int8 mAP less the low end of the baseline's int8 interval",
            best["map_int8"]["mean"] - base["map_int8"]["low"],
            0,
            better="higher",
        ),
        bar(
            "latency with every block fused over the baseline's",
            rows["fused"]["compiled"]["latency_s"] / base["compiled"]["latency_s"],
            1.0,
            better="higher",
        ),
        bar("V3 search on 2 cores in hours (steps x measured seconds)", steps * step_s / 2 / 3600, 2.0),
    ]
    vr.keep(given.save, PRODUCT, {name: file for name, (_, file) in made.items()})
    store(
        "search/detection",
        vr.claim(__doc__),
        "python benchmarks/search_detection.py --data DIR --runs RUNS",
        measured,
        bars,
    )


if __name__ == "__main__":
    main()
