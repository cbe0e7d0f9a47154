# SPDX-License-Identifier: Apache-2.0
"""Naming what a small image shows: the network, its training and its score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sirdar.vision.augmentation import cropped, cut_out
from sirdar.vision.blocks import Backbone, Block, calm_start, convolution
from sirdar.vision.images import Labelled, signed

_PIXELS = 1_000_000  # that are judged at a time


@final
class Classifier(nn.Module):
    """A backbone, a 1 x 1 convolution, the mean over the image and a linear layer.

    Args:
        stem: channels of the first convolution.
        stages: of the backbone.
        top: channels of the last convolution; 0 for none.
        classes: how many there are.
        stem_stride: 1 for thumbnails, 2 for camera images.
    """

    def __init__(
        self, stem: int, stages: Sequence[Sequence[Block]], top: int, classes: int = 10, stem_stride: int = 1
    ) -> None:
        super().__init__()
        self.backbone = Backbone(stem, stages, stem_stride)
        before = stages[-1][-1].channels
        self.top = convolution((before, top), 1) if top else nn.Identity()
        self.named = nn.Linear(top or before, classes)
        calm_start(self)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Images in -1..1 to one number per class, before the softmax."""
        features = self.backbone(images)
        x = self.top(features[max(features)])
        return self.named(functional.adaptive_avg_pool2d(x, 1).flatten(1))


@dataclass(frozen=True)
class ClassificationTask:
    """Batches of shifted, mirrored images, a square of each hidden where asked, and cross-entropy.

    Args:
        data: training images, on the device of the network.
        hide: side of the hidden square in pixels (DeVries and Taylor 2017), which pays in trainings of many passes over
            the images and costs in short ones; 0 for none.
        smoothing: share of the target that is spread over all classes (Szegedy et al. 2016, section 7).
    """

    data: Labelled
    hide: int = 0
    smoothing: float = 0.05

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Images [batch, 3, height, width] in -1..1 and class numbers [batch]."""
        chosen = torch.randint(len(self.data.images), (size,), generator=generator, device=generator.device)
        images = signed(self.data.images[chosen])
        images = cropped(images, generator, min(images.shape[2:]) // 8)
        if self.hide:
            images = cut_out(images, generator, self.hide)
        return images, self.data.labels[chosen]

    def loss(self, outputs: Float[Tensor, "batch class"], targets: Int64[Tensor, " batch"]) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(outputs.float(), targets, label_smoothing=self.smoothing)


def classified_by(network: nn.Module, data: Labelled) -> np.ndarray:
    """The class [image] that a network in evaluation mode gives every image."""
    batch = max(1, _PIXELS // (data.images.shape[2] * data.images.shape[3]))
    with torch.inference_mode():
        parts = [network(signed(data.images[b : b + batch])).argmax(1) for b in range(0, len(data.images), batch)]
    return torch.cat(parts).cpu().numpy()


def top1(named: np.ndarray, labels: np.ndarray) -> float:
    """The share of images named right, 0 to 1."""
    return float((named == labels).mean())
