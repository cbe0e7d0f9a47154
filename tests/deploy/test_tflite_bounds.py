# SPDX-License-Identifier: Apache-2.0
"""Clamps whose bounds are tensors, and scales of very small values."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sirdar.deploy.tflite import predict, write
from sirdar.errors import UnsupportedError

pytest.importorskip("ai_edge_litert")


class Bounded(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 1)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor(0.1))
        self.register_buffer("high", torch.tensor([0.5, 0.2, 0.3, 0.4]))

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(self, *given)


def channels(bound: Tensor) -> Tensor:
    return bound.reshape(4, 1, 1)


CLAMPS: dict[str, Callable[..., Tensor]] = {
    "both": lambda net, x, _: x.clamp(min=net.low, max=net.high),
    "least": lambda net, x, _: x.clamp_min(net.low),
    "most": lambda net, x, _: x.clamp_max(net.high),
    "from nought": lambda net, x, _: torch.clamp(x * 2, torch.tensor(0.0), net.high),
    "by an activation": lambda net, x, y: torch.clamp(x, max=y),  # noqa: ARG005
    "between activations": lambda net, x, y: torch.clamp(x, -y.abs(), y.abs() * 0.5),  # noqa: ARG005
    "a constant": lambda net, x, y: torch.clamp(net.high, max=y) + x,
    "of channels": lambda net, x, _: net.conv(torch.stack([x, x, -x])[None]).clamp(
        min=0 * net.low, max=channels(net.high)
    ),
    "more axes": lambda net, x, _: x.clamp(max=net.high[:, None, None] * 100),
    "without end": lambda net, x, _: x.clamp(min=net.high.log() * float("inf"), max=net.high),
    "crossed": lambda net, x, _: (x - 9).clamp(1.0, -1.0),  # noqa: ARG005
}


@pytest.mark.parametrize("name", CLAMPS)
def test_clamps_are_bounded_by_tensors_as_by_numbers(name: str) -> None:
    torch.manual_seed(0)
    x, y = 1.5 * torch.randn(5, 4), torch.randn(5, 4)
    module = Bounded(CLAMPS[name])
    expected = module(x, y).detach()
    (found,) = predict(write(module, (x, y), [(x, y)]), x, y)
    assert found.shape == expected.shape
    spread = max(float(x.abs().max()), float(expected.abs().max()))
    assert (found - expected).abs().max() <= 0.03 * spread


def test_a_factor_of_nought_is_no_factor_of_one() -> None:
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    with pytest.raises(UnsupportedError, match="it has alpha 0"):
        write(Bounded(lambda _, x, y: torch.add(x, y, alpha=0)), (x, y), [(x, y)])
    module = Bounded(lambda net, x: torch.sub(x, net.high, alpha=0))
    (found,) = predict(write(module, x, [x]), x)
    assert (found - x).abs().max() <= 0.03 * x.abs().max()


@pytest.mark.parametrize("size", [1e-7, 1e-12, 1e-28])
def test_values_may_be_very_small(size: float) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3, bias=False), torch.randn(64, 4) * size
    expected = layer(x).detach()
    (found,) = predict(write(layer, x, [x]), x)
    assert (found.double() - expected.double()).norm() <= 0.02 * expected.double().norm()


def test_weights_may_be_very_small() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(1e-16)
    expected = layer(x).detach()
    (found,) = predict(write(layer, x, [x]), x)
    assert (found - expected).norm() <= 0.02 * expected.norm()


def test_layers_that_give_nothing_but_zeros_run() -> None:
    """Calibrated on zeros a scale has no bound from below, and LiteRT refuses one far below that of the products."""
    torch.manual_seed(0)
    dead, x = nn.Conv2d(3, 8, 3), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        dead.bias.sub_(100)
    module = nn.Sequential(dead, nn.ReLU(), nn.Conv2d(8, 4, 1))
    expected = module(x).detach()
    (found,) = predict(write(module, x, [x]), x)
    assert (found - expected).norm() <= 0.02 * expected.norm()


@pytest.mark.parametrize("heads", [1, 2])
def test_heads_of_queries_share_keys(heads: int) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 4, 5, 8), torch.randn(1, heads, 5, 8)
    module = Bounded(
        lambda _, query, key: nn.functional.scaled_dot_product_attention(query, key, key * 0.5, enable_gqa=True)
    )
    expected = module(query, key)
    (found,) = predict(write(module, (query, key), [(query, key)]), query, key)
    assert (found - expected).norm() <= 0.03 * expected.norm()
