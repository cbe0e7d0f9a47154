# SPDX-License-Identifier: Apache-2.0
"""`sirdar search`: the network that fits a chip."""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sirdar.cli import options

if TYPE_CHECKING:
    from sirdar.report.search import SearchReport
    from sirdar.search.spent import Spent
    from sirdar.search.study import Study

PRODUCTS = ("forecaster", "detection", "classification", "segmentation")


def search(  # noqa: PLR0913 - one argument per option
    product: Annotated[str, typer.Argument(help=f"What is searched: {', '.join(PRODUCTS)}.")],
    source: Annotated[
        Path | None, typer.Argument(help="A table for the forecaster, a folder of images for the others.")
    ] = None,
    chip: Annotated[
        str, typer.Option(help="A name of the catalogue, or ethos-u85-512 and the like.")
    ] = "ethos-u85-512",
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, repeated: latency_s, energy_j, peak_bytes, parameter_bytes, memory_bytes, macs."
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(help="random, evolution, nsga-ii, tpe, reinforce, zero-shot, single-shot or hybrid."),
    ] = "evolution",
    trials: Annotated[int, typer.Option(help="Candidates to train, those found in the storage included.")] = 12,
    storage: Annotated[
        str | None,
        typer.Option(help="SQLite file or database URL; a search that was killed goes on from it."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report.html and study.json.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Search the network that does a product's task best within what a chip allows.

    Candidates beyond a limit are never trained. A limit that none can keep ends with the nearest that can be had.

    Examples:
        sirdar search forecaster demand.parquet --chip trainium1 --limit latency_s=3e-4 --out searched

        sirdar search classification photos --chip ethos-u55-256 --limit memory_bytes=200000 --strategy hybrid
    """
    from sirdar.errors import ArgumentError, nearest, require_positive_integer

    if product not in PRODUCTS:
        msg = f"product {product!r} is not known; known are {', '.join(PRODUCTS)}.{nearest(product, PRODUCTS)}"
        raise ArgumentError(msg)
    require_positive_integer(trials, "trials")
    recipe: Any = import_module(f"sirdar.recipes.{product}")
    study = recipe.search_product(
        source, chip, limits(limit), strategy=strategy, trials=trials, seed=seed, storage=storage
    )
    content = study.to_dict()
    if out is not None:
        _write(study, content, out, product)
    if as_json:
        options.print_json(content)
        return
    _show(study)


def limits(items: Sequence[str] | None) -> dict[str, float]:
    """NAME=VALUE items as numbers by name."""
    found: dict[str, float] = {}
    for item in items or ():
        name, _, value = item.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            msg = f"--limit must be NAME=VALUE with a number, got {item!r}"
            raise typer.BadParameter(msg) from error
    return found


def read_json(path: Path) -> Mapping[str, Any]:
    """One JSON object of a file.

    Raises:
        DataError: it holds none.
    """
    from sirdar.errors import DataError

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} holds no JSON: {error}"
        raise DataError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} must hold one JSON object, got {type(content).__name__}"
        raise DataError(msg)
    return content


def report_of(study: "Study", product: str) -> "SearchReport":
    """What the page shows of a study."""
    from sirdar.report.search import Point, SearchReport
    from sirdar.search.expert import find_rules

    wanted = study.objectives.wanted[0]
    judged = [trial for trial in study.trials if trial.usable]
    front = {trial.number for trial in _front(study)}
    points = [
        Point(t.number, str(t.candidate), t.measures[wanted.name], t.measures["latency_s"], t.number in front)
        for t in judged
    ]
    rules = find_rules([(study.space, study.objectives, study.trials)])
    spent = study.spent
    facts = [
        ("Candidates in the space", str(study.space.size)),
        ("Priced, trained", f"{study.priced}, {len(judged)}"),
        ("Strategy", study.strategy),
        *((f"Limit of {name}", f"{limit:g}") for name, limit in study.objectives.limits),
        (
            "Spent on searching",
            f"{spent.cpu_hours:.3g} CPU-hours, {spent.gpu_hours:.3g} GPU-hours, {_energy(spent)}",
        ),
        ("Carbon", "not known" if spent.grams_co2 is None else f"{spent.grams_co2:.3g} g CO2"),
    ]
    return SearchReport(
        title=f"{product.capitalize()} for {study.chip or 'a chip'}",
        subtitle=f"{len(judged)} of {study.space.size} candidates were trained.",
        metric=wanted.name,
        higher_is_better=wanted.goal == "maximise",
        cost="seconds",
        points=points,
        rules=[str(rule) for rule in rules],
        facts=facts,
        notes=["Latency is an estimate unless the recipe says that it was measured."],
    )


def _front(study: "Study") -> Sequence[Any]:
    """The front in score and latency, whatever the search wanted."""
    from sirdar.search.objectives import Objective, Objectives

    return Objectives((study.objectives.wanted[0], Objective("latency_s"))).pareto(study.trials)


def _write(study: "Study", content: Mapping[str, Any], out: Path, product: str) -> None:
    from sirdar.recipes.files import finite, output_folder, write_json
    from sirdar.report.search import search_page

    with output_folder(out) as scratch:
        write_json(finite(dict(content)), scratch / "study.json")
        (scratch / "report.html").write_text(search_page(report_of(study, product)), encoding="utf-8")


def _show(study: "Study") -> None:
    name = study.objectives.wanted[0].name
    rows = [
        [str(t.number), str(t.candidate), f"{t.measures[name]:.5g}", f"{t.measures['latency_s']:.4g}"]
        for t in _front(study)
    ]
    options.print_table("The front, best score first", ["trial", "candidate", name, "latency_s"], rows)
    spent = study.spent
    sys.stdout.write(f"searching took {spent.cpu_hours:.3g} CPU-hours and {_energy(spent)}\n")


def _energy(spent: "Spent") -> str:
    return "an unknown amount of energy" if spent.kwh is None else f"{spent.kwh:.3g} kWh"
