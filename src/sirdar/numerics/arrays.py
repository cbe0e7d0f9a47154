# SPDX-License-Identifier: Apache-2.0
"""Arrays and tensors in, the same out: fp32 in place, halves widened, fp64 narrowed without a bias.

A value of fp64 would be rounded twice on its way through fp32. Rounded to odd in between (Boldo and Melquiond,
"Emulation of FMA and correctly rounded sums", IEEE TC 2008), rounding on to nearest gives what the original would;
rounded stochastically in between, the two draws together have the probabilities of one.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.numerics.counter import child_seed, random_array
from sirdar.numerics.formats import BlockFormat, Format, format_named

if TYPE_CHECKING:
    import torch

Values = TypeVar("Values", np.ndarray, np.generic, "torch.Tensor")
Given = ParamSpec("Given")
Made = TypeVar("Made")

_HALVES = {"float16": "fp16", "bfloat16": "bf16"}
_ODD_MANTISSA = 21  # bits: rounding to odd in between takes two more, and fp32 has 23


def is_tensor(x: object) -> bool:
    """Whether x is a torch tensor; loads no torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def uncompiled(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """The function, which `torch.compile` leaves as it is: it cannot follow numpy into the compiled loops."""

    @wraps(function)
    def outside(*arguments: Given.args, **keywords: Given.kwargs) -> Made:
        torch = sys.modules.get("torch")
        if torch is None or not torch.compiler.is_compiling():
            return function(*arguments, **keywords)
        return torch.compiler.disable(function)(*arguments, **keywords)

    return outside


def on_device(x: Any) -> bool:  # noqa: ANN401
    """Whether x is a tensor outside the memory of the CPU."""
    return is_tensor(x) and x.device.type != "cpu"


def dtype_name(x: Any) -> str:  # noqa: ANN401 - whatever the caller gave
    """The name of the dtype of an array or a tensor, such as "float32"."""
    return x.dtype.name if isinstance(x, np.ndarray | np.generic) else str(x.dtype).removeprefix("torch.")


def host_array(x: Any) -> np.ndarray:  # noqa: ANN401
    """A contiguous fp32 or fp64 array of the machine's byte order; it shares memory with x where x is such already.

    Raises:
        ArgumentError: x is no array of floats, one with masked values, or a tensor whose gradient would be lost.
        UnsupportedError: the tensor stands on a device that no kernel reaches.
    """
    if isinstance(x, np.ma.MaskedArray):
        msg = "x must not be masked, as rounding has no place for a mask: pass x.filled(value)"
        raise ArgumentError(msg)
    if not (isinstance(x, np.ndarray | np.generic) or is_tensor(x)):
        msg = f"x must be a numpy array or a torch tensor, got {type(x).__name__}"
        raise ArgumentError(msg)
    name = dtype_name(x)
    if name not in ("float32", "float64", *_HALVES):
        msg = f"x must hold float32, float64, float16 or bfloat16, got {name}"
        raise ArgumentError(msg)
    if isinstance(x, np.ndarray | np.generic):
        kind = x.dtype.newbyteorder("=") if name not in _HALVES else np.float32
        return np.ascontiguousarray(x, dtype=kind).reshape(x.shape)
    return _tensor_array(x, widen=name in _HALVES)


def require_no_gradient(x: Any) -> None:  # noqa: ANN401
    """Refuse tensors whose gradient would be lost."""
    if x.requires_grad and sys.modules["torch"].is_grad_enabled():
        msg = "x requires a gradient, which rounding has none of: pass x.detach(), or use numerics.layers.rounded"
        raise ArgumentError(msg)


def require_dense(x: Any) -> None:  # noqa: ANN401
    """Refuse sparse tensors, whose memory is not that of their values."""
    if is_tensor(x) and x.layout is not sys.modules["torch"].strided:
        msg = f"x must be a dense tensor, got one of layout {x.layout}: pass x.to_dense()"
        raise ArgumentError(msg)


def _tensor_array(x: "torch.Tensor", *, widen: bool) -> np.ndarray:
    require_dense(x)
    require_no_gradient(x)
    if on_device(x):
        msg = f"x stands on {x.device}; only quantise works there: pass x.cpu()"
        raise UnsupportedError(msg)
    plain = x.detach().float() if widen else x.detach()
    return plain.resolve_neg().contiguous().numpy()


def require_room(x: Any, row: Format | BlockFormat) -> None:  # noqa: ANN401
    """Refuse halves that cannot hold every value of the format."""
    name = dtype_name(x)
    if name not in _HALVES:
        return
    half = format_named(_HALVES[name])
    if isinstance(row, BlockFormat) or row.mantissa > half.mantissa or row.bits > half.bits:
        fits = False
    else:
        fits = row.largest <= half.largest and row.smallest >= half.smallest
    if not fits:
        msg = f"{name} cannot hold every value of {row.name}: widen x to float32 first"
        raise ArgumentError(msg)


def returned(result: np.ndarray, x: Any) -> Any:  # noqa: ANN401
    """The fp32 result as what the caller gave."""
    if isinstance(x, np.ndarray | np.generic):
        made = result.astype(x.dtype, copy=False)
        return made if isinstance(x, np.ndarray) else made[()]
    return sys.modules["torch"].from_numpy(result).to(x.dtype)


def _nearest(x: np.ndarray, row: Format) -> np.ndarray:
    """Values of fp64 as the nearest of the format, ties to even, but for its largest."""
    step = np.maximum(np.ldexp(1.0, np.frexp(x)[1] - 1 - row.mantissa), row.smallest)
    return (np.rint(x / step) * step).astype(np.float32)


def narrowed(x: np.ndarray, row: Format | BlockFormat, seed: int | None, offset: int) -> np.ndarray:
    """Values of fp64 as fp32, so that rounding them on to the format has no bias; fp32 as it is."""
    if x.dtype == np.float32:
        return x
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = x.astype(np.float32)
        if seed is None and row.name == "fp32":
            return near
        if seed is None and isinstance(row, Format) and row.mantissa > _ODD_MANTISSA:
            return _nearest(x, row)
        cut = np.where(np.abs(near) > np.abs(x), near.view(np.uint32) - np.uint32(1), near.view(np.uint32))
        low = cut.view(np.float32)
        rest = np.abs(x) - np.abs(low.astype(np.float64))
        if seed is None:
            bits = np.where(rest > 0, cut | np.uint32(1), cut)
        else:
            draws = random_array(child_seed(seed, 64), offset, x.size).reshape(x.shape) >> np.uint32(1)
            steps = np.floor(rest / np.spacing(np.abs(low)).astype(np.float64) * 2.0**31)
            bits = np.where(steps + draws >= 2.0**31, cut + np.uint32(1), cut)
    keep = ~np.isfinite(x) | (np.abs(x) >= 2.0**128)
    return np.where(keep, near, bits.astype(np.uint32).view(np.float32)).astype(np.float32)
