# SPDX-License-Identifier: Apache-2.0
"""Claim: whole tiles and a few fitted shares say what a chip takes for networks that the fit has not seen.

Four checks. The staircases of SCALE-Sim (3x3 convolution, 32 channels in, 32 x 32 positions, 32 x 32 array) and the
published rule of the tensor engine need no data. With `--data DIR` (a folder with `neuron/` and `llmcompass/`): A100
kernels, each predicted from the other kernels of its kind; and AWS's rows, every architecture predicted from the
others, beside a bare roofline. Writes `results/chips/analytic.json`.
"""

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from chips_neuron import CORES, Step, steps
from scipy.stats import spearmanr
from store import bar, store

from sirdar.chips.array import Array, Product
from sirdar.chips.calibration import Calibration, Parts, calibrate
from sirdar.chips.chip import Chip
from sirdar.chips.reading import load
from sirdar.chips.tiled import fitted as fitted_shares
from sirdar.chips.tiled import ideal

STAIRCASE = {8: 10_061, 32: 10_061, 33: 20_123, 64: 20_123, 65: 30_185, 96: 30_185}  # SCALE-Sim 3.0.0, total cycles
TENSOR_ENGINE = {(512, "bf16"): 512, (100, "bf16"): 100, (1, "bf16"): 64, (512, "fp32"): 2048}  # max(N, 64), fp32 x 4
CHIPS = {"inf1": "inferentia1", "inf2": "inferentia2", "trn1": "trainium1"}
KERNEL_DTYPE = "fp16"


