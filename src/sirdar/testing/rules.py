# SPDX-License-Identifier: Apache-2.0
"""Conformance suite for a rule file of one's own.

Derive a class whose name starts with "Test", say what to test, and let pytest find it:

    class TestMyChip(RuleChecks):
        def book(self) -> Rulebook:
            return read("drawing-board-rules.toml")
"""

from abc import ABC, abstractmethod

import torch
from torch import nn

from sirdar.deploy.capture import capture
from sirdar.deploy.checking import check, require_conditions
from sirdar.deploy.conditions import CONDITIONS
from sirdar.deploy.nodes import DTYPES
from sirdar.deploy.rewrites import EVERYWHERE, REWRITES
from sirdar.deploy.rulebook import Rulebook
from sirdar.testing.defects import Branch

_ELSEWHERE = ("buckets", "composition", "evaluation")  # rewrites that `migrate` does itself


class RuleChecks(ABC):
    """What must hold for any rule file."""

    @abstractmethod
    def book(self) -> Rulebook:
        """The rules to test."""

    def test_every_rule_has_a_source_and_a_date(self) -> None:
        """Facts without a source are opinions."""
        for rule in self.book().rules:
            assert rule.source.strip(), f"{rule.name} has no source"
            assert rule.date.year >= 1990, f"{rule.name} is dated {rule.date}"

    def test_every_rule_says_why_and_what_to_do(self) -> None:
        """In words, not in codes."""
        for rule in self.book().rules:
            assert len(rule.why.split()) >= 4, f"{rule.name} says no why"
            assert len(rule.fix.split()) >= 2, f"{rule.name} says no fix"

    def test_conditions_and_rewrites_exist(self) -> None:
        """A slip in a name would make a rule silent."""
        require_conditions(self.book())
        for rule in self.book().rules:
            assert not rule.rewrite or rule.rewrite in (*REWRITES, *_ELSEWHERE), f"{rule.name}: {rule.rewrite}"
        assert set(self.book().rewrites) <= set(EVERYWHERE)

    def test_a_rule_is_about_something(self) -> None:
        """One without operators, types and condition would hold everywhere."""
        for rule in self.book().rules:
            assert rule.operators or rule.reads or rule.makes or rule.touches or rule.condition, rule.name

    def test_types_and_operators_exist(self) -> None:
        """Types as the graph names them, operators as torch registers them."""
        known = {*DTYPES.values()}
        for rule in self.book().rules:
            assert rule.reads | rule.makes | rule.touches <= known, rule.name
            for name in rule.operators:
                space, _, plain = name.rpartition("::")
                assert hasattr(getattr(torch.ops, space or "aten"), plain), f"{rule.name}: {name}"

    def test_a_condition_that_needs_operators_has_them(self) -> None:
        """Strides and windows belong to certain operators."""
        for rule in self.book().rules:
            free = ("dynamic-shape", "rank-above", "wide-constant", "unknown-operator", "custom-operator", "sparse")
            if rule.condition in CONDITIONS and rule.condition not in free:
                assert rule.operators, rule.name

    def test_a_plain_network_passes(self) -> None:
        """A linear layer and a rectifier run on every chip."""
        module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
        found = check(capture(module, torch.zeros(1, 8)), self.book())
        assert not [row for row in found if row.severity == "error"], found

    def test_a_branch_on_data_is_refused_with_its_line(self) -> None:
        """No chip here runs a graph that depends on values."""
        found = check(capture(Branch().eval(), torch.ones(4)), self.book())
        assert any(row.severity == "error" and row.location is not None for row in found), found
