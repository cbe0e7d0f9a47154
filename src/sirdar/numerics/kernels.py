# SPDX-License-Identifier: Apache-2.0
"""The rounding loops, compiled by numba. `reference.py` says in plain Python what they compute.

Work is done on the bits of fp32. Where the target is normal, the mantissa's tail is rounded by one integer addition
whose carry may run into the exponent. Where it is subnormal, the value is counted in steps of the smallest. Both are
computed for every value and one is selected, so that the loop has no branches and the compiler makes vector code of it.

Imported on first use only: `import sirdar.numerics` loads no numba.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

U = np.uint32
S = np.int32
F = np.float32


class Constants(NamedTuple):
    """What the loops need to know of a format; bits are those of fp32 without the sign."""

    shift: np.uint32  # mantissa bits of fp32 that the format lacks
    tiny: np.uint32  # values below count in steps
    steps_per_one: np.float32
    step: np.float32
    limits: tuple[np.uint32, np.uint32]  # largest magnitude above and below zero
    beyond: tuple[np.uint32, np.uint32]  # what a magnitude above the limit becomes
    nan: np.uint32  # what not-a-number becomes; xor-ed with the sign
    zero_sign: np.uint32  # the sign bit, or 0 for formats without -0


class Stored(NamedTuple):
    """What encoding needs to know beside."""

    shift: np.uint32
    sign_shift: np.uint32
    rebias: np.uint32  # the difference of the two biases, in place
    infinity: np.uint32
    nan: np.uint32
    mask: np.uint32  # all bits of a code: those that two's complement has beyond are cut
    floating: bool


# Functions are unwrapped: under pytest, jaxtyping wraps every one of the package, and numba cannot compile the wrapper.


def _inline(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - numba's dispatcher has no type
    return njit(inline="always")(inspect.unwrap(function))


def _plain(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    return njit(inspect.unwrap(function))


def _loop(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    return njit(nogil=True, cache=True)(inspect.unwrap(function))


def _random(index: np.uint32, first: np.uint32, second: np.uint32) -> np.uint32:
    """`counter.random_bits`, less the keys."""
    h = U(index ^ first)
    h = U(U(h ^ (h >> U(17))) * U(0xED5AD4BB))
    h = U(U(h ^ (h >> U(11))) + second)
    h = U(h * U(0xAC4C1B51))
    h = U(U(h ^ (h >> U(15))) * U(0x31848BAB))
    return U(h ^ (h >> U(14)))


random = _inline(_random)


def _settle(a: np.uint32, rounded: np.uint32, sign: np.uint32, c: Constants) -> np.uint32:
    """Overflow, not-a-number and the sign: what every rounding ends with."""
    limit = c.limits[1] if sign != U(0) else c.limits[0]
    beyond = c.beyond[1] if sign != U(0) else c.beyond[0]
    rounded = beyond if rounded > limit else rounded
    rounded = c.nan if a > U(0x7F800000) else rounded
    kept = U(sign & c.zero_sign) if rounded == U(0) else sign
    return U(kept ^ rounded)


settle = _inline(_settle)


def _nearest_tail(a: np.uint32, c: Constants) -> np.uint32:
    """Round the mantissa to nearest, ties to even; a shift of 0 changes nothing."""
    half = U(U(U(1) << c.shift) >> U(1))
    odd = U(U(a >> c.shift) & U(1))
    up = U(U(half + odd) - U(1)) if half != U(0) else U(0)
    return U(U(a + up) & U(U(0xFFFFFFFF) << c.shift))


nearest_tail = _inline(_nearest_tail)


def _stochastic_tail(a: np.uint32, draw: np.uint32, c: Constants) -> np.uint32:
    """Add the top of the 31 random bits to the tail and cut: the carry is the rounding."""
    return U(U(a + U(draw >> U(U(31) - c.shift))) & U(U(0xFFFFFFFF) << c.shift))


stochastic_tail = _inline(_stochastic_tail)


def _nearest_wide(x: np.float32, b: np.uint32, draw: np.uint32, c: Constants) -> np.uint32:  # noqa: ARG001 - one shape
    """To formats with the exponent of fp32, whose subnormals are subnormals of fp32: the tail is all there is."""
    a = U(b & U(0x7FFFFFFF))
    return settle(a, nearest_tail(a, c), U(b & U(0x80000000)), c)


def _stochastic_wide(x: np.float32, b: np.uint32, draw: np.uint32, c: Constants) -> np.uint32:  # noqa: ARG001
    a = U(b & U(0x7FFFFFFF))
    return settle(a, stochastic_tail(a, draw, c), U(b & U(0x80000000)), c)


def _nearest_narrow(x: np.float32, b: np.uint32, draw: np.uint32, c: Constants) -> np.uint32:  # noqa: ARG001
    a = U(b & U(0x7FFFFFFF))
    steps = F(min(F(abs(x) * c.steps_per_one), F(4194304.0)))
    whole = F(F(steps + F(8388608.0)) - F(8388608.0))  # fp32 has no fractions from 2**23 on: the addition rounds
    small = F(whole * c.step).view(U)
    rounded = small if a < c.tiny else nearest_tail(a, c)
    return settle(a, rounded, U(b & U(0x80000000)), c)


def _stochastic_narrow(x: np.float32, b: np.uint32, draw: np.uint32, c: Constants) -> np.uint32:
    a = U(b & U(0x7FFFFFFF))
    steps = F(min(F(abs(x) * c.steps_per_one), F(4194304.0)))
    whole = S(steps)
    cut = U(S(F(F(steps - F(whole)) * F(2147483648.0))))  # exact: a fraction has at most 24 bits
    carry = S(U(cut + draw) >> U(31))
    small = F(F(S(whole + carry)) * c.step).view(U)
    rounded = small if a < c.tiny else stochastic_tail(a, draw, c)
    return settle(a, rounded, U(b & U(0x80000000)), c)


nearest_wide = _inline(_nearest_wide)
stochastic_wide = _inline(_stochastic_wide)
nearest_narrow = _inline(_nearest_narrow)
stochastic_narrow = _inline(_stochastic_narrow)


class Mode(NamedTuple):
    """Which of the four loops."""

    wide: bool  # the format has the exponent of fp32
    stochastic: bool


class Work(NamedTuple):
    """One slice of an array: fp32 values, their bits, where the bits of the results go, and the random keys."""

    x: np.ndarray
    bits: np.ndarray
    out: np.ndarray
    start: np.uint32  # lower half of the index of the first value
    keys: tuple[np.uint32, np.uint32]


def _round_slice(work: Work, c: Constants, mode: Mode) -> None:
    """Round a slice; one loop per case, so that each is vectorised."""
    x, b, out, first = work.x, work.bits, work.out, work.start
    one, two = work.keys
    if mode.wide and mode.stochastic:
        for i in range(b.size):
            out[i] = stochastic_wide(x[i], b[i], U(random(U(first + U(i)), one, two) >> U(1)), c)
    elif mode.wide:
        for i in range(b.size):
            out[i] = nearest_wide(x[i], b[i], U(0), c)
    elif mode.stochastic:
        for i in range(b.size):
            out[i] = stochastic_narrow(x[i], b[i], U(random(U(first + U(i)), one, two) >> U(1)), c)
    else:
        for i in range(b.size):
            out[i] = nearest_narrow(x[i], b[i], U(0), c)


round_slice = _loop(_round_slice)


def _pack_slice(value: np.ndarray, bits: np.ndarray, codes: np.ndarray, c: Constants, s: Stored) -> None:
    """Values that a format represents to its stored bits."""
    if not s.floating:
        for i in range(codes.size):
            codes[i] = U(U(S(F(value[i] * c.steps_per_one))) & s.mask)
        return
    for i in range(codes.size):
        a = U(bits[i] & U(0x7FFFFFFF))
        small = U(S(min(F(abs(value[i]) * c.steps_per_one), F(4194304.0))))
        code = small if a < c.tiny else U(U(a >> s.shift) - s.rebias)
        code = s.infinity if a == U(0x7F800000) else code
        code = s.nan if a > U(0x7F800000) else code
        codes[i] = U(code | U(U(bits[i] >> U(31)) << s.sign_shift))


pack_slice = _loop(_pack_slice)


_SCRATCH = 1 << 13  # values kept between the two loops, to stay within the cache


def _encode_wide(work: Work, c: Constants, s: Stored, mode: Mode) -> None:
    """Stored bits are the first bits of fp32: one pass does."""
    x, b, out, first = work.x, work.bits, work.out, work.start
    one, two = work.keys
    if mode.stochastic:
        for i in range(b.size):
            draw = U(random(U(first + U(i)), one, two) >> U(1))
            out[i] = U(stochastic_wide(x[i], b[i], draw, c) >> s.shift)
    else:
        for i in range(b.size):
            out[i] = U(nearest_wide(x[i], b[i], U(0), c) >> s.shift)


encode_wide = _loop(_encode_wide)


def _encode_slice(work: Work, c: Constants, s: Stored, mode: Mode) -> None:
    """Round a slice and store the bits of the results in `work.out`."""
    if mode.wide:
        encode_wide(work, c, s, mode)
        return
    scratch = np.empty(_SCRATCH, F)
    for start in range(0, work.x.size, _SCRATCH):
        stop = min(start + _SCRATCH, work.x.size)
        bits = scratch[: stop - start].view(U)
        part = Work(work.x[start:stop], work.bits[start:stop], bits, U(work.start + U(start)), work.keys)
        round_slice(part, c, mode)
        pack_slice(scratch[: stop - start], bits, work.out[start:stop], c, s)


encode_slice = _loop(_encode_slice)


class Blocks(NamedTuple):
    """How an array falls into blocks, and what their scales are."""

    width: int  # values in a row
    size: int  # values in a block
    largest_exponent: int
    scales: np.ndarray  # E8M0 codes, one for each block
    scaled: bool  # whether results are multiplied by their scale again


def _scale_code(largest: np.uint32, largest_exponent: int) -> int:
    """E8M0: the exponent of the largest magnitude, less that of the format's largest value, plus 127."""
    if largest > U(0x7F800000):
        return 255
    if largest == U(0x7F800000):
        return 254
    return min(max(int(largest >> U(23)) - largest_exponent, 0), 254)


