# SPDX-License-Identifier: Apache-2.0
"""The rewrites themselves: each edits one kind of operator in a graph into others that compute the same numbers.

A rewrite returns the names of the nodes that it changed; none where it would not be safe. Ranges decide what is safe:
fp32 holds every integer up to 2**24.
"""

import itertools
import math
import operator as python_operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from sirdar.deploy.nodes import argument, dtype_name, first_read, made_by, name_of, whole_numbers
from sirdar.deploy.ranges import Interval
from sirdar.errors import ArgumentError
from sirdar.numerics.formats import format_named
from sirdar.numerics.rounding import quantise

aten: Any = torch.ops.aten
EXACT_IN_FP32 = 2**24
_INT32 = (-(2**31), 2**31 - 1)
_NEEDS_LONG = frozenset(
    (
        *("gather", "scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "take_along_dim"),
        *("index_put", "index", "_unsafe_index"),
    )
)
_MAKERS = frozenset(
    (
        *("arange", "full", "scalar_tensor", "zeros", "ones", "full_like", "zeros_like", "ones_like"),
        *("new_full", "new_zeros", "new_ones"),
    )
)


@dataclass
class Draft:
    """A graph that is being edited.

    Args:
        module: with the weights as attributes.
        ranges: what integers can be, by node name.
        fresh: counts the weights that were added.
    """

    module: fx.GraphModule
    ranges: Mapping[str, Interval]
    fresh: int = field(default=0)

    def nodes(self, names: Iterable[str]) -> list[fx.Node]:
        """The nodes of these names that still stand in the graph, in order."""
        wanted = set(names)
        return [node for node in self.module.graph.nodes if node.name in wanted]

    def span(self, node: object) -> Interval | None:
        """What a node can be; None where that is not known."""
        found = self.ranges.get(node.name) if isinstance(node, fx.Node) else None
        return found if found is not None and found.known else None

    def weight(self, node: object) -> torch.Tensor | None:
        """The tensor of a `get_attr` node."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part, None)
        return value.detach() if isinstance(value, torch.Tensor) else None

    def added(self, value: torch.Tensor, before: fx.Node) -> fx.Node:
        """A new constant of the graph, placed before a node."""
        name = f"rewritten_{self.fresh}"
        self.fresh += 1
        self.module.register_buffer(name, value)
        with self.module.graph.inserting_before(before):
            return self.module.graph.get_attr(name)

    def call(self, target: Any, *arguments: Any, like: fx.Node, **keywords: Any) -> fx.Node:  # noqa: ANN401
        """A new operator before `like`, with its source line."""
        with self.module.graph.inserting_before(like):
            node = self.module.graph.call_function(target, arguments, keywords)
        node.meta.update({key: like.meta[key] for key in ("stack_trace", "nn_module_stack") if key in like.meta})
        return node


def _largest(span: Interval | None) -> float:
    return math.inf if span is None else float(max(abs(span.low), abs(span.high)))


def _float_matmul(draft: Draft, node: fx.Node) -> list[str]:
    """Sums of products below 2**24 are exact in fp32."""
    places = (1, 2) if name_of(node) in ("addmm", "baddbmm", "addbmm", "addmv") else (0, 1)
    factors = [node.args[place] for place in places]
    first = factors[0]
    depth = made_by(first)[0].shape[-1] if isinstance(first, fx.Node) else 0
    bound = math.prod(_largest(draft.span(factor)) for factor in factors) * int(depth)
    if places == (1, 2):
        bound += _largest(draft.span(node.args[0]))
    if not bound < EXACT_IN_FP32:
        return []
    return [_in_floats(draft, node, range(len(node.args)))]


def _float_scatter(draft: Draft, node: fx.Node) -> list[str]:
    """As many values as are scattered may meet in one place."""
    name = name_of(node)
    places = (0, 2) if name == "index_put" else (0, 3)
    source = node.args[places[1]]
    count = made_by(source)[0].numel() if isinstance(source, fx.Node) else 1
    most = _largest(draft.span(source)) if isinstance(source, fx.Node) else abs(float(str(source)))
    way = argument(node, 4, "reduce", "sum") if name == "scatter_reduce" else "sum"
    bound = _largest(draft.span(node.args[0])) + (most * count if way == "sum" else most)
    if way not in ("sum", "amax", "amin") or not bound < EXACT_IN_FP32:
        return []
    return [_in_floats(draft, node, places)]


def _float_topk(draft: Draft, node: fx.Node) -> list[str]:
    span = draft.span(node.args[0])
    if not _largest(span) < EXACT_IN_FP32:
        return []
    made = made_by(node)[0].dtype
    node.update_arg(0, draft.call(aten._to_copy.default, node.args[0], like=node, dtype=torch.float32))
    for user in list(node.users):
        if user.target is python_operator.getitem and user.args[1] == 0:
            _cast_after(draft, user, made)
    return [node.name]


def _in_floats(draft: Draft, node: fx.Node, places: Iterable[int]) -> str:
    made = made_by(node)[0].dtype
    for place in places:
        if isinstance(node.args[place], fx.Node):
            node.update_arg(place, draft.call(aten._to_copy.default, node.args[place], like=node, dtype=torch.float32))
    _cast_after(draft, node, made)
    return node.name


def _cast_after(draft: Draft, node: fx.Node, dtype: torch.dtype) -> None:
    with draft.module.graph.inserting_after(node):
        cast = draft.module.graph.call_function(aten._to_copy.default, (node,), {"dtype": dtype})
    cast.meta.update({key: node.meta[key] for key in ("stack_trace", "nn_module_stack") if key in node.meta})
    node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)


def _masked_write(draft: Draft, node: fx.Node) -> list[str]:
    """What is written where a mask holds is chosen by it, if the same is written in every place."""
    held, rows, value = node.args[:3]
    if argument(node, 3, "accumulate", False) or not isinstance(held, fx.Node) or not isinstance(value, fx.Node):
        return []
    if not isinstance(rows, list | tuple) or len(rows) != 1 or not isinstance(rows[0], fx.Node):
        return []
    mask, written = made_by(rows[0])[0], made_by(value)[0]
    rest = made_by(node)[0].ndim - mask.ndim
    if written.numel() != 1 and written.ndim > rest:  # one row for each place
        return []
    if written.numel() == 1:
        value = draft.call(aten.view.default, value, [], like=node)
    spread = draft.call(aten.view.default, rows[0], [*mask.shape, *[1] * rest], like=node)
    chosen = draft.call(aten.where.self, spread, value, held, like=node)
    chosen.meta["val"] = node.meta["val"]  # another write under a mask may follow
    node.replace_all_uses_with(chosen)
    return [node.name]


def _narrow_power(draft: Draft, node: fx.Node) -> list[str]:
    span = draft.span(node)
    base = node.args[0]
    if span is None or not span.within(*_INT32) or not isinstance(base, fx.Node):
        return []
    for place, item in enumerate(node.args):
        if isinstance(item, fx.Node):
            node.update_arg(place, draft.call(aten._to_copy.default, item, like=node, dtype=torch.int32))
    _cast_after(draft, node, torch.int64)
    return [node.name]


def _wide_shift(draft: Draft, node: fx.Node) -> list[str]:
    first = first_read(node)
    if first is None or (first.dtype == torch.int64 and not _fits(draft.span(node.args[0]))):
        return []
    for place, item in enumerate(node.args[:2]):
        if isinstance(item, fx.Node):
            node.update_arg(place, draft.call(aten._to_copy.default, item, like=node, dtype=torch.int32))
    _cast_after(draft, node, first.dtype)
    return [node.name]


def _fits(span: Interval | None) -> bool:
    return span is not None and span.within(*_INT32)


def _spread_kernel(draft: Draft, node: fx.Node) -> list[str]:
    """A dilated kernel is a larger kernel with zeros in between."""
    weight = draft.weight(node.args[1])
    if weight is None:
        return []
    dilation = whole_numbers(node.args[5])
    sizes = [1 + (size - 1) * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
    spread = torch.zeros(*weight.shape[:2], *sizes, dtype=weight.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, step) for step in dilation))] = weight
    node.update_arg(1, draft.added(spread, node))
    node.update_arg(5, [1] * len(dilation))
    return [node.name]


def _slice_pooling(draft: Draft, node: fx.Node) -> list[str]:
    """The maximum over a dilated window is the maximum of as many shifted, strided slices as it has places."""
    source = node.args[0]
    if not isinstance(source, fx.Node) or any(user.args[1:] == (1,) and user.users for user in node.users):
        return []
    rank = 2 if name_of(node) == "max_pool2d_with_indices" else 3
    window, stride, padding, dilation = (_each(argument(node, place, "", ()), rank) for place in (1, 2, 3, 4))
    stride = stride if argument(node, 2, "stride", ()) else window
    padding = padding if argument(node, 3, "padding", ()) else (0,) * rank
    if argument(node, 5, "ceil_mode", False):
        return []
    made = made_by(node)[0]
    edges = [edge for size in reversed(padding) for edge in (size, size)]
    padded = draft.call(aten.constant_pad_nd.default, source, edges, -math.inf, like=node) if any(padding) else source
    best: fx.Node | None = None
    for offsets in itertools.product(*(range(size) for size in window)):
        piece = padded
        for axis, offset in enumerate(offsets):
            start = offset * dilation[axis]
            size = int(made.shape[axis - rank])
            stop = start + (size - 1) * stride[axis] + 1
            piece = draft.call(aten.slice.Tensor, piece, axis - rank, start, stop, stride[axis], like=node)
        best = piece if best is None else draft.call(aten.maximum.default, best, piece, like=node)
    return _taken(node, best)


def _taken(node: fx.Node, value: fx.Node | None) -> list[str]:
    """Everyone who took the first result of a node takes another value instead."""
    if value is None:
        return []
    for user in list(node.users):
        if user.target is python_operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(value)
    return [node.name]


def _each(value: object, count: int) -> tuple[int, ...]:
    numbers = whole_numbers(value)
    return numbers * count if len(numbers) == 1 else numbers or (1,) * count


def _sort_by_topk(draft: Draft, node: fx.Node) -> list[str]:
    """All values in order are the top k of them with k their number; ties may come with other indices."""
    source = first_read(node)
    if name_of(node) != "sort" or source is None or not source.is_floating_point():
        return []
    if any(user.args[1:] == (1,) and user.users for user in node.users):
        return []
    named = "stable" in str(node.target)
    axis = node.kwargs.get("dim", -1) if named else argument(node, 1, "dim", -1)
    down = node.kwargs.get("descending", False) if named else argument(node, 2, "descending", False)
    given = list(node.args)
    if named and len(given) > 1:
        rest = [item for item in given[1:] if item is not None]
        axis = next((item for item in rest if isinstance(item, int) and not isinstance(item, bool)), axis)
        down = given[3] if len(given) > 3 else down
    sizes = list(source.shape)
    count = int(sizes[int(str(axis))]) if sizes else 1
    top = draft.call(aten.topk.default, given[0], count, axis, bool(down), True, like=node)
    return _taken(node, draft.call(python_operator.getitem, top, 0, like=node))


def _narrow_doubles(draft: Draft, node: fx.Node) -> list[str]:
    """fp32 wherever the graph says fp64; what the caller passes in or gets back stays as it is."""
    changed: list[str] = []
    if node.kwargs.get("dtype") == torch.float64:
        node.update_kwarg("dtype", torch.float32)
        changed.append(node.name)
    for place, item in enumerate(node.args):
        if not isinstance(item, fx.Node):
            continue
        weight = draft.weight(item)
        double = weight is not None and weight.dtype == torch.float64
        if item.op == "placeholder" and any(tensor.dtype == torch.float64 for tensor in made_by(item)):
            double = True
        if double:
            node.update_arg(place, draft.call(aten._to_copy.default, item, like=node, dtype=torch.float32))
            changed.append(node.name)
    for user in node.users:
        if user.op == "output" and any(tensor.dtype == torch.float64 for tensor in made_by(node)):
            _cast_after(draft, node, torch.float64)
            changed.append(node.name)
            break
    return changed


def _halve_fp8(draft: Draft, node: fx.Node) -> list[str]:
    """Weights beyond 240 are moved into the range of the chip's own e4m3, and what is read of them is scaled back."""
    weight = draft.weight(node.args[0]) if node.args else None
    if weight is None or weight.dtype != torch.float8_e4m3fn or name_of(node) != "_to_copy":
        return []
    if float(weight.float().abs().max()) <= 240:
        return [node.name]
    moved, ratio = rescaled(weight.float())
    node.update_arg(0, draft.added(moved.to(torch.float8_e4m3fn), node))  # which holds every value of e4m3
    with draft.module.graph.inserting_after(node):
        doubled = draft.module.graph.call_function(aten.mul.Scalar, (node, ratio))
    doubled.meta.update({key: node.meta[key] for key in ("stack_trace", "nn_module_stack") if key in node.meta})
    node.replace_all_uses_with(doubled, delete_user_cb=lambda user: user is not doubled)
    return [node.name]


def rescaled(values: torch.Tensor, *, source: str = "e4m3fn", target: str = "e4m3") -> tuple[torch.Tensor, float]:
    """8-bit values of one range moved to another, and the factor their scale grows by.

    The documented step divides by 448/240 (neuronx-distributed, README_rescaling_fp8_for_neuron.md); a power of two at
    least as large moves every value but the smallest subnormals without rounding, so it is taken where it errs less.

    Args:
        values: of the source format, as fp32.
        source: where they come from.
        target: where they go.

    Raises:
        ArgumentError: the target reaches as far as the source.
    """
    before, after = format_named(source), format_named(target)
    exact = before.largest / after.largest
    if exact <= 1:
        msg = f"{target} reaches {after.largest:g}, so nothing of {source} needs to be moved"
        raise ArgumentError(msg)
    ratios = (float(2 ** math.ceil(math.log2(exact))), exact)
    best = min(ratios, key=lambda ratio: float((quantise(values / ratio, target) * ratio - values).norm()))
    return quantise(values / best, target), best


def _compose_activation(draft: Draft, node: fx.Node) -> list[str]:
    """An activation by what it is made of, as torch defines it."""
    build = _ACTIVATIONS.get(name_of(node))
    if build is None:
        return []
    node.replace_all_uses_with(build(draft, node))
    return [node.name]


def _gelu(draft: Draft, node: fx.Node) -> fx.Node:
    x = node.args[0]
    if node.kwargs.get("approximate", "none") == "tanh":
        cube = draft.call(aten.mul.Tensor, draft.call(aten.mul.Tensor, x, x, like=node), x, like=node)
        inner = draft.call(aten.add.Tensor, x, draft.call(aten.mul.Tensor, cube, 0.044715, like=node), like=node)
        curve = draft.call(
            aten.tanh.default, draft.call(aten.mul.Tensor, inner, math.sqrt(2 / math.pi), like=node), like=node
        )
    else:
        curve = draft.call(aten.erf.default, draft.call(aten.mul.Tensor, x, math.sqrt(0.5), like=node), like=node)
    half = draft.call(aten.mul.Tensor, x, 0.5, like=node)
    return draft.call(aten.mul.Tensor, half, draft.call(aten.add.Tensor, curve, 1.0, like=node), like=node)


# Others (SiLU, Mish, softplus, ...) are written with core operators when a network is captured.
_ACTIVATIONS: dict[str, Callable[[Draft, fx.Node], fx.Node]] = {"gelu": _gelu}


def _narrow_integers(draft: Draft) -> list[str]:
    """64-bit integers that the graph makes itself become 32-bit ones, with casts where torch insists on 64."""
    changed: list[str] = []
    for node in list(draft.module.graph.nodes):
        if node.op == "call_function" and _narrowable(draft, node):
            node.update_kwarg("dtype", torch.int32)
            changed.append(node.name)
    if not changed:
        return []
    for node in list(draft.module.graph.nodes):
        if node.op == "call_function" and name_of(node) in _NEEDS_LONG:
            _lengthen(draft, node)
    _keep_outputs(draft)
    return changed


def _narrowable(draft: Draft, node: fx.Node) -> bool:
    made = made_by(node)
    name = name_of(node)
    if not made or dtype_name(made[0].dtype) != "int64" or not _stays_narrow(draft, node):
        return False
    if name == "_to_copy":
        return node.kwargs.get("dtype") == torch.int64
    if name == "arange":
        return all(isinstance(item, int) for item in node.args)
    return name in _MAKERS


def _stays_narrow(draft: Draft, node: fx.Node) -> bool:
    """Whether it and everything that is computed of it in 64 bits fits into 32."""
    stack, seen = [node], set[fx.Node]()
    while stack:
        current = stack.pop()
        made = made_by(current)
        if current in seen or not made or dtype_name(made[0].dtype) != "int64":
            continue
        if not _fits(draft.span(current)):
            return False
        seen.add(current)
        stack.extend(current.users)
    return True


def _lengthen(draft: Draft, node: fx.Node) -> None:
    """Indices of 64 bits where torch has no other kernel, and values of one type."""
    for place, item in enumerate(node.args):
        if isinstance(item, fx.Node) and made_by(item) and dtype_name(made_by(item)[0].dtype) == "int64":
            node.update_arg(place, draft.call(aten._to_copy.default, item, like=node, dtype=torch.int64))
        elif isinstance(item, Sequence) and any(isinstance(part, fx.Node) for part in item):
            parts: Any = [_long(draft, part, node) for part in item]
            node.update_arg(place, parts)


def _long(draft: Draft, item: object, node: fx.Node) -> object:
    if isinstance(item, fx.Node) and made_by(item) and dtype_name(made_by(item)[0].dtype) == "int64":
        return draft.call(aten._to_copy.default, item, like=node, dtype=torch.int64)
    return item


def _keep_outputs(draft: Draft) -> None:
    """What the caller gets back keeps its type."""
    output = next(iter(draft.module.graph.find_nodes(op="output")))
    for item in list(output.all_input_nodes):
        made = made_by(item)
        if item.op == "call_function" and made and dtype_name(made[0].dtype) == "int64":
            cast = draft.call(aten._to_copy.default, item, like=output, dtype=torch.int64)
            output.replace_input_with(item, cast)


def _fold_batch_norm(draft: Draft) -> list[str]:
    """A batch norm with stored statistics scales and shifts channels, which the convolution before it can do."""
    changed: list[str] = []
    for node in list(draft.module.graph.nodes):
        if node.op == "call_function" and name_of(node) == "_native_batch_norm_legit_no_training":
            folded = _folded(draft, node)
            if folded is not None:
                _taken(node, folded)
                changed.append(node.name)
    return changed


def _folded(draft: Draft, node: fx.Node) -> fx.Node | None:
    conv = node.args[0]
    if not isinstance(conv, fx.Node) or name_of(conv) != "convolution" or len(conv.users) != 1:
        return None
    weight, bias = draft.weight(conv.args[1]), draft.weight(conv.args[2])
    gain, offset, mean, variance = (draft.weight(item) for item in node.args[1:5])
    grouped = bool(conv.args[6]) and conv.args[8] != 1
    if weight is None or mean is None or variance is None or grouped or (conv.args[2] is not None and bias is None):
        return None
    scale = (variance.double() + float(str(node.args[6]))).rsqrt() * (1.0 if gain is None else gain.double())
    shape = [1] * weight.ndim
    shape[1 if conv.args[6] else 0] = -1
    start = 0.0 if bias is None else bias.double()
    shift = (start - mean.double()) * scale + (0.0 if offset is None else offset.double())
    moved = (weight.double() * scale.reshape(shape)).to(weight.dtype)
    arguments = list(conv.args)
    arguments[1], arguments[2] = draft.added(moved, conv), draft.added(shift.to(weight.dtype), conv)
    return draft.call(conv.target, *arguments, like=node)


REWRITES: dict[str, Callable[[Draft, fx.Node], list[str]]] = {
    "compose-activation": _compose_activation,
    "float-matmul": _float_matmul,
    "float-scatter": _float_scatter,
    "float-topk": _float_topk,
    "halve-fp8": _halve_fp8,
    "masked-write": _masked_write,
    "narrow-doubles": _narrow_doubles,
    "narrow-power": _narrow_power,
    "slice-pooling": _slice_pooling,
    "sort-by-topk": _sort_by_topk,
    "spread-kernel": _spread_kernel,
    "wide-shift": _wide_shift,
}
# Done wherever they apply, when the rule file lists them.
EVERYWHERE: dict[str, Callable[[Draft], list[str]]] = {
    "fold-batch-norm": _fold_batch_norm,
    "narrow-integers": _narrow_integers,
}
