# SPDX-License-Identifier: Apache-2.0
"""Whole searches on a task whose optimum is known, killed ones, and impossible ones."""

import json
import math
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sirdar.search
from sirdar.chips import Chip, load
from sirdar.errors import ArgumentError, DataError, OutputError, UnsupportedError
from sirdar.search.expert import Rule
from sirdar.search.ledger import OptunaLedger
from sirdar.search.multishot import RandomSearch, RegularisedEvolution, Strategy, View
from sirdar.search.objectives import Objective
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.stopping import MedianStopping
from sirdar.search.study import Options, Study, read_study, require_instances, search
from sirdar.search.task import Report, Trial
from sirdar.testing.search import TOY, ToyTask, toy_cost
from sirdar.units import Cost

STRATEGIES = ("random", "evolution", "nsga-ii", "reinforce")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_to_the_limit_and_finds_the_optimum(strategy: str) -> None:
    task = ToyTask()
    study = search(TOY, task, limits={"latency_s": 0.016}, strategy=strategy, trials=40, options=Options(cost=toy_cost))
    assert all(toy_cost(candidate).latency_s <= 0.016 for candidate in task.trained)
    assert len(task.trained) == len(set(task.trained)) <= 40  # ends when all within the limit are tried
    assert study.best.measures["score"] == 8.0
    assert study.spent.cpu_hours > 0
    assert study.spent.grams_co2 is None


def test_tpe_proposes_what_is_feasible() -> None:
    study = search(
        TOY, ToyTask(), limits={"latency_s": 0.02}, strategy="tpe", trials=12, options=Options(cost=toy_cost)
    )
    assert len({trial.candidate for trial in study.trials}) == 12


def test_without_limits_latency_is_an_objective() -> None:
    study = search(TOY, ToyTask(), "trainium1", strategy="nsga-ii", trials=20, options=Options(region="us-east-1"))
    assert [wanted.name for wanted in study.objectives.wanted] == ["score", "latency_s"]
    assert len(study.pareto()) >= 1
    assert study.spent.grams_co2 is not None
    assert json.loads(json.dumps(study.to_dict()))["best"] == study.best.number


WIDE = SearchSpace("wide", (Choice("a.channels", (1, 2, 3, 4)), Choice("b.channels", (2, 4))))


def stepped(candidate: Candidate) -> Cost:
    """Two channels at once."""
    halves = [math.ceil(int(value) / 2) for _, value in candidate.values]
    return Cost(latency_s=1e-3 * sum(halves), macs=float(sum(int(value) for _, value in candidate.values)))


def test_a_curated_search_trains_only_what_is_left_and_goes_on(tmp_path: Path) -> None:
    task, storage, words = ToyTask(dies_after=1), tmp_path / "study.sqlite", list[str]()
    options = Options(
        cost=stepped, curate=True, storage=storage, progress=lambda share, word: words.append(f"{share:g} {word}")
    )
    with pytest.raises(KeyboardInterrupt):
        search(WIDE, task, trials=4, options=options)
    study = search(WIDE, ToyTask(), trials=4, options=options)
    assert {trial.candidate["a.channels"] for trial in study.trials} == {2, 4}
    assert study.space.size == 4
    assert words[0] == "0 curating, 0 priced"
    assert study.curated is not None
    assert study.curated.curation.dropped == {"a.channels": (1, 3)}
    assert study.priced == WIDE.size  # what curation priced is on the list
    stored = json.loads(json.dumps(study.to_dict()))
    assert stored["curated"]["size"] == {"before": 8, "after": 4}
    path = tmp_path / "study.json"
    path.write_text(json.dumps(stored))
    assert read_study(path)[0] == study.space
    whole = search(WIDE, ToyTask(), trials=8, options=replace(options, curate=False))
    assert len(whole.trials) == WIDE.size  # both stand in one storage


def test_curation_needs_prices() -> None:
    with pytest.raises(ArgumentError, match=r"curation needs a chip, or options\.cost"):
        search(WIDE, ToyTask(), options=Options(curate=True))


