# SPDX-License-Identifier: Apache-2.0
"""Each condition on a network for which it holds, and on one for which it does not."""

import pytest
import torch
from torch import nn

from sirdar.deploy.capture import capture
from sirdar.deploy.conditions import CONDITIONS, scene
from sirdar.deploy.nodes import computes, name_of


def said(
    module: nn.Module, example: torch.Tensor, condition: str, operator: str, limit: int | None = None
) -> list[str]:
    captured = capture(module.eval(), example)
    assert captured.program is not None
    view = scene(captured.program, frozenset(("relu",)))
    nodes = [node for node in captured.program.graph.nodes if computes(node) and operator in (name_of(node), "")]
    assert nodes
    return [text for node in nodes if (text := CONDITIONS[condition](node, view, limit)) is not None]


class Rank(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, 1, 1, 1, 1, -1) * 2


IMAGE = torch.zeros(1, 2, 12, 12)


@pytest.mark.parametrize(
    ("condition", "operator", "limit", "example", "holding", "passing"),
    [
        ("stride-above", "convolution", 3, IMAGE, nn.Conv2d(2, 2, 3, stride=4), nn.Conv2d(2, 2, 3, stride=3)),
        ("kernel-dilation-above", "convolution", 1, IMAGE, nn.Conv2d(2, 2, 3, dilation=2), nn.Conv2d(2, 2, 3)),
        ("window-above", "avg_pool2d", 8, IMAGE, nn.AvgPool2d(9), nn.AvgPool2d(8)),
        ("rank-above", "", 5, torch.zeros(4), Rank(), nn.ReLU()),
        ("unknown-operator", "", None, IMAGE, nn.Tanh(), nn.ReLU()),
        (
            "input-and-kernel-dilation",
            "convolution",
            None,
            IMAGE,
            nn.ConvTranspose2d(2, 2, 3, stride=2, dilation=2),
            nn.ConvTranspose2d(2, 2, 3, stride=2),
        ),
    ],
)
def test_conditions(
    condition: str, operator: str, limit: int | None, example: torch.Tensor, holding: nn.Module, passing: nn.Module
) -> None:
    assert said(holding, example, condition, operator, limit)
    assert not said(passing, example, condition, operator, limit)


def test_a_batch_above_one() -> None:
    assert said(nn.ReLU(), torch.zeros(2, 3), "batch-above-one", "relu") == ["a batch of 2"]
    assert not said(nn.ReLU(), torch.zeros(1, 3), "batch-above-one", "relu")
