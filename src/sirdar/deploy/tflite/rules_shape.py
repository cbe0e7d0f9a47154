# SPDX-License-Identifier: Apache-2.0
"""Rules for what moves values and computes nothing."""

from typing import Any

import numpy as np
import torch
from torch import fx

from sirdar.deploy.tflite import layers
from sirdar.deploy.tflite.layout import Value
from sirdar.deploy.tflite.lowering import Lowering, Rule


def identity(low: Lowering, node: fx.Node) -> Value:
    """Copies, and what is left of dropout."""
    value = node.meta["val"]
    source = low.value(node.args[0])
    whole = low.net.whole(source.tensor)
    if not value.is_floating_point() and not (whole and value.dtype in (torch.int32, torch.int64)):
        raise low.refuse(node, f"values of type {value.dtype}")
    if value.is_floating_point() and whole:
        raise low.refuse(node, "whole numbers of more than 8 bits, which are indices there, are made floats")
    return source


def view(low: Lowering, node: fx.Node) -> Value:
    """Another shape."""
    return low.layout.viewed(low.value(node.args[0]), node.meta["val"].shape, node.name)


def embedding(low: Lowering, node: fx.Node) -> Value:
    """Rows of a weight."""
    table, places = node.args[:2]
    if not low.is_constant(table) or low.is_constant(places):
        raise low.refuse(node, "only rows of a constant by an input are")
    rows = low.net.constant(f"{node.name}/table", low.constant(table))
    result = layers.gather(low.net, rows, low.layout.plain(low.value(places)), node.name)
    return Value(result, tuple(range(len(low.net.shape(result)))))


def permute(low: Lowering, node: fx.Node) -> Value:
    """Axes in another order: nothing moves until someone needs it."""
    value = low.value(node.args[0])
    rank = len(value.order)
    name = str(node.target)
    if "permute" in name:
        order = [int(axis) % rank for axis in node.args[1]]  # type: ignore[union-attr]
    else:
        order = list(range(rank))
        first, second = (0, 1) if len(node.args) < 3 else (int(axis) % rank for axis in node.args[1:3])  # type: ignore[call-overload]
        order[first], order[second] = order[second], order[first]
    return Value(value.tensor, tuple(order.index(axis) for axis in value.order))


def flip(low: Lowering, node: fx.Node) -> Value:
    """Axes from their end to their beginning, one after another."""
    value = low.value(node.args[0])
    axes: Any = node.args[1]
    for axis in axes:
        value = Value(layers.reverse(low.net, value.tensor, value.order.index(axis % len(value.order))), value.order)
    return value


