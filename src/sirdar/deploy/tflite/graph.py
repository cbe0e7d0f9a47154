# SPDX-License-Identifier: Apache-2.0
"""From a graph of operators to an int8 TFLite file for compilers: shapes are true, weights and scales are made up.

A graph says what an operator reads and makes, not every argument it has. What is missing is taken from the shapes:
windows of pooling from the work per value, axes of concatenation and reduction from what changes size, a permutation
from a match of the sizes. Where several fit, the first does: cost depends on shapes.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sirdar.deploy.tflite.encode import encode
from sirdar.deploy.tflite.graph_rules import RULES, Drawing, name_of
from sirdar.deploy.tflite.layout import Value, channels_last
from sirdar.deploy.tflite.net import Net
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.graph import Graph, Operator

_RECTIFIERS = {"relu": "RELU", "relu6": "RELU6", "hardtanh": "RELU6"}
_FUSING = ("conv", "matmul")


def from_graph(graph: Graph, seed: int = 0, values: int | None = None) -> bytes:
    """An int8 TFLite file with the operators of a graph, for a compiler to be asked what they cost.

    Args:
        graph: of a trace, or one's own.
        seed: of the weights, which are normally distributed.
        values: how many different ones they take, evenly apart, such as clustered weights do; any of int8 when None.

    Raises:
        ArgumentError: fewer than three values.
        UnsupportedError: an operator is not covered; the sentence names it.
    """
    return encode(draw(graph, seed, values)[0])


def draw(graph: Graph, seed: int = 0, values: int | None = None) -> tuple[Net, tuple[str, ...]]:
    """What `from_graph` encodes, and for each TFLite operator in it the graph's operator that it does work of."""
    if values is not None and values < 3:
        msg = f"values of weights must be at least 3, got {values!r}"
        raise ArgumentError(msg)
    drawing = Drawing(np.random.default_rng(seed), values)
    owners: list[str] = []
    known: dict[str, Value | None] = {}
    for spec in graph.inputs:
        order = channels_last(4) if len(spec.shape) == 4 else tuple(range(len(spec.shape)))
        tensor = drawing.made(spec.name, [spec.shape[axis] for axis in order], integer="int" in spec.dtype)
        drawing.net.inputs.append(tensor)
        known[spec.name] = Value(tensor, order)
    for task in _tasks(graph):
        _draw(drawing, task, known, graph.name)
        owners += [task.operator.name] * (len(drawing.net.steps) - len(owners))
    for name in graph.outputs:
        value = known.get(name)
        if value is not None:
            order = channels_last(4) if len(value.order) == 4 else range(len(value.order))
            drawing.net.outputs.append(drawing.layout.arrange(value, order))
    if not drawing.net.outputs or not drawing.net.steps:
        msg = f"graph {graph.name!r} computes nothing that a TFLite file could hold"
        raise UnsupportedError(msg)
    return drawing.net, (*owners, *[owners[-1]] * (len(drawing.net.steps) - len(owners)))


@dataclass(frozen=True)
class _Task:
    """An operator and those that it does as well.

    Args:
        operator: the first of them.
        makes: edges that hold the result.
        activation: fused rectifier.
        rule: name of the rule, where it is not the operator's own kind.
    """

    operator: Operator
    makes: tuple[str, ...]
    activation: str = "NONE"
    rule: str = ""


def _draw(drawing: Drawing, task: _Task, known: dict[str, Value | None], title: str) -> None:
    operator = task.operator
    rule: Callable[..., list[Value | None]] | None = RULES.get(task.rule or operator.kind)
    if rule is None:
        msg = f"operator {operator.name!r} of graph {title!r} ({name_of(operator)}) is not covered by int8 TFLite"
        raise UnsupportedError(msg)
    drawing.activation = task.activation
    drawing.name = task.makes[0] if task.makes else operator.name
    values = rule(drawing, operator, [known[spec.name] for spec in operator.inputs])
    known.update(zip(task.makes, values, strict=False))


def _tasks(graph: Graph) -> list[_Task]:
    """The operators with those fused that one TFLite operator does."""
    readers: dict[str, list[Operator]] = defaultdict(list)
    for operator in graph.operators:
        for spec in operator.inputs:
            readers[spec.name].append(operator)
    kept = set(graph.outputs)

    def follower(edge: str) -> Operator | None:
        return readers[edge][0] if len(readers[edge]) == 1 and edge not in kept else None

    tasks: list[_Task] = []
    absorbed: set[str] = set()
    for operator in graph.operators:
        if operator.name in absorbed:
            continue
        chain, rule = _swish(operator, readers)
        if not chain:
            chain = _fused(operator, follower)
        last = chain[-1] if chain else operator
        absorbed.update(row.name for row in chain)
        activation = _RECTIFIERS.get(name_of(last), "NONE") if chain and not rule else "NONE"
        tasks.append(_Task(operator, tuple(spec.name for spec in last.outputs), activation, rule))
    return tasks


def _fused(operator: Operator, follower: Callable[[str], Operator | None]) -> list[Operator]:
    """Batch norm and rectifier behind a layer, or the rectifier behind a sum."""
    adds = operator.kind == "elementwise" and name_of(operator) in ("add", "sub", "mul")
    if (operator.kind not in _FUSING and not adds) or len(operator.outputs) != 1:
        return []
    chain: list[Operator] = []
    edge = operator.outputs[0].name
    after = follower(edge)
    if after is not None and after.kind == "norm" and "batch_norm" in name_of(after) and not adds:
        chain.append(after)
        after = follower(after.outputs[0].name)
    if after is not None and after.kind == "elementwise" and name_of(after) in _RECTIFIERS:
        chain.append(after)
    return chain


def _swish(operator: Operator, readers: dict[str, list[Operator]]) -> tuple[list[Operator], str]:
    """Hard-swish and hard-sigmoid as torch.export decomposes them: add, clamp (twice), product with the input, div."""
    if name_of(operator) != "add" or len(operator.inputs) != 1 or operator.weights:
        return [], ""
    chain: list[Operator] = []
    last = operator
    while len(users := readers[last.outputs[0].name]) == 1 and name_of(users[0]) in ("clamp", "hardtanh"):
        last = users[0]
        chain.append(last)
    if not chain or len(users) != 1:
        return [], ""
    after, source = users[0], operator.inputs[0].name
    if name_of(after) in ("div", "mul") and len(after.inputs) == 1:
        return [*chain, after], "hard_sigmoid"
    if name_of(after) != "mul" or source not in [spec.name for spec in after.inputs]:
        return [], ""
    users = readers[after.outputs[0].name]
    if len(users) == 1 and name_of(users[0]) in ("div", "mul") and len(users[0].inputs) == 1:
        return [*chain, after, users[0]], "hard_swish"
    return [], ""
