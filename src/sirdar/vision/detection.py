# SPDX-License-Identifier: Apache-2.0
"""Finding the objects of one class, such as people: a single-shot network without anchors, its training and decoding.

The network ends in one score and four distances per cell of a coarse grid; decoding and non-maximum suppression run
outside it, so that all of it is convolutions an int8 chip runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError
from sirdar.vision.augmentation import Warp, coloured, draw_warp, uniform, warped, warped_boxes
from sirdar.vision.blocks import Backbone, Block, BlockLayers, calm_start, convolution
from sirdar.vision.images import Boxed, signed

STRIDE = 16
_POSITIVES = 9  # cells per object that learn it
_PASTED = 0.5  # share of training images that get people of another one pasted in
_HIDDEN = 0.7  # an object hidden by more than this share is not asked for


class Raw(NamedTuple):
    """What the network puts out.

    Args:
        scores: [batch, 1, row, column], before the sigmoid.
        distances: [batch, 4, row, column] from the cell's middle to left, top, right and bottom in strides, before
            the softplus.
    """

    scores: Tensor
    distances: Tensor


@final
class Detector(nn.Module):
    """A backbone, a neck that joins its two coarsest resolutions, and a head.

    Args:
        stem: channels of the first convolution.
        stages: of the backbone; one must end at stride 16 and one at 32.
        neck: channels where the two resolutions are added.
        head: blocks on the joined features, all of stride 1.

    Raises:
        ArgumentError: the stages do not reach the strides 16 and 32.
    """

    def __init__(self, stem: int, stages: Sequence[Sequence[Block]], neck: int, head: Sequence[Block]) -> None:
        super().__init__()
        self.backbone = Backbone(stem, stages)
        if not {STRIDE, 2 * STRIDE} <= set(self.backbone.channels):
            msg = (
                f"a detector needs stages at the strides {STRIDE} and {2 * STRIDE}, got {list(self.backbone.channels)}"
            )
            raise ArgumentError(msg)
        self.fine = convolution((self.backbone.channels[STRIDE], neck), 1)
        self.coarse = convolution((self.backbone.channels[2 * STRIDE], neck), 1)
        self.head = nn.ModuleList()
        before = neck
        for block in head:
            self.head.append(BlockLayers(block, before))
            before = block.channels
        self.scores = nn.Conv2d(before, 1, 1)
        self.distances = nn.Conv2d(before, 4, 1)
        calm_start(self)
        # A score of 1 % at the start (Lin et al. 2017, section 4.1), and boxes of about eight strides.
        nn.init.constant_(self.scores.bias, -4.6)  # pyright: ignore[reportArgumentType]
        nn.init.constant_(self.distances.bias, 4.0)  # pyright: ignore[reportArgumentType]
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.distances.weight, std=0.01)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Raw:
        """Images in -1..1 to scores and distances on the grid of stride 16."""
        features = self.backbone(images)
        x = self.fine(features[STRIDE])
        x = x + functional.interpolate(self.coarse(features[2 * STRIDE]), scale_factor=2.0, mode="nearest")
        for block in self.head:
            x = block(x)
        return Raw(self.scores(x), self.distances(x))


def cells(rows: int, columns: int, device: torch.device) -> Float[Tensor, "cell 2"]:
    """The middles of all cells, across and down, in pixels."""
    down, across = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    return (torch.stack([across, down], dim=-1).reshape(-1, 2) + 0.5) * STRIDE


def boxes_of(raw: Raw) -> Float[Tensor, "batch cell 4"]:
    """Every cell's box: left, top, right, bottom in pixels."""
    rows, columns = raw.distances.shape[2:]
    middle = cells(rows, columns, raw.distances.device)
    reach = functional.softplus(raw.distances.float()).flatten(2).transpose(1, 2) * STRIDE
    return torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)


