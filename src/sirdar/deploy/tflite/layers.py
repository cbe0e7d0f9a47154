# SPDX-License-Identifier: Apache-2.0
"""Layers as TFLite operators, on tensors that lie as TFLite wants them: batch, height, width, channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sirdar.deploy.tflite.net import NO_ACTIVATION, Net, Step, Weights
from sirdar.deploy.tflite.padding import Window, choose

EIGHTH_BIT = (1.0 / 256.0, -128)  # scale that TFLite prescribes for sigmoid and softmax: [0, 1)
SIGNED_EIGHTH_BIT = (1.0 / 128.0, 0)  # for tanh: [-1, 1)


@dataclass(frozen=True)
class Output:
    """What is known of an operator's result before it is added.

    Args:
        name: of the tensor.
        low: least real value.
        high: greatest real value.
        activation: fused: "NONE", "RELU" or "RELU6".
    """

    name: str
    low: float
    high: float
    activation: str = NO_ACTIVATION


@dataclass(frozen=True)
class Convolution:
    """Weights and movement of a convolution.

    Args:
        weight: [output channel, input channel / groups, height, width], as torch has it.
        bias: [output channel].
        windows: of height and width.
        groups: blocks of channels that see only themselves.
        counts: height and width of the result.
    """

    weight: np.ndarray
    bias: np.ndarray
    windows: tuple[Window, Window]
    counts: tuple[int, int]
    groups: int = 1


def pad(
    net: Net, source: int, rows: Sequence[tuple[int, int]], *, lowest: bool = False, reflected: bool = False
) -> int:
    """Rows of zeros (or of the least value there is, or of what lies at the edge reflected) around each axis."""
    if not any(before or after for before, after in rows):
        return source
    shape = [size + before + after for size, (before, after) in zip(net.shape(source), rows, strict=True)]
    name = f"{net.name(source)}/padded"
    table = net.raw(f"{name}/rows", np.asarray(rows, dtype=np.int32))
    result = net.alike(source, name, shape)
    if reflected:
        return net.step(Step("MIRROR_PAD", (source, table), (result,)))
    if not lowest:
        return net.step(Step("PAD", (source, table), (result,)))
    least = net.raw(f"{name}/least", np.asarray([-128], dtype=np.int8))
    net.same(source, least)
    return net.step(Step("PADV2", (source, table, least), (result,)))


def conv2d(net: Net, source: int, conv: Convolution, output: Output) -> int:
    """A convolution, plain, grouped or depthwise, padded as torch does."""
    batch, height, width, channels = net.shape(source)
    padding = choose(conv.windows, (height, width), conv.counts)
    if not isinstance(padding, str):
        source = pad(net, source, ((0, 0), *padding, (0, 0)))
        padding = "VALID"
    result = net.activation(output.name, (batch, *conv.counts, conv.weight.shape[0]), output.low, output.high)
    down, across = conv.windows
    options = {
        "padding": padding,
        "strideH": down.stride,
        "strideW": across.stride,
        "dilationHFactor": down.dilation,
        "dilationWFactor": across.dilation,
        "fusedActivationFunction": output.activation,
    }
    if conv.groups == channels and channels > 1:
        options["depthMultiplier"] = conv.weight.shape[0] // channels
        weights = Weights(conv.weight.transpose(1, 2, 3, 0), 3, conv.bias)
        return net.step(Step("DEPTHWISE_CONV_2D", (source,), (result,), options, weights))
    weights = Weights(conv.weight.transpose(0, 2, 3, 1), 0, conv.bias)
    return net.step(Step("CONV_2D", (source,), (result,), options, weights))


def affine(net: Net, source: int, gain: np.ndarray, offset: np.ndarray, output: Output) -> int:
    """A gain and an offset for each channel, the last axis: a depthwise convolution of one value."""
    shape = net.shape(source)
    channels = shape[-1]
    places = int(np.prod(shape)) // (shape[0] * channels)
    flat = reshape(net, source, (shape[0], 1, places, channels), f"{output.name}/flat")
    conv = Convolution(gain.reshape(-1, 1, 1, 1), offset, (Window(1), Window(1)), (1, places), groups=channels)
    result = conv2d(net, flat, conv, output)
    return reshape(net, result, shape, f"{output.name}/shaped")


def transposed_conv2d(net: Net, source: int, conv: Convolution, output: Output) -> int:
    """A transposed convolution of weight [output channel, input channel, height, width]; rows too many are cut off."""
    batch, height, width, _ = net.shape(source)
    full = [(size - 1) * w.stride + w.kernel for size, w in zip((height, width), conv.windows, strict=True)]
    down, across = conv.windows
    options = {"strideH": down.stride, "strideW": across.stride, "padding": "VALID"}
    same = all(
        count == size * window.stride and window.before == max(window.kernel - window.stride, 0) // 2
        for count, size, window in zip(conv.counts, (height, width), conv.windows, strict=True)
    )
    if same:
        full, options["padding"] = list(conv.counts), "SAME"
    options["fusedActivationFunction"] = output.activation
    shape = (batch, *full, conv.weight.shape[0])
    name = output.name if tuple(full) == conv.counts else f"{output.name}/whole"
    sizes = net.raw(f"{name}/sizes", np.asarray(shape, dtype=np.int32))
    result = net.activation(name, shape, output.low, output.high)
    weights = Weights(conv.weight.transpose(0, 2, 3, 1), 0, conv.bias)
    net.step(Step("TRANSPOSE_CONV", (sizes, source), (result,), options, weights))
    if same:
        return result
    begin = (0, down.before, across.before, 0)
    return cut(net, result, begin, (batch, *conv.counts, shape[3]), output.name)


def cut(net: Net, source: int, begin: Sequence[int], sizes: Sequence[int], name: str) -> int:
    """The block of a tensor that starts at `begin`; the tensor itself where that is all of it."""
    if tuple(sizes) == net.shape(source):
        return source
    starts = net.raw(f"{name}/begin", np.asarray(begin, dtype=np.int32))
    extents = net.raw(f"{name}/size", np.asarray(sizes, dtype=np.int32))
    result = net.alike(source, name, sizes)
    return net.step(Step("SLICE", (source, starts, extents), (result,)))


def dense(net: Net, source: int, weight: np.ndarray, bias: np.ndarray, output: Output) -> int:
    """A linear layer of weight [output, input] over the last axis."""
    shape = (*net.shape(source)[:-1], weight.shape[0])
    result = net.activation(output.name, shape, output.low, output.high)
    options = {"keepNumDims": True, "fusedActivationFunction": output.activation}
    return net.step(Step("FULLY_CONNECTED", (source,), (result,), options, Weights(weight, 0, bias)))


def pool(net: Net, source: int, code: str, windows: tuple[Window, Window], counts: tuple[int, int]) -> int:
    """Greatest ("MAX_POOL_2D") or mean value ("AVERAGE_POOL_2D", zeros of the padding counted) of each window."""
    batch, height, width, channels = net.shape(source)
    padding = choose(windows, (height, width), counts)
    if padding == "SAME" and code == "AVERAGE_POOL_2D":  # SAME does not count the padding
        padding = tuple(
            (w.before, w.after(size, count)) for w, size, count in zip(windows, (height, width), counts, strict=True)
        )
    if not isinstance(padding, str):
        source = pad(net, source, ((0, 0), *padding, (0, 0)), lowest=code == "MAX_POOL_2D")
        padding = "VALID"
    options = {
        "padding": padding,
        "strideH": windows[0].stride,
        "strideW": windows[1].stride,
        "filterHeight": windows[0].kernel,
        "filterWidth": windows[1].kernel,
        "fusedActivationFunction": NO_ACTIVATION,
    }
    result = net.activation(f"{net.name(source)}/{code.lower()}", (batch, *counts, channels), 0.0, 0.0)
    net.same(source, result)
    return net.step(Step(code, (source,), (result,), options))


def mean(net: Net, source: int, axes: Sequence[int], *, keep: bool, output: Output) -> int:
    """Mean over axes. That over the last one is taken of rows, since Vela takes it of no image."""
    shape = net.shape(source)
    if tuple(axes) == (3,) and len(shape) == 4 and shape[1] > 1 and shape[2] > 1:
        rows = reshape(net, source, (shape[0], 1, shape[1] * shape[2], shape[3]), f"{output.name}/rows")
        found = mean(net, rows, axes, keep=True, output=output)
        return reshape(net, found, (*shape[:3], 1) if keep else shape[:3], f"{output.name}/image")
    return _reduce(
        net, "MEAN", source, axes, net.activation(*_reduced(net, source, axes, output, keep=keep)), keep=keep
    )


def greatest(net: Net, source: int, axes: Sequence[int], *, keep: bool, output: Output) -> int:
    """Greatest value over axes."""
    result = net.activation(*_reduced(net, source, axes, output, keep=keep))
    net.same(source, result)
    return _reduce(net, "REDUCE_MAX", source, axes, result, keep=keep)


def greatest_place(net: Net, source: int, axis: int, name: str) -> int:
    """The place of the greatest value along an axis, which vanishes."""
    shape = net.shape(source)
    table = net.raw(f"{name}/axis", np.asarray([axis], dtype=np.int32))
    result = net.integers(name, (*shape[:axis], *shape[axis + 1 :]))
    return net.step(Step("ARG_MAX", (source, table), (result,), {"outputType": "INT32"}))


def _reduced(
    net: Net, source: int, axes: Sequence[int], output: Output, *, keep: bool
) -> tuple[str, list[int], float, float]:
    sizes = [1 if axis in axes else size for axis, size in enumerate(net.shape(source)) if keep or axis not in axes]
    return output.name, sizes, output.low, output.high


def _reduce(net: Net, code: str, source: int, axes: Sequence[int], result: int, *, keep: bool) -> int:
    table = net.raw(f"{net.name(result)}/axes", np.asarray(sorted(axes), dtype=np.int32))
    return net.step(Step(code, (source, table), (result,), {"keepDims": keep}))


def binary(net: Net, code: str, first: int, second: int, output: Output) -> int:
    """A sum, difference or product ("ADD", "SUB", "MUL") of two tensors that broadcast."""
    shape = np.broadcast_shapes(net.shape(first), net.shape(second))
    result = net.activation(output.name, shape, output.low, output.high)
    return net.step(Step(code, (first, second), (result,), {"fusedActivationFunction": output.activation}))


def extreme(net: Net, code: str, first: int, second: int, name: str) -> int:
    """The greater or lesser ("MAXIMUM", "MINIMUM") of two tensors that broadcast, on one scale."""
    first, second = net.free(first), net.free(second)
    result = net.activation(name, np.broadcast_shapes(net.shape(first), net.shape(second)), 0.0, 0.0)
    net.same(first, second)
    net.same(first, result)
    return net.step(Step(code, (first, second), (result,)))


def unary(net: Net, code: str, source: int, output: Output, **options: object) -> int:
    """A function of each value: "RELU", "LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "SOFTMAX", ..."""
    result = net.activation(output.name, net.shape(source), output.low, output.high)
    if code in ("LOGISTIC", "SOFTMAX"):
        net.fix(result, EIGHTH_BIT)
    elif code == "TANH":
        net.fix(result, SIGNED_EIGHTH_BIT)
    elif code == "LOG_SOFTMAX":
        net.fix(result, (16.0 / 256.0, 127))
    return net.step(Step(code, (source,), (result,), options))


