# SPDX-License-Identifier: Apache-2.0
"""From a torch module to a `Graph`, through torch.export and the core ATen operators it decomposes into.

Work is counted as torch.utils.flop_counter counts it (a multiply-accumulate per product of a convolution or matrix
multiplication), and one operation per value for everything elementwise. Views cost nothing, and a view of a weight is
that weight: an operator lists the parameters it reads as they lie in memory.
"""

import contextlib
import io
import logging
import operator as python_operator
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.nn.attention import SDPBackend, sdpa_kernel

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.buffers import written_in_place
from sirdar.workload.counting import attributes_of, flops_of, is_check, kind_of, macs_of
from sirdar.workload.graph import Graph, Operator, TensorSpec

Example = torch.Tensor | tuple[Any, ...] | dict[str, Any]

_DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float64: "fp64",
    torch.float8_e4m3fn: "e4m3fn",
    torch.float8_e5m2: "e5m2",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.bool: "bool",
}


# One pass over memory on any chip, as GELU and ReLU, which torch keeps whole by itself; taken apart, each step would be
# charged with one. Attention's softmax would look at every score for rows that are masked whole.
_WHOLE = (
    torch.ops.aten._safe_softmax.default,
    torch.ops.aten.hardsigmoid.default,
    torch.ops.aten.hardswish.default,
    torch.ops.aten.mish.default,
    torch.ops.aten.prelu.default,
    torch.ops.aten.silu.default,
    torch.ops.aten.softplus.default,
)


def trace(module: nn.Module, example: Example, title: str | None = None) -> Graph:
    """The operators of a network for inputs shaped like an example.

    The module is traced in evaluation mode and left in the mode it was in; its weights are not touched.

    Args:
        module: any module that torch.export can follow.
        example: one tensor, a tuple of positional arguments, or a dictionary of keyword arguments.
        title: what graph and errors call the network; the name of the module's class where None.

    Returns:
        A graph in the order of its program; `sirdar.workload.order` looks for the one that needs the least memory.
        Operators that are not covered stand in it as "unknown".

    Raises:
        ArgumentError: the example is none of the three.
        UnsupportedError: torch.export cannot follow the module; the sentence names it and gives torch's reason.
    """
    title = type(module).__name__ if title is None else title
    return graph_of(_exported(module, example, title), title)


def graph_of(program: ExportedProgram, title: str) -> Graph:
    """The operators of a program that was exported already; nothing of it is run.

    Raises:
        UnsupportedError: a tensor has a data-dependent shape or a type without a format.
    """
    return _Reader(program, title).graph()


def reduced(program: ExportedProgram, *, whole: Iterable[torch._ops.OpOverload] = ()) -> ExportedProgram:
    """A program of core ATen operators, and of those that are to stay whole.

    Fused attention on a processor returns strides that some programs cannot view as they were recorded (torch 2.13,
    GPT-2); written out as products and a softmax it has none to keep.
    """
    table = default_decompositions()
    for operator in whole:
        table.pop(operator)
    try:
        return program.run_decompositions(table)
    except (RuntimeError, ValueError):
        with sdpa_kernel([SDPBackend.MATH]):
            return program.run_decompositions(table)


def _exported(module: nn.Module, example: Example, title: str) -> ExportedProgram:
    arguments, keywords = split(example)
    with evaluating(module), quiet():
        try:
            return reduced(torch.export.export(module, arguments, keywords), whole=_WHOLE)
        except Exception as error:  # torch.export raises a dozen unrelated types
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            msg = f"torch.export cannot follow {title}, so its operators are not known: {reason}"
            raise UnsupportedError(msg) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warnings, and without the graphs and log lines that it prints where it fails."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def split(example: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of an example.

    Raises:
        ArgumentError: it is neither a tensor nor a tuple nor a dictionary.
    """
    if isinstance(example, torch.Tensor):
        return (example,), {}
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, dict):
        return (), example
    msg = f"example must be a tensor, a tuple or a dict of arguments, got {type(example).__name__}"
    raise ArgumentError(msg)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode and without gradients; it is left as it was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def _module_of(node: fx.Node) -> str:
    """Path of the module whose code a node comes from; empty for the network's own, and where torch does not say."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("L[") else path


