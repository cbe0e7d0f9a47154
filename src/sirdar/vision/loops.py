# SPDX-License-Identifier: Apache-2.0
"""Loops over bf16 numbers on a CPU with fewer passes over memory than torch's operators: see `fastnorm`, `depthwise`.

Arrays hold the bits of bf16 numbers as uint16, channels last; sums are float32 and, over many rows, float64.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

F, U, H = np.float32, np.uint32, np.uint16
_BLOCK = 64  # rows whose float32 sums are added up in float64


def _loop(function: Callable[..., Any]) -> Callable[..., None]:
    # The tests wrap functions to check shapes; numba needs them bare.
    return njit(fastmath={"contract", "nsz"}, cache=True, nogil=True)(inspect.unwrap(function))


def _inline(function: Callable[..., Any]) -> Callable[..., Any]:
    return njit(inline="always")(inspect.unwrap(function))


@_inline
def _wide(bits):  # noqa: ANN001, ANN202 - numba's scalars
    return U(U(bits) << U(16)).view(F)


@_inline
def _narrow(value):  # noqa: ANN001, ANN202
    bits = F(value).view(U)
    return H((bits + U(0x7FFF) + ((bits >> U(16)) & U(1))) >> U(16))


@_loop
def moments(x, total, square):  # noqa: ANN001, ANN201
    """Adds the columns of x [row, channel] and of its square to `total` and `square` [channel]."""
    rows, n = x.shape
    s, q = np.zeros(n, F), np.zeros(n, F)
    for begin in range(0, rows, _BLOCK):
        s[:] = 0
        q[:] = 0
        for r in range(begin, min(begin + _BLOCK, rows)):
            for c in range(n):
                v = _wide(x[r, c])
                s[c] += v
                q[c] += v * v
        for c in range(n):
            total[c] += s[c]
            square[c] += q[c]


@_loop
def normalise(x, y, gain, offset, limits):  # noqa: ANN001, ANN201
    """Writes min(max(gain x + offset, low), high) of x [row, channel] into y."""
    rows, n = x.shape
    low, high = limits[0], limits[1]
    for r in range(rows):
        for c in range(n):
            y[r, c] = _narrow(min(max(_wide(x[r, c]) * gain[c] + offset[c], low), high))


@_loop
def gradient_sums(x, g, gain, offset, limits, total, product):  # noqa: ANN001, ANN201
    """Adds the columns of g and of g x, where the output was within the limits, to `total` and `product`."""
    rows, n = x.shape
    low, high = limits[0], limits[1]
    s, q = np.zeros(n, F), np.zeros(n, F)
    for begin in range(0, rows, _BLOCK):
        s[:] = 0
        q[:] = 0
        for r in range(begin, min(begin + _BLOCK, rows)):
            for c in range(n):
                v = _wide(x[r, c])
                z = v * gain[c] + offset[c]
                d = _wide(g[r, c]) if (z > low) and (z < high) else F(0)
                s[c] += d
                q[c] += d * v
        for c in range(n):
            total[c] += s[c]
            product[c] += q[c]


@_loop
def gradient(x, g, out, gain, offset, limits, slope, constant):  # noqa: ANN001, ANN201
    """Writes gain g, where the output was within the limits, less slope x + constant into `out`."""
    rows, n = x.shape
    low, high = limits[0], limits[1]
    for r in range(rows):
        for c in range(n):
            v = _wide(x[r, c])
            z = v * gain[c] + offset[c]
            d = _wide(g[r, c]) if (z > low) and (z < high) else F(0)
            out[r, c] = _narrow(gain[c] * d - v * slope[c] - constant[c])


@_inline
def _source(place, tap, stride, padding, size):  # noqa: ANN001, ANN202
    """The output position that an input position reaches through a kernel's tap; -1 for none."""
    found = (place + padding - tap) // stride
    return found if 0 <= found < size and found * stride == place + padding - tap else -1


@_loop
def _row_gradients(x, g, weight, to_input, to_weight, stride, padding):  # noqa: ANN001, ANN202
    """One row of the input [column, channel] with one of the output and of the kernel."""
    for j in range(x.shape[0]):
        for tap in range(weight.shape[0]):
            q = _source(j, tap, stride, padding, g.shape[0])
            if q >= 0:
                for c in range(x.shape[1]):
                    d = _wide(g[q, c])
                    to_input[j, c] += d * weight[tap, c]
                    to_weight[tap, c] += d * _wide(x[j, c])


@_loop
def depthwise_gradients(x, g, weight, to_input, to_weight, stride, padding):  # noqa: ANN001, ANN201
    """The gradients of a depthwise convolution in one pass.

    Args:
        x: its input [image, row, column, channel].
        g: the gradient of its output, likewise.
        weight: [kernel row, kernel column, channel], float32.
        to_input: is set to the input's gradient.
        to_weight: the weight's gradient is added to it, float64.
        stride: of the convolution.
        padding: of the input on each side.
    """
    line, part = np.zeros(x.shape[2:], F), np.zeros(weight.shape, F)
    for n in range(x.shape[0]):
        part[:] = 0
        for i in range(x.shape[1]):
            line[:] = 0
            for tap in range(weight.shape[0]):
                o = _source(i, tap, stride, padding, g.shape[1])
                if o >= 0:
                    _row_gradients(x[n, i], g[n, o], weight[tap], line, part[tap], stride, padding)
            for j in range(x.shape[2]):
                for c in range(x.shape[3]):
                    to_input[n, i, j, c] = _narrow(line[j, c])
        to_weight += part


def bits(x: Tensor) -> np.ndarray:
    """The bits of a bf16 tensor [image, channel, row, column] as [image, row, column, channel].

    No copy, and so writeable, where the tensor lies in memory with its channels last.
    """
    return x.detach().permute(0, 2, 3, 1).contiguous().view(torch.uint16).numpy()
