# SPDX-License-Identifier: Apache-2.0
"""Trains the networks of the three camera searches, many at once on one machine, and packs what came of it.

Two phases. "search": for each product one or more evolutions run at the same time under a hard limit on compiled
latency or memory, every candidate trained on the search part of the data and judged on its validation part; the best
of each are then trained longer, and again judged on validation data alone. "final": the networks of a list are
trained on all development data with several seeds; only now the held-out test data is touched.

Every result is appended to ``results.jsonl`` as it comes; what stands there is not done again. Weights of the final
phase go to safetensors in fp16, packed into parts of at most 15 MiB.

    python benchmarks/vision_training.py --phase search --data DIR --out DIR --device cuda --minutes 9
    python benchmarks/vision_training.py --phase final --jobs jobs.json --data DIR --out DIR --device cuda --minutes 9
"""

import argparse
import io
import json
import multiprocessing
import queue
import tarfile
import threading
import time
import traceback
import zlib
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.pool import Pool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import vision_data

from sirdar.recipes import classification, detection, segmentation
from sirdar.recipes.vision_product import Data, Product, ProductTask, bytes_of, compiled_cost
from sirdar.search.multishot import RegularisedEvolution, View
from sirdar.search.objectives import Objective, Objectives, measures_of
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.task import Trial
from sirdar.vision.checkpoint import save_network
from sirdar.vision.images import Boxed, Labelled, Masked
from sirdar.vision.training import Schedule

Images = TypeVar("Images", Labelled, Boxed, Masked)

PRODUCTS: dict[str, Product] = {m.PRODUCT.name: m.PRODUCT for m in (detection, classification, segmentation)}
LONGER = {"detection": 4.0, "classification": 12.0, "segmentation": 4.0}  # final schedule over the search's
CONFIRMING = 2.0  # the longer schedule of the best over the search's
EVOLVING = 0.68  # share of the search's time; the rest is for the best of each
CONFIRMED = 3  # of each evolution, trained longer
KEPT, SMALL_BYTES = 3, 900_000  # seeds whose weights are kept, of larger networks the first alone
PART_BYTES = 15 * 2**20


@dataclass(frozen=True)
class Evolution:
    """One evolution: where it looks, what it wants and the first candidates that a person gives it."""

    name: str
    product: str
    space: SearchSpace
    objectives: Objectives
    first: tuple[Candidate, ...]
    share: float = 1.0


@dataclass
class Job:
    """One training."""

    arm: str
    product: str
    values: dict[str, Any]
    seed: int
    longer: float = 1.0
    part: str = "search"  # or "final"
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names the job in results and files."""
        text = json.dumps([self.product, sorted(self.values.items()), self.seed, self.longer, self.part])
        return f"{self.product}-{self.part}-{zlib.crc32(text.encode()):08x}"


def moved(space: SearchSpace, candidate: Candidate, **changes: str | int) -> Candidate:
    """A candidate with some choices decided otherwise; a dot is written as two underscores."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return space.candidate(candidate.as_dict() | named)


def evolutions(base: dict[str, dict[str, float]]) -> list[Evolution]:
    """The evolutions of the three products.

    Args:
        base: the compiled cost of each product's baseline.
    """
    latency = {name: base[name]["latency_s"] for name in base}

    def wanted(metric: str, limits: dict[str, float]) -> Objectives:
        return Objectives((Objective(metric, "maximise"),), tuple(limits.items()))

    d, c, s = detection, classification, segmentation
    half = {k: (0.5 if k.endswith(".deep") else v) for k, v in d.BASELINE.as_dict().items()}
    thin = d.SPACE.candidate(half)
    both = moved(d.SPACE, thin, stage1__kind="fused", stage2__kind="fused")
    fused = moved(d.SPACE, d.BASELINE, stage1__kind="fused")
    rules = c.by_rules(c.BASELINE)
    fast = moved(s.SPACE, s.BASELINE, stage1__kind="fused", input="144x192", output=8)
    trade = Objectives((Objective("miou", "maximise"), Objective("latency_s", weight=0.15, reference=1e-3)))
    return [
        Evolution("V1", "detection", d.SPACES["V1"], wanted("map", {"latency_s": 0.7 * latency["detection"]}), (thin,)),
        Evolution(
            "V2", "detection", d.SPACES["V2"], wanted("map", {"latency_s": 0.92 * latency["detection"]}), (fused,), 0.7
        ),
        Evolution("V3", "detection", d.SPACE, wanted("map", {"latency_s": 0.465 * latency["detection"]}), (both,), 2.0),
        Evolution("budget", "classification", c.SPACE, wanted("top1", {"memory_bytes": 512.0 * 1024}), (rules,), 2.5),
        Evolution(
            "fast", "segmentation", s.SPACE, wanted("miou", {"latency_s": 0.48 * latency["segmentation"]}), (fast,), 2.0
        ),
        Evolution("front", "segmentation", s.SPACE, trade, (fast,), 1.5),
    ]


