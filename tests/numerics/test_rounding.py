# SPDX-License-Identifier: Apache-2.0
"""`quantise`, `encode` and `decode` against ml_dtypes, gfloat, torch and the exact reference."""

import inspect
from types import ModuleType

import numpy as np
import pytest
import torch
from gfloat import RoundMode, round_float

from sirdar.errors import ArgumentError
from sirdar.numerics import (
    FORMATS,
    Format,
    cfp8,
    decode,
    decode_blocks,
    encode,
    encode_blocks,
    format_named,
    quantise,
)
from sirdar.numerics.counter import random_bits
from sirdar.numerics.reference import encode_value, quantise_values

ML_DTYPES = ["bf16", "e5m2", "e4m3", "e4m3fn", "e3m4", "e3m2", "e2m3", "e2m1"]
GFLOAT = ["fp16", "bf16", "e5m2", "e4m3fn", "e3m2", "e2m3", "e2m1"]
INT4 = Format("int4", 4, 0, 3, 0, 7.0, infinity=False, nan=False, overflow="saturate")
E4M0 = Format("e4m0", 5, 4, 0, 7, 2.0**8, infinity=False, nan=False, overflow="saturate")
ALL = [*FORMATS, cfp8("e4m3", 11), cfp8("e5m2", -3), INT4, E4M0]


@pytest.mark.parametrize("name", ML_DTYPES)
def test_nearest_has_the_bits_of_ml_dtypes(name: str, oracles: ModuleType) -> None:
    inputs = [oracles.every_bf16(), oracles.edges(), oracles.near(format_named(name), 100_000, seed=1)]
    if name != "bf16":
        inputs.append(oracles.values_and_midpoints(format_named(name)))
    x = np.concatenate(inputs)
    np.testing.assert_array_equal(encode(x, name, overflow="ieee"), oracles.cast(x, name))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_nearest_has_the_bits_of_ml_dtypes_on_ten_million_floats(name: str, oracles: ModuleType) -> None:
    x = np.concatenate([oracles.random_patterns(5_000_000, seed=2), oracles.near(format_named(name), 5_000_000, 3)])
    assert np.array_equal(encode(x, name, overflow="ieee"), oracles.cast(x, name))


