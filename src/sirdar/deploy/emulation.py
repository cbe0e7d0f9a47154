# SPDX-License-Identifier: Apache-2.0
"""A network run in a chip's number formats, operator by operator, beside the same network in fp32.

Factors of matrix products and convolutions are rounded to the format of their layer, sums are kept in fp32, and their
result is a number of two bytes, as torch and the chips' libraries give it. Every result is rounded to the format that
activations are stored in. 8-bit floats carry one scale for each tensor
(Micikevicius et al., arXiv 2209.05433, section 3); wider formats carry none, so that a value beyond their range becomes
infinite here as it would there. What hides scores from a softmax, minus infinity or what stands for it, sets no scale:
in 8 bits it is a score far below the others, as files for accelerators have it.
"""

import math
import operator as python_operator
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.fx.immutable_collections import immutable_list
from torch.fx.node import map_aggregate, map_arg
from torch.utils import _pytree as pytree

from sirdar.deploy.capture import Captured, drawn_alike
from sirdar.deploy.conditions import constants_of
from sirdar.deploy.nodes import draws, name_of
from sirdar.deploy.room import shortage
from sirdar.deploy.tflite.compositions import HIDDEN
from sirdar.deploy.tflite.masks import BEYOND
from sirdar.errors import UnsupportedError
from sirdar.numerics.formats import BLOCK_FORMATS, format_named
from sirdar.numerics.rounding import quantise
from sirdar.numerics.scaling import scaled_rounding
from sirdar.workload.counting import is_check, kind_of

