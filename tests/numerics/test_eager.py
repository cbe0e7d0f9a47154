# SPDX-License-Identifier: Apache-2.0
"""Rounding in torch operations has the bits of the compiled loops."""

from types import ModuleType

import numpy as np
import pytest
import torch

from sirdar.errors import UnsupportedError
from sirdar.numerics import BLOCK_FORMATS, FORMATS, BlockFormat, Format, cfp8, eager, quantise

ROWS = [*FORMATS, cfp8("e4m3", 11), *BLOCK_FORMATS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("seed", [None, 50])
def test_bits_are_those_of_the_kernels(
    row: Format | BlockFormat, overflow: str, seed: int | None, oracles: ModuleType
) -> None:
    single = row.element if isinstance(row, BlockFormat) else row
    parts = [oracles.edges(), oracles.near(single, 2000, 51), oracles.random_patterns(2000, 52)]
    x = torch.from_numpy(np.concatenate(parts)[:4020].reshape(6, 670))  # the last block of a row is short
    rounding = "nearest" if seed is None else "stochastic"
    expected = quantise(x, row, rounding=rounding, overflow=overflow, seed=seed, offset=7)
    actual = eager.quantise(x, row, overflow, seed=seed, offset=7)
    assert oracles.equal(actual.numpy(), expected.numpy())


@pytest.mark.gpu
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_gpu_rounds_as_the_cpu_does(row: Format | BlockFormat) -> None:
    x = torch.randn(64, 640, generator=torch.Generator().manual_seed(53))
    on_gpu = quantise(x.cuda(), row, rounding="stochastic", seed=54)
    assert torch.equal(on_gpu.cpu(), quantise(x, row, rounding="stochastic", seed=54))


def test_fp64_is_refused_on_devices() -> None:
    with pytest.raises(UnsupportedError, match=r"got torch.float64 \(3,\)"):
        eager.quantise(torch.ones(3, dtype=torch.float64), FORMATS[3], "ieee", seed=None, offset=0)
