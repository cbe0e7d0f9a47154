# SPDX-License-Identifier: Apache-2.0
"""Giving every pixel a class: the network, its training and its score.

How large the network's input and output are is part of the network: a smaller output is cheaper, and is enlarged
bilinearly outside it, to the resolution of the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError
from sirdar.vision.augmentation import Warp, coloured, draw_warp, warped
from sirdar.vision.blocks import Backbone, Block, BlockLayers, calm_start, convolution
from sirdar.vision.images import VOID, Masked, signed


@final
class Segmenter(nn.Module):
    """A backbone, a neck that joins its resolutions from the coarsest to the output's, and a head.

    Args:
        stem: channels of the first convolution.
        stages: of the backbone; their strides must reach from `output` to twice that or more, each double the last.
        neck: channels where resolutions are added.
        head: blocks on the joined features, of stride 1.
        classes: how many there are.
        output: stride of the output: 4, 8 or 16.

    Raises:
        ArgumentError: no stage has the output's stride.
    """

    def __init__(
        self,
        stem: int,
        stages: Sequence[Sequence[Block]],
        neck: int,
        head: Sequence[Block],
        classes: int = 11,
        output: int = 8,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(stem, stages)
        self._strides = sorted((s for s in self.backbone.channels if s >= output), reverse=True)
        if not self._strides or self._strides[-1] != output:
            msg = f"output must be the stride of a stage, {sorted(self.backbone.channels)}, got {output!r}"
            raise ArgumentError(msg)
        self.sides = nn.ModuleDict({str(s): convolution((self.backbone.channels[s], neck), 1) for s in self._strides})
        self.head = nn.ModuleList()
        before = neck
        for block in head:
            self.head.append(BlockLayers(block, before))
            before = block.channels
        self.named = nn.Conv2d(before, classes, 1)
        calm_start(self)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class row column"]:
        """Images in -1..1 to one number per class and cell, before the softmax."""
        features = self.backbone(images)
        x = self.sides[str(self._strides[0])](features[self._strides[0]])
        for stride in self._strides[1:]:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest") + self.sides[str(stride)](features[stride])
        for block in self.head:
            x = block(x)
        return self.named(x)


@dataclass(frozen=True)
class SegmentationTask:
    """Batches of moved, mirrored, recoloured images, and cross-entropy on the enlarged output.

    Args:
        data: training images, on the device of the network.
        size: height and width of the network's input.
        weights: of the classes, [class]; None for equal ones.
        warp: how far images are moved.
    """

    data: Masked
    size: tuple[int, int]
    weights: Tensor | None = None
    warp: Warp = Warp((0.7, 2.0), 0.1, 0.1)  # noqa: RUF009 - frozen

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Images [batch, 3, height, width] in -1..1 and classes [batch, height, width], 255 where there is none."""
        data = self.data
        chosen = torch.randint(len(data.images), (size,), generator=generator, device=generator.device)
        drawn = draw_warp(generator, size, self.warp)
        images = warped(signed(data.images[chosen]), drawn, self.size)
        # Void outside the image is zero after warping: classes are counted from one meanwhile.
        masks = (data.masks[chosen].float() + 1) % (VOID + 1)
        classes = warped(masks, drawn, self.size, nearest=True)[:, 0].round().long() - 1
        return coloured(images, generator), torch.where(classes < 0, VOID, classes)

    def loss(self, outputs: Float[Tensor, "batch class row column"], targets: Tensor) -> Tensor:
        """Cross-entropy over the pixels that have a class; zero where none has."""
        if not (targets != VOID).any():
            return outputs.float().sum() * 0.0
        rows, columns = targets.shape[1:]
        large = functional.interpolate(outputs.float(), (rows, columns), mode="bilinear", align_corners=False)
        return functional.cross_entropy(large, targets, weight=self.weights, ignore_index=VOID)


def class_weights(data: Masked) -> Float[Tensor, " class"]:
    """Rare classes count more: the inverse root of each class's share, of mean one."""
    counts = torch.bincount(data.masks.flatten().long(), minlength=VOID + 1)[: len(data.classes)].float()
    weights = (counts / counts.sum()).clamp(min=1e-4).rsqrt()
    return weights / weights.mean()


def resized(images: Tensor, size: tuple[int, int]) -> Float[Tensor, "batch 3 rows columns"]:
    """Images [batch, 3, height, width] of bytes as the network of this input size reads them."""
    return functional.interpolate(signed(images), size, mode="bilinear", align_corners=False, antialias=True)


def segmented(outputs: Float[Tensor, "batch class row column"], size: tuple[int, int]) -> Tensor:
    """Classes [batch, height, width] from the network's output, enlarged to `size`."""
    return functional.interpolate(outputs.float(), size, mode="bilinear", align_corners=False).argmax(1)


def confusion(named: Tensor, truth: Tensor, classes: int) -> np.ndarray:
    """How often each true class was given each class, [true, given]; void pixels count for nothing."""
    known = truth != VOID
    place = truth[known].long() * classes + named[known].long()
    return torch.bincount(place, minlength=classes * classes).reshape(classes, classes).cpu().numpy()


def mean_iou(counts: np.ndarray) -> float:
    """Mean over the classes of intersection over union (Everingham et al. 2010, section 4.1.3), 0 to 1.

    Args:
        counts: what `confusion` gives; classes that neither occur nor were given are left out.
    """
    shared = np.diag(counts).astype(float)
    union = counts.sum(0) + counts.sum(1) - shared
    return float((shared[union > 0] / union[union > 0]).mean())


def counts_by(network: nn.Module, data: Masked, size: tuple[int, int], batch: int = 32) -> np.ndarray:
    """The confusion matrix of a network in evaluation mode whose input is `size` (height, width)."""
    classes = len(data.classes)
    total = np.zeros((classes, classes), np.int64)
    shape = (int(data.masks.shape[2]), int(data.masks.shape[3]))
    with torch.inference_mode():
        for begin in range(0, len(data.images), batch):
            part = data.take(np.arange(begin, min(begin + batch, len(data.images))))
            total += confusion(segmented(network(resized(part.images, size)), shape), part.masks[:, 0], classes)
    return total