def overlaps(a: Float[Tensor, "*lead 4"], b: Float[Tensor, "*lead 4"]) -> tuple[Tensor, Tensor]:
    """Intersection over union, and its generalised form with the hull (Rezatofighi et al. 2019, algorithm 1)."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return shared / union.clamp(min=1e-6), shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


class Assigned(NamedTuple):
    """Which object every cell learns.

    Args:
        boxes: [batch, cell, 4], its box.
        quality: [batch, cell], the score to reach: zero where the cell learns none.
    """

    boxes: Tensor
    quality: Tensor


def assign(
    found: Float[Tensor, "batch cell 4"],
    scores: Float[Tensor, "batch cell"],
    wanted: Float[Tensor, "batch box 4"],
    middles: Float[Tensor, "cell 2"],
    *,
    nearest: bool = False,
) -> Assigned:
    """Cells inside an object that find it best learn it (task-aligned assignment, Feng et al. 2021, section 3.2).

    Args:
        found: the boxes that the cells put out now.
        scores: and their scores, 0 to 1.
        wanted: the objects; NaN where there is none.
        middles: of the cells, in pixels.
        nearest: whether an object that holds no cell's middle, as small ones do, is learnt by the nearest cell,
            whichever object that is inside of; otherwise by none.
    """
    there = ~wanted.isnan().any(-1)
    target = torch.nan_to_num(wanted)
    inside: Bool[Tensor, "batch box cell"] = (
        (middles[None, None] > target[:, :, None, :2]) & (middles[None, None] < target[:, :, None, 2:])
    ).all(-1) & there[:, :, None]
    lone = (there & ~inside.any(-1))[:, :, None] & _nearest(target, middles) if nearest else None
    inside = inside if lone is None else inside | lone
    shape = (*inside.shape, 4)
    overlap = overlaps(found[:, None].expand(shape), target[:, :, None].expand(shape))[0] * inside
    # The published measure is score^a x overlap^6, here with a = 1/2; a floor keeps an order before anything overlaps.
    fit = (scores[:, None].sqrt() * overlap.pow(6) + 1e-9 * (1 + overlap)) * inside
    count = min(_POSITIVES, fit.shape[-1])
    least = fit.topk(count, dim=-1).values[..., -1:]
    chosen = inside & (fit >= least.clamp(min=1e-12))
    claim = overlap + 1e-6 if lone is None else overlap + 1e-6 + 2.0 * lone
    owner_fit, owner = claim.masked_fill(~chosen, 0).max(dim=1)
    taken = owner_fit > 0
    best_fit = fit.masked_fill(~chosen, 0).amax(-1, keepdim=True).clamp(min=1e-12)
    best_overlap = overlap.masked_fill(~chosen, 0).amax(-1, keepdim=True)
    quality = (fit / best_fit * best_overlap).gather(1, owner[:, None])[:, 0] * taken
    return Assigned(target.gather(1, owner[..., None].expand(*owner.shape, 4)), (quality + 1e-6 * taken).clamp(max=1))


def _nearest(boxes: Float[Tensor, "batch box 4"], middles: Float[Tensor, "cell 2"]) -> Bool[Tensor, "batch box cell"]:
    """Which cell's middle is the nearest to that of a box."""
    gaps = torch.cdist((boxes[..., :2] + boxes[..., 2:]) / 2, middles[None])
    return torch.arange(len(middles), device=middles.device) == gaps.argmin(-1, keepdim=True)


def detection_loss(raw: Raw, wanted: Float[Tensor, "batch box 4"], *, nearest: bool = False) -> Tensor:
    """Quality focal loss for the scores and generalised overlap for the boxes (Li et al. 2020, equation 6; GIoU).

    Args:
        raw: the network's output.
        wanted: boxes in pixels, NaN where there is none.
        nearest: see `assign`.
    """
    found, logits = boxes_of(raw), raw.scores.float().flatten(1)
    rows, columns = raw.scores.shape[2:]
    with torch.no_grad():
        goal = assign(found, logits.sigmoid(), wanted, cells(rows, columns, logits.device), nearest=nearest)
    gap = (goal.quality - logits.sigmoid()).abs()
    entropy = functional.binary_cross_entropy_with_logits(logits, goal.quality, reduction="none")
    total = goal.quality.sum().clamp(min=1)
    miss = (1 - overlaps(found, goal.boxes)[1]) * goal.quality
    return ((gap.square() * entropy).sum() + 2 * miss.sum()) / total


