# SPDX-License-Identifier: Apache-2.0
"""`sirdar migrate`: what keeps a PyTorch model from another chip, what it costs there, and the files to take along."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options


def migrate(  # noqa: PLR0913 - one argument per option
    model: Annotated[
        str,
        typer.Argument(
            help="package.module:factory (returns module and example), network.pt2 of torch.export, or the folder of a "
            "saved forecaster or camera network."
        ),
    ],
    chip: Annotated[str, typer.Option(help="Where it is to go: a name of the catalogue or a TOML file.")],
    current: Annotated[str, typer.Option("--from", help="The chip it runs on now.")] = "this-cpu",
    tolerance: Annotated[
        float, typer.Option(help="Error of the output that is allowed, relative to the fp32 output.")
    ] = 0.01,
    shapes: Annotated[
        Path | None,
        typer.Option(help="File with the shape of one real input per line, such as 8x128, for padded buckets."),
    ] = None,
    buckets: Annotated[int, typer.Option(help="Most padded shapes to compile for.")] = 4,
    rules: Annotated[Path | None, typer.Option(help="Rule file (TOML) of one's own chip.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, migration.json and the artefacts; none if omitted."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Say in seconds, without the chip and its compiler, whether a model runs there, how exactly and at what cost.

    Operators, types and shapes are checked against the chip's rules, each finding with the line of your code, the
    compiler's code and the fix. What can be mended safely is, and proven equal. Ends with 1 where changes are needed.

    Examples:
        sirdar migrate mypackage.models:bert --chip trainium1

        sirdar migrate network.pt2 --chip inferentia2 --from t4 --tolerance 0.02 --shapes shapes.txt --out migration
    """
    from contextlib import ExitStack

    from sirdar.cli import show_migration
    from sirdar.recipes import files
    from sirdar.recipes import migrate as recipe

    settings = recipe.Settings(model, chip, current, tolerance, shapes, buckets, rules)
    with ExitStack() as stack:
        scratch = stack.enter_context(files.output_folder(out, recipe.earlier(out))) if out else None
        with options.progress_bar() as progress:
            made = recipe.run(settings, progress)
            artefacts = recipe.write(made, scratch, progress) if scratch is not None else ()
    content = files.finite(made.to_dict())
    if as_json:
        options.print_json(
            {"out": str(out) if out else None, **content, "artefacts": [row.to_dict() for row in artefacts]}
        )
    else:
        show_migration.show(made, artefacts)
        if out:
            sys.stdout.write(f"The report: {out / 'report.html'}\n")
    if not made.runs:
        raise typer.Exit(1)
