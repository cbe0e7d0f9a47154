# SPDX-License-Identifier: Apache-2.0
"""`sirdar estimate` and `sirdar advise` on a small network of the user's own and on a saved forecaster."""

import json
import sys
from pathlib import Path

import pytest
import torch

from sirdar.cli import main
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.recipes import classification
from sirdar.testing.forecasters import example_panel
from sirdar.vision.checkpoint import save_network
from sirdar.workload.trace import trace

FACTORY = """
import torch
def small():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU()), torch.zeros(2, 64)
def empty():
    return torch.nn.Linear(4, 4), torch.zeros(0, 4)
def wide():
    return torch.nn.Linear(200000, 200000, device="meta"), torch.zeros(1, 200000, device="meta")
def torn():
    return torch.nn.Linear(4, 5), torch.zeros(2, 3)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "advised_here.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "advised_here", raising=False)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["sirdar", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(str(ended.value.code or 0))


def test_estimate_of_a_factory(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["estimate", "advised_here:small", "--chip", "trainium1", "--chip", "t4", "--batch", "16"]
    assert run([*words, "--json", "--out", "out"], monkeypatch) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((here / "out" / "estimate.json").read_text())
    assert [row["chip"] for row in printed["estimates"]] == ["trainium1", "t4"]
    for row in printed["estimates"]:
        assert row["cost"]["macs"] == 16 * 64 * 32
        assert row["cost"]["latency_s"] == pytest.approx(sum(layer["seconds"] for layer in row["layers"]))
        low, mid, high = row["joules"]
        assert low < mid < high
    assert run([*words, "--layers", "1"], monkeypatch) == 0
    assert "slowest layers" in capsys.readouterr().out
    assert run(["estimate", "advised_here:wide", "--chip", "t4"], monkeypatch) == 0
    assert "% of the memory of t4." in " ".join(capsys.readouterr().out.split())


def test_estimate_of_a_saved_camera_network(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ethosu")
    candidate = classification.SPACE.smallest()
    facts = {"product": "classification", "choices": candidate.as_dict(), "height": 48, "width": 64}
    save_network(here / "network.safetensors", classification.build_for(candidate, 3, (48, 64)), facts)
    assert run(["estimate", ".", "--chip", "t4", "--chip", "ethos-u55-128", "--json"], monkeypatch) == 0
    one, other = (row["cost"] for row in json.loads(capsys.readouterr().out)["estimates"])
    wanted = trace(classification.build_for(candidate, 3, (48, 64)), torch.zeros(1, 3, 48, 64)).macs
    assert one["macs"] == other["macs"] == wanted
    assert run(["advise", ".", "--volume", "1000", "--batch", "8", "--chip", "t4", "--json"], monkeypatch) == 0


def test_advice_for_a_service(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["advise", "advised_here:small", "--per-second", "1000", "--latency", "0.1", "--current", "g5.xlarge"]
    assert run([*words, "--json", "--out", "out"], monkeypatch) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((here / "out" / "advice.json").read_text())
    assert printed["best"] == printed["options"][0]["instance"]
    assert 0 < printed["saving"]["price"] < 1
    assert any("1000 examples a second" in sentence for sentence in printed["assumptions"])
    page = (here / "out" / "report.html").read_text()
    assert "advised_here:small" in page
    assert "Why not" in page
    assert run(words, monkeypatch) == 0
    said = capsys.readouterr().out
    assert "saves" in said
    assert " a day), " in said
    assert said.count("a day  ") + said.count("a day ┃") >= 3  # of price, energy and carbon
    assert "g CO2" in said


@pytest.mark.usefixtures("here")
def test_estimates_say_their_method_and_the_memory_of_a_board(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ethosu.vela")
    words = ["estimate", "advised_here:small", "--chip", "trainium1", "--chip", "ethos-u55-128", "--batch", "1"]
    assert run([*words, "--layers", "1"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "* trainium1: estimated by whole tiles on its array, with shares fitted to measurements." in said
    assert "* ethos-u55-128: estimated by Arm's compiler, Vela." in said
    assert "of SRAM that the sheet of ethos-u55-128 takes a board to have" in said
    assert "layer" in said
    assert "operator" in said
    assert run([*words, "--json"], monkeypatch) == 0
    rows = json.loads(capsys.readouterr().out)["estimates"]
    assert [row["method"] for row in rows][1] == "Arm's compiler, Vela"
    assert [row["layers"][0]["module"] for row in rows] == ["0", "0"]


def test_advice_for_a_saved_forecaster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    MQCNN(2, steps=1, width=8).fit(example_panel()).save(tmp_path / "model")
    words = ["advise", str(tmp_path / "model"), "--volume", "4e8", "--batch", "64", "--chip", "t4", "--json"]
    assert run(words, monkeypatch) == 0
    (option,) = json.loads(capsys.readouterr().out)["options"]
    assert option["chip"] == "t4"
    assert option["seconds"] == pytest.approx(4e8 / 64 * option["latency_s"])
    assert run(words[:-1], monkeypatch) == 0
    assert "time" in capsys.readouterr().out.split("latency")[0]  # how long the night's work takes


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["advise", "advised_here:small"], "one of --volume and --per-second must be given, got None and None"),
        (["advise", "advised_here:small", "--volume", "1", "--chip", "tpu"], "no chip is called 'tpu'"),
        (["advise", "advised_here:small", "--volume", "-1"], "--volume must be a finite number > 0, got -1.0"),
        (["estimate", "advised_here:small", "--chip", "h100", "--dtype", "fp8"], "h100 computes in e4m3fn or e5m2"),
        (["advise", "advised_here:small", "--volume", "1", "--chip", "t4", "--dtype", "fp8"], "t4 computes in none"),
        (["chips", "--chip", "h100", "--dtype", "fp8"], "h100 computes in e4m3fn or e5m2"),
        (["advise", "advised_here:smal", "--volume", "1"], "Did you mean 'small'"),
        (["advise", "advised_here:small", "--volume", "1", "--current", "x1"], "instance 'x1' is not among"),
        (["estimate", "advised_here:small", "--batch", "0"], "batch must be a positive integer, got 0"),
        (["estimate", "advised_here:small", "--layers", "-1"], "Invalid value for '--layers'"),
        (["estimate", "advised_here:empty", "--batch", "8"], "input of advised_here:empty is empty, of shape (0, 4)"),
        (
            ["estimate", "advised_here:torn"],
            "sirdar: torch.export cannot follow Linear, so its operators are not known",
        ),
        (["estimate", "nothing.pt2"], "No such file"),
        (["estimate", "nothing"], "must be given as package.module:factory"),
        (["estimate", "."], "is no folder of a saved forecaster"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(words, monkeypatch) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) < 4  # nothing of torch's own graphs and traces
