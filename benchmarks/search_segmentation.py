# SPDX-License-Identifier: Apache-2.0
"""Claim: evolution over channels, fusion and sizes makes a segmenter >= 51 % faster on Ethos-U85-512 at equal mIoU.

The baseline suits a CPU: inverted bottlenecks and an output a quarter of the input's side. Searched on CamVid's 367
training images, chosen on its 101 validation images, trained again on both with three seeds and judged on the 233 test
images (11 classes, void ignored, at 180 x 240). Five candidates, A to E, are handed on from the front of validation
mIoU and compiled latency.

    python benchmarks/search_segmentation.py --data DIR --runs RUNS   (RUNS as for search_detection.py)
"""

from typing import Any

import numpy as np
import torch
import vision_data
import vision_results as vr
from store import bar, store

from sirdar.recipes import segmentation
from sirdar.recipes.vision_product import ProductTask
from sirdar.search.objectives import undominated
from sirdar.vision.images import Masked
from sirdar.vision.segmentation import confusion, mean_iou, resized, segmented

PRODUCT, BATCH = segmentation.PRODUCT, 10


def int8_miou(file: bytes, size: tuple[int, int], test: Masked) -> float:
    """The mIoU of an int8 file for a batch on the test images."""
    total, begin = np.zeros((11, 11), np.int64), 0
    for outputs in vr.int8_outputs(file, resized(test.images, size), BATCH):
        truth = test.masks[begin : begin + len(outputs[0]), 0]
        total += confusion(segmented(outputs[0], (180, 240)), truth, 11)
        begin += len(outputs[0])
    return mean_iou(total)


def row_of(role: vr.Role, parts: dict[str, Masked]) -> tuple[dict[str, Any], bytes]:
    """All that is said of one network, and its int8 file of the first seed."""
    size = segmentation.size_of(role.candidate)
    calibration = resized(parts["train"].images[::7][:50], size)
    networks = [vr.trained(PRODUCT, role, place) for place in range(len(role.weights))]
    single = vr.int8_file(networks[0], calibration)
    scores = [int8_miou(vr.int8_file(n, calibration, BATCH), size, parts["test"]) for n in networks]
    row = {
        "choices": role.candidate.as_dict(),
        "miou": vr.interval(role.scores),
        "miou_each_seed": role.scores,
        "miou_int8": vr.interval(scores),
        "compiled": vr.compiled(PRODUCT, role, single),
    }
    return row, single


def main() -> None:
    """See the module's docstring."""
    given = vr.given_or_skipped(vr.parser_of(__doc__))
    if given is None:
        return
    torch.set_num_threads(1)
    parts = vision_data.camvid(given.data)
    made = {name: row_of(role, parts) for name, role in vr.finals(given.runs, PRODUCT).items()}
    rows = {name: row for name, (row, _) in made.items()}
    base = rows["baseline"]
    for name, seconds in vr.timed({name: file for name, (_, file) in made.items()}).items():
        rows[name]["litert_cpu_s"] = seconds
    for row in rows.values():
        row["latency_cut"] = 1 - row["compiled"]["latency_s"] / base["compiled"]["latency_s"]
        row["litert_cpu_cut"] = 1 - row["litert_cpu_s"] / base["litert_cpu_s"]
    five = {name: row for name, row in rows.items() if name != "baseline"}
    losses = np.array([[-row["miou"]["mean"], row["compiled"]["latency_s"]] for row in five.values()])
    equal = {name: row["latency_cut"] for name, row in five.items() if row["miou"]["mean"] >= base["miou"]["low"]}
    best = max(equal, key=lambda name: equal[name], default="")
    task = ProductTask(PRODUCT, segmentation.data_of(parts["train"], parts["validation"].take(range(4))))
    step_s = vr.cpu_seconds_per_step(task, PRODUCT.space.candidate((five.get(best) or base)["choices"]))
    facts = vr.search_facts(given.runs, PRODUCT, ("fast", "front"))
    steps = PRODUCT.schedule.steps * (facts["fast"]["candidates"] + 2 * facts["fast"]["trained_longer"])
    measured = {
        "rows": rows,
        "best_at_equal_miou": best,
        "on_the_front_of_test_scores": [n for n, on in zip(five, undominated(losses), strict=True) if on],
        "search": facts,
        "rules_found": vr.rules_found(given.runs, PRODUCT, ("fast",)),
        "cpu_s_per_step_one_core": step_s,
        "trained_on": "one H200 (bf16), 12 networks at a time; compiled, quantised, scored and timed on this machine",
    }
    bars = [
        bar("latency cut of the best candidate at equal mIoU", equal.get(best, 0.0), 0.51, better="higher"),
        bar("candidates handed on", len(five), 5, better="higher"),
        bar("candidates on the front of test mIoU and latency", int(undominated(losses).sum()), 5, better="higher"),
        bar(
            "best candidate's int8 mIoU less the low end of the baseline's int8 interval",
            (five.get(best) or base)["miou_int8"]["mean"] - base["miou_int8"]["low"],
            0,
            better="higher",
        ),
        bar("search on 2 cores in hours (steps x measured seconds)", steps * step_s / 2 / 3600, 2.0),
    ]
    vr.keep(given.save, PRODUCT, {name: file for name, (_, file) in made.items()})
    store(
        "search/segmentation",
        vr.claim(__doc__),
        "python benchmarks/search_segmentation.py --data DIR --runs RUNS",
        measured,
        bars,
    )


if __name__ == "__main__":
    main()