MATRIX = ("matmul", "conv", "attention")
# Places of the factors.
_FACTORS = {"addmm": (1, 2), "addbmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2), "convolution": (0, 1)}
_HALVES = (torch.float16, torch.bfloat16)
_NARROW = (torch.float8_e4m3fn, torch.float8_e5m2)
BLOCKS = frozenset(row.name for row in BLOCK_FORMATS)
_CASTS, _SMALL = {"fp16": torch.float16, "bf16": torch.bfloat16}, 1 << 16
_ROOM_BYTES = 1 << 28  # of rounded weights that are kept for the next run, however small the network is
_READERS = frozenset(("_softmax", "eq"))  # of scores: torch asks whether a whole row is hidden
_RESULTS = {"fp16": "fp16", "bf16": "bf16", "e4m3": "bf16", "e4m3fn": "bf16", "e5m2": "bf16", "e3m4": "bf16"}


@dataclass(frozen=True)
class Formats:
    """Number formats of a run.

    Args:
        layers: format of the factors of a matrix operator, by node name; `default` for all others.
        default: of matrix operators that `layers` does not name.
        storage: of what operators put out, and of weights outside matrix products.
    """

    layers: Mapping[str, str] = field(default_factory=dict, hash=False)
    default: str = "fp32"
    storage: str = "fp32"

    def of(self, name: str) -> str:
        """The format of a matrix operator."""
        return self.layers.get(name, self.default)


@dataclass(frozen=True)
class Step:
    """What one operator made, in fp32 and in the formats of the run.

    Args:
        node: the operator.
        exact: its result in fp32.
        rounded: its result in the formats of the run, from rounded inputs.
    """

    node: fx.Node
    exact: torch.Tensor
    rounded: torch.Tensor


class Rounded:
    """Rounded weights that were used last: they are the same in every run.

    A network in every format is many times its size, so only as many bytes are kept as it has itself, or little more.

    Args:
        room_bytes: of all that is kept.
    """

    def __init__(self, room_bytes: int = _ROOM_BYTES) -> None:
        self.room_bytes, self.bytes = room_bytes, 0
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}  # what was used last stands at the end

    def of(self, key: tuple[object, ...], make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What was kept under a key, otherwise what `make` makes."""
        found = self._kept.pop(key, None)
        if found is None:
            found = make()
            self.bytes += _bytes(found)
        self._kept[key] = found
        while self.bytes > self.room_bytes:
            self.bytes -= _bytes(self._kept.pop(next(iter(self._kept))))
        return found


@dataclass(frozen=True)
class Network:
    """An exported program made ready to be run node by node.

    Args:
        program: core ATen operators.
        values: what each placeholder holds, halves and doubles as fp32.
        ends: nodes whose values may be forgotten after a node has run.
        results: the nodes that the caller gets back.
        masked: scores that only softmaxes read, and what is added to them.
        weights: rounded weights that were needed last.
    """

    program: ExportedProgram
    values: Mapping[str, Any]
    ends: Mapping[fx.Node, list[fx.Node]]
    results: tuple[fx.Node, ...]
    masked: frozenset[fx.Node]
    weights: Rounded = field(default_factory=Rounded, compare=False)

    def weight(self, node: object) -> torch.Tensor | None:
        """The weight that a node is, or is a view of; None for all other nodes."""
        while isinstance(node, fx.Node) and node.op == "call_function" and kind_of(node) == "view":
            node = node.args[0]
        if not isinstance(node, fx.Node) or node.op != "placeholder" or node.name in self.passed:
            return None
        value = self.values[node.name]
        return value if isinstance(value, torch.Tensor) else None

    @property
    def passed(self) -> frozenset[str]:
        """Names of the placeholders that the caller passes in."""
        return frozenset(str(name) for name in self.program.graph_signature.user_inputs)


def network(captured: Captured) -> Network:
    """A captured network with its weights and its example.

    Raises:
        UnsupportedError: it was not captured, its inputs are not those of the example, or there is not the memory for
            its weights in fp32.
    """
    program = captured.program
    if program is None:
        msg = f"{captured.title} was not exported, so it cannot be run in other formats"
        raise UnsupportedError(msg)
    flat = pytree.tree_leaves((captured.arguments, captured.keywords), is_leaf=lambda item: item is None)
    places = [node for node in program.graph.nodes if node.op == "placeholder"]
    values: dict[str, Any] = dict(constants_of(program))
    wanted = [node for node in places if node.name not in values]
    if len(wanted) != len(flat):
        msg = f"{captured.title} takes {len(wanted)} inputs, but the example has {len(flat)}"
        raise UnsupportedError(msg)
    if any(isinstance(item, torch.Tensor) and item.is_meta for item in (*values.values(), *flat)):
        msg = f"{captured.title} has weights or inputs without values (on the meta device), so it cannot be run"
        raise UnsupportedError(msg)
    if any(isinstance(item, torch.Tensor) and item.layout is not torch.strided for item in (*values.values(), *flat)):
        msg = f"{captured.title} has sparse weights or inputs, which are not rounded here"
        raise UnsupportedError(msg)
    values |= {node.name: value for node, value in zip(wanted, flat, strict=True)}
    needed = 4 * sum(value.numel() for value in values.values() if _is_widened(value))
    if short := shortage(needed, f"{captured.title} in fp32"):
        raise UnsupportedError(short)
    wide = {name: _widened(value) for name, value in values.items()}
    room = max(_ROOM_BYTES, sum(_bytes(value) for value in wide.values() if isinstance(value, torch.Tensor)))
    return Network(program, wide, _ends(program), _results(program), _masked(program), Rounded(room))


def run(net: Network, formats: Formats) -> Iterator[Step]:
    """Run a network twice in lockstep; every operator whose result is a tensor of floats, or is put out, in order.

    Raises:
        UnsupportedError: an operator cannot be run one by one.
    """
    exact: dict[fx.Node, Any] = {}
    rounded: dict[fx.Node, Any] = {}
    wanted = set(net.results)
    for node in net.program.graph.nodes:
        if node.op == "placeholder":
            exact[node] = rounded[node] = net.values[node.name]
        elif node.op == "call_function":
            exact[node] = plain(node, exact)
            rounded[node] = narrowed(net, node, rounded, formats)
            if _floating(exact[node]) or (isinstance(exact[node], torch.Tensor) and node in wanted):
                yield Step(node, exact[node], rounded[node])
        for gone in net.ends.get(node, ()):
            del exact[gone], rounded[gone]


def outputs(net: Network, formats: Formats | None = None) -> list[torch.Tensor]:
    """What the network puts out: in fp32, or in the formats of a run.

    Raises:
        UnsupportedError: an operator cannot be run one by one.
    """
    values: dict[fx.Node, Any] = {}
    for node in net.program.graph.nodes:
        if node.op == "placeholder":
            values[node] = net.values[node.name]
        elif node.op == "call_function":
            values[node] = plain(node, values) if formats is None else narrowed(net, node, values, formats)
        for gone in net.ends.get(node, ()):
            del values[gone]
    found = [values[node] for node in net.results]
    return [item for item in found if isinstance(item, torch.Tensor)]


def plain(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:  # noqa: ANN401
    """An operator's result in fp32; None for the checks that torch.export leaves in its graphs."""
    if is_check(node):
        return None
    return computed(node, filled(node.args, values), filled(node.kwargs, values))


def narrowed(net: Network, node: fx.Node, values: Mapping[fx.Node, Any], formats: Formats) -> Any:  # noqa: ANN401
    """An operator's result in the formats of a run."""
    if node.target is python_operator.getitem or kind_of(node) == "view" or is_check(node):
        return plain(node, values)
    arguments = filled(node.args, values)
    if is_matrix(node):
        result = product(net, node, (arguments, filled(node.kwargs, values)), formats.of(node.name))
        return map_aggregate(result, lambda item: _stored(item, formats.storage))
    if formats.storage != "fp32":  # inputs and weights have not been rounded yet; twice changes nothing
        arguments = tuple(
            (item if source in net.masked else _factor(source, item, formats.storage, net))
            if isinstance(source, fx.Node)
            else map_aggregate(item, lambda inner: _stored(inner, formats.storage))
            for source, item in zip(node.args, arguments, strict=True)
        )
    result = computed(node, arguments, filled(node.kwargs, values))
    if node in net.masked and _has_scale(formats.storage):
        hidden = result <= BEYOND
        if bool(hidden.all()):  # which an empty result is too
            return result
        result = torch.where(hidden, result.masked_fill(hidden, math.inf).amin() + HIDDEN, result)
    return map_aggregate(result, lambda item: _stored(item, formats.storage))


def relative_error(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Root of the mean square of the difference over that of the exact values, the worst of several tensors.

    A result that is not finite where the exact one is counts as an infinite error. Of whole numbers, such as classes,
    the error is the share that differs.
    """
    worst = 0.0
    for exact, rounded in pairs:
        if not exact.is_floating_point():
            worst = max(worst, float((exact != rounded).double().mean()) if exact.numel() else 0.0)
            continue
        difference = rounded - exact
        keep = exact.abs() < 1e30  # masks of attention are as good as infinite; false for what is not a number
        if not bool(keep.all()):
            if not bool(keep.any()):
                continue
            difference = torch.where(keep, difference, torch.zeros_like(exact))
            exact = torch.where(keep, exact, torch.zeros_like(exact))
        size, gap = _norm(exact), _norm(difference)
        if not math.isfinite(gap):
            return float("inf")
        worst = max(worst, gap / size if size > 0 else float(gap > 0))
    return worst


def _norm(x: torch.Tensor) -> float:
    """Root of the sum of squares, added in fp64."""
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def is_matrix(node: fx.Node) -> bool:
    """Whether a node is a matrix product, convolution or attention of floats."""
    made = node.meta.get("val")
    first = made[0] if isinstance(made, tuple | list) and made else made
    return node.op == "call_function" and kind_of(node) in MATRIX and _floating(first)


def rounded_to(x: torch.Tensor, name: str) -> torch.Tensor:
    """Values in a number format: 8 bits with a scale of the tensor, wider formats as they are."""
    if name == "fp32" or not x.numel():
        return x
    once = _once(x, name)
    return _rounded(once, name).expand(x.shape)


def _once(x: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor less its repetitions: one entry of each axis that `expand` made, but for the axis of blocks."""
    for axis in range(x.ndim - (name in BLOCKS)):
        if x.stride(axis) == 0 and x.shape[axis] > 1:
            x = x.narrow(axis, 0, 1)
    return x


def _rounded(x: torch.Tensor, name: str) -> torch.Tensor:
    if name in _CASTS and x.numel() < _SMALL:  # the same bits; `quantise` is the faster one for many values
        return x.to(_CASTS[name]).float()
    if name in BLOCKS:
        return scaled_rounding(x, name, scaling="tensor")
    order = sorted(range(x.ndim), key=lambda axis: -x.stride(axis))
    lying = x.permute(order)  # as it lies in memory: a transposed weight need not be copied first
    scaled = _has_scale(name)
    found = scaled_rounding(lying, name, scaling="tensor") if scaled else quantise(lying, name, overflow="ieee")
    return found.permute([order.index(axis) for axis in range(x.ndim)])


def _has_scale(name: str) -> bool:
    """Whether tensors of a format carry a scale."""
    return name in BLOCKS or format_named(name).bits <= 8


def computed(node: fx.Node, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:  # noqa: ANN401
    """An operator on real values, in fp32 wherever the graph asks for halves or doubles.

    Raises:
        UnsupportedError: torch cannot compute it.
    """
    arguments = tuple(map(_wide, _listed(arguments)))
    keywords = {key: _wide(value) for key, value in keywords.items() if key != "device"}
    target: Any = node.target
    if name_of(node) in ("view", "_unsafe_view"):  # rounded values lie in memory as they are, not as was recorded
        target = torch.reshape
    try:
        with _draws(node):
            return _widened_all(target(*arguments, **keywords))
    except (RuntimeError, NotImplementedError, TypeError, IndexError) as error:
        msg = f"operator {name_of(node)} cannot be computed: {str(error).splitlines()[0]}"
        raise UnsupportedError(msg) from error


def _wide(item: Any) -> Any:  # noqa: ANN401
    """fp32 for a type of two bytes or of eight; everything else as it is."""
    return torch.float32 if isinstance(item, torch.dtype) and item in (*_HALVES, torch.float64) else item


def _draws(node: fx.Node) -> AbstractContextManager[None]:
    """An operator that draws does so alike in every run, and otherwise than all others."""
    return drawn_alike(zlib.crc32(node.name.encode())) if draws(node) else nullcontext()


def _listed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(list(item) if isinstance(item, immutable_list) else item for item in arguments)


def product(net: Network, node: fx.Node, given: tuple[Any, dict[str, Any]], name: str) -> Any:  # noqa: ANN401
    """A matrix operator with its factors in a format, and its result in the type of two bytes that casts to it give."""
    arguments, keywords = given
    result = computed(node, factors(node, arguments, name, net), keywords)
    return _stored(result, _RESULTS.get(name, "fp32"))


def factors(node: fx.Node, arguments: Any, name: str, net: Network) -> tuple[Any, ...]:  # noqa: ANN401
    """The arguments of a matrix operator with its factors in a format, and biases in that of the result."""
    places = _FACTORS.get(name_of(node), (0, 1, 2) if kind_of(node) == "attention" else (0, 1))
    return tuple(
        _factor(node.args[place], item, name if place in places else _RESULTS.get(name, "fp32"), net)
        for place, item in enumerate(arguments)
    )


def filled(arguments: Any, values: Mapping[fx.Node, Any]) -> Any:  # noqa: ANN401
    """Arguments with values in place of nodes."""
    return map_arg(arguments, lambda node: values[node])


def _factor(source: object, item: Any, name: str, net: Network) -> Any:  # noqa: ANN401
    if not _floating(item) or name == "fp32":
        return item
    weight = net.weight(source)
    if weight is None or weight.untyped_storage().data_ptr() != item.untyped_storage().data_ptr():
        return rounded_to(item, name)
    # A network unrolled in time views one weight at every step: views of the same values are rounded once.
    key = name, item.data_ptr(), tuple(item.shape), item.stride()
    return net.weights.of(key, lambda: rounded_to(item, name))


def _stored(item: Any, storage: str) -> Any:  # noqa: ANN401
    return rounded_to(item, storage) if storage != "fp32" and _floating(item) else item


def _bytes(x: torch.Tensor) -> int:
    """Bytes that a tensor keeps alive."""
    return x.untyped_storage().nbytes()


def _floating(item: object) -> bool:
    return isinstance(item, torch.Tensor) and item.is_floating_point()


def _is_widened(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (*_HALVES, *_NARROW, torch.float64)


def _widened(value: Any) -> Any:  # noqa: ANN401
    if _is_widened(value):
        return value.detach().float()
    return value.detach() if isinstance(value, torch.Tensor) else value


def _widened_all(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, tuple | list):
        return type(value)(_widened_all(item) for item in value) if type(value) in (tuple, list) else value
    return value.float() if _is_widened(value) else value


def _ends(program: ExportedProgram) -> dict[fx.Node, list[fx.Node]]:
    last: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        if node.op == "output":
            for source in node.all_input_nodes:
                last.pop(source, None)
        elif node.op == "call_function":
            last.update(dict.fromkeys(node.all_input_nodes, node))
            if not node.users:
                last[node] = node
    ends: dict[fx.Node, list[fx.Node]] = {}
    for node, end in last.items():
        ends.setdefault(end, []).append(node)
    return ends


def _masked(program: ExportedProgram) -> frozenset[fx.Node]:
    found: set[fx.Node] = set()
    for node in program.graph.nodes:
        readers = {name_of(user) for user in node.users if user.op == "call_function"}
        if node.op != "call_function" or "_softmax" not in readers or not _READERS.issuperset(readers):
            continue
        found.add(node)
        if name_of(node) == "add":
            found.update(map(_origin, node.all_input_nodes))
    choices = [node for node in found if name_of(node) == "where"]
    return frozenset(found.union(*(node.all_input_nodes[1:] for node in choices)))


def _origin(node: fx.Node) -> fx.Node:
    """What a node is a view of."""
    while node.op == "call_function" and kind_of(node) == "view":
        node = node.all_input_nodes[0]
    return node


def _results(program: ExportedProgram) -> tuple[fx.Node, ...]:
    by_name = {node.name: node for node in program.graph.nodes}
    return tuple(by_name[name] for name in program.graph_signature.user_outputs if isinstance(name, str))
