# SPDX-License-Identifier: Apache-2.0
"""`sirdar forecast`: quantiles of the next steps by one rung."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sirdar.cli import options

if TYPE_CHECKING:
    from sirdar.forecasting.attribution import Attribution
    from sirdar.forecasting.forecaster import Forecaster


def forecast(  # noqa: PLR0913 - one argument per option
    source: options.Input = None,
    out: options.Out = Path("forecast"),
    model: Annotated[str | None, typer.Option(help=f"The rung, one of: {options.RUNGS}; mq-cnn if omitted.")] = None,
    trained: Annotated[
        Path | None, typer.Option(help="A model/ of plan, forecast or search: it forecasts without training.")
    ] = None,
    update: Annotated[
        bool,
        typer.Option(help="Let the model of --trained learn from this table first, from where it is; kept in --out."),
    ] = False,
    horizon: Annotated[
        int | None, typer.Option(help="Steps to forecast; 6, or those of the trained model, if omitted.")
    ] = None,
    levels: options.Levels = None,
    freq: options.Freq = None,
    column: options.Columns = None,
    gaps: options.Gaps = None,
    sold_out: options.SoldOut = None,
    holidays: options.Holidays = None,
    explain: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A product: what moved its median, input by input. Repeat for several."),
    ] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Train one rung on all history and write forecast.parquet and the trained model (model/).

    With --trained a model that was kept forecasts the table as it is now, in seconds; with --update it learns from what
    is new first, in a fraction of the time that training anew takes. With --explain the forecasts of
    some products are taken apart: how many units each input adds to a forecast from average ones; explained.csv has
    them by period.

    Examples:
        sirdar forecast demand.parquet --model mq-cnn --horizon 8 --out monday

        sirdar forecast demand.parquet --trained monday/model --out tuesday --explain SKU-17

        sirdar forecast demand.parquet --trained monday/model --update --out next-week
    """
    from sirdar.forecasting.attribution import row_of
    from sirdar.recipes import files
    from sirdar.recipes.explain import explained, explanations_frame
    from sirdar.recipes.plan import Settings, read_ahead, train
    from sirdar.recipes.saved import saved_forecaster

    kept = None if trained is None else saved_forecaster(trained)
    _require_fitting(kept, trained, update=update, others=(model, horizon, holidays, levels))
    name = model or "mq-cnn"
    wanted = Settings.horizon if horizon is None else horizon
    settings = Settings(
        source,
        options.roles(column, freq, gaps, holidays, sold_out),
        wanted if kept is None else kept.horizon,
        models=(name,),
        problem=options.smallest_problem(),
        seed=seed,
        levels=options.levels(levels, Settings.levels),
    )
    with files.output_folder(out, stale=["explained.csv"]) as scratch:
        with options.progress_bar() as progress:
            panel = read_ahead(settings)
            for series in explain or []:
                row_of(panel, series)  # refuses one that is not there before hours of training
            forecaster = kept or train(settings, name, panel, lambda text, done: progress(f"train: {text}", done))
            if update:
                progress("update", 0.0)
                forecaster = forecaster.update(panel)  # pyright: ignore[reportAttributeAccessIssue] - every rung's
                progress("update", 1.0)
            made = forecaster.predict(panel)
            found = []
            for number, series in enumerate(asked := list(dict.fromkeys(explain or []))):
                progress(f"explain: {series}", number / len(asked))
                found.append(explained(forecaster, panel, series, made.levels))
        files.write_forecast(made, scratch / "forecast.parquet")
        if found:
            files.write_table(explanations_frame(found), scratch / "explained.csv")
        if kept is None or update:
            forecaster.save(scratch / "model")
    facts = {
        "out": str(out),
        "model": name if trained is None else str(trained),
        "series": len(made.ids),
        "horizon": made.horizon,
        "levels": list(made.levels),
        "data_notes": list(panel.notes),
    }
    new = {name for name, seen in zip(panel.ids, panel.observations(), strict=True) if not seen}
    notes = [
        f"{one.series!r} has no history: what is explained is the model's own forecast, before look-alikes are mixed in"
        for one in found
        if one.series in new
    ]
    for note in (*panel.notes, *notes):
        sys.stderr.write(f"note: {note}\n")
    if as_json:
        told = {
            one.series: {"level": one.level, "baseline": one.baseline, "total": one.total, "inputs": one.by_input()}
            for one in found
        }
        options.print_json(facts | {"explained": told} if found else facts)
        return
    sys.stdout.write(
        f"{facts['series']} series, {made.horizon} steps, {len(made.levels)} levels -> {out / 'forecast.parquet'}\n"
    )
    _show(found, made.horizon)


def _require_fitting(
    kept: "Forecaster | None",
    trained: Path | None,
    *,
    update: bool,
    others: tuple[str | None, int | None, str | None, str | None],
) -> None:
    """Refuses options that a model which was kept has settled, and an update without one."""
    model, horizon, holidays, levels = others
    if kept is None:
        if update:
            msg = "--update goes on from a model that was kept; name it with --trained"
            raise typer.BadParameter(msg)
        return
    if model is not None or horizon not in {None, kept.horizon}:
        msg = f"the model in {trained} forecasts {kept.horizon} steps; with --trained leave --model and --horizon out"
        raise typer.BadParameter(msg)
    if levels is not None:
        msg = f"the model in {trained} forecasts the levels that it learned; with --trained leave --levels out"
        raise typer.BadParameter(msg)
    if holidays is not None:
        msg = f"the model in {trained} knows whose holidays it learned; with --trained leave --holidays out"
        raise typer.BadParameter(msg)


def _show(found: "Sequence[Attribution]", steps: int) -> None:
    for one in found:
        shares = "".join(f", {name} {_units(units, '+')}" for name, units in list(one.by_input().items())[:8])
        sys.stdout.write(
            f"{one.series}: {_units(one.total)} units over {steps} steps (level {one.level:g}); "
            f"{_units(one.baseline)} with average inputs{shares}\n"
        )


def _units(value: float, sign: str = "") -> str:
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"
