# SPDX-License-Identifier: Apache-2.0
"""Operators that TFLite lacks, by those it has. Each step must keep to values that 8 bits hold well.

Recurrent layers are unrolled, one cell for each step of the sequence, by torch's own decompositions.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import default_decompositions

aten: Any = torch.ops.aten
_LONGEST = 512  # of a running sum, which is a product with a square of ones
HIDDEN = -16.0  # added to the score of what a mask hides
_RECURRENT = (
    *(aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input),
    *(aten.lstm_cell.default, aten.gru_cell.default, aten.rnn_tanh_cell.default, aten.rnn_relu_cell.default),
)


def compositions() -> dict[Any, Callable[..., Any]]:
    """For each operator the function that computes it with others."""
    known = default_decompositions()
    return {
        **{operator: known[operator] for operator in (*_RECURRENT, aten.einsum.default) if operator in known},
        aten._upsample_nearest_exact2d.vec: _nearest_exact,
        aten.adaptive_avg_pool2d.default: _adaptive_mean,
        aten.addcmul.default: lambda x, y, z, value=1: x + (y * z if value == 1 else y * z * value),
        aten.amin.default: lambda x, axes=(), keepdim=False: -torch.amax(-x, axes, keepdim),
        aten.channel_shuffle.default: _channel_shuffle,
        aten.conv_transpose2d.input: _grouped_transpose,
        aten.cumsum.default: _running_sum,
        aten.celu.default: lambda x, alpha=1.0: _elu(x, alpha, 1.0, 1.0 / alpha),
        aten.elu.default: _elu,
        aten.expm1.default: lambda x: torch.exp(x) - 1.0,
        aten.glu.default: _glu,
        aten.group_norm.default: _group_norm,
        aten.hardsigmoid.default: lambda x: torch.clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0),
        aten.instance_norm.default: _instance_norm,
        aten.layer_norm.default: _layer_norm,
        aten.lerp.Scalar: _between,
        aten.lerp.Tensor: _between,
        aten.log1p.default: lambda x: torch.log(x + 1.0),
        aten.logsumexp.default: _log_of_sum,
        aten.log_sigmoid.default: lambda x: -_softplus(-x),
        aten.logaddexp.default: lambda x, y: torch.maximum(x, y) + _bend(x - y),
        aten.max.default: lambda x: torch.amax(x, ()),
        aten.max.dim: _greatest,
        aten.max.other: torch.maximum,
        aten.min.default: lambda x: -torch.amax(-x, ()),
        aten.min.dim: _least,
        aten.min.other: torch.minimum,
        aten.mish.default: lambda x: x * torch.tanh(_softplus(x)),
        aten.constant_pad_nd.default: lambda x, rows, value=0: _pad(x, rows, "constant", value),
        aten.pad.default: _pad,
        aten.repeat_interleave.self_int: _repeat_interleave,
        aten.pow.Tensor_Scalar: _power,
        aten.pixel_shuffle.default: _pixel_shuffle,
        aten.pixel_unshuffle.default: _pixel_unshuffle,
        aten.rms_norm.default: _rms_norm,
        aten.roll.default: _roll,
        aten.scaled_dot_product_attention.default: _attention,
        aten.selu.default: lambda x: _elu(x, 1.6732632423543772, 1.0507009873554805),
        aten.silu.default: lambda x: x * torch.sigmoid(x),
        aten.softplus.default: _softplus,
        aten.sum.default: lambda x, dtype=None: _sum(x, None, dtype=dtype),
        aten.sum.dim_IntList: _sum,
        aten.type_as.default: lambda x, like: x if x.dtype == like.dtype else NotImplemented,
        aten.var.correction: _variance,
        aten.var.dim: lambda x, axes, unbiased=True, keepdim=False: _variance(
            x, axes, correction=int(unbiased), keepdim=keepdim
        ),
    }


def _elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, slope: float = 1.0) -> Any:  # noqa: ANN401
    if alpha == scale == slope == 1:
        return NotImplemented  # TFLite has this one
    return torch.relu(x) * scale + torch.nn.functional.elu(x.clamp(max=0.0) * slope) * (alpha * scale)


def _power(x: Tensor, exponent: int | float) -> Any:  # noqa: ANN401
    """TFLite has the square alone."""
    products: dict[int | float, Callable[[], Tensor]] = {
        3: lambda: x * x * x,
        4: lambda: (x * x) * (x * x),
        -0.5: lambda: torch.rsqrt(x),
    }
    return products[exponent]() if exponent in products else NotImplemented


def _glu(x: Tensor, axis: int = -1) -> Tensor:
    first, second = x.split(x.shape[axis] // 2, axis)
    return first * torch.sigmoid(second)


def _greatest(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:  # noqa: FBT001
    """Where nobody takes the places, torch.export leaves them out."""
    return torch.amax(x, axis, keepdim), torch.argmax(x, axis, keepdim)


def _least(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:  # noqa: FBT001
    values, places = _greatest(-x, axis, keepdim)
    return -values, places


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """As log(1 + exp(x)) it would need all of exp's range; the threshold, a mere shortcut, is 2e-9 at 20."""
    if threshold < 8:
        return NotImplemented
    return torch.relu(x) + _bend(x * beta if beta != 1 else x) * (1.0 / beta)


