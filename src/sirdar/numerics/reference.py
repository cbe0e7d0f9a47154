# SPDX-License-Identifier: Apache-2.0
"""What rounding means, slowly: one value at a time in exact rational arithmetic. The kernels agree bit for bit.

Nearest rounding is IEEE 754-2019, section 4.3.1 (ties to even). Stochastic rounding goes up with a probability equal
to the fraction that would be cut off, in steps of 2**-31 (Croci et al., "Stochastic rounding", R. Soc. Open Sci. 2022,
eq. 2.1). Saturation follows the OCP 8-bit Floating Point Specification 1.0, table 2: whatever lies beyond the largest
value, infinity included, becomes the largest value.
"""

import math
import struct
from fractions import Fraction

from sirdar.numerics.counter import random_bits
from sirdar.numerics.formats import BlockFormat, Format

FRACTION_BITS = 31


def quantise_value(x: float, row: Format, *, overflow: str = "saturate", draw: int | None = None) -> float:
    """One value rounded to a format.

    Args:
        x: any float.
        row: the format.
        overflow: "saturate", or "ieee" for what the format's own standard says.
        draw: 31 random bits for stochastic rounding; None rounds to nearest, ties to even.
    """
    if math.isnan(x):
        return math.copysign(math.nan, x) if row.nan else _stand_in_for_nan(x, row)
    limit = -row.lowest if x < 0 else row.largest
    magnitude = math.inf if math.isinf(x) else _rounded(abs(x), row, draw)
    if magnitude > limit:
        magnitude = limit if overflow == "saturate" else _beyond(limit, row)
    signed = math.copysign(magnitude, x)
    return signed if row.floating else signed + 0.0  # integers know no -0


def _rounded(magnitude: float, row: Format, draw: int | None) -> float:
    """As if there were no largest value."""
    if magnitude >= 2.0**1000:  # beyond every format, and one step more might not fit a float
        return math.inf
    exponent = math.frexp(magnitude)[1] - 1
    step = Fraction(row.smallest)
    if row.floating and magnitude > 0:
        step = max(step, Fraction(2) ** (exponent - row.mantissa))
    steps = Fraction(magnitude) / step
    whole = math.floor(steps)
    cut = steps - whole
    if draw is None:
        # Even is the code: its last bit is the mantissa's, or where there is none the exponent's.
        odd = whole if row.mantissa or whole == 0 else exponent + row.bias
        up = cut > Fraction(1, 2) or (cut == Fraction(1, 2) and odd % 2 == 1)
    else:
        up = math.floor(cut * 2**FRACTION_BITS) + draw >= 2**FRACTION_BITS
    return float((whole + up) * step)


def _beyond(limit: float, row: Format) -> float:
    return {"infinity": math.inf, "nan": math.nan, "saturate": limit}[row.overflow]


def _stand_in_for_nan(x: float, row: Format) -> float:
    """Zero with the sign turned, as ml_dtypes has it; integers know no -0."""
    return math.copysign(0.0, -math.copysign(1.0, x)) if row.floating else 0.0


def encode_value(value: float, row: Format) -> int:
    """The stored bits of a value that the format represents; not-a-number has one encoding, and a sign."""
    if not row.floating:
        return int(value / row.smallest) & ((1 << row.bits) - 1)
    if row.bits == 32:
        return _NAN_32 | _sign(value, 32) if math.isnan(value) else struct.unpack("<I", struct.pack("<f", value))[0]
    top = (1 << row.exponent) - 1 << row.mantissa
    if math.isnan(value):
        code = top | (1 << row.mantissa - 1 if row.infinity else (1 << row.mantissa) - 1)
    elif math.isinf(value):
        code = top
    else:
        exponent = max(math.frexp(value)[1] - 1, 1 - row.bias) if value else 1 - row.bias
        steps = int(abs(value) / 2.0 ** (exponent - row.mantissa))  # the implied one, if any, carries into the exponent
        code = (exponent + row.bias - 1 << row.mantissa) + steps
    return code | _sign(value, row.bits)


_NAN_32 = 0x7FC00000


def _sign(value: float, bits: int) -> int:
    return (math.copysign(1.0, value) < 0) << bits - 1


def decode_value(code: int, row: Format) -> float:
    """The value of stored bits."""
    if not row.floating:
        return (code - (code >> row.bits - 1 << row.bits)) * row.smallest
    if row.bits == 32:
        return struct.unpack("<f", struct.pack("<I", code))[0]
    sign = -1.0 if code >> row.bits - 1 else 1.0
    exponent = code >> row.mantissa & (1 << row.exponent) - 1
    fraction = code & (1 << row.mantissa) - 1
    all_ones = exponent == (1 << row.exponent) - 1
    if row.infinity and all_ones:
        return math.copysign(math.nan if fraction else math.inf, sign)
    if row.nan and not row.infinity and all_ones and fraction == (1 << row.mantissa) - 1:
        return math.copysign(math.nan, sign)
    if exponent == 0:
        return sign * fraction * row.smallest
    return sign * math.ldexp((1 << row.mantissa) + fraction, exponent - row.bias - row.mantissa)


def quantise_values(
    values: list[float], row: Format, *, overflow: str = "saturate", seed: int | None = None, offset: int = 0
) -> list[float]:
    """Values rounded one by one; with a seed stochastically, with the bits that belong to their index."""
    draws = [None if seed is None else random_bits(seed, offset + i) >> 1 for i in range(len(values))]
    return [quantise_value(x, row, overflow=overflow, draw=d) for x, d in zip(values, draws, strict=True)]


def block_scale(values: list[float], row: BlockFormat) -> float:
    """The power of two that a block is divided by (OCP MX 1.0, section 6.3); NaN if the block holds one."""
    if any(math.isnan(x) for x in values):
        return math.nan
    largest = max(abs(x) for x in values)
    if largest == 0:
        return 2.0**-127
    exponent = 128 + row.element.largest_exponent if math.isinf(largest) else math.frexp(largest)[1] - 1
    return 2.0 ** min(max(exponent - row.element.largest_exponent, -127), 127)


def quantise_block(values: list[float], row: BlockFormat, draws: list[int] | None = None) -> list[float]:
    """One block of at most `row.block` values, rounded and scaled back; elements saturate."""
    scale = block_scale(values, row)
    if math.isnan(scale):
        return [math.nan] * len(values)
    each = [None] * len(values) if draws is None else draws
    rounded = [quantise_value(x / scale, row.element, draw=d) for x, d in zip(values, each, strict=True)]
    return [y * scale for y in rounded]
