# SPDX-License-Identifier: Apache-2.0
"""`quantise`, `encode` and `decode`: arrays and tensors to the values of a number format, and to its stored bits.

Every value is rounded with random bits of its own index, so results depend neither on threads nor on how work is split.
`reference.py` states the rule for one value; `kernels.py` is the same in vector code, loaded on the first call.
"""

import sys
from functools import lru_cache
from numbers import Integral
from typing import Any, Literal

import numpy as np

from sirdar.errors import ArgumentError, require_seed
from sirdar.numerics import memory
from sirdar.numerics.arrays import (
    Values,
    dtype_name,
    host_array,
    is_tensor,
    narrowed,
    on_device,
    require_dense,
    require_no_gradient,
    require_room,
    returned,
    uncompiled,
)
from sirdar.numerics.formats import BlockFormat, Format, row_named
from sirdar.numerics.reference import decode_value

Rounding = Literal["nearest", "stochastic"]
Saturation = Literal["saturate", "ieee"]


def quantise(
    x: Values,
    format: str | Format | BlockFormat,  # noqa: A002 - the word of the field
    *,
    rounding: Rounding = "nearest",
    overflow: Saturation = "saturate",
    seed: int | None = None,
    offset: int = 0,
    out: Values | None = None,
) -> Values:
    """The values of x in a number format, as the type that x has.

    Args:
        x: array or tensor of any shape. fp32 is read in place; fp16 and bf16 are widened, fp64 is narrowed first.
        format: a name such as "e4m3fn" or "mxfp4_e2m1", or a row such as `cfp8("e4m3", 11)`. Block formats take
            blocks of neighbours along the last axis.
        rounding: "nearest" (ties to even) or "stochastic" (up with the probability of the fraction cut off).
        overflow: "saturate" makes whatever lies beyond the largest value, infinity included, the largest value;
            "ieee" does what the format's own standard says (see `Format.overflow`). Not-a-number stays so where the
            format has one, otherwise it becomes zero.
        seed: needed for stochastic rounding; the same seed gives the same result.
        offset: index of the first value of x, for a part of a larger array.
        out: where to put the result: contiguous, fp32, of the shape of x; may be x.

    Raises:
        ArgumentError: an argument is unknown or missing; the sentence says which.
        UnsupportedError: x stands on a device without a kernel.
    """
    row = format_of(format)
    draw, offset = draw_seed(rounding, overflow, seed, offset)
    require_dense(x)
    if on_device(x):
        return _on_device(x, row, overflow, (draw, offset), out)
    return _on_host(x, row, overflow, (draw, offset), out)


@uncompiled
def _on_host(x: Any, row: Format | BlockFormat, overflow: str, draw: tuple[int | None, int], out: Any) -> Any:  # noqa: ANN401
    values = host_array(x)
    require_room(x, row)
    result = memory.empty(values.shape) if out is None else _target(out, x, values)
    _round(narrowed(values, row, *draw), result, row, overflow, draw)
    return returned(result, x) if out is None else out


def _on_device(x: Any, row: Format | BlockFormat, overflow: str, draw: tuple[int | None, int], out: Any) -> Any:  # noqa: ANN401
    require_no_gradient(x)
    require_room(x, row)
    seed, offset = draw
    kernel = _device_kernel(x, offset)
    result = kernel(x.detach().resolve_neg(), row, overflow, seed=seed, offset=offset)
    return result if out is None else out.copy_(result)


def _device_kernel(x: Any, offset: int) -> Any:  # noqa: ANN401 - a function of either module
    """Triton's kernel for fp32 on a GPU, where there is Triton; torch operations otherwise."""
    from importlib.util import find_spec

    fits = dtype_name(x) == "float32" and x.dim() > 0 and offset % (1 << 32) + x.numel() <= 1 << 32
    if x.is_cuda and fits and find_spec("triton") is not None:
        from sirdar.numerics import triton_kernels

        return lambda values, *rest, **named: triton_kernels.quantise(values.contiguous(), *rest, **named)
    from sirdar.numerics import eager

    return eager.quantise


def _round(
    x: np.ndarray, out: np.ndarray, row: Format | BlockFormat, overflow: str, draw: tuple[int | None, int]
) -> None:
    from sirdar.numerics import engine  # numba takes a second to load

    seed, offset = draw
    if isinstance(row, Format):
        engine.round_array(x, out, row, overflow, seed=seed, offset=offset)
    else:
        engine.round_block_array(x, out, row, overflow, seed=seed, offset=offset, scaled=True)


@uncompiled
def encode(
    x: Values,
    format: str | Format,  # noqa: A002
    *,
    rounding: Rounding = "nearest",
    overflow: Saturation = "saturate",
    seed: int | None = None,
    offset: int = 0,
    out: Values | None = None,
) -> Values:
    """The stored bits of `quantise`: uint8, uint16 or uint32, whatever holds one value; fp6 and fp4 take a byte each.

    Args:
        x: array or tensor of any shape.
        format: a name or a row, but no block format (see `encode_blocks`).
        rounding: as in `quantise`.
        overflow: as in `quantise`.
        seed: as in `quantise`.
        offset: as in `quantise`.
        out: where to put the codes: contiguous, of the shape of x and the type above.

    Raises:
        ArgumentError: an argument is unknown or missing; the sentence says which.
    """
    from sirdar.numerics import engine

    row = format_of(format)
    if isinstance(row, BlockFormat):
        msg = f"{row.name} stores scales beside its elements: use encode_blocks"
        raise ArgumentError(msg)
    draw, offset = draw_seed(rounding, overflow, seed, offset)
    values = narrowed(host_array(x), row, draw, offset)
    codes = np.empty(values.shape, engine.code_type(row)) if out is None else host_codes(out)
    if codes.shape != values.shape or codes.dtype != engine.code_type(row) or not codes.flags.c_contiguous:
        wanted = f"contiguous {engine.code_type(row).__name__} of shape {values.shape}"
        msg = f"out must be {wanted}, got {codes.dtype} of {codes.shape}"
        raise ArgumentError(msg)
    require_apart(codes, values)
    engine.encode_array(values, codes, row, overflow, seed=draw, offset=offset)
    return as_given(codes, x) if out is None else out


