# SPDX-License-Identifier: Apache-2.0
"""The page of a migration: every section, escaped, and as it looks in a browser."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.deploy.artefacts import Artefact
from sirdar.deploy.migrate import Migration, migrate
from sirdar.report import page
from sirdar.report.migrate import migration_page, money
from sirdar.testing.defects import Branch


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


def rendered() -> str:
    made = migrate(network(), torch.randn(2, 3, 8, 8), chip="inferentia1", shapes=[(1, 3, 8, 8), (2, 3, 8, 8)])
    files = (
        Artefact("network.pt2", "program", "run", 100, "ab" * 32, 1e-7),
        Artefact("x", "ONNX", problem="<b>no</b>"),
    )
    return page.render(migration_page(made, files))


def test_every_question_has_a_section() -> None:
    text = rendered()
    for anchor in ("runs", "buckets", "right", "costs", "files"):
        assert f'id="{anchor}"' in text
    assert "&lt;b&gt;no&lt;/b&gt;" in text
    assert "<b>no</b>" not in text


def test_what_cannot_go_says_what_to_change() -> None:
    text = page.render(migration_page(migrate(Branch(), torch.ones(4), chip="trainium1")))
    assert "What is left to change" in text
    assert "NCC_EMOD025" in text


@pytest.mark.parametrize("width", [1440, 390])
def test_in_a_browser(browse, tmp_path: Path, width: int) -> None:  # noqa: ANN001
    facts, console = browse(rendered(), tmp_path, width)
    assert not [line for line in console if "error" in line.lower()], console
    assert facts["scroll"] <= width
    assert facts["spilt"] == 0
    assert facts["injected"] == 0
    assert min(facts["widths"]) > 250
    assert facts["plots"] == 1
    assert facts["marks"][0] >= 2


def test_a_layer_beyond_the_tolerance_is_named_where_the_output_is_beyond_it_too() -> None:
    made = migrate(network(), torch.randn(1, 3, 8, 8), chip="inferentia1")
    assert made.plan is not None
    met = replace(made, plan=replace(made.plan, first=made.plan.layers[0].name))
    unmet = replace(made, plan=replace(made.plan, first=made.plan.layers[0].name, error=0.5))
    assert "first" not in sentences(met)
    assert "first layer beyond" in sentences(unmet)


def sentences(made: Migration) -> str:
    (right,) = [section for section in migration_page(made).sections if section.anchor == "right"]
    return str((right.facts, right.tables))


def test_the_memory_of_an_npu_is_the_board_s() -> None:
    made = migrate(network(), torch.randn(1, 3, 8, 8), chip="ethos-u55-128")
    text = page.render(migration_page(made))
    assert "of SRAM that the sheet of ethos-u55-128 takes a board to have" in text
    assert "memory of a core" not in text
    assert "memory of a core" in rendered()


def test_a_price_may_not_be_public() -> None:
    assert money(None) == "no public price"
