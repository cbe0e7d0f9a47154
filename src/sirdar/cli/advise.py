# SPDX-License-Identifier: Apache-2.0
"""`sirdar advise`: which instance to rent for a volume of work."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options
from sirdar.cli.estimate import _DTYPE, _MODEL


def advise(  # noqa: PLR0913 - one argument per option
    model: Annotated[str, typer.Argument(help=_MODEL)],
    volume: Annotated[float | None, typer.Option(help="Examples in one go, such as a night's forecasts.")] = None,
    per_second: Annotated[float | None, typer.Option(help="Requests a second, all day; instead of --volume.")] = None,
    latency: Annotated[float | None, typer.Option(help="Seconds that a batch may take; any if omitted.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples in one run; as in the example inputs if omitted.")] = None,
    chip: Annotated[
        list[str] | None, typer.Option(help="Name or TOML file of a chip, repeated; all that are rented if omitted.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help=_DTYPE)] = None,
    region: Annotated[str, typer.Option(help="Of prices and of the grid.")] = "us-east-1",
    current: Annotated[
        str | None, typer.Option(help="The instance in use, such as g5.xlarge, to compare with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.html and advice.json; none if omitted.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Rank instances for a network and a volume by price, energy, carbon and latency, and say why the others lost.

    Examples:
        sirdar advise plan/model --volume 400000000 --current g5.xlarge --out advice

        sirdar advise mypackage.models:bert --per-second 1000 --batch 8 --latency 0.1 --json
    """
    from sirdar.chips import load
    from sirdar.chips.advisor import require_positive
    from sirdar.deploy.estimating import has_compiler
    from sirdar.errors import ArgumentError, UnsupportedError
    from sirdar.recipes import advise as recipe
    from sirdar.recipes.files import finite, output_folder, write_json
    from sirdar.recipes.vision_saved import camera_file

    if (volume is None) == (per_second is None):
        msg = f"one of --volume and --per-second must be given, got {volume} and {per_second}"
        raise ArgumentError(msg)
    for value, option in ((volume, "--volume"), (per_second, "--per-second"), (latency, "--latency")):
        if value is not None:  # a slip is refused before the network is traced
            require_positive(value, option)
    for name in chip or ():
        recipe.format_on(load(name), dtype)
    forecaster = Path(model).is_dir() and camera_file(model) is None
    devices = [name for name in chip or () if forecaster and has_compiler(load(name))]
    left = f"{', '.join(devices)}: not ranked, as it runs an MQ-CNN's core alone, which sirdar estimate prices."
    if devices and set(devices) == set(chip or ()):
        raise UnsupportedError(left.removesuffix("."))
    chip = [name for name in chip if name not in devices] if chip else None
    graph = recipe.network(model, batch)
    ranking = recipe.advise(
        graph, per_day=volume, per_s=per_second, chips=chip, dtype=dtype, region=region, latency_s=latency
    )
    ranking = replace(ranking, assumptions=(*ranking.assumptions, *([left] if devices else [])))
    content = finite({"model": model, **recipe.summary(ranking, current)})
    if out is not None:
        with output_folder(out) as scratch:
            write_json(content, scratch / "advice.json")
            (scratch / "report.html").write_text(recipe.page(ranking, graph, current), encoding="utf-8")
    if as_json:
        options.print_json(content)
        return
    _show(ranking, content["saving"])


def _show(ranking, saving: dict | None) -> None:  # noqa: ANN001 - its type would load the chips for --help
    from sirdar.report.amounts import duration, number
    from sirdar.units import kwh

    rows = [
        [
            row.chip,
            row.instance or "–",
            f"{row.machines}" if ranking.daily else duration(row.seconds),
            row.dtype,
            "–" if row.price_usd is None else f"${number(row.price_usd)}",
            number(kwh(row.energy_j)),
            number(row.grams_co2),
            duration(row.latency_s),
            "*" if row.pareto else "",
            row.reason,
        ]
        for row in ranking.options
    ]
    held, day = ("machines", " a day") if ranking.daily else ("time", "")
    amounts = [f"{amount}\n{day.strip()}" if day else amount for amount in ("price", "kWh", "g CO2")]
    columns = ["chip", "instance", held, "dtype", *amounts, "latency", "front", "why not"]
    options.print_table("Chips, best first (estimates)", columns, rows)
    if saving:
        sys.stdout.write(
            f"{saving['to']} instead of {saving['instance']} saves {saving['price']:.0%} of the price "
            f"(${saving['price_usd']:.2f}{day}), {saving['energy']:.0%} of the energy.\n"
        )
    for row in ranking.options:
        for note in row.notes:
            if "estimated by" in note:
                sys.stdout.write(f"* {row.chip}: {note}.\n")
    for sentence in ranking.assumptions:
        sys.stdout.write(f"* {sentence}\n")
