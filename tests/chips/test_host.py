# SPDX-License-Identifier: Apache-2.0
"""The chip we run on: figures per core times what the machine says of itself."""

from pathlib import Path

import pytest

from sirdar.chips import load
from sirdar.chips.host import Machine, machine, scaled
from sirdar.errors import DataError

X86 = """processor : 0
physical id : 0
core id : 0
bogomips : 5192.28
flags : fpu sse2 fma avx2 avx512f avx512_bf16

processor : 1
physical id : 0
core id : 0
bogomips : 5192.28
flags : fpu sse2 fma avx2 avx512f avx512_bf16
"""
ARM = """processor : 0
BogoMIPS : 243.75
Features : fp asimd asimdhp asimddp
"""


def row(value: float) -> dict[str, object]:
    return {"value": value, "source": "plan", "date": "2026-11-22"}


SHEET = {
    "name": "core",
    "per_core": {
        "clock_hz": row(2e9),
        "memory_bytes": row(4e9),
        "bandwidth_bytes_per_s": row(1e9),
        "sram_bytes": row(1e6),
        "power_w": row(5.0),
        "vector_share": row(0.5),
        "vectors": [
            {"flags": [], "dtype": "fp32", "flops_per_cycle": row(8)},
            {"flags": ["avx2", "fma"], "dtype": "fp32", "flops_per_cycle": row(32)},
            {"flags": ["avx512_bf16"], "dtype": "bf16", "flops_per_cycle": row(64)},
        ],
    },
}


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(X86)
    here = machine(tmp_path / "cpuinfo")
    assert here.cores == 1
    assert here.clock_hz == 2.6e9  # 5192.28 / 2 MHz, to 10 MHz
    assert "avx512_bf16" in here.flags


def test_bogomips_say_nothing_of_an_arm_clock(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ARM)
    here = machine(tmp_path / "cpuinfo")
    assert here.clock_hz is None
    assert {"asimd", "asimddp"} <= here.flags


def test_a_system_without_cpuinfo_falls_back(tmp_path: Path) -> None:
    here = machine(tmp_path / "none")
    assert here.cores >= 1
    assert (here.clock_hz, here.flags) == (None, frozenset())


def test_figures_scale_with_cores_and_clock() -> None:
    whole = scaled(SHEET, "core.toml", Machine(4, frozenset({"avx2", "fma"}), 3e9, 16e9))
    assert whole["flops_per_s"] == {
        "fp32": {**row(32 * 4 * 3e9), "source": "plan x 4 cores x 3.00 GHz (as the kernel reports)"}
    }
    assert whole["power_w"]["value"] == 20.0
    assert whole["bandwidth_bytes_per_s"]["value"] == 4e9
    assert whole["memory_bytes"]["value"] == 16e9
    assert whole["vector_flops_per_s"]["value"] == 0.5 * 32 * 4 * 3e9


def test_the_assumed_clock_stands_where_none_is_reported() -> None:
    whole = scaled(SHEET, "core.toml", Machine(1, frozenset(), None))
    assert whole["flops_per_s"]["fp32"]["value"] == 8 * 2e9
    assert "(assumed)" in whole["flops_per_s"]["fp32"]["source"]
    assert whole["memory_bytes"]["value"] == 4e9


def test_an_incomplete_sheet_is_refused() -> None:
    with pytest.raises(DataError, match=r"core\.toml: key 'per_core' is incomplete.*memory_bytes"):
        scaled({"per_core": {"vectors": []}}, "core.toml")
    with pytest.raises(DataError, match=r"'per_core\.clock_mhz' is not known.*Did you mean 'clock_hz'\?"):
        scaled({"per_core": {"clock_mhz": row(2600)}}, "core.toml")


def test_this_cpu_is_the_same_every_time() -> None:
    assert load("this-cpu") == load("this-cpu")
