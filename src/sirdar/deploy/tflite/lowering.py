# SPDX-License-Identifier: Apache-2.0
"""Walks an exported graph once and adds its operators to a `Net`, each by the rule for its name."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from sirdar.deploy.findings import Location, location_of
from sirdar.deploy.tflite.exporting import Ranges
from sirdar.deploy.tflite.fusion import Fused, fusions, operator_name
from sirdar.deploy.tflite.layers import Output
from sirdar.deploy.tflite.layout import Layout, Value, channels_last
from sirdar.deploy.tflite.net import Net
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.counting import is_check

_BY_SHAPE = frozenset(("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"))

# Operators that take whole numbers, which have no scale: they change none, or look up a table.
_MOVING = frozenset(
    (
        *("alias", "clone", "contiguous", "detach", "dropout", "lift_fresh_copy", "to", "_to_copy"),
        *("flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view", "_unsafe_view"),
        *("permute", "t", "transpose", "numpy_T", "cat", "concat", "stack", "expand", "repeat", "flip", "embedding"),
        *("select", "slice", "split", "split_with_sizes", "unsafe_split", "unbind", "pad", "constant_pad_nd"),
    )
)

Rule = Callable[["Lowering", fx.Node], "Value | list[Value]"]
_FLOATING = frozenset(("to", "_to_copy", "add", "div", "mul", "sub"))
_BYTES = {torch.uint8: (0.0, 255.0), torch.int8: (-128.0, 127.0)}


class RefusedError(UnsupportedError):
    """An operator that no int8 file holds, with the user's line, and whatever else stands in the way."""

    def __init__(self, sentence: str, location: Location | None) -> None:
        super().__init__(sentence)
        self.location = location
        self.others: tuple[RefusedError, ...] = ()


