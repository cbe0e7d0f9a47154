# SPDX-License-Identifier: Apache-2.0
"""A search from its first candidate to its bill: proposes, prices, trains and writes down.

Every proposal follows from the seed and from the trials that ended, so a search that is killed at any moment and
started again with the same arguments and storage ends as if it had not been.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sirdar.chips import Chip, Estimator, load
from sirdar.deploy.estimating import estimator_of
from sirdar.errors import ArgumentError, DataError, nearest, require_positive_integer, require_seed
from sirdar.search.expert import Rule, bind
from sirdar.search.ledger import Ledger, MemoryLedger, OptunaLedger, alone, trial_from_dict, trial_to_dict, used
from sirdar.search.limits import feasible_candidate
from sirdar.search.multishot import Strategy, View
from sirdar.search.objectives import Objective, Objectives, objectives_of
from sirdar.search.pricing import ERRORS, UNPRICED, Priced, estimated
from sirdar.search.settings import digest_of, settings_of
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.spent import Spent, bill, cpu_seconds
from sirdar.search.stopping import Stopping
from sirdar.search.task import Pricing, State, Stopped, Task, Trial
from sirdar.units import Cost

if TYPE_CHECKING:
    from sirdar.search.curate import Curated

_WISH = "enqueued"
_BEYOND = "it does not keep to the limits"
_MEASURED = "it ended beyond the limits"
_UNTOLD = "the task measured no finite"
_PARTS = (("space", dict, "an object"), ("objectives", dict, "an object"), ("trials", list, "a list"))
_TASK = ("metric", "higher_is_better", "evaluate")  # its graph is not asked for where options.cost prices
_KINDS = {
    "space": "a SearchSpace",
    "task": "an object with metric, higher_is_better and evaluate",
    "strategy": "a name or an object with name and propose",
    "options": "an Options",
}
_UNPRICED = 20  # candidates in a row that cannot be priced, after which the chip is to blame
_FAILURES = 3  # in a row, after which the task and not the candidate is to blame, where none was sound before
_MANY_FAILURES = 20  # likewise where one was


@dataclass(frozen=True)
class Options:
    """What a search rarely needs to be told.

    Args:
        estimator: prices the task's graphs; that of `sirdar.estimate` when None.
        dtype: number format to run in on the chip; where None, bf16 or what takes its place, or else the chip's own.
        cost: prices candidates in place of chip and estimator. A storage cannot tell when it changes: name what it
            depends on in `conditions`, or trials priced in two ways mix.
        objectives: in place of the task's metric (and, without limits, latency).
        storage: an SQLite file or a database URL; nothing is kept when None. A study in a file or in PostgreSQL has
            one search at a time; in other servers' databases one that sees another write ends.
        name: of the study in the storage; the space's when empty.
        stopping: ends hopeless trainings; where a cost is an objective too, those that cost no more are the rivals.
        region: whose grid feeds the search, for its carbon.
        gpu: the accelerator that trains, for its energy.
        enqueue: candidates to try first; those beyond the limits are not trained, and count for nothing.
        conditions: by name what trials depend on that a search does not see, such as the data; a storage whose trials
            were made under others, or with another seed, strategy, chip (by its numbers), objectives or limits, or with
            other settings of stopping, estimator or a strategy given as an object, is refused.
        rules: a person's; those that pin or forbid bind the search, see `sirdar.search.expert.bind`.
        curate: leave out the widths that cost hardly less than a wider one; see `sirdar.search.curate.curate_priced`.
        progress: called with the share of trials done and a word about the best, or about what was priced before.
    """

    estimator: Estimator | None = None
    dtype: str | None = None
    cost: Pricing | None = None
    objectives: tuple[Objective, ...] = ()
    storage: str | Path | None = None
    name: str = ""
    stopping: Stopping | None = None
    region: str | None = None
    gpu: str | None = None
    enqueue: tuple[Candidate, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    curate: bool = False
    progress: Callable[[float, str], None] | None = None


@dataclass(frozen=True)
class Study:
    """What a search found.

    Args:
        space: that was searched.
        objectives: that were wanted.
        trials: in the order in which they ended.
        spent: on searching.
        priced: candidates whose cost was asked for in the last run.
        strategy: its name.
        chip: its name; empty for none.
        curated: the space before and after curation; None where it was searched whole.
    """

    space: SearchSpace
    objectives: Objectives
    trials: tuple[Trial, ...]
    spent: Spent
    priced: int = 0
    strategy: str = ""
    chip: str = ""
    curated: "Curated | None" = None

    @property
    def best(self) -> Trial:
        """The judged trial with the largest reward.

        Raises:
            ArgumentError: no trial was judged.
        """
        found = self.objectives.best(self.trials)
        if found is None:
            last = next((f"; the last: {trial.note}" for trial in reversed(self.trials) if trial.note), "")
            msg = f"none of the {len(self.trials)} trials was judged to the end{last}"
            raise ArgumentError(msg)
        return found

    def pareto(self) -> tuple[Trial, ...]:
        """The judged trials that no other dominates."""
        return self.objectives.pareto(self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists that JSON can hold."""
        return {
            "space": self.space.to_dict(),
            "size": self.space.size,
            "strategy": self.strategy,
            "chip": self.chip,
            "objectives": asdict(self.objectives),
            "best": self.best.number,
            "pareto": [trial.number for trial in self.pareto()],
            "trials": [trial_to_dict(trial) for trial in self.trials],
            "priced": self.priced,
            "spent": asdict(self.spent),
            **({} if self.curated is None else {"curated": self.curated.to_dict()}),
        }


