# SPDX-License-Identifier: Apache-2.0
"""Claim: migrate finds every seeded defect on its line, raises no false alarm, and keeps every network as it computes.

More than forty networks (those in AWS's tables of inference benchmarks, our own, and others) and one small network per
statically checkable error code. Each goes through the whole of `sirdar migrate`: findings, rewrites, formats, costs,
artefacts; every file that is written is run and compared. All but the largest go to an Ethos-U as well: either an int8
file is written, run by LiteRT and compiled by Vela, or a finding says what no such file holds. Weights are random:
nothing is downloaded and no data is needed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from migration_models import MODELS, Entry
from store import bar, store

from sirdar.deploy.artefacts import Artefact, write_all
from sirdar.deploy.migrate import Migration, migrate
from sirdar.deploy.vendor import PLANNED
from sirdar.testing.defects import DEFECTS, Defect

NPU = "ethos-u85-512"
TOO_LARGE = ("bert-base",)  # for a chip of half a TOP/s


def main() -> None:
    """Defects, then models, then the bars; `--only` runs some models and stores nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, help="names of models and defects; stores nothing")
    parser.add_argument("--part", type=Path, help="file that keeps what has been measured, to go on after a stop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done: dict[str, Any] = {"models": {}, "int8": {}, "defects": {}}
    if arguments.part and arguments.part.exists():
        done = json.loads(arguments.part.read_text())
    small = [entry for entry in MODELS if entry.name not in TOO_LARGE]
    for kind, rows, measure in (("models", MODELS, model), ("int8", small, int8), ("defects", DEFECTS, defect)):
        for row in rows:
            if row.name in done[kind] or (arguments.only is not None and row.name not in arguments.only):
                continue
            done[kind][row.name] = measure(row)
            print(json.dumps({row.name: done[kind][row.name]}, default=str), flush=True)
            if arguments.part:
                arguments.part.write_text(json.dumps(done))
    if arguments.only is not None:
        sys.exit(0)
    store(
        "migration/corpus",
        "every seeded defect is found on its line, no published model is refused, every network computes what it did",
        "python benchmarks/migration_corpus.py",
        done,
        [*bars(done["models"], done["defects"]), *int8_bars(done["int8"])],
    )


def model(entry: Entry) -> dict[str, Any]:
    """What migrate says of one model, and how long it took."""
    module, example = entry.make()
    began, used = time.perf_counter(), time.process_time()
    made = migrate(module, example, chip=entry.chip, current="t4", tolerance=entry.tolerance)
    report_s, report_cpu_s = time.perf_counter() - began, time.process_time() - used
    files, files_s = files_of(made)
    plan = made.plan
    formats: dict[str, int] = {}
    for layer in plan.layers if plan is not None else ():
        formats[layer.format] = formats.get(layer.format, 0) + 1
    return {
        "chip": entry.chip,
        "published": entry.published,
        "parameters": sum(weight.numel() for weight in module.parameters()),
        "runs": made.runs,
        "errors": [f"{row.rule} {row.location} {row.detail}" for row in made.findings if row.severity == "error"],
        "warnings": [f"{row.rule} {row.detail}" for row in made.findings if row.severity == "warning"],
        "notes": sorted({f"{row.rule} {row.detail}" for row in made.findings if row.severity == "note"}),
        "said": list(made.notes),
        "rewrites": [row.sentence for row in made.rewrites],
        "undone": [f"{row.name}: {row.sentence}" for row in made.undone],
        "difference": made.difference,
        "tolerance": entry.tolerance,
        "plan_error": None if plan is None else plan.error,
        "plan_met": None if plan is None else plan.met,
        "formats": formats,
        "storage": None if plan is None else plan.formats.storage,
        "planned_error": next((row.difference for row in files if row.name == PLANNED), None),
        "files": {row.name: row.problem or row.difference for row in files},
        "report_s": round(report_s, 2),
        "report_cpu_s": round(report_cpu_s, 2),
        "files_s": files_s,
    }


def files_of(made: Migration) -> tuple[tuple[Artefact, ...], float]:
    """All files of a migration, and the seconds they took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        return write_all(made, Path(folder)), round(time.perf_counter() - began, 2)


def int8(entry: Entry) -> dict[str, Any]:
    """The same model on an Ethos-U: an int8 file that was run and compiled, or what no such file holds."""
    module, example = entry.make()
    made = migrate(module, example, chip=NPU, tolerance=0.1)
    files, files_s = files_of(made)
    by_name = {row.name: row for row in files}
    return {
        "runs": made.runs,
        "changes": list(made.changes),
        "difference": made.difference,
        "emulated_error": None if made.plan is None else made.plan.error,
        "int8_error": by_name["network.tflite"].difference if "network.tflite" in by_name else None,
        "vela": by_name["network_vela.tflite"].check if "network_vela.tflite" in by_name else None,
        "problems": {row.name: row.problem for row in files if row.problem},
        "files_s": files_s,
    }


def defect(row: Defect) -> dict[str, Any]:
    """Whether a seeded defect is found on its line."""
    module, example = row.module().eval(), row.example()
    given = module if row.dynamic is None else torch.export.export(module, example, dynamic_shapes=row.dynamic)
    made = migrate(given, example, chip=row.chip)
    found = [item for item in made.findings if item.rule == row.rule and row.code in item.codes]
    lines = [None if item.location is None else item.location.line for item in found]
    others = [item.rule for item in made.findings if item.severity == "error" and item.rule != row.rule]
    return {
        "code": row.code,
        "found": bool(found),
        "right_line": row.line in lines,
        "mended": made.runs,
        "meant_to_be_mended": row.rewritten,
        "difference": made.difference,
        "others": others,
    }


def bars(models: dict[str, Any], defects: dict[str, Any]) -> list[dict[str, Any]]:
    """The bars of the issue."""
    rows = list(models.values())
    published = [row for row in rows if row["published"]]
    plans = [row for row in rows if row["plan_met"] is not None]
    written = [value for row in rows for value in row["files"].values()]
    carried = [(row["planned_error"], row["tolerance"]) for row in rows if PLANNED in row["files"]]
    narrow = [row for row in plans if any(name in ("e4m3", "e4m3fn", "e5m2") for name in row["formats"])]
    return [
        bar("models", float(len(rows)), 40, better="higher"),
        bar("defects", float(len(defects)), 25, better="higher"),
        bar("compiler codes", float(len({row["code"] for row in defects.values()})), 25, better="higher"),
        bar("defects found", _share(row["found"] for row in defects.values()), 1, better="higher"),
        bar("defects on the right line", _share(row["right_line"] for row in defects.values()), 1, better="higher"),
        bar("published models", float(len(published)), 10, better="higher"),
        bar(
            "published models with an error or a warning",
            float(sum(bool(row["errors"] or row["warnings"]) for row in published)),
            0,
        ),
        bar("largest difference after rewriting", max(row["difference"] for row in (*rows, *defects.values())), 1e-5),
        bar("plans within their tolerance", _share(row["plan_met"] for row in plans), 1, better="higher"),
        bar(
            "plans with 8-bit layers within their tolerance",
            _share(row["plan_met"] for row in narrow),
            1,
            better="higher",
        ),
        bar("plans carried out by casts", float(len(carried)), 20, better="higher"),
        bar(
            "plans carried out by casts and run within their tolerance",
            _share(error is not None and error <= tolerance for error, tolerance in carried),
            1,
            better="higher",
        ),
        bar("files written and compared", _share(not isinstance(value, str) for value in written), 1, better="higher"),
        bar("CPU seconds of BERT-base, one thread", models["bert-base"]["report_cpu_s"], 20),
        bar("CPU seconds of the slowest, one thread", max(row["report_cpu_s"] for row in rows), 60),
    ]


def int8_bars(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """The bars of the int8 files."""
    written = [row for row in rows.values() if row["int8_error"] is not None]
    left = [row for row in rows.values() if row["int8_error"] is None]
    return [
        bar("int8 files run by LiteRT and compared", float(len(written)), 10, better="higher"),
        bar(
            "int8 files that differ by at most a tenth",
            _share(row["int8_error"] <= 0.1 for row in written),
            1,
            better="higher",
        ),
        bar("int8 files compiled by Vela", _share(row["vela"] for row in written), 1, better="higher"),
        bar("networks without an int8 file that say why", _share(row["changes"] for row in left), 1, better="higher"),
    ]


def _share(values: Any) -> float:  # noqa: ANN401
    listed = list(values)
    return sum(map(bool, listed)) / max(1, len(listed))


if __name__ == "__main__":
    main()
