# SPDX-License-Identifier: Apache-2.0
"""Rewritten networks compute what the original does, and what is not safe is left alone."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.chips import load
from sirdar.deploy import rulebook
from sirdar.deploy.capture import Captured, capture
from sirdar.deploy.checking import check
from sirdar.deploy.migrate import migrate
from sirdar.deploy.nodes import made_by, name_of
from sirdar.deploy.rewrites import rescaled
from sirdar.deploy.rewriting import Rewritten, difference, gap_of, rewritten

OWN = """
chips = ["t4"]
compiler = "none"
formats = ["fp32"]
storage = ["fp32"]
cores = { value = 1, source = "a drawing", date = 2026-01-01 }

[[rules]]
name = "no-activation"
severity = "error"
title = "An activation"
operators = ["gelu"]
rewrite = "compose-activation"
why = "there is no table for it"
fix = "write it with tanh and exp"
source = "a drawing"
date = 2026-01-01
"""


def mended(module: nn.Module, *example: torch.Tensor, chip: str = "trainium1") -> tuple[Captured, Rewritten]:
    captured = capture(module.eval(), example)
    book = rulebook.load(load(chip))
    return captured, rewritten(captured, check(captured, book), book)


def names(captured: Captured) -> list[str]:
    assert captured.program is not None
    return [name_of(node) for node in captured.program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("kind", ["plain", "transposed", "grouped", "no bias", "one axis"])
def test_batch_norm_is_folded(kind: str) -> None:
    torch.manual_seed(0)
    conv = {
        "plain": nn.Conv2d(4, 6, 3),
        "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2),
        "grouped": nn.Conv2d(4, 6, 3, groups=2),
        "no bias": nn.Conv2d(4, 6, 3, bias=False),
        "one axis": nn.Conv1d(4, 6, 3),
    }[kind]
    norm = nn.BatchNorm1d(6) if kind == "one axis" else nn.BatchNorm2d(6)
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            assert tensor is not None
            tensor.normal_()
        assert norm.running_var is not None
        norm.running_var.uniform_(0.1, 3)
    before, done = mended(nn.Sequential(conv, norm), torch.randn(2, 4, *([9] if kind == "one axis" else [9, 9])))
    assert [row.name for row in done.rewrites] == ["fold-batch-norm"]
    assert "_native_batch_norm_legit_no_training" not in names(done.captured)
    assert difference(before, done.captured) <= 1e-5


def test_a_batch_norm_that_something_else_reads_too_is_kept() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    _, done = mended(Shared(), torch.randn(1, 2, 4, 4))
    assert "_native_batch_norm_legit_no_training" in names(done.captured)


def test_integers_become_narrow_inside_and_stay_wide_outside() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(16, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            places = torch.arange(x.shape[1]) + 1
            return self.table(places) + x, places

    _, done = mended(Positions(), torch.randn(2, 6, 3))
    assert done.captured.program is not None
    made = {name_of(n): made_by(n)[0].dtype for n in done.captured.program.graph.nodes if n.op == "call_function"}
    assert made["arange"] == torch.int32
    values = done.captured.program.module()(torch.zeros(2, 6, 3))
    assert values[1].dtype == torch.int64


def test_integers_that_may_be_large_stay_wide() -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.arange(3) * 1_500_000_000

    _, done = mended(Large(), torch.zeros(3, dtype=torch.int64))
    assert done.captured.program is not None
    kept = [n for n in done.captured.program.graph.nodes if name_of(n) == "mul"]
    assert made_by(kept[0])[0].dtype == torch.int64
    assert not done.rewrites
    assert done.difference == 0


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_dilated_pooling_is_the_maximum_of_slices(stride: int, padding: int) -> None:
    before, done = mended(nn.MaxPool2d(3, stride, padding, dilation=2), torch.randn(2, 3, 11, 13))
    assert [row.name for row in done.rewrites] == ["slice-pooling"]
    assert difference(before, done.captured) == 0


def test_a_rewrite_that_changes_the_result_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    from sirdar.deploy import rewriting

    def wrong(draft, node):  # noqa: ANN001, ANN202, ARG001
        node.update_arg(4, [1, 1])
        return [node.name]

    monkeypatch.setitem(rewriting.REWRITES, "slice-pooling", wrong)
    _, done = mended(nn.MaxPool2d(3, 1, 1, dilation=2), torch.randn(1, 1, 8, 8))
    assert [row.name for row in done.undone] == ["slice-pooling"]
    assert "slice-pooling" not in [row.name for row in done.rewrites]


class Masked(nn.Module):
    """Writes one number, one row, and one row for each place of a mask."""

    def __init__(self, *, rows: bool = False) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: torch.Tensor, row: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[y < 0] = 0.5
        y[mask] = row
        if self.rows:
            y[mask] = torch.stack([row, row])
        return y


MASKED = torch.randn(4, 3), torch.randn(3), torch.tensor([True, False, True, False])


def test_what_is_written_under_a_mask_is_chosen_by_it() -> None:
    """pytorch/xla#4248: the scatter has a size that depends on the mask, torch.where has none."""
    before, after = mended(Masked(), *MASKED)
    assert names(before).count("index_put") == 2
    assert "index_put" not in names(after.captured)
    assert after.difference == 0
    found = migrate(Masked(), MASKED, chip="trainium1")
    assert found.runs
    assert [row.rewritten != "" for row in found.findings if row.rule == "masked-write"] == [True, True]


