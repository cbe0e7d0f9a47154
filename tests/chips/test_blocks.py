# SPDX-License-Identifier: Apache-2.0
"""A chip on the drawing board: peaks that follow from parts, and parts that do not fit."""

from pathlib import Path

import pytest

from sirdar.chips import estimate, load
from sirdar.chips.blocks import Block, Blocks
from sirdar.errors import DataError
from sirdar.testing.chips import example_graph

SHEET = """
name = "board"
vendor = "us"
kind = "accelerator"
description = "A chip that does not exist."
compute_efficiency = {{ {fact}, value = 0.5 }}
bandwidth_efficiency = {{ {fact}, value = 0.7 }}
overhead_s = {{ {fact}, value = 1e-6 }}
[blocks.array]
rows = {{ {fact}, value = 64 }}
columns = {{ {fact}, value = 64 }}
clock_hz = {{ {fact}, value = 1e9 }}
count = {{ {fact}, value = 4 }}
area_mm2 = {{ {fact}, value = 5 }}
power_w = {{ {fact}, value = 2 }}
[blocks.array.passes]
bf16 = {{ {fact}, value = 1 }}
fp32 = {{ {fact}, value = 4 }}
[blocks.vector]
lanes = {{ {fact}, value = 64 }}
clock_hz = {{ {fact}, value = 1e9 }}
count = {{ {fact}, value = 4 }}
area_mm2 = {{ {fact}, value = 1 }}
power_w = {{ {fact}, value = 0.5 }}
[blocks.sram]
bytes = {{ {fact}, value = 4194304 }}
bandwidth_bytes_per_s = {{ {fact}, value = 2e12 }}
area_mm2 = {{ {fact}, value = 8 }}
power_w = {{ {fact}, value = 1 }}
[blocks.dram]
bytes = {{ {fact}, value = 8589934592 }}
bandwidth_bytes_per_s = {{ {fact}, value = 1e11 }}
count = {{ {fact}, value = 2 }}
power_w = {{ {fact}, value = 3 }}
[blocks.link]
bandwidth_bytes_per_s = {{ {fact}, value = 3e10 }}
power_w = {{ {fact}, value = 1 }}
[blocks.budget]
area_mm2 = {{ {fact}, value = 40 }}
power_w = {{ {fact}, value = 20 }}
"""
PLAIN = SHEET.format(fact='source = "a sketch", date = 2026-11-24')
PASSES = PLAIN[PLAIN.index("bf16 =") : PLAIN.index("[blocks.vector]")]
HOT = 'power_w = { source = "a sketch", date = 2026-11-24, value = 30 }'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "board.toml"
    path.write_text(text)
    return path