def test_the_package_can_be_called() -> None:
    study = sirdar.search(TOY, ToyTask(), trials=3, seed=1)  # type: ignore[operator]
    assert len(study.trials) == 3


def test_an_impossible_limit_ends_in_a_sentence_with_the_nearest_value() -> None:
    task = ToyTask()
    with pytest.raises(ArgumentError, match=r"latency_s <= 0.003 \(nearest 0.004\).*part0=1"):
        search(TOY, task, limits={"latency_s": 0.003}, options=Options(cost=toy_cost))
    assert not task.trained


def test_limits_need_a_cost() -> None:
    with pytest.raises(ArgumentError, match="limits latency_s need a chip"):
        search(TOY, ToyTask(), limits={"latency_s": 1.0})
    with pytest.raises(ArgumentError, match="Did you mean 'evolution'"):
        search(TOY, ToyTask(), strategy="evolutoin")


@pytest.mark.parametrize("strategy", ["evolution", "nsga-ii"])
@pytest.mark.parametrize("after", [0, 7])
def test_a_killed_search_goes_on_to_the_same_study(tmp_path: Path, strategy: str, after: int) -> None:
    whole = search(TOY, ToyTask(), strategy=strategy, trials=14, seed=3, options=Options(cost=toy_cost))
    stored = Options(cost=toy_cost, storage=tmp_path / "study.sqlite")
    with pytest.raises(KeyboardInterrupt):
        search(TOY, ToyTask(dies_after=after), strategy=strategy, trials=14, seed=3, options=stored)
    resumed = search(TOY, ToyTask(), strategy=strategy, trials=14, seed=3, options=stored)
    assert [t.candidate for t in resumed.trials] == [t.candidate for t in whole.trials]
    assert [dict(t.measures) for t in resumed.trials] == [dict(t.measures) for t in whole.trials]
    again = ToyTask()
    assert search(TOY, again, strategy=strategy, trials=14, seed=3, options=stored).best == resumed.best
    assert not again.trained


def test_a_wish_is_tried_first_even_if_the_process_dies_on_it(tmp_path: Path) -> None:
    wish = TOY.largest()
    options = Options(storage=tmp_path / "study.sqlite", enqueue=(wish,))
    with pytest.raises(KeyboardInterrupt):
        search(TOY, ToyTask(dies_after=0), trials=2, options=options)
    study = search(TOY, ToyTask(), trials=2, options=Options(storage=tmp_path / "study.sqlite"))
    assert (study.trials[0].candidate, study.trials[0].origin) == (wish, "enqueued")
    assert study.trials[1].origin == "evolution"


def test_a_wish_from_the_dashboard(tmp_path: Path) -> None:
    import optuna

    options = Options(storage=tmp_path / "study.sqlite")
    search(TOY, ToyTask(), trials=1, options=options)
    optuna.load_study(study_name="toy", storage=f"sqlite:///{tmp_path}/study.sqlite").enqueue_trial({"part2": 4})
    study = search(TOY, ToyTask(), trials=2, options=options)
    assert str(study.trials[1].candidate) == "part0=1 part1=1 part2=4 part3=1"


def test_a_wish_beyond_the_limits_is_not_trained() -> None:
    task = ToyTask()
    options = Options(cost=toy_cost, enqueue=(TOY.largest(),))
    study = search(TOY, task, limits={"latency_s": 0.016}, trials=2, options=options)
    assert study.trials[0].state == "failed"
    assert len(task.trained) == 2  # it counts neither as one of them nor, with others, as a failure of the task


