# SPDX-License-Identifier: Apache-2.0
"""The four blocks that camera networks are made of: plain data, and layers that every int8 chip runs.

==========  ====================================================================  ==================================
kind        layers                                                                source
==========  ====================================================================  ==================================
ibn         1x1 expand, depthwise k x k, 1x1 project                              Sandler et al. 2018, figure 3b
fused       k x k expand, 1x1 project                                             Xiong et al. 2020 (MobileDets), 3.1
depthwise   depthwise k x k, 1x1                                                  Howard et al. 2017, figure 3
standard    k x k                                                                 He et al. 2016
==========  ====================================================================  ==================================

Every convolution has batch normalisation and every one but a projection a ReLU6; a block whose output has its input's
shape adds the two. The inverted bottleneck ("ibn") needs the fewest multiplications, the fused one fills a wide
multiplier array better: which is faster depends on the chip, the channels and the resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, final

from jaxtyping import Float
from torch import Tensor, nn

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.vision.depthwise import Depthwise
from sirdar.vision.fastnorm import Convolution

KINDS = ("ibn", "fused", "depthwise", "standard")


@dataclass(frozen=True)
class Block:
    """One block of a network.

    Args:
        kind: "ibn", "fused", "depthwise" or "standard".
        channels: of its output.
        kernel: side of its convolution, odd.
        stride: 1, or 2 to halve the resolution.
        expansion: channels inside per channel of the input; "depthwise" and "standard" have none.

    Raises:
        ArgumentError: a value is out of its range.
    """

    kind: str = "ibn"
    channels: int = 16
    kernel: int = 3
    stride: int = 1
    expansion: int = 4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}"
            raise ArgumentError(msg)
        for name in ("channels", "kernel", "stride", "expansion"):
            require_positive_integer(getattr(self, name), name)
        if self.kernel % 2 == 0 or self.stride > 2:
            msg = f"kernel must be odd and stride 1 or 2, got kernel {self.kernel} and stride {self.stride}"
            raise ArgumentError(msg)


def deepened(channels: int, multiplier: float, granule: int = 8) -> int:
    """Channels times a depth multiplier, rounded to the multiples of `granule` that a chip computes at once.

    Args:
        channels: before.
        multiplier: the depth multiplier, above zero (Howard et al. 2017, 3.3, there the width multiplier).
        granule: the chip's parallelism over channels; see `sirdar.search.curate`, which measures it.

    Returns:
        The nearest multiple, at least one granule, and never more than a tenth below the exact product.

    Raises:
        ArgumentError: the multiplier is not above zero.
    """
    require_positive_integer(channels, "channels")
    require_positive_integer(granule, "granule")
    if not multiplier > 0:
        msg = f"multiplier must be above zero, got {multiplier!r}"
        raise ArgumentError(msg)
    exact = channels * multiplier
    rounded = max(granule, int(exact + granule / 2) // granule * granule)
    return rounded + granule if rounded < 0.9 * exact else rounded


def convolution(
    channels: tuple[int, int], kernel: int, *, stride: int = 1, depthwise: bool = False, active: bool = True
) -> Convolution:
    """Convolution, batch normalisation and, if `active`, ReLU6.

    Args:
        channels: of input and output.
        kernel: its side, odd; the padding keeps the resolution.
        stride: 1 or 2.
        depthwise: one kernel for every channel; input and output have the same channels then.
        active: False for a projection.
    """
    if depthwise:
        return Convolution(Depthwise(channels[1], kernel, stride), active=active)
    return Convolution(nn.Conv2d(*channels, kernel, stride, kernel // 2, bias=False), active=active)


def _layers(block: Block, before: int) -> dict[str, nn.Module]:
    inside, after, kernel, stride = before * block.expansion, block.channels, block.kernel, block.stride
    if block.kind == "ibn":
        return {
            "expand": convolution((before, inside), 1),
            "depthwise": convolution((inside, inside), kernel, stride=stride, depthwise=True),
            "project": convolution((inside, after), 1, active=False),
        }
    if block.kind == "fused":
        return {
            "fused": convolution((before, inside), kernel, stride=stride),
            "narrow": convolution((inside, after), 1, active=False),
        }
    if block.kind == "depthwise":
        return {
            "separable": convolution((before, before), kernel, stride=stride, depthwise=True),
            "pointwise": convolution((before, after), 1),
        }
    return {"standard": convolution((before, after), kernel, stride=stride)}


@final
class BlockLayers(nn.Module):
    """The layers of one block, named after what they do so that networks can share weights.

    Args:
        block: its description.
        channels: of the input.
    """

    def __init__(self, block: Block, channels: int) -> None:
        super().__init__()
        layers = _layers(block, channels)
        self._names = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.adds = block.stride == 1 and block.channels == channels

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch after rows columns"]:
        """The block's output, with its input added where the shapes agree."""
        y = x
        for name in self._names:
            y = getattr(self, name)(y)
        return x + y if self.adds else y


@final
class Backbone(nn.Module):
    """A stem and stages of blocks, which hands out the last features of every resolution.

    Args:
        stem: channels of the first 3 x 3 convolution, which reads the image.
        stages: rows of blocks.
        stem_stride: 2 for camera images, 1 for thumbnails.

    Attributes:
        channels: by how much the image is smaller there, to the channels of the features handed out.
    """

    def __init__(self, stem: int, stages: Sequence[Sequence[Block]], stem_stride: int = 2) -> None:
        super().__init__()
        require_positive_integer(stem, "stem")
        self.stem = convolution((3, stem), 3, stride=stem_stride)
        before, stride = stem, stem_stride
        self.channels: dict[int, int] = {}
        self._strides: list[int] = []
        self.stages = nn.ModuleList()
        for stage in stages:
            layers = nn.ModuleList()
            for block in stage:
                layers.append(BlockLayers(block, before))
                before, stride = block.channels, stride * block.stride
            self.channels[stride] = before
            self._strides.append(stride)
            self.stages.append(layers)

    @property
    def blocks(self) -> nn.ModuleList:
        """All blocks in order, as scores of untrained networks look at them."""
        return nn.ModuleList(block for stage in self.stages for block in cast("nn.ModuleList", stage))

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> dict[int, Tensor]:
        """Image [batch, 3, height, width] to stride: [batch, channel, height / stride, width / stride]."""
        x = self.stem(images)
        features: dict[int, Tensor] = {}
        for stride, stage in zip(self._strides, self.stages, strict=True):
            for block in cast("nn.ModuleList", stage):
                x = block(x)
            features[stride] = x
        return features


def calm_start(network: nn.Module) -> None:
    """He's initial weights for every convolution, in place (He et al. 2015, equation 12), by torch's own generator."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameter_count(network: nn.Module) -> int:
    """Weights and biases as deployed: batch normalisation becomes one bias per output channel of its convolution."""
    total = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            total += module.weight.numel() + module.weight.shape[0]
    return total
