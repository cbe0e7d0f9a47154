# SPDX-License-Identifier: Apache-2.0
"""What the three camera products have in common: a space, a network for each candidate, its price and its training."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor, nn

from sirdar.errors import ArgumentError, DataError
from sirdar.search.compress import CLUSTERS, clustering
from sirdar.search.space import Candidate, SearchSpace, Value
from sirdar.search.task import Stopped
from sirdar.units import Cost
from sirdar.vision.blocks import Block
from sirdar.vision.graph import graph_of
from sirdar.vision.training import Schedule, Task, seeded, train
from sirdar.workload.graph import Graph

if TYPE_CHECKING:
    from sirdar.search.study import Options, Study

Report = Callable[[int, float], None]
CLUSTERED_FROM = 0.7  # of a training: weights that are free at first end with a better network


@dataclass(frozen=True)
class Product:
    """A camera product to fit to a chip.

    Args:
        name: "detection", "classification" or "segmentation".
        metric: what is measured: "map", "top1" or "miou", each 0 to 1 and better when higher.
        chip: a compiled target, as `sirdar.deploy.compiled` names it.
        space: of candidates.
        baseline: the network that the search must beat.
        build: the network of a candidate, with random weights.
        size: height and width of its input.
        schedule: of a candidate's training in the search.
    """

    name: str
    metric: str
    chip: str
    space: SearchSpace
    baseline: Candidate
    build: Callable[[Candidate], nn.Module]
    size: Callable[[Candidate], tuple[int, int]]
    schedule: Schedule

    def network(self, candidate: Candidate, seed: int = 0) -> nn.Module:
        """A fresh network of a candidate."""
        with seeded(seed):
            return self.build(candidate)

    def graph(self, candidate: Candidate) -> Graph:
        """The operators of a candidate, untrained, for one image."""
        return graph_of(lambda: self.build(candidate), (1, 3, *self.size(candidate)), self.name)

    def example(self, candidate: Candidate, batch: int = 1, seed: int = 0) -> Tensor:
        """Random images [batch, 3, height, width] in -1..1 of the candidate's size."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand((batch, 3, *self.size(candidate)), generator=generator) * 2 - 1


@dataclass(frozen=True)
class Data:
    """What a product trains on and is judged by during a search, on one device.

    Args:
        task: batches of a candidate.
        score: the metric of a network in evaluation mode on validation data.
        calibration: training images as a candidate reads them, on the CPU; they decide the scales of an int8 file.
        device: where both run, "cpu" or "cuda".
        digest: of the images and of what is known of them, by `digest_of`; a stored search of others is refused.
        classes: what the outputs stand for, in their order; none where there is one kind of thing.
        counts: images to train on and images held out to judge by.
    """

    task: Callable[[Candidate], Task]
    score: Callable[[Candidate, nn.Module], float]
    calibration: Callable[[Candidate], Tensor]
    device: str = "cpu"
    digest: str = ""
    classes: tuple[str, ...] = ()
    counts: tuple[int, int] = (0, 0)


