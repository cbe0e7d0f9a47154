# SPDX-License-Identifier: Apache-2.0
"""What the three camera benchmarks say of a trained network: intervals, its int8 file, compiled and measured costs."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from store import bar
from torch import Tensor, nn
from vision_runs import Runs

from sirdar.deploy.compiled import compile_tflite
from sirdar.deploy.tflite import predict, write
from sirdar.recipes.vision_deploy import deliver
from sirdar.recipes.vision_product import Product
from sirdar.search.expert import find_rules
from sirdar.search.space import Candidate
from sirdar.vision.blocks import parameter_count

Calibration = Callable[[Candidate], Tensor]


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


def compiled(product: Product, candidate: Candidate, file: bytes) -> dict[str, float]:
    """Vela's estimates for a trained int8 file, the bytes of parameters as it stores them, and their number."""
    report = compile_tflite(file, product.chip)
    return {
        "latency_s": report.latency_s,
        "peak_bytes": float(report.peak_bytes),
        "parameters": float(parameter_count(product.network(candidate))),
        "parameter_bytes": float(report.parameter_bytes),
        "memory_bytes": float(report.peak_bytes + report.parameter_bytes),
        "macs": float(report.macs),
        "host_operators": float(report.host_operators),
    }


def timed(files: Mapping[str, bytes], rounds: int = 60) -> dict[str, float]:
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


def rows_of(runs: Runs, calibration: Calibration) -> dict[str, dict[str, Any]]:
    """All that is said of each network.

    Args:
        runs: all work done.
        calibration: images [image, 3, height, width] in -1..1 for a candidate.
    """
    product, metric = runs.plan.product, runs.plan.product.metric
    roles, rows = runs.roles(), {}
    files = {name: int8_file(runs.network(c, 0)[0], calibration(c)) for name, c in roles.items()}
    measured = timed(files)
    for name, candidate in roles.items():
        scores = runs.scores(candidate)
        rows[name] = {
            "choices": candidate.as_dict(),
            metric: interval([row[metric] for row in scores]),
            f"{metric}_int8": interval([row[f"{metric}_int8"] for row in scores]),
            "each_seed": scores,
            "compiled": compiled(product, candidate, files[name]),
            "litert_cpu_s": measured[name],
        }
    base = rows["baseline"]
    for row in rows.values():
        row["latency_cut"] = 1 - row["compiled"]["latency_s"] / base["compiled"]["latency_s"]
        row["memory_cut"] = 1 - row["compiled"]["memory_bytes"] / base["compiled"]["memory_bytes"]
        row["litert_cpu_cut"] = 1 - row["litert_cpu_s"] / base["litert_cpu_s"]
    return rows


def facts_of(runs: Runs, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The measured part of a benchmark's result."""
    tried = list(runs.studies().values())
    seconds = {name: sum(seed["cpu_s"] for seed in row["each_seed"]) for name, row in rows.items()}
    return {
        "rows": rows,
        "searches": runs.bills(),
        "rules_found": [str(rule) for rule in find_rules(tried)],
        "play_off": [dict(row, choices=candidate.as_dict()) for candidate, row in runs.play_off().items()],
        "cpu_hours_of_searches": sum(bill["spent"]["cpu_hours"] for bill in runs.bills().values())
        + sum(row["cpu_s"] for row in runs.play_off().values()) / 3600,
        "cpu_hours_of_final_trainings": sum(seconds.values()) / 3600,
        "search_schedule": vars(runs.plan.product.schedule),
        "final_schedule": vars(runs.plan.schedule),
    }


def time_bar(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The bar on the time of all searches and final trainings together."""
    hours = facts["cpu_hours_of_searches"] + facts["cpu_hours_of_final_trainings"]
    return bar("hours of all searches and final trainings on 2 cores (CPU time / 2)", hours / 2, 2.0)


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """The arguments of the three benchmarks."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--data", type=Path, help="folder of the image archives")
    parser.add_argument("--runs", type=Path, help="folder that keeps searches and trainings")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no further job begins")
    parser.add_argument("--save", type=Path, help="where the winner's safetensors, ONNX and TFLite files go")
    return parser


def given_or_skipped(parser: argparse.ArgumentParser) -> argparse.Namespace | None:
    """The arguments, or None with a sentence when there is nothing to work on."""
    given = parser.parse_args()
    if given.data is None or given.runs is None:
        print("skipped: give --data (image archives) and --runs (a folder for trainings)")
        return None
    return given


def keep(folder: Path | None, runs: Runs, role: str, calibration: Calibration) -> None:
    """Writes a network in every form into a folder, if one is given."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        candidate = runs.roles()[role]
        deliver(runs.plan.product, candidate, runs.network(candidate, 0)[0], calibration(candidate), folder)


def claim(text: str | None) -> str:
    """The claim of a module's docstring: its first paragraph."""
    return (text or "").split("\n\n")[0].removeprefix("Claim: ").replace("\n", " ")