def test_a_storage_of_another_space_is_refused(tmp_path: Path) -> None:
    storage = tmp_path / "study.sqlite"
    search(TOY, ToyTask(), trials=1, options=Options(storage=storage))
    with pytest.raises(ArgumentError, match="another space"):
        search(TOY.pin("part0", 1), ToyTask(), trials=1, options=Options(storage=storage))
    with pytest.raises(OutputError, match="cannot be opened"):
        OptunaLedger(tmp_path / "no" / "folder.sqlite", "toy", TOY, (("score", "maximise"),))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "seed '0', not '1'"),
        ({"strategy": "evolution"}, "strategy 'random', not 'evolution'"),
        ({"limits": {"latency_s": 0.015}}, "limits 'latency_s <= 0.02', not 'latency_s <= 0.015'"),
        ({"conditions": {"data": "b"}}, "data 'a', not 'b'"),
        ({"dtype": "int8", "seed": 2}, "seed '0', not '2' and dtype 'bf16', not 'int8'"),
        ({"objectives": (Objective("sum", "maximise"),)}, "objectives 'maximise score .*', not 'maximise sum"),
    ],
)
def test_a_storage_of_other_conditions_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    task = ToyTask()

    def run(trials: int = 2, **other: Any) -> Study:  # noqa: ANN401
        named = {"limits": {"latency_s": 0.02}, "strategy": "random", "seed": 0, "conditions": {"data": "a"}} | other
        first = {name: named.pop(name) for name in ("limits", "strategy", "seed")}
        options = Options(cost=toy_cost, storage=tmp_path / "study.sqlite", **named)
        return search(TOY, task, trials=trials, options=options, **first)

    run()
    with pytest.raises(ArgumentError, match=f"was made with {told}"):
        run(**changed)
    assert len(task.trained) == 2
    assert len(run(trials=3).trials) == len(task.trained) == 3  # more trials are no other condition


def test_what_an_older_storage_holds_beyond_the_limits_is_not_the_best(tmp_path: Path) -> None:
    # A storage of before conditions were kept is taken as it is.
    storage = tmp_path / "study.sqlite"
    ledger = OptunaLedger(storage, "toy", TOY, (("score", "maximise"),))
    ledger.end(Trial(0, TOY.largest(), {"score": 16.0, "latency_s": 0.064}))
    ledger.end(Trial(1, TOY.smallest(), {"score": 4.0, "latency_s": 0.004}))
    options = Options(cost=toy_cost, storage=storage)
    study = search(TOY, ToyTask(), limits={"latency_s": 0.016}, trials=1, options=options)
    assert study.best.candidate == TOY.smallest()
    assert study.trials[0].state == "failed"


def test_a_wish_of_another_space_is_refused(tmp_path: Path) -> None:
    options = Options(storage=tmp_path / "study.sqlite", enqueue=(Candidate((("depth", 1),)),))
    with pytest.raises(ArgumentError, match="has no choice 'depth'"):
        search(TOY, ToyTask(), trials=1, options=options)


def test_wishes_beyond_the_limits_end_no_search_and_cost_no_trial() -> None:
    task = ToyTask()
    wishes = tuple(
        TOY.largest() if n == 4 else TOY.candidate({**TOY.largest().as_dict(), "part0": n}) for n in range(1, 5)
    )
    options = Options(cost=toy_cost, enqueue=wishes)
    study = search(TOY, task, limits={"latency_s": 0.016}, trials=3, options=options)
    assert [trial.state for trial in study.trials] == ["failed"] * 4 + ["complete"] * 3
    assert not set(task.trained) & set(wishes)


def test_names_that_the_bill_does_not_know_are_refused_before_any_training() -> None:
    task = ToyTask()
    for options, name in ((Options(region="nowhere"), "nowhere"), (Options(gpu="no-such-chip"), "no-such-chip")):
        with pytest.raises(ArgumentError, match=name):
            search(TOY, task, trials=1, options=options)
    assert not task.trained


def test_scores_of_nothing_are_traded_too() -> None:
    class Untrained:
        metric, higher_is_better = "score", True
        graph = ToyTask().graph

        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            del seed, report
            return {"score": float(candidate == TOY.largest())}

    options = Options(cost=toy_cost, enqueue=(TOY.smallest(), TOY.largest()))
    study = search(TOY, Untrained(), trials=8, options=options)
    assert study.best.candidate == TOY.largest()


