# SPDX-License-Identifier: Apache-2.0
"""Microscaling formats against gfloat and the exact reference."""

import inspect

import numpy as np
import pytest
import torch
from gfloat import RoundMode, compute_scale_amax, decode_block, encode_block, formats, quantize_block

from sirdar.errors import ArgumentError
from sirdar.numerics import BLOCK_FORMATS, BlockFormat, decode_blocks, encode_blocks, quantise
from sirdar.numerics.counter import random_bits
from sirdar.numerics.reference import quantise_block

ROWS = pytest.mark.parametrize("row", BLOCK_FORMATS, ids=lambda row: row.name)


def samples(seed: int, rows: int = 200, width: int = 32) -> np.ndarray:
    """Blocks of one exponent, of many, and of zeros."""
    rng = np.random.default_rng(seed)
    spread = rng.integers(-20, 20, (rows, 1)) + rng.integers(-6, 6, (rows, width))
    x = (rng.standard_normal((rows, width)) * 2.0**spread).astype(np.float32)
    x[0] = 0
    x[1] = np.float32(2.0**-140)
    return x


@ROWS
def test_values_are_those_of_gfloat(row: BlockFormat) -> None:
    info, x = getattr(formats, f"format_info_{row.name}"), samples(40)
    expected = [quantize_block(info, block.astype(np.float64), compute_scale_amax, RoundMode.TiesToEven) for block in x]
    assert np.array_equal(quantise(x, row), np.array(expected, np.float32))


@ROWS
def test_codes_are_those_of_gfloat(row: BlockFormat) -> None:
    info, x = getattr(formats, f"format_info_{row.name}"), samples(41)
    codes, scales = encode_blocks(x, row)
    for block, code, scale in zip(x, codes, scales, strict=True):
        power = compute_scale_amax(info.etype.emax, block.astype(np.float64))
        expected = list(encode_block(info, power, block.astype(np.float64) / power))
        assert [int(scale[0]), *code.tolist()] == expected
        decoded = decode_blocks(code, scale, row)
        assert decoded.tolist() == list(decode_block(info, expected))


@ROWS
@pytest.mark.parametrize("seed", [None, 42])
def test_kernels_are_the_reference_with_short_blocks_too(row: BlockFormat, seed: int | None) -> None:
    x = samples(43, rows=6, width=100)
    x[2, 40], x[3, 99] = np.nan, np.inf
    rounding = "nearest" if seed is None else "stochastic"
    expected = []
    for start in (r * 100 + b for r in range(6) for b in range(0, 100, 32)):
        values = [float(v) for v in x.reshape(-1)[start : min(start + 32, (start // 100 + 1) * 100)]]
        draws = None if seed is None else [random_bits(seed, start + i) >> 1 for i in range(len(values))]
        expected += quantise_block(values, row, draws)
    with np.errstate(over="ignore"):
        reference = np.array(expected).astype(np.float32).reshape(x.shape)
    y = quantise(x, row, rounding=rounding, seed=seed)
    assert np.array_equal(y, reference, equal_nan=True)
    codes, scales = encode_blocks(x, row, rounding=rounding, seed=seed)
    assert scales.shape == (6, 4)
    assert np.array_equal(decode_blocks(codes, scales, row), y, equal_nan=True)


def test_a_part_with_its_offset_is_the_part_of_the_whole() -> None:
    x = samples(44, rows=5000)
    whole = quantise(x, "mxfp4_e2m1", rounding="stochastic", seed=45)
    part = quantise(x[4000:], "mxfp4_e2m1", rounding="stochastic", seed=45, offset=4000 * 32)
    np.testing.assert_array_equal(part, whole[4000:])


def test_a_scale_and_its_share_of_memory() -> None:
    # OCP MX 1.0, table 1: a block of 32 values of MXFP4 takes 32 * 4 + 8 bits
    assert next(row for row in BLOCK_FORMATS if row.name == "mxfp4_e2m1").bits == (32 * 4 + 8) / 32


def test_tensors_and_what_is_refused() -> None:
    x = torch.linspace(-3, 3, 64).reshape(2, 32)
    codes, scales = encode_blocks(x, "mxfp8_e4m3")
    assert (codes.dtype, scales.shape) == (torch.uint8, (2, 1))
    assert torch.equal(decode_blocks(codes, scales, "mxfp8_e4m3"), quantise(x, "mxfp8_e4m3"))
    with pytest.raises(ArgumentError, match=r"Did you mean 'mxfp8_e4m3'\?"):
        encode_blocks(x, "mxfp9_e4m3")
    with pytest.raises(ArgumentError, match="one axis or more"):
        quantise(np.array(1.0, np.float32), "mxint8")
    with pytest.raises(ArgumentError, match="bfloat16 cannot hold every value of mxint8"):
        quantise(x.bfloat16(), "mxint8")


@pytest.mark.parametrize(
    ("codes", "scales", "sentence"),
    [
        ((2, 40), np.zeros((2, 1), np.uint8), r"uint8 of shape \(2, 2\), one for each 32, got uint8 of \(2, 1\)"),
        ((2, 40), np.zeros((2, 3), np.uint8), r"got uint8 of \(2, 3\)"),
        ((2, 40), np.zeros((2, 2), np.float64), r"got float64 of \(2, 2\)"),
        ((), np.zeros((), np.uint8), "must be those of one axis or more"),
    ],
)
def test_scales_that_are_not_one_for_each_block_are_refused(
    codes: tuple[int, ...], scales: np.ndarray, sentence: str
) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        decode_blocks(np.zeros(codes, np.uint8), scales, "mxint8")


def test_what_is_no_format_is_refused() -> None:
    with pytest.raises(ArgumentError, match="name such as 'mxfp8_e4m3' or a row of block formats, got 5"):
        inspect.unwrap(encode_blocks)(np.ones(4, np.float32), 5)
