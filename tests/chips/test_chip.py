# SPDX-License-Identifier: Apache-2.0
"""Chips from TOML: the catalogue's facts, and refusal of what is incomplete, by file and key."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from sirdar.chips import Chip, load, names, npu_names
from sirdar.errors import ArgumentError, DataError
from sirdar.testing.chips import ChipChecks

OWN = """
name = "drawing-board"
vendor = "us"
kind = "accelerator"
description = "A chip that does not exist yet."
vector_flops_per_s = { value = 1e11, source = "plan", date = 2026-11-22 }
memory_bytes = { value = 1_000_000, source = "plan", date = "2026-11-22" }
bandwidth_bytes_per_s = { value = 1e9, source = "plan", date = 2026-11-22 }
compute_efficiency = { value = 0.5, low = 0.25, high = 1, source = "assumption: half", date = 2026-11-22 }
bandwidth_efficiency = { value = 1.0, source = "plan", date = 2026-11-22 }
overhead_s = { value = 0, source = "plan", date = 2026-11-22 }
power_w = { value = 2.0, low = 1.0, high = 4.0, source = "assumption: a guess", date = 2026-11-22 }

[flops_per_s]
bf16 = { value = 1e12, source = "plan", date = 2026-11-22 }

[[instances]]
name = "board.large"
chips = 2
region = "us-east-1"
price_usd_per_hour = 3.6
source = "plan"
date = 2026-11-22
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "drawing-board.toml"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", [*names(), *npu_names()])
class TestCatalogue(ChipChecks):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.name = name

    def chip(self) -> Chip:
        return load(self.name)

    def test_it_is_called_as_its_file(self) -> None:
        assert self.chip().name == self.name

    def test_instances_have_a_source_and_a_date(self) -> None:
        for row in self.chip().instances:
            assert row.source
            assert row.date.year >= 2026


def test_the_catalogue_holds_the_chips_of_the_first_version() -> None:
    expected = (
        "a100 a10g graviton2 graviton3 h100 h200 inferentia1 inferentia2 l4 t4 this-cpu trainium1 trainium2 trainium3"
    )
    assert set(expected.split()) <= set(names())


@pytest.mark.parametrize(
    ("name", "peak", "memory_gib", "bandwidth"),
    [
        # AWS Neuron documentation: inferentia.rst, inferentia2.rst, trainium.rst, trainium2.rst, trainium3.rst
        ("inferentia1", 64e12, 8, 50 * 2**30),
        ("inferentia2", 190e12, 32, 820 * 2**30),
        ("trainium1", 190e12, 32, 820 * 2**30),
        ("trainium2", 667e12, 96, 2.9e12),
        ("trainium3", 671e12, 144, 4.9e12),
        # NVIDIA datasheets, dense
        ("a100", 312e12, 40, 1555e9),
        ("h100", 989.4e12, 80, 3350e9),
        ("h200", 989.4e12, 141, 4800e9),
    ],
)
def test_published_figures(name: str, peak: float, memory_gib: int, bandwidth: float) -> None:
    chip = load(name)
    assert chip.flops_per_s["bf16"].value == peak
    assert chip.memory_bytes.value == memory_gib * 2**30
    assert chip.bandwidth_bytes_per_s.value == pytest.approx(bandwidth)


def test_both_values_are_kept_where_the_pages_disagree() -> None:
    # Trainium's peak: 190 on its own page, 191 in a table of comparison, 2 x 92 on the NKI page.
    peak = load("trainium1").flops_per_s["bf16"]
    assert (peak.value, *(other.value for other in peak.alternatives)) == (190e12, 191e12, 184e12)


@pytest.mark.parametrize("name", ["inferentia1", "inferentia2", "trainium1", "trainium2", "trainium3"])
def test_power_that_nobody_published_is_an_assumption_with_bounds(name: str) -> None:
    power = load(name).power_w
    assert power.assumed
    assert power.bounds[0] < power.value < power.bounds[2]