@pytest.mark.parametrize("text", ['{"space": []}', "[]", "{}", '{"space": {"schema": 1, "name": "a", "choices": []}}'])
def test_what_is_no_study_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.json"
    path.write_text(text)
    told = r"study.json holds no study: it must be an object in which '(space|objectives)' is an object"
    with pytest.raises(DataError, match=told):
        read_study(path)


@pytest.mark.parametrize("storage", ["redis://localhost", "postgresql://u@h:port/x", "unheard-of://x"])
def test_a_url_that_is_none_of_a_database_is_named(storage: str) -> None:
    with pytest.raises(OutputError, match=f"storage '{storage}' cannot be opened: "):
        search(TOY, ToyTask(), trials=1, options=Options(storage=storage))


def test_a_missing_driver_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(UnsupportedError, match="needs a driver, psycopg2: pip install 'psycopg2-binary'"):
        search(TOY, ToyTask(), trials=1, options=Options(storage="postgresql+psycopg2://u:p@127.0.0.1:1/x"))


def test_hopeless_trainings_are_stopped() -> None:
    study = search(TOY, ToyTask(), trials=40, strategy="random", options=Options(stopping=MedianStopping(warm_up=5)))
    stopped = [trial for trial in study.trials if trial.state == "stopped"]
    assert stopped
    assert study.best.usable
    assert all("score" not in trial.measures for trial in stopped)


def three_parts(candidate: Candidate) -> Cost:
    return Cost(latency_s=sum(float(value) for _, value in candidate.values[:3]))


def test_no_training_on_the_front_of_score_and_latency_is_stopped() -> None:
    whole, some = (
        search(TOY, ToyTask(), trials=60, strategy="random", options=Options(cost=three_parts, stopping=rule))
        for rule in (None, MedianStopping())
    )
    assert [trial.candidate for trial in some.pareto()] == [trial.candidate for trial in whole.pareto()]
    assert any(trial.state == "stopped" for trial in some.trials)


class Broken:
    metric, higher_is_better = "score", True
    graph = ToyTask().graph

    def evaluate(self, *_: object) -> Mapping[str, float]:
        msg = "out of memory"
        raise RuntimeError(msg)


def test_a_task_that_always_fails_ends_the_search() -> None:
    with pytest.raises(ArgumentError, match="last 3 trials failed, the last with: RuntimeError: out of memory"):
        search(TOY, Broken(), trials=10)


def test_a_candidate_that_cannot_be_trained_ends_no_search() -> None:
    class Narrow:
        metric, higher_is_better, graph = "score", True, ToyTask().graph

        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            if candidate["part0"] == 2:  # torch's own words, of a batch norm
                msg = "Expected more than 1 value per channel when training"
                raise ValueError(msg)
            return ToyTask().evaluate(candidate, seed, report)

    study = search(TOY, Narrow(), trials=10, strategy="random", options=Options(cost=toy_cost))
    failed = [trial for trial in study.trials if trial.state == "failed"]
    assert failed
    assert all(trial.note == "ValueError: Expected more than 1 value per channel when training" for trial in failed)


def test_what_is_used_up_is_written_down_after_each_trial(tmp_path: Path) -> None:
    storage, names = tmp_path / "study.sqlite", (("score", "maximise"), ("latency_s", "minimise"))
    seen: list[float] = []

    class Looking:
        metric, higher_is_better = "score", True
        graph = ToyTask().graph

        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            ledger = OptunaLedger(storage, "toy", TOY, names)
            seen.append(ledger.spend({"cpu_s": 0.0, "gpu_s": 0.0})["cpu_s"])
            return ToyTask().evaluate(candidate, seed, report)

    study = search(TOY, Looking(), trials=3, seed=1, options=Options(cost=toy_cost, storage=storage))
    assert seen[0] == 0 < seen[1] < seen[2] < study.spent.cpu_hours * 3600


