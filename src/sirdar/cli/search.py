# SPDX-License-Identifier: Apache-2.0
"""`sirdar search`: the network that fits a chip."""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sirdar.cli import options

if TYPE_CHECKING:
    from sirdar.recipes.vision_product import Data, Product
    from sirdar.report.search import Scenery, SearchReport
    from sirdar.search.expert import Rule
    from sirdar.search.spent import Spent
    from sirdar.search.study import Study

_TRAINED = ("random", "evolution", "nsga-ii", "tpe", "reinforce")  # these need no look into a network
_UNFINISHED = ".sirdar-training"  # in the folder of the output, while the winner trains
_FILES = ("model", "model.onnx", "network.safetensors", "network.onnx", "network.tflite", "network_vela.tflite")
_FILES += ("compiled.json",)  # of a winner: those of an earlier search do not stay beside a new one's study
_GOES_ON = ", and the same command goes on"
_LOOKED_AT = (*_TRAINED, "zero-shot", "hybrid")
PRODUCTS = {
    "forecaster": _TRAINED,
    "detection": _LOOKED_AT,
    "classification": _LOOKED_AT,
    "segmentation": _LOOKED_AT,
}
"""What can be searched, and by which strategies."""


def search(  # noqa: PLR0913 - one argument per option
    product: Annotated[str, typer.Argument(help=f"What is searched: {', '.join(PRODUCTS)}.")],
    source: Annotated[
        Path | None, typer.Argument(help="A table for the forecaster, a folder of images for the others.")
    ] = None,
    chip: Annotated[
        str | None,
        typer.Option(
            help="For the forecaster a name of the catalogue, ethos-u85-512 and the like or this-cpu; by default "
            "trainium1. For the others an Ethos-U; by default ethos-u55-256 for classification, else ethos-u85-512."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, repeated: latency_s, energy_j, peak_bytes, parameter_bytes, memory_bytes, macs."
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(help=f"{', '.join(_TRAINED)}; for images also zero-shot or hybrid."),
    ] = "evolution",
    curate: Annotated[
        bool,
        typer.Option(
            help="Leave out the widths that cost hardly less latency than a wider one, priced where they stand; the "
            "report draws work against latency before and after."
        ),
    ] = False,
    rules: Annotated[
        Path | None,
        typer.Option(help="Rules as `sirdar rules` writes them; those that pin or forbid an option bind the search."),
    ] = None,
    enqueue: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of a candidate's choices, to be tried first; repeated for several."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Candidates to train, those found in the storage included.")] = 12,
    storage: Annotated[
        str | None,
        typer.Option(help="SQLite file or database URL; a search that was killed goes on from it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for report.html, study.json and the winner: of the forecaster model/ and ONNX, for images "
            "safetensors, ONNX and int8 TFLite.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="HEIGHTxWIDTH in pixels that images are read at; 32x32 for classification, 160x192 for detection, "
            "180x240 for segmentation if omitted. Training takes as much longer as there are more pixels."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Of each training on images; 600 for classification, 150 for detection and segmentation if omitted. "
            "Longer trainings tell candidates apart better."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What a detector is to find, such as person, where boxes are around several kinds of objects."
        ),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Steps that the forecaster forecasts; 13, a quarter of weeks, if omitted.")
    ] = None,
    freq: options.Freq = None,
    column: options.Columns = None,
    gaps: options.Gaps = None,
    holidays: options.Holidays = None,
    region: Annotated[str | None, typer.Option(help="Whose grid feeds the search, for its grams of CO2.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Search the network that does a product's task best within what a chip allows.

    A folder for classification has a sub-folder of images per class, or train/ and val/ with these; for detection
    images/ and boxes.csv with the columns image, left, top, right, bottom, in pixels, or the boxes of COCO (a JSON
    file), YOLO (labels/) or Pascal VOC (annotations/); for segmentation images/, masks/ with PNG files of class
    numbers, 255 for void, and classes.txt with a class a line. A part of the images is held out, val/ where there is
    one, and chooses the winner: its score is that of the best of several on these images.

    Candidates beyond a limit are never trained. A limit that none can keep ends with the nearest that can be had.
    With --out the winner is trained once more and leaves as files: the forecaster on all history, the others' int8
    file judged by running it, and compiled.json with how each file is fed and read. Where that training was killed,
    the same command goes on with it.

    Examples:
        sirdar search forecaster demand.parquet --chip trainium1 --limit latency_s=1e-3 --out searched

        sirdar search forecaster demand.csv --column id=sku --column time=week --column target=units --horizon 8

        sirdar search classification photos --size 96x96 --limit memory_bytes=400000 --strategy hybrid

        sirdar search detection photos --chip ethos-u85-512 --curate --out searched
    """
    from sirdar.chips import grams_co2
    from sirdar.errors import require_positive_integer
    from sirdar.recipes.files import finite, output_folder
    from sirdar.recipes.vision_product import searched
    from sirdar.search.space import Candidate
    from sirdar.search.study import Options

    _require_known(product, strategy)
    require_positive_integer(trials, "trials")
    if region is not None:
        grams_co2(0.0, region)  # an unknown one is refused before any work
    data = _data_of(product, source, horizon, options.roles(column, freq, gaps, holidays))
    read_as = _read_as(product, size, kind)
    _require_steps(product, steps)
    recipe: Any = import_module(f"sirdar.recipes.{product}")
    if out is not None:
        _require_onnx()
        _require_outside(out, source, product)
    with ExitStack() as stack:
        scratch = stack.enter_context(output_folder(out, _earlier(out))) if out else None
        bar = stack.enter_context(options.progress_bar())
        told = Options(
            storage=storage,
            region=region,
            rules=() if rules is None else _binding(rules),
            enqueue=tuple(Candidate(tuple(read_json(path).items())) for path in enqueue or ()),
            curate=curate,
            progress=lambda done, word: bar(f"Searching: {word}", done),
        )
        settings = {"strategy": strategy, "trials": trials, "seed": seed}
        camera = None if product == "forecaster" else _camera(recipe, data, read_as, steps)
        with options.keeping("" if storage is None else f"trials that ended are in {storage}{_GOES_ON}"):
            if camera is None:
                study = recipe.search_product(data, chip, limits(limit), options=told, **settings)
            else:
                study = searched(*camera, chip, limits(limit), settings, told)
        content = finite(_content(study, camera))
        if scratch is not None:
            _write(study, content, scratch, product)
    if out is not None:  # now that the study is safe
        with options.keeping(f"the study is in {out}" + (_GOES_ON if storage else "")):
            content["winner"] = _deliver(product, camera or data, study, content, out, seed)
    if as_json:
        options.print_json(content)
        return
    _show(study, content)


def _binding(path: Path) -> "tuple[Rule, ...]":
    """The rules in a file; a note where none of them binds a search."""
    from sirdar.search.expert import read_rules

    found = read_rules(path)
    if not any(rule.verb in ("pin", "forbid") for rule in found):
        sys.stderr.write(f"note: none of the {len(found)} rules in {path} pins or forbids an option: all is searched\n")
    return found


def _require_known(product: str, strategy: str) -> None:
    from sirdar.errors import ArgumentError, nearest

    if product not in PRODUCTS:
        msg = f"product {product!r} is not known; known are {', '.join(PRODUCTS)}.{nearest(product, PRODUCTS)}"
        raise ArgumentError(msg)
    if strategy not in PRODUCTS[product]:
        known = PRODUCTS[product]
        msg = f"strategy {strategy!r} does not search {product}; {', '.join(known)} do.{nearest(strategy, known)}"
        raise ArgumentError(msg)


def _camera(
    recipe: Any,  # noqa: ANN401 - a module
    folder: Path | None,
    read_as: Mapping[str, Any],
    steps: int | None,
) -> "tuple[Product, Data]":
    """A camera product and its images."""
    from sirdar.recipes.vision_product import folder_of

    product, data = recipe.opened(folder_of(folder), **read_as)
    return (product if steps is None else replace(product, schedule=replace(product.schedule, steps=steps))), data


def _content(study: "Study", camera: "tuple[Product, Data] | None") -> dict[str, Any]:
    """What `study.json` holds; its front is that of score and latency, which says the study's own and more."""
    stored = {name: value for name, value in study.to_dict().items() if name != "pareto"}
    front = [trial.number for trial in _front(study)]
    if camera is None:
        return stored | {"front": front}
    return stored | {"front": front, "images": dict(zip(("training", "held_out"), camera[1].counts, strict=True))}


def _earlier(out: Path) -> tuple[str, ...]:
    """Files of the winner of an earlier search in a folder."""
    return _FILES if (out / "study.json").exists() else ()


def limits(items: Sequence[str] | None) -> dict[str, float]:
    """NAME=VALUE items as numbers by name."""
    found: dict[str, float] = {}
    for item in items or ():
        name, _, value = item.partition("=")
        if name in found:
            msg = f"--limit gives {name!r} twice, {found[name]:g} and {value}"
            raise typer.BadParameter(msg)
        try:
            found[name] = float(value)
        except ValueError as error:
            msg = f"--limit must be NAME=VALUE with a number, got {item!r}"
            raise typer.BadParameter(msg) from error
    return found


def read_json(path: Path) -> Mapping[str, Any]:
    """One JSON object of a file.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    from sirdar.errors import DataError

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise DataError(msg) from error
    except ValueError as error:
        msg = f"{path} holds no JSON: {error}"
        raise DataError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} must hold one JSON object, got {type(content).__name__}"
        raise DataError(msg)
    return content


def report_of(study: "Study", product: str, content: Mapping[str, Any] | None = None) -> "SearchReport":
    """What the page shows of a study, of its images and of its winner's files where they were written."""
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
        *([] if study.curated is None else [("Curation", study.curated.curation.sentence())]),
        ("Priced in the last run, trained in all", f"{study.priced}, {len(judged)}"),
        ("Strategy", study.strategy),
        *((f"Limit of {name}", f"{limit:g}") for name, limit in study.objectives.limits),
        (
            "Spent on searching",
            f"{spent.cpu_hours:.3g} CPU-hours, {spent.gpu_hours:.3g} GPU-hours, {_energy(spent)}",
        ),
        ("Carbon", "not known" if spent.grams_co2 is None else f"{spent.grams_co2:.3g} g CO2"),
        *_facts_of(study, content or {}),
    ]
    return SearchReport(
        title=f"{product.capitalize()} for {study.chip or 'a chip'}",
        subtitle=f"{len(judged)} of {study.space.size} candidates were trained.",
        metric=wanted.name,
        higher_is_better=wanted.goal == "maximise",
        cost="seconds",
        points=points,
        winner=study.best.number,
        sceneries=_sceneries(study),
        rules=[str(rule) for rule in rules],
        facts=facts,
        notes=["Latency is an estimate unless the recipe says that it was measured."],
    )


def _sceneries(study: "Study") -> "list[Scenery]":
    """The landscape before and after curation, where there was one."""
    from sirdar.report.search import Scenery

    if study.curated is None:
        return []
    found = study.curated
    views = {"Whole space": (found.before, found.curation.before), "Curated": (found.after, found.curation.space.size)}
    drawn = [Scenery(name, view.points, view.monotone, size) for name, (view, size) in views.items()]
    return [scene for scene in drawn if math.isfinite(scene.monotone)]  # some prices do not tell the work


def _front(study: "Study") -> Sequence[Any]:
    """The front in score and latency, whatever the search wanted."""
    from sirdar.search.objectives import Objective, Objectives

    return Objectives((study.objectives.wanted[0], Objective("latency_s"))).pareto(study.trials)


def _facts_of(study: "Study", content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The images; what the winner's files reach on those held out and cost, or what the forecaster was trained on."""
    return [*_images_of(content.get("images", {})), *_winner_of(study, content.get("winner", {}))]


def _images_of(images: Mapping[str, int]) -> list[tuple[str, str]]:
    if not images:
        return []
    share = f"about {100 / images['held_out']:.2g} % of a score"
    return [("What was searched on", f"{images['training']} images, and {images['held_out']} held out, each {share}")]


def _winner_of(study: "Study", winner: Mapping[str, float | int]) -> list[tuple[str, str]]:
    if not winner:
        return []
    if "observations" in winner:
        text = f"all history, {winner['observations']} observations of {winner['series']} series"
        return [("What the winner's model was trained on", text)]
    metric = study.objectives.wanted[0].name
    return [
        (f"The winner's {metric} in floating point", f"{winner[metric]:.4g}"),
        (f"The winner's {metric} by its int8 TFLite file", f"{winner[f'{metric}_int8']:.4g}"),
        *_costs_of(study, winner),
    ]


def _costs_of(study: "Study", winner: Mapping[str, float | int]) -> list[tuple[str, str]]:
    """What the compiler says of the winner's own file: its weights compress otherwise than those made up to search."""
    limits, searched = dict(study.objectives.limits), study.best.measures
    found = {
        "latency_s": winner["latency_s"],
        "energy_j": searched["energy_j"] * winner["latency_s"] / searched["latency_s"],
        "peak_bytes": winner["peak_bytes"],
        "parameter_bytes": winner["parameter_bytes"],
        "memory_bytes": winner["peak_bytes"] + winner["parameter_bytes"],
    }
    rows = []
    for name, value in found.items():
        if name in limits or name == "latency_s":
            beyond = f", beyond the limit of {limits[name]:g}" if value > limits.get(name, value) else ""
            rows.append((f"The winner's {name} by its int8 TFLite file", f"{value:.6g}{beyond}"))
    return rows


def _require_onnx() -> None:
    from sirdar.deploy.export import require_onnx

    require_onnx()  # it is needed after the search, which takes hours


def _require_outside(out: Path, source: Path | None, product: str) -> None:
    from sirdar.errors import ArgumentError

    if product == "classification" and source is not None and source.resolve() in out.resolve().parents:
        msg = f"--out {out} would be one more class of {source}: choose a folder outside of it"
        raise ArgumentError(msg)


def _data_of(product: str, source: Path | None, horizon: int | None, roles: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """What a product's recipe is searched on: a table as it is read, or a folder."""
    from sirdar.errors import ArgumentError

    if product == "forecaster":
        from sirdar.recipes.demand import Demand

        return Demand(source, roles=roles) if horizon is None else Demand(source, horizon, roles)
    if roles or horizon is not None:
        msg = (
            "--horizon, --freq, --column, --gaps and --holidays are the forecaster's; "
            f"{product} is searched on a folder of images"
        )
        raise ArgumentError(msg)
    return source


def _read_as(product: str, size: str | None, kind: str | None) -> dict[str, Any]:
    """How images are read, as arguments of a recipe; none for what was not given."""
    from sirdar.errors import ArgumentError

    if kind is not None and product != "detection":
        msg = f"--kind is of objects to detect; got it for {product}"
        raise ArgumentError(msg)
    read_as: dict[str, Any] = {} if kind is None else {"kind": kind}
    if size is None:
        return read_as
    if product == "forecaster":
        msg = "--size is of images; the forecaster is searched on a table"
        raise ArgumentError(msg)
    height, _, width = size.lower().partition("x")
    try:
        return read_as | {"size": (int(height), int(width))}
    except ValueError as error:
        msg = f"--size must be HEIGHTxWIDTH, such as 96x96, got {size!r}"
        raise ArgumentError(msg) from error


def _require_steps(product: str, steps: int | None) -> None:
    from sirdar.errors import ArgumentError, require_positive_integer

    if steps is not None and product == "forecaster":
        msg = "--steps is of trainings on images; the forecaster's end by themselves"
        raise ArgumentError(msg)
    require_positive_integer(1 if steps is None else steps, "steps")


def _deliver(
    product: str,
    data: Any,  # noqa: ANN401 - see `_data_of`; of a camera product, it and its images
    study: "Study",
    content: Mapping[str, Any],
    out: Path,
    seed: int,
) -> dict[str, float | int]:
    """The winner's files beside the report, and what they reach; the report is written again with that."""
    from sirdar.recipes.files import finite, output_folder

    unfinished = out / _UNFINISHED
    with output_folder(out) as scratch:
        if product == "forecaster":
            recipe: Any = import_module(f"sirdar.recipes.{product}")
            winner = recipe.deliver_winner(data, study, scratch, seed, unfinished)
        else:
            from sirdar.recipes.vision_deploy import deliver_winner

            aimed, images = data
            winner = finite(deliver_winner(aimed, images, study, scratch, seed, unfinished))
        _write(study, {**content, "winner": winner}, scratch, product)
    shutil.rmtree(unfinished, ignore_errors=True)
    return winner


def _write(study: "Study", content: Mapping[str, Any], folder: Path, product: str) -> None:
    from sirdar.recipes.files import write_json
    from sirdar.report.search import search_page

    write_json(content, folder / "study.json")
    page = search_page(report_of(study, product, content))
    (folder / "report.html").write_text(page, encoding="utf-8")


def _show(study: "Study", content: Mapping[str, Any]) -> None:
    name = study.objectives.wanted[0].name
    rows = [
        [str(t.number), str(t.candidate), f"{t.measures[name]:.5g}", f"{t.measures['latency_s']:.4g}"]
        for t in _front(study)
    ]
    if study.curated is not None:
        sys.stdout.write(f"{study.curated.curation.sentence()}\n")
    options.print_table("The front, best score first", ["trial", "candidate", name, "latency_s"], rows)
    for fact, value in _facts_of(study, content):
        sys.stdout.write(f"{fact} is {value}\n")
    spent = study.spent
    grams = "" if spent.grams_co2 is None else f", {spent.grams_co2:.3g} g CO2"
    sys.stdout.write(f"searching took {spent.cpu_hours:.3g} CPU-hours and {_energy(spent)}{grams}\n")


def _energy(spent: "Spent") -> str:
    return "an unknown amount of energy" if spent.kwh is None else f"{spent.kwh:.3g} kWh"