@uncompiled
def decode(codes: Values, format: str | Format) -> Values:  # noqa: A002
    """Stored bits to fp32.

    Args:
        codes: unsigned integers as `encode` returns them.
        format: a name or a row, but no block format (see `decode_blocks`).

    Raises:
        ArgumentError: the format is a block format, or a code has more bits than the format.
    """
    row = format_of(format)
    if isinstance(row, BlockFormat):
        msg = f"{row.name} stores scales beside its elements: use decode_blocks"
        raise ArgumentError(msg)
    array = host_codes(codes)
    if array.dtype.kind != "u":
        msg = f"codes must be unsigned integers, got {array.dtype}"
        raise ArgumentError(msg)
    if array.size and int(array.max()) >> row.bits:
        msg = f"codes of {row.name} have {row.bits} bits, got {int(array.max()):#x}"
        raise ArgumentError(msg)
    if row.exponent == 8:  # the first bits of fp32
        values = (array.astype(np.uint32) << np.uint32(32 - row.bits)).view(np.float32)
    else:
        values = _table(row)[array]
    return as_given(np.asarray(values), codes)  # a single code gives a scalar of numpy


def host_codes(codes: Any) -> np.ndarray:  # noqa: ANN401
    """Codes of an array or a tensor as an array."""
    return codes.cpu().numpy() if is_tensor(codes) else np.asarray(codes)


@lru_cache
def _table(row: Format) -> np.ndarray:
    return np.array([decode_value(code, row) for code in range(1 << row.bits)], np.float32)


def as_given(array: np.ndarray, x: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    """An array as the kind of x, array, numpy's scalar or tensor, with its own dtype."""
    if isinstance(x, np.ndarray | np.generic):
        return array if isinstance(x, np.ndarray) else array[()]
    return sys.modules["torch"].from_numpy(array)


def format_of(format: Any) -> Format | BlockFormat:  # noqa: A002, ANN401 - what is neither is refused here
    """The row of a name, or the row itself.

    Raises:
        ArgumentError: no format is called so; the sentence lists those that are. Or it is neither name nor row.
    """
    if isinstance(format, Format | BlockFormat):
        return format
    if not isinstance(format, str):
        msg = f"format must be a name such as 'bf16' or a row of formats, got {format!r}"
        raise ArgumentError(msg)
    return row_named(format)


def draw_seed(rounding: str, overflow: str, seed: int | None, offset: object) -> tuple[int | None, int]:
    """The seed if rounding is stochastic, otherwise None; and the offset as a plain int."""
    if overflow not in ("saturate", "ieee"):
        msg = f"overflow must be 'saturate' or 'ieee', got {overflow!r}"
        raise ArgumentError(msg)
    if isinstance(offset, bool) or not isinstance(offset, Integral) or offset < 0:
        msg = f"offset must be an integer from 0 on, got {offset!r}"
        raise ArgumentError(msg)
    if rounding == "nearest":
        return None, int(offset)
    if rounding != "stochastic":
        msg = f"rounding must be 'nearest' or 'stochastic', got {rounding!r}"
        raise ArgumentError(msg)
    if seed is None:
        msg = "rounding 'stochastic' needs a seed, got None: pass seed=0, and another seed on every step of a training"
        raise ArgumentError(msg)
    return require_seed(seed), int(offset)


def _target(out: Any, x: Any, values: np.ndarray) -> np.ndarray:  # noqa: ANN401 - what is no array is refused here
    """The memory of `out`, or an `ArgumentError`."""
    same = type(out) is type(x) and out.shape == x.shape
    if not same or dtype_name(out) != "float32" or dtype_name(x) != "float32":
        got = f"{dtype_name(out)} {tuple(out.shape)}" if hasattr(out, "dtype") else repr(type(out).__name__)
        msg = f"out must be of the type and shape of x and both float32, got {got}"
        raise ArgumentError(msg)
    if isinstance(out, np.ndarray):
        contiguous = out.flags.c_contiguous and out.dtype.isnative
    else:
        contiguous = out.is_contiguous() and not out.is_neg()
    if not contiguous:
        msg = "out must be contiguous, got a strided, negated or byte-swapped view"
        raise ArgumentError(msg)
    target = host_array(out)
    require_apart(target, values)
    return target


def require_apart(out: np.ndarray, x: np.ndarray) -> None:
    """Refuse an `out` that cannot be written, or that overlaps x without being x: later values would be read anew."""
    if not out.flags.writeable:
        msg = "out must be writable, got a read-only array"
        raise ArgumentError(msg)
    if np.may_share_memory(out, x) and (out.ctypes.data, out.dtype) != (x.ctypes.data, x.dtype):
        msg = "out must be x itself or lie apart from it, got a view that overlaps x"
        raise ArgumentError(msg)
