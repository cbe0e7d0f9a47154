# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation moved from a CPU to an NPU: evolution over channels, fusion, and input and output size.

The baseline is what suits a CPU: inverted bottlenecks, few multiplications, an output a quarter of the input's side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from sirdar.errors import DataError
from sirdar.recipes.vision_product import (
    Data,
    Product,
    digest_of,
    folder_of,
    held_out,
    require_size,
    searched,
    spread,
    stage_of,
)
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.vision.blocks import Block, deepened
from sirdar.vision.images import VOID, Masked, read_classes, read_masked
from sirdar.vision.segmentation import SegmentationTask, Segmenter, class_weights, counts_by, mean_iou, resized
from sirdar.vision.training import Schedule

if TYPE_CHECKING:
    from sirdar.search.study import Options, Study

SIZE = (180, 240)  # at which images are read and judged
STEM, NECK = 24, 64
STAGES = ((24, 2, 2), (40, 3, 2), (80, 3, 2), (112, 3, 1))  # channels, blocks, stride
_SIZES = ("80x112", "96x128", "112x144", "128x176", "144x192")  # height x width
_DEEP = (0.5, 0.75, 1.0, 1.25)
_NAMES = tuple(f"stage{place + 1}" for place in range(len(STAGES)))

SPACE = SearchSpace(
    "segmentation",
    (
        Choice("input", _SIZES),
        Choice("output", (4, 8, 16)),
        Choice("stem.deep", _DEEP),
        *(
            choice
            for name in _NAMES
            for choice in (Choice(f"{name}.deep", _DEEP), Choice(f"{name}.kind", ("fused", "ibn")))
        ),
        Choice("head.deep", _DEEP),
        Choice("head.kind", ("depthwise", "standard", "ibn")),
    ),
)
BASELINE = SPACE.candidate(
    {"input": "144x192", "output": 4, "head.kind": "ibn"}
    | {f"{name}.deep": 1.0 for name in ("stem", *_NAMES, "head")}
    | {f"{name}.kind": "ibn" for name in _NAMES}
)


def _inputs(size: tuple[int, int]) -> tuple[str, ...]:
    """The sizes of the space for images read at another size than `SIZE`, likewise smaller: multiples of 16."""
    ratios = [wanted / usual for wanted, usual in zip(size, SIZE, strict=True)]
    rows = [[int(side) for side in option.split("x")] for option in _SIZES]
    sizes = ("x".join(str(16 * round(s * r / 16)) for s, r in zip(row, ratios, strict=True)) for row in rows)
    return tuple(dict.fromkeys(sizes))  # of small images several come out the same


def size_of(candidate: Candidate) -> tuple[int, int]:
    """Height and width of a candidate's input."""
    height, width = str(candidate["input"]).split("x")
    return int(height), int(width)


def build_for(candidate: Candidate, classes: int) -> nn.Module:
    """The segmenter of a candidate for a number of classes."""

    def depth(channels: int, name: str) -> int:
        return deepened(channels, float(candidate[f"{name}.deep"]))

    rows = [
        stage_of(count, stride, {"kind": candidate[f"{name}.kind"], "channels": depth(channels, name)})
        for name, (channels, count, stride) in zip(_NAMES, STAGES, strict=True)
    ]
    # The last two share a resolution: to a segmenter they are one stage.
    stages = [*rows[:2], [*rows[2], *rows[3]]]
    neck = depth(NECK, "head")
    head = Block(str(candidate["head.kind"]), neck)
    return Segmenter(depth(STEM, "stem"), stages, neck, [head], classes, int(candidate["output"]))


def build(candidate: Candidate) -> nn.Module:
    """The segmenter of a candidate for CamVid's eleven classes."""
    return build_for(candidate, 11)


PRODUCT = Product(
    name="segmentation",
    metric="miou",
    chip="ethos-u85-512",
    space=SPACE,
    baseline=BASELINE,
    build=build,
    size=size_of,
    schedule=Schedule(steps=150, batch=16, learning_rate=0.004, average=0.98),
)