def test_fp16_has_the_values_of_numpy(oracles: ModuleType) -> None:
    x = np.concatenate([oracles.every_bf16(), oracles.edges(), oracles.near(format_named("fp16"), 1_000_000, seed=4)])
    with np.errstate(all="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    assert oracles.equal(quantise(x, "fp16", overflow="ieee"), expected)


def test_saturating_e4m3fn_is_that_of_torch(oracles: ModuleType) -> None:
    x = np.concatenate([oracles.every_bf16(), oracles.edges(), oracles.near(format_named("e4m3fn"), 1_000_000, seed=5)])
    expected = torch.from_numpy(x).to(torch.float8_e4m3fn).float().numpy()  # torch 2.13 saturates this format
    assert oracles.equal(quantise(x, "e4m3fn"), expected)


@pytest.mark.parametrize("name", GFLOAT)
@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
def test_nearest_has_the_values_of_gfloat(name: str, overflow: str, oracles: ModuleType) -> None:
    row, info = format_named(name), oracles.GFLOAT[name]
    x = oracles.near(row, 5_000, seed=6)
    if row.bits <= 8:
        x = np.concatenate([x, oracles.values_and_midpoints(row)])
    saturate = "saturate" in (overflow, row.overflow)  # gfloat refuses to overflow where there is nothing to become
    expected = np.array([round_float(info, float(v), RoundMode.TiesToEven, saturate) for v in x], np.float32)
    assert oracles.equal(quantise(x, row, overflow=overflow), expected)


@pytest.mark.parametrize("name", GFLOAT)
def test_stochastic_has_the_values_of_gfloat_given_the_same_bits(name: str, oracles: ModuleType) -> None:
    row, info = format_named(name), oracles.GFLOAT[name]
    x = oracles.near(row, 5_000, seed=7)
    draws = [random_bits(8, i) >> 1 for i in range(x.size)]
    mode = RoundMode.StochasticFastest
    expected = [
        round_float(info, float(v), mode, sat=True, srbits=d, srnumbits=31) for v, d in zip(x, draws, strict=True)
    ]
    actual = quantise(x, row, rounding="stochastic", seed=8)
    assert oracles.equal(actual, np.array(expected, np.float32))


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("seed", [None, 9])
def test_kernels_are_the_reference(row: Format, overflow: str, seed: int | None, oracles: ModuleType) -> None:
    x = np.concatenate([oracles.near(row, 1_000, 10), oracles.edges(), oracles.random_patterns(500, 11)])
    rounding = "nearest" if seed is None else "stochastic"
    expected = quantise_values([float(v) for v in x], row, overflow=overflow, seed=seed)
    actual = quantise(x, row, rounding=rounding, overflow=overflow, seed=seed)
    assert oracles.equal(actual, np.array(expected, np.float32))
    codes = encode(x, row, rounding=rounding, overflow=overflow, seed=seed)
    assert codes.tolist() == [encode_value(v, row) for v in expected]
    assert oracles.equal(decode(codes, row), actual)


@pytest.mark.parametrize("row", [row for row in ALL if row.bits <= 16], ids=lambda row: row.name)
def test_every_code_decodes_to_a_value_that_encodes_to_it(row: Format, oracles: ModuleType) -> None:
    codes = np.arange(1 << row.bits, dtype=np.uint16).astype(np.uint16 if row.bits == 16 else np.uint8)
    values = decode(codes, row)
    number = ~np.isnan(values)  # payloads of not-a-number are not kept
    np.testing.assert_array_equal(encode(values, row, overflow="ieee")[number], codes[number])
    assert oracles.equal(quantise(values, row, overflow="ieee"), values)
    signs = codes[~number].astype(np.uint32) >> row.bits - 1
    np.testing.assert_array_equal(np.signbit(values[~number]), signs)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_values_decode_as_those_of_ml_dtypes(name: str, oracles: ModuleType) -> None:
    codes = oracles.cast(oracles.every_bf16(), name)
    assert oracles.equal(decode(codes, name), codes.view(oracles.ML_DTYPES[name]).astype(np.float32))


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_saturation_takes_infinities_and_not_a_number_stays_where_it_has_a_code(row: Format) -> None:
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    for rounding in ("nearest", "stochastic"):
        y = quantise(x, row, rounding=rounding, seed=0)
        assert y[:2].tolist() == [row.largest, row.lowest]
        assert np.isnan(y[2]) if row.nan else y[2] == 0
        z = quantise(x, row, rounding=rounding, overflow="ieee", seed=0)
        assert np.isinf(z[0]) == (row.overflow == "infinity")
        assert np.isnan(z[0]) == (row.overflow == "nan")


def test_a_shifted_bias_scales_every_value(oracles: ModuleType) -> None:
    x = oracles.near(format_named("e4m3"), 10_000, seed=12)
    np.testing.assert_array_equal(quantise(x / 16, cfp8("e4m3", 11)), quantise(x, "e4m3") / 16)


@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3fn", "int8", "e2m1"])
def test_fp64_is_rounded_once(name: str, oracles: ModuleType) -> None:
    # half a step and a hair more: through fp32 the hair is lost and the tie goes to even, which is down
    row = format_named(name)
    x = np.array([1 + row.smallest / 2, 1 + 2.0**-row.mantissa / 2])[[not row.floating, row.floating].index(True)]
    hair = np.array([x * (1 + 2.0**-40), -x * (1 + 2.0**-40), x * (1 - 2.0**-40)])
    expected = quantise_values(hair.tolist(), row)
    assert quantise(hair, row).tolist() == expected
    assert quantise(hair, row).dtype == np.float64
    many = oracles.near(row, 2_000, seed=13) * (1 + np.random.default_rng(14).uniform(-1e-9, 1e-9, 2_000))
    assert quantise(many, row).tolist() == quantise_values(many.tolist(), row)


def test_integers_of_any_width_have_codes_of_two_s_complement() -> None:
    x = np.array([-1, 3, -8], np.float32)
    assert encode(x, INT4).tolist() == [15, 3, 8]
    assert decode(encode(x, INT4), INT4).tolist() == x.tolist()


def test_without_a_mantissa_ties_go_to_the_even_exponent() -> None:
    # codes are exponents plus 7: that of 2 is 8 and that of 8 is 10
    assert quantise(np.array([1.5, 3.0, 6.0], np.float32), E4M0).tolist() == [2.0, 2.0, 8.0]


@pytest.mark.parametrize("mantissa", [22, 23])
def test_fp64_is_rounded_once_to_as_many_bits_as_fp32_has(mantissa: int) -> None:
    largest = (2 - 2.0**-mantissa) * 2.0**63
    row = Format(f"e7m{mantissa}", 8 + mantissa, 7, mantissa, 63, largest, infinity=True, nan=True, overflow="infinity")
    half = 2.0 ** -(mantissa + 1)
    x = [s * (1 + k * half + d) for s in (1.0, -3.0) for k in (1, 3) for d in (0.0, 2.0**-45, -(2.0**-45))]
    x += [1.5 * row.smallest, 2.5 * row.smallest * (1 + 2.0**-40), 1e60, -np.inf, 0.0]
    assert quantise(np.array(x), row).tolist() == quantise_values(x, row)


def test_views_that_torch_negates_when_they_are_read() -> None:
    negated = torch.tensor([1 + 2j]).conj().imag
    assert quantise(negated, "bf16").tolist() == [-2.0]
    with pytest.raises(ArgumentError, match="out must be contiguous, got a strided, negated or byte-swapped view"):
        quantise(torch.zeros(1), "bf16", out=torch.tensor([1 + 2j]).conj().imag)


def test_fp64_beyond_fp32_overflows() -> None:
    x = np.array([1e39, -1e39, 3.4028235e38])
    assert quantise(x, "bf16", overflow="ieee").tolist() == [np.inf, -np.inf, np.inf]
    assert quantise(x, "e4m3fn").tolist() == [448.0, -448.0, 448.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_come_back_as_they_went(dtype: torch.dtype) -> None:
    x = torch.linspace(-500, 500, 77).reshape(7, 11).to(dtype)
    y = quantise(x, "e4m3fn")
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert torch.equal(y.float(), x.float().clamp(-448, 448).to(torch.float8_e4m3fn).float())
    assert encode(x, "e4m3fn").dtype == torch.uint8
    assert torch.equal(decode(encode(x, "e4m3fn"), "e4m3fn"), y.float())


def test_codes_of_bf16_are_the_memory_of_torch_s() -> None:
    x = torch.linspace(-3, 3, 1001)
    assert torch.equal(encode(x, "bf16").view(torch.bfloat16), x.bfloat16())


def test_strided_empty_and_scalar_arrays() -> None:
    x = np.linspace(-9, 9, 60, dtype=np.float32).reshape(6, 10)
    np.testing.assert_array_equal(quantise(x.T, "e5m2"), quantise(x, "e5m2").T)
    assert quantise(np.empty((0, 3), np.float32), "e5m2").shape == (0, 3)
    assert quantise(np.array(1.1, np.float32), "e2m1") == 1.0
    assert quantise(np.array(1.1, np.float32), "e2m1").shape == ()
    for name in ("e2m1", "bf16"):
        assert decode(encode(torch.tensor(1.0), name), name).shape == ()


def test_scalars_of_numpy_and_bytes_in_the_other_order() -> None:
    for kind in (np.float16, np.float32, np.float64):
        made = quantise(kind(1.1), "e2m1")
        assert (made, type(made)) == (1.0, kind)
    assert decode(encode(np.float32(1.1), "e2m1"), "e2m1") == 1.0
    x = np.linspace(-9, 9, 60, dtype=np.float32)
    for kind in (">f4", ">f8", ">f2"):
        swapped = x.astype(kind)
        made = quantise(swapped, "e4m3")
        assert made.dtype == swapped.dtype
        np.testing.assert_array_equal(made, quantise(swapped.astype(kind[1:]), "e4m3"))
        np.testing.assert_array_equal(encode(swapped, "e4m3"), encode(swapped.astype(kind[1:]), "e4m3"))
    with pytest.raises(ArgumentError, match="out must be contiguous, got a strided, negated or byte-swapped view"):
        quantise(x, "e4m3", out=x.astype(">f4"))
    with pytest.raises(ArgumentError, match=r"x must not be masked, .*: pass x.filled\(value\)"):
        quantise(np.ma.masked_less(x, 0), "e4m3")


def test_an_offset_of_numpy_is_that_of_python() -> None:
    x, options = np.linspace(1, 2, 9, dtype=np.float32), {"rounding": "stochastic", "seed": 7}
    expected = quantise(x, "e2m1", offset=40, **options)
    np.testing.assert_array_equal(inspect.unwrap(quantise)(x, "e2m1", offset=np.int64(40), **options), expected)


def test_out_is_filled_and_may_be_the_input() -> None:
    x = torch.linspace(-3, 3, 1001)
    expected, out = quantise(x, "e3m4"), torch.empty(1001)
    assert quantise(x, "e3m4", out=out) is out
    assert torch.equal(out, expected)
    codes = torch.empty(1001, dtype=torch.uint8)
    assert encode(x, "e3m4", out=codes) is codes
    assert torch.equal(decode(codes, "e3m4"), expected)
    with pytest.raises(ArgumentError, match=r"contiguous uint16 of shape \(1001,\), got uint8 of \(1001,\)"):
        encode(x, "bf16", out=codes)
    quantise(x, "e3m4", out=x)
    assert torch.equal(x, expected)


X = np.ones(3, np.float32)
LONG = np.ones(6, np.float32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"x": [1.0], "format": "bf16"}, "x must be a numpy array or a torch tensor, got list"),
        ({"x": np.ones(3, np.int64), "format": "bf16"}, "float16 or bfloat16, got int64"),
        ({"x": X, "format": "e4m3fm"}, r"'e4m3fm'; there are fp32, .*Did you mean 'e4m3fn'\?"),
        ({"x": X, "format": "mxfp8"}, "no number format is called 'mxfp8'; there are .*mxfp8_e4m3"),
        ({"x": X, "format": "bf16", "rounding": "up"}, "'nearest' or 'stochastic', got 'up'"),
        ({"x": X, "format": "bf16", "rounding": "stochastic"}, "needs a seed, got None"),
        ({"x": X, "format": "bf16", "rounding": "stochastic", "seed": -1}, "seed must be .* got -1"),
        ({"x": X, "format": "bf16", "overflow": "wrap"}, "'saturate' or 'ieee', got 'wrap'"),
        ({"x": X, "format": "bf16", "offset": -1}, "offset must be an integer from 0 on, got -1"),
        ({"x": X, "format": "bf16", "offset": 1.5}, "offset must be an integer from 0 on, got 1.5"),
        ({"x": X, "format": 16}, "format must be a name such as 'bf16' or a row of formats, got 16"),
        ({"x": X, "format": "bf16", "out": [1.0]}, "type and shape of x and both float32, got 'list'"),
        ({"x": X, "format": "bf16", "out": np.frombuffer(bytes(12), np.float32)}, "out must be writable"),
        ({"x": LONG[:-1], "format": "bf16", "out": LONG[1:]}, "out must be x itself or lie apart from it"),
        ({"x": torch.ones(3).to_sparse(), "format": "bf16"}, r"dense tensor, got one of layout torch.sparse_coo"),
        ({"x": X, "format": "bf16", "out": np.ones(2, np.float32)}, r"got float32 \(2,\)"),
        ({"x": X, "format": "bf16", "out": np.ones(6, np.float32)[::2]}, "contiguous"),
        ({"x": np.ones(3, np.float16), "format": "bf16"}, "float16 cannot hold every value of bf16"),
        ({"x": torch.ones(3, requires_grad=True), "format": "bf16"}, "x requires a gradient"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        inspect.unwrap(quantise)(**arguments)  # without the type checks of the tests, which would come first


def test_codes_of_another_format_are_refused() -> None:
    with pytest.raises(ArgumentError, match="codes of e2m1 have 4 bits, got 0x10"):
        decode(np.array([16], np.uint8), "e2m1")
    with pytest.raises(ArgumentError, match="unsigned integers, got float32"):
        decode(X, "e2m1")
    with pytest.raises(ArgumentError, match="use encode_blocks"):
        encode(X, "mxint8")


@pytest.mark.parametrize("name", ["bf16", "mxfp4_e2m1"])
def test_torch_compile_leaves_rounding_as_it_is(name: str) -> None:
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(62))

    def around(x: torch.Tensor) -> torch.Tensor:
        return quantise(x * 2, name, rounding="stochastic", seed=63) + 1

    assert torch.equal(torch.compile(around, backend="eager")(x), around(x))


def test_torch_compile_leaves_codes_as_they_are() -> None:
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(64))

    def around(x: torch.Tensor) -> torch.Tensor:
        codes, scales = encode_blocks(x * 2, "mxfp8_e4m3")
        return decode(encode(x, "e4m3fn"), "e4m3fn") + decode_blocks(codes, scales, "mxfp8_e4m3")

    assert torch.equal(torch.compile(around, backend="eager")(x), around(x))