def test_a_row_for_each_place_of_a_mask_is_left() -> None:
    found = migrate(Masked(rows=True), MASKED, chip="trainium1")
    assert [row.location.code for row in found.blocking if row.location] == ["y[mask] = torch.stack([row, row])"]
    assert found.difference == 0


def test_gaps() -> None:
    one = torch.tensor([1.0, float("inf"), float("nan"), 200.0])
    assert gap_of(one, one.clone()) == 0
    assert gap_of(one, torch.tensor([1.0, float("inf"), float("nan"), 201.0])) == pytest.approx(1 / 200)
    assert gap_of(torch.ones(2), torch.tensor([1.0, float("nan")])) == float("inf")
    assert gap_of(torch.ones(2), torch.ones(3)) == float("inf")


def test_448_to_240_is_a_halving() -> None:
    """Every e4m3fn value halved is an e4m3 value, but for odd multiples of the smallest subnormal."""
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    values = codes[torch.isfinite(codes)]
    moved, ratio = rescaled(values)
    assert ratio == 2
    assert float(moved.abs().max()) <= 240
    large = values.abs() >= 2**-5
    assert torch.equal(moved[large] * ratio, values[large])


@pytest.mark.parametrize(("activation", "name"), [(nn.SiLU(), "silu"), (nn.Mish(), "mish"), (nn.SELU(), "selu")])
def test_an_activation_that_the_chip_lacks_is_composed(activation: nn.Module, name: str) -> None:
    """torch's own reduction to core operators does it; the finding says so, and the result is the module's."""
    module, x = nn.Sequential(nn.Linear(4, 4), activation).eval(), torch.randn(2, 4)
    made = migrate(module, x, chip="ethos-u85-256", tolerance=0.2)
    assert made.runs  # the int8 writer holds it too
    assert made.captured is not None
    assert made.captured.program is not None
    (found,) = [row for row in made.findings if row.rule == "composed-activation"]
    assert found.rewritten
    assert found.detail == f"aten::{name}"
    assert name not in names(made.captured)
    with torch.no_grad():
        assert gap_of(module(x), made.captured.program.module()(x)) <= 1e-5


@pytest.mark.parametrize("activation", [nn.GELU(), nn.GELU(approximate="tanh")])
def test_rules_of_ones_own_may_ask_for_compositions(activation: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    module, x = nn.Sequential(nn.Linear(4, 4), activation).eval(), torch.randn(2, 4)
    made = migrate(module, x, chip="t4", rules=path)
    assert made.runs, made.changes
    assert made.captured is not None
    assert "gelu" not in names(made.captured)
    assert made.difference <= 1e-5
    assert any(row.rewritten for row in made.findings)


def test_the_last_operator_in_doubles_is_mended_with_the_others() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).cumsum(-1)

    made = migrate(Sums(), torch.ones(3, 8, dtype=torch.float64), chip="trainium1")
    assert made.runs, made.changes