def test_prices_are_those_of_the_day_and_absent_where_none_is_public() -> None:
    cheapest = load("inferentia2").cheapest_instance("us-east-1")
    assert cheapest is not None
    assert (cheapest.name, cheapest.price_usd_per_hour, str(cheapest.date)) == ("inf2.xlarge", 0.7582, "2026-07-20")
    assert load("trainium2").cheapest_instance("us-east-1") is None
    assert load("trainium2").instances


@pytest.mark.parametrize(
    ("chip", "asked", "used"),
    [
        ("t4", "bf16", "fp16"),  # no bf16: the other 16-bit format
        ("inferentia1", "fp32", "bf16"),  # no fp32: AWS casts to bf16
        ("trainium1", "e4m3fn", "e4m3"),  # Neuron's e4m3 is the IEEE one
        ("trainium3", "e4m3", "e4m3fn"),
        ("a100", "e4m3fn", "bf16"),  # no 8-bit float: the narrowest wider one, closest in mantissa
        ("trainium2", "int8", "bf16"),  # integers to the narrowest float that holds them all
        ("graviton2", "tf32", "fp32"),
        ("h100", "bf16", "bf16"),
    ],
)
def test_a_format_the_chip_lacks_gives_way_to_the_next(chip: str, asked: str, used: str) -> None:
    assert load(chip).usable_dtype(asked) == used


def test_a_chip_of_integers_alone_says_so(own: Path) -> None:
    own.write_text(OWN.replace("bf16 =", "int8 ="))
    sentence = "drawing-board computes only in int8, nothing takes the place of bf16; give int8 as dtype"
    with pytest.raises(ArgumentError, match=sentence):
        load(own).usable_dtype("bf16")


@pytest.mark.parametrize(("chip", "used"), [("trainium1", "bf16"), ("t4", "fp16"), ("ethos-u85-512", "int8")])
def test_without_a_word_on_formats_a_chip_takes_bf16_what_replaces_it_or_its_own(chip: str, used: str) -> None:
    assert load(chip).usual_dtype() == used


def test_all_that_is_missing_is_named_at_once_with_its_unit(own: Path) -> None:
    own.write_text('name = "mini"\nmemory_bytes = 16e9\n')
    with pytest.raises(DataError) as caught:
        load(own)
    said = str(caught.value)
    assert "keys 'vendor', 'kind', 'description', 'vector_flops_per_s' (operations per second)," in said
    assert "'bandwidth_bytes_per_s' (bytes per second)" in said
    assert "'overhead_s' (seconds), 'power_w' (watts), 'flops_per_s' (a table of operations per second by" in said
    assert "are missing; a figure is a table such as { value = ..., source" in said


@pytest.mark.parametrize("name", npu_names())
def test_an_npu_says_that_its_memories_are_the_boards(name: str) -> None:
    chip = load(name)
    assert (chip.kind, chip.activations) == ("npu", "sram" if "u55" in name else "memory")


