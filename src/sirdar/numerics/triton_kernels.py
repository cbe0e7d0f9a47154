# SPDX-License-Identifier: Apache-2.0
"""The rounding loops of `kernels.py` for a GPU, in Triton: one pass over memory, the same bits for the same seed.

Imported on first use only, and only for tensors on a GPU: nothing else in the package needs Triton, which comes with
torch's builds for GPUs. `eager.py` does the same in some thirty passes where Triton is missing.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports] - comes with the builds of torch for GPUs
import triton.language as tl  # pyright: ignore[reportMissingImports]

from sirdar.numerics.counter import MASK_32, keys
from sirdar.numerics.engine import constants, wide
from sirdar.numerics.formats import BlockFormat, Format

_BLOCK = 1024  # values that one program rounds
_ROWS = 32  # blocks of a microscaling format that one program rounds
_SIGNED = 1 << 31


# Functions are unwrapped: under pytest, jaxtyping wraps every one of the package, and Triton reads their source.


def _part(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - Triton's own type
    return triton.jit(inspect.unwrap(function))


def _kernel(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    # Keys change with every seed: compiled code must not depend on their values.
    return triton.jit(inspect.unwrap(function), do_not_specialize=["start", "one", "two"])


def _random(index, first, second):  # noqa: ANN001, ANN202 - Triton's blocks
    """`counter.random_bits`, less the keys and the lowest bit."""
    h = index ^ first
    h = (h ^ (h >> 17)) * 0xED5AD4BB
    h = (h ^ (h >> 11)) + second
    h = h * 0xAC4C1B51
    h = (h ^ (h >> 15)) * 0x31848BAB
    return (h ^ (h >> 14)) >> 1


random = _part(_random)


def _tail(a, draw, SHIFT: tl.constexpr, STOCHASTIC: tl.constexpr):  # noqa: ANN001, ANN202, N803 - Triton's constants
    """The mantissa's tail: rounded to nearest, ties to even, or carried by the top of the random bits."""
    if SHIFT == 0:  # one way out: Triton compiles what follows a return
        cut = a
    elif STOCHASTIC:
        cut = ((a + (draw >> (31 - SHIFT))) >> SHIFT) << SHIFT
    else:
        cut = ((a + ((a >> SHIFT) & 1) + ((1 << (SHIFT - 1)) - 1)) >> SHIFT) << SHIFT
    return cut


tail = _part(_tail)


def _small(a, draw, STEPS: tl.constexpr, STEP: tl.constexpr, STOCHASTIC: tl.constexpr):  # noqa: ANN001, ANN202, N803
    """Subnormals of the format, counted in steps of the smallest."""
    steps = tl.minimum(a.to(tl.float32, bitcast=True) * STEPS, 4194304.0)
    if STOCHASTIC:
        whole = steps.to(tl.int32)
        cut = ((steps - whole.to(tl.float32)) * 2147483648.0).to(tl.int32).to(tl.uint32)
        count = (whole + ((cut + draw) >> 31).to(tl.int32)).to(tl.float32)
    else:
        count = (steps + 8388608.0) - 8388608.0  # fp32 has no fractions from 2**23 on: the addition rounds
    return (count * STEP).to(tl.uint32, bitcast=True)


small = _part(_small)