def _bend(x: Tensor) -> Tensor:
    """log(1 + exp(-|x|)), from 0 to log 2."""
    return torch.log(torch.sigmoid(x.abs())) * -1.0


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: object
) -> Tensor:
    axes = list(range(x.ndim - len(shape), x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    variance = (centred * centred).mean(axes, keepdim=True)
    scaled = centred * torch.rsqrt(variance + eps)
    scaled = scaled if weight is None else scaled * weight
    return scaled if bias is None else scaled + bias


def _rms_norm(x: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    axes = list(range(x.ndim - len(shape), x.ndim))
    least = torch.finfo(x.dtype).eps if eps is None else eps
    scaled = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + least)
    return scaled if weight is None else scaled * weight


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: object
) -> Tensor:
    scaled = _layer_norm(x.reshape(x.shape[0], groups, -1), [0], eps=eps).reshape(x.shape)
    channels = (1, -1, *[1] * (x.ndim - 2))
    scaled = scaled if weight is None else scaled * weight.reshape(channels)
    return scaled if bias is None else scaled + bias.reshape(channels)


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    from_input: bool,  # noqa: FBT001
    momentum: float,
    eps: float,
    *_: object,
) -> Any:  # noqa: ANN401
    if not from_input:
        return aten._native_batch_norm_legit_no_training(x, weight, bias, mean, variance, momentum, eps)[0]
    return _group_norm(x, x.shape[1], weight, bias, eps)


