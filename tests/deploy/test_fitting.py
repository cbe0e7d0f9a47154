# SPDX-License-Identifier: Apache-2.0
"""Memory, instructions and prices, against arithmetic by hand."""

import math

import pytest
import torch
from torch import nn

from sirdar.chips import load
from sirdar.deploy import rulebook
from sirdar.deploy.capture import capture
from sirdar.deploy.fitting import fit, instructions, price, risk_of
from sirdar.workload.graph import Graph
from sirdar.workload.trace import graph_of

CHIP = load("trainium1")
BOOK = rulebook.load(CHIP)


def graph(module: nn.Module, *example: torch.Tensor) -> Graph:
    captured = capture(module.eval(), example)
    assert captured.program is not None
    return graph_of(captured.program, captured.title)


def test_tiles_of_a_product() -> None:
    """1024 x 256 by 256 x 640: 1024/512 moving times 640/128 still is 10, or 640/512 times 1024/128 is 16; depth 2."""
    assert instructions(graph(nn.Linear(256, 640, bias=False), torch.zeros(1024, 256)), BOOK) == 20


def test_tiles_of_a_convolution() -> None:
    """8 channels in 3 x 3 are 72 deep, 16 channels out, 1,024 positions: 1 x 1 x 2 tiles."""
    assert instructions(graph(nn.Conv2d(8, 16, 3, padding=1, bias=False), torch.zeros(1, 8, 32, 32)), BOOK) == 2


def test_elementwise_pieces() -> None:
    """128 lanes of 512 values are 65,536: a million values take 16 pieces."""
    assert instructions(graph(nn.ReLU(), torch.zeros(2**20)), BOOK) == 16


def test_memory_of_a_layer() -> None:
    found = fit(graph(nn.Linear(1000, 1000, bias=False), torch.zeros(10, 1000)), CHIP, BOOK, {}, "bf16")
    assert found.parameter_bytes == 2e6
    assert found.core_bytes == CHIP.memory_bytes.value / 2
    assert (found.cores, found.chips) == (1, 1)
    assert found.share == pytest.approx((2e6 + found.peak_bytes) / CHIP.memory_bytes.value)
    assert found.compile_s is not None
    assert found.compile_s[0] <= found.compile_s[1] <= found.compile_s[2]


def test_cores_for_a_network_larger_than_one() -> None:
    with torch.device("meta"):
        module = nn.Linear(100_000, 150_000, bias=False)
    found = fit(graph(module, torch.zeros(1, 100_000, device="meta")), CHIP, BOOK, {}, "bf16")
    assert found.cores == math.ceil((3e10 + found.peak_bytes) / found.core_bytes)
    assert found.chips == 1


def test_narrow_layers_cost_less_and_their_weights_take_less() -> None:
    made = graph(nn.Linear(4096, 4096, bias=False), torch.zeros(512, 4096))
    (name,) = [operator.name for operator in made.operators if operator.kind == "matmul"]
    wide, narrow = (price(made, CHIP, {name: dtype}, "bf16") for dtype in ("fp32", "bf16"))
    assert narrow.latency_s < wide.latency_s
    assert narrow.usd_per_million is not None
    instance = CHIP.cheapest_instance("us-east-1")
    assert instance is not None
    assert instance.price_usd_per_hour is not None
    by_hand = narrow.latency_s * 1e6 / 3600 * instance.price_usd_per_hour / instance.chips
    assert narrow.usd_per_million == pytest.approx(by_hand)
    rooms = [fit(made, CHIP, BOOK, {name: dtype}, "bf16").parameter_bytes for dtype in ("fp32", "bf16", "e4m3")]
    assert rooms == [4 * 4096**2, 2 * 4096**2, 4096**2]


def test_risk_grows_with_size() -> None:
    assert [risk_of(share) for share in (0.001, 0.1, 0.5, 2.0)] == ["low", "some", "high", "beyond the limit"]
