# SPDX-License-Identifier: Apache-2.0
"""Conformance of a search strategy and of a task, to run on your own; and a task whose best candidate is known.

Derive a class whose name starts with "Test", say what to test, and let pytest find it:

    class TestMyStrategy(StrategyChecks):
        def strategy(self) -> Strategy:
            return MyStrategy(...)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import numpy as np

from sirdar.search.multishot import Strategy, View
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.study import Options, Study, search
from sirdar.search.task import Report, Task
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator, TensorSpec

TOY = SearchSpace("toy", tuple(Choice(f"part{place}", (1, 2, 3, 4)) for place in range(4)))
TOY_LIMIT_S = 0.016


def toy_cost(candidate: Candidate) -> Cost:
    """Each part takes its square in milliseconds."""
    return Cost(latency_s=sum(_numbers(candidate, 2)) * 1e-3, parameter_bytes=1.0)


@final
class ToyTask:
    """The score is the sum of the parts; nothing is trained.

    Args:
        dies_after: trainings before it raises KeyboardInterrupt, as if the process were killed; never when None.
    """

    metric = "score"
    higher_is_better = True

    def __init__(self, dies_after: int | None = None) -> None:
        self.dies_after = dies_after
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

    @abstractmethod
    def strategy(self) -> Strategy:
        """A fresh one."""

    def trials(self) -> int:
        """How many trainings it gets on the toy task, in which some thirty candidates keep to the limit."""
        return 24

    def study(self, seed: int = 0, trials: int | None = None) -> Study:
        """A search of the toy task under its limit."""
        options, count = Options(cost=toy_cost), trials or self.trials()
        limits = {"latency_s": TOY_LIMIT_S}
        return search(TOY, ToyTask(), limits=limits, strategy=self.strategy(), trials=count, seed=seed, options=options)

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

    def test_it_works_anything_out_again_from_the_trials(self) -> None:
        """A fresh strategy goes on as one that has been there from the start."""
        study = self.study(seed=5, trials=12)
        for cut in (0, 5, 11):
            view = self._view(study, cut, seed=5)
            assert self.strategy().propose(view) == study.trials[cut].candidate

    def _view(self, study: Study, cut: int, seed: int) -> View:
        def feasible(candidate: Candidate) -> bool:
            return toy_cost(candidate).latency_s <= TOY_LIMIT_S

        objectives = Objectives((Objective("score", "maximise"),), (("latency_s", TOY_LIMIT_S),))
        return View(TOY, objectives, study.trials[:cut], feasible, seed, TOY.smallest())


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
