# SPDX-License-Identifier: Apache-2.0
"""Camera classification within a byte budget: parameters and peak activation memory together, at the same accuracy.

The baseline is a small MobileNetV2 for thumbnails. The space decides, for each of three stages, what its blocks are,
how many, how wide, and by how much they expand. "fused-first" is an inverted bottleneck whose first block, which halves
the resolution, is fused: what it expands never stands in memory at the full resolution, where activations peak (the
fused blocks of EfficientNetV2, Tan and Le 2021, stand at the front for their speed). And weights may be clustered: the
compiler packs weights of few values into four or five bits. `by_rules` applies the rules that winners share, without
any search.
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
    size_in,
    spread,
    stage_of,
)
from sirdar.search.compress import CLUSTERS
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.vision.blocks import Block
from sirdar.vision.classification import ClassificationTask, Classifier, classified_by, top1
from sirdar.vision.images import Labelled, class_folders, read_labelled, signed
from sirdar.vision.training import Schedule

if TYPE_CHECKING:
    from sirdar.search.study import Options, Study

SIZE = (32, 32)
_CAMERA = 64  # pixels of the shorter side from which the first convolution halves the resolution
_CHANNELS = ((16, 24, 32, 48, 64), (32, 40, 48, 64, 80, 96), (64, 80, 96, 112, 128))
_COUNTS = ((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4))
_STRIDES = (2, 2, 1)
_NAMES = ("stage1", "stage2", "stage3")
_TRAIN, _HELD_OUT = ("train", "training"), ("val", "valid", "validation")  # folders of a user's own split
_EXPANDING = ("fused", "ibn", "fused-first")


def _stage(name: str, channels: tuple[int, ...], counts: tuple[int, ...]) -> tuple[Choice, ...]:
    return (
        Choice(f"{name}.kind", ("standard", *_EXPANDING)),
        Choice(f"{name}.expansion", (1, 2, 4, 6), f"{name}.kind", _EXPANDING),
        Choice(f"{name}.channels", channels),
        Choice(f"{name}.blocks", counts),
    )


SPACE = SearchSpace(
    "classification",
    (
        Choice("stem.channels", (16, 24)),
        *(choice for row in zip(_NAMES, _CHANNELS, _COUNTS, strict=True) for choice in _stage(*row)),
        Choice("top.channels", (0, 128, 256)),
        Choice(CLUSTERS, (0, 15, 23, 31)),
    ),
)
BASELINE = SPACE.candidate(
    {"stem.channels": 16, "top.channels": 256, CLUSTERS: 0}
    | {f"{name}.kind": "ibn" for name in _NAMES}
    | {f"{name}.expansion": 6 for name in _NAMES}
    | {"stage1.channels": 24, "stage2.channels": 48, "stage3.channels": 96}
    | {"stage1.blocks": 2, "stage2.blocks": 3, "stage3.blocks": 3}
)


def by_rules(candidate: Candidate, parallelism: int = 16) -> Candidate:
    """The expert's rules applied to a network without any search.

    No depthwise convolution: every bottleneck becomes a plain convolution, at most two of them in a stage. What stands
    before the last stage doubles its channels when it becomes plain, since weights are few where the resolution is
    fine. Channels rise to an even multiple of the chip's parallelism where the space has one. Weights of 15 values.

    Args:
        candidate: of the classification space.
        parallelism: channels that the chip computes at once.
    """
    values = candidate.as_dict()
    for name, channels in zip(_NAMES, _CHANNELS, strict=True):
        doubled = name != _NAMES[-1] and values[f"{name}.kind"] != "standard"
        wanted = int(values[f"{name}.channels"]) * (2 if doubled else 1)
        even = [option for option in channels if option % (2 * parallelism) == 0]
        values[f"{name}.kind"] = "standard"
        values[f"{name}.channels"] = min((option for option in even if option >= wanted), default=max(channels))
        values[f"{name}.blocks"] = min(int(values[f"{name}.blocks"]), 2)
    values[CLUSTERS] = 15
    return SPACE.candidate({name: value for name, value in values.items() if not name.endswith(".expansion")})


def build(candidate: Candidate) -> nn.Module:
    """The classifier of a candidate for CIFAR-10's ten classes."""
    return build_for(candidate, 10)


def build_for(candidate: Candidate, classes: int, size: tuple[int, int] = SIZE) -> nn.Module:
    """The classifier of a candidate for a number of classes and images of a size."""
    stages = [_stage_for(candidate, name, stride) for name, stride in zip(_NAMES, _STRIDES, strict=True)]
    return Classifier(
        int(candidate["stem.channels"]),
        stages,
        int(candidate["top.channels"]),
        classes,
        2 if min(size) >= _CAMERA else 1,
    )


