# SPDX-License-Identifier: Apache-2.0
"""Conformance of a search strategy and of a task, to run on your own; and a task whose best candidate is known.

Derive a class whose name starts with "Test", say what to test, and let pytest find it:

    class TestMyStrategy(StrategyChecks):
        def strategy(self) -> Strategy:
            return MyStrategy(...)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np

from sirdar.search.multishot import Strategy, View
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.study import Options, Study, search
from sirdar.search.task import Report, Task, Trial
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator, TensorSpec

TOY = SearchSpace("toy", tuple(Choice(f"part{place}", (1, 2, 3, 4)) for place in range(4)))
TOY_LIMIT_S = 0.016
_WORDS = SearchSpace("toy with words", (*TOY.choices, Choice("kind", ("plain", "fused"))))
_LOOSE_S = 1.0  # a limit that every candidate keeps to


def toy_cost(candidate: Candidate) -> Cost:
    """Each part takes its square in milliseconds."""
    return Cost(latency_s=sum(_numbers(candidate, 2)) * 1e-3, parameter_bytes=1.0)


@final
class ToyTask:
    """The score is the sum of the parts; nothing is trained.

    Args:
        dies_after: trainings before it raises KeyboardInterrupt, as if the process were killed; never when None.
        higher_is_better: of the score; False to look for the smallest sum.
    """

    metric = "score"

    def __init__(self, dies_after: int | None = None, *, higher_is_better: bool = True) -> None:
        self.dies_after, self.higher_is_better = dies_after, higher_is_better
        self.trained: list[Candidate] = []

    def graph(self, candidate: Candidate) -> Graph:
        """One matrix multiplication as wide as the sum."""
        width = int(sum(_numbers(candidate)))
        x, y, w = TensorSpec((8, 64), name="x"), TensorSpec((8, width), name="y"), TensorSpec((64, width), name="w")
        return Graph((Operator("product", "matmul", (x,), (y,), (w,), macs=8 * 64 * width),), (x,), ("y",))

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        """The sum, reached in three steps, whatever the seed."""
        del seed
        if len(self.trained) == self.dies_after:
            raise KeyboardInterrupt
        self.trained.append(candidate)
        score = sum(_numbers(candidate))
        for step in (1, 2, 4):
            report(step, score * step / 4)
        return {"score": score}


class StrategyChecks(ABC):
    """What must hold for any strategy."""

    seeded = True  # set to False for a strategy that draws nothing at random

    @abstractmethod
    def strategy(self) -> Strategy:
        """A fresh one."""

    def trials(self) -> int:
        """How many trainings it gets on the toy task, in which some thirty candidates keep to the limit."""
        return 24

    def study(self, seed: int = 0, trials: int | None = None) -> Study:
        """A search of the toy task under its limit."""
        return self._searched(TOY, ToyTask(), TOY_LIMIT_S, seed, trials or self.trials())

    def _searched(self, space: SearchSpace, task: ToyTask, limit_s: float, seed: int, trials: int) -> Study:
        limits, options = {"latency_s": limit_s}, Options(cost=toy_cost)
        return search(space, task, limits=limits, strategy=self.strategy(), trials=trials, seed=seed, options=options)

    def test_it_has_a_name_and_proposes(self) -> None:
        """The protocol."""
        assert isinstance(self.strategy(), Strategy)
        assert self.strategy().name

    def test_it_keeps_to_the_limit_and_repeats_nothing(self) -> None:
        """No training is wasted."""
        seen = [trial.candidate for trial in self.study().trials]
        assert all(toy_cost(candidate).latency_s <= TOY_LIMIT_S for candidate in seen)
        assert len(set(seen)) == len(seen)

    def test_it_comes_near_the_best(self) -> None:
        """At least as good as 95 % of the candidates within the limit."""
        within = [c for c in TOY if toy_cost(c).latency_s <= TOY_LIMIT_S]
        found = self.study().best.measures["score"]
        better = sum(sum(_numbers(c)) > found for c in within)
        assert better <= 0.05 * len(within)

    def test_the_same_seed_gives_the_same_study(self) -> None:
        """Whoever else drew random numbers meanwhile."""
        first, second = self.study(seed=3, trials=12), self.study(seed=3, trials=12)
        assert [t.candidate for t in first.trials] == [t.candidate for t in second.trials]

    def test_another_seed_gives_another_study(self) -> None:
        """Otherwise a search cannot be repeated to see what was chance."""
        first, second = (self.study(seed=seed, trials=12) for seed in (0, 1))
        same = [t.candidate for t in first.trials] == [t.candidate for t in second.trials]
        assert not (self.seeded and same), "seeds 0 and 1 give the same study: draw from view.rng()"

    def test_it_goes_down_where_less_is_better(self) -> None:
        """What it tries last is no worse than candidates at random, but for chance."""
        studies = [self._searched(TOY, ToyTask(higher_is_better=False), _LOOSE_S, seed, 24) for seed in (0, 1)]
        last = np.mean([trial.measures["score"] for study in studies for trial in study.trials[12:]])
        middle = np.mean([sum(_numbers(candidate)) for candidate in TOY])
        told = f"the last candidates score {last:.3g}, those at random {middle:.3g}: ask view.objectives what is better"
        assert last <= middle + 1, f"of a score to minimise {told}"

    def test_it_takes_choices_of_text(self) -> None:
        """Options need not be numbers."""
        study = self._searched(_WORDS, ToyTask(), _LOOSE_S, 0, 20)
        assert all(trial.candidate in _WORDS for trial in study.trials)
        kinds = {trial.candidate["kind"] for trial in study.trials}
        assert len(kinds) == 2, f"of a choice between two words it tried {kinds} alone"

    def test_a_failed_trial_counts_for_nothing(self) -> None:
        """What it measured before it failed says nothing of what it is worth; it is not tried again all the same."""
        trials = self.study(seed=6, trials=12).trials
        proposed: set[Candidate] = set()
        for score in (0.0, 99.0):
            failed = [_failed(trial, score) if trial.number % 3 == 0 else trial for trial in trials]
            proposed.add(self.strategy().propose(self._view(failed, seed=6)))
        told = "a failed trial's score changes what is proposed: learn from view.judged(), not from view.trials"
        assert len(proposed) == 1, told
        proposed.add(self.strategy().propose(self._view([_failed(trial, 0.0) for trial in trials], seed=6)))
        for candidate in proposed:
            assert toy_cost(candidate).latency_s <= TOY_LIMIT_S, f"after failures {candidate} breaks the limit"
            assert candidate not in [trial.candidate for trial in trials], f"after failures {candidate} is tried anew"

    def test_it_works_anything_out_again_from_the_trials(self) -> None:
        """A fresh strategy goes on as one that has been there from the start."""
        study = self.study(seed=5, trials=12)
        for cut in (0, 5, 11):
            again = self.strategy().propose(self._view(study.trials[:cut], seed=5))
            assert again == study.trials[cut].candidate, f"a fresh strategy does not go on as before after {cut} trials"

    def _view(self, trials: Sequence[Trial], seed: int) -> View:
        def feasible(candidate: Candidate) -> bool:
            return toy_cost(candidate).latency_s <= TOY_LIMIT_S

        objectives = Objectives((Objective("score", "maximise"),), (("latency_s", TOY_LIMIT_S),))
        return View(TOY, objectives, trials, feasible, seed, TOY.smallest())


def _failed(trial: Trial, score: float) -> Trial:
    return replace(trial, state="failed", measures={**trial.measures, "score": score}, note="for the check")


def check_task(task: object, space: SearchSpace, seed: int = 0) -> None:
    """Runs a task through what a search relies on, training two candidates.

    Args:
        task: the one to check.
        space: of its candidates.
        seed: of what is tried.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
    """
    assert isinstance(task, Task), f"{task!r} lacks metric, higher_is_better, graph or evaluate"
    for candidate in (space.smallest(), space.sample(np.random.default_rng(seed))):
        graph = task.graph(candidate)
        assert isinstance(graph, Graph), "graph must give a workload Graph"
        assert graph == task.graph(candidate), "the same candidate must have the same graph twice"
        curve: list[tuple[int, float]] = []
        measures = task.evaluate(candidate, seed, lambda step, value, into=curve: into.append((step, value)))
        assert task.metric in measures, f"evaluate must measure {task.metric!r}, it gave {sorted(measures)}"
        assert math.isfinite(measures[task.metric]), f"{task.metric} must be finite, got {measures[task.metric]}"
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps)), f"reported steps must rise, got {steps}"


def _numbers(candidate: Candidate, power: int = 1) -> list[float]:
    return [float(value) ** power for _, value in candidate.values if not isinstance(value, str)]