@dataclass
class _Search:
    """The moving parts of one search."""

    space: SearchSpace
    task: Task
    objectives: Objectives
    priced: Priced
    strategy: Strategy
    ledger: Ledger
    seed: int
    options: Options
    clock: float
    trials: list[Trial] = field(default_factory=list)
    gpu_s: float = 0.0
    error: Exception | None = None
    count: int = 1

    def spend(self) -> dict[str, float]:
        """Writes down what was used up since the last time, and gives what the study used up in all its runs."""
        now, gpu_s = cpu_seconds(), self.gpu_s
        total = self.ledger.spend({"cpu_s": now - self.clock, "gpu_s": gpu_s})
        self.clock, self.gpu_s = now, 0.0
        return total

    def run(self, count: int, fallback: Candidate) -> None:
        self.trials = [self._within(trial) for trial in self.ledger.ended()]  # limits may have been looser once
        known = {*(trial.candidate for trial in self.trials), *self.ledger.waiting()}
        wishes = dict.fromkeys(map(self.space.candidate, self.options.enqueue))  # another space's is refused at once
        for candidate in wishes:
            if candidate not in known:
                self.ledger.enqueue(candidate)
        self.count = count
        self._tell()
        while len(self.counted()) < count and self.step(fallback):
            self._tell()

    def counted(self) -> list[Trial]:
        """The trials but for those that were not worth a training."""
        return [trial for trial in self.trials if trial.note != _BEYOND and not trial.note.startswith(UNPRICED)]

    def _within(self, trial: Trial) -> Trial:
        """The trial, failed where it came to its end beyond the limits: a measured cost is better known than before."""
        if not trial.usable or self.objectives.feasible(trial.measures):
            return trial
        costs = [(name, trial.measures.get(name, math.nan), limit) for name, limit in self.objectives.limits]
        told = " and ".join(f"{name} {value:.4g} > {limit:.4g}" for name, value, limit in costs if not value <= limit)
        return replace(trial, state="failed", note=f"{_MEASURED}: {told}")

    def step(self, fallback: Candidate) -> bool:
        """One trial; False where the strategy finds nothing that was not tried."""
        candidate, origin = self._next(fallback)
        if origin != _WISH and any(trial.candidate == candidate for trial in self.trials):
            return False
        self.ledger.begin(candidate)
        trial = self._within(self._tried(candidate, origin))
        self.ledger.end(trial)
        self.spend()  # after each trial: a killed run is on the bill too
        self.trials.append(trial)
        lost = self.trials[-_UNPRICED:]
        if len(lost) == _UNPRICED and all(trial.note.startswith(UNPRICED) for trial in lost):
            msg = f"the last {_UNPRICED} candidates could not be priced, the last for this reason: {trial.note}"
            raise ArgumentError(msg)
        self._require_measured(trial)
        broken = [_broken(trial) for trial in self.counted()]
        most = _FAILURES if all(broken) else _MANY_FAILURES
        if len(broken) >= most and all(broken[-most:]):
            msg = f"the last {most} trials failed, the last with: {trial.note}"
            raise ArgumentError(msg) from self.error  # whose traceback says where, if it is a mistake in the task
        return True

    def _require_measured(self, trial: Trial) -> None:
        """Refuses an objective of which the first training tells nothing: its name is a slip."""
        wanted = [one.name for one in self.objectives.wanted if one.name != self.task.metric]
        absent = [name for name in wanted if name not in trial.measures]
        if absent and trial.note.startswith(_UNTOLD) and not any(other.usable for other in self.trials):
            told = f"the first training tells {', '.join(trial.measures)}.{nearest(absent[0], trial.measures)}"
            msg = f"objective {absent[0]!r} is nothing that the task measures: {told}"
            raise ArgumentError(msg)

    def _next(self, fallback: Candidate) -> tuple[Candidate, str]:
        waiting = self.ledger.waiting()
        if waiting:
            return waiting[0], _WISH
        trials = tuple(self.trials)
        view = View(self.space, self.objectives, trials, self.feasible, self.seed, fallback, self._tell)
        return self.strategy.propose(view), self.strategy.name

    def feasible(self, candidate: Candidate) -> bool:
        return self.objectives.feasible(self.priced.measures(candidate)) if self.objectives.limits else True

    def _tried(self, candidate: Candidate, origin: str) -> Trial:
        self.error = None
        measures = self.priced.measures(candidate)
        trial = Trial(len(self.trials), candidate, measures, origin=origin)
        if failure := self.priced.failure(candidate):
            return replace(trial, state="failed", note=failure)
        if not self.objectives.feasible(measures):  # only a person's wish can be: it is not trained either
            return replace(trial, state="failed", note=_BEYOND)
        curve: list[tuple[int, float]] = []
        begin, note, state = time.monotonic(), "", "complete"
        rivals = self._rivals(measures)
        try:
            found = self.task.evaluate(candidate, self.seed, lambda step, at: self._report(curve, rivals, step, at))
            measures |= _numbers(found)
            note = self._lacking(measures)
        except Stopped as stopped:
            state = "stopped"
            self.gpu_s += stopped.gpu_s
        except ERRORS as error:
            note, self.error = f"{type(error).__name__}: {error}", error
        self.gpu_s += measures.get("gpu_s", 0.0)
        final: State = "failed" if note else state  # pyright: ignore[reportAssignmentType] - one of three literals
        seconds = time.monotonic() - begin
        return replace(trial, measures=measures, state=final, curve=tuple(curve), seconds=seconds, note=note)

    def _lacking(self, measures: Mapping[str, float]) -> str:
        lacking = [wanted.name for wanted in self.objectives.wanted if not _finite(measures.get(wanted.name))]
        return f"{_UNTOLD} {lacking[0]}" if lacking else ""

    def _rivals(self, costs: Mapping[str, float]) -> list[Trial]:
        """The trials that cost no more, as far as cost is wanted: only they can make a training hopeless."""
        wanted = [objective for objective in self.objectives.wanted if objective.name in costs]
        return [t for t in self.trials if all(goal.loss(t.measures) <= goal.loss(costs) for goal in wanted)]

    def _report(self, curve: list[tuple[int, float]], rivals: Sequence[Trial], step: int, value: float) -> None:
        curve.append((int(step), float(value)))
        rule = self.options.stopping
        if rule is not None and rule.hopeless(tuple(curve), rivals, higher_is_better=self.task.higher_is_better):
            raise Stopped

    def _tell(self, word: str = "") -> None:
        """Passes on how far it is, with a word about long work or about the best so far."""
        if self.options.progress is None:
            return
        best, wanted = self.objectives.best(self.trials), self.objectives.wanted[0].name
        if not word and best is not None:
            word = f"best {wanted} {best.measures[wanted]:.4g}"
        self.options.progress(min(len(self.counted()) / self.count, 1.0), word)