def _stage_for(candidate: Candidate, name: str, stride: int) -> list[Block]:
    kind = str(candidate[f"{name}.kind"])
    row = {
        "kind": "ibn" if kind == "fused-first" else kind,
        "channels": candidate[f"{name}.channels"],
        "expansion": candidate.get(f"{name}.expansion", 1),
    }
    first, *others = stage_of(int(candidate[f"{name}.blocks"]), stride, row)
    return [replace(first, kind="fused") if kind == "fused-first" else first, *others]


PRODUCT = Product(
    name="classification",
    metric="top1",
    chip="ethos-u55-256",
    space=SPACE,
    baseline=BASELINE,
    build=build,
    size=lambda _candidate: SIZE,
    schedule=Schedule(steps=600, batch=32, learning_rate=0.05, optimiser="sgd", weight_decay=5e-4, average=0.992),
)


def product_for(classes: int, size: tuple[int, int] = SIZE) -> Product:
    """The product for a number of classes and images of a size."""
    return replace(PRODUCT, build=lambda one: build_for(one, classes, size), size=lambda _candidate: size)


def product_of(facts: Mapping[str, Any], classes: int) -> Product:
    """The product that saved weights are of, by their facts and their number of classes.

    Raises:
        ArgumentError: the size of images among the facts cannot be read.
    """
    return product_for(classes, require_size(size_in(facts, SIZE), 16, 8))


def data_of(training: Labelled, validation: Labelled, device: str = "cpu") -> Data:
    """Training and validation images for a search."""
    task, judged = ClassificationTask(training.to(device)), validation.to(device)
    labels = validation.labels.cpu().numpy()
    return Data(
        lambda _candidate: task,
        lambda _candidate, network: top1(classified_by(network, judged), labels),
        lambda _candidate: signed(spread(training.images)),
        device,
        digest_of(training, validation),
        training.classes,
        (len(training.images), len(validation.images)),
    )


def opened(folder: Path, size: tuple[int, int] | None = None) -> tuple[Product, Data]:
    """A folder with one sub-folder of images per class, and the product for its classes.

    A tenth of each class's images, every tenth by name, is for validation; or the folder holds `train/` and `val/`
    with the same classes.

    Args:
        folder: of the classes, or of both.
        size: height and width that images are read at; 32 x 32 when None. From 64 on the network's first convolution
            halves them.

    Raises:
        ArgumentError: the size is none that the networks can read.
        DataError: the folder is not as expected, or a class has a single image.
    """
    size = require_size(size or SIZE, 16, 8)
    training, validation = _parted(folder, size)
    return product_for(len(training.classes), size), data_of(training, validation)


def _parted(folder: Path, size: tuple[int, int]) -> tuple[Labelled, Labelled]:
    """Images to train on and to judge by."""
    train = next((path for path in _folders_in(folder, _TRAIN) if class_folders(path)), None)
    judged = next(iter(_folders_in(folder, _HELD_OUT)), None)
    if train is None:
        every = read_labelled(folder, size)
        held = held_out(every.labels.numpy(), every.classes, 10)
        return every.take(np.flatnonzero(~held)), every.take(np.flatnonzero(held))
    if judged is None:
        msg = f"{folder}: has {train.name}/ and no val/; give {train}, of which a tenth is held out, or add val/"
        raise DataError(msg)
    training, validation = read_labelled(train, size), read_labelled(judged, size)
    if training.classes != validation.classes:
        odd = sorted(set(training.classes) ^ set(validation.classes))[0]
        both = f"{train.name}/ and {judged.name}/"
        msg = f"{folder}: {both} must have the same classes, and one of them lacks {odd!r}"
        raise DataError(msg)
    return training, validation


def _folders_in(folder: Path, names: Sequence[str]) -> list[Path]:
    """Folders of one of some names, in capitals or not."""
    return [folder / name for name in class_folders(folder) if name.lower() in names]


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
    """Searches a classifier for a user's folder with one sub-folder of images per class.

    Args:
        data: the folder; see `opened`.
        chip: a compiled target; Ethos-U55-256 when None.
        limits: greatest costs, such as {"memory_bytes": 400e3}.
        strategy: see `sirdar.search.search`; all but "single-shot".
        trials: candidates to train.
        seed: of the search.
        options: storage, region and progress; the cost and the conditions are the product's.
        size: height and width that images are read at; 32 x 32 when None.

    Raises:
        ArgumentError: no data was given, the size cannot be read, or no candidate keeps to the limits.
        DataError: the folder is not as expected, or a class has a single image.
    """
    product, judged = opened(folder_of(data), size)
    settings = {"strategy": strategy, "trials": trials, "seed": seed}
    return searched(product, judged, chip, limits, settings, options)
