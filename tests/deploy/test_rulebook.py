# SPDX-License-Identifier: Apache-2.0
"""Rule files: those of the package pass the conformance suite, wrong ones are refused by file and key."""

from pathlib import Path

import pytest

from sirdar.chips import load
from sirdar.chips import names as chip_names
from sirdar.deploy import rulebook
from sirdar.deploy.checking import require_conditions
from sirdar.deploy.rulebook import Rulebook
from sirdar.errors import ArgumentError, DataError
from sirdar.testing.rules import RuleChecks

GOOD = """
chips = ["mine"]
compiler = "none"
formats = ["fp32", "bf16"]
storage = ["fp32"]
cores = { value = 2, source = "a drawing", date = 2026-01-01 }

[[rules]]
name = "no-sort"
severity = "error"
title = "Sorting"
operators = ["sort"]
why = "there is no sorting unit"
fix = "sort on the host"
source = "a drawing"
date = 2026-01-01
"""


@pytest.mark.parametrize("name", rulebook.names())
class TestPackaged(RuleChecks):
    @pytest.fixture(autouse=True)
    def _read(self, name: str) -> None:
        self.read = rulebook.read(name)

    def book(self) -> Rulebook:
        return self.read


def test_every_chip_of_the_catalogue_has_rules() -> None:
    for name in chip_names():
        assert rulebook.load(load(name)).rules, name


def test_trainium_1_and_2_differ_where_the_documents_say_so() -> None:
    """EVRF035: int32 products are a warning on Trainium 1 and an error from Trainium 2 on."""
    found = {}
    for name in ("trainium1", "trainium2"):
        found[name] = {rule.name: rule.severity for rule in rulebook.load(load(name)).rules}["integer-matmul-32"]
    assert found == {"trainium1": "warning", "trainium2": "error"}


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    book = rulebook.load(load("t4"), path)
    assert [rule.name for rule in book.rules] == ["no-sort"]
    assert book.cores.value == 2


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('severity = "error"', 'severity = "fatal"', "severity"),
        ('compiler = "none"', 'compiler = "gcc"', "compiler"),
        ('"bf16"]', '"bf17"]', "number formats"),
        ('title = "Sorting"', "titel = 3", "titel"),
        ("date = 2026-01-01\n", "", "date"),
        ('operators = ["sort"]', "operators = [3]", "list of texts"),
        ('name = "no-sort"', 'name = ""', "text"),
        ("cores = {", "coers = {", "coers"),
        ("storage", 'include = ["../etc"]\nstorage', "include"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(GOOD[::-1].replace(before[::-1], after[::-1], 1)[::-1])
    with pytest.raises(DataError, match=complaint):
        rulebook.read(path)


def test_an_unknown_condition_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(GOOD + 'condition = "full-moon"\n')
    with pytest.raises(DataError, match="full-moon"):
        require_conditions(rulebook.read(path))


def test_a_chip_without_rules_is_named() -> None:
    from dataclasses import replace

    with pytest.raises(ArgumentError, match="abacus"):
        rulebook.load(replace(load("t4"), name="abacus", kind="accelerator"))
