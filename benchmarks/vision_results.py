# SPDX-License-Identifier: Apache-2.0
"""What the three search benchmarks have in common: final trainings read back, int8 files run, intervals, timings."""

import io
import json
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from sirdar.deploy.compiled import compile_tflite
from sirdar.deploy.tflite import predict, save, write
from sirdar.recipes.vision_product import Product, ProductTask, bytes_of
from sirdar.search.expert import find_rules
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.space import Candidate
from sirdar.search.task import Trial
from sirdar.vision.checkpoint import load_network

INT8_SEEDS = 3


@dataclass(frozen=True)
class Role:
    """One network of the final phase.

    Args:
        name: "baseline", "V3", "searched", "A", ...
        candidate: what it is.
        scores: on held-out data in floating point, one per seed.
        weights: files of the seeds whose weights were kept.
    """

    name: str
    candidate: Candidate
    scores: tuple[float, ...]
    weights: tuple[Path, ...]


def finals(runs: Path, product: Product) -> dict[str, Role]:
    """The networks of the final phase by name.

    Args:
        runs: folder with `final/results.jsonl` and `final/weights*.tar`.
        product: whose.
    """
    unpacked = runs / "unpacked"
    for part in sorted((runs / "final").glob("weights*.tar")):
        with tarfile.open(fileobj=io.BytesIO(part.read_bytes())) as tar:
            tar.extractall(unpacked, filter="data")
    rows = [json.loads(line) for line in (runs / "final" / "results.jsonl").read_text().splitlines()]
    own = [row for row in rows if row["job"]["product"] == product.name and not row["note"]]
    own.sort(key=lambda row: row["job"]["seed"])
    roles: dict[str, Role] = {}
    for name in dict.fromkeys(row["job"]["arm"] for row in own):
        mine = [row for row in own if row["job"]["arm"] == name]
        files = tuple(path for row in mine if (path := unpacked / f"{row['key']}.safetensors").exists())
        scores = tuple(float(row["measures"][product.metric]) for row in mine)
        roles[name] = Role(name, product.space.candidate(mine[0]["job"]["values"]), scores, files[:INT8_SEEDS])
    return roles


def trained(product: Product, role: Role, place: int) -> nn.Module:
    """A trained network of the final phase, in evaluation mode."""
    network = product.network(role.candidate)
    load_network(role.weights[place], network)
    return network.eval()


