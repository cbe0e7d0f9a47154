# SPDX-License-Identifier: Apache-2.0
"""A plan of number formats carried out in the graph itself: casts around every matrix operator, weights already cast.

A plan that only stands in a report has to be carried out by hand. Here the rewritten network is exported once more
with what torch and every compiler of its programs have types for: bf16 and fp16. What they have no type for is said,
not pretended: tf32 stays fp32 in the graph (a flag of the compiler or of the library turns it on), and 8-bit floats
with a scale of their own tensor run in bf16, which has all their values and five bits more.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx import traceback
from torch.fx.node import map_aggregate, map_arg

from sirdar.deploy.capture import Captured, fresh, quiet
from sirdar.deploy.emulation import Formats, is_matrix
from sirdar.errors import UnsupportedError
from sirdar.workload.counting import is_check, kind_of

_TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WIDER = {"e4m3": "bf16", "e4m3fn": "bf16", "e5m2": "bf16", "e3m4": "bf16"}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Carried:
    """A network that runs in the formats of a plan by itself.

    Args:
        program: with casts; inputs and outputs have the types of the original.
        wider: layers whose planned format has no type here, with the format that they run in instead.
    """

    program: ExportedProgram
    wider: Mapping[str, str]


def carried_format(name: str) -> str:
    """The format that a layer planned in `name` runs in when types of torch carry it.

    Raises:
        UnsupportedError: there is none, as for int8.
    """
    found = name if name in _TYPES else _WIDER.get(name)
    if found is None:
        msg = f"a cast cannot carry {name}"
        raise UnsupportedError(msg)
    return found


def changes_anything(formats: Formats) -> bool:
    """Whether a plan asks for any type but that of the graph; false for int8, which files of another kind carry."""
    names = {*formats.layers.values(), formats.default, formats.storage}
    if not names <= {*_TYPES, *_WIDER}:
        return False
    return any(_TYPES[carried_format(name)] is not torch.float32 for name in names)


def carried(captured: Captured, formats: Formats) -> Carried:
    """The network with the casts of a plan.

    Args:
        captured: the (rewritten) network; it has a program.
        formats: of the plan, layers by the names of the program's nodes.

    Raises:
        UnsupportedError: a format has no type, an operator has no kernel for it, or torch.export refuses the result.
    """
    assert captured.program is not None
    if captured.program.graph_signature.buffers_to_mutate:
        msg = f"{captured.title} changes what it stores when it runs, which casts are not written for"
        raise UnsupportedError(msg)
    graph = captured.program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    network = _Casting(graph, formats)
    try:
        with torch.no_grad(), quiet():
            arguments, keywords = fresh((captured.arguments, captured.keywords))
            network(*arguments, **keywords)  # finds which weights are needed in which type
            program = torch.export.export(network, captured.arguments, captured.keywords, strict=False)
    except Exception as error:  # torch raises a dozen unrelated types
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        msg = f"{captured.title} cannot be run with the casts of its plan: {reason}"
        raise UnsupportedError(msg) from error
    wider = {name: carried_format(row) for name, row in formats.layers.items() if row not in _TYPES}
    return Carried(program, wider)


class _Casting(nn.Module):
    """Runs a graph with every value cast as the plan wants; keeps a weight once in each type that is asked for."""

    def __init__(self, graph: fx.GraphModule, formats: Formats) -> None:
        super().__init__()
        self._graph = [graph]  # in a list: its weights are not to be kept beside the cast ones
        self._formats = formats
        self.stored = _TYPES[carried_format(formats.storage)]

    def forward(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever the network takes
        graph = self._graph[0]
        with traceback.preserve_node_meta() if torch.compiler.is_exporting() else nullcontext():
            return _Walk(graph, self).boxed(arguments, keywords)

    def type_of(self, node: fx.Node) -> torch.dtype:
        """What the floats that an operator reads are cast to."""
        return _TYPES[carried_format(self._formats.of(node.name))] if is_matrix(node) else self.stored

    def weight(self, target: str, dtype: torch.dtype) -> Any:  # noqa: ANN401 - a constant may be no tensor
        """A weight in a type."""
        found: Any = self._graph[0]
        for part in target.split("."):
            found = getattr(found, part)
        if not isinstance(found, Tensor):
            return found
        kind = dtype if found.dtype in _FLOATS else found.dtype
        name = f"{target.replace('.', '_')}_{str(kind).removeprefix('torch.')}"
        if name not in self._buffers:
            self.register_buffer(name, found.detach().to(kind))
        return self.get_buffer(name)


class _Walk(fx.Interpreter):
    """One run of the graph."""

    def __init__(self, graph: fx.GraphModule, owner: _Casting) -> None:
        super().__init__(graph)
        self.owner = owner

    def boxed(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run as the graph's own forward would, with its flat inputs and nested outputs."""
        graph: Any = self.graph
        codegen = graph._codegen
        flat = codegen.process_inputs(*_ordered(codegen, arguments, keywords))
        return codegen.process_outputs(self.run(*flat, enable_io_processing=False))

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - whatever a node makes
        if n.op == "call_function":
            if is_check(n):
                return None  # it speaks of a type that a cast may change
            with self._set_current_node(n):
                return self._computed(n)
        if n.op == "output":
            return self._returned(n)
        return None if n.op == "get_attr" else super().run_node(n)

    def _computed(self, node: fx.Node) -> Any:  # noqa: ANN401
        if kind_of(node) == "view" and self._constant(node):
            return None  # made in the type of whoever reads it
        dtype = self.owner.type_of(node)
        target: Any = node.target
        arguments, keywords = map_arg((node.args, dict(node.kwargs)), lambda source: self._cast(source, dtype))
        return map_aggregate(target(*arguments, **keywords), lambda item: _to(item, self.owner.stored))

    def _cast(self, node: fx.Node, dtype: torch.dtype) -> Any:  # noqa: ANN401
        if not self._constant(node):
            return _to(self.env[node], dtype)
        if node.op == "get_attr":
            return self.owner.weight(str(node.target), dtype)
        target: Any = node.target
        arguments, keywords = map_arg((node.args, dict(node.kwargs)), lambda source: self._cast(source, dtype))
        return target(*arguments, **keywords)

    def _constant(self, node: fx.Node) -> bool:
        """Whether a node is a weight, or a view of one."""
        while node.op == "call_function" and kind_of(node) == "view" and len(node.all_input_nodes) == 1:
            node = node.all_input_nodes[0]
        return node.op == "get_attr"

    def _returned(self, node: fx.Node) -> Any:  # noqa: ANN401
        """Outputs in the types that the graph has for them."""

        def original(source: fx.Node) -> Any:  # noqa: ANN401
            made = source.meta.get("val")
            dtype = made.dtype if isinstance(made, Tensor) else torch.float32
            return self._cast(source, dtype)

        return map_arg(node.args[0], original)


def _ordered(codegen: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Iterator[Any]:  # noqa: ANN401
    """Arguments in the order of the graph's own signature."""
    names = codegen.pytree_info.orig_args
    names = names[1:] if names and names[0] == "self" else names
    yield from arguments
    yield from (keywords[name] for name in names[len(arguments) :])


def _to(item: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    if not isinstance(item, Tensor) or item.dtype not in _FLOATS or item.dtype is dtype:
        return item
    return torch.ops.aten._to_copy.default(item, dtype=dtype)