def concat(net: Net, sources: Sequence[int], axis: int, name: str) -> int:
    """Tensors one after another along an axis, on one scale."""
    ready = [net.free(source) for source in sources]
    shape = list(net.shape(ready[0]))
    shape[axis] = sum(net.shape(source)[axis] for source in ready)
    result = net.alike(ready[0], name, shape)
    for source in () if net.whole(result) else ready[1:]:
        net.same(source, result)
    options = {"axis": axis, "fusedActivationFunction": NO_ACTIVATION}
    return net.step(Step("CONCATENATION", tuple(ready), (result,), options))


def reshape(net: Net, source: int, shape: Sequence[int], name: str) -> int:
    """The same values in another shape."""
    maker = net.maker(source)
    if maker is not None and maker.code == "RESHAPE":  # two reshapings in a row are one
        source = maker.inputs[0]
    if tuple(shape) == net.shape(source):
        return source
    table = net.raw(f"{name}/shape", np.asarray(shape, dtype=np.int32))
    result = net.alike(source, name, shape)
    return net.step(Step("RESHAPE", (source, table), (result,), {"newShape": list(shape)}))


def transpose(net: Net, source: int, order: Sequence[int], name: str) -> int:
    """Axes in another order; a mere reshaping where only axes of size 1 move."""
    if list(order) == sorted(order):
        return source
    shape = [net.shape(source)[axis] for axis in order]
    long = [axis for axis in order if net.shape(source)[axis] > 1]
    if long == sorted(long):
        return reshape(net, source, shape, name)
    table = net.raw(f"{name}/order", np.asarray(order, dtype=np.int32))
    result = net.alike(source, name, shape)
    return net.step(Step("TRANSPOSE", (source, table), (result,)))