def test_the_way_to_a_first_candidate_within_the_limits_is_on_the_bill() -> None:
    only = TOY.candidate({"part0": 3, "part1": 2, "part2": 3, "part3": 2})

    def cost(candidate: Candidate) -> Cost:
        begin = time.process_time()
        while time.process_time() - begin < 1e-3:
            pass
        return Cost(latency_s=1.0 if candidate == only else 2.0)

    study = search(TOY, ToyTask(), limits={"latency_s": 1.0}, trials=1, options=Options(cost=cost))
    assert study.spent.cpu_hours * 3600 > study.priced * 1e-3 > 0.05


def test_progress_begins_at_once_and_rises_to_one() -> None:
    told: list[tuple[float, str]] = []
    options = Options(cost=toy_cost, progress=lambda done, word: told.append((done, word)))
    study = search(TOY, ToyTask(), limits={"latency_s": 0.016}, trials=4, options=options)
    assert [done for done, _ in told] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert told[0][1] == ""
    assert told[-1][1] == f"best score {study.best.measures['score']:.4g}"


def test_looking_for_what_keeps_to_a_limit_is_told() -> None:
    told: list[tuple[float, str]] = []
    options = Options(cost=toy_cost, progress=lambda done, word: told.append((done, word)))
    with pytest.raises(ArgumentError, match="nearest"):
        search(TOY, ToyTask(), limits={"latency_s": 1e-9}, trials=4, options=options)
    assert {done for done, _ in told} == {0.0}
    assert told[0][1] == "1 priced, none yet within the limits"
    assert told[-1][1] == f"{TOY.size} priced, none yet within the limits"


def test_a_wish_that_is_made_twice_is_trained_once() -> None:
    task, wish = ToyTask(), TOY.largest()
    search(TOY, task, trials=3, options=Options(cost=toy_cost, enqueue=(wish, wish)))
    assert task.trained.count(wish) == 1


def test_a_candidate_that_cannot_be_priced_is_not_trained_and_ends_nothing() -> None:
    task = ToyTask()

    def cost(candidate: Candidate) -> Cost:
        if candidate["part0"] == 3:
            msg = "cannot compile"
            raise ValueError(msg)
        return toy_cost(candidate)

    for limits in ({"latency_s": 1.0}, None):
        study = search(TOY, task, limits=limits, strategy="random", trials=12, options=Options(cost=cost))
        broken = [trial for trial in study.trials if trial.candidate["part0"] == 3]
        assert all(trial.state == "failed" for trial in broken)
        assert all(trial.note == "it cannot be priced: ValueError: cannot compile" for trial in broken)
        assert study.best.candidate["part0"] != 3
    assert broken  # without a limit they are proposed
    assert all(candidate["part0"] != 3 for candidate in task.trained)


def test_what_cannot_be_priced_does_not_count_until_nothing_can() -> None:
    def cost(candidate: Candidate) -> Cost:
        if candidate["part1"] != 2:
            msg = "cannot compile"
            raise ValueError(msg)
        return toy_cost(candidate)

    study = search(TOY, ToyTask(), strategy="random", trials=3, options=Options(cost=cost))
    assert sum(trial.usable for trial in study.trials) == 3
    few = SearchSpace("few", (Choice("part0", (1, 2)),))

    def never(_: Candidate) -> Cost:
        msg = "no price"
        raise ValueError(msg)

    with pytest.raises(ArgumentError, match="part0=1: it cannot be priced: ValueError: no price"):
        search(few, ToyTask(), limits={"latency_s": 1.0}, options=Options(cost=never))
    with pytest.raises(ArgumentError, match="of which a candidate cannot be priced is not curated: .*no price"):
        search(WIDE, ToyTask(), trials=2, options=Options(cost=never, curate=True))


def test_each_set_of_rules_has_a_study_of_its_own(tmp_path: Path) -> None:
    def searched(*rules: Rule) -> Study:
        options = Options(cost=toy_cost, storage=tmp_path / "study.sqlite", rules=rules)
        return search(TOY, ToyTask(), trials=2, options=options)

    whole, pinned = searched(), searched(Rule("pin", "part0", 2))
    other, again = searched(Rule("forbid", "part0", 2)), searched(Rule("pin", "part0", 2))
    assert {trial.candidate["part0"] for trial in pinned.trials} == {2}
    assert again.trials == pinned.trials
    assert whole.space == TOY != other.space


