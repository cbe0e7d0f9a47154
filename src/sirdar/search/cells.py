# SPDX-License-Identifier: Apache-2.0
"""The networks of NAS-Bench-201 (Dong and Yang 2020, arXiv:2001.00326, section 2.1), for benchmarks and as an example.

A cell has four nodes; each of the six edges carries one of five operations. Three stages of cells at 16, 32 and 64
channels follow one stem, with a residual block that halves the resolution between them.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError
from sirdar.search.spaces import EDGES, OPERATIONS, edge_name

_EDGE = re.compile(r"([a-z0-9_]+)~(\d)")


def parse_cell(text: str) -> dict[str, str]:
    """The operations of a cell string such as "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|" by name of the edge.

    Raises:
        ArgumentError: it is no such string.
    """
    nodes = text.split("+")
    found = {
        edge_name(int(source), target): operation
        for target, node in enumerate(nodes, start=1)
        for operation, source in _EDGE.findall(node)
    }
    if set(found) != {edge_name(*edge) for edge in EDGES} or not set(found.values()) <= set(OPERATIONS):
        msg = f"a cell of NAS-Bench-201 has six edges with operations of {', '.join(OPERATIONS)}, got {text!r}"
        raise ArgumentError(msg)
    return found


def live_edges(operations: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    """The edges that carry anything from the cell's input to its output."""
    wired = [edge for edge in EDGES if operations[edge_name(*edge)] != "none"]
    forward, backward = {0}, {3}
    for source, target in sorted(wired, key=lambda edge: edge[1]):
        forward |= {target} if source in forward else set()
    for source, target in sorted(wired, key=lambda edge: -edge[0]):
        backward |= {source} if target in backward else set()
    return tuple((source, target) for source, target in wired if source in forward and target in backward)


class _Convolution(nn.Module):
    """Rectifier, convolution and batch norm, in this order."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.activation, self.norm = nn.ReLU(), nn.BatchNorm2d(outputs)

    def forward(self, features: Float[Tensor, "batch channel row column"]) -> Tensor:
        return self.norm(self.convolution(self.activation(features)))


class _Cell(nn.Module):
    def __init__(self, operations: Mapping[str, str], channels: int) -> None:
        super().__init__()
        self.live = live_edges(operations)
        self.paths = nn.ModuleDict()
        for source, target in self.live:
            operation = operations[edge_name(source, target)]
            if operation.startswith("nor_conv"):
                self.paths[f"{source}{target}"] = _Convolution(channels, channels, int(operation[-1]))
            elif operation == "avg_pool_3x3":
                self.paths[f"{source}{target}"] = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, features: Float[Tensor, "batch channel row column"]) -> Tensor:
        nodes: dict[int, Tensor] = {0: features}
        for source, target in sorted(self.live, key=lambda edge: edge[1]):
            name = f"{source}{target}"
            value = self.paths[name](nodes[source]) if name in self.paths else nodes[source]
            nodes[target] = nodes[target] + value if target in nodes else value
        return nodes.get(3, torch.zeros_like(features))


class _Reduction(nn.Module):
    """A residual block that halves the resolution and doubles the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _Convolution(inputs, outputs, 3, 2), _Convolution(outputs, outputs, 3)
        self.pool, self.shortcut = nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Float[Tensor, "batch channel row column"]) -> Tensor:
        return self.shortcut(self.pool(features)) + self.second(self.first(features))


class CellNetwork(nn.Module):
    """A network of NAS-Bench-201.

    Args:
        operations: by name of the edge, as `parse_cell` gives them.
        classes: to tell apart.
        cells: per stage; 5 in the benchmark.
        channels: of the three stages.
    """

    def __init__(
        self,
        operations: Mapping[str, str],
        classes: int = 10,
        cells: int = 5,
        channels: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]))
        ]
        for stage, width in enumerate(channels):
            if stage:
                blocks.append(_Reduction(channels[stage - 1], width))
            blocks.extend(_Cell(operations, width) for _ in range(cells))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.activation = nn.BatchNorm2d(channels[-1]), nn.ReLU()
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, images: Float[Tensor, "batch colour row column"]) -> Float[Tensor, "batch class"]:
        """Logits."""
        features = self.activation(self.norm(self.blocks(images)))
        return self.head(functional.adaptive_avg_pool2d(features, 1).flatten(1))
