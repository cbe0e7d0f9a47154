# SPDX-License-Identifier: Apache-2.0
"""The quick graph against the trace through torch.export, operator by operator."""

import pytest
import torch
from torch import nn

from sirdar.errors import UnsupportedError
from sirdar.vision.blocks import Block
from sirdar.vision.classification import Classifier
from sirdar.vision.detection import Detector
from sirdar.vision.graph import graph_of
from sirdar.vision.segmentation import Segmenter
from sirdar.workload.graph import Graph
from sirdar.workload.trace import trace


def _stages(*kinds: str) -> list[list[Block]]:
    return [[Block(kind=kind, channels=8, stride=2), Block(kind=kind, channels=8)] for kind in kinds]


NETWORKS = {
    "detector": lambda: Detector(8, _stages("fused", "ibn", "depthwise", "standard"), 8, [Block(channels=8)]),
    "classifier": lambda: Classifier(8, _stages("standard", "ibn"), 16),
    "segmenter": lambda: Segmenter(8, _stages("ibn", "fused", "ibn"), 8, [Block(channels=8)], 5, 4),
}


def _rows(graph: Graph) -> list[tuple[object, ...]]:
    return [
        (
            row.kind,
            row.macs,
            row.flops,
            [spec.shape for spec in row.inputs],
            [spec.shape for spec in row.outputs],
            sorted(spec.name for spec in row.weights),
            dict(row.attributes),
        )
        for row in graph.operators
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_it_agrees_with_the_trace_through_torch_export(name: str) -> None:
    build = NETWORKS[name]
    quick = graph_of(build, (1, 3, 64, 64))
    slow = trace(build().eval(), torch.zeros(1, 3, 64, 64))
    assert _rows(quick) == _rows(slow)
    assert quick.parameter_bytes("int8") == slow.parameter_bytes("int8")
    assert quick.peak_bytes("int8") == slow.peak_bytes("int8")


def test_an_operator_that_no_camera_network_has_is_named() -> None:
    with pytest.raises(UnsupportedError, match="operator 'tanh' is none that camera networks here have"):
        graph_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh()), (1, 3, 8, 8))
