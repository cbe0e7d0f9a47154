# SPDX-License-Identifier: Apache-2.0
"""Every strategy runs the conformance suite; what is special to one is checked on cases worked out by hand."""

import pytest

from sirdar.errors import ArgumentError
from sirdar.search.multishot import RandomSearch, RegularisedEvolution, Reinforce, Strategy, View
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.samplers import OptunaSampler
from sirdar.search.task import Trial
from sirdar.testing.search import TOY, StrategyChecks

WANTED = Objectives((Objective("score", "maximise"),))


class TestRandomSearch(StrategyChecks):
    def strategy(self) -> Strategy:
        return RandomSearch()


class TestRegularisedEvolution(StrategyChecks):
    def strategy(self) -> Strategy:
        return RegularisedEvolution(8, 3)


class TestReinforce(StrategyChecks):
    def strategy(self) -> Strategy:
        return Reinforce()


class TestNsga(StrategyChecks):
    def strategy(self) -> Strategy:
        return OptunaSampler("nsga-ii", 8)


class TestTpe(StrategyChecks):
    def strategy(self) -> Strategy:
        return OptunaSampler("tpe", 5)

    def trials(self) -> int:
        return 20


def view(trials: list[Trial]) -> View:
    return View(TOY, WANTED, trials, lambda _: True, 0, TOY.smallest())


def test_evolution_changes_one_choice_of_a_living_parent() -> None:
    old = [Trial(n, TOY.largest(), {"score": 16.0}) for n in range(3)]
    young = [Trial(3 + n, c, {"score": 4.0}) for n, c in enumerate([TOY.smallest()] * 4)]
    child = RegularisedEvolution(population=4, tournament=2).propose(view(old + young))
    assert child in set(TOY.neighbours(TOY.smallest()))  # the best have died of age


def test_the_controller_learns_what_pays() -> None:
    trials = [Trial(n, c, {"score": float(c["part0"] == 4)}) for n, c in enumerate(list(TOY)[::3])]
    logits = Reinforce().logits(view(trials))
    assert logits["part0"].argmax() == 3


def test_when_all_is_tried_it_is_tried_again() -> None:
    small = TOY.restrict({f"part{place}": (1, 2) for place in range(1, 4)}).pin("part0", 1)
    trials = [Trial(n, c, {"score": 1.0}) for n, c in enumerate(small)]
    full = View(small, WANTED, trials, lambda _: True, 0, small.smallest())
    assert RandomSearch().propose(full) in small


def test_the_last_candidate_of_a_small_space_is_found() -> None:
    left, trials = TOY.largest(), [Trial(0, TOY.smallest(), {"score": 4.0})]  # no change of one choice joins them
    for seed in range(8):
        seen = View(TOY, WANTED, trials, lambda c: c in (TOY.smallest(), left), seed, TOY.smallest())
        assert RandomSearch().propose(seen) == left


def test_what_is_drawn_again_and_again_gives_way_to_its_like() -> None:
    largest = TOY.largest()
    seen = view([Trial(0, largest, {"score": 16.0}), Trial(1, TOY.smallest(), {"score": 4.0})])
    assert seen.first(lambda: largest, seen.rng()) in set(TOY.neighbours(largest))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ArgumentError, match="population must be a positive integer, got 0"):
        RegularisedEvolution(0)
    with pytest.raises(ArgumentError, match="decay of REINFORCE must lie between 0 and 1, got 1.5"):
        Reinforce(decay=1.5)
    with pytest.raises(ArgumentError, match="nsga-ii or tpe, got 'cma'"):
        OptunaSampler("cma")