def main() -> None:
    """Check all four, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with neuron/ and llmcompass/")
    data = parser.parse_args().data
    if data is None or not all((data / name).is_dir() for name in ("neuron", "llmcompass")):
        print("skipped: give --data DIR with neuron/ and llmcompass/, which are not in the project")
        return
    cycles, engine = staircase(), tensor_engine()
    kernels = a100(data / "llmcompass")
    rows, shares = neuron(data / "neuron" / "neuron_benchmarks_unified.csv")
    report(cycles, engine, kernels, rows, shares)


def staircase() -> dict[int, float]:
    """Cycles by channels out."""
    array = Array(32, 32, 1e9, hidden_load=False)
    return {columns: array.cycles(Product(32 * 32, 9 * 32, columns)) for columns in STAIRCASE}


def tensor_engine() -> dict[str, float]:
    """Cycles of one 128 x 128 tile of weights by columns of the moving tile and format, of one core of Trainium."""
    array = load("trainium1").blocks.array()
    one = replace(array, count=1)
    return {f"{n} {dtype}": one.cycles(Product(n, 128, 128), dtype) for n, dtype in TENSOR_ENGINE}


def a100(folder: Path) -> dict[str, dict[str, Any]]:
    """Every kernel from the others of its kind: error of the prediction, and of the bare roofline."""
    chip = load("a100")
    chip = replace(chip, bandwidth_bytes_per_s=replace(chip.bandwidth_bytes_per_s, value=2.039e12))  # the 80 GB model
    found: dict[str, dict[str, Any]] = {}
    for kind, measured in kernels(folder, chip).items():
        parts, seconds = [p for p, _ in measured], [s for _, s in measured]
        guesses = [calibrate(rest(parts, i), rest(seconds, i)).seconds(parts[i]) for i in range(len(parts))]
        roof = [max(p.array + p.vector, p.weights + p.activations) for p in parts]
        found[kind] = {"kernels": len(parts), "errors": errors(guesses, seconds), "roofline": errors(roof, seconds)}
    return found


def rest(items: Sequence[Any], place: int) -> list[Any]:
    """All but one."""
    return [item for index, item in enumerate(items) if index != place]


def errors(guesses: Sequence[float], truths: Sequence[float]) -> list[float]:
    """Relative, without sign."""
    return [round(abs(guess / truth - 1), 4) for guess, truth in zip(guesses, truths, strict=True)]


def kernels(folder: Path, chip: Chip) -> dict[str, list[tuple[Parts, float]]]:
    """Ideal times and seconds of every kernel by kind."""
    array, bandwidth, vector = chip.blocks.array(), chip.bandwidth_bytes_per_s.value, chip.vector_flops_per_s.value
    found: dict[str, list[tuple[Parts, float]]] = defaultdict(list)
    for rows, depth, columns, ms, _ in table(folder / "matmul_A100.csv"):
        shape = [int(rows), int(depth), int(columns)]
        moved = 2 * (shape[0] * shape[1] + shape[1] * shape[2] + shape[0] * shape[2])
        work = array.seconds(Product(*shape), KERNEL_DTYPE)
        found["matmul"].append((Parts(array=work, activations=moved / bandwidth, operators=1), float(ms[:-2]) / 1e3))
    for kind, flops in (("softmax", 5), ("layernorm", 7), ("gelu", 8)):
        for *shape, giga_per_s in table(folder / f"{kind}_A100.csv"):
            values = int(np.prod([int(size) for size in shape]))
            moved = Parts(vector=flops * values / vector, activations=4 * values / bandwidth, operators=1)
            found[kind].append((moved, values / (float(giga_per_s) * 1e9)))
    return found


def table(path: Path) -> Iterator[list[str]]:
    """Rows of a file without a header."""
    with path.open(encoding="utf-8") as file:
        yield from ([cell.strip() for cell in row] for row in csv.reader(file) if row)


def core(name: str, active: int | None = None) -> Chip:
    """One core of a chip: its share of the arrays and of memory; bandwidth is shared by the cores that are at work."""
    chip, cores = load(CHIPS[name]), CORES[name]

    def shared(number: Any, among: int = cores) -> Any:  # noqa: ANN401 - a Number or None
        return number and replace(number, value=number.value / among)

    blocks = chip.blocks
    if blocks is not None:
        part = blocks.parts["array"]
        one = replace(part, numbers={key: number for key, number in part.numbers.items() if key != "count"})
        blocks = replace(blocks, parts={"array": one})
    own: dict[str, Any] = {
        key: shared(getattr(chip, key)) for key in ("vector_flops_per_s", "memory_bytes", "sram_bytes")
    }
    own["bandwidth_bytes_per_s"] = shared(chip.bandwidth_bytes_per_s, active or cores)
    peaks = {dtype: shared(number) for dtype, number in chip.flops_per_s.items()}
    return replace(chip, flops_per_s=peaks, blocks=blocks, fitted={}, **own)


def neuron(path: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Every row predicted without its architecture, and the shares fitted to all rows of a kind."""
    work = [(row, whole(row, core(row.chip, row.active))) for row in steps(path)]
    groups: dict[str, list[tuple[Step, Parts]]] = defaultdict(list)
    for row, parts in work:
        groups[f"{row.kind} on {'NeuronCore v1' if row.chip == 'inf1' else 'NeuronCore v2'}"].append((row, parts))
    sheet = {name: fitted_shares(load(chip)) for name, chip in CHIPS.items()}
    found: list[dict[str, Any]] = []
    shares: dict[str, dict[str, float]] = {}
    for group, members in groups.items():
        shares[group] = asdict(fit(members))
        for architecture in sorted({row.architecture for row, _ in members}):
            others = [pair for pair in members if pair[0].architecture != architecture]
            fitted = fit(others) if others else Calibration()
            for row, parts in members:
                if row.architecture == architecture:
                    found.append(predicted(row, parts, fitted, group))
                    found[-1]["catalogue_per_s"] = round(row.items * row.groups / sheet[row.chip].seconds(parts), 4)
    everything = [pair for name in ("encoder", "convolution") for pair in groups[f"{name} on NeuronCore v2"]]
    shares["encoder and convolution on NeuronCore v2"] = asdict(fit(everything))
    old = [pair for name in ("encoder", "convolution") for pair in groups[f"{name} on NeuronCore v1"]]
    shares["encoder and convolution on NeuronCore v1"] = asdict(fit(old))
    return found, shares


