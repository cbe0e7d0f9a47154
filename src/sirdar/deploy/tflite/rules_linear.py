# SPDX-License-Identifier: Apache-2.0
"""Rules for convolutions, linear layers, products of matrices and batch norms."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import fx

from sirdar.deploy.tflite import layers
from sirdar.deploy.tflite.fusion import given
from sirdar.deploy.tflite.layers import Convolution
from sirdar.deploy.tflite.layout import Value, channels_last
from sirdar.deploy.tflite.lowering import Lowering, Rule
from sirdar.deploy.tflite.padding import Window


def convolution(low: Lowering, node: fx.Node) -> Value:
    """conv1d and conv2d; the former with a height of one."""
    options = given(node)
    stride, padding, dilation = options["stride"], options["padding"], options["dilation"]
    kernel, added = _folded(low, node, 0)
    rank = kernel.ndim
    if isinstance(padding, str):
        padding = _named_padding(padding, kernel.shape[2:], _pair(dilation, rank - 2))
    windows = _windows(kernel.shape[2:], stride, padding, dilation)
    return _convolve(low, node, Convolution(kernel, added, windows, _counts(node, rank), int(options["groups"])))


def transposed_convolution(low: Lowering, node: fx.Node) -> Value:
    """conv_transpose1d and conv_transpose2d without groups and dilation."""
    options = given(node)
    padding, outer = options["padding"], options["output_padding"]
    if options["groups"] != 1 or any(size != 1 for size in _pair(options["dilation"], 2)):
        raise low.refuse(node, "transposed convolutions have neither groups nor dilation there")
    kernel, added = _folded(low, node, 1)
    kernel = np.moveaxis(kernel, 0, 1)
    windows = _windows(kernel.shape[2:], options["stride"], padding, 1)
    rank = kernel.ndim
    if any(more > less for more, less in zip(_pair(outer, rank - 2), _pair(padding, rank - 2), strict=True)):
        raise low.refuse(node, f"output_padding {outer} is more than padding {padding}")
    conv = Convolution(kernel, added, windows, _counts(node, rank))
    return _convolve(low, node, conv, transposed=True)


def linear(low: Lowering, node: fx.Node) -> Value:
    """A linear layer over the last axis."""
    kernel, added = _folded(low, node, 0)
    value = low.value(node.args[0])
    rank = len(value.order)
    order = value.order if value.order[-1] == rank - 1 else tuple(range(rank))
    return Value(layers.dense(low.net, low.layout.arrange(value, order), kernel, added, low.output(node)), order)


def addmm(low: Lowering, node: fx.Node) -> Value:
    """A linear layer that is written out: bias, input, weight."""
    bias, source, weight = node.args[:3]
    if node.kwargs or not low.is_constant(bias) or not low.is_constant(weight):
        raise low.refuse(node, "its weight and bias are no constants, or it has factors")
    kernel = low.constant(weight).T
    added = np.broadcast_to(low.constant(bias), kernel.shape[0])
    return Value(layers.dense(low.net, low.layout.plain(low.value(source)), kernel, added, low.output(node)), (0, 1))


def matmul(low: Lowering, node: fx.Node) -> Value:
    """Products of matrices: with a constant one it is a linear layer."""
    first, second = node.args[:2]
    output = low.output(node)
    rank = len(low.constant(second).shape) if low.is_constant(second) else len(low.value(second).order)
    if rank < 2 or low.is_constant(first):
        raise low.refuse(node, "its first factor is a constant, or one of them a vector")
    if low.is_constant(second) and rank == 2:
        kernel = low.constant(second).T
        tensor = layers.dense(low.net, low.layout.plain(low.value(first)), kernel, np.zeros(kernel.shape[0]), output)
    else:
        value = low.value(second)
        swapped = value.order == (*range(rank - 2), rank - 1, rank - 2)
        factor = value.tensor if swapped else low.layout.plain(value)
        left = low.layout.plain(low.value(first))
        if low.net.shape(left)[:-2] != low.net.shape(factor)[:-2]:
            raise low.refuse(node, "its factors have different batches")
        tensor = layers.matmul(low.net, left, factor, output, transposed=swapped)
    return Value(tensor, tuple(range(len(low.net.shape(tensor)))))


def batch_norm(low: Lowering, node: fx.Node) -> Value:
    """A batch norm that no layer before it can take: a depthwise convolution of one value."""
    value = low.value(node.args[0])
    gain, offset = _norm(low, node)
    order = channels_last(len(value.order))
    tensor = low.layout.arrange(value, order)
    return Value(layers.affine(low.net, tensor, gain, offset, low.output(node)), order)


def _pair(value: Sequence[int] | int, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return tuple(int(item) for item in (values * count if len(values) == 1 else values))


def _windows(
    kernel: tuple[int, ...], stride: Sequence[int] | int, padding: Sequence[int] | int, dilation: Sequence[int] | int
) -> tuple[Window, Window]:
    moves = (_pair(option, len(kernel)) for option in (stride, padding, dilation))
    windows = [Window(*row) for row in zip(kernel, *moves, strict=True)]
    return (windows[0], windows[1]) if len(windows) == 2 else (Window(1), windows[0])


def _named_padding(name: str, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """The rows ahead of "valid" or "same"; torch puts the odd row of "same" behind, as many windows as rows need."""
    if name == "valid":
        return (0,) * len(kernel)
    return tuple((size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True))


def _counts(node: fx.Node, rank: int) -> tuple[int, int]:
    """Height and width that a kernel of a rank makes, with or without a batch axis."""
    sizes = tuple(node.meta["val"].shape[2 - rank :])
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def _convolve(low: Lowering, node: fx.Node, conv: Convolution, *, transposed: bool = False) -> Value:
    """On images as they are, on sequences as images of height one; on one without a batch axis as a batch of one."""
    value, rank = low.value(node.args[0]), conv.weight.ndim
    single = len(value.order) < rank
    if rank == 3:
        conv = replace(conv, weight=conv.weight[:, :, None])
    add = layers.transposed_conv2d if transposed else layers.conv2d
    image = low.layout.image(low.layout.raised(value, rank), node.name)
    result = low.layout.unimage(add(low.net, image, conv, low.output(node)), rank, node.name)
    return low.layout.without(result, 0, f"{node.name}/single") if single else result


def _folded(low: Lowering, node: fx.Node, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias with a batch norm that follows folded in; `axis` is that of the output channels."""
    weight, bias = given(node)["weight"], given(node)["bias"]
    if not low.is_constant(weight) or not low.is_constant(bias):
        raise low.refuse(node, "its weights are no constants")
    kernel = low.constant(weight)
    added = np.zeros(kernel.shape[axis]) if bias is None else low.constant(bias)
    norm = low.fused(node).norm
    if norm is None:
        return kernel, added
    gain, offset = _norm(low, norm)
    shape = [1] * kernel.ndim
    shape[axis] = -1
    return kernel * gain.reshape(shape), added * gain + offset


def _norm(low: Lowering, node: fx.Node) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm with stored statistics as gain and offset of each channel."""
    _, weight, bias, mean, variance, _, epsilon = node.args
    spread = np.sqrt(low.constant(variance) + float(epsilon))  # type: ignore[arg-type]
    gain = (1.0 if weight is None else low.constant(weight)) / spread
    return gain, (0.0 if bias is None else low.constant(bias)) - low.constant(mean) * gain


RULES: dict[str, Rule] = {
    "conv1d": convolution,
    "conv2d": convolution,
    "conv_transpose1d": transposed_convolution,
    "conv_transpose2d": transposed_convolution,
    "linear": linear,
    "addmm": addmm,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "_native_batch_norm_legit_no_training": batch_norm,
}