def concat(low: Lowering, node: fx.Node) -> Value:
    """Tensors one after another."""
    values = _joined(low, node)
    values = [value for value in values if 0 not in low.layout.shape(value)] or values[:1]  # Vela refuses empty parts
    order = max(values, key=lambda value: int(np.prod(low.net.shape(value.tensor)))).order
    axis = int(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(order)  # type: ignore[call-overload]
    tensors = [low.layout.arrange(value, order) for value in values]
    return Value(layers.concat(low.net, tensors, order.index(axis), node.name), order)


def _joined(low: Lowering, node: fx.Node) -> list[Value]:
    """What is put together; constants beside whole numbers are whole numbers themselves."""
    sources: Any = node.args[0]
    whole = any(not low.is_constant(source) and low.net.whole(low.value(source).tensor) for source in sources)
    return [low.whole(source) if whole and low.is_constant(source) else low.value(source) for source in sources]


def stack(low: Lowering, node: fx.Node) -> Value:
    """Tensors along a new axis."""
    values = [low.layout.plain(value) for value in _joined(low, node)]
    shape = tuple(node.meta["val"].shape)
    axis = int(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(shape)  # type: ignore[call-overload]
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    tensors = [layers.reshape(low.net, value, single, f"{node.name}/part") for value in values]
    return Value(layers.concat(low.net, tensors, axis, node.name), tuple(range(len(shape))))


def take(low: Lowering, node: fx.Node) -> Value:
    """A range of one axis, every step-th of it."""
    value = low.value(node.args[0])
    axis, start, end, step = (*node.args[1:], *(0, None, None, 1)[len(node.args) - 1 :])
    axis = int(axis) % len(value.order)  # type: ignore[call-overload]
    size = low.layout.shape(value)[axis]
    first, last, stride = slice(start, end, step).indices(size)
    if stride == 1:
        return low.layout.block(value, axis, first, last - first, node.name)
    place = value.order.index(axis)
    bounds = np.zeros((3, len(value.order)), dtype=np.int32)
    bounds[1], bounds[2] = low.net.shape(value.tensor), 1
    bounds[:, place] = first, last, stride
    tables = [
        low.net.raw(f"{node.name}/{what}", row) for what, row in zip(("begin", "end", "step"), bounds, strict=True)
    ]
    shape = list(low.net.shape(value.tensor))
    shape[place] = len(range(first, last, stride))
    result = low.net.alike(value.tensor, node.name, shape)
    return Value(low.net.step(layers.Step("STRIDED_SLICE", (value.tensor, *tables), (result,))), value.order)


def index_select(low: Lowering, node: fx.Node) -> Value:
    """Places of an axis that are known beforehand."""
    axis, places = (*node.args[1:],)
    return _places(low, node, int(axis), places)  # type: ignore[call-overload]


def index(low: Lowering, node: fx.Node) -> Value:
    """The same, written as an index of one axis."""
    rows: Any = node.args[1]
    given = [(axis, row) for axis, row in enumerate(rows) if row is not None]
    if len(given) != 1:
        raise low.refuse(node, "only an index of one axis is")
    return _places(low, node, *given[0])


def _places(low: Lowering, node: fx.Node, axis: int, places: object) -> Value:
    value = low.value(node.args[0])
    made: Any = places.meta["val"] if isinstance(places, fx.Node) else None
    if not low.is_constant(places) or made is None or made.ndim != 1 or made.dtype == torch.bool:
        raise low.refuse(node, "only a constant list of places is")
    axis %= len(value.order)
    size = low.layout.shape(value)[axis]
    kept = [int(place) % size for place in low.constant(places)]
    blocks = [low.layout.block(value, axis, place, 1, f"{node.name}/{number}") for number, place in enumerate(kept)]
    joined = layers.concat(low.net, [block.tensor for block in blocks], value.order.index(axis), node.name)
    return Value(joined, value.order)


def select(low: Lowering, node: fx.Node) -> Value:
    """One place of an axis, which vanishes."""
    value = low.value(node.args[0])
    axis = int(node.args[1]) % len(value.order)  # type: ignore[call-overload]
    place = int(node.args[2]) % low.layout.shape(value)[axis]  # type: ignore[call-overload]
    return low.layout.without(low.layout.block(value, axis, place, 1, f"{node.name}/kept"), axis, node.name)


def split(low: Lowering, node: fx.Node) -> list[Value]:
    """All pieces of an axis."""
    value = low.value(node.args[0])
    axis = int(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)) % len(value.order)  # type: ignore[call-overload]
    pieces, start = [], 0
    for index, piece in enumerate(node.meta["val"]):
        pieces.append(low.layout.block(value, axis, start, piece.shape[axis], f"{node.name}/{index}"))
        start += piece.shape[axis]
    return pieces


def unbind(low: Lowering, node: fx.Node) -> list[Value]:
    """Every place of an axis, which vanishes."""
    value = low.value(node.args[0])
    axis = int(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(value.order)  # type: ignore[call-overload]
    blocks = [
        low.layout.block(value, axis, place, 1, f"{node.name}/kept") for place in range(low.layout.shape(value)[axis])
    ]
    return [low.layout.without(block, axis, node.name) for block in blocks]


def expand(low: Lowering, node: fx.Node) -> Value:
    """Axes of size 1 repeated; where it says how often, all of them."""
    return low.layout.stretched(low.value(node.args[0]), node.meta["val"].shape, node.name)


def pad(low: Lowering, node: fx.Node) -> Value:
    """Zeros, or what lies at the edges reflected, around the last axes."""
    source, rows = node.args[0], node.args[1]
    mode = node.args[2] if len(node.args) > 2 and isinstance(node.args[2], str) else "constant"
    fill = node.kwargs.get("value", next((a for a in node.args[2:] if isinstance(a, int | float)), 0)) or 0
    value = low.value(source)
    rank = len(value.order)
    pairs: list[Any] = [(0, 0)] * rank
    for place in range(0, len(rows), 2):  # type: ignore[arg-type]
        pairs[rank - 1 - place // 2] = tuple(rows[place : place + 2])  # type: ignore[index]
    stored = [pairs[axis] for axis in value.order]
    if mode == "reflect":
        return Value(layers.pad(low.net, value.tensor, stored, reflected=True), value.order)
    if mode != "constant" or fill != 0 or any(number < 0 for pair in pairs for number in pair):
        raise low.refuse(node, "only padding by constants or by reflection is")
    return Value(layers.pad(low.net, value.tensor, stored), value.order)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("alias", "clone", "contiguous", "detach", "dropout", "lift_fresh_copy", "to", "_to_copy"), identity
    ),
    **dict.fromkeys(("flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view", "_unsafe_view"), view),
    **dict.fromkeys(("permute", "t", "transpose", "numpy_T"), permute),
    "cat": concat,
    "concat": concat,
    "constant_pad_nd": pad,
    "embedding": embedding,
    "expand": expand,
    "flip": flip,
    "index": index,
    "index_select": index_select,
    "pad": pad,
    "repeat": expand,
    "select": select,
    "slice": take,
    "split": split,
    "split_with_sizes": split,
    "unsafe_split": split,
    "stack": stack,
    "unbind": unbind,
}