def test_a_chip_that_prices_nothing_ends_the_search() -> None:
    def cost(_: Candidate) -> Cost:
        msg = "no such chip"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="no such chip"):
        search(TOY, ToyTask(), limits={"latency_s": 1.0}, options=Options(cost=cost))


class Board:
    """Measures a quarter more latency than is estimated.

    Args:
        dies_after: trainings before it raises KeyboardInterrupt.
    """

    metric, higher_is_better, graph = "score", True, ToyTask().graph

    def __init__(self, dies_after: int | None = None) -> None:
        self.toy = ToyTask(dies_after)

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        return {**self.toy.evaluate(candidate, seed, report), "latency_s": 1.25 * toy_cost(candidate).latency_s}


@pytest.mark.parametrize("strategy", ["random", "evolution", "nsga-ii"])
def test_a_measured_cost_beyond_the_limit_fails_the_trial_resumed_or_not(tmp_path: Path, strategy: str) -> None:
    def run(task: Board, storage: Path | None) -> Study:
        options = Options(cost=toy_cost, storage=storage)
        return search(TOY, task, limits={"latency_s": 0.02}, strategy=strategy, trials=16, options=options)

    whole = run(Board(), None)
    with pytest.raises(KeyboardInterrupt):
        run(Board(dies_after=9), tmp_path / "study.sqlite")
    resumed = run(Board(), tmp_path / "study.sqlite")
    rows = [[(t.candidate, t.state, t.note, dict(t.measures)) for t in study.trials] for study in (whole, resumed)]
    assert rows[0] == rows[1]
    assert whole.best.measures["latency_s"] <= 0.02
    failed = [trial for trial in whole.trials if trial.state == "failed"]
    assert all(trial.note.startswith("it ended beyond the limits: latency_s 0.0") for trial in failed)
    assert len(failed) > 3  # and three of them in a row end no search, but they count
    assert len(whole.trials) == 16


def test_a_chip_of_other_numbers_is_refused(tmp_path: Path) -> None:
    def run(chip: Chip, trials: int) -> Study:
        return search(TOY, ToyTask(), chip, trials=trials, options=Options(storage=tmp_path / "study.sqlite"))

    own = replace(load("trainium1"), name="own", fitted={})
    run(own, 2)
    dearer = replace(own, overhead_s=replace(own.overhead_s, value=50 * own.overhead_s.value))
    with pytest.raises(ArgumentError, match="was made with numbers of the chip '[0-9a-f]{16}', not '[0-9a-f]{16}'"):
        run(dearer, 3)
    sourced = replace(own, overhead_s=replace(own.overhead_s, source="another page"))
    assert len(run(sourced, 3).trials) == 3


def test_other_settings_are_refused_and_an_older_storage_goes_on(tmp_path: Path) -> None:
    def run(strategy: str | Strategy, warm_up: int = 5, name: str = "") -> Study:
        options = Options(storage=tmp_path / "study.sqlite", stopping=MedianStopping(warm_up), name=name)
        return search(TOY, ToyTask(), strategy=strategy, trials=2, options=options)

    older = {"strategy": "evolution", "seed": "0", "stopping": "MedianStopping"}
    OptunaLedger(tmp_path / "study.sqlite", "older", TOY, (("score", "maximise"),), older)
    for name in ("", "older"):
        run(RegularisedEvolution(4), name=name)
        run("evolution", name=name)  # whose settings follow from the number of trials
        told = "settings of the strategy 'population=4, tournament=5, changes=1', not 'population=9"
        with pytest.raises(ArgumentError, match=told):
            run(RegularisedEvolution(9), name=name)
        with pytest.raises(
            ArgumentError, match="settings of the stopping 'warm_up=5, share=0.5', not 'warm_up=6, share"
        ):
            run("evolution", warm_up=6, name=name)


