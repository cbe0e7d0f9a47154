# SPDX-License-Identifier: Apache-2.0
"""`sirdar backtest`: which rung is best on this table."""

from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options


def backtest(  # noqa: PLR0913 - one argument per option
    source: options.Input = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for leaderboard.json; nothing is written if omitted.")
    ] = None,
    horizon: options.Horizon = 6,
    windows: options.Windows = 3,
    models: options.Models = None,
    levels: options.Levels = None,
    freq: options.Freq = None,
    column: options.Columns = None,
    gaps: options.Gaps = None,
    sold_out: options.SoldOut = None,
    holidays: options.Holidays = None,
    seed: options.Seed = 0,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Train on Ray: 'local' for this machine's cores, 'auto' for the cluster that it is a part of.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Train every rung anew at rolling origins and score it on what followed.

    Example: sirdar backtest demand.parquet --models seasonal-naive,theta,mq-cnn --windows 3 --horizon 8 --json
    """
    from contextlib import ExitStack

    from sirdar.recipes import files
    from sirdar.recipes.plan import Settings, evaluate, read

    settings = Settings(
        source,
        options.roles(column, freq, gaps, holidays, sold_out),
        horizon,
        windows,
        options.names(models, Settings.models),
        problem=options.smallest_problem(),
        seed=seed,
        levels=options.levels(levels, Settings.levels),
    )
    with ExitStack() as stack:
        scratch = stack.enter_context(files.output_folder(out)) if out else None
        with options.progress_bar() as progress:
            panel = read(settings)
            evaluation = evaluate(settings, panel, lambda text, done: progress(f"backtest: {text}", done), cluster)
        facts = {"data": panel.quality(), "data_notes": list(panel.notes)}
        content = files.finite(files.leaderboard(evaluation) | facts)
        if scratch is not None:
            files.write_json(content, scratch / "leaderboard.json")
    if as_json:
        options.print_json(content)
        return
    from sirdar.cli import show

    show.quality(panel)
    show.leaderboard(evaluation)
