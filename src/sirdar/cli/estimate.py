# SPDX-License-Identifier: Apache-2.0
"""`sirdar estimate`: what a network costs on chips, layer by layer, before it runs on any."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options

_DTYPE = "Number format, bf16 if omitted; a chip without it takes the next one it has."
_MODEL = "Folder of a saved forecaster or camera network, package.module:factory[@weights.safetensors], or network.pt2."


def estimate(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    chip: Annotated[
        list[str] | None, typer.Option(help="Name or TOML file of a chip, repeated; trainium1 if omitted.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help=_DTYPE)] = None,
    batch: Annotated[int | None, typer.Option(help="Examples in one run; as in the example inputs if omitted.")] = None,
    layers: Annotated[int, typer.Option(min=0, help="How many of the slowest layers to list.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for estimate.json with every layer; none if omitted.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Estimate seconds, joules and bytes of one run of a network on chips; of a saved MQ-CNN on an Ethos-U, its core.

    Examples:
        sirdar estimate mypackage.models:resnet --chip trainium1 --chip a100 --batch 8 --layers 10

        sirdar estimate plan/model --chip drawing-board.toml --dtype fp32
    """
    from sirdar.chips import load
    from sirdar.deploy.estimating import has_compiler
    from sirdar.recipes import advise
    from sirdar.recipes.files import finite, output_folder, write_json
    from sirdar.recipes.saved import saved_core
    from sirdar.recipes.vision_saved import camera_file

    wanted = chip or ["trainium1"]
    for name in wanted:  # a slip is refused before the network is traced
        advise.format_on(load(name), dtype)
    forecaster = Path(model).is_dir() and camera_file(model) is None
    cored = {name for name in wanted if forecaster and has_compiler(load(name))}
    core = saved_core(Path(model), batch or 1) if cored else None
    graph = core if core and cored == set(wanted) else advise.network(model, batch)
    made = [advise.estimate(core if core and name in cored else graph, name, dtype) for name in wanted]
    said = f", for the core and a batch of {batch or 1}: a host scales demand before it and makes quantiles after it"
    made = [
        replace(row, method=row.method + said) if name in cored else row for row, name in zip(made, wanted, strict=True)
    ]
    content = finite({"model": model, "estimates": [row.to_dict() for row in made]})
    if out is not None:
        with output_folder(out) as scratch:
            write_json(content, scratch / "estimate.json")
    if as_json:
        options.print_json(content)
        return
    _show(graph.name, made, layers)
    for method in dict.fromkeys(row.method for row in made):
        chips = ", ".join(row.chip for row in made if row.method == method)
        sys.stdout.write(f"* {chips}: estimated by {method}.\n")
    for row, name in zip(made, wanted, strict=True):
        if not row.fits or load(name).kind == "npu":
            sys.stdout.write(f"* {row.fit}.\n")
        if row.least_peak_bytes < row.cost.peak_bytes:
            share = row.least_peak_bytes / row.cost.peak_bytes
            sys.stdout.write(f"* In another order of operators, activations take {share:.1%} of that on {row.chip}.\n")
    for name in graph.unknown:
        sys.stdout.write(f"* The work of {name} is not counted.\n")


def _show(title: str, made: list, layers: int) -> None:  # of recipes' Estimate, which would load torch for --help
    from sirdar.report.amounts import duration, number

    rows = [
        [
            row.chip,
            row.dtype,
            duration(row.cost.latency_s),
            f"{number(row.joules[1])} ({number(row.joules[0])} to {number(row.joules[2])})",
            number(row.cost.energy_j),
            f"{number(row.cost.parameter_bytes / 2**20)} MiB",
            f"{number(row.cost.peak_bytes / 2**20)} MiB",
            "yes" if row.fits else "no",
        ]
        for row in made
    ]
    columns = ["chip", "dtype", "time", "joules by layer", "at full power", "weights", "activations", "fits"]
    options.print_table(f"{title}: one run, estimated", columns, rows)
    for row in made if layers else []:
        slowest = sorted(row.layers, key=lambda layer: -layer["seconds"])[:layers]
        body = [
            [
                layer["module"] or "–",
                layer["name"],
                layer["kind"],
                duration(layer["seconds"]),
                layer["bound"],
                number(layer["joules"]),
            ]
            for layer in slowest
        ]
        columns = ["layer", "operator", "kind", "time", "bound by", "joules"]
        options.print_table(f"{row.chip}: slowest layers", columns, body)
