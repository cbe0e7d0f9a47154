# SPDX-License-Identifier: Apache-2.0
"""`sirdar chips`: what a night's forecasting costs on every chip."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options


def chips(
    model: Annotated[
        Path | None, typer.Argument(help="A trained network (model/ of plan or forecast); a default MQ-CNN if omitted.")
    ] = None,
    chip: Annotated[
        list[str] | None, typer.Option(help="Name or TOML file of a chip, repeated; all if omitted.")
    ] = None,
    volume: Annotated[int, typer.Option(help="Series to forecast.")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Series in one run of the network.")] = 4096,
    dtype: Annotated[
        str | None, typer.Option(help="Number format, bf16 if omitted; a chip without it takes the next one it has.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for chips.json; nothing is written if omitted.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Estimate time, energy, price and carbon on every chip of the catalogue, before running on any.

    Example: sirdar chips plan/model --volume 400000000 --chip inferentia2 --chip t4
    """
    from sirdar.chips import load
    from sirdar.errors import require_positive_integer
    from sirdar.recipes.files import finite, output_folder, write_json
    from sirdar.recipes.plan import compare_chips, example_network

    require_positive_integer(volume, "volume")  # what is wrong is refused before the network is built
    require_positive_integer(batch, "batch")
    for name in chip or ():
        load(name).usable_dtype(dtype or load(name).usual_dtype())
    network = example_network(model)
    ranking = compare_chips(network, chips=tuple(chip) if chip else None, volume=volume, batch=batch, dtype=dtype)
    content = finite({"chips": ranking.to_rows(), "assumptions": list(ranking.assumptions)})
    if out is not None:
        with output_folder(out) as scratch:
            write_json(content, scratch / "chips.json")
    if as_json:
        options.print_json(content)
        return
    from sirdar.cli import show

    show.chips(ranking)
    for sentence in ranking.assumptions:
        sys.stdout.write(f"* {sentence}\n")
