# SPDX-License-Identifier: Apache-2.0
"""`sirdar search` and `sirdar rules` on a toy product."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from sirdar.cli import main
from sirdar.cli.search import _facts_of, report_of
from sirdar.recipes.demand import Demand
from sirdar.recipes.vision_product import ProductTask
from sirdar.search.expert import Rule, write_rules
from sirdar.search.objectives import Objective
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.study import Options, Study
from sirdar.search.study import search as run
from sirdar.testing.search import TOY, ToyTask, toy_cost
from sirdar.units import Cost


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe in the place of the forecaster's."""
    recipe = ModuleType("sirdar.recipes.forecaster")

    def search_product(data: Path | None, chip: str | None, limits: dict[str, float], **settings: Any) -> Study:  # noqa: ANN401
        del data, chip
        options = replace(settings.pop("options"), cost=toy_cost)
        return run(TOY, ToyTask(), limits=limits, options=options, **settings)

    def deliver_winner(data: Path | None, study: Study, folder: Path, seed: int, unfinished: Path) -> dict[str, int]:
        del data, seed
        unfinished.mkdir(exist_ok=True)
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(study.best.candidate.as_dict()))
        return {"series": 4, "observations": 40}

    recipe.search_product = search_product  # type: ignore[attr-defined]
    recipe.deliver_winner = deliver_winner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sirdar.recipes.forecaster", recipe)


def dies(*_: object) -> None:
    raise KeyboardInterrupt


