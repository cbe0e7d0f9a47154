# SPDX-License-Identifier: Apache-2.0
"""Rules for pooling, means, greatest values and resizing."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from sirdar.deploy.tflite import layers
from sirdar.deploy.tflite.fusion import given, operator_name
from sirdar.deploy.tflite.layout import Value, channels_last
from sirdar.deploy.tflite.lowering import Lowering, Rule
from sirdar.deploy.tflite.padding import Window


def pooling(low: Lowering, node: fx.Node) -> Value:
    """Mean or maximum over windows, of images and of sequences."""
    name = operator_name(node)
    code = "MAX_POOL_2D" if name.startswith("max") else "AVERAGE_POOL_2D"
    flat = name.endswith("1d")
    options = given(node)
    count = 1 if flat else 2
    kernel = _pair(options["kernel_size"], count)
    stride = _pair(options.get("stride") or kernel, count)
    before = _pair(options.get("padding", 0), count)
    if any(step != 1 for step in _pair(options.get("dilation", 1), count)):
        raise low.refuse(node, "it is dilated")
    windows = [Window(*row) for row in zip(kernel, stride, before, strict=True)]
    tensor, rank = _image(low, node)
    sizes = tuple(node.meta["val"].shape[2:])
    pair = (windows[0], windows[1]) if count == 2 else (Window(1), windows[0])
    counts = (sizes[0], sizes[1]) if count == 2 else (1, sizes[0])
    moved = [_clipped(*row) for row in zip(pair, _spatial(node), counts, strict=True)]
    result = layers.pool(low.net, tensor, code, (moved[0], moved[1]), counts)
    if code == "AVERAGE_POOL_2D":
        result = _corrected(low, node, result, pair, (moved[0], moved[1]))
    return low.layout.unimage(result, rank, node.name)


def _clipped(window: Window, size: int, count: int) -> Window:
    """A window that stands at one place only, without what hangs over the edges."""
    return Window(min(window.kernel - window.before, size), window.stride) if count == 1 else window


def _corrected(
    low: Lowering, node: fx.Node, result: int, windows: tuple[Window, Window], moved: tuple[Window, Window]
) -> int:
    """Where torch divides by something else than the size of the window: times the ratio."""
    height, width = _spatial(node)
    ones = torch.ones(1, 1, height, width)
    options = given(node)
    named = {key: options[key] for key in ("ceil_mode", "count_include_pad", "divisor_override") if key in options}
    kernel, stride, before = ([getattr(w, key) for w in windows] for key in ("kernel", "stride", "before"))
    wanted = functional.avg_pool2d(ones, kernel, stride, before, **named)
    counts = wanted.shape[2:]
    rows = [(w.before, w.after(size, n)) for w, size, n in zip(moved, (height, width), counts, strict=True)]
    kernel, stride = ([getattr(w, key) for w in moved] for key in ("kernel", "stride"))
    got = functional.avg_pool2d(functional.pad(ones, [*rows[1], *rows[0]]), kernel, stride)[
        ..., : counts[0], : counts[1]
    ]
    ratio = (wanted / got).permute(0, 2, 3, 1).numpy()
    if np.allclose(ratio, 1.0):
        return result
    constant = low.net.constant(f"{node.name}/ratio", ratio)
    return layers.binary(low.net, "MUL", result, constant, low.output(node))


def adaptive_mean(low: Lowering, node: fx.Node) -> Value:
    """Mean over all places, or over windows where their number divides the size."""
    tensor, rank = _image(low, node)
    sizes = _spatial(node)
    target = tuple(node.meta["val"].shape[2:])
    counts = (target[0], target[1]) if len(target) == 2 else (1, target[0])
    if counts == (1, 1):
        result = layers.mean(low.net, tensor, (1, 2), keep=True, output=low.output(node))
    else:
        result = _divided(low, node, tensor, "AVERAGE_POOL_2D", sizes, counts)
    return low.layout.unimage(result, rank, node.name)


def _divided(
    low: Lowering, node: fx.Node, tensor: int, code: str, sizes: tuple[int, int], counts: tuple[int, int]
) -> int:
    if any(size % count for size, count in zip(sizes, counts, strict=True)):
        raise low.refuse(node, f"windows of different sizes from {sizes} to {counts}")
    down, across = (Window(size // count, size // count) for size, count in zip(sizes, counts, strict=True))
    return layers.pool(low.net, tensor, code, (down, across), counts)


def reduction(low: Lowering, node: fx.Node) -> Value:
    """Mean, or greatest value, over axes."""
    value = low.value(node.args[0])
    rank = len(value.order)
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    axes = range(rank) if given in (None, []) else (given if isinstance(given, list | tuple) else [given])
    wanted = {int(axis) % rank for axis in axes}  # type: ignore[call-overload]
    keep = bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))
    stored = [place for place, axis in enumerate(value.order) if axis in wanted]
    reduce = layers.greatest if operator_name(node) == "amax" else layers.mean
    result = reduce(low.net, value.tensor, stored, keep=keep, output=low.output(node))
    if keep:
        return Value(result, value.order)
    left = [axis for axis in value.order if axis not in wanted]
    return Value(result, tuple(sorted(left).index(axis) for axis in left))


def place_of_greatest(low: Lowering, node: fx.Node) -> Value:
    """Where along an axis, or in the whole tensor, the greatest value stands."""
    options = given(node)
    value, axis = low.value(node.args[0]), options["dim"]
    if axis is None:
        value, axis = low.layout.viewed(value, (node.all_input_nodes[0].meta["val"].numel(),), f"{node.name}/flat"), 0
    result = layers.greatest_place(low.net, low.layout.plain(value), int(axis) % len(value.order), node.name)
    return low.layout.viewed(Value(result, tuple(range(len(value.order) - 1))), node.meta["val"].shape, node.name)


def resizing(low: Lowering, node: fx.Node) -> Value:
    """Nearest or bilinear, where the factor is exactly the ratio of the sizes."""
    bilinear = "bilinear" in operator_name(node)
    height, width = _spatial(node)
    sizes = tuple(node.meta["val"].shape[2:])
    for factor, size, target in zip(given(node).get("scale_factors") or (), (height, width), sizes, strict=False):
        if abs(float(factor) * size - target) > 1e-6:
            raise low.refuse(node, f"a factor of {factor} that does not give whole sizes")
    tensor = low.layout.arrange(low.value(node.args[0]), channels_last(4))
    corners = bool(given(node)["align_corners"]) if bilinear else False
    return Value(
        layers.resize(low.net, tensor, (sizes[0], sizes[1]), bilinear=bilinear, corners=corners), channels_last(4)
    )


def _pair(value: Sequence[int] | int, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return tuple(int(item) for item in (values * count if len(values) == 1 else values))


def _spatial(node: fx.Node) -> tuple[int, int]:
    shape = node.all_input_nodes[0].meta["val"].shape
    return (shape[2], shape[3]) if len(shape) == 4 else (1, shape[2])


def _image(low: Lowering, node: fx.Node) -> tuple[int, int]:
    """The input as an image, and its rank."""
    value = low.value(node.args[0])
    rank = len(value.order)
    if rank not in (3, 4) or (rank == 3 and not operator_name(node).endswith("1d")):
        raise low.refuse(node, "its input has no batch axis")
    return low.layout.image(value, node.name), rank


RULES: dict[str, Rule] = {
    "max_pool2d": pooling,
    "max_pool1d": pooling,
    "avg_pool2d": pooling,
    "avg_pool1d": pooling,
    "adaptive_avg_pool2d": adaptive_mean,
    "adaptive_avg_pool1d": adaptive_mean,
    "mean": reduction,
    "amax": reduction,
    "argmax": place_of_greatest,
    "upsample_nearest2d": resizing,
    "upsample_bilinear2d": resizing,
}
