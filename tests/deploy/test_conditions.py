# SPDX-License-Identifier: Apache-2.0
"""Each condition on a network for which it holds, and on one for which it does not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sirdar.deploy.capture import capture
from sirdar.deploy.conditions import CONDITIONS, scene
from sirdar.deploy.migrate import migrate
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


class Counted(nn.Module):
    def __init__(self, function: Callable[["Counted", torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.wide: torch.Tensor
        self.register_buffer("wide", torch.tensor([2**40, 1, 2, 3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


WHOLE = torch.arange(4)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda _, x: (x > 1).long() * (2**31 - 1) * 4 + 1, ["values from 0 to 8,589,934,588"]),
        (lambda _, x: x + torch.arange(2**31 - 2, 2**31 + 2), ["values from 2,147,483,646 to 2,147,483,649"]),
        (lambda net, x: net.wide + x, ["values from 1 to 1,099,511,627,776"]),
        (lambda _, x: (x > 1).long() * (2**31 - 1), []),
        (lambda _, x: x * 2**30, []),  # x is not known
    ],
)
def test_integers_that_leave_32_bits_are_told_once(
    function: Callable[[Counted, torch.Tensor], torch.Tensor], found: list[str]
) -> None:
    module = Counted(function)
    assert said(module, WHOLE, "beyond-32-bits", "") == found
    rows = [row for row in migrate(module, WHOLE, chip="trainium1").findings if row.rule == "integer-overflow"]
    assert [(row.detail, row.severity) for row in rows] == [(text, "warning") for text in found]


@pytest.mark.parametrize(("kind", "most"), [(torch.int64, 2**31 - 1), (torch.uint64, 2**32 - 1)])
def test_constants_have_the_bits_of_what_they_are_used_for(kind: torch.dtype, most: int) -> None:
    for number, holds in ((most, False), (most + 1, True)):
        module = Counted(lambda _, x, number=number: torch.full_like(x, number, dtype=kind))
        assert bool(said(module, WHOLE, "wide-constant", "")) is holds
