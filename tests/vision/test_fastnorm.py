# SPDX-License-Identifier: Apache-2.0
"""The fused loops against torch's own batch normalisation and ReLU6 on the same bf16 numbers, to bf16's precision."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sirdar.vision.fastnorm import Convolution, suits

_EPSILON = 2.0**-7  # twice the relative step of bf16


def _made(*, active: bool) -> Convolution:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = Convolution(nn.Conv2d(3, 5, 1, bias=False), active=active)
        norm = layers[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    return layers.train()


def _trained(layers: nn.Sequential, x: Tensor, *, half: bool) -> dict[str, Tensor]:
    x = x.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layers(x)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    (y.float() * weights).sum().backward()
    assert x.grad is not None
    found = {"output": y.detach().float(), "input": x.grad}
    found |= {name: p.grad for name, p in layers.named_parameters() if p.grad is not None}
    return found | {name: b.float() for name, b in layers.named_buffers()}


@pytest.mark.parametrize("active", [True, False])
def test_outputs_gradients_and_statistics_are_torchs(*, active: bool) -> None:
    layers = _made(active=active)
    with torch.no_grad():
        layers[0].weight.copy_(layers[0].weight.bfloat16())  # pyright: ignore[reportArgumentType,reportCallIssue]
    plain = nn.Sequential(*copy.deepcopy(layers))
    x = torch.randn(4, 3, 7, 6, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    found, wanted = _trained(layers, x, half=True), _trained(plain, x, half=False)
    assert found.keys() == wanted.keys()
    for name, other in wanted.items():
        atol = 2 * _EPSILON * float(other.abs().max())
        torch.testing.assert_close(found[name], other, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def test_outputs_in_another_order_of_memory_are_the_same() -> None:
    layers = _made(active=True)
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        one, two = layers(x.contiguous()), layers(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(one, two)


def test_torchs_own_layers_run_in_evaluation_without_gradients_and_in_fp32() -> None:
    layers = _made(active=True)
    norm, x = layers[1], torch.zeros(1, 5, 2, 2, dtype=torch.bfloat16)
    assert isinstance(norm, nn.BatchNorm2d)
    assert suits(norm, x)
    assert not suits(norm, x.float())
    with torch.no_grad():
        assert not suits(norm, x)
    assert not suits(norm.eval(), x)