def sirdar(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sirdar", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("toy")
def test_a_search_is_shown_and_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, out = str(tmp_path / "study.sqlite"), tmp_path / "out"
    words = ["search", "forecaster", "--limit", "latency_s=0.03", "--trials", "12", "--storage", storage]
    words += ["--region", "us-east-1"]
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["sirdar.recipes.forecaster"], "deliver_winner", dies)
        (out / "model").mkdir(parents=True)  # of another search: its winner does not stay beside a new study
        (out / "study.json").write_text("{}")
        assert sirdar(monkeypatch, *words, "--out", str(out)) == 130
    kept = f"sirdar: interrupted; the study is in {out}, and the same command goes on\n"
    assert capsys.readouterr().err.endswith(kept)
    assert not (out / "model").exists()
    assert len(json.loads((out / "study.json").read_text())["trials"]) == 12  # it is safe before the winner trains
    assert sirdar(monkeypatch, *words, "--out", str(out)) == 0
    shown = capsys.readouterr()
    assert "Searching" in shown.err
    assert "CPU-hours" in shown.out
    stored = json.loads((out / "study.json").read_text())
    assert stored["spent"]["grams_co2"] >= 0
    assert len(stored["trials"]) == 12
    assert "pareto" not in stored
    assert set(stored["front"]) <= set(range(12))
    assert stored["best"] in stored["front"]
    assert stored["winner"] == {"series": 4, "observations": 40}
    best = stored["trials"][stored["best"]]["candidate"]
    assert json.loads((out / "model" / "config.json").read_text()) == best
    assert sorted(path.name for path in out.iterdir()) == ["model", "report.html", "study.json"]
    assert "How it was found" in (out / "report.html").read_text()
    assert sirdar(monkeypatch, *words, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert [t["candidate"] for t in again["trials"]] == [t["candidate"] for t in stored["trials"]]


def test_the_report_names_the_winner_that_is_delivered() -> None:
    wanted = (Objective("score", "maximise"), Objective("latency_s", weight=2.0))
    study = run(TOY, ToyTask(), strategy="random", trials=20, options=Options(cost=toy_cost, objectives=wanted))
    report = report_of(study, "forecaster")
    assert report.winner == study.best.number
    assert study.best.measures["score"] < max(trial.measures["score"] for trial in study.trials)


def test_a_curated_space_is_told_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = SearchSpace("wide", (Choice("a.channels", (1, 2, 3, 4)), Choice("b.channels", (2, 4))))

    def stepped(candidate: Candidate) -> Cost:
        widths = [int(value) for _, value in candidate.values]
        return Cost(latency_s=1e-3 * sum((width + 1) // 2 for width in widths), macs=float(sum(widths)))

    def search_product(*rest: object, options: Options, **settings: object) -> Study:
        del rest, settings
        return run(space, ToyTask(), trials=4, options=replace(options, cost=stepped))

    recipe = ModuleType("sirdar.recipes.forecaster")
    recipe.search_product = search_product  # type: ignore[attr-defined]
    recipe.deliver_winner = lambda *_: {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sirdar.recipes.forecaster", recipe)
    out = tmp_path / "out"
    assert sirdar(monkeypatch, "search", "forecaster", "--curate", "--out", str(out)) == 0
    assert "8 candidates became 4: 50.0% vanished" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "8 candidates became 4: 50.0% vanished" in page
    assert "Whole space" in page
    assert "Curated" in page


def test_a_recipe_chooses_the_chip_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def search_product(data: Path | None, chip: str | None, *rest: object, **settings: object) -> Study:
        del data, rest, settings
        asked.append(chip)
        return run(TOY, ToyTask(), trials=1, options=Options(cost=toy_cost))

    recipe = ModuleType("sirdar.recipes.forecaster")
    recipe.search_product = search_product  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sirdar.recipes.forecaster", recipe)
    assert sirdar(monkeypatch, "search", "forecaster") == 0
    assert asked == [None]


def test_a_table_is_searched_as_its_columns_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Demand] = []

    def search_product(data: Demand, *rest: object, **settings: object) -> Study:
        del rest, settings
        asked.append(data)
        return run(TOY, ToyTask(), trials=1, options=Options(cost=toy_cost))

    recipe = ModuleType("sirdar.recipes.forecaster")
    recipe.search_product = search_product  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sirdar.recipes.forecaster", recipe)
    words = ["demand.csv", "--column", "id=sku", "--column", "static=shop", "--freq", "W", "--horizon", "8"]
    words += ["--holidays", "US"]
    assert sirdar(monkeypatch, "search", "forecaster", *words) == 0
    assert asked == [Demand(Path("demand.csv"), 8, {"id": "sku", "static": ["shop"], "freq": "W", "holidays": "US"})]
    capsys.readouterr()
    assert sirdar(monkeypatch, "search", "classification", "photos", "--horizon", "8") == 2
    assert "are the forecaster's" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_rules_are_found_written_and_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rules, model = tmp_path / "out", tmp_path / "rules.json", tmp_path / "model.json"
    assert sirdar(monkeypatch, "search", "forecaster", "--trials", "60", "--strategy", "random", "--out", str(out)) == 0
    study = str(out / "study.json")
    assert sirdar(monkeypatch, "rules", study, "--out", str(rules), "--chance", "0.5") == 0
    capsys.readouterr()
    assert sirdar(monkeypatch, "rules", study, study, "--chance", "1e-9") == 0
    assert "no pattern in 60 trials" in capsys.readouterr().out  # the same study counts once
    stored = json.loads(rules.read_text())
    stored["rules"] = [{"verb": "prefer", "where": "part2", "value": 4}]
    rules.write_text(json.dumps(stored))
    model.write_text(json.dumps(TOY.smallest().as_dict()))
    capsys.readouterr()
    assert sirdar(monkeypatch, "rules", study, "--rules", str(rules), "--model", str(model), "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == {"part0": 1, "part1": 1, "part2": 4, "part3": 1}


@pytest.mark.usefixtures("toy")
def test_a_person_binds_a_search_and_says_what_is_tried_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rules([Rule("pin", "part0", 3), Rule("forbid", "part1", 4), Rule("prefer", "part2", 1)], tmp_path / "r.json")
    first = dict.fromkeys(("part0", "part1", "part2", "part3"), 3)
    (tmp_path / "first.json").write_text(json.dumps(first))
    words = ("search", "forecaster", "--trials", "8", "--limit", "latency_s=1", "--json")
    told = ("--rules", str(tmp_path / "r.json"), "--enqueue", str(tmp_path / "first.json"))
    assert sirdar(monkeypatch, *words, *told) == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert trials[0]["candidate"] == first
    assert trials[0]["origin"] == "enqueued"
    assert {trial["candidate"]["part0"] for trial in trials} == {3}
    assert 4 not in {trial["candidate"]["part1"] for trial in trials}
    (tmp_path / "first.json").write_text(json.dumps({**first, "part1": "four"}))
    assert sirdar(monkeypatch, *words, *told) == 2
    assert "choice 'part1' must be one of" in capsys.readouterr().err
    assert sirdar(monkeypatch, *words, "--enqueue", "nope.json") == 2
    assert "nope.json: cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_winner_whose_own_file_is_beyond_a_limit_says_so() -> None:
    limits = {"latency_s": 0.03, "energy_j": 1.0, "memory_bytes": 1e9}
    study = run(TOY, ToyTask(), limits=limits, strategy="random", trials=3, options=Options(cost=toy_cost))
    study = replace(study, objectives=replace(study.objectives, wanted=(Objective("top1", "maximise"),)))
    compiled = {"top1": 0.75, "top1_int8": 0.5, "latency_s": 0.031, "peak_bytes": 100, "parameter_bytes": 50}
    facts = dict(_facts_of(study, {"winner": compiled, "images": {"training": 70, "held_out": 8}}))
    assert facts["What was searched on"] == "70 images, and 8 held out, each about 12 % of a score"
    assert facts["The winner's latency_s by its int8 TFLite file"] == "0.031, beyond the limit of 0.03"
    assert "beyond" not in facts["The winner's memory_bytes by its int8 TFLite file"]
    assert "The winner's peak_bytes by its int8 TFLite file" not in facts
    kept = dict(_facts_of(study, {"winner": compiled | {"latency_s": 0.03}}))
    assert kept["The winner's latency_s by its int8 TFLite file"] == "0.03"


def test_images_are_counted_and_trained_on_as_long_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ethosu")
    for part, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / part / name / f"{number}.png")
    steps: list[int] = []

    def trained(task: ProductTask, *_: object, **__: object) -> dict[str, float]:
        steps.append(task.schedule.steps)
        return {"top1": 0.5}

    monkeypatch.setattr(ProductTask, "evaluate", trained)
    words = ["classification", str(tmp_path), "--size", "16x16", "--strategy", "random", "--trials", "1", "--json"]
    assert sirdar(monkeypatch, "search", *words, "--steps", "7") == 0
    assert json.loads(capsys.readouterr().out)["images"] == {"training": 6, "held_out": 4}
    assert sirdar(monkeypatch, "search", *words) == 0
    assert steps == [7, 600]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "{file}"], "exists and is no folder"),
        (["--region", "us-east"], "grid of region 'us-east' is not known"),
    ],
)
def test_what_cannot_be_had_is_refused_before_any_work(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = ModuleType("sirdar.recipes.forecaster")
    recipe.search_product = lambda *_rest, **_settings: pytest.fail("it searched")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sirdar.recipes.forecaster", recipe)
    (tmp_path / "file").write_text("")
    words = [word.format(file=tmp_path / "file") for word in words]
    assert sirdar(monkeypatch, "search", "forecaster", *words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["search", "forecast"], "product 'forecast' is not known"),
        (["search", "forecaster", "--strategy", "hybrid"], "'hybrid' does not search forecaster; random, evolution"),
        (["search", "detection", "--strategy", "single-shot"], "'single-shot' does not search detection"),
        (["search", "forecaster", "--size", "96x96"], "--size is of images; the forecaster is searched on a table"),
        (["search", "forecaster", "--steps", "9"], "--steps is of trainings on images"),
        (["search", "classification", "photos", "--steps", "0"], "steps must be a positive integer, got 0"),
        (["search", "detection", "--size", "96"], "--size must be HEIGHTxWIDTH, such as 96x96, got '96'"),
        (["search", "segmentation", "--kind", "car"], "--kind is of objects to detect; got it for segmentation"),
        (["search", "forecaster", "--limit", "latency_s"], "--limit must be NAME=VALUE"),
        (["search", "forecaster", "--limit", "macs=9", "--limit", "macs=7"], "--limit gives 'macs' twice, 9 and 7"),
        (["search", "forecaster", "--limit", "latency=1"], "Did you mean 'latency_s'"),
        (["search", "forecaster", "--limit", "latency_s=1e-9"], "nearest 0.004"),
        (["search", "forecaster", "--trials", "0"], "trials must be a positive integer, got 0"),
        (["search", "classification", "photos", "--out", "photos/out"], "--out photos/out would be one more class of"),
        (["rules", "nowhere.json"], "nowhere.json holds no study"),
    ],
)
def test_bad_input_ends_in_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sirdar(monkeypatch, *words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_rules_that_bind_nothing_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rules([Rule("prefer", "part0", 3)], tmp_path / "r.json")
    words = ("search", "forecaster", "--trials", "2", "--limit", "latency_s=1", "--rules", str(tmp_path / "r.json"))
    assert sirdar(monkeypatch, *words) == 0
    assert "note: none of the 1 rules in " in capsys.readouterr().err