# --- what runs in the other processes --------------------------------------------------------------------------------


class Parts:
    """The data of every product and part, loaded once per process."""

    def __init__(self, folder: Path, device: str, *, tiny: bool) -> None:
        self._folder, self._device, self._tiny, self._known = folder, device, tiny, {}

    def __call__(self, product: str, part: str) -> Data:
        """Data of a product: ("search": train and validation) or ("final": development and test)."""
        if (product, part) not in self._known:
            self._known[product, part] = getattr(self, f"_{product}")(part)
        return self._known[product, part]

    def _some(self, data: Images) -> Images:
        return data.take(np.arange(0, len(data.images), max(1, len(data.images) // 16))) if self._tiny else data

    def _detection(self, part: str) -> Data:
        every, split = vision_data.penn_fudan(self._folder), vision_data.penn_fudan_split()
        names = ("train", "validation") if part == "search" else ("development", "test")
        return detection.data_of(*(self._some(every.take(split[name])) for name in names), self._device)

    def _classification(self, part: str) -> Data:
        train, test = vision_data.cifar10(self._folder)
        if part == "search":
            held = np.arange(len(train.images)) % 10 == 0
            train, test = train.take(np.flatnonzero(~held)), train.take(np.flatnonzero(held))
        return classification.data_of(self._some(train), self._some(test), self._device)

    def _segmentation(self, part: str) -> Data:
        parts = vision_data.camvid(self._folder)
        train, test = parts["train"], parts["validation"]
        if part == "final":
            joined = [torch.cat([getattr(p, name) for p in (train, test)]) for name in ("images", "masks")]
            train, test = replace(train, images=joined[0], masks=joined[1]), parts["test"]
        return segmentation.data_of(self._some(train), self._some(test), self._device)


def schedule_of(job: Job, product: Product, scale: float, device: str) -> Schedule:
    """The schedule of a job."""
    steps = max(3, round(product.schedule.steps * job.longer * scale))
    average = product.schedule.average if job.longer == 1 else 1 - (1 - product.schedule.average) / 2
    precision = "bf16" if device.startswith("cuda") else "fp32"
    # Short trainings take many small steps; long ones larger steps, at a rate that grows alike (Goyal et al. 2017).
    more = 2 if job.longer > 1 and product.schedule.optimiser == "sgd" else 1
    batch, rate = more * product.schedule.batch, more * product.schedule.learning_rate
    return replace(
        product.schedule,
        steps=steps,
        average=average,
        precision=precision,
        batch=batch if scale >= 0.1 else 4,
        learning_rate=rate,
    )


def work(jobs: Queue, done: Queue, folder: str, out: str, device: str, scale: float) -> None:
    """Trains jobs until there is none."""
    torch.set_num_threads(1)
    parts = Parts(Path(folder), device, tiny=scale < 0.1)
    while (job := jobs.get()) is not None:
        begin = time.monotonic()
        try:
            measures, note = _trained(job, parts, Path(out), device, scale), ""
        except Exception:  # noqa: BLE001 - one network's failure must not end the others
            measures, note = {}, traceback.format_exc()[-800:]
        done.put((job, measures, note, time.monotonic() - begin))


def _trained(job: Job, parts: Parts, out: Path, device: str, scale: float) -> dict[str, float]:
    product = PRODUCTS[job.product]
    data = parts(job.product, job.part)
    task = ProductTask(product, data, schedule_of(job, product, scale, device))
    candidate = product.space.candidate(job.values)
    checkpoint = out / "weights" / f"{job.key}.checkpoint"
    network, seconds = task.trained(candidate, job.seed, None, checkpoint if job.part == "final" else None)
    if job.part == "final" and job.seed < (KEPT if bytes_of(network) < SMALL_BYTES else 1):
        save_network(out / "weights" / f"{job.key}.safetensors", network, asdict(job), half=True)
    score = data.score(candidate, network)
    return {product.metric: score, "train_s": seconds, "steps": float(task.schedule.steps)}


def priced(product: str, values: dict[str, Any]) -> dict[str, float]:
    """The compiled cost of a candidate; infinite where it cannot be compiled."""
    torch.set_num_threads(1)
    try:
        return measures_of(compiled_cost(PRODUCTS[product])(PRODUCTS[product].space.candidate(values)))
    except Exception as error:  # noqa: BLE001 - told once, and such a candidate is never trained
        print(f"cannot price {product}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        return dict.fromkeys(("latency_s", "energy_j", "peak_bytes", "parameter_bytes", "memory_bytes", "macs"), 1e30)


# --- what runs in this process ---------------------------------------------------------------------------------------


class Prices:
    """Compiled costs, kept by product and candidate, and worked out by a pool of processes."""

    def __init__(self, pool: Pool, path: Path, given: Path | None) -> None:
        self._pool, self._path, self._lock = pool, path, threading.Lock()
        self.known: dict[str, dict[str, float]] = {}
        for source in (given, path):
            if source is not None and source.exists():
                for line in source.read_text().splitlines():
                    row = json.loads(line)
                    self.known[row["key"]] = row["measures"]

    def __call__(self, product: str, candidate: Candidate) -> dict[str, float]:
        """The cost of a candidate by name."""
        key = f"{product} {candidate.key}"
        if key not in self.known:
            found = self._pool.apply(priced, (product, candidate.as_dict()))
            with self._lock, self._path.open("a") as file:
                self.known[key] = found
                file.write(json.dumps({"key": key, "values": candidate.as_dict(), "measures": found}) + "\n")
        return dict(self.known[key])


class Arm:
    """An evolution under way: proposes ahead of the workers, in a thread of its own."""

    def __init__(self, evolution: Evolution, prices: Prices, seed: int) -> None:
        self.evolution, self.prices, self.seed = evolution, prices, seed
        self.trials: list[Trial] = []
        self.running: list[Candidate] = list(dict.fromkeys(evolution.first))
        self.ready: queue.Queue[Candidate] = queue.Queue()
        for candidate in self.running:
            self.ready.put(candidate)
        self.started, self.stop = 0, False
        self._population = max(2, min(10, len(self.running) - 2))
        self._strategy = RegularisedEvolution(self._population, tournament=4, changes=2)
        threading.Thread(target=self._propose, daemon=True).start()

    def feasible(self, candidate: Candidate) -> bool:
        """Whether a candidate keeps to the limits."""
        if not self.evolution.objectives.limits:
            return True
        return self.evolution.objectives.feasible(self.prices(self.evolution.product, candidate))

    def _propose(self) -> None:
        count = 0
        while not self.stop:
            # A hard limit leaves little to random draws, so the population begins with what was given.
            judged = sum(trial.usable for trial in self.trials)
            if self.ready.qsize() >= 2 or judged < min(self._population, len(self.evolution.first)):
                time.sleep(0.05)
                continue
            count += 1
            # Candidates in training count as tried, and not as judged.
            waiting = [Trial(-1, candidate, {}, "stopped") for candidate in self.running]
            view = View(
                self.evolution.space,
                self.evolution.objectives,
                (*waiting, *self.trials),
                self.feasible,
                self.seed * 1000 + count,
                self.evolution.first[0],
            )
            candidate = self._strategy.propose(view)
            if candidate in {trial.candidate for trial in view.trials}:
                time.sleep(0.2)
                continue
            self.running.append(candidate)
            self.ready.put(candidate)

    def skip(self, candidate: Candidate) -> None:
        """Takes a candidate off those that wait, for it was trained before this process began."""
        waiting = [self.ready.get() for _ in range(self.ready.qsize())]
        for other in waiting:
            if other != candidate:
                self.ready.put(other)

    def tell(self, job: Job, measures: dict[str, float]) -> None:
        """Takes a result."""
        candidate = self.evolution.space.candidate(job.values)
        self.running = [other for other in self.running if other != candidate]
        state = "complete" if measures else "failed"
        self.trials.append(Trial(len(self.trials), candidate, job.measures | measures, state))

    def best(self, count: int) -> list[Trial]:
        """The judged trials with the largest reward; twice as many along the front where two things are wanted."""
        objectives = self.evolution.objectives
        if objectives.several:
            front = objectives.pareto(self.trials)
            places = np.unique(np.linspace(0, len(front) - 1, min(len(front), 2 * count)).round().astype(int))
            return [front[place] for place in places]
        judged = [trial for trial in self.trials if trial.usable]
        return sorted(judged, key=lambda t: -objectives.reward(t.measures))[:count]


@dataclass
class Crew:
    """The workers and what they brought back."""

    count: int
    out: Path
    places: tuple[Path, ...]
    arguments: tuple[Any, ...]
    start: float
    jobs: Any = None
    done: Any = None
    busy: int = 0
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: list[Any] = field(default_factory=list)

    def begin(self) -> None:
        """Starts the workers and reads what stands in results.jsonl."""
        context = multiprocessing.get_context("spawn")
        self.jobs, self.done = context.Queue(), context.Queue()
        path = self.out / "results.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            self.finished[row["key"]] = row
        for _ in range(self.count):
            member = context.Process(target=work, args=(self.jobs, self.done, *self.arguments), daemon=True)
            member.start()
            self.members.append(member)

    def give(self, job: Job) -> None:
        """Hands out a job."""
        self.busy += 1
        self.jobs.put(job)

    def offer(self, job: Job) -> None:
        """Hands out a job unless it was done before."""
        if job.key not in self.finished:
            self.give(job)

    def take(self) -> tuple[Job, dict[str, float]] | None:
        """The next result, None when none comes for a while."""
        try:
            job, measures, note, seconds = self.done.get(timeout=0.2)
        except queue.Empty:
            return None
        self.busy -= 1
        row = {"key": job.key, "job": asdict(job), "measures": measures, "note": note, "seconds": round(seconds, 2)}
        for folder in self.places:
            with (folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        self.finished[job.key] = row
        if len(self.finished) >= 2 * self.count and all(other["note"] for other in self.finished.values()):
            msg = f"the first {len(self.finished)} trainings all failed, the last with: {note}"
            raise SystemExit(msg)
        score = " ".join(f"{name} {value:.4g}" for name, value in measures.items())
        print(f"{time.monotonic() - self.start:4.0f} s {job.arm} {job.seed}: {score or note}", flush=True)
        return job, measures

    def end(self) -> None:
        """Ends the workers."""
        for member in self.members:
            member.terminate()
        for member in self.members:
            member.join(10)


def with_first(evolution: Evolution, given: dict[str, list[dict[str, Any]]]) -> Evolution:
    """An evolution that also begins with candidates found beforehand."""
    more = tuple(evolution.space.candidate(values) for values in given.get(evolution.name, []))
    return replace(evolution, first=tuple(dict.fromkeys((*evolution.first, *more))))


def searching(
    crew: Crew, prices: Prices, names: set[str], times: tuple[float, float], given: dict[str, list[dict[str, Any]]]
) -> None:
    """The search phase: evolutions until three quarters of the time, then the best of each for longer.

    Args:
        crew: the workers.
        prices: of candidates.
        names: of the products.
        times: when it began and how many minutes it has.
        given: candidates to begin with, by evolution.
    """
    start, minutes = times
    chosen = {name: prices(name, PRODUCTS[name].baseline) for name in sorted(names)}
    print("baselines", json.dumps(chosen), flush=True)
    base = {name: chosen.get(name, {"latency_s": 1.0}) for name in PRODUCTS}
    every = [with_first(evolution, given) for evolution in evolutions(base)]
    arms = {e.name: Arm(e, prices, place + 1) for place, e in enumerate(every) if e.product in names}
    for row in crew.finished.values():
        job = Job(**row["job"])
        if job.arm in arms:
            arms[job.arm].skip(arms[job.arm].evolution.space.candidate(job.values))
            arms[job.arm].tell(job, row["measures"])
    for name in sorted(names):
        for seed in (0, 1):
            crew.offer(Job("baseline", name, PRODUCTS[name].baseline.as_dict(), seed, measures=chosen[name]))
    while time.monotonic() - start < 60 * minutes * EVOLVING:
        taken = crew.take()
        if taken is not None and taken[0].arm in arms:
            arms[taken[0].arm].tell(*taken)
        while crew.busy < crew.count and (arm := _hungriest(arms)) is not None:
            _start(crew, arm, prices)
    for arm in arms.values():
        arm.stop = True
    _confirm(crew, arms, chosen, start + 60 * minutes)


def _hungriest(arms: dict[str, Arm]) -> Arm | None:
    able = [arm for arm in arms.values() if arm.ready.qsize()]
    return min(able, key=lambda arm: arm.started / arm.evolution.share, default=None)


def _start(crew: Crew, arm: Arm, prices: Prices) -> None:
    candidate, evolution = arm.ready.get(), arm.evolution
    arm.started += 1
    measures = prices(evolution.product, candidate)
    crew.give(Job(evolution.name, evolution.product, candidate.as_dict(), arm.started, measures=measures))


def _confirm(crew: Crew, arms: dict[str, Arm], base: dict[str, dict[str, float]], until: float) -> None:
    given: set[str] = set()
    best = {name: arm.best(CONFIRMED) for name, arm in arms.items()}
    for place in range(2 * CONFIRMED):
        for name, cost in base.items() if place < CONFIRMED else ():
            given |= _longer(crew, "baseline", name, PRODUCTS[name].baseline.as_dict(), cost, place, given)
        for name, arm in arms.items():
            for trial in best[name][place : place + 1]:
                cost = {k: v for k, v in trial.measures.items() if k in ("latency_s", "memory_bytes", "macs")}
                given |= _longer(
                    crew, arm.evolution.name, arm.evolution.product, trial.candidate.as_dict(), cost, place, given
                )
    while crew.busy and time.monotonic() < until:
        taken = crew.take()
        if taken is not None and taken[0].arm in arms and taken[0].longer == 1:
            arms[taken[0].arm].tell(*taken)


def _longer(
    crew: Crew, arm: str, product: str, values: dict[str, Any], cost: dict[str, float], seed: int, given: set[str]
) -> set[str]:
    job = Job(f"{arm}-longer", product, values, 100 + seed, CONFIRMING, measures=cost)
    if job.key not in given:
        crew.offer(job)
    return {job.key}


def finishing(crew: Crew, path: Path, until: float) -> None:
    """The final phase: the jobs of a list that have no result yet, in its order."""
    jobs = [Job(**row) for row in json.loads(path.read_text())]
    for job in jobs:
        crew.offer(job)
    while crew.busy and time.monotonic() < until:
        crew.take()


def pack(out: Path, target: Path) -> None:
    """Results and weights into few files: results.jsonl, prices.jsonl and tars of at most 15 MiB."""
    target.mkdir(parents=True, exist_ok=True)
    if (out / "prices.jsonl").exists() and out != target:
        (target / "prices.jsonl").write_bytes((out / "prices.jsonl").read_bytes())
    files = sorted((out / "weights").glob("*.safetensors"))
    part, number = [], 0
    for file in [*files, None]:
        size = sum(f.stat().st_size for f in part)
        if part and (file is None or size + file.stat().st_size > PART_BYTES):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for member in part:
                    tar.add(member, arcname=member.name)
            (target / f"weights{number}.tar").write_bytes(buffer.getvalue())
            part, number = [], number + 1
        if file is not None:
            part.append(file)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", choices=("search", "final"), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=None, help="where the packed results go (default: nowhere)")
    parser.add_argument("--jobs", type=Path)
    parser.add_argument("--prices", type=Path, help="costs known beforehand, as prices.jsonl")
    parser.add_argument("--first", type=Path, help="candidates to begin with: {evolution: [values]}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--scale", type=float, default=1.0, help="of all training lengths; below 0.1 also tiny data")
    parser.add_argument("--products", default=",".join(PRODUCTS))
    given = parser.parse_args()
    start = time.monotonic()
    (given.out / "weights").mkdir(parents=True, exist_ok=True)
    places = (given.out,) if given.pack is None else (given.out, given.pack)
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    crew = Crew(given.workers, given.out, places, (str(given.data), str(given.out), given.device, given.scale), start)
    crew.begin()
    try:
        if given.phase == "final":
            finishing(crew, given.jobs, start + 60 * given.minutes)
        else:
            with multiprocessing.get_context("spawn").Pool(min(4, given.workers)) as pool:
                prices = Prices(pool, given.out / "prices.jsonl", given.prices)
                first = json.loads(given.first.read_text()) if given.first else {}
                searching(crew, prices, set(given.products.split(",")), (start, given.minutes), first)
    finally:
        crew.end()
        if given.pack is not None:
            pack(given.out, given.pack)
    good = [row for row in crew.finished.values() if not row["note"]]
    seconds, steps = time.monotonic() - start, sum(row["measures"]["steps"] for row in good)
    print(f"{len(good)} of {len(crew.finished)} trainings, {steps:.0f} steps, done in {seconds:.0f} s")


if __name__ == "__main__":
    main()