scale_code = _plain(_scale_code)


def _power_of_two(exponent: int) -> np.float32:
    """From -149 to 127."""
    if exponent >= -126:
        return U((exponent + 127) << 23).view(F)
    return U(1 << (exponent + 149)).view(F)


power_of_two = _plain(_power_of_two)


def _round_blocks(work: Work, c: Constants, blocks: Blocks, mode: Mode) -> None:
    """Round all blocks."""
    per_row = (blocks.width + blocks.size - 1) // blocks.size
    one, two = work.keys
    for g in range(blocks.scales.size):
        start = (g // per_row) * blocks.width + (g % per_row) * blocks.size
        stop = min(start + blocks.size, (g // per_row + 1) * blocks.width)
        largest = U(0)
        for i in range(start, stop):
            largest = max(largest, U(work.bits[i] & U(0x7FFFFFFF)))
        code = scale_code(largest, blocks.largest_exponent)
        blocks.scales[g] = code
        down = power_of_two(127 - code)
        up = power_of_two(code - 127) if blocks.scaled else F(1.0)
        for i in range(start, stop):
            x = F(work.x[i] * down)
            if mode.stochastic:
                draw = U(random(U(work.start + U(i)), one, two) >> U(1))
                y = stochastic_narrow(x, x.view(U), draw, c)
            else:
                y = nearest_narrow(x, x.view(U), U(0), c)
            work.out[i] = F(U(y).view(F) * up).view(U)
        if blocks.scaled and code == 255:
            work.out[start:stop] = U(0x7FC00000)


round_blocks = _loop(_round_blocks)
