# SPDX-License-Identifier: Apache-2.0
"""The depthwise layer against `nn.Conv2d`: equal in fp32, and in bf16 under autocast to its precision."""

import pytest
import torch
from torch import Tensor, nn

from sirdar.vision.depthwise import Depthwise

_EPSILON = 2.0**-7  # twice the relative step of bf16


def _pair(stride: int) -> tuple[Depthwise, nn.Conv2d]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layer = Depthwise(6, 3, stride)
    plain = nn.Conv2d(6, 6, 3, stride, 1, groups=6, bias=False)
    plain.load_state_dict(layer.state_dict())
    return layer, plain


def _gradients(layer: nn.Module, images: Tensor, *, half: bool) -> tuple[Tensor, ...]:
    x = images.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x)
    (y.float() ** 2).sum().backward()
    weight = next(layer.parameters())
    assert x.grad is not None
    assert weight.grad is not None
    return y.detach(), x.grad, weight.grad


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("half", [False, True])
def test_output_and_gradients_are_those_of_a_plain_convolution(stride: int, *, half: bool) -> None:
    layer, plain = _pair(stride)
    images = torch.randn(2, 6, 9, 8, generator=torch.Generator().manual_seed(1))
    found, wanted = _gradients(layer, images, half=half), _gradients(plain, images, half=False)
    assert found[0].dtype == (torch.bfloat16 if half else torch.float32)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0, atol=float(other.abs().max()) * (half * _EPSILON))


def test_without_gradients_it_is_the_plain_convolution_under_autocast() -> None:
    layer, plain = _pair(1)
    images = torch.randn(1, 6, 5, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(images), plain(images))
