# SPDX-License-Identifier: Apache-2.0
"""Every seeded defect is found by its rule, with its compiler code and its line; what can be mended is."""

import pytest
import torch

from sirdar.deploy.migrate import Migration, migrate
from sirdar.testing.defects import DEFECTS, Defect

QUICK = DEFECTS[::4]


def migrated(defect: Defect) -> Migration:
    module, example = defect.module().eval(), defect.example()
    if defect.dynamic is None:
        return migrate(module, example, chip=defect.chip)
    return migrate(torch.export.export(module, example, dynamic_shapes=defect.dynamic), example, chip=defect.chip)


def verify(defect: Defect) -> None:
    made = migrated(defect)
    found = [row for row in made.findings if row.rule == defect.rule]
    assert found, made.findings
    assert all(defect.code in row.codes for row in found)
    assert defect.line in [None if row.location is None else row.location.line for row in found]
    assert all(bool(row.rewritten) == defect.rewritten for row in found)
    assert made.runs == defect.rewritten
    assert bool(made.changes) != made.runs
    assert made.difference <= 1e-5


@pytest.mark.parametrize("defect", QUICK, ids=lambda defect: defect.name)
def test_a_defect_is_found(defect: Defect) -> None:
    verify(defect)


@pytest.mark.slow
@pytest.mark.parametrize("defect", [row for row in DEFECTS if row not in QUICK], ids=lambda defect: defect.name)
def test_every_defect_is_found(defect: Defect) -> None:
    verify(defect)


def test_there_are_at_least_25_codes() -> None:
    """One defect per statically checkable error code."""
    assert len(DEFECTS) >= 25
    assert len({defect.code for defect in DEFECTS}) >= 25


def test_the_list_of_changes_names_each_once() -> None:
    (branch,) = [defect for defect in DEFECTS if defect.name == "a branch on data"]
    made = migrated(branch)
    assert len(made.changes) == 1
    assert f"defects.py:{branch.line}" in made.changes[0]
    assert "torch.where" in made.changes[0]