def whole(row: Step, chip: Chip) -> Parts:
    """Ideal times of one step."""
    parts = sum((ideal(graph, chip, row.dtype).times(count) for graph, count in row.graphs), Parts())
    return replace(parts, exchanges=row.exchanges, weights=0.0 if row.cached else parts.weights)


def fit(members: Sequence[tuple[Step, Parts]]) -> Calibration:
    """Shares of some rows."""
    return calibrate([parts for _, parts in members], [row.seconds for row, _ in members])


def predicted(row: Step, parts: Parts, fitted: Calibration, group: str) -> dict[str, Any]:
    """A row beside its prediction and its bare roofline, in results a second."""
    per_s = row.items * row.groups
    roofline = max(parts.array + parts.vector, parts.weights + parts.activations)
    return {
        "group": group,
        "model": row.model,
        "architecture": row.architecture,
        "instance": row.instance,
        "published_per_s": row.throughput,
        "predicted_per_s": round(per_s / fitted.seconds(parts), 4),
        "roofline_per_s": round(per_s / roofline, 4),
    }


def report(
    cycles: dict[int, float],
    engine: dict[str, float],
    kernels: dict[str, dict[str, Any]],
    rows: list[dict[str, Any]],
    shares: dict[str, dict[str, float]],
) -> None:
    """Store the bars."""
    steps_off = max(abs(cycles[columns] / truth - 1) for columns, truth in STAIRCASE.items())
    engine_off = max(abs(engine[f"{n} {d}"] / truth - 1) for (n, d), truth in TENSOR_ENGINE.items())
    kernel_error = statistics.median([error for kind in kernels.values() for error in kind["errors"]])
    published = [row["published_per_s"] for row in rows]
    guess, roof = ([row[f"{name}_per_s"] for row in rows] for name in ("predicted", "roofline"))
    # Seconds for each result, since that is what a network costs; an error in them is bounded for no rate.
    off = [p / g - 1 for p, g in zip(published, guess, strict=True)]
    factor = statistics.median([r / p for r, p in zip(roof, published, strict=True)])
    roof_off = statistics.median([abs(p / r - 1) for p, r in zip(published, roof, strict=True)])
    bars = [
        bar("SCALE-Sim staircase, worst error", steps_off, 0.05),
        bar("tensor engine's rule, worst error", engine_off, 0.0),
        bar("A100 kernels, median error", kernel_error, 0.2),
        bar("AWS's rows, architecture left out, median error", statistics.median(map(abs, off)), 0.2),
        bar("AWS's rows, Spearman", float(spearmanr(published, guess)[0]), 0.9, better="higher"),
    ]
    measured = {
        "staircase_cycles": cycles,
        "tensor_engine_cycles": engine,
        "a100_kernels": {
            kind: {
                "kernels": found["kernels"],
                "median_error": statistics.median(found["errors"]),
                "roofline_median_error": statistics.median(found["roofline"]),
            }
            for kind, found in kernels.items()
        },
        "rows": len(rows),
        "architectures": len({row["architecture"] for row in rows}),
        "roofline_median_error": round(roof_off, 4),
        "roofline_too_fast_by": round(factor, 2),
        "roofline_spearman": round(float(spearmanr(published, roof)[0]), 4),
        "median_error_by_group": by_group(rows, off),
        "shares_fitted_to_all": {k: {part: float(f"{v:.3g}") for part, v in row.items()} for k, row in shares.items()},
        "predictions": rows,
    }
    claim = "Whole tiles and a few fitted shares say what a chip takes for networks that the fit has not seen"
    store("chips/analytic", claim, "python benchmarks/chips_analytic.py --data DIR", measured, bars)


def by_group(rows: list[dict[str, Any]], off: Sequence[float]) -> dict[str, dict[str, float]]:
    """Rows and median error of every group."""
    found: dict[str, list[float]] = defaultdict(list)
    for row, error in zip(rows, off, strict=True):
        found[row["group"]].append(abs(error))
    return {name: {"rows": len(e), "median_error": round(statistics.median(e), 4)} for name, e in sorted(found.items())}


if __name__ == "__main__":
    main()
