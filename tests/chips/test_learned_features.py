# SPDX-License-Identifier: Apache-2.0
"""How networks are cut into groups, by hand, and memory alive against the graph's own count."""

import numpy as np

from sirdar.chips.learned_features import NAMES, groups_of
from sirdar.testing.chips import example_graph
from sirdar.workload.graph import Graph, Operator, TensorSpec


def residual() -> Graph:
    """conv -> relu -> conv -> add with the first result -> mean -> view."""
    shape = (1, 8, 4, 4)
    image, a, b, c, d = (TensorSpec(shape, "fp32", name) for name in ("image", "a", "b", "c", "d"))
    mean, flat = TensorSpec((1, 8, 1, 1), "fp32", "mean"), TensorSpec((1, 8), "fp32", "flat")
    weight = TensorSpec((8, 8, 1, 1), "fp32", "weight")
    attributes = {"kernel": [1, 1], "stride": [1, 1], "groups": 1}
    operators = (
        Operator("conv1", "conv", (image,), (a,), (weight,), macs=1024, attributes=attributes),
        Operator("relu", "elementwise", (a,), (b,), flops=128),
        Operator("conv2", "conv", (b,), (c,), (weight,), macs=1024, attributes=attributes),
        Operator("add", "elementwise", (b, c), (d,), flops=128),
        Operator("mean", "reduction", (d,), (mean,), flops=128),
        Operator("view", "view", (mean,), (flat,)),
    )
    return Graph(operators, (image,), ("flat",))


def test_what_follows_a_layer_at_the_same_place_is_its_group() -> None:
    found = groups_of(residual())
    assert found.members == (("conv1", "relu"), ("conv2", "add"), ("mean",))
    assert found.rows.shape == (3, len(NAMES))
    unary, binary = (found.rows[:, NAMES.index(name)].tolist() for name in ("unary", "binary"))
    assert (unary, binary) == ([1, 0, 0], [0, 1, 0])
    assert found.rows[:, NAMES.index("macs behind")].tolist() == [1024, 0, -1]


def test_a_result_of_the_network_is_not_hidden_in_a_group() -> None:
    graph = example_graph()
    shown = Graph(graph.operators, graph.inputs, ("hidden", "y"))
    assert groups_of(graph).members == (("matmul_1", "relu"), ("matmul_2",))
    assert groups_of(shown).members == (("matmul_1",), ("relu",), ("matmul_2",))


def test_memory_alive_is_the_graph_s_own_count() -> None:
    """The graph's liveness analysis at int8 is the reference."""
    graph = residual()
    alive = np.array(graph.live_bytes("int8"))
    expected = [alive[0:2].max(), alive[2:4].max(), alive[4:].max()]
    assert groups_of(graph).rows[:, NAMES.index("alive")].tolist() == expected


def test_an_empty_network_has_no_groups() -> None:
    x = TensorSpec((1,), "fp32", "x")
    assert groups_of(Graph((), (x,), ("x",))).rows.shape == (0, len(NAMES))
