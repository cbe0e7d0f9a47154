# SPDX-License-Identifier: Apache-2.0
"""Optuna's samplers as strategies: NSGA-II for several objectives, and TPE.

The sampler lives in an in-memory study that is told every trial in the order in which it ended. A search that goes on
from its storage replays them, and so asks what it would have asked.
"""

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.search.engine import quiet, require_optuna
from sirdar.search.multishot import View
from sirdar.search.objectives import Objectives
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.task import Trial

_WISHES = 20  # of the sampler, before a neighbour of a feasible candidate is taken


@final
class OptunaSampler:
    """One of Optuna's samplers: NSGA-II (Deb et al. 2002) for several objectives, or TPE (Bergstra et al. 2011).

    Args:
        kind: "nsga-ii" or "tpe".
        population: of NSGA-II.
    """

    def __init__(self, kind: str = "nsga-ii", population: int = 16) -> None:
        if kind not in ("nsga-ii", "tpe"):
            msg = f"Optuna's sampler must be nsga-ii or tpe, got {kind!r}"
            raise ArgumentError(msg)
        self.name, self.population = kind, require_positive_integer(population, "population")
        self._replay: _Replay | None = None

    def propose(self, view: View) -> Candidate:
        """What the sampler asks for, or a feasible relative of it."""
        replay = self._replay
        if replay is None or not replay.matches(view):
            replay = self._replay = _Replay(self.name, self.population, view.space, view.objectives, view.seed)
        for trial in view.trials[len(replay.told) :]:
            replay.tell(trial, view)
        return replay.ask(view)


@dataclass
class _Replay:
    """An in-memory Optuna study that has been told a prefix of the trials, in the way it would have asked for them."""

    kind: str
    population: int
    space: SearchSpace
    objectives: Objectives
    seed: int
    told: list[Trial] = field(default_factory=list)
    study: Any = None
    asked: tuple[Any, Candidate] | None = None

    def matches(self, view: View) -> bool:
        same = (self.space, self.objectives, self.seed) == (view.space, view.objectives, view.seed)
        known = [trial.candidate for trial in self.told]
        return same and known == [trial.candidate for trial in view.trials[: len(known)]]

    def ask(self, view: View) -> Candidate:
        """The sampler's next wish that is feasible and new."""
        if self.asked is None:
            study = self._opened()
            rng = np.random.default_rng((self.seed, len(self.told)))
            made: list[Any] = []

            def wish() -> Candidate:
                if made:
                    study.tell(made.pop(), state=_states().FAIL)
                study.sampler = self._sampler(int(rng.integers(2**31)))
                trial = study.ask()
                made.append(trial)
                values = {c.name: trial.suggest_categorical(c.name, list(c.options)) for c in self.space.choices}
                return self.space.candidate(values)

            candidate = View(
                self.space, self.objectives, tuple(self.told), view.feasible, self.seed, view.fallback
            ).first(wish, rng, _WISHES)
            self.asked = (made.pop() if made else study.ask(), candidate)
        return self.asked[1]

    def tell(self, trial: Trial, view: View) -> None:
        """What came of a candidate, whoever proposed it."""
        import optuna

        self.ask(view)
        assert self.asked is not None  # by the line above
        asked, candidate = self.asked
        losses = list(self.objectives.losses(trial.measures)) if trial.usable else None
        if losses is not None and candidate == trial.candidate and self._is(asked, candidate):
            self.study.tell(asked, losses)
        else:
            self.study.tell(asked, state=_states().FAIL)
            if losses is not None:
                options: dict[str, Any] = {
                    c.name: optuna.distributions.CategoricalDistribution(c.options) for c in self.space.choices
                }
                values = {c.name: trial.candidate.get(c.name, c.options[0]) for c in self.space.choices}
                self.study.add_trial(optuna.create_trial(params=values, distributions=options, values=losses))
        self.told.append(trial)
        self.asked = None

    def _is(self, asked: Any, candidate: Candidate) -> bool:  # noqa: ANN401 - Optuna's trial
        complete = len(asked.params) == len(self.space.choices)
        return complete and self.space.candidate(asked.params) == candidate

    def _opened(self) -> Any:  # noqa: ANN401 - Optuna's study
        if self.study is None:
            optuna = require_optuna()
            with quiet(optuna):
                self.study = optuna.create_study(directions=["minimize"] * len(self.objectives.wanted))
        return self.study

    def _sampler(self, seed: int) -> Any:  # noqa: ANN401 - Optuna's sampler
        import optuna

        if self.kind == "tpe":
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.population)
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=self.population)


def _states() -> Any:  # noqa: ANN401 - Optuna's enumeration
    import optuna

    return optuna.trial.TrialState
