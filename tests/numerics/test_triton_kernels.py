# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels have the bits of the CPU's: on a GPU, and in Triton's interpreter where only that is installed."""

import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch

from sirdar.numerics import BLOCK_FORMATS, FORMATS, BlockFormat, Format, cfp8, quantise

ROWS = [*FORMATS, cfp8("e4m3", 11), *BLOCK_FORMATS]


@pytest.mark.gpu
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("seed", [None, 50, 2**40 + 7])
def test_bits_are_those_of_the_cpu(
    row: Format | BlockFormat, overflow: str, seed: int | None, oracles: ModuleType
) -> None:
    from sirdar.numerics import triton_kernels

    single = row.element if isinstance(row, BlockFormat) else row
    parts = [oracles.edges(), oracles.near(single, 2000, 51), oracles.random_patterns(2000, 52)]
    x = torch.from_numpy(np.concatenate(parts)[:4020].reshape(6, 670))  # the last block of a row is short
    rounding = "nearest" if seed is None else "stochastic"
    expected = quantise(x, row, rounding=rounding, overflow=overflow, seed=seed, offset=7)
    actual = triton_kernels.quantise(x.cuda(), row, overflow, seed=seed, offset=7)
    assert oracles.equal(actual.cpu().numpy(), expected.numpy())


@pytest.mark.gpu
@pytest.mark.parametrize("offset", [0, (1 << 32) - 5000, 3 << 32])
def test_large_tensors_and_far_offsets(offset: int) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(55))
    expected = quantise(x, "bf16", rounding="stochastic", seed=1, offset=offset)
    assert torch.equal(quantise(x.cuda(), "bf16", rounding="stochastic", seed=1, offset=offset).cpu(), expected)
    strided = x.reshape(50, 100).t()
    assert torch.equal(quantise(strided.cuda(), "e4m3").cpu(), quantise(strided, "e4m3"))


def test_rounding_on_the_cpu_loads_no_triton() -> None:
    code = (
        "import sys, torch; from sirdar.numerics import quantise; quantise(torch.ones(3), 'bf16'); "
        "print('sirdar.numerics.triton_kernels' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_interpreter_has_the_bits_of_the_cpu() -> None:
    """In a process of its own: Triton decides at import whether it interprets."""
    code = """
import os
os.environ["TRITON_INTERPRET"] = "1"
import torch
from sirdar.numerics import BLOCK_FORMATS, FORMATS, quantise, triton_kernels
x = torch.randn(6, 670, generator=torch.Generator().manual_seed(0)) * 3
for row in (*FORMATS, *BLOCK_FORMATS):
    expected = quantise(x, row, rounding="stochastic", seed=5)
    assert torch.equal(triton_kernels.quantise(x, row, "saturate", seed=5, offset=0), expected), row.name
"""
    subprocess.run([sys.executable, "-c", code], check=True)