@dataclass(frozen=True)
class DetectionTask:
    """Batches of moved, mirrored, recoloured images with people of others pasted in (Ghiasi et al. 2021), and the loss.

    Args:
        data: training images, on the device of the network.
        warp: how far they are moved.
        nearest: see `assign`.
    """

    data: Boxed
    warp: Warp = field(default_factory=Warp)
    nearest: bool = False

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Images [batch, 3, height, width] in -1..1 and boxes [batch, box, 4] in pixels."""
        images, boxes, _ = self._moved(generator, size, masked=False)
        if self.data.masks is not None:
            images, boxes = self._pasted(images, boxes, generator)
        lost = boxes[..., 0].isnan()
        order = lost.to(torch.int8).argsort(dim=1, stable=True)[:, : max(1, int((~lost).sum(1).max()))]
        return coloured(images, generator), boxes.gather(1, order[..., None].expand(*order.shape, 4))

    def _pasted(self, images: Tensor, boxes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.nonzero(uniform(generator, (len(images),)) < _PASTED)[:, 0]
        if not len(chosen):
            return images, boxes
        others, more, masks = self._moved(generator, len(chosen), masked=True)
        images[chosen] = torch.where(masks > 0.5, others, images[chosen])
        above = boxes.new_full((len(images), *more.shape[1:]), torch.nan)
        above[chosen] = more
        return images, torch.cat([_uncovered(boxes, above), above], dim=1)

    def _moved(self, generator: torch.Generator, size: int, *, masked: bool) -> tuple[Tensor, Tensor, Tensor]:
        data = self.data
        chosen = torch.randint(len(data.images), (size,), generator=generator, device=generator.device)
        drawn = draw_warp(generator, size, self.warp)
        images = warped(signed(data.images[chosen]), drawn)
        shape = (int(images.shape[2]), int(images.shape[3]))
        masks = images[:, :1]
        if masked and data.masks is not None:
            masks = warped(data.masks[chosen].float(), drawn, nearest=True)
        return images, warped_boxes(data.boxes[chosen], drawn, shape), masks

    def loss(self, outputs: Raw, targets: Tensor) -> Tensor:
        """See `detection_loss`."""
        return detection_loss(outputs, targets, nearest=self.nearest)


def _uncovered(below: Tensor, above: Tensor) -> Tensor:
    """The boxes below, NaN where one above hides most of it."""
    a, b = torch.nan_to_num(below)[:, :, None], torch.nan_to_num(above)[:, None]
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hidden = (shared / (a[..., 2:] - a[..., :2]).prod(-1).clamp(min=1)).amax(-1) > _HIDDEN
    return below.masked_fill(hidden[..., None], torch.nan)


@dataclass(frozen=True)
class Found:
    """What a detector found in one image.

    Args:
        boxes: [object, 4] as left, top, right, bottom in pixels, best first.
        scores: [object], 0 to 1, falling.
    """

    boxes: np.ndarray
    scores: np.ndarray


def decode(
    scores: Float[Tensor, "batch 1 row column"],
    distances: Float[Tensor, "batch 4 row column"],
    size: tuple[int, int],
    *,
    most: int = 100,
    overlap: float = 0.6,
    least: float = 0.01,
) -> list[Found]:
    """Boxes from the network's output, one list per image.

    Args:
        scores: before the sigmoid.
        distances: before the softplus.
        size: height and width of the images, at which boxes are cut.
        most: objects per image.
        overlap: of two boxes that overlap by more, the one with the lower score goes (non-maximum suppression).
        least: the lowest score that is kept.
    """
    raw = Raw(scores, distances)
    boxes = boxes_of(raw).cpu().numpy().astype(np.float64)
    height, width = size
    boxes = np.clip(boxes, 0, np.array([width, height, width, height]))
    rated = scores.float().sigmoid().flatten(1).cpu().numpy().astype(np.float64)
    return [_suppressed(b, s, (most, overlap, least)) for b, s in zip(boxes, rated, strict=True)]


def _suppressed(boxes: np.ndarray, scores: np.ndarray, limits: tuple[int, float, float]) -> Found:
    most, overlap, least = limits
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        first, rest = int(order[0]), order[1:]
        kept.append(first)
        low, high = np.maximum(boxes[first, :2], boxes[rest, :2]), np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(-1)
        area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)
        order = rest[shared <= overlap * np.maximum(area[first] + area[rest] - shared, 1e-9)]
    return Found(boxes[kept], scores[kept])


def found_by(network: nn.Module, data: Boxed, batch: int = 32) -> list[Found]:
    """What a network in evaluation mode finds in every image."""
    size = (int(data.images.shape[2]), int(data.images.shape[3]))
    found: list[Found] = []
    with torch.inference_mode():
        for begin in range(0, len(data.images), batch):
            raw = network(signed(data.images[begin : begin + batch]))
            found += decode(raw.scores.float(), raw.distances.float(), size)
    return found


def mean_average_precision(
    found: Sequence[Found], boxes: Sequence[np.ndarray], size: tuple[int, int]
) -> dict[str, float]:
    """COCO's scores by its reference tool (in C++, `faster-coco-eval`).

    Args:
        found: one per image.
        boxes: the true [object, 4] per image.
        size: height and width of the images.

    Returns:
        "map" (overlap 0.50 to 0.95), "map50" and "map75", each 0 to 1; 0 where there is nothing to find.

    Raises:
        ArgumentError: the lists differ in length, or the tool is not installed.
    """
    if len(found) != len(boxes):
        msg = f"found and boxes must have one entry per image, got {len(found)} and {len(boxes)}"
        raise ArgumentError(msg)
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        msg = 'COCO scores need faster-coco-eval: pip install "sirdar[vision]"'
        raise ArgumentError(msg) from error
    truth = COCO(_coco_truth(boxes, size))
    rows = [
        {"image_id": place + 1, "category_id": 1, "bbox": _corner_and_size(box), "score": float(score)}
        for place, one in enumerate(found)
        for box, score in zip(one.boxes, one.scores, strict=True)
    ]
    if not rows or not any(len(one) for one in boxes):  # the tool gives -1 then
        return {"map": 0.0, "map50": 0.0, "map75": 0.0}
    judge = COCOeval_faster(truth, truth.loadRes(rows), "bbox", print_function=lambda *_: None)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return {name: float(judge.stats[place]) for place, name in enumerate(("map", "map50", "map75"))}


def _corner_and_size(box: np.ndarray) -> list[float]:
    left, top, right, bottom = (float(value) for value in box)
    return [left, top, right - left, bottom - top]


def _coco_truth(boxes: Sequence[np.ndarray], size: tuple[int, int]) -> dict[str, object]:
    images = [{"id": place + 1, "height": size[0], "width": size[1]} for place in range(len(boxes))]
    rows = [(place + 1, _corner_and_size(box)) for place, one in enumerate(boxes) for box in one]
    annotations = [
        {"id": n + 1, "image_id": place, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for n, (place, box) in enumerate(rows)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
