# SPDX-License-Identifier: Apache-2.0
"""`sirdar migrate` as it is typed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.cli import main, show_migration
from sirdar.deploy.migrate import migrate

MODELS = """
import torch
from torch import nn


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        return x


def image():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)), torch.randn(1, 3, 16, 16)


def raises():
    raise KeyError("no weights")


def quits():
    raise SystemExit("bye")


def asks(name):
    return name


def good():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(4, 8)


def bad():
    return Branch(), torch.randn(4)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "strangers_models.py").write_text(MODELS)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "halted.py").write_text("1 / 0\n")
    (tmp_path / "shapes.txt").write_text("# a sample\n1x8\n2x8\n2 8\n7,8\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sirdar", "migrate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_good_model(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("strangers_models:good", "--chip", "trainium1", "--shapes", "shapes.txt", "--buckets", "2", "--out", "out")
    assert typed(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "it runs" in printed
    assert "Buckets: 2x8, 7x8" in printed
    names = {path.name for path in (folder / "out").iterdir()}
    files = {"network.pt2", "network_planned.pt2", "network.onnx", "compile.py", "sirdar.lock.json"}
    assert names == {*files, "migration.json", "report.html"}
    page = (folder / "out" / "report.html").read_text()
    for word in (
        "Does it run?",
        "Which shapes?",
        "Is the answer still right?",
        "what does it cost?",
        "Files to take along",
    ):
        assert word in page


def test_a_model_that_cannot_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "strangers_models:bad", "--chip", "inferentia2", "--out", "out") == 1
    printed = capsys.readouterr().out
    assert "What is left to change:" in printed
    assert "strangers_models.py:8" in printed
    assert "NCC_EMOD025" in printed
    assert "Traceback" not in printed
    assert (folder / "out" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["trainium1", "ethos-u85-256"])
def test_the_same_command_gives_the_same_bytes(folder: Path, chip: str) -> None:
    made = []
    for seed in ("1", "2"):  # of Python's hashes: two processes order their sets differently
        words = [sys.executable, "-c", "from sirdar.cli import main; main()", "migrate", "strangers_models:image"]
        subprocess.run(
            [*words, "--chip", chip, "--tolerance", "0.05", "--out", f"out{seed}"],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        made.append({path.name: path.read_bytes() for path in sorted((folder / f"out{seed}").iterdir())})
    one, two = made
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []
    lock = json.loads(one["sirdar.lock.json"])
    assert set(lock["files"]) == set(one) - {"sirdar.lock.json", "migration.json", "report.html"}


@pytest.mark.usefixtures("folder")
def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, "strangers_models:good", "--chip", "t4", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["runs"]
    assert content["chip"] == "t4"
    assert content["precision"]["met"]


def test_an_exported_program(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = torch.export.export(nn.Linear(4, 2).eval(), (torch.randn(3, 4),))
    torch.export.save(program, folder / "network.pt2")
    assert typed(monkeypatch, "network.pt2", "--chip", "trainium2") == 0
    assert "it runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("strangers_models:none", "--chip", "t4"), "none"),
        (("nowhere:good", "--chip", "t4"), "nowhere"),
        (("strangers_models", "--chip", "t4"), "strangers_models"),
        (("missing.pt2", "--chip", "t4"), "missing.pt2"),
        (("strangers_models:good", "--chip", "t5"), "t5"),
        (("strangers_models:good", "--chip", "t4", "--tolerance", "2"), "tolerance"),
        (("strangers_models:good", "--chip", "t4", "--shapes", "strangers_models.py"), "line"),
        (("strangers_models:good", "--chip", "t4", "--buckets", "0", "--shapes", "shapes.txt"), "buckets"),
        ((".", "--chip", "t4"), "saved forecaster"),
        (("strangers_models:raises", "--chip", "t4"), "strangers_models.py:20"),
        (("strangers_models:quits", "--chip", "t4"), "SystemExit"),
        (("strangers_models:asks", "--chip", "t4"), "missing 1 required positional argument"),
        (("broken:f", "--chip", "t4"), "SyntaxError"),
        (("halted:f", "--chip", "t4"), "ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_input_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    complaint: str,
) -> None:
    assert typed(monkeypatch, *words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("sirdar: ")
    assert complaint in said


def test_a_saved_forecaster(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from sirdar.forecasting.models.mqcnn import MQCNN
    from sirdar.testing.forecasters import example_panel

    MQCNN(2, steps=1, width=8).fit(example_panel()).save(folder / "model")
    assert typed(monkeypatch, "model", "--chip", "inferentia2") == 0
    assert "it runs" in capsys.readouterr().out


def test_an_npu_has_its_memory_from_the_board(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del folder
    assert typed(monkeypatch, "strangers_models:image", "--chip", "ethos-u55-128") == 0
    said = capsys.readouterr().out
    assert "of SRAM that the sheet of ethos-u55-128 takes a board to have" in said
    assert "per core" not in said
    assert "`sirdar estimate` asks" in said
    assert typed(monkeypatch, "strangers_models:good", "--chip", "t4") == 0
    assert "per core: 1 core, 1 chip\n" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "said"), [(0.0, False), (0.5, True)])
def test_a_layer_is_blamed_only_where_the_output_is_beyond_the_tolerance(
    error: float, *, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    made = migrate(nn.Linear(8, 8), torch.randn(4, 8), chip="t4")
    assert made.plan is not None
    show_migration.show(replace(made, plan=replace(made.plan, error=error, first="linear")), ())
    assert ("the first layer beyond the tolerance is linear" in capsys.readouterr().out) is said


def test_what_was_mended_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    moving = ({0: torch.export.Dim("batch", min=1, max=8)},)
    program = torch.export.export(nn.Linear(8, 8), (torch.randn(4, 8),), dynamic_shapes=moving)
    show_migration.show(migrate(program, chip="trainium1"), ())
    said = capsys.readouterr().out
    assert "it runs" in said
    assert "mended NCC_EMOD025: An input has a size that is not fixed" in said
    assert "error NCC" not in said
