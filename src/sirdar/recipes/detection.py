# SPDX-License-Identifier: Apache-2.0
"""Person detection fitted to an NPU: depth multipliers (V1), fused bottlenecks (V2), or both (V3), against plain IBN.

The baseline has inverted bottlenecks throughout. The space decides, for each of five stages, how deep its feature maps
are ("deep") and whether its blocks are fused ("kind").
"""

from collections.abc import Mapping
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
    size_in,
    spread,
    stage_of,
)
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.vision.blocks import Block, deepened
from sirdar.vision.detection import DetectionTask, Detector, found_by
from sirdar.vision.images import Boxed, read_boxed, signed
from sirdar.vision.precision import mean_of_thresholds
from sirdar.vision.training import Schedule

if TYPE_CHECKING:
    from sirdar.search.study import Options, Study

SIZE = (160, 192)
STEM, NECK = 32, 96
STAGES = ((24, 2, 2), (40, 3, 2), (80, 3, 2), (112, 2, 1), (160, 2, 2))  # channels, blocks, stride
_DEEP = (0.375, 0.5, 0.75, 1.0)
_NAMES = tuple(f"stage{place + 1}" for place in range(len(STAGES)))

SPACE = SearchSpace(
    "detection",
    (
        Choice("stem.deep", _DEEP[1:]),
        *(
            choice
            for name in _NAMES
            for choice in (Choice(f"{name}.deep", _DEEP), Choice(f"{name}.kind", ("fused", "ibn")))
        ),
        Choice("head.deep", _DEEP),
        Choice("head.kind", ("fused", "ibn")),
    ),
)
_KINDS = [choice.name for choice in SPACE.choices if choice.name.endswith(".kind")]
_DEPTHS = [choice.name for choice in SPACE.choices if choice.name.endswith(".deep")]
BASELINE = SPACE.candidate(dict.fromkeys(_KINDS, "ibn") | dict.fromkeys(_DEPTHS, 1.0))
FUSED = SPACE.candidate(dict.fromkeys(_KINDS, "fused") | dict.fromkeys(_DEPTHS, 1.0))
SPACES = {
    "V1": SPACE.restrict(dict.fromkeys(_KINDS, ("ibn",)), "detection-V1"),
    "V2": SPACE.restrict(dict.fromkeys(_DEPTHS, (1.0,)), "detection-V2"),
    "V3": SPACE,
}


def build(candidate: Candidate) -> nn.Module:
    """The detector of a candidate."""

    def depth(channels: int, name: str) -> int:
        return deepened(channels, float(candidate[f"{name}.deep"]))

    stages = [
        stage_of(count, stride, {"kind": candidate[f"{name}.kind"], "channels": depth(channels, name)})
        for name, (channels, count, stride) in zip(_NAMES, STAGES, strict=True)
    ]
    neck = depth(NECK, "head")
    head = Block(str(candidate["head.kind"]), neck)
    return Detector(depth(STEM, "stem"), stages, neck, [head])


PRODUCT = Product(
    name="detection",
    metric="map",
    chip="ethos-u85-512",
    space=SPACE,
    baseline=BASELINE,
    build=build,
    size=lambda _candidate: SIZE,
    schedule=Schedule(steps=150, batch=16, learning_rate=0.003, average=0.98),
)


def product_for(size: tuple[int, int]) -> Product:
    """The product for images of a size."""
    return replace(PRODUCT, size=lambda _candidate: size)


def product_of(facts: Mapping[str, Any], _classes: int) -> Product:
    """The product that saved weights are of, by their facts.

    Raises:
        ArgumentError: the size of images among the facts cannot be read.
    """
    return product_for(require_size(size_in(facts, SIZE), 64, 32))


def true_boxes(data: Boxed) -> list[np.ndarray]:
    """The true boxes [object, 4] of every image."""
    rows = data.boxes.cpu().numpy().astype(np.float64)
    return [row[~np.isnan(row[:, 0])] for row in rows]


def data_of(training: Boxed, validation: Boxed, device: str = "cpu", *, nearest: bool = False) -> Data:
    """Training and validation images for a search; for `nearest` see `sirdar.vision.detection.assign`."""
    task = DetectionTask(training.to(device), nearest=nearest)
    truth, judged = true_boxes(validation), validation.to(device)

    def score(_candidate: Candidate, network: nn.Module) -> float:
        found = found_by(network, judged)
        return mean_of_thresholds([f.boxes for f in found], [f.scores for f in found], truth)

    return Data(
        lambda _candidate: task,
        score,
        lambda _candidate: signed(spread(training.images)),
        device,
        digest_of(training, validation),
        counts=(len(training.images), len(validation.images)),
    )


def opened(folder: Path, size: tuple[int, int] | None = None, kind: str | None = None) -> tuple[Product, Data]:
    """A folder of images and boxes; a fifth of the images, every fifth by name, is for validation.

    Args:
        folder: see `sirdar.vision.boxes`.
        size: height and width that images are read at; 160 x 192 when None.
        kind: of the objects to find; None where the boxes are around a single one.

    Raises:
        ArgumentError: the size is none that the networks can read.
        DataError: the folder is not as expected, has a single image, or no box to train on or to judge by.
    """
    size = require_size(size or SIZE, 64, 32)
    every = read_boxed(folder, size, kind)
    held = held_out(np.zeros(len(every.images), int), ("images",), 5)
    training, validation = every.take(np.flatnonzero(~held)), every.take(np.flatnonzero(held))
    for part, purpose in ((training, "train on"), (validation, "judge by (every fifth by name)")):
        if part.boxes.isnan().all():
            msg = f"{folder}: no image to {purpose} has a box"
            raise DataError(msg)
    return product_for(size), data_of(training, validation, nearest=True)


def search_product(  # noqa: PLR0913 - one argument per option
    data: Path | None,
    chip: str | None,
    limits: dict[str, float],
    strategy: str = "evolution",
    trials: int = 24,
    seed: int = 0,
    options: "Options | None" = None,
    size: tuple[int, int] | None = None,
    kind: str | None = None,
) -> "Study":
    """Searches a detector for a user's folder of images with boxes.

    Args:
        data: the folder; see `sirdar.vision.boxes`. A fifth of the images, every fifth by name, is for validation.
        chip: a compiled target; Ethos-U85-512 when None.
        limits: greatest costs, such as {"latency_s": 1e-3}.
        strategy: see `sirdar.search.search`; all but "single-shot".
        trials: candidates to train.
        seed: of the search.
        options: storage, region and progress; the cost and the conditions are the product's.
        size: height and width that images are read at; 160 x 192 when None.
        kind: of the objects to find; None where the boxes are around a single one.

    Raises:
        ArgumentError: no data was given, the size cannot be read, or no candidate keeps to the limits.
        DataError: see `opened`.
    """
    product, judged = opened(folder_of(data), size, kind)
    settings = {"strategy": strategy, "trials": trials, "seed": seed}
    return searched(product, judged, chip, limits, settings, options)