def _rounded(  # noqa: ANN202, PLR0913
    bits,  # noqa: ANN001
    draw,  # noqa: ANN001
    SHIFT: tl.constexpr,  # noqa: N803
    TINY: tl.constexpr,  # noqa: N803
    STEPS: tl.constexpr,  # noqa: N803
    STEP: tl.constexpr,  # noqa: N803
    LIMIT: tl.constexpr,  # noqa: N803
    LIMIT_BELOW: tl.constexpr,  # noqa: N803
    BEYOND: tl.constexpr,  # noqa: N803
    BEYOND_BELOW: tl.constexpr,  # noqa: N803
    NAN: tl.constexpr,  # noqa: N803
    ZERO_SIGN: tl.constexpr,  # noqa: N803
    WIDE: tl.constexpr,  # noqa: N803
    STOCHASTIC: tl.constexpr,  # noqa: N803
):
    """Bits of fp32 to bits of the rounded value."""
    a = bits & 0x7FFFFFFF
    sign = bits & 0x80000000
    rounded = tail(a, draw, SHIFT, STOCHASTIC)
    if not WIDE:
        rounded = tl.where(a < TINY, small(a, draw, STEPS, STEP, STOCHASTIC), rounded)
    negative = sign != 0
    limit = tl.where(negative, LIMIT_BELOW, LIMIT).to(tl.uint32)
    beyond = tl.where(negative, BEYOND_BELOW, BEYOND).to(tl.uint32)
    rounded = tl.where(rounded > limit, beyond, rounded)
    rounded = tl.where(a > 0x7F800000, NAN, rounded).to(tl.uint32)
    kept = tl.where(rounded == 0, sign & ZERO_SIGN, sign).to(tl.uint32)
    return kept ^ rounded


rounded = _part(_rounded)


