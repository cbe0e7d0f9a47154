# SPDX-License-Identifier: Apache-2.0
"""Claim: evolution over channels, fusion and sizes makes a segmenter >= 51 % faster on Ethos-U85-512 at equal mIoU.

The baseline suits a CPU: inverted bottlenecks and an output a quarter of the input's side. Searched on CamVid's 367
training images, chosen on its 101 validation images, trained again on both with three seeds and judged on the 233 test
images (11 classes, void ignored, at 180 x 240). What leads each search is trained for as long as the final networks,
and five candidates, A to E, are handed on from the front of the mIoU it then has and compiled latency, spread evenly
over the logarithm of latency.

This is the second result that was scored. The first, without the search over the whole range, without that longer
training before the choice and with final trainings of 300 steps, had two of its five on the front of test scores.

    python benchmarks/search_segmentation.py --data DIR --runs RUNS   (goes on where it was killed)
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

from sirdar.recipes import segmentation
from sirdar.search.objectives import Objective, Objectives, undominated
from sirdar.search.space import Candidate
from sirdar.search.task import Trial
from sirdar.vision.images import Masked
from sirdar.vision.segmentation import confusion, counts_by, mean_iou, resized, segmented
from sirdar.vision.training import Schedule

PRODUCT = replace(segmentation.PRODUCT, schedule=replace(segmentation.PRODUCT.schedule, precision="bf16"))
FINAL = Schedule(steps=500, batch=16, learning_rate=0.004, average=0.99, precision="bf16")
BATCH, SHAPE = 10, (180, 240)
GOAL = (Objective("miou", "maximise"), Objective("latency_s"))
LIMIT = 0.48  # of the baseline's latency
TRIALS = {"fast": 8, "front": 8, "range": 16}
PLAY_OFF = 6
NAMES = "ABCDE"
# An engineer's, from slow to fast: input, depth multiplier of all, output.
BY_HAND = (
    ("144x192", 1.25, 4),
    ("144x192", 1.0, 4),
    ("144x192", 0.75, 4),
    ("128x176", 0.75, 4),
    ("112x144", 0.75, 4),
    ("112x144", 0.5, 4),
    ("80x112", 0.75, 4),
    ("80x112", 0.5, 8),
)


def arms(base: Mapping[str, float]) -> tuple[Arm, ...]:
    """One search under a limit on latency, one that trades mIoU against latency, and one over their whole range."""
    space, start = segmentation.SPACE, segmentation.BASELINE.as_dict()
    first = space.candidate(start | {"stage1.kind": "fused", "input": "112x144", "output": 8})
    whole = space.candidate(start | {"stage1.kind": "fused", "output": 8})
    trade = (Objective("miou", "maximise"), Objective("latency_s", weight=0.15, reference=1e-3))
    limits = {"latency_s": LIMIT * base["latency_s"]}
    return (
        Arm("fast", space, TRIALS["fast"], limits, (first,)),
        Arm("front", space, TRIALS["front"], {}, (whole,), trade),
        Arm("range", space, TRIALS["range"], {}, tuple(by_hand(*row) for row in BY_HAND), GOAL, "nsga-ii"),
    )


def by_hand(size: str, deep: float, output: int) -> Candidate:
    """The baseline with a fused first stage, at another input size, depth multiplier and output."""
    deeps = {name: deep for name in segmentation.BASELINE.as_dict() if name.endswith(".deep")}
    changed = deeps | {"input": size, "output": output, "stage1.kind": "fused"}
    return segmentation.SPACE.candidate(segmentation.BASELINE.as_dict() | changed)


def roles(studies: Studies, play_off: PlayOff) -> dict[str, Candidate]:
    """The baseline and five candidates along the front of the play-off, slowest first; the ends are always among them.

    Of those between, the nearest to evenly spread points.
    """
    latency = {trial.candidate: trial.measures["latency_s"] for _, _, tried in studies.values() for trial in tried}
    measured = [Trial(0, c, {"miou": score, "latency_s": latency[c]}) for c, score in play_off.items()]
    front = sorted(Objectives(GOAL).pareto(measured), key=lambda trial: -trial.measures["latency_s"])
    places = np.log([trial.measures["latency_s"] for trial in front])
    chosen: list[int] = []
    for point in np.linspace(places[0], places[-1], len(NAMES)):
        free = [place for place in range(len(front)) if place not in chosen]
        chosen += sorted(free, key=lambda place: abs(places[place] - point))[:1]
    found = {name: front[place].candidate for name, place in zip(NAMES, sorted(chosen), strict=False)}
    return {"baseline": segmentation.BASELINE} | found


def int8_miou(file: bytes, size: tuple[int, int], test: Masked) -> float:
    """The mIoU of an int8 file for a batch on the test images."""
    total, begin = np.zeros((11, 11), np.int64), 0
    for outputs in vr.int8_outputs(file, resized(test.images, size), BATCH):
        truth = test.masks[begin : begin + len(outputs[0]), 0]
        total += confusion(segmented(outputs[0], SHAPE), truth, 11)
        begin += len(outputs[0])
    return mean_iou(total)


def plan_of(folder: Path) -> tuple[Plan, vr.Calibration]:
    """The work, and the images that int8 scales come from."""
    parts = vision_data.camvid(folder)
    train, held, test = parts["train"], parts["validation"], parts["test"]
    joined = [torch.cat([getattr(part, name) for part in (train, held)]) for name in ("images", "masks")]
    whole = replace(train, images=joined[0], masks=joined[1])

    def calibration(candidate: Candidate) -> Tensor:
        return resized(train.images[::7][:50], segmentation.size_of(candidate))

    def score(candidate: Candidate, network: nn.Module) -> dict[str, float]:
        size = segmentation.size_of(candidate)
        file = vr.int8_file(network, calibration(candidate), BATCH)
        return {"miou": mean_iou(counts_by(network, test, size)), "miou_int8": int8_miou(file, size, test)}

    search, final = segmentation.data_of(train, held), segmentation.data_of(whole, held)
    return Plan(PRODUCT, lambda: search, lambda: final, score, arms, roles, FINAL, play_off=PLAY_OFF), calibration


def main() -> None:
    """See the module's docstring."""
    given = vr.given_or_skipped(vr.parser_of(__doc__))
    if given is None:
        return
    plan, calibration = plan_of(given.data)
    runs = finished(plan, given)
    if runs is None:
        return
    rows = vr.rows_of(runs, calibration)
    facts, base = vr.facts_of(runs, rows), rows["baseline"]
    five = {name: row for name, row in rows.items() if name != "baseline"}
    losses = np.array([[-row["miou"]["mean"], row["compiled"]["latency_s"]] for row in five.values()])
    front = undominated(losses)
    equal = {name: row["latency_cut"] for name, row in five.items() if row["miou"]["mean"] >= base["miou"]["low"]}
    best = max(equal, key=lambda name: equal[name], default="")
    above = (five.get(best) or base)["miou_int8"]["mean"] - base["miou_int8"]["low"]
    facts["best_at_equal_miou"] = best
    facts["on_the_front_of_test_scores"] = [name for name, on in zip(five, front, strict=True) if on]
    bars = [
        bar("latency cut of the best candidate at equal mIoU", equal.get(best, 0.0), 0.51, better="higher"),
        bar("candidates handed on", len(five), 5, better="higher"),
        bar("candidates on the front of test mIoU and latency", int(front.sum()), 5, better="higher"),
        bar("best candidate's int8 mIoU less the low end of the baseline's int8 interval", above, 0, better="higher"),
        vr.time_bar(facts),
    ]
    vr.keep(given.save, runs, best or "baseline", calibration)
    command = "python benchmarks/search_segmentation.py --data DIR --runs RUNS"
    store("search/segmentation", vr.claim(__doc__), command, facts, bars)


if __name__ == "__main__":
    main()
