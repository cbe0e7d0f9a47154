# SPDX-License-Identifier: Apache-2.0
"""Formats as people ask for them."""

import pytest

from sirdar.chips import load
from sirdar.chips.asked import element_asked
from sirdar.errors import ArgumentError


@pytest.mark.parametrize(
    ("chip", "asked", "sentence"),
    [
        ("h100", "fp8", "'fp8'; floats of 8 bits are e5m2, e4m3, e4m3fn or e3m4, and h100 computes in e4m3fn or e5m2"),
        ("a100", "float8", "'float8'; floats of 8 bits are .*, and a100 computes in none of them"),
        ("trainium1", "float32", "'float32'; floats of 32 bits are fp32 or tf32, and trainium1 computes in fp32"),
        ("trainium1", "bfloat16", "'bfloat16'; there are .* Did you mean 'bf16'"),
        ("trainium1", "fp9", "'fp9'; there are fp32, "),
    ],
)
def test_a_family_is_answered_with_its_members_that_the_chip_has(chip: str, asked: str, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        load(chip).usable_dtype(asked)


def test_what_is_a_format_is_one() -> None:
    assert element_asked("fp16", (), "nobody").name == "fp16"
    assert element_asked("mxfp8_e4m3", (), "nobody").name == "e4m3fn"
