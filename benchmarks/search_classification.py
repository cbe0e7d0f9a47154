# SPDX-License-Identifier: Apache-2.0
"""Claim: a search under a byte budget halves a classifier's memory on Ethos-U55-256 within half a point of top-1.

The budget is 276 KiB for int8 parameters and peak SRAM together; the baseline, a small MobileNetV2 for thumbnails,
breaks it. Searched on 45,000 CIFAR-10 training images; the six best on 5,000 others of them are trained for as long as
the final networks, and the best of these is chosen. It is trained again on all 50,000 with five seeds and judged on
the 10,000 test images. The expert's rules - no depthwise convolution, even channels in multiples of the parallelism -
are applied to the baseline without any search and trained alike. Trainings are short (1.3 passes over the images): what
is compared are networks at equal, small effort.

This is the third search whose result was scored. The first, under 256 KiB, of 10 trainings of 150 steps judged on 2,000
images, lost 3.2 points of test top-1; the second, of 24 trainings of 200 steps under 276 KiB with four candidates of an
engineer, 1.9. What was new in the third: "fused-first" stages, since the winner's peak was the first block's expansion
at full resolution, and the play-off, since 200 steps do not tell what 500 will. The first candidate by hand had already
been trained for 500 steps and judged on the validation images. The play-off was to be of four, and was widened to six
after its first result; the winner was among the four. Three seeds put it 1.1 points below the baseline, with intervals
of +-2.8; two more seeds of all three networks were then added to narrow them.

    python benchmarks/search_classification.py --data DIR --runs RUNS   (goes on where it was killed)
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import vision_data
import vision_report as vr
from store import bar, store
from torch import Tensor, nn
from vision_runs import Arm, Plan, PlayOff, Studies, finished

from sirdar.recipes import classification
from sirdar.search.space import Candidate
from sirdar.vision.classification import classified_by, top1
from sirdar.vision.images import Labelled, signed
from sirdar.vision.training import Schedule

PRODUCT = replace(
    classification.PRODUCT, schedule=replace(classification.PRODUCT.schedule, steps=200, precision="bf16")
)
FINAL = Schedule(
    steps=500, batch=128, learning_rate=0.1, optimiser="sgd", weight_decay=5e-4, average=0.99, precision="bf16"
)
BATCH = 100
BUDGET_BYTES = 276 * 1024
DISTANCE = 0.01  # between the rules' accuracy and the search's
TRIALS = 12
PLAY_OFF = 6
SEEDS = 5
# An engineer's: kind and expansion of the first stage, then channels and blocks of each, and of the layer on top.
BY_HAND = (
    ("fused-first", 6, (16, 48, 96), (3, 4, 1), 256),
    ("fused-first", 6, (16, 48, 128), (3, 4, 1), 256),
    ("fused-first", 4, (24, 48, 96), (3, 4, 1), 256),
    ("ibn", 6, (16, 48, 80), (3, 3, 1), 256),  # the second search's
)


def arms(_base: Mapping[str, float]) -> tuple[Arm, ...]:
    """One search under the budget, from what the rules say, narrowed to keep to it, and an engineer's candidates."""
    space, rules = classification.SPACE, classification.by_rules(classification.BASELINE).as_dict()
    first = (space.candidate(rules | {"stage3.channels": 80}), *(by_hand(*row) for row in BY_HAND))
    return (Arm("budget", space, TRIALS, {"memory_bytes": float(BUDGET_BYTES)}, first),)


def by_hand(
    kind: str, expansion: int, channels: tuple[int, int, int], blocks: tuple[int, int, int], top: int
) -> Candidate:
    """The baseline with another first stage, and other channels and blocks."""
    values = classification.BASELINE.as_dict() | {"stage1.kind": kind, "stage1.expansion": expansion}
    for stage, (width, count) in enumerate(zip(channels, blocks, strict=True), 1):
        values |= {f"stage{stage}.channels": width, f"stage{stage}.blocks": count}
    return classification.SPACE.candidate(values | {"top.channels": top})


def roles(_studies: Studies, play_off: PlayOff) -> dict[str, Candidate]:
    """The baseline, the best of the play-off by validation top-1, and the rules."""
    rules = classification.by_rules(classification.BASELINE)
    best = max(play_off, key=lambda candidate: play_off[candidate])
    return {"baseline": classification.BASELINE, "searched": best, "rules": rules}


def int8_top1(file: bytes, test: Labelled) -> float:
    """Top-1 of an int8 file for a batch on the test images."""
    named = torch.cat([outputs[0].argmax(1) for outputs in vr.int8_outputs(file, signed(test.images), BATCH)])
    return float((named == test.labels).float().mean())


def plan_of(folder: Path) -> tuple[Plan, Tensor]:
    """The work, and the images that int8 scales come from."""
    train, test = vision_data.cifar10(folder)
    held = np.arange(len(train.images)) % 10 == 0
    search = classification.data_of(train.take(np.flatnonzero(~held)), train.take(np.flatnonzero(held)))
    final = classification.data_of(train, train.take(np.flatnonzero(held)))
    calibration = signed(train.images[:: len(train.images) // 400][:400])
    labels = test.labels.numpy()

    def score(_candidate: Candidate, network: nn.Module) -> dict[str, float]:
        quantised = int8_top1(vr.int8_file(network, calibration, BATCH), test)
        return {"top1": top1(classified_by(network, test), labels), "top1_int8": quantised}

    return Plan(PRODUCT, lambda: search, lambda: final, score, arms, roles, FINAL, SEEDS, PLAY_OFF), calibration


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
    facts = vr.facts_of(runs, rows) | {"budget_bytes": BUDGET_BYTES}
    base, best, rules = rows["baseline"], rows["searched"], rows["rules"]
    gap = {name: best[name]["mean"] - base[name]["mean"] for name in ("top1", "top1_int8")}
    apart = rules["top1"]["mean"] - best["top1"]["mean"]
    over = {name: row["compiled"]["memory_bytes"] / BUDGET_BYTES for name, row in rows.items()}
    bars = [
        bar("cut of parameters and peak SRAM", best["memory_cut"], 0.47, better="higher"),
        bar("top-1 of the searched network less the baseline's", gap["top1"], -0.005, better="higher"),
        bar("int8 top-1 of the searched network less the baseline's", gap["top1_int8"], -0.005, better="higher"),
        bar("baseline's bytes over the budget", over["baseline"], 1.0, better="higher"),
        bar("searched network's bytes over the budget", over["searched"], 1.0),
        bar("top-1 of the rules without search less the searched network's", apart, -DISTANCE, better="higher"),
        vr.time_bar(facts),
    ]
    vr.keep(given.save, runs, "searched", lambda _candidate: calibration)
    command = "python benchmarks/search_classification.py --data DIR --runs RUNS"
    store("search/classification", vr.claim(__doc__), command, facts, bars)


if __name__ == "__main__":
    main()
