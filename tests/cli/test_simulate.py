# SPDX-License-Identifier: Apache-2.0
"""`sirdar simulate`: what it prints, what it writes, what it refuses."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from sirdar import cli

COLUMNS = ["--column", "id=sku", "--column", "time=week", "--column", "target=units"]


@pytest.fixture(scope="module")
def demand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    days = pl.date_range(pl.date(2024, 1, 7), pl.date(2024, 12, 29), "1w", eager=True)
    frames = [
        pl.DataFrame(
            {
                "sku": f"{n:03}",
                "week": days,
                "units": [(n + w) % 4 for w in range(len(days))],
                "available": [w % 7 != 5 for w in range(len(days))],
            }
        )
        for n in range(4)
    ]
    path = tmp_path_factory.mktemp("demand") / "demand.csv"
    pl.concat(frames).write_csv(path)
    return path


def run(
    arguments: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["sirdar", "simulate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_it_prints_what_it_writes(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["base-stock", demand, *COLUMNS, "--steps", 12, "--lead-time", 1]
    code, shown, _ = run([*command, "--out", tmp_path / "out", "--json"], monkeypatch, capsys)
    printed = json.loads(shown)
    assert code == 0
    assert printed.pop("out") == str(tmp_path / "out")
    assert printed == json.loads((tmp_path / "out" / "simulation.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "simulation.json", "steps.parquet"}
    names = [row["policy"] for row in printed["policies"]]
    assert names == ["base-stock", "constant", "never-order", "perfect-foresight"]
    assert (printed["series"], printed["window"], printed["first_step"]) == (4, 12, "2024-10-13")
    assert printed["policies"][-1]["share_of_foresight"] == 1.0

    code, shown, _ = run(command, monkeypatch, capsys)
    assert code == 0
    for text in (
        "perfect-foresight",
        "cycles",
        "share",
        "quantile of demand over 2 steps",
        "Sales are taken for demand",
    ):
        assert text in shown


def test_a_table_that_says_when_there_was_stock(
    demand: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["min-max", demand, *COLUMNS, "--column", "in_stock=available", "--order-cost", 5, "--json"]
    code, shown, _ = run(command, monkeypatch, capsys)
    assert code == 0
    printed = json.loads(shown)
    assert printed["policies"][0]["ordering"] > 0
    assert any("steps were out of stock" in note for note in printed["notes"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["base-stok"], "unknown policy 'base-stok'; known are base-stock,"),
        (["base-stock", "--lead-time", "0"], "lead time must be a positive integer, got 0"),
        (["base-stock", "--holding-cost=-0.1"], "holding_cost must not be negative, got -0.1"),
        (["base-stock", "--lost-sale-cost", "0"], "the critical ratio must lie in (0, 1), got 0"),
        (["base-stock", "--unit-cost=-2"], "unit_cost must not be negative, got -2"),
        (["base-stock", "--unit-cost", "2"], "--unit-cost needs --price: without income, buying nothing is cheapest"),
        (["base-stock", "--steps", "0"], "steps of the window must be a positive integer, got 0"),
        (["base-stock", "--lead-time", "40"], "the window of 17 steps is too short: lead time + review period is 41"),
        (["base-stock", "--steps", "51"], "no series has the 57 steps up to the table's last one"),
        (["base-stock", "--column", "in_stock=shelf"], "no column 'shelf'"),
        (["projected-inventory", "--model", "none"], "unknown model 'none'"),
        (["myopic-2", "--order-cost", "5"], "myopic-2 has no table for '000': exact solutions are for lost sales"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    demand: Path,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy, *options = arguments
    command = [policy, demand, *COLUMNS, *options, "--out", tmp_path / "out"]
    code, shown, said = run(command, monkeypatch, capsys)
    assert code == 2
    assert shown == ""
    refused = [line for line in said.splitlines() if line.startswith("sirdar: ")]
    assert len(refused) == 1
    assert sentence in refused[0]
    assert not list(tmp_path.iterdir())


def test_help_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, shown, _ = run(["--help"], monkeypatch, capsys)
    assert code == 0
    for text in (
        "perfect foresight",
        "sirdar simulate base-stock",
        "--steps",
        "--lost-sale-cost",
        "never on the steps",
    ):
        assert text in shown