def test_a_file_of_ones_own(own: Path) -> None:
    for chip in (load(own), load(str(own))):
        assert chip.name == "drawing-board"
        assert chip.power_w.bounds == (1.0, 2.0, 4.0)
        assert str(chip.memory_bytes.date) == "2026-11-22"


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ArgumentError, match=r"'trainum1'; there are a100, .*trainium3\. Did you mean 'trainium1'\?"):
        load("trainum1")


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("memory_bytes", "memory_byte", r"key 'memory_byte' is not known.*Did you mean 'memory_bytes'\?"),
        ('vendor = "us"', "", "key 'vendor' is missing"),
        ('kind = "accelerator"', 'kind = "accelerater"', r"key 'kind' must be one of.*Did you mean 'accelerator'\?"),
        ("value = 1e9", "value = -1e9", r"key 'bandwidth_bytes_per_s.value' must be a number > 0, got -1"),
        ("value = 1e9", "value = nan", r"key 'bandwidth_bytes_per_s.value' must be a number > 0, got nan"),
        ("value = 1e9", 'value = "fast"', "must be a number > 0, got 'fast'"),
        ("value = 1e9, ", "", "key 'bandwidth_bytes_per_s.value' is missing"),
        ('1e9, source = "plan"', '1e9, source = ""', "key 'bandwidth_bytes_per_s.source' must be a text, got ''"),
        ('1e9, source = "plan"', '1e9, sauce = "plan"', r"key 'bandwidth_bytes_per_s.sauce' is not known"),
        ('"2026-11-22"', '"yesterday"', r"key 'memory_bytes.date' must be a day such as 2026-08-21, got 'yesterday'"),
        ("low = 0.25", "low = 0.75", "key 'compute_efficiency' must have low <= value <= high, got 0.75, 0.5, 1"),
        ("high = 1,", "high = 2,", "key 'compute_efficiency' must be a share of at most 1, got 2"),
        ("bf16 =", "bf61 =", r"key 'flops_per_s.bf61' is not known.*Did you mean 'bf16'\?"),
        ("bf16 =", "#", "key 'flops_per_s' must hold the peak of at least one number format"),
        ("chips = 2", "chips = 0", r"key 'instances\[0\].chips' must be an integer > 0, got 0"),
        ("price_usd_per_hour = 3.6", "price_usd_per_hour = -1", r"key 'instances\[0\].price_usd_per_hour' must be"),
        ("[[instances]]", OWN[OWN.index("[[inst") :] + "[[instances]]", r"lists 'board.large' in us-east-1 twice"),
        ('vendor = "us"', 'vendor = "us"\nvendor = "them"', "cannot be read as TOML: Cannot overwrite a value"),
        ('vendor = "us"', "vendor = us", "cannot be read as TOML"),
        ("[flops_per_s]\n", "flops_per_s = 3\n[other]\n", "key 'other' is not known"),
        ("1_000_000", "1" + "0" * 400, r"key 'memory_bytes.value' must be a number > 0, got 1000"),
        ("chips = 2", "chips = 1" + "0" * 400, r"key 'instances\[0\].chips' must be an integer > 0, got 1000"),
        (
            "value = 1e12",
            "value = 1",
            "key 'flops_per_s.bf16' must be from 1e.06 to .* got 1: it may be in another unit",
        ),
        ("value = 1e9", "value = 820", "key 'bandwidth_bytes_per_s' must be from 100000 to .* got 820: it may be in"),
        ("value = 0,", "value = 5.0,", "key 'overhead_s' must be from 0 to 1, .* got 5: it may be in another unit"),
        ('vendor = "us"', 'vendor = "us"\nsram_bytes = 3', r"'sram_bytes' must be a table such as { value = .* got 3"),
        ('vendor = "us"', 'vendor = "us"\nactivations = "ram"', "'activations' must be one of memory, sram, got"),
        ('vendor = "us"', 'vendor = "us"\nper_core = 3', "key 'per_core' must be a table, got 3"),
    ],
)
def test_wrong_files_are_refused_by_file_and_key(own: Path, before: str, after: str, sentence: str) -> None:
    assert before in OWN
    own.write_text(OWN.replace(before, after, 1))
    with pytest.raises(DataError, match=sentence) as caught:
        load(own)
    assert str(own) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml cannot be read as TOML"):
        load(tmp_path / "none.toml")


def test_no_number_of_the_catalogue_stands_bare() -> None:
    """Read as plain TOML, past our own reader: every figure is a value with a source and a date."""
    folder = files("sirdar.chips") / "catalogue"
    for entry in (folder / f"{name}.toml" for name in names()):
        table = tomllib.loads(entry.read_text(encoding="utf-8"))
        bare = [where for where, node in figures(table) if not {"source", "date"} <= node.keys()]
        assert not bare, f"{entry.name}: {bare}"


def figures(node: object, where: str = "") -> list[tuple[str, dict[str, object]]]:
    """Every table that holds a number."""
    if isinstance(node, list):
        return [found for item in node for found in figures(item, where)]
    if not isinstance(node, dict):
        return []
    here = [(where, node)] if any(isinstance(value, int | float) for value in node.values()) else []
    return here + [found for key, value in node.items() for found in figures(value, f"{where}.{key}")]