def interval(scores: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % Student interval over seeds."""
    values = np.array(scores)
    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": len(values)}


def int8_file(network: nn.Module, calibration: Tensor, batch: int = 1) -> bytes:
    """The int8 TFLite file of a network for a batch; scales from the calibration images, the same for every batch."""
    return write(network, calibration[:batch], [calibration])


def int8_outputs(file: bytes, images: Tensor, batch: int) -> list[tuple[Tensor, ...]]:
    """What the file computes for images in -1..1, run by LiteRT in batches; the last is filled up with its end."""
    found: list[tuple[Tensor, ...]] = []
    for begin in range(0, len(images), batch):
        part = images[begin : begin + batch]
        full = torch.cat([part, part[-1:].expand(batch - len(part), *part.shape[1:])])
        found.append(tuple(out[: len(part)] for out in predict(file, full)))
    return found


def compiled(product: Product, role: Role, file: bytes) -> dict[str, float]:
    """Vela's estimates for the trained int8 file, and the bytes of parameters."""
    report = compile_tflite(file, product.chip)
    parameters = bytes_of(product.network(role.candidate))
    return {
        "latency_s": report.latency_s,
        "peak_bytes": float(report.sram_bytes),
        "parameter_bytes": float(parameters),
        "memory_bytes": float(report.sram_bytes + parameters),
        "macs": float(report.macs),
        "host_operators": float(report.host_operators),
    }


def timed(files: dict[str, bytes], rounds: int = 30) -> dict[str, float]:
    """Seconds per run of each int8 file by LiteRT on this CPU, one thread: least of `rounds`, files taking turns."""
    from ai_edge_litert.interpreter import Interpreter

    runs: dict[str, Any] = {}
    for name, file in files.items():
        runs[name] = Interpreter(model_content=file, num_threads=1)
        runs[name].allocate_tensors()
    least = dict.fromkeys(files, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run.invoke()
            least[name] = min(least[name], time.perf_counter() - begin)
    return least


def cpu_seconds_per_step(task: ProductTask, candidate: Candidate, steps: int = 3) -> float:
    """Seconds of one optimiser step of a search's training on one core of this CPU."""
    from dataclasses import replace

    torch.set_num_threads(1)
    short = ProductTask(task.product, task.data, replace(task.schedule, steps=steps + 1))
    _, first = ProductTask(task.product, task.data, replace(task.schedule, steps=1)).trained(candidate, 0)
    _, all_of_them = short.trained(candidate, 0)
    return (all_of_them - first) / steps


def search_facts(runs: Path, product: Product, arms: Sequence[str]) -> dict[str, Any]:
    """What the search did: trainings, steps and device seconds by evolution, and the best validation scores."""
    rows = [json.loads(line) for line in (runs / "search" / "results.jsonl").read_text().splitlines()]
    facts: dict[str, Any] = {}
    for arm in arms:
        mine = [r for r in rows if r["job"]["arm"] == arm and r["job"]["product"] == product.name and not r["note"]]
        longer = [r for r in rows if r["job"]["arm"] == f"{arm}-longer" and r["job"]["product"] == product.name]
        curve = np.maximum.accumulate([r["measures"][product.metric] for r in mine]) if mine else np.zeros(1)
        facts[arm] = {
            "candidates": len(mine),
            "steps_each": mine[0]["measures"]["steps"] if mine else 0,
            "trained_longer": len(longer),
            "device_s": round(sum(r["seconds"] for r in (*mine, *longer)), 1),
            "best_validation": round(float(curve[-1]), 4),
            "best_after_a_third": round(float(curve[len(curve) // 3]), 4),
        }
    return facts


def rules_found(runs: Path, product: Product, arms: Sequence[str]) -> list[str]:
    """The patterns that the best quarter of the searches' candidates share, as sentences."""
    rows = [json.loads(line) for line in (runs / "search" / "results.jsonl").read_text().splitlines()]
    goal = Objectives((Objective(product.metric, "maximise"),))
    tried = []
    for arm in arms:
        mine = [r for r in rows if r["job"]["arm"] == arm and r["job"]["product"] == product.name and not r["note"]]
        trials = [
            Trial(place, product.space.candidate(row["job"]["values"]), row["measures"])
            for place, row in enumerate(mine)
        ]
        tried.append((product.space, goal, trials))
    return [str(rule) for rule in find_rules(tried)]


def parser_of(text: str | None) -> Any:  # noqa: ANN401 - argparse's parser
    """The arguments of the three benchmarks."""
    import argparse

    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--data", type=Path, help="folder of the image archives")
    parser.add_argument("--runs", type=Path, help="folder with search/ and final/ as vision_training.py packs them")
    parser.add_argument("--save", type=Path, help="where the winner's safetensors, ONNX and TFLite files go")
    return parser


def given_or_skipped(parser: Any) -> Any:  # noqa: ANN401 - argparse's namespace
    """The arguments, or None with a sentence when there is nothing to work on."""
    given = parser.parse_args()
    if given.data is None or given.runs is None:
        print("skipped: give --data (image archives) and --runs (trainings of vision_training.py)")
        return None
    return given


def keep(folder: Path | None, product: Product, files: dict[str, bytes]) -> None:
    """Writes the int8 files into a folder, if one is given."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            save(file, folder / f"{product.name}-{name}.tflite")


def claim(text: str | None) -> str:
    """The claim of a module's docstring: its first paragraph."""
    return (text or "").split("\n\n")[0].removeprefix("Claim: ").replace("\n", " ")