def search(
    space: SearchSpace,
    task: Task,
    chip: str | Chip | None = None,
    *,
    limits: Mapping[str, float | int] | None = None,
    strategy: str | Strategy = "evolution",
    trials: int = 50,
    seed: int = 0,
    options: Options | None = None,
) -> Study:
    """Looks for the candidates that do a task best within what a chip allows.

    Args:
        space: of candidates.
        task: builds and judges them.
        chip: a name of the catalogue or a chip; None where cost does not matter or `options.cost` gives it.
        limits: greatest latency_s, energy_j, peak_bytes, parameter_bytes, memory_bytes or macs; a candidate beyond one
            is never trained. Without limits, low latency is a second objective.
        strategy: "random", "evolution", "nsga-ii", "tpe", "reinforce", "zero-shot", "single-shot", "hybrid", or one of
            your own.
        trials: candidates to train, those found in the storage included; fewer where no other in the limits is found.
        seed: of proposals and trainings.
        options: storage, objectives, estimator, stopping and more.

    Raises:
        ArgumentError: no candidate keeps to the limits (the sentence names the nearest that can be had), the first
            three trials failed or later twenty in a row, the task does not measure an objective, the storage holds
            trials made under other conditions, or an argument is out of its range.
        DataError: a trial in the storage cannot be read.
        OutputError: the storage cannot be opened, or another search writes to this study.
    """
    begin = cpu_seconds()
    require_seed(seed)
    require_instances(space=space, task=task, strategy=strategy, options=options)
    require_positive_integer(trials, "trials")
    rest = options or Options()
    bill(0.0, 0.0, rest.gpu, rest.region)  # names that are not known are refused before any work
    pricing = rest.cost
    if pricing is None and chip is not None:
        pricing = estimated(task, chip, rest.estimator, rest.dtype)
    if pricing is None and (limits or rest.curate):
        asking = f"limits {', '.join(limits)} need" if limits else "curation needs"
        msg = f"{asking} a chip, or options.cost, to know what candidates cost"
        raise ArgumentError(msg)
    objectives = objectives_of(
        task.metric,
        higher_is_better=task.higher_is_better,
        limits=limits,
        wanted=rest.objectives,
        priced=pricing is not None,
    )
    bound = bind(rest.rules, space)
    if bound != space:  # a study of its own for each space
        mark = hashlib.sha256(json.dumps(bound.to_dict()).encode()).hexdigest()[:8]
        space, rest = bound, replace(rest, name=f"{rest.name or space.name}, ruled {mark}")
    priced = Priced(pricing)
    found = None
    if rest.curate:
        found = _curated(space, priced, seed, rest.progress)
        space = found.curation.space
        rest = replace(rest, name=rest.name and f"{rest.name}, curated")
    chosen = strategy_of(strategy, space, task, trials, seed) if isinstance(strategy, str) else strategy
    tell = None if rest.progress is None else partial(_tell_priced, rest.progress)
    fallback = feasible_candidate(space, priced, objectives, seed, tell)
    conditions = _conditions(objectives, chosen.name, chip, seed, rest)
    if not isinstance(strategy, str):  # the settings of one by name follow from the number of trials
        conditions = {**_settings(strategy=strategy), **conditions}
    with _ledger(space, objectives, conditions, rest) as ledger:
        run = _Search(space, task, objectives, priced, chosen, ledger, seed, rest, begin)
        try:
            run.run(trials, fallback)
        finally:
            total = run.spend()
    spent = bill(total["cpu_s"], total["gpu_s"], rest.gpu, rest.region)
    return Study(space, objectives, tuple(run.trials), spent, len(priced), chosen.name, _name_of(chip), found)


