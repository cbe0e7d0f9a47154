# SPDX-License-Identifier: Apache-2.0
"""Formats against the definition of a floating-point number, torch.finfo, and the published largest values."""

import inspect

import pytest
import torch

from sirdar.errors import ArgumentError
from sirdar.numerics.formats import (
    BLOCK_FORMATS,
    FORMATS,
    BlockFormat,
    Format,
    block_format_named,
    cfp8,
    element_named,
    format_named,
    names,
    row_named,
)

TORCH = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "e5m2": torch.float8_e5m2,
    "e4m3fn": torch.float8_e4m3fn,
}


@pytest.mark.parametrize("name", TORCH)
def test_limits_are_those_of_torch(name: str) -> None:
    row, limits = format_named(name), torch.finfo(TORCH[name])
    assert row.bits == limits.bits
    assert row.largest == limits.max
    assert row.smallest_normal == limits.tiny
    assert 2.0**-row.mantissa == limits.eps


@pytest.mark.parametrize("name", TORCH)
def test_the_smallest_value_is_the_smallest_one_that_torch_keeps(name: str) -> None:
    row = format_named(name)
    kept = torch.tensor([row.smallest, row.smallest / 2], dtype=torch.float64).to(TORCH[name]).double()
    assert kept.tolist() == [row.smallest, 0.0]


@pytest.mark.parametrize("row", [row for row in FORMATS if row.infinity], ids=lambda row: row.name)
def test_ieee_formats_keep_the_top_exponent_for_infinity_and_nan(row: Format) -> None:
    # IEEE 754: the largest exponent in use is 2^e - 2 minus the bias, with all mantissa bits set.
    assert row.largest == (2 - 2.0**-row.mantissa) * 2.0 ** (2**row.exponent - 2 - row.bias)
    assert row.overflow == "infinity"
    assert row.nan


@pytest.mark.parametrize(
    ("name", "largest"),
    [("e4m3", 240.0), ("e4m3fn", 448.0), ("e5m2", 57344.0), ("e3m4", 15.5), ("int8", 127.0)],
)
def test_published_largest_values(name: str, largest: float) -> None:
    # AWS Neuron data-types.rst (240), OCP FP8 1.0 table 1 (448, 57344), ml_dtypes README (15.5).
    assert format_named(name).largest == largest


def test_ocp_e4m3fn_has_no_infinity_and_overflows_to_nan() -> None:
    row = format_named("e4m3fn")
    assert (row.infinity, row.nan, row.overflow) == (False, True, "nan")


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_values_fit_in_the_stored_bits(row: Format) -> None:
    assert row.significant_bits <= row.bits
    assert row.floating == (row.name != "int8")


def test_tf32_is_stored_in_32_bits_and_carries_19() -> None:
    row = format_named("tf32")  # NVIDIA A100 white paper: 8 exponent and 10 mantissa bits
    assert (row.bits, row.significant_bits) == (32, 19)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ArgumentError, match=r"'bf61'; there are fp32, tf32.*Did you mean 'bf16'\?"):
        format_named("bf61")


@pytest.mark.parametrize(
    ("name", "bits", "largest", "smallest"),
    [("e3m2", 6, 28.0, 0.0625), ("e2m3", 6, 7.5, 0.125), ("e2m1", 4, 6.0, 0.5)],
)
def test_mx_elements(name: str, bits: int, largest: float, smallest: float) -> None:
    # OCP MX 1.0, tables 3 to 5
    row = format_named(name)
    assert (row.bits, row.largest, row.smallest) == (bits, largest, smallest)
    assert (row.infinity, row.nan, row.overflow) == (False, False, "saturate")


@pytest.mark.parametrize(
    ("name", "element", "exponent"),
    [
        ("mxfp8_e5m2", "e5m2", 15),
        ("mxfp8_e4m3", "e4m3fn", 8),
        ("mxfp6_e3m2", "e3m2", 4),
        ("mxfp6_e2m3", "e2m3", 2),
        ("mxfp4_e2m1", "e2m1", 2),
        ("mxint8", "int8_b6", 0),
    ],
)
def test_block_formats(name: str, element: str, exponent: int) -> None:
    # OCP MX 1.0, table 1 (elements) and tables 2 to 6 (the exponent of the largest normal)
    row = block_format_named(name)
    assert (row.element.name, row.element.largest_exponent, row.block) == (element, exponent, 32)


def test_mxint8_reaches_two_below_zero() -> None:
    row = block_format_named("mxint8").element  # OCP MX 1.0, section 5.3.4: six fraction bits
    assert (row.lowest, row.largest, row.smallest) == (-2.0, 1 + 63 / 64, 2.0**-6)


def test_cfp8_with_a_bias_of_its_own() -> None:
    row = cfp8("e4m3", 11)
    assert (row.name, row.largest, row.smallest) == ("e4m3_b11", 240.0 / 16, 2.0**-9 / 16)
    assert cfp8("e5m2", 15).largest == format_named("e5m2").largest


@pytest.mark.parametrize(
    ("name", "bias", "sentence"),
    [
        ("bf16", 3, "only e5m2, e4m3, e3m4 take a bias, got 'bf16'"),
        ("e4m3", 500, "between -112 and 124, .* got 500"),
        ("e4m3", 3.5, "bias of e4m3 must be an integer, got 3.5"),
    ],
)
def test_biases_that_are_refused(name: str, bias: float, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        inspect.unwrap(cfp8)(name, bias)


def test_every_name_has_a_row_and_plain_elements() -> None:
    assert names() == (*(row.name for row in FORMATS), *(row.name for row in BLOCK_FORMATS))
    for name in names():
        assert row_named(name).name == name
        assert element_named(name) in FORMATS
    assert element_named("mxfp8_e4m3").name == "e4m3fn"
    assert element_named("mxint8").name == "int8"
    with pytest.raises(ArgumentError, match=r"no number format is called 'mxfp8'.*Did you mean 'mxfp8_"):
        row_named("mxfp8")


@pytest.mark.parametrize(
    ("sizes", "largest", "sentence"),
    [
        ((16, 8, 7, 130), (2 - 2.0**-7) * 2.0**124, "'own' has values from 1.14794e-41 to 4.23691e.37, and fp32"),
        ((16, 8, 7, 100), 2.0**127, "'own' has values from 1.23.*e-32 to 1.70.*e.38, and fp32"),
        ((40, 8, 31, 127), 2.0**126, "'own' has 31 mantissa bits, more than fp32"),
        ((24, 0, 23, 0), 2.0**23 - 1, "'own' has 23 mantissa bits, more than fp32"),
        ((5, 4, 0, 8), 2.0**7, "'own' has no mantissa, so its bias must be odd as that of fp32, got 8"),
    ],
)
def test_formats_that_fp32_cannot_hold_are_refused(sizes: tuple[int, ...], largest: float, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        Format("own", *sizes, largest, infinity=True, nan=True, overflow="infinity")


@pytest.mark.parametrize("block", [0, -4])
def test_a_block_has_a_value_at_least(block: int) -> None:
    with pytest.raises(ArgumentError, match=f"block must be a positive integer, got {block}"):
        BlockFormat("own", format_named("e4m3"), block)