@final
class ProductTask:
    """A product as a search sees it: the `Task` and `Scorable` of `sirdar.search`.

    It is not `Shared`: a supernet trains all candidates on the same batch, and segmenters differ in their input's size.

    Args:
        product: what is searched.
        data: training and validation data.
        schedule: in place of the product's.
    """

    higher_is_better = True

    def __init__(self, product: Product, data: Data, schedule: Schedule | None = None) -> None:
        self.product, self.data, self.schedule = product, data, schedule or product.schedule
        self.metric = product.metric

    def graph(self, candidate: Candidate) -> Graph:
        """The operators of a candidate's network, untrained."""
        return self.product.graph(candidate)

    def network(self, candidate: Candidate) -> nn.Module:
        """A candidate's network with random weights."""
        return self.product.network(candidate)

    def example(self, candidate: Candidate, batch: int, seed: int) -> Tensor:
        """Random images of the candidate's size."""
        return self.product.example(candidate, batch, seed)

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        """Trains a candidate and judges it on validation data; reports the score at a third and two thirds."""

        def watch(step: int, network: nn.Module) -> bool:
            report(step, self.data.score(candidate, network))
            return False

        begin, accelerated = time.monotonic(), self.data.device.startswith("cuda")
        try:
            network, seconds = self.trained(candidate, seed, watch)
        except Stopped as stopped:
            stopped.gpu_s = (time.monotonic() - begin) * accelerated
            raise
        measures = {self.metric: self.data.score(candidate, network), "train_s": seconds}
        return measures | ({"gpu_s": seconds} if accelerated else {})

    def trained(
        self,
        candidate: Candidate,
        seed: int,
        watch: Callable[[int, nn.Module], bool] | None = None,
        checkpoint: Path | None = None,
    ) -> tuple[nn.Module, float]:
        """A candidate's trained network in evaluation mode, its weights clustered if it says so, and the seconds taken.

        Args:
            candidate: to train.
            seed: of weights and batches.
            watch: see `sirdar.vision.training.train`; asked at a third and two thirds.
            checkpoint: a file from which a killed training goes on, written as often as `watch` is asked, or twenty
                times without it.
        """
        import time

        begin = time.monotonic()
        network = self.product.network(candidate, seed).to(self.data.device)
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        schedule = replace(self.schedule, seed=seed)
        every = max(1, -(-schedule.steps // (3 if watch else 20)))
        task, clusters = self.data.task(candidate), int(candidate.get(CLUSTERS, 0))
        with clustering(network, clusters, CLUSTERED_FROM) as told:
            train(network, task, schedule, checkpoint=checkpoint, watch=watch, watch_every=every, before=told)
        return network, time.monotonic() - begin


def stage_of(count: int, stride: int, row: Mapping[str, Any]) -> list[Block]:
    """A stage of equal blocks, the first of which halves the resolution where `stride` is 2.

    Args:
        count: blocks.
        stride: of the first.
        row: the other arguments of `Block`.
    """
    return [Block(**{**row, "stride": stride if place == 0 else 1}) for place in range(count)]


def spread(images: Tensor, most: int = 100) -> Tensor:
    """At most so many of the images, from the first to the last."""
    return images[torch.linspace(0, len(images) - 1, min(most, len(images))).long()]


def integer(value: Value) -> int:
    """An option that is a whole number."""
    return int(value)


def compiled_cost(product: Product) -> Callable[[Candidate], Cost]:
    """What a candidate costs on the product's chip by Arm's compiler, with made-up weights."""
    from sirdar.recipes.vision_price import estimated

    return lambda candidate: estimated(product.graph(candidate), product.chip, int(candidate.get(CLUSTERS, 0)) or None)


def held_out(labels: np.ndarray, folders: Sequence[str], every: int) -> np.ndarray:
    """Which images are for validation, [image]: of each folder the first by name and every so many after it.

    Args:
        labels: the number of each image's folder, [image].
        folders: their names.
        every: one of so many is for validation.

    Raises:
        DataError: a folder has a single image, so that none is left to train on.
    """
    held = np.zeros(len(labels), bool)
    for label, name in enumerate(folders):
        places = np.flatnonzero(labels == label)
        if len(places) < 2:
            msg = f"folder {name!r} has one image; at least two are needed, one to train on and one to judge by"
            raise DataError(msg)
        held[places[::every]] = True
    return held


def require_size(size: tuple[int, int], least: int, multiple: int) -> tuple[int, int]:
    """Height and width as given, if a network can read them.

    Args:
        size: height and width in pixels.
        least: of each.
        multiple: what each must be divided by.

    Raises:
        ArgumentError: it cannot.
    """
    if any(side < least or side % multiple for side in size):
        msg = f"height and width must be multiples of {multiple} from {least} on, got {size[0]} x {size[1]}"
        raise ArgumentError(msg)
    return size


def size_in(facts: Mapping[str, Any], usual: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the images that saved weights are for; the usual ones where the facts tell none."""
    return int(facts.get("height", usual[0])), int(facts.get("width", usual[1]))


def folder_of(data: Path | None) -> Path:
    """The folder of images, or an `ArgumentError` that asks for one."""
    if data is None:
        msg = "a camera product needs a folder of images: give data"
        raise ArgumentError(msg)
    return data


def digest_of(*parts: object) -> str:
    """Sixteen hexadecimal digits of the fields of `sirdar.vision.images` records, the same for the same data."""
    digest = hashlib.sha256()
    for part in parts:
        for value in vars(part).values():
            digest.update(value.cpu().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()[:16]


def searched(
    product: Product,
    data: Data,
    chip: str | None,
    limits: Mapping[str, float],
    settings: Mapping[str, Any],
    options: "Options | None" = None,
) -> "Study":
    """A search of a product with compiled costs.

    Args:
        product: to search.
        data: to train and judge on.
        chip: in place of the product's.
        limits: greatest costs by name.
        settings: strategy, trials and seed.
        options: storage, region and progress; the cost and the conditions are the product's.
    """
    from sirdar.search.study import Options, search

    aimed = product if chip is None else replace(product, chip=chip)
    conditions = {"chip": aimed.chip, "data": data.digest, "steps": str(aimed.schedule.steps)}
    study = search(
        aimed.space,
        ProductTask(aimed, data),
        limits=limits or None,
        **settings,
        options=replace(options or Options(), cost=compiled_cost(aimed), conditions=conditions),
    )
    return replace(study, chip=aimed.chip)
