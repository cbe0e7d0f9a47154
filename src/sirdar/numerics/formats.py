# SPDX-License-Identifier: Apache-2.0
"""Number formats as rows: how many bits, which values, and what happens to a value that is too large.

Sources: IEEE 754-2019 (fp16, fp32, and the rule that e5m2, e4m3 and e3m4 follow); OCP 8-bit Floating Point
Specification 1.0 (e5m2, e4m3fn); OCP Microscaling Formats Specification 1.0 (e3m2, e2m3, e2m1, the block formats);
AWS Neuron documentation, data-types.rst (cFP8: e5m2, e4m3 with infinities and a largest value of 240, e3m4, and an
adjustable bias); NVIDIA A100 white paper (tf32).
"""

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Literal

from sirdar.errors import ArgumentError, nearest, require_positive_integer

Overflow = Literal["infinity", "nan", "saturate"]

_CFP8 = ("e5m2", "e4m3", "e3m4")


@dataclass(frozen=True)
class Format:
    """One number format.

    Args:
        name: how it is called everywhere in this package.
        bits: bits that one value takes in memory.
        exponent: exponent bits; 0 for integers.
        mantissa: stored mantissa bits, without the implied leading one; for integers every bit but the sign.
        bias: exponent bias; for integers the bits after the binary point.
        largest: largest finite value.
        infinity: whether infinities have an encoding.
        nan: whether not-a-number has an encoding.
        overflow: what a finite value beyond `largest` becomes when it is rounded as the format's own standard says.

    Raises:
        ArgumentError: some value would have more bits than fp32, or leave its normal range, in which all rounding is
            done; or the exponent's last bit, which decides ties where there is no mantissa, is not that of fp32's.
    """

    name: str
    bits: int
    exponent: int
    mantissa: int
    bias: int
    largest: float
    infinity: bool
    nan: bool
    overflow: Overflow

    def __post_init__(self) -> None:
        if self.mantissa > 23 - (not self.floating):  # half a unit of an integer must be told as well
            msg = f"format {self.name!r} has {self.mantissa} mantissa bits, more than fp32, in which rounding is done"
            raise ArgumentError(msg)
        if self.exponent == 8 and self.bias == 127:  # fp32's own, whose subnormals need no reciprocal
            return
        # Elsewhere fp32 must hold both a value and its reciprocal.
        if self.largest_exponent > 126 or self.smallest < 2.0**-126:
            reach = f"from {self.smallest:g} to {self.largest:g}"
            msg = f"format {self.name!r} has values {reach}, and fp32, in which rounding is done, cannot hold them all"
            raise ArgumentError(msg)
        if self.floating and not self.mantissa and self.bias % 2 == 0:
            msg = f"format {self.name!r} has no mantissa, so its bias must be odd as that of fp32, got {self.bias}"
            raise ArgumentError(msg)

    @property
    def floating(self) -> bool:
        """Whether values carry an exponent."""
        return self.exponent > 0

    @property
    def significant_bits(self) -> int:
        """Bits that carry a value: sign, exponent and mantissa. Fewer than `bits` for tf32, which is stored in 32."""
        return 1 + self.exponent + self.mantissa

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value with full precision; the smallest of all for integers."""
        return 2.0 ** (1 - self.bias) if self.floating else self.smallest

    @property
    def smallest(self) -> float:
        """Smallest positive value, subnormal where the format is floating."""
        return 2.0 ** (1 - self.bias - self.mantissa) if self.floating else 2.0**-self.bias

    @property
    def lowest(self) -> float:
        """Most negative finite value; two's complement reaches one step further below zero than above."""
        return -self.largest if self.floating else -self.largest - self.smallest

    @property
    def largest_exponent(self) -> int:
        """Exponent of the largest value: 8 for e4m3fn, whose largest is 1.75 * 2**8."""
        return math.frexp(self.largest)[1] - 1


@dataclass(frozen=True)
class BlockFormat:
    """A microscaling format: `block` neighbours share one scale, a power of two in eight bits (E8M0, bias 127).

    Args:
        name: how it is called everywhere in this package.
        element: format of each value, after division by the scale.
        block: values that share a scale.

    Raises:
        ArgumentError: the block is no positive integer.
    """

    name: str
    element: Format
    block: int = 32

    def __post_init__(self) -> None:
        require_positive_integer(self.block, "block")

    @property
    def bits(self) -> float:
        """Bits that one value takes in memory, its share of the scale included."""
        return self.element.bits + 8 / self.block


