# SPDX-License-Identifier: Apache-2.0
"""`docs/formats.md`, made from the rows: `python -m sirdar.numerics.document docs/formats.md`."""

import sys
from pathlib import Path

from sirdar.numerics.formats import BLOCK_FORMATS, FORMATS, Format

_HEAD = """# Number formats

Generated from `sirdar/numerics/formats.py` by `python -m sirdar.numerics.document docs/formats.md`.

| name | bits | exponent | mantissa | bias | largest | smallest normal | smallest | infinity | NaN | overflow |
|---|--:|--:|--:|--:|--:|--:|--:|---|---|---|
"""

_BLOCK_HEAD = """
tf32 carries 19 bits and is stored in 32. `cfp8(name, bias)` makes e5m2, e4m3 or e3m4 with another bias: one more
halves every value. Integers are two's complement: int8 reaches -128.

## Block formats

Neighbours along the last axis share a scale, a power of two in 8 bits (E8M0: bias 127, 0xFF is NaN): the largest power
of two not above the largest magnitude of the block, divided by that of the element format.

| name | element | block | bits a value | largest element |
|---|---|--:|--:|--:|
"""

_RULES = """
## What happens to a value

| value | `overflow="saturate"` | `overflow="ieee"` |
|---|---|---|
| between two values, nearest | the nearer one, ties to the even mantissa | the same |
| between two values, stochastic | up with the probability of the fraction cut off, in steps of 2^-31 | the same |
| a value of the format | itself, with any rounding and seed | itself |
| beyond the largest after rounding | the largest | see the table above |
| infinity | the largest | infinity, else NaN, else the largest |
| NaN | NaN; where there is none zero, in floats with the sign turned | the same |
| NaN in a block | the block's scale is NaN | the same |
| infinity in a block | infinity: the largest element times the largest scale | likewise |
| zero | keeps its sign, except in integers | the same |

fp64 takes part without being rounded twice; fp16 and bf16 are widened, and refused where they cannot hold the result.
NaN is stored in one encoding with a sign: the top mantissa bit set, or all bits where there are no infinities.
"""


def _number(value: float) -> str:
    if value >= 1e6 or value < 1e-3:
        return f"{value:.7g}"
    return f"{value:.10g}"


def _line(row: Format) -> str:
    return (
        f"| {row.name} | {row.bits} | {row.exponent} | {row.mantissa} | {row.bias} | {_number(row.largest)} "
        f"| {_number(row.smallest_normal)} | {_number(row.smallest)} | {'yes' if row.infinity else 'no'} "
        f"| {'yes' if row.nan else 'no'} | {'the largest' if row.overflow == 'saturate' else row.overflow} |\n"
    )


def markdown() -> str:
    """The whole page."""
    blocks = (
        f"| {row.name} | {row.element.name} | {row.block} | {row.bits:g} | {_number(row.element.largest)} |\n"
        for row in BLOCK_FORMATS
    )
    return _HEAD + "".join(map(_line, FORMATS)) + _BLOCK_HEAD + "".join(blocks) + _RULES


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