def test_peaks_follow_from_the_parts(tmp_path: Path) -> None:
    chip = load(written(tmp_path, PLAIN))
    # 4 arrays x 64 x 64 x 1 GHz x 2 operations, fp32 in four passes; the rest are products of two or three figures
    assert chip.flops_per_s["bf16"].value == pytest.approx(32.768e12)
    assert chip.flops_per_s["fp32"].value == pytest.approx(8.192e12)
    assert chip.vector_flops_per_s.value == pytest.approx(256e9)
    assert chip.memory_bytes.value == 2 * 8589934592
    assert chip.bandwidth_bytes_per_s.value == pytest.approx(2e11)
    assert chip.sram_bytes is not None
    assert chip.sram_bytes.value == 4194304
    assert chip.power_w.value == pytest.approx(4 * 2 + 4 * 0.5 + 1 + 2 * 3 + 1)
    assert chip.flops_per_s["bf16"].source == "follows from the blocks"
    assert estimate(example_graph(), chip).latency_s > 0


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("value = 2e12", "value = 1e12", "'blocks.sram.bandwidth_bytes_per_s' gives 1e.12 bytes a second"),
        ("value = 4194304", "value = 65536", "'blocks.sram.bytes' holds 6.554e.04, but the tiles"),
        ("value = 8589934592", "value = 1e6", "'blocks.dram.bytes' holds 2e.06, less than the 4.194e.06 of sram"),
        ("value = 8589934592", "value = 8", "'blocks.dram.bytes' must be from 100 to 1e.15, .* got 8: it may be in"),
        ("value = 3e10", "value = 3e11", "'blocks.link.bandwidth_bytes_per_s' is 3e.11 .* faster than"),
        ("value = 40 ", "value = 30 ", r"'blocks.budget.area_mm2' allows 30, but the blocks take 32"),
        ("value = 20 }", "value = 17 }", "'blocks.budget.power_w' allows 17, but the blocks take 18"),
        ("rows = {", "rowz = {", "'blocks.array.rowz' is not known.*Did you mean 'rows'"),
        ("[blocks.link]\nbandwidth_bytes_per_s", "[blocks.link]\n# ", r"width_bytes_per_s' \(.* second\) is missing"),
        ("fp32 = {", "fp31 = {", "'blocks.array.passes.fp31' is not known"),
        ("[blocks.array]", '[blocks.array]\nstationary = "wait"', "'blocks.array.stationary' must be one of weight"),
        ("[blocks.array]", "[blocks.array]\nhidden_load = 1", "'blocks.array.hidden_load' must be true or false"),
        ("[blocks.array]", "[blocks.cache]\n[blocks.array]", "'blocks.cache' is not known"),
        ("value = 64 }", "value = -64 }", "'blocks.array.rows.value' must be a number > 0, got -64"),
        ("value = 64 }", "value = 64.5 }", "'blocks.array.rows' must be a whole number, got 64.5"),
        ("value = 4 }", "value = 0.5 }", "'blocks.array.count' must be a whole number, got 0.5"),
        ("value = 1e9 }", "value = 2.8 }", "'blocks.array.clock_hz' must be from 100000 to .* got 2.8: it may be"),
        (PASSES, "", "'blocks.array.passes' must name at least one number format"),
        ('vendor = "us"', 'vendor = "us"\nflops_per_s = 3', "'flops_per_s' must be a table, got 3"),
        ('vendor = "us"', 'vendor = "us"\n' + HOT, "'power_w' is 30, but the blocks draw 18 together"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_key(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in PLAIN
    with pytest.raises(DataError, match=sentence):
        load(written(tmp_path, PLAIN.replace(old, new, 1)))


def test_stating_something_else_than_the_parts_give_is_refused(tmp_path: Path) -> None:
    stated = 'vector_flops_per_s = { value = 400e9, source = "a sketch", date = 2026-11-24 }\n'
    with pytest.raises(DataError, match="'vector_flops_per_s' is 4e.11, but the blocks give 2.56e.11"):
        load(written(tmp_path, stated + PLAIN))
    near = stated.replace("400e9", "270e9")
    assert load(written(tmp_path, near + PLAIN)).vector_flops_per_s.value == 270e9


def test_a_budget_of_power_needs_the_power_of_every_part(tmp_path: Path) -> None:
    silent = PLAIN.replace('power_w = { source = "a sketch", date = 2026-11-24, value = 0.5 }', "")
    stated = silent.replace('vendor = "us"', 'vendor = "us"\n' + HOT.replace("30", "15"))
    with pytest.raises(DataError, match=r"'blocks\.vector\.power_w' is missing, so the budget of power cannot be"):
        load(written(tmp_path, stated))


def test_an_array_that_passes_twice_over_everything_is_fed_at_its_own_width(tmp_path: Path) -> None:
    slow = PLAIN.replace("value = 1 }\nfp32", "value = 2 }\nfp32")
    assert slow != PLAIN
    assert load(written(tmp_path, slow)).flops_per_s["bf16"].value == pytest.approx(16.384e12)


def test_a_chip_without_an_array_has_no_cycle_model() -> None:
    assert Blocks({"dram": Block("dram", {})}).array() is None