class _Reader:
    """Walks the nodes of an exported program once and collects operators.

    `values` maps a node to what its readers see: an activation or a weight.
    """

    def __init__(self, program: ExportedProgram, title: str) -> None:
        self.program = program
        self.title = title
        self.activations: dict[fx.Node, TensorSpec] = {}
        self.weights: dict[fx.Node, TensorSpec] = {}
        self.operators: list[Operator] = []
        self.written: Mapping[fx.Node, int] = {}  # who writes into a buffer where it lies, and how many values

    def graph(self) -> Graph:
        inputs = self._placeholders()
        self.written = written_in_place(self.program)
        for node in self.program.graph.nodes:
            computes = node.op == "call_function" and node.target is not python_operator.getitem
            if computes and not is_check(node):
                self._read(node)
        outputs = tuple(dict.fromkeys(self._outputs()))
        return Graph(tuple(self.operators), inputs, outputs, self.title)

    def _placeholders(self) -> tuple[TensorSpec, ...]:
        roles = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        inputs: list[TensorSpec] = []
        for node in self.program.graph.find_nodes(op="placeholder"):
            if isinstance(roles[node.name].arg, ConstantArgument) or not isinstance(node.meta["val"], torch.Tensor):
                continue
            if roles[node.name].kind is InputKind.USER_INPUT:
                self.activations[node] = self._spec(node.meta["val"], node.name)
                inputs.append(self.activations[node])
            else:
                self.weights[node] = self._spec(node.meta["val"], roles[node.name].target or node.name)
        return tuple(inputs)

    def _outputs(self) -> Iterator[str]:
        by_name = {node.name: spec.name for node, spec in (self.activations | self.weights).items()}
        for name in self.program.graph_signature.user_outputs:
            if isinstance(name, str) and name in by_name:
                yield by_name[name]

    def _read(self, node: fx.Node) -> None:
        kind = kind_of(node)
        outputs = self._made_by(node)
        sources = node.all_input_nodes
        if kind == "view" and sources and sources[0] in self.weights:
            self.weights.update(dict.fromkeys(outputs, self.weights[sources[0]]))
            return
        if node in self.written:
            self.weights.update(dict.fromkeys(outputs, self.weights[sources[0]]))
            outputs = {}
        self.activations.update(outputs)
        inputs = [self.activations[source] for source in sources if source in self.activations]
        weights = [self.weights[source] for source in sources if source in self.weights]
        self.operators.append(
            Operator(
                name=node.name,
                kind=kind,
                inputs=tuple(dict.fromkeys(inputs)),
                outputs=tuple(outputs.values()),
                weights=tuple(dict.fromkeys(weights)),
                macs=macs_of(node),
                flops=flops_of(node, kind),
                attributes=self._attributes(node, kind),
                module=_module_of(node),
            )
        )

    def _attributes(self, node: fx.Node, kind: str) -> Mapping[str, Any]:
        slices = self._slices(node)
        return {"target": str(node.target), **attributes_of(node, kind), **({"slices": slices} if slices else {})}

    def _slices(self, node: fx.Node) -> dict[str, int]:
        """How many values of a weight a node reads or writes, for weights of which it sees a part only."""
        read: dict[str, int] = defaultdict(int)
        whole: dict[str, int] = {}
        for source in node.all_input_nodes:
            if source in self.weights:
                weight = self.weights[source]
                written = self.written.get(node) if source is node.args[0] else None
                read[weight.name] += source.meta["val"].numel() if written is None else written
                whole[weight.name] = weight.elements
        return {name: values for name, values in read.items() if values < whole[name]}

    def _made_by(self, node: fx.Node) -> dict[fx.Node, TensorSpec]:
        """The tensors that someone reads of what a node makes: one, or its elements taken by `getitem`."""
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            return {node: self._spec(value, node.name)}
        taken = [user for user in node.users if user.target is python_operator.getitem and user.users]
        return {user: self._spec(user.meta["val"], user.name) for user in taken}

    def _spec(self, value: torch.Tensor, name: str) -> TensorSpec:
        if not all(isinstance(size, int) for size in value.shape):
            msg = (
                f"{self.title} has a tensor {name!r} of data-dependent shape {tuple(value.shape)}; shapes must be fixed"
            )
            raise UnsupportedError(msg)
        if value.dtype.is_complex:
            msg = (
                f"{self.title} computes with complex numbers ({name!r} is {value.dtype}), as Fourier transforms do: "
                "that work is not estimated; give real and imaginary parts as two tensors, or the transform as a matrix"
            )
            raise UnsupportedError(msg)
        if value.dtype not in _DTYPES:
            msg = f"{self.title} has a tensor {name!r} of type {value.dtype}, which no chip here is described for"
            raise UnsupportedError(msg)
        return TensorSpec(tuple(value.shape), _DTYPES[value.dtype], name)
