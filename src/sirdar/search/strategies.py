# SPDX-License-Identifier: Apache-2.0
"""Strategies by name, for the command line and for those who do not want to choose settings."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sirdar.errors import ArgumentError, nearest
from sirdar.search.hybrid import Hybrid, Scoring, ZeroShot
from sirdar.search.multishot import RandomSearch, RegularisedEvolution, Reinforce, Strategy
from sirdar.search.samplers import OptunaSampler
from sirdar.search.space import SearchSpace
from sirdar.search.task import Task

if TYPE_CHECKING:
    from sirdar.search.singleshot import SingleShot

_POOL = 500  # untrained networks that are scored: more take too long where inputs are images
_BATCH = 8  # inputs of each, for the same reason

Maker = Callable[[SearchSpace, Task, int, int], Strategy]


def named(name: str, space: SearchSpace, task: Task, trials: int, seed: int) -> Strategy:
    """A strategy by name, its population fitted to the number of trials.

    Raises:
        ArgumentError: the name is unknown, or the task lacks what the strategy needs.
    """
    if name not in MAKERS:
        msg = f"strategy {name!r} is not known; known are {', '.join(MAKERS)}.{nearest(name, MAKERS)}"
        raise ArgumentError(msg)
    return MAKERS[name](space, task, trials, seed)


def _population(trials: int) -> int:
    return max(4, min(20, trials // 4))


def _scoring(task: Task, strategy: str, seed: int) -> Scoring:
    from sirdar.search.zeroshot import Scorable, scored  # it imports torch

    if not isinstance(task, Scorable):
        needed = "network(candidate) and example(candidate, batch, seed)"
        msg = f"strategy {strategy!r} needs a task with {needed}, {_kind(task)} lacks one"
        raise ArgumentError(msg)
    return lambda candidates: scored(task, candidates, seed, _BATCH)


def _single_shot(task: Task, strategy: str) -> "SingleShot":
    from sirdar.search.sharing import Shared  # it imports torch
    from sirdar.search.singleshot import SingleShot

    if not isinstance(task, Shared):
        needed = "network(candidate), batches(seed), loss(outputs, targets) and score(network)"
        msg = f"strategy {strategy!r} needs a task with {needed}, {_kind(task)} lacks one"
        raise ArgumentError(msg)
    return SingleShot(task)


def _hybrid(task: Task, trials: int, seed: int) -> Hybrid:
    from sirdar.search.sharing import Shared  # it imports torch

    ranking = _single_shot(task, "hybrid").scores if isinstance(task, Shared) else None
    # Of so many the process still has a choice when the last trials come.
    keep, start = max(20, 3 * trials), max(1, trials * 2 // 3)
    return Hybrid(_scoring(task, "hybrid", seed), ranking, pool=_POOL, keep=keep, start=start)


def _kind(task: Task) -> str:
    return type(task).__name__


MAKERS: Mapping[str, Maker] = {
    "random": lambda _space, _task, _trials, _seed: RandomSearch(),
    "evolution": lambda _space, _task, trials, _seed: RegularisedEvolution(_population(trials)),
    "nsga-ii": lambda _space, _task, trials, _seed: OptunaSampler("nsga-ii", _population(trials)),
    "tpe": lambda _space, _task, trials, _seed: OptunaSampler("tpe", _population(trials)),
    "zero-shot": lambda _space, task, _trials, seed: ZeroShot(_scoring(task, "zero-shot", seed), _POOL),
    "single-shot": lambda _space, task, _trials, _seed: _single_shot(task, "single-shot"),
    "hybrid": lambda _space, task, trials, seed: _hybrid(task, trials, seed),
    "reinforce": lambda _space, _task, _trials, _seed: Reinforce(),
}
