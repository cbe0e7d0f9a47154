# SPDX-License-Identifier: Apache-2.0
"""Strategies that train every candidate they propose: random, evolution and a controller.

A strategy is a function of what has been tried so far and of a seed: it keeps nothing that it could not work out again.
So a search that was killed goes on from its storage exactly as if nothing had happened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.search.objectives import Objectives
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.task import Trial

_TRIES = 200
_SMALL = 1000  # candidates of a space of which all are looked at before a search ends early


@dataclass(frozen=True)
class View:
    """What a strategy sees when it proposes.

    Args:
        space: to propose from.
        objectives: what is wanted.
        trials: all that ended so far, in order.
        feasible: whether a candidate keeps to the limits; prices it, and never trains it.
        seed: of the search.
        fallback: a candidate that keeps to the limits.
        tell: takes a word about long work before a proposal.
    """

    space: SearchSpace
    objectives: Objectives
    trials: Sequence[Trial]
    feasible: Callable[[Candidate], bool]
    seed: int
    fallback: Candidate
    tell: Callable[[str], object] = str  # which does nothing with it

    def rng(self) -> np.random.Generator:
        """Randomness that depends on the seed and on how many trials ended, on nothing else."""
        return np.random.default_rng((self.seed, len(self.trials)))

    @property
    def search(self) -> tuple[SearchSpace, Objectives, Callable[[Candidate], bool], int]:
        """All that its trials do not change: equal for two views of one search, and not of two."""
        return self.space, self.objectives, self.feasible, self.seed

    def judged(self) -> list[Trial]:
        """Trials that came to an end with a score."""
        return [trial for trial in self.trials if trial.usable]

    def first(self, draw: Callable[[], Candidate], rng: np.random.Generator, tries: int = _TRIES) -> Candidate:
        """The first feasible draw that was not tried yet; after so many tries, one near the last feasible draw.

        Where no draw was feasible it is one near the fallback, in a small space any that is left, and where everything
        was tried the fallback again.
        """
        tried = {trial.candidate for trial in self.trials}
        present = self.fallback
        for _ in range(tries):
            candidate = draw()
            if self.feasible(candidate):
                if candidate not in tried:
                    return candidate
                present = candidate
        for _ in range(_TRIES):
            if present not in tried:
                return present
            moved = self.space.mutate(present, rng)
            present = moved if self.feasible(moved) else present
        rest = self.space if self.space.size <= _SMALL else ()
        return next((c for c in rest if c not in tried and self.feasible(c)), self.fallback)


@runtime_checkable
class Strategy(Protocol):
    """Proposes what to train next.

    Args:
        name: told as the origin of its trials.
    """

    name: str

    def propose(self, view: View) -> Candidate:
        """A candidate that keeps to the limits; the same for the same view."""
        ...


@final
class RandomSearch:
    """Any candidate as likely as another: the slow, obvious reference."""

    name = "random"

    def propose(self, view: View) -> Candidate:
        """A feasible candidate at random."""
        rng = view.rng()
        return view.first(lambda: view.space.sample(rng), rng)


@final
class RegularisedEvolution:
    """Ageing evolution: the best of a sample of the youngest is changed (Real et al. 2019, algorithm 1).

    Args:
        population: how many of the youngest live.
        tournament: how many of them compete to be the parent.
        changes: choices decided otherwise in a child.
    """

    name = "evolution"

    def __init__(self, population: int = 16, tournament: int = 5, changes: int = 1) -> None:
        self.population = require_positive_integer(population, "population")
        self.tournament = require_positive_integer(tournament, "tournament")
        self.changes = require_positive_integer(changes, "changes")

    def propose(self, view: View) -> Candidate:
        """A child of a tournament's winner; random until there is a population."""
        rng, judged = view.rng(), view.judged()
        if len(judged) < self.population:
            return view.first(lambda: view.space.sample(rng), rng)

        def child() -> Candidate:
            alive = judged[-self.population :]
            rivals = rng.choice(len(alive), min(self.tournament, len(alive)), replace=False)
            parent = max((alive[row] for row in rivals), key=lambda trial: view.objectives.reward(trial.measures))
            return view.space.mutate(parent.candidate, rng, self.changes)

        return view.first(child, rng)


@final
class Reinforce:
    """A controller with one distribution per choice, moved by the policy gradient (Williams 1992; Zoph and Le 2017).

    Args:
        rate: of learning, on rewards in units of their spread.
        decay: of the moving baseline.
    """

    name = "reinforce"

    def __init__(self, rate: float = 0.3, decay: float = 0.9) -> None:
        for value, name in ((rate, "rate"), (decay, "decay")):
            if not 0 < value < 1:
                msg = f"{name} of REINFORCE must lie between 0 and 1, got {value!r}"
                raise ArgumentError(msg)
        self.rate, self.decay = rate, decay

    def propose(self, view: View) -> Candidate:
        """A candidate drawn from the controller's distributions."""
        rng, logits = view.rng(), self.logits(view)

        def draw() -> Candidate:
            values = {
                choice.name: choice.options[int(rng.choice(len(choice.options), p=_softmax(logits[choice.name])))]
                for choice in view.space.choices
            }
            return view.space.candidate(values)

        return view.first(draw, rng)

    def logits(self, view: View) -> dict[str, np.ndarray]:
        """The distributions after all that was tried, by name of the choice."""
        logits = {choice.name: np.zeros(len(choice.options)) for choice in view.space.choices}
        judged = view.judged()
        rewards = np.array([view.objectives.reward(trial.measures) for trial in judged])
        baseline, spread = (rewards[0] if len(rewards) else 0.0), 0.0
        for trial, reward in zip(judged, rewards, strict=True):
            gap = float(reward - baseline)
            spread = max(self.decay * spread + (1 - self.decay) * abs(gap), 1e-12)
            baseline += (1 - self.decay) * gap
            for name, option in trial.candidate.values:
                gradient = -_softmax(logits[name])
                gradient[view.space[name].options.index(option)] += 1
                logits[name] += self.rate * float(np.clip(gap / spread, -3, 3)) * gradient
        return logits


def _softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max())
    return grown / grown.sum()