def resize(net: Net, source: int, sizes: tuple[int, int], *, bilinear: bool, corners: bool) -> int:
    """Height and width changed as torch's `interpolate` does."""
    batch, _, _, channels = net.shape(source)
    code = "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR"
    name = f"{net.name(source)}/resized"
    table = net.raw(f"{name}/sizes", np.asarray(sizes, dtype=np.int32))
    result = net.activation(name, (batch, *sizes, channels), 0.0, 0.0)
    net.same(source, result)
    options = {"alignCorners": corners, "halfPixelCenters": bilinear and not corners}
    return net.step(Step(code, (source, table), (result,), options))


def matmul(net: Net, first: int, second: int, output: Output, *, transposed: bool) -> int:
    """Products of matrices in the last two axes; with `transposed`, the second one is given by its columns."""
    rows, columns = net.shape(first)[-2], net.shape(second)[-2 if transposed else -1]
    batch = np.broadcast_shapes(net.shape(first)[:-2], net.shape(second)[:-2])
    result = net.activation(output.name, (*batch, rows, columns), output.low, output.high)
    return net.step(Step("BATCH_MATMUL", (first, second), (result,), {"adjX": False, "adjY": transposed}))


def tile(net: Net, source: int, times: Sequence[int], name: str) -> int:
    """The tensor repeated along each axis."""
    if all(count == 1 for count in times):
        return source
    shape = [size * count for size, count in zip(net.shape(source), times, strict=True)]
    table = net.raw(f"{name}/times", np.asarray(times, dtype=np.int32))
    result = net.alike(source, name, shape)
    return net.step(Step("TILE", (source, table), (result,)))


def reverse(net: Net, source: int, axis: int) -> int:
    """The last place of an axis first."""
    if net.shape(source)[axis] == 1:
        return source
    name = f"{net.name(source)}/reversed"
    table = net.raw(f"{name}/axis", np.asarray([axis], dtype=np.int32))
    result = net.alike(source, name, net.shape(source))
    return net.step(Step("REVERSE_V2", (source, table), (result,)))


def gather(net: Net, table: int, places: int, name: str) -> int:
    """Rows of a table by their places."""
    result = net.activation(name, (*net.shape(places), *net.shape(table)[1:]), 0.0, 0.0)
    net.same(table, result)
    return net.step(Step("GATHER", (table, places), (result,), {"axis": 0, "batchDims": 0}))