def _sum(x: Tensor, axes: list[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:  # noqa: ANN401, FBT001
    if not x.is_floating_point() or (dtype is not None and dtype != x.dtype):
        return NotImplemented
    axes = axes or list(range(x.ndim))
    return x.mean(axes, keepdim) * float(math.prod(x.shape[axis] for axis in axes))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *options: Tensor | float | bool | None,
    scale: float | None = None,
    **more: Tensor | float | bool | None,
) -> Tensor:
    defaults = (None, 0.0, False)  # mask, dropout, causal
    mask, _, causal = (*options, *defaults[len(options) :])[:3]
    mask, causal = more.get("attn_mask", mask), more.get("is_causal", causal)
    if more.get("enable_gqa", False):
        key, value = _repeated(key, query), _repeated(value, query)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.matmul(query * factor, key.transpose(-2, -1))
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(mask, Tensor):
        # Minus infinity has no place in int8; this leaves a share of e^-16.
        scores = scores + (torch.where(mask, 0.0, HIDDEN) if mask.dtype == torch.bool else mask.clamp(min=HIDDEN))
    return torch.softmax(scores, -1) @ value


def _repeated(x: Tensor, query: Tensor) -> Tensor:
    """Keys or values whose heads several heads of queries share, once for each of them."""
    heads, length, width = x.shape[-3:]
    each = query.shape[-3] // heads
    return x.unsqueeze(-3).expand(*x.shape[:-2], each, length, width).reshape(*x.shape[:-3], -1, length, width)


def _pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    *batch, channels, height, width = x.shape
    deep = channels // factor**2
    split = x.reshape(-1, deep, factor, factor, height, width).permute(0, 1, 4, 2, 5, 3)
    return split.reshape(*batch, deep, height * factor, width * factor)


def _pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    *batch, channels, height, width = x.shape
    small = (height // factor, width // factor)
    split = x.reshape(-1, channels, small[0], factor, small[1], factor).permute(0, 1, 3, 5, 2, 4)
    return split.reshape(*batch, channels * factor**2, *small)


def _pad(x: Tensor, rows: list[int], mode: str = "constant", value: float | None = None) -> Any:  # noqa: ANN401
    if any(row < 0 for row in rows):
        return torch.nn.functional.pad(_cropped(x, rows), [max(row, 0) for row in rows], mode, value)
    if mode in ("circular", "replicate"):
        for place, (before, after) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
            x = _extended(x, x.ndim - 1 - place, before, after, mode)
        return x
    if mode != "constant" or not value:
        return NotImplemented  # zeros it has
    return torch.nn.functional.pad(x - value, rows) + value


def _cropped(x: Tensor, rows: list[int]) -> Tensor:
    """Without what negative rows of padding take away."""
    for place, (before, after) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        axis, start = x.ndim - 1 - place, max(-before, 0)
        x = x.narrow(axis, start, x.shape[axis] - start - max(-after, 0))
    return x


def _extended(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """One axis with what lies at its other end, or its own ends again and again."""
    size = x.shape[axis]
    ring = mode == "circular"
    first = [x.narrow(axis, size - before, before)] if ring and before else [x.narrow(axis, 0, 1)] * before
    last = [x.narrow(axis, 0, after)] if ring and after else [x.narrow(axis, size - 1, 1)] * after
    return torch.cat([*first, x, *last], axis) if before or after else x


def _roll(x: Tensor, shifts: list[int], axes: list[int] = ()) -> Any:  # noqa: ANN401 # pyright: ignore[reportArgumentType]
    if not axes:
        return NotImplemented
    for shift, axis in zip(shifts, axes, strict=True):
        moved = shift % x.shape[axis]
        if moved:
            x = torch.cat(
                [x.narrow(axis, x.shape[axis] - moved, moved), x.narrow(axis, 0, x.shape[axis] - moved)], axis
            )
    return x


def _channel_shuffle(x: Tensor, groups: int) -> Tensor:
    batch, channels, *places = x.shape
    return x.reshape(batch, groups, channels // groups, -1).transpose(1, 2).reshape(batch, channels, *places)


def _running_sum(x: Tensor, axis: int, *, dtype: torch.dtype | None = None) -> Any:  # noqa: ANN401
    size = x.shape[axis] if x.ndim else 0
    if not x.is_floating_point() or dtype not in (None, x.dtype) or not 0 < size <= _LONGEST:
        return NotImplemented
    return torch.nn.functional.linear(x.transpose(axis, -1), torch.ones(size, size).tril()).transpose(axis, -1)


def _log_of_sum(x: Tensor, axes: list[int], keepdim: bool = False) -> Tensor:  # noqa: FBT001
    """About the greatest value, so that every step keeps to a range of its own."""
    most = torch.amax(x, axes, keepdim=True)
    count = math.prod(x.shape[axis] for axis in axes)
    found = torch.log(torch.exp(x - most).mean(axes, keepdim=True)) + most + math.log(count)
    return (
        found if keepdim else found.reshape([size for axis, size in enumerate(x.shape) if axis not in _places(x, axes)])
    )


def _variance(
    x: Tensor, axes: list[int] | None = None, *, correction: int | float | None = None, keepdim: bool = False
) -> Any:  # noqa: ANN401
    axes = axes or list(range(x.ndim))
    count = math.prod(x.shape[axis] for axis in axes)
    left = count - (1 if correction is None else correction)
    if left <= 0:
        return NotImplemented
    centred = x - x.mean(axes, keepdim=True)
    return (centred * centred).mean(axes, keepdim) * (count / left)


def _places(x: Tensor, axes: list[int]) -> set[int]:
    return {axis % x.ndim for axis in axes}


def _grouped_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    output_padding: Any = 0,  # noqa: ANN401
    groups: int = 1,
    dilation: Any = 1,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """One after the other: TFLite's have no groups."""
    if groups == 1:
        return NotImplemented
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
    rest = (stride, padding, output_padding, 1, dilation)
    return torch.cat([torch.nn.functional.conv_transpose2d(*part, *rest) for part in parts], 1)


def _adaptive_mean(x: Tensor, size: list[int]) -> Any:  # noqa: ANN401
    """Windows of different sizes as products with their weights, axis by axis."""
    if x.ndim != 4 or not any(of % to for of, to in zip(x.shape[2:], size, strict=True)):
        return NotImplemented
    height, width = (_window_weights(of, to) for of, to in zip(x.shape[2:], size, strict=True))
    across = torch.nn.functional.linear(x, width)
    return torch.nn.functional.linear(across.transpose(2, 3), height).transpose(2, 3)


def _window_weights(size: int, count: int) -> Tensor:
    """Shares of `size` places in the means of `count` windows, as torch's adaptive pooling lays them."""
    row, place = torch.arange(float(count))[:, None], torch.arange(float(size))
    begin, end = torch.floor(row * size / count), torch.ceil((row + 1) * size / count)
    return ((place >= begin) & (place < end)) / (end - begin)


def _repeat_interleave(x: Tensor, times: int, axis: int | None = None, **_: object) -> Any:  # noqa: ANN401
    if axis is None:
        return NotImplemented
    axis %= x.ndim
    spread = x.unsqueeze(axis + 1).expand(*x.shape[: axis + 1], times, *x.shape[axis + 1 :])
    return spread.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def _nearest_exact(x: Tensor, size: list[int] | None, factors: list[float] | None) -> Any:  # noqa: ANN401
    wanted = size or [int(side * factor) for side, factor in zip(x.shape[2:], factors or (), strict=True)]
    if any(to % of for of, to in zip(x.shape[2:], wanted, strict=True)):
        return NotImplemented
    return torch.nn.functional.interpolate(x, wanted)  # by whole factors both are the same


def _between(x: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
    return x + (y - x) * weight