@pytest.mark.parametrize(
    "mistake", [IndexError("i"), TypeError("t"), KeyError("k"), AssertionError("a"), OSError("o"), AttributeError("x")]
)
def test_a_mistake_that_few_candidates_meet_ends_no_search(mistake: Exception) -> None:
    class Fragile:
        metric, higher_is_better, graph = "score", True, ToyTask().graph

        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            if candidate["part0"] == 2:
                raise mistake
            return ToyTask().evaluate(candidate, seed, report)

    study = search(TOY, Fragile(), trials=10, strategy="random")
    assert {trial.note for trial in study.trials} == {"", f"{type(mistake).__name__}: {mistake}"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (0.5, "evaluate must give numbers by name, such as {'accuracy': 0.9}, got 0.5"),
        ({"score": None}, "evaluate must give numbers by name, and gave None as score"),
        ({"score": "x"}, "evaluate must give numbers by name, and gave 'x' as score"),
    ],
)
def test_what_is_no_measure_is_told_in_words(answer: object, told: str) -> None:
    class Odd:
        metric, higher_is_better, graph = "score", True, ToyTask().graph

        def evaluate(self, *_: object) -> Any:  # noqa: ANN401
            return answer

    with pytest.raises(
        ArgumentError, match=re.escape(f"the last 3 trials failed, the last with: ArgumentError: {told}")
    ):
        search(TOY, Odd(), trials=10)


def test_a_mistake_that_every_candidate_meets_is_the_cause_of_the_refusal() -> None:
    with pytest.raises(ArgumentError, match="last 3 trials failed") as refusal:
        search(TOY, Broken(), trials=10)
    assert isinstance(refusal.value.__cause__, RuntimeError)


def test_classes_and_things_of_other_kinds_are_refused() -> None:
    for given, told in (
        (
            {"strategy": RandomSearch},
            r"strategy must be an object, got the class RandomSearch; give RandomSearch\(...\)",
        ),
        ({"task": ToyTask}, "task must be an object, got the class ToyTask"),
        ({"options": {"cost": 1}}, "options must be an Options, got {'cost': 1}"),
        ({"strategy": 3}, "strategy must be a name or an object with name and propose, got 3"),
        ({"space": {}}, "space must be a SearchSpace, got {}"),
        ({"task": 1}, "task must be an object with metric, higher_is_better and evaluate, got 1"),
    ):
        with pytest.raises(ArgumentError, match=told):
            require_instances(**given)
    with pytest.raises(ArgumentError, match="got the class RandomSearch"):
        search(TOY, ToyTask(), strategy=RandomSearch, trials=1)  # type: ignore[arg-type]


def test_failures_end_a_search_only_while_nothing_succeeds() -> None:
    class Large:
        metric, higher_is_better, graph = "score", True, ToyTask().graph

        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            if candidate["part0"] != 1:
                return Broken().evaluate()
            return ToyTask().evaluate(candidate, seed, report)

    first = Options(enqueue=(TOY.smallest(),))
    study = search(TOY, Large(), strategy="random", trials=16, options=first)
    states = [trial.state for trial in study.trials]
    assert any(states[place : place + 3] == ["failed"] * 3 for place in range(len(states)))
    with pytest.raises(ArgumentError, match="the last 20 trials failed, the last with: RuntimeError: out of memory"):
        search(TOY, Large(), strategy=Doomed(), trials=40, options=first)


class Doomed:
    """Proposes what fails."""

    name = "doomed"

    def propose(self, view: View) -> Candidate:
        tried = {trial.candidate for trial in view.trials}
        return next(candidate for candidate in view.space if candidate["part0"] != 1 and candidate not in tried)


def test_an_objective_that_is_not_measured_is_told_after_one_training() -> None:
    task = ToyTask()
    with pytest.raises(ArgumentError, match="'scor' is nothing that the task measures: .* Did you mean 'score'"):
        search(TOY, task, trials=5, options=Options(objectives=(Objective("scor", "maximise"),)))
    assert len(task.trained) == 1
