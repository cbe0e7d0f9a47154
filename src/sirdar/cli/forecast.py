# SPDX-License-Identifier: Apache-2.0
"""`sirdar forecast`: quantiles of the next steps by one rung."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options


def forecast(  # noqa: PLR0913 - one argument per option
    source: options.Input = None,
    out: options.Out = Path("forecast"),
    model: Annotated[str, typer.Option(help=f"The rung, one of: {options.RUNGS}.")] = "mq-cnn",
    horizon: options.Horizon = 6,
    freq: options.Freq = None,
    column: options.Columns = None,
    gaps: options.Gaps = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Train one rung on all history and write forecast.parquet and the trained model (model/).

    Example: sirdar forecast demand.parquet --model mq-cnn --horizon 8 --out next
    """
    from sirdar.recipes import files
    from sirdar.recipes.plan import Settings, read, train

    settings = Settings(
        source,
        options.roles(column, freq, gaps),
        horizon,
        models=(model,),
        problem=options.smallest_problem(),
        seed=seed,
    )
    with files.output_folder(out) as scratch:
        with options.progress_bar() as progress:
            panel = read(settings)
            trained = train(settings, model, panel, lambda text, done: progress(f"train: {text}", done))
            made = trained.predict(panel)
        files.write_forecast(made, scratch / "forecast.parquet")
        trained.save(scratch / "model")
    facts = {
        "out": str(out),
        "model": model,
        "series": len(made.ids),
        "horizon": made.horizon,
        "levels": list(made.levels),
    }
    if as_json:
        options.print_json(facts)
        return
    sys.stdout.write(
        f"{facts['series']} series, {horizon} steps, {len(made.levels)} levels -> {out / 'forecast.parquet'}\n"
    )
