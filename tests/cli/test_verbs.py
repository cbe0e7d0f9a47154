# SPDX-License-Identifier: Apache-2.0
"""Each verb on a small table: what it prints, what it writes, and that both say the same."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from sirdar import cli
from sirdar.cli import options, show
from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import Backtest, Score
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel

LEVELS = [f"q0.{place}" for place in range(1, 10)]


@pytest.fixture(scope="module")
def demand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    days = pl.date_range(pl.date(2024, 1, 7), pl.date(2024, 12, 29), "1w", eager=True)
    frames = [
        pl.DataFrame({"sku": f"{n:03}", "week": days, "units": [(n + w) % 4 for w in range(len(days))]})
        for n in range(4)
    ]
    path = tmp_path_factory.mktemp("demand") / "demand.csv"
    pl.concat(frames).write_csv(path)
    return path


COLUMNS = ["--column", "id=sku", "--column", "time=week", "--column", "target=units"]


def run(arguments: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a verb prints on stdout."""
    monkeypatch.setattr(sys, "argv", ["sirdar", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    assert stop.value.code == 0, captured.err
    return captured.out


def test_backtest_prints_what_it_writes(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a" / "out"
    command = ["backtest", demand, *COLUMNS, "--models", "seasonal-naive,tsb", "--horizon", 3]
    printed = json.loads(run([*command, "--out", out, "--json"], monkeypatch, capsys))
    assert printed == json.loads((out / "leaderboard.json").read_text())
    assert {row["model"] for row in printed["models"]} == {"seasonal-naive", "tsb"}
    assert printed["data"]["series"] == 4
    shown = run(command, monkeypatch, capsys)
    assert printed["season"] == 1  # 51 weeks are less than two seasons
    assert "Backtest: 3 origins, horizon 3, season 1" in shown
    assert "weekly" in shown


def test_forecast_then_order(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["forecast", demand, *COLUMNS, "--model", "tsb", "--horizon", 4]
    facts = json.loads(run([*command, "--out", tmp_path / "first", "--json"], monkeypatch, capsys))
    assert (facts["model"], facts["series"], facts["horizon"]) == ("tsb", 4, 4)
    assert "4 series, 4 steps, 9 levels" in run([*command, "--out", tmp_path / "second"], monkeypatch, capsys)
    files = [tmp_path / name / "forecast.parquet" for name in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()
    table = pl.read_parquet(files[0])
    assert table.columns == ["unique_id", "ds", *LEVELS]
    assert table["unique_id"].unique(maintain_order=True).to_list() == ["000", "001", "002", "003"]
    assert str(table["ds"].min()) == "2025-01-05"  # the Sunday after the last one

    again = ["forecast", demand, *COLUMNS, "--trained", tmp_path / "first" / "model", "--out", tmp_path / "third"]
    assert "4 series, 4 steps, 9 levels" in run(again, monkeypatch, capsys)
    assert (tmp_path / "third" / "forecast.parquet").read_bytes() == files[0].read_bytes()
    assert not (tmp_path / "third" / "model").exists()

    run([*again, "--update"], monkeypatch, capsys)
    assert (tmp_path / "third" / "forecast.parquet").read_bytes() == files[0].read_bytes()  # the same table was learned
    assert (tmp_path / "third" / "model" / "config.json").exists()

    stock = tmp_path / "stock.csv"
    stock.write_text("unique_id,on_hand\n000,1000\n001,0\n")
    order = ["order", files[0], "--inventory", stock, "--out", tmp_path / "orders"]
    totals = json.loads(run([*order, "--json"], monkeypatch, capsys))
    orders = pl.read_parquet(tmp_path / "orders" / "orders.parquet")
    assert orders["unique_id"].to_list() == ["000", "001", "002", "003"]
    table = pl.read_csv(tmp_path / "orders" / "orders.csv", schema_overrides={"unique_id": pl.String})
    assert table.columns == orders.columns
    assert table["quantity"].to_list() == orders["quantity"].to_list()
    assert orders["quantity"][0] == 0
    assert orders["quantity"][1] > 0
    assert totals["quantity"] == pytest.approx(orders["quantity"].sum())
    run([*order, "--order-cost", "1e6", "--json"], monkeypatch, capsys)
    dear = pl.read_parquet(tmp_path / "orders" / "orders.parquet")
    assert (dear["quantity"] == 0).all()  # nothing that could be lost is worth a million
    assert "2 products ('002', ...) have no row there" in totals["stock"]
    shared = ["--price", "9", "--unit-cost", "2", "--budget", "20", "--json"]
    assert 0 < json.loads(run([*order, *shared], monkeypatch, capsys))["spent"] <= 20
    stock.write_text("unique_id,on_hand,case_pack\n000,1000,1\n001,0,1000\n")
    assert "Stock was read from stock.csv" in (said := run(order, monkeypatch, capsys))
    assert "until the next ones arrive" in " ".join(said.split())
    assert "case_pack are those of each product" in said
    assert pl.read_parquet(tmp_path / "orders" / "orders.parquet")["quantity"][1] % 1000 == 0


def test_levels_and_notes_of_the_table_reach_the_reader(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flagged = pl.read_csv(demand).with_columns(promo=pl.col("units") == 3)
    flagged.write_csv(tmp_path / "flagged.csv")
    told = [tmp_path / "flagged.csv", *COLUMNS, "--column", "future=promo", "--horizon", 4, "--freq", "M"]
    forecast = ["forecast", *told, "--out", tmp_path / "out", "--model", "tsb", "--levels", "0.05,0.5,0.95"]
    monkeypatch.setattr(sys, "argv", ["sirdar", *map(str, forecast), "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert facts["levels"] == [0.05, 0.5, 0.95]
    assert pl.read_parquet(tmp_path / "out" / "forecast.parquet").columns[2:] == ["q0.05", "q0.5", "q0.95"]
    assert [line for line in captured.err.splitlines() if "note: " in line] == [
        f"note: {note}" for note in facts["data_notes"]
    ]
    assert any("rows were summed" in note for note in facts["data_notes"])
    backtest = ["backtest", *told, "--models", "tsb", "--windows", 1, "--horizon", 2, "--levels", "0.2,0.8"]
    content = json.loads(run([*backtest, "--json"], monkeypatch, capsys))
    assert any("rows were summed" in note for note in content["data_notes"])
    assert content["models"][0]["coverage_80"] is None
    assert "nan" not in run(backtest, monkeypatch, capsys)


def test_plan_forecasts_the_levels_that_it_is_told(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", demand, *COLUMNS, "--models", "tsb", "--windows", 1, "--horizon", 3, "--out", tmp_path / "out"]
    printed = json.loads(run([*command, "--levels", "0.2,0.8", "--json"], monkeypatch, capsys))
    assert printed["settings"]["levels"] == [0.2, 0.8]
    assert pl.read_parquet(tmp_path / "out" / "forecast.parquet").columns[2:] == ["q0.2", "q0.8"]


def test_the_leaderboard_keeps_its_headers_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    names = ("mq-transformer", "seasonal-naive")
    scores = [Score(name, 1.2345, 0.789, 0.812, 0.853, 0.001, 123.4, 1234.5, 2**31, 0.5, 1.2, ()) for name in names]
    show.leaderboard(Backtest(scores, [], 7, 6))
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(word in shown for word in ("cover", "closed", "cross", "memory", "mq-transformer *", "2.06 min"))


def test_an_ethos_u_is_estimated_for_the_core_of_a_saved_network(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ethosu.vela")
    monkeypatch.chdir(tmp_path)
    panel = Panel.read(demand, id="sku", time="week", target="units")
    MQCNN(4, steps=1, width=8).fit(panel).save("model")
    FeedForward(4, steps=1).fit(panel).save("other")
    both = ["--chip", "ethos-u85-512", "--chip", "trainium1"]
    npu, rented = json.loads(run(["estimate", "model", *both, "--json"], monkeypatch, capsys))["estimates"]
    assert "for the core and a batch of 1: a host scales demand before it" in npu["method"]
    assert "core" not in rented["method"]
    advice = run(["advise", "model", "--per-second", 1, "--json", *both], monkeypatch, capsys)
    sentence = "ethos-u85-512: not ranked, as it runs an MQ-CNN's core alone, which sirdar estimate prices"
    assert f"{sentence}." in json.loads(advice)["assumptions"]
    for command, refusal in (
        (
            ["estimate", "other"],
            "other: holds a network of kind 'feed-forward'; of forecasters an Ethos-U runs the core",
        ),
        (["advise", "model", "--per-second", "1"], sentence),
    ):
        monkeypatch.setattr(sys, "argv", ["sirdar", *command, *both[:2]])
        with pytest.raises(SystemExit):
            cli.main()
        assert refusal in capsys.readouterr().err


def test_plan_without_a_network_writes_every_file(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", demand, *COLUMNS, "--models", "seasonal-naive,tsb", "--horizon", 3, "--out", tmp_path / "out"]
    shown = run([*command, "--order-cost", 5], monkeypatch, capsys)
    assert "report.html" in shown
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["order_cost"] == 5
    assert "An order costs 5." in (tmp_path / "out" / "report.html").read_text()
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {
        "forecast.parquet",
        "orders.parquet",
        "orders.csv",
        "leaderboard.json",
        "run.json",
        "report.html",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([".", "--horizon", "3"], ".: is no folder of a saved forecaster"),
        (
            ["model", "--horizon", "3"],
            "the model in model forecasts 4 steps; with --trained leave --model and --horizon",
        ),
        (
            ["model", "--model", "tsb"],
            "the model in model forecasts 4 steps; with --trained leave --model and --horizon",
        ),
        (["model", "--levels", "0.5"], "the model in model forecasts the levels that it learned; with --trained leave"),
        (["model", "--holidays", "US"], "the model in model knows whose holidays it learned; with --trained leave"),
    ],
)
def test_a_trained_model_has_its_own_horizon_and_holidays(
    arguments: list[str],
    sentence: str,
    demand: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Textbook(4, "tsb").fit(Panel.read(demand, id="sku", time="week", target="units")).save("model")
    monkeypatch.setattr(sys, "argv", ["sirdar", "forecast", str(demand), *map(str, COLUMNS), "--trained", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_forecast_is_taken_apart_into_its_inputs(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["forecast", demand, *COLUMNS, "--model", "theta", "--horizon", 4, "--out", out]
    asked = ["--explain", "001", "--explain", "003"]
    told = json.loads(run([*command, *asked, "--json"], monkeypatch, capsys))["explained"]
    assert list(told) == ["001", "003"]
    table = pl.read_csv(out / "explained.csv", schema_overrides={"unique_id": pl.String})
    forecast = pl.read_parquet(out / "forecast.parquet")
    for name, found in told.items():
        total = forecast.filter(pl.col("unique_id") == name)["q0.5"].sum()
        assert total == pytest.approx(found["total"], rel=1e-5)
        assert total == pytest.approx(found["baseline"] + sum(found["inputs"].values()), rel=1e-5)
        assert total == pytest.approx(table.filter(pl.col("unique_id") == name)["units"].sum(), rel=1e-5)
    assert "001: " in run([*command, *asked], monkeypatch, capsys)
    monkeypatch.setattr(sys, "argv", ["sirdar", *[str(part) for part in command], "--explain", "0001"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "the panel has no series '0001'. Did you mean" in capsys.readouterr().err
    run(command, monkeypatch, capsys)
    assert not (out / "explained.csv").exists()  # it was another forecast's


def test_a_forecast_knows_events_by_name_and_the_holidays_of_a_country(
    demand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events = pl.read_csv(demand).with_columns(event=pl.when(pl.col("units") == 3).then(pl.lit("fair")))
    events.write_csv(tmp_path / "events.csv")
    told = [*COLUMNS, "--column", "future=event", "--holidays", "DE-BY"]
    arguments = ["forecast", tmp_path / "events.csv", *told, "--horizon", "4", "--out", tmp_path / "out", "--json"]
    run(arguments, monkeypatch, capsys)
    encoding = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["encoding"]
    assert [name for name, *_ in encoding["known"]] == ["event=fair"]
    assert encoding["country"] == "DE-BY"
    assert "Corpus Christi" in encoding["holidays"]  # of the parts of Germany that keep it


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--chip", "t5"], "no chip is called 't5'; there are a100, a10g,"),
        (["--chip", "nothing.toml"], "nothing.toml cannot be read as TOML"),
        (["--volume", "0"], "volume must be a positive integer, got 0"),
        (["--batch=-1"], "batch must be a positive integer, got -1"),
        (["nothing"], "nothing: is no folder of a saved forecaster\n"),
    ],
)
def test_chips_refuses_what_it_does_not_know(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sirdar", "chips", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert f"sirdar: {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--lead-time", "0"], "lead time must be a positive integer, got 0"),
        (["--holding-cost=-0.1"], "holding_cost must not be negative, got -0.1"),
        ([], "demand.csv: not a forecast that `sirdar forecast` or `sirdar plan` wrote"),
    ],
)
def test_order_refuses_what_is_no_forecast(
    demand: Path,
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["sirdar", "order", str(demand), "--out", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_rung() -> None:
    assert tuple(options.RUNGS.split(", ")) == tuple(ladder.RUNGS)
