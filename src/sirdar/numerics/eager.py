# SPDX-License-Identifier: Apache-2.0
"""Rounding in torch operations, for tensors that stand on a GPU or another device: the same bits as the CPU's kernels.

It makes some thirty passes over memory; `torch.compile` can fuse them. On a GPU with Triton `triton_kernels.py` is
used instead, which makes one. Integers are computed in int64, because torch lacks shifts and products of uint32.
"""

import torch

from sirdar.errors import UnsupportedError
from sirdar.numerics.counter import MASK_32, keys
from sirdar.numerics.engine import constants, wide
from sirdar.numerics.formats import BlockFormat, Format
from sirdar.numerics.kernels import Constants

_MAGNITUDE, _SIGN, _INFINITY = 0x7FFFFFFF, 0x80000000, 0x7F800000


def quantise(
    x: torch.Tensor, row: Format | BlockFormat, overflow: str, *, seed: int | None, offset: int
) -> torch.Tensor:
    """Round a tensor of any device; arguments are checked by the caller.

    Raises:
        UnsupportedError: x is fp64, or longer than the 2**32 indices that share their random keys.
    """
    if x.dtype == torch.float64 or offset % (MASK_32 + 1) + x.numel() > MASK_32 + 1:
        msg = f"on {x.device} only fp32 and halves of at most 2**32 values are rounded, got {x.dtype} {tuple(x.shape)}"
        raise UnsupportedError(msg)
    values = x.detach().float().contiguous()
    draws = None if seed is None else _draws(values, seed, offset)
    if isinstance(row, BlockFormat):
        return _rounded_blocks(values, row, overflow, draws).to(x.dtype)
    return _rounded(values, row, overflow, draws).to(x.dtype)


def _draws(x: torch.Tensor, seed: int, offset: int) -> torch.Tensor:
    """31 bits for each value: `counter.random_bits`."""
    one, two = keys(seed, offset)
    lower = offset & MASK_32
    h = torch.arange(lower, lower + x.numel(), device=x.device) ^ one
    h = ((h ^ (h >> 17)) * 0xED5AD4BB) & MASK_32
    h = ((h ^ (h >> 11)) + two) & MASK_32
    h = (h * 0xAC4C1B51) & MASK_32
    h = ((h ^ (h >> 15)) * 0x31848BAB) & MASK_32
    return ((h ^ (h >> 14)) >> 1).reshape(x.shape)


def _rounded(x: torch.Tensor, row: Format, overflow: str, draws: torch.Tensor | None) -> torch.Tensor:
    c = constants(row, overflow)
    bits = x.view(torch.int32).long() & MASK_32
    a, sign = bits & _MAGNITUDE, bits & _SIGN
    rounded = _tail(a, int(c.shift), draws)
    if not wide(row):
        rounded = torch.where(a < int(c.tiny), _small(x, c, draws), rounded)
    negative = sign != 0
    limit = torch.where(negative, int(c.limits[1]), int(c.limits[0]))
    beyond = torch.where(negative, int(c.beyond[1]), int(c.beyond[0]))
    rounded = torch.where(rounded > limit, beyond, rounded)
    rounded = torch.where(a > _INFINITY, int(c.nan), rounded)
    kept = torch.where(rounded == 0, sign & int(c.zero_sign), sign)
    return (kept ^ rounded).to(torch.int32).view(torch.float32)


def _tail(a: torch.Tensor, shift: int, draws: torch.Tensor | None) -> torch.Tensor:
    if shift == 0:
        return a
    up = draws >> (31 - shift) if draws is not None else (1 << shift - 1) - 1 + (a >> shift & 1)
    return (a + up) >> shift << shift


def _small(x: torch.Tensor, c: Constants, draws: torch.Tensor | None) -> torch.Tensor:
    steps = (x.abs() * float(c.steps_per_one)).nan_to_num(0.0).clamp(max=2.0**22)
    if draws is None:
        whole = steps.round()  # ties to even
    else:
        floor = steps.floor()
        cut = ((steps - floor) * 2.0**31).long()
        whole = floor + ((cut + draws) >> 31)
    return (whole * float(c.step)).view(torch.int32).long()


def _rounded_blocks(x: torch.Tensor, row: BlockFormat, overflow: str, draws: torch.Tensor | None) -> torch.Tensor:
    missing = -x.shape[-1] % row.block
    bits = torch.nn.functional.pad(x, (0, missing)).view(torch.int32) & _MAGNITUDE
    largest = bits.unflatten(-1, (-1, row.block)).amax(-1)
    code = ((largest >> 23) - row.element.largest_exponent).clamp(0, 254)
    code = torch.where(largest == _INFINITY, 254, code)
    up = torch.ldexp(torch.ones_like(code, dtype=torch.float32), code - 127)
    down = torch.ldexp(torch.ones_like(up), 127 - code)
    up = torch.where(largest > _INFINITY, torch.nan, up)
    up, down = (scale.repeat_interleave(row.block, -1)[..., : x.shape[-1]] for scale in (up, down))
    return _rounded(x * down, row.element, overflow, draws) * up