def require_instances(**given: object) -> None:
    """Refuses classes in place of objects, and what is of quite another kind, among a search's first arguments.

    Raises:
        ArgumentError: with what to give instead.
    """
    kinds = {"space": SearchSpace, "strategy": str | Strategy, "options": Options | None}
    for name, value in given.items():
        if isinstance(value, type):
            msg = f"{name} must be an object, got the class {value.__name__}; give {value.__name__}(...)"
            raise ArgumentError(msg)
        fits = isinstance(value, kinds[name]) if name in kinds else all(hasattr(value, part) for part in _TASK)
        if not fits:
            msg = f"{name} must be {_KINDS[name]}, got {value!r:.60}"
            raise ArgumentError(msg)


def _name_of(chip: str | Chip | None) -> str:
    return chip.name if isinstance(chip, Chip) else chip or ""


def read_study(path: Path) -> tuple[SearchSpace, Objectives, tuple[Trial, ...]]:
    """Space, objectives and trials of a `Study.to_dict` that was written as JSON.

    Raises:
        DataError: the file holds no study.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        for name, kind, called in _PARTS:
            if not isinstance(stored, dict) or not isinstance(stored.get(name), kind):
                msg = f"{path} holds no study: it must be an object in which {name!r} is {called}"
                raise DataError(msg)
        space = SearchSpace.from_dict(stored["space"])
        wanted = tuple(Objective(**row) for row in stored["objectives"]["wanted"])
        limits = tuple((str(name), float(limit)) for name, limit in stored["objectives"]["limits"])
        trials = tuple(trial_from_dict(row, space) for row in stored["trials"])
        return space, Objectives(wanted, limits), trials
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} holds no study: {error}"
        raise DataError(msg) from error


def strategy_of(name: str, space: SearchSpace, task: Task, trials: int, seed: int) -> Strategy:
    """A strategy by name, with the settings that fit the number of trials; see `search` for the names.

    Raises:
        ArgumentError: the name is unknown, or the task lacks what the strategy needs.
    """
    from sirdar.search import strategies  # it imports torch for some of them

    return strategies.named(name, space, task, trials, seed)


def _curated(space: SearchSpace, priced: Priced, seed: int, progress: Callable[[float, str], None] | None) -> "Curated":
    from sirdar.search.curate import curated

    def cost(candidate: Candidate) -> Cost:
        if progress is not None:
            progress(0.0, f"curating, {len(priced)} priced")
        try:
            return priced.cost(candidate)
        except ERRORS as error:
            msg = f"a space of which a candidate cannot be priced is not curated: {candidate}: {error}"
            raise ArgumentError(msg) from error

    return curated(space, cost, seed)


def _tell_priced(progress: Callable[[float, str], None], count: int) -> None:
    progress(0.0, f"{count} priced, none yet within the limits")


def _conditions(
    objectives: Objectives, strategy: str, chip: str | Chip | None, seed: int, options: Options
) -> dict[str, str]:
    """By name what makes the same trials again; not how many there are, since a search may go on to more."""
    estimator, dtype, numbers = options.estimator, options.dtype or "bf16", {}
    if options.cost is None and chip is not None:
        sheet = chip if isinstance(chip, Chip) else load(chip)
        estimator, dtype = estimator or estimator_of(sheet), options.dtype or sheet.usual_dtype()
        numbers = {"numbers of the chip": digest_of(sheet)}
    wanted = [f"{row.goal} {row.name} ^ {row.weight:g} / {row.reference:g}" for row in objectives.wanted]
    return {
        "objectives": ", ".join(wanted),
        "limits": ", ".join(f"{name} <= {limit!r}" for name, limit in sorted(objectives.limits)),
        "strategy": strategy,
        "seed": str(seed),
        "chip": _name_of(chip),
        "dtype": dtype,
        "estimator": "" if estimator is None else type(estimator).__name__,
        "stopping": "" if options.stopping is None else type(options.stopping).__name__,
        **numbers,
        **_settings(estimator=options.estimator, stopping=options.stopping),
        **options.conditions,
    }


def _settings(**things: object) -> dict[str, str]:
    """The settings of what was given, by name; of what has none, nothing."""
    told = {name: settings_of(thing) for name, thing in things.items() if thing is not None}
    return {f"settings of the {name}": settings for name, settings in told.items() if settings}


@contextmanager
def _ledger(
    space: SearchSpace, objectives: Objectives, conditions: Mapping[str, str], options: Options
) -> Iterator[Ledger]:
    if options.storage is None:
        yield MemoryLedger()
        return
    names = tuple((wanted.name, wanted.goal) for wanted in objectives.wanted)
    name = options.name or space.name
    with used(options.storage), alone(options.storage, name) as require_alone:
        yield OptunaLedger(options.storage, name, space, names, conditions, require_alone)


def _broken(trial: Trial) -> bool:
    """Whether its training or its judgement went wrong; one that came to its end beyond the limits is sound."""
    return trial.state == "failed" and not trial.note.startswith(_MEASURED)


def _numbers(found: object) -> dict[str, float]:
    """What a task measured, as plain numbers.

    Raises:
        ArgumentError: it is no mapping, or a value is no number.
    """
    if not isinstance(found, Mapping):
        msg = f"evaluate must give numbers by name, such as {{'accuracy': 0.9}}, got {found!r}"
        raise ArgumentError(msg)
    numbers: dict[str, float] = {}
    for name, value in found.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError) as error:
            msg = f"evaluate must give numbers by name, and gave {value!r} as {name}"
            raise ArgumentError(msg) from error
    return numbers


def _finite(value: float | None) -> bool:
    return value is not None and abs(value) < float("inf")  # a NaN compares as false
