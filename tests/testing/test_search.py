# SPDX-License-Identifier: Apache-2.0
"""The suite for strategies must refuse members that are wrong in one way each."""

from dataclasses import replace

import pytest

from sirdar.search.multishot import Strategy, View
from sirdar.search.space import Candidate
from sirdar.search.task import Trial
from sirdar.testing.search import StrategyChecks


class Climber:
    """Changes the best so far: a right member, which the wrong ones below spoil in one place."""

    name = "climber"

    def known(self, view: View) -> list[Trial]:
        return view.judged()

    def worth(self, view: View, trial: Trial) -> float:
        return view.objectives.reward(trial.measures)

    def propose(self, view: View) -> Candidate:
        rng, known = view.rng(), self.known(view)
        if len(known) < 6:
            return view.first(lambda: view.space.sample(rng), rng)
        best = max(known, key=lambda trial: self.worth(view, trial)).candidate
        return view.first(lambda: view.space.mutate(best, rng, 1 + int(rng.integers(2))), rng)


class Upward(Climber):
    def worth(self, view: View, trial: Trial) -> float:  # noqa: ARG002 - what is wrong with it
        return trial.measures["score"]


class OneSeed(Climber):
    def propose(self, view: View) -> Candidate:
        return super().propose(replace(view, seed=0))


class Credulous(Climber):
    def known(self, view: View) -> list[Trial]:
        return list(view.trials)


class Counting(Climber):
    def propose(self, view: View) -> Candidate:
        tried = {trial.candidate for trial in view.trials}
        left = [candidate for candidate in view.space if candidate not in tried and view.feasible(candidate)]
        return min(left, key=lambda candidate: sum(1 / value for _, value in candidate.values))


def checks_of(kind: type[Climber]) -> StrategyChecks:
    class Checks(StrategyChecks):
        def strategy(self) -> Strategy:
            return kind()

    return Checks()


class TestClimber(StrategyChecks):
    def strategy(self) -> Strategy:
        return Climber()


@pytest.mark.parametrize(
    ("kind", "check", "sentence"),
    [
        (Upward, "it_goes_down_where_less_is_better", "of a score to minimise the last candidates score 1"),
        (OneSeed, "another_seed_gives_another_study", "draw from view.rng"),
        (Credulous, "a_failed_trial_counts_for_nothing", "learn from view.judged"),
    ],
)
def test_a_wrong_member_is_refused(kind: type[Climber], check: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        getattr(checks_of(kind), f"test_{check}")()


def test_a_strategy_that_counts_words_is_refused() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        checks_of(Counting).test_it_takes_choices_of_text()
