# SPDX-License-Identifier: Apache-2.0
"""A depthwise convolution that trains fast on a CPU in bf16.

oneDNN has no fast gradient of a depthwise convolution in bf16: on a CPU with AMX it takes two thirds of a training step
of a network of inverted bottlenecks. This layer leaves the forward pass to oneDNN and has a loop for both gradients.
"""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.vision.loops import bits, depthwise_gradients


@final
class Depthwise(nn.Conv2d):
    """A convolution of every channel with a kernel of its own, without bias; the weights are those of `nn.Conv2d`.

    Args:
        channels: of input and output.
        kernel: its side, odd; the padding keeps the resolution.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel row column"]:  # noqa: A002 - torch's name
        """As `nn.Conv2d`; under autocast to bf16 on a CPU with gradients in fp32."""
        half = input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not half or not torch.is_grad_enabled() or torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return super().forward(input)
        found: Tensor = _Depthwise.apply(input.bfloat16(), self.weight, self.stride[0], self.padding[0])  # pyright: ignore[reportAssignmentType]
        return found


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        kernels = weight.detach()[:, 0].permute(1, 2, 0).contiguous().float().numpy()  # [row, column, channel]
        to_input = torch.empty_like(x, memory_format=torch.channels_last)
        to_weight = np.zeros(kernels.shape)
        depthwise_gradients(bits(x), bits(grad_outputs[0]), kernels, bits(to_input), to_weight, ctx.stride, ctx.padding)
        back = torch.from_numpy(to_weight).permute(2, 0, 1)[:, None].to(weight.dtype)
        return to_input, back.contiguous(), None, None
