# SPDX-License-Identifier: Apache-2.0
"""Formats as other people wrote them, and inputs that find differences."""

import ml_dtypes
import numpy as np
from gfloat import FormatInfo, formats

from sirdar.numerics.formats import Format
from sirdar.numerics.reference import decode_value

ML_DTYPES = {
    "bf16": ml_dtypes.bfloat16,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3": ml_dtypes.float8_e4m3,
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e3m4": ml_dtypes.float8_e3m4,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}

GFLOAT: dict[str, FormatInfo] = {
    "fp16": formats.format_info_binary16,
    "bf16": formats.format_info_bfloat16,
    "e5m2": formats.format_info_ocp_e5m2,
    "e4m3fn": formats.format_info_ocp_e4m3,
    "e3m2": formats.format_info_ocp_e3m2,
    "e2m3": formats.format_info_ocp_e2m3,
    "e2m1": formats.format_info_ocp_e2m1,
}


def cast(x: np.ndarray, name: str) -> np.ndarray:
    """The stored bits that ml_dtypes rounds to."""
    with np.errstate(all="ignore"):
        rounded = x.astype(ML_DTYPES[name])
    return rounded.view(np.uint16 if rounded.itemsize == 2 else np.uint8)


def every_bf16() -> np.ndarray:
    return (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32)


def values_and_midpoints(row: Format) -> np.ndarray:
    """Every finite value of a small format, the points half way, and the floats beside them."""
    values = np.array([decode_value(code, row) for code in range(1 << row.bits)])
    values = np.unique(values[np.isfinite(values)])
    last = row.largest + (row.largest - values[-2]) / 2
    middle = np.append((values[1:] + values[:-1]) / 2, [last, -last])
    points = np.concatenate([values, middle, [-0.0]]).astype(np.float32)
    return np.concatenate([points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))])


def edges() -> np.ndarray:
    """Payloads of not-a-number, infinities, zeros, and the subnormals of fp32 at either end."""
    bits = [0x7F800001, 0x7FC00000, 0x7FC12345, 0x7FFFFFFF, 0x7F800000, 0x7F7FFFFF, 0, 1, 2, 0x007FFFFF, 0x00800000]
    both = np.array(bits, np.uint32)
    return np.concatenate([both, both | np.uint32(0x80000000)]).view(np.float32)


def random_patterns(count: int, seed: int) -> np.ndarray:
    """Floats of any exponent, not-a-number among them."""
    return np.random.default_rng(seed).integers(0, 1 << 32, count, np.uint32).view(np.float32)


def near(row: Format, count: int, seed: int) -> np.ndarray:
    """Random floats over the range of a format, a little beyond either end."""
    rng = np.random.default_rng(seed)
    low, high = np.log2(row.smallest) - 3, min(np.log2(row.largest) + 1, 127.9)
    return (rng.choice([-1.0, 1.0], count) * 2.0 ** rng.uniform(low, high, count)).astype(np.float32)


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal values, the sign of zero included; not-a-number equals itself."""
    nan = np.isnan(a) & np.isnan(b)
    return bool(np.all(nan | ((a == b) & (np.signbit(a) == np.signbit(b)))))
