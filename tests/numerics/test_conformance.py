# SPDX-License-Identifier: Apache-2.0
"""The suite that is shipped, run on rows of our own."""

from sirdar.numerics import Format, cfp8, format_named
from sirdar.testing.formats import FormatChecks


class TestE4M3(FormatChecks):
    def format(self) -> Format:
        return format_named("e4m3")


class TestE4M3FN(FormatChecks):
    def format(self) -> Format:
        return format_named("e4m3fn")


class TestE2M1(FormatChecks):
    def format(self) -> Format:
        return format_named("e2m1")


class TestInt8(FormatChecks):
    def format(self) -> Format:
        return format_named("int8")


class TestFP16(FormatChecks):
    def format(self) -> Format:
        return format_named("fp16")


class TestBiased(FormatChecks):
    def format(self) -> Format:
        return cfp8("e3m4", -2)


class TestInt12(FormatChecks):
    def format(self) -> Format:
        return Format("int12", 12, 0, 11, 4, 2047 / 16, infinity=False, nan=False, overflow="saturate")


class TestWithoutAMantissa(FormatChecks):
    def format(self) -> Format:
        return Format("e4m0", 5, 4, 0, 7, 2.0**8, infinity=False, nan=False, overflow="saturate")
