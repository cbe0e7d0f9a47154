# SPDX-License-Identifier: Apache-2.0
"""Claim: a search under a byte budget halves a classifier's memory on Ethos-U55-256 within half a point of top-1.

The budget is 512 KiB for int8 parameters and peak SRAM together; the baseline, a MobileNetV2 for thumbnails, breaks it.
Searched on 45,000 CIFAR-10 training images, chosen on 5,000 of them, trained again on all 50,000 with three seeds and
judged on the 10,000 test images. The expert's rules - no depthwise convolution, even channels in multiples of the
parallelism - are applied to the baseline without any search and trained alike.

    python benchmarks/search_classification.py --data DIR --runs RUNS   (RUNS as for search_detection.py)
"""

from typing import Any

import torch
import vision_data
import vision_results as vr
from store import bar, store

from sirdar.recipes import classification
from sirdar.recipes.vision_product import ProductTask
from sirdar.vision.images import Labelled, signed

PRODUCT, BATCH = classification.PRODUCT, 100
BUDGET_BYTES = 512 * 1024
DISTANCE = 0.01  # between the rules' accuracy and the search's


def int8_top1(file: bytes, test: Labelled) -> float:
    """Top-1 of an int8 file for a batch on the test images."""
    named = torch.cat([outputs[0].argmax(1) for outputs in vr.int8_outputs(file, signed(test.images), BATCH)])
    return float((named == test.labels).float().mean())


def row_of(role: vr.Role, train: Labelled, test: Labelled) -> tuple[dict[str, Any], bytes]:
    """All that is said of one network, and its int8 file of the first seed."""
    calibration = signed(train.images[:: len(train.images) // 400][:400])
    networks = [vr.trained(PRODUCT, role, place) for place in range(len(role.weights))]
    single = vr.int8_file(networks[0], calibration)
    row = {
        "choices": role.candidate.as_dict(),
        "top1": vr.interval(role.scores),
        "top1_each_seed": role.scores,
        "top1_int8": vr.interval([int8_top1(vr.int8_file(n, calibration, BATCH), test) for n in networks]),
        "compiled": vr.compiled(PRODUCT, role, single),
    }
    return row, single


def main() -> None:
    """See the module's docstring."""
    given = vr.given_or_skipped(vr.parser_of(__doc__))
    if given is None:
        return
    torch.set_num_threads(1)
    train, test = vision_data.cifar10(given.data)
    made = {name: row_of(role, train, test) for name, role in vr.finals(given.runs, PRODUCT).items()}
    rows = {name: row for name, (row, _) in made.items()}
    for name, seconds in vr.timed({name: file for name, (_, file) in made.items()}).items():
        rows[name]["litert_cpu_s"] = seconds
    base, best, rules = rows["baseline"], rows["searched"], rows["rules"]
    memory = {name: row["compiled"]["memory_bytes"] for name, row in rows.items()}
    for row in rows.values():
        row["memory_cut"] = 1 - row["compiled"]["memory_bytes"] / memory["baseline"]
        row["latency_cut"] = 1 - row["compiled"]["latency_s"] / base["compiled"]["latency_s"]
    task = ProductTask(PRODUCT, classification.data_of(train, test.take(range(100))))
    step_s = vr.cpu_seconds_per_step(task, PRODUCT.space.candidate(best["choices"]))
    facts = vr.search_facts(given.runs, PRODUCT, ("budget",))
    steps = PRODUCT.schedule.steps * (facts["budget"]["candidates"] + 4 * facts["budget"]["trained_longer"])
    measured = {
        "rows": rows,
        "budget_bytes": BUDGET_BYTES,
        "search": facts,
        "rules_found": vr.rules_found(given.runs, PRODUCT, ("budget",)),
        "cpu_s_per_step_one_core": step_s,
        "trained_on": "one H200 (bf16), 12 networks at a time; compiled, quantised, scored and timed on this machine",
    }
    gap = best["top1"]["mean"] - base["top1"]["mean"]
    bars = [
        bar("cut of parameters and peak SRAM", best["memory_cut"], 0.47, better="higher"),
        bar("top-1 of the searched network less the baseline's", gap, -0.005, better="higher"),
        bar(
            "int8 top-1 of the searched network less the baseline's",
            best["top1_int8"]["mean"] - base["top1_int8"]["mean"],
            -0.005,
            better="higher",
        ),
        bar("baseline's bytes over the budget", memory["baseline"] / BUDGET_BYTES, 1.0, better="higher"),
        bar("searched network's bytes over the budget", memory["searched"] / BUDGET_BYTES, 1.0),
        bar("rules' bytes over the budget", memory["rules"] / BUDGET_BYTES, 1.0),
        bar(
            "top-1 of the rules without search less the searched network's",
            rules["top1"]["mean"] - best["top1"]["mean"],
            -DISTANCE,
            better="higher",
        ),
        bar("search on 2 cores in hours (steps x measured seconds)", steps * step_s / 2 / 3600, 2.0),
    ]
    vr.keep(given.save, PRODUCT, {name: file for name, (_, file) in made.items()})
    store(
        "search/classification",
        vr.claim(__doc__),
        "python benchmarks/search_classification.py --data DIR --runs RUNS",
        measured,
        bars,
    )


if __name__ == "__main__":
    main()