class Lowering:
    """What rules need: the net so far, values of earlier nodes, constants, ranges."""

    def __init__(self, graph: fx.GraphModule, ranges: Ranges, title: str) -> None:
        self.net = Net()
        self.layout = Layout(self.net)
        self.title = title
        self.places: dict[str, Location] = {}  # the user's line of each tensor of the file, by its name
        self._graph = graph
        self._ranges = ranges
        self._known: dict[fx.Node, Any] = {}
        self._fused = fusions(graph.graph)
        self._refused: list[RefusedError] = []

    def run(self, rules: dict[str, Rule]) -> Net:
        """Add every operator.

        Raises:
            RefusedError: an operator has no rule, or its rule does not cover this use of it; with all others like it.
            UnsupportedError: an output does not depend on the inputs.
        """
        absorbed = {node for fused in self._fused.values() for node in fused.absorbed}
        for node in self._graph.graph.nodes:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "output":
                self._output(node)
            elif node not in absorbed and not is_check(node):
                self._attempt(node, rules)
        if self._refused:
            first, *rest = self._refused
            first.others = tuple(rest)
            raise first
        return self.net

    def fused(self, node: fx.Node) -> Fused:
        """What follows a node and is done by the same operator."""
        return self._fused.get(node) or Fused(node)

    def is_constant(self, argument: object) -> bool:
        """Whether an argument is a number, a weight, or computed from those alone."""
        if isinstance(argument, fx.Node):
            return isinstance(self._known[argument], Tensor)
        return not isinstance(argument, Value)

    def constant(self, argument: object) -> np.ndarray:
        """A constant argument as float64."""
        value = self._known[argument] if isinstance(argument, fx.Node) else argument
        found = value if isinstance(value, Tensor) else torch.as_tensor(value)
        return found.detach().to(torch.float64).numpy()

    def value(self, argument: object) -> Value:
        """An argument as a value; a constant becomes a tensor of the file."""
        if isinstance(argument, Value):
            return argument
        if isinstance(argument, fx.Node) and isinstance(self._known[argument], Value):
            return self._known[argument]
        values = self.constant(argument)
        name = argument.name if isinstance(argument, fx.Node) else "constant"
        return Value(self.net.constant(name, values), tuple(range(values.ndim)))

    def whole(self, argument: fx.Node) -> Value:
        """A constant of whole numbers as a tensor of the file."""
        numbers = self.constant(argument).astype(np.int32)
        return Value(self.net.raw(argument.name, numbers), tuple(range(numbers.ndim)))

    def output(self, node: fx.Node) -> Output:
        """Name, range and activation of what a node and those fused to it make."""
        fused = self.fused(node)
        low, high = self.range(fused.last)
        return Output(fused.last.name, low, high, fused.activation)

    def range(self, node: fx.Node) -> tuple[float, float]:
        """Least and greatest value that calibration saw."""
        return self._ranges.get(node, (0.0, 0.0))

    def refuse(self, node: fx.Node, why: str = "") -> RefusedError:
        """The error that names module, operator and line."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", self.title)
        kind = kind if isinstance(kind, str) else kind.__name__
        where = f"layer {path!r} ({kind.rsplit('.', 1)[-1]}) of {self.title}" if path else self.title
        reason = f": {why}" if why else ""
        sentence = f"{where} uses {node.target}, not covered by int8 TFLite{reason}"
        return RefusedError(sentence, location_of(node))

    def _input(self, node: fx.Node) -> None:
        example = node.meta["val"]
        order = channels_last(4) if example.ndim == 4 else tuple(range(example.ndim))
        shape = [example.shape[axis] for axis in order]
        if example.is_floating_point():
            tensor = self.net.activation(node.name, shape, *self.range(node))
        elif example.dtype in _BYTES and all(is_check(user) or _makes_floats(user) for user in node.users):
            # Pixels are exact in steps of one.
            tensor = self.net.activation(node.name, shape, *_BYTES[example.dtype])
        else:
            tensor = self.net.integers(node.name, shape)
        self.net.inputs.append(tensor)
        self._known[node] = Value(tensor, order)

    def _output(self, node: fx.Node) -> None:
        for result in _returned(node):
            known = self._known[result]
            if not isinstance(known, Value):
                msg = f"output {result.name!r} of {self.title} does not depend on its inputs"
                raise UnsupportedError(msg)
            order = channels_last(4) if len(known.order) == 4 else range(len(known.order))
            self.net.outputs.append(self.layout.arrange(known, order))

    def _attempt(self, node: fx.Node, rules: dict[str, Rule]) -> None:
        """Add an operator; where it is refused, something of its shape takes its place, so that all are examined."""
        try:
            self._lower(node, rules)
        except RefusedError as error:
            self._refused.append(error)
        except Exception as error:
            if not self._refused:  # otherwise it may come from what took a place
                raise self._explained(node, error) from error
        else:
            return
        last = self.fused(node).last
        self._known[last] = self._stand_in(last.meta.get("val"))

    def _explained(self, node: fx.Node, error: Exception) -> Exception:
        """An error of this package as it is; any other with the operator that a rule was not made for."""
        if isinstance(error, ArgumentError | UnsupportedError):
            return error
        return self.refuse(node, f"its rule fails here ({type(error).__name__}: {error})")

    def _stand_in(self, made: object) -> Any:  # noqa: ANN401 - as deep as what it stands for
        if isinstance(made, tuple | list):
            return [self._stand_in(item) for item in made]
        shape = made.shape if isinstance(made, Tensor) else ()
        return Value(self.net.activation("refused", shape, 0.0, 1.0), tuple(range(len(shape))))

    def _lower(self, node: fx.Node, rules: dict[str, Rule]) -> None:
        if node.op == "get_attr":
            found = self._graph
            for part in str(node.target).split("."):
                found = getattr(found, part)
            self._known[node] = found
            return
        name = operator_name(node)
        if name == "getitem":
            self._known[node] = self._known[node.all_input_nodes[0]][node.args[1]]
        elif name in _BY_SHAPE or all(isinstance(self._known[source], Tensor) for source in node.all_input_nodes):
            self._known[node] = self._folded(node)
        elif name in rules:
            if name not in _MOVING and any(map(self._is_whole, node.all_input_nodes)):
                raise self.refuse(node, "whole numbers are only moved and looked up there")
            before = len(self.net.steps)
            self._known[self.fused(node).last] = rules[name](self, node)
            made = [self.net.name(place) for step in self.net.steps[before:] for place in step.outputs]
            line = location_of(node)
            self.places.update({} if line is None else dict.fromkeys(made, line))
        else:
            raise self.refuse(node)

    def _is_whole(self, source: fx.Node) -> bool:
        known = self._known[source]
        return isinstance(known, Value) and self.net.whole(known.tensor)

    def _folded(self, node: fx.Node) -> Tensor | Sequence[Tensor]:
        """The result of a node that depends on constants only, or on the shape of others."""

        def number(source: fx.Node) -> Any:  # noqa: ANN401
            known = self._known[source]
            return known if isinstance(known, Tensor) else torch.empty(source.meta["val"].shape)

        arguments, keywords = map_arg((node.args, dict(node.kwargs)), number)
        with torch.no_grad():
            assert callable(node.target)  # nodes that call something do
            return node.target(*arguments, **keywords)


def _returned(node: fx.Node) -> list[fx.Node]:
    """What the module returns, in order and as often as it returns it; numbers and None have no place in a file."""
    return [item for item in tree_leaves(node.args) if isinstance(item, fx.Node)]


def _makes_floats(node: fx.Node) -> bool:
    """Whether a node makes floats of the whole numbers that it reads: a cast, or arithmetic with floats."""
    return operator_name(node) in _FLOATING and node.meta["val"].is_floating_point()