def product_for(classes: int, inputs: Sequence[str]) -> Product:
    """The product for a number of classes and networks that read images at one of some sizes, such as "96x112"."""
    space = SearchSpace(SPACE.name, (Choice("input", tuple(inputs)), *SPACE.choices[1:]))
    baseline = space.candidate(BASELINE.as_dict() | {"input": inputs[-1]})
    return replace(PRODUCT, build=lambda one: build_for(one, classes), space=space, baseline=baseline)


def product_of(facts: Mapping[str, Any], classes: int) -> Product:
    """The product that saved weights are of, by their choice of input and their number of classes.

    Raises:
        ArgumentError: the input is of no size that the networks can read.
    """
    chosen = str(facts["choices"]["input"])
    height, width = (int(side) for side in chosen.split("x"))
    require_size((height, width), 16, 16)
    return product_for(classes, (chosen,))


def data_of(training: Masked, validation: Masked, device: str = "cpu") -> Data:
    """Training and validation images for a search."""
    weights = class_weights(training).to(device)
    learnt, judged = training.to(device), validation.to(device)
    return Data(
        lambda candidate: SegmentationTask(learnt, size_of(candidate), weights),
        lambda candidate, network: mean_iou(counts_by(network, judged, size_of(candidate))),
        lambda candidate: resized(spread(training.images), size_of(candidate)),
        device,
        digest_of(training, validation),
        training.classes,
        (len(training.images), len(validation.images)),
    )


def opened(folder: Path, size: tuple[int, int] | None = None) -> tuple[Product, Data]:
    """A folder with `images/`, `masks/` and `classes.txt`, and the product for its classes.

    A fifth of the images, every fifth by name, is for validation.

    Args:
        folder: of these.
        size: height and width that images and masks are read and judged at; 180 x 240 when None. Networks read them at
            44 to 80 % of it.

    Raises:
        ArgumentError: the size is none that the networks can read.
        DataError: the folder is not as expected, has a single image, or fewer than two classes to train on or none to
            judge by.
    """
    classes = read_classes(folder / "classes.txt")
    size = SIZE if size is None else require_size(size, 128, 16)
    every = read_masked(folder, size, classes)
    held = held_out(np.zeros(len(every.images), int), ("images",), 5)
    training, validation = every.take(np.flatnonzero(~held)), every.take(np.flatnonzero(held))
    for part, purpose, least in ((training, "train on", 2), (validation, "judge by (every fifth by name)", 1)):
        shown = len(set(part.masks.unique().tolist()) - {VOID})
        if shown < least:
            known = f"{shown} of the {len(classes)} classes; {VOID} is void, no class"
            msg = f"{folder}/masks: those to {purpose} show {known}"
            raise DataError(msg)
    return product_for(len(classes), _inputs(size)), data_of(training, validation)


def search_product(
    data: Path | None,
    chip: str | None,
    limits: dict[str, float],
    strategy: str = "evolution",
    trials: int = 24,
    seed: int = 0,
    options: "Options | None" = None,
    size: tuple[int, int] | None = None,
) -> "Study":
    """Searches a segmenter for a user's folder with `images/`, `masks/` and `classes.txt`, one class a line.

    Args:
        data: the folder. A fifth of the images, every fifth by name, is for validation.
        chip: a compiled target; Ethos-U85-512 when None.
        limits: greatest costs, such as {"latency_s": 1e-3}.
        strategy: see `sirdar.search.search`; all but "single-shot".
        trials: candidates to train.
        seed: of the search.
        options: storage, region and progress; the cost and the conditions are the product's.
        size: height and width that images and masks are read and judged at; 180 x 240 when None.

    Raises:
        ArgumentError: no data was given, the size cannot be read, or no candidate keeps to the limits.
        DataError: see `opened`.
    """
    product, judged = opened(folder_of(data), size)
    settings = {"strategy": strategy, "trials": trials, "seed": seed}
    return searched(product, judged, chip, limits, settings, options)
