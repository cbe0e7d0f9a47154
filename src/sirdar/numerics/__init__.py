# SPDX-License-Identifier: Apache-2.0
"""Number formats as chips store them, and rounding to them.

What needs torch stands in modules of its own: `numerics.layers`, `numerics.scaling` and `numerics.adamw`.
"""

from sirdar.numerics.blocks import decode_blocks as decode_blocks
from sirdar.numerics.blocks import encode_blocks as encode_blocks
from sirdar.numerics.formats import BLOCK_FORMATS as BLOCK_FORMATS
from sirdar.numerics.formats import FORMATS as FORMATS
from sirdar.numerics.formats import BlockFormat as BlockFormat
from sirdar.numerics.formats import Format as Format
from sirdar.numerics.formats import block_format_named as block_format_named
from sirdar.numerics.formats import cfp8 as cfp8
from sirdar.numerics.formats import format_named as format_named
from sirdar.numerics.formats import row_named as row_named
from sirdar.numerics.rounding import decode as decode
from sirdar.numerics.rounding import encode as encode
from sirdar.numerics.rounding import quantise as quantise