FORMATS: tuple[Format, ...] = (
    Format("fp32", 32, 8, 23, 127, (2 - 2.0**-23) * 2.0**127, infinity=True, nan=True, overflow="infinity"),
    Format("tf32", 32, 8, 10, 127, (2 - 2.0**-10) * 2.0**127, infinity=True, nan=True, overflow="infinity"),
    Format("fp16", 16, 5, 10, 15, 65504.0, infinity=True, nan=True, overflow="infinity"),
    Format("bf16", 16, 8, 7, 127, (2 - 2.0**-7) * 2.0**127, infinity=True, nan=True, overflow="infinity"),
    Format("int8", 8, 0, 7, 0, 127.0, infinity=False, nan=False, overflow="saturate"),
    Format("e5m2", 8, 5, 2, 15, 57344.0, infinity=True, nan=True, overflow="infinity"),
    Format("e4m3", 8, 4, 3, 7, 240.0, infinity=True, nan=True, overflow="infinity"),
    Format("e4m3fn", 8, 4, 3, 7, 448.0, infinity=False, nan=True, overflow="nan"),
    Format("e3m4", 8, 3, 4, 3, 15.5, infinity=True, nan=True, overflow="infinity"),
    Format("e3m2", 6, 3, 2, 3, 28.0, infinity=False, nan=False, overflow="saturate"),
    Format("e2m3", 6, 2, 3, 1, 7.5, infinity=False, nan=False, overflow="saturate"),
    Format("e2m1", 4, 2, 1, 1, 6.0, infinity=False, nan=False, overflow="saturate"),
)

_BY_NAME = {row.name: row for row in FORMATS}

# MXINT8 is two's complement with six bits after the point: its largest value is 1 + 63/64.
_MXINT8_ELEMENT = replace(_BY_NAME["int8"], name="int8_b6", bias=6, largest=127 / 64)

BLOCK_FORMATS: tuple[BlockFormat, ...] = (
    BlockFormat("mxfp8_e5m2", _BY_NAME["e5m2"]),
    BlockFormat("mxfp8_e4m3", _BY_NAME["e4m3fn"]),
    BlockFormat("mxfp6_e3m2", _BY_NAME["e3m2"]),
    BlockFormat("mxfp6_e2m3", _BY_NAME["e2m3"]),
    BlockFormat("mxfp4_e2m1", _BY_NAME["e2m1"]),
    BlockFormat("mxint8", _MXINT8_ELEMENT),
)

_BLOCKS_BY_NAME = {row.name: row for row in BLOCK_FORMATS}


def format_named(name: str) -> Format:
    """The row of a name such as "bf16".

    Raises:
        ArgumentError: no format is called so; the sentence lists those that are.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    msg = f"no number format is called {name!r}; there are {', '.join(_BY_NAME)}.{nearest(name, _BY_NAME)}"
    raise ArgumentError(msg)


def block_format_named(name: str) -> BlockFormat:
    """The row of a name such as "mxfp8_e4m3".

    Raises:
        ArgumentError: no block format is called so; the sentence lists those that are.
    """
    if name in _BLOCKS_BY_NAME:
        return _BLOCKS_BY_NAME[name]
    hint = nearest(name, _BLOCKS_BY_NAME)
    msg = f"no block format is called {name!r}; there are {', '.join(_BLOCKS_BY_NAME)}.{hint}"
    raise ArgumentError(msg)


def names() -> tuple[str, ...]:
    """Every format by name, block formats last."""
    return (*_BY_NAME, *_BLOCKS_BY_NAME)


def row_named(name: str) -> Format | BlockFormat:
    """The row of any name, block formats included.

    Raises:
        ArgumentError: no format is called so; the sentence lists those that are.
    """
    if name in _BLOCKS_BY_NAME:
        return _BLOCKS_BY_NAME[name]
    if name in _BY_NAME:
        return _BY_NAME[name]
    msg = f"no number format is called {name!r}; there are {', '.join(names())}.{nearest(name, names())}"
    raise ArgumentError(msg)


def element_named(name: str) -> Format:
    """What single values are stored as: the row of a name, the plain row of a block format's elements.

    Raises:
        ArgumentError: no format is called so.
    """
    row = row_named(name)
    if isinstance(row, Format):
        return row
    shape = (row.element.bits, row.element.exponent, row.element.mantissa, row.element.nan)
    same = (plain for plain in FORMATS if (plain.bits, plain.exponent, plain.mantissa, plain.nan) == shape)
    return row.element if row.element in FORMATS else next(same)


def cfp8(name: str, bias: int) -> Format:
    """Amazon's configurable 8-bit float: e5m2, e4m3 or e3m4 with a bias of one's own; +1 halves every value.

    Raises:
        ArgumentError: the format is not one of the three, the bias is no integer, or some value would leave the normal
            range of fp32.
    """
    if name not in _CFP8:
        msg = f"only {', '.join(_CFP8)} take a bias, got {name!r}.{nearest(name, _CFP8)}"
        raise ArgumentError(msg)
    row = _BY_NAME[name]
    if isinstance(bias, bool) or not isinstance(bias, Integral):
        msg = f"bias of {name} must be an integer, got {bias!r}"
        raise ArgumentError(msg)
    bias = int(bias)
    moved = row.largest_exponent + row.bias - bias, 1 - bias - row.mantissa
    if moved[0] > 126 or moved[1] < -126:  # outside, fp32 could not hold both a value and its reciprocal
        low, high = row.largest_exponent + row.bias - 126, 127 - row.mantissa
        msg = f"bias of {name} must lie between {low} and {high}, so that fp32 holds every value, got {bias}"
        raise ArgumentError(msg)
    return replace(row, name=f"{name}_b{bias}", bias=bias, largest=math.ldexp(row.largest, row.bias - bias))
