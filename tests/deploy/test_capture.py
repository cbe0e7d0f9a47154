# SPDX-License-Identifier: Apache-2.0
"""Networks are seen as torch.export sees them, and failures are data."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.deploy.capture import capture, split
from sirdar.errors import ArgumentError
from sirdar.testing.defects import Branch


def test_failures_have_a_kind_a_reason_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = capture(Branch(), torch.ones(3))
    (failure,) = found.failures
    assert failure.kind == "data-dependent"
    assert failure.reason
    assert failure.location is not None
    assert found.program is not None  # what the example takes was exported nevertheless
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""
    assert logging.root.manager.disable == 0


def test_a_failed_export_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's draft export writes a trace into the folder of temporary files, and leaves it open."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert capture(Branch(), torch.ones(3)).failures
    assert list(tmp_path.iterdir()) == []


@dataclass
class Answer:
    scores: torch.Tensor


class Answering(nn.Module):
    def forward(self, x: torch.Tensor) -> Answer:
        return Answer(x * 2)


def test_a_class_of_the_users_own_is_named_with_the_way_out() -> None:
    (failure,) = capture(Answering(), torch.ones(3)).failures
    assert "register_dataclass(Answer)" in failure.reason
    assert "output" in failure.reason


def test_modes_are_restored_and_reported() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    found = capture(module, torch.ones(1, 2))
    assert found.trained == ("1",)
    assert module.training
    assert module[1].training


def test_a_program_brings_its_example() -> None:
    program = torch.export.export(nn.Linear(2, 2).eval(), (torch.ones(1, 2),))
    assert capture(program).arguments[0].shape == (1, 2)


@pytest.mark.parametrize("example", [None, 3, [torch.ones(1)], "x"])
def test_what_is_no_example_is_refused(example: object) -> None:
    with pytest.raises(ArgumentError, match="example"):
        split(example)  # type: ignore[arg-type]
