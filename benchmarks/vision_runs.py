# SPDX-License-Identifier: Apache-2.0
"""The work behind the three camera benchmarks, done once: searches, final trainings, and their scores on test data.

A folder keeps every search as an SQLite file and every finished job as JSON or safetensors beside it; what stands
there is not done again, and a killed job goes on from its checkpoint. Two processes with the same folder share the
work: a job belongs to whoever holds the lock on its file, and a killed process lets go of it.
"""

import fcntl
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sirdar.recipes.vision_product import Data, Product, ProductTask, compiled_cost
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.study import Options, read_study, search
from sirdar.search.task import Trial
from sirdar.vision.checkpoint import load_network, save_network
from sirdar.vision.training import Schedule

Studies = dict[str, tuple[SearchSpace, Objectives, tuple[Trial, ...]]]
PlayOff = dict[Candidate, float]  # validation score after a training as long as the final ones
Score = Callable[[Candidate, nn.Module], Mapping[str, float]]
_WAIT_S = 3.0


@dataclass(frozen=True)
class Arm:
    """One search: where it looks, what it keeps to and wants, and the candidates that a person gives it first."""

    name: str
    space: SearchSpace
    trials: int
    limits: Mapping[str, float] = field(default_factory=dict)
    first: tuple[Candidate, ...] = ()
    objectives: tuple[Objective, ...] = ()
    strategy: str = "evolution"


@dataclass(frozen=True)
class Plan:
    """A benchmark's work.

    Args:
        product: what is fitted to its chip.
        search: training and validation data of the search, loaded when asked for.
        final: all development data, likewise; its score is never asked for.
        score: on test data, in floating point and of the int8 file.
        arms: the searches, from the compiled cost of the baseline.
        roles: the networks that are trained to the end, from what the searches and the play-off found.
        schedule: of the final trainings.
        seeds: of each network.
        play_off: how many of each search's best are trained as long as the final networks before roles are given.
    """

    product: Product
    search: Callable[[], Data]
    final: Callable[[], Data]
    score: Score
    arms: Callable[[Mapping[str, float]], tuple[Arm, ...]]
    roles: Callable[[Studies, PlayOff], dict[str, Candidate]]
    schedule: Schedule
    seeds: int = 3
    play_off: int = 0


