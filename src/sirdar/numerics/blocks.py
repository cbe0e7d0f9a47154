# SPDX-License-Identifier: Apache-2.0
"""Microscaling formats as they are stored: element codes, and one scale for every block along the last axis.

Source: OCP Microscaling Formats (MX) Specification 1.0, section 6.3: the scale is the largest power of two not above
the largest magnitude of the block, divided by that of the element format. A block with a NaN has the scale NaN (0xFF).
"""

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.numerics.arrays import Values, host_array, narrowed, uncompiled
from sirdar.numerics.formats import BlockFormat, block_format_named
from sirdar.numerics.rounding import Rounding, Saturation, as_given, decode, draw_seed, host_codes


@uncompiled
def encode_blocks(
    x: Values,
    format: str | BlockFormat,  # noqa: A002
    *,
    rounding: Rounding = "nearest",
    overflow: Saturation = "saturate",
    seed: int | None = None,
    offset: int = 0,
) -> tuple[Values, Values]:
    """Element codes of the shape of x, and E8M0 codes of the scales with the last axis divided by the block.

    Args:
        x: array or tensor of one axis or more; the last block of a row may be short.
        format: a name such as "mxfp8_e4m3", or a row.
        rounding: as in `quantise`.
        overflow: as in `quantise`, of the elements.
        seed: as in `quantise`.
        offset: as in `quantise`.

    Raises:
        ArgumentError: an argument is unknown or missing; the sentence says which.
    """
    from sirdar.numerics import engine

    row = _block_format(format)
    draw, offset = draw_seed(rounding, overflow, seed, offset)
    values = narrowed(host_array(x), row, draw, offset)
    elements = np.empty_like(values)
    scales = engine.round_block_array(values, elements, row, overflow, seed=draw, offset=offset, scaled=False)
    codes = np.empty(values.shape, engine.code_type(row.element))
    engine.pack_array(elements, codes, row.element)
    return as_given(codes, x), as_given(scales, x)


@uncompiled
def decode_blocks(codes: Values, scales: Values, format: str | BlockFormat) -> Values:  # noqa: A002
    """Stored blocks to fp32.

    Args:
        codes: element codes, as `encode_blocks` returns them.
        scales: E8M0 codes, one for every block.
        format: a name such as "mxfp8_e4m3", or a row.

    Raises:
        ArgumentError: a code has more bits than the element format, or scales are no bytes or not one for each block.
    """
    row = _block_format(format)
    host, shape = host_codes(scales), tuple(np.shape(codes))
    wanted = (*shape[:-1], -(-shape[-1] // row.block)) if shape else None
    if host.dtype != np.uint8 or host.shape != wanted:
        needed = f"uint8 of shape {wanted}, one for each {row.block}" if wanted else "those of one axis or more"
        msg = f"scales for codes of shape {shape} must be {needed}, got {host.dtype} of {host.shape}"
        raise ArgumentError(msg)
    powers = np.where(host == 255, np.nan, np.ldexp(1.0, host.astype(np.int32) - 127)).astype(np.float32)
    array = decode(host_codes(codes), row.element)
    spread = np.repeat(powers, row.block, axis=-1)[..., : array.shape[-1]]
    with np.errstate(over="ignore", invalid="ignore"):  # an infinity is stored with the largest scale, and comes back
        return as_given(array * spread, codes)


def _block_format(format: object) -> BlockFormat:  # noqa: A002
    if isinstance(format, BlockFormat):
        return format
    if not isinstance(format, str):
        msg = f"format must be a name such as 'mxfp8_e4m3' or a row of block formats, got {format!r}"
        raise ArgumentError(msg)
    return block_format_named(format)