def _round_values(  # noqa: ANN202, PLR0913
    x,  # noqa: ANN001
    out,  # noqa: ANN001
    size,  # noqa: ANN001
    start,  # noqa: ANN001
    one,  # noqa: ANN001
    two,  # noqa: ANN001
    SHIFT: tl.constexpr,  # noqa: N803
    TINY: tl.constexpr,  # noqa: N803
    STEPS: tl.constexpr,  # noqa: N803
    STEP: tl.constexpr,  # noqa: N803
    LIMIT: tl.constexpr,  # noqa: N803
    LIMIT_BELOW: tl.constexpr,  # noqa: N803
    BEYOND: tl.constexpr,  # noqa: N803
    BEYOND_BELOW: tl.constexpr,  # noqa: N803
    NAN: tl.constexpr,  # noqa: N803
    ZERO_SIGN: tl.constexpr,  # noqa: N803
    WIDE: tl.constexpr,  # noqa: N803
    STOCHASTIC: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Round a flat array of the bits of fp32."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    bits = tl.load(x + place, mask=inside, other=0).to(tl.uint32, bitcast=True)
    draw = bits
    if STOCHASTIC:
        draw = random(start.to(tl.uint32) + place.to(tl.uint32), one.to(tl.uint32), two.to(tl.uint32))
    result = rounded(
        bits, draw, SHIFT, TINY, STEPS, STEP, LIMIT, LIMIT_BELOW, BEYOND, BEYOND_BELOW, NAN, ZERO_SIGN, WIDE, STOCHASTIC
    )
    tl.store(out + place, result.to(tl.int32, bitcast=True), mask=inside)


round_values = _kernel(_round_values)


def _power_of_two(exponent):  # noqa: ANN001, ANN202
    """From -149 to 127."""
    normal = (exponent + 127) << 23
    subnormal = 1 << tl.maximum(exponent + 149, 0)
    return tl.where(exponent >= -126, normal, subnormal).to(tl.float32, bitcast=True)


power_of_two = _part(_power_of_two)


def _round_blocks(  # noqa: ANN202, PLR0913
    x,  # noqa: ANN001
    out,  # noqa: ANN001
    blocks,  # noqa: ANN001
    width,  # noqa: ANN001
    per_row,  # noqa: ANN001
    start,  # noqa: ANN001
    one,  # noqa: ANN001
    two,  # noqa: ANN001
    SHIFT: tl.constexpr,  # noqa: N803
    TINY: tl.constexpr,  # noqa: N803
    STEPS: tl.constexpr,  # noqa: N803
    STEP: tl.constexpr,  # noqa: N803
    LIMIT: tl.constexpr,  # noqa: N803
    LIMIT_BELOW: tl.constexpr,  # noqa: N803
    BEYOND: tl.constexpr,  # noqa: N803
    BEYOND_BELOW: tl.constexpr,  # noqa: N803
    NAN: tl.constexpr,  # noqa: N803
    ZERO_SIGN: tl.constexpr,  # noqa: N803
    STOCHASTIC: tl.constexpr,  # noqa: N803
    LARGEST_EXPONENT: tl.constexpr,  # noqa: N803
    SIZE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
):
    """Round blocks of neighbours that share a scale; the last one of a row may be short."""
    block = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (block % per_row)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    place = (block // per_row)[:, None] * width + column
    inside = (block < blocks)[:, None] & (column < width)
    bits = tl.load(x + place, mask=inside, other=0)
    largest = tl.max(bits & 0x7FFFFFFF, axis=1)
    code = tl.minimum(tl.maximum((largest >> 23) - LARGEST_EXPONENT, 0), 254)
    code = tl.where(largest == 0x7F800000, 254, code)
    code = tl.where(largest > 0x7F800000, 255, code)
    scaled = bits.to(tl.float32, bitcast=True) * power_of_two(127 - code)[:, None]
    bits = scaled.to(tl.uint32, bitcast=True)
    draw = bits
    if STOCHASTIC:
        draw = random(start.to(tl.uint32) + place.to(tl.uint32), one.to(tl.uint32), two.to(tl.uint32))
    result = rounded(
        bits,
        draw,
        SHIFT,
        TINY,
        STEPS,
        STEP,
        LIMIT,
        LIMIT_BELOW,
        BEYOND,
        BEYOND_BELOW,
        NAN,
        ZERO_SIGN,
        False,
        STOCHASTIC,
    )
    values = result.to(tl.float32, bitcast=True) * power_of_two(code - 127)[:, None]
    values = tl.where((code == 255)[:, None], float("nan"), values)
    tl.store(out + place, values.to(tl.int32, bitcast=True), mask=inside)


round_blocks = _kernel(_round_blocks)


def quantise(
    x: torch.Tensor, row: Format | BlockFormat, overflow: str, *, seed: int | None, offset: int
) -> torch.Tensor:
    """Round contiguous fp32 on a GPU; arguments are checked by the caller.

    Args:
        x: of any shape, of one axis or more for block formats.
        row: the format.
        overflow: "saturate" or "ieee".
        seed: None for nearest rounding.
        offset: index of the first value.
    """
    out = torch.empty_like(x)
    if not x.numel():
        return out
    one, two = (_signed(key) for key in keys(seed or 0, offset))
    bits, target, start = x.view(torch.int32), out.view(torch.int32), _signed(offset & MASK_32)
    with torch.cuda.device_of(x):
        if isinstance(row, Format):
            grid = (triton.cdiv(x.numel(), _BLOCK),)
            facts = _facts(row, overflow)
            round_values[grid](
                bits,
                target,
                x.numel(),
                start,
                one,
                two,
                **facts,
                WIDE=wide(row),
                STOCHASTIC=seed is not None,
                BLOCK=_BLOCK,
            )
            return out
        width = x.shape[-1]
        per_row = -(-width // row.block)
        blocks = x.numel() // width * per_row
        round_blocks[(triton.cdiv(blocks, _ROWS),)](
            bits,
            target,
            blocks,
            width,
            per_row,
            start,
            one,
            two,
            **_facts(row.element, overflow),
            STOCHASTIC=seed is not None,
            LARGEST_EXPONENT=row.element.largest_exponent,
            SIZE=row.block,
            ROWS=_ROWS,
        )
    return out


def _facts(row: Format, overflow: str) -> dict[str, int | float]:
    """The format's constants, which are compiled in."""
    c = constants(row, overflow)
    return {
        "SHIFT": int(c.shift),
        "TINY": int(c.tiny),
        "STEPS": float(c.steps_per_one),
        "STEP": float(c.step),
        "LIMIT": int(c.limits[0]),
        "LIMIT_BELOW": int(c.limits[1]),
        "BEYOND": int(c.beyond[0]),
        "BEYOND_BELOW": int(c.beyond[1]),
        "NAN": int(c.nan),
        "ZERO_SIGN": int(c.zero_sign),
    }


def _signed(key: int) -> int:
    """The same 32 bits as a signed integer, so that Triton sees one type for all keys."""
    return key - (1 << 32) if key >= _SIGNED else key