class Runs:
    """The jobs of a plan in a folder.

    Args:
        plan: the work.
        folder: of what is done.
        base: the compiled cost of the baseline by name.
    """

    def __init__(self, plan: Plan, folder: Path, base: Mapping[str, float]) -> None:
        self.plan, self.folder = plan, folder
        self.arms = plan.arms(base)
        folder.mkdir(parents=True, exist_ok=True)

    def work(self, until: float) -> bool:
        """Does what is left, in order; False when the clock (`time.monotonic`) reached `until` before the end."""
        for stage in (self._searches, self._play_offs, self._trainings, self._scores):
            while jobs := {path: job for path, job in stage().items() if not path.exists()}:
                if time.monotonic() > until:
                    return False
                if not any(_done(path, job) for path, job in jobs.items()):
                    time.sleep(_WAIT_S)  # another process does the last ones
        return True

    def study_path(self, arm: Arm) -> Path:
        """Where a search's result stands; another schedule or arm has another name."""
        facts = [asdict(self.plan.product.schedule), arm.space.to_dict(), arm.trials, sorted(arm.limits.items())]
        facts += [[c.key for c in arm.first], [asdict(o) for o in arm.objectives], arm.strategy]
        return self.folder / f"search-{arm.name}-{_hash(facts)}.json"

    def training_path(self, candidate: Candidate, seed: int) -> Path:
        """Where a network's final weights stand."""
        return self.folder / f"final-{_hash([candidate.key, asdict(self.plan.schedule)])}-{seed}.safetensors"

    def studies(self) -> Studies:
        """What the searches found."""
        return {arm.name: read_study(self.study_path(arm)) for arm in self.arms}

    def bills(self) -> dict[str, dict[str, Any]]:
        """What each search did and used up."""
        found: dict[str, dict[str, Any]] = {}
        for arm in self.arms:
            stored = json.loads(self.study_path(arm).read_text())
            found[arm.name] = {name: stored[name] for name in ("strategy", "size", "priced", "spent")}
            found[arm.name] |= {"limits": dict(arm.limits), "trained": len(stored["trials"])}
        return found

    def roles(self) -> dict[str, Candidate]:
        """The networks that are trained to the end."""
        return self.plan.roles(self.studies(), {c: row["score"] for c, row in self.play_off().items()})

    def play_off(self) -> dict[Candidate, dict[str, float]]:
        """Validation score and CPU seconds of each search's best, trained as long as the final networks."""
        return {c: json.loads(path.read_text()) for c, path in self._play_off_paths().items()}

    def network(self, candidate: Candidate, seed: int) -> tuple[nn.Module, dict[str, Any]]:
        """A trained network in evaluation mode, and its facts."""
        network = self.plan.product.network(candidate)
        facts = load_network(self.training_path(candidate, seed), network)
        return network.eval(), facts

    def scores(self, candidate: Candidate) -> list[dict[str, float]]:
        """Test scores of a network, one mapping per seed."""
        paths = [self.training_path(candidate, seed).with_suffix(".json") for seed in range(self.plan.seeds)]
        return [json.loads(path.read_text()) for path in paths]

    def _searches(self) -> dict[Path, Callable[[], None]]:
        return {self.study_path(arm): lambda arm=arm: self._search(arm) for arm in self.arms}

    def _search(self, arm: Arm) -> None:
        product, path = self.plan.product, self.study_path(arm)
        begin = time.monotonic()

        def progress(share: float, word: str) -> None:
            print(f"{product.name} {arm.name} {share:.0%} {word} {time.monotonic() - begin:.0f} s", flush=True)

        task = ProductTask(product, self.plan.search(), product.schedule)
        options = Options(
            cost=compiled_cost(product),
            storage=path.with_suffix(".sqlite"),
            name=arm.name,
            enqueue=arm.first,
            objectives=arm.objectives,
            progress=progress,
        )
        settings = {"strategy": arm.strategy, "trials": arm.trials, "seed": 1, "options": options}
        _write(path, search(arm.space, task, limits=arm.limits or None, **settings).to_dict())

    def _play_off_paths(self) -> dict[Candidate, Path]:
        """Where they stand; one seed each."""
        found = {}
        for _, objectives, trials in self.studies().values():
            for trial in leaders(objectives, trials, self.plan.play_off):
                name = _hash([trial.candidate.key, asdict(self.plan.schedule)])
                found[trial.candidate] = self.folder / f"play-off-{name}.json"
        return found

    def _play_offs(self) -> dict[Path, Callable[[], None]]:
        return {path: lambda c=c, p=path: self._play(c, p) for c, path in self._play_off_paths().items()}

    def _play(self, candidate: Candidate, path: Path) -> None:
        data, begin = self.plan.search(), time.process_time()
        task = ProductTask(self.plan.product, data, self.plan.schedule)
        network, _ = task.trained(candidate, 0, checkpoint=path.with_suffix(".checkpoint"))
        facts = {"score": float(data.score(candidate, network)), "cpu_s": time.process_time() - begin}
        _write(path, facts)
        print(f"{self.plan.product.name} {path.stem}: {facts}", flush=True)

    def _trainings(self) -> dict[Path, Callable[[], None]]:
        return {
            self.training_path(candidate, seed): lambda c=candidate, s=seed: self._train(c, s)
            for seed in range(self.plan.seeds)
            for candidate in self.roles().values()
        }

    def _train(self, candidate: Candidate, seed: int) -> None:
        path, begin = self.training_path(candidate, seed), time.process_time()
        task = ProductTask(self.plan.product, self.plan.final(), self.plan.schedule)
        network, _ = task.trained(candidate, seed, checkpoint=path.with_suffix(".checkpoint"))
        spent = time.process_time() - begin
        save_network(path, network, {"choices": candidate.as_dict(), "seed": seed, "cpu_s": spent})
        print(f"{self.plan.product.name} {path.stem}: trained in {spent:.0f} CPU s", flush=True)

    def _scores(self) -> dict[Path, Callable[[], None]]:
        return {path.with_suffix(".json"): lambda p=path: self._judge(p) for path in self._trainings()}

    def _judge(self, path: Path) -> None:
        seed = int(path.stem.rsplit("-", 1)[1])
        mine = [c for c in self.roles().values() if self.training_path(c, seed) == path]
        network, facts = self.network(mine[0], seed)
        found = {name: float(value) for name, value in self.plan.score(mine[0], network).items()}
        _write(path.with_suffix(".json"), found | {"cpu_s": facts["cpu_s"]})


def leaders(objectives: Objectives, trials: Sequence[Trial], count: int) -> list[Trial]:
    """The front of some trials, then the front of the rest, and so on; of a front too large, some spread along it."""
    chosen: dict[Candidate, Trial] = {}
    while len(chosen) < count and (front := objectives.pareto([t for t in trials if t.candidate not in chosen])):
        free = min(count - len(chosen), len(front))
        for place in np.linspace(0, len(front) - 1, free).round().astype(int):
            chosen[front[place].candidate] = front[place]
    return list(chosen.values())


def _done(path: Path, job: Callable[[], None]) -> bool:
    """Whether this process did a job now; not when it is another's, or done meanwhile."""
    with _claimed(path.with_suffix(path.suffix + ".lock")) as mine:
        if not mine or path.exists():
            return False
        job()
        return True


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _hash(facts: list[Any]) -> str:
    return f"{zlib.crc32(json.dumps(facts, sort_keys=True).encode()):08x}"


def _write(path: Path, content: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(path)


def finished(plan: Plan, given: Any) -> Runs | None:  # noqa: ANN401 - argparse's namespace
    """Does all work of a plan in `--workers` processes of one thread each; None when `--minutes` ended it before.

    The first process goes on to the report; the others end with the work.
    """
    from sirdar.search.objectives import measures_of

    torch.set_num_threads(1)
    others = [subprocess.Popen([*_command(), "--workers", "0"]) for _ in range(given.workers - 1)]
    base = measures_of(compiled_cost(plan.product)(plan.product.baseline))
    runs = Runs(plan, given.runs, base)
    whole = runs.work(time.monotonic() + 60 * given.minutes)
    for other in others:
        other.wait()
    if not whole:
        print("time is up; the same command goes on from here")
    return runs if whole and given.workers else None


def _command() -> list[str]:
    given = list(sys.argv)
    while "--workers" in given:
        place = given.index("--workers")
        del given[place : place + 2]
    return [sys.executable, *given]
