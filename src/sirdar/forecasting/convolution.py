# SPDX-License-Identifier: Apache-2.0
"""Causal convolutions over a window: the encoder of MQ-CNN and of MQTransformer."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.forecasting.scaling import DEMAND_CHANNELS


def depth_of(length: int) -> int:
    """Convolutions whose receptive field is the window, or 64 steps."""
    return max(2, math.ceil(math.log2(min(length, 64))))


class ConvolutionalEncoder(nn.Module):
    """Dilated causal convolutions with residual connections (Wen et al. 2017, section 3.4; van den Oord et al. 2016).

    Args:
        channels: of past, known and static covariates.
        width: channels of its answer.
        depth: convolutions, with dilations 1, 2, 4, ...: a receptive field of 2^depth steps.
    """

    def __init__(self, channels: tuple[int, int, int], width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(DEMAND_CHANNELS + sum(channels), width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**layer) for layer in range(depth))
        self.dropout = nn.Dropout1d(0.1)  # whole channels: neighbouring steps tell the same

    def forward(self, steps: Float[Tensor, "batch time channel"]) -> Float[Tensor, "batch time width"]:
        """What is known at each step, from it and the steps before."""
        hidden = functional.gelu(self.embed(steps)).transpose(1, 2)
        for layer, convolution in enumerate(self.convolutions):
            hidden = hidden + self.dropout(functional.gelu(convolution(functional.pad(hidden, (2**layer, 0)))))
        return hidden.transpose(1, 2)
