# SPDX-License-Identifier: Apache-2.0
"""Files drawn from graphs hold what files written from the module hold: the same work, the same kinds of operators."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sirdar.deploy.tflite import from_graph, predict, write
from sirdar.errors import UnsupportedError
from sirdar.testing.chips import example_graph
from sirdar.workload.graph import Graph, Operator, TensorSpec
from sirdar.workload.trace import trace

pytest.importorskip("ai_edge_litert")


def codes(file: bytes) -> Counter[str]:
    """How often a file has each operator."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromPackedBuf(file)
    return Counter(names[model.operatorCodes[row.opcodeIndex].builtinCode] for row in model.subgraphs[0].operators)


def mobile() -> nn.Module:
    first = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    second = [nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Hardswish(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 16, 1), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5), nn.Softmax(-1))


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first(x))
        wide = functional.interpolate(y, scale_factor=2, mode="bilinear")
        return torch.cat([wide, self.second(y)], 1) * torch.sigmoid(x.mean(1, keepdim=True))


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv(x)).transpose(1, 2)
        return self.out(functional.scaled_dot_product_attention(y, y, y))


@pytest.mark.parametrize(
    ("build", "shape"), [(mobile, (1, 3, 32, 32)), (Joined, (1, 3, 16, 16)), (Sequence, (1, 4, 10))]
)
def test_graphs_and_modules_give_the_same_operators(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    module, x = build().eval(), torch.randn(shape)
    graph = trace(module, x)
    drawn = from_graph(graph)
    heavy = {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "BATCH_MATMUL",
        "TRANSPOSE_CONV",
        "SOFTMAX",
        "HARD_SWISH",
    }
    counts = [{name: n for name, n in codes(file).items() if name in heavy} for file in (drawn, write(module, x, [x]))]
    assert counts[0] == counts[1]
    (found,) = predict(drawn, x)  # LiteRT runs it
    assert found.shape == module(x).shape


@pytest.mark.parametrize(
    "layer", [nn.Hardswish(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Hardsigmoid(), nn.PReLU(8)], ids=str
)
def test_an_activation_costs_a_graph_what_it_costs_its_module(layer: nn.Module) -> None:
    module, x = nn.Sequential(nn.Conv2d(3, 8, 3), layer).eval(), torch.randn(1, 3, 8, 8)
    assert codes(from_graph(trace(module, x))) == codes(write(module, x, [x]))


class BesideNothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([x[:, :0], x], 1))


def test_what_is_joined_with_nothing_stays_as_it_is() -> None:
    assert not codes(from_graph(trace(BesideNothing(), torch.randn(1, 4))))["CONCATENATION"]


class OnAGrid(nn.Module):
    """As heads of detectors add the places of their cells; the second grid is a joined weight."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.ones(1, 12, 1)), nn.Parameter(torch.zeros(1, 12, 1))

    def forward(self, x: Tensor) -> Tensor:
        down, across = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
        return x * torch.stack([across, down], -1).reshape(12, 2) + torch.cat([self.left, self.right], -1)


def test_joined_constants_are_a_constant() -> None:
    assert codes(from_graph(trace(OnAGrid(), torch.randn(1, 12, 2)))) == {"MUL": 1, "ADD": 1}


def test_a_graph_of_one_s_own_needs_no_names_of_torch() -> None:
    assert codes(from_graph(example_graph())) == {"FULLY_CONNECTED": 2}  # the rectifier is fused


def test_weights_are_the_seed_s() -> None:
    assert from_graph(example_graph(), seed=1) == from_graph(example_graph(), seed=1)
    assert from_graph(example_graph(), seed=1) != from_graph(example_graph(), seed=2)


def test_what_is_not_covered_is_named() -> None:
    x, y = TensorSpec((1, 4), "fp32", "x"), TensorSpec((1, 4), "fp32", "y")
    for operator in (
        Operator("odd", "unknown", (x,), (y,)),
        Operator("odd", "elementwise", (x,), (y,), attributes={"target": "aten.erf.default"}),
    ):
        with pytest.raises(UnsupportedError, match="operator 'odd'"):
            from_graph(Graph((operator,), (x,), ("y",)))
    with pytest.raises(UnsupportedError, match="graph 'empty' computes nothing"):
        from_graph(Graph((), (x,), ("x",), "empty"))
