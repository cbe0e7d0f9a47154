# SPDX-License-Identifier: Apache-2.0
"""`sirdar chips` on a small network."""

import json
import sys
from pathlib import Path

import pytest

from sirdar.cli import main
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.testing.forecasters import example_panel


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    MQCNN(2, steps=1, width=8).fit(example_panel()).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_network_is_ranked_and_stored(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "sirdar",
        "chips",
        str(saved),
        "--chip",
        "t4",
        "--chip",
        "inferentia2",
        "--volume",
        "1000",
        "--batch",
        "10",
    ]
    monkeypatch.setattr(sys, "argv", [*words, "--json", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "chips.json").read_text())
    assert {row["chip"] for row in printed["chips"]} == {"t4", "inferentia2"}
    assert sum(row["cheapest"] for row in printed["chips"]) == 1
    for row in printed["chips"]:
        assert row["seconds"] == pytest.approx(row["latency_s"] * 100 / row["chips"])  # 100 batches of 10
