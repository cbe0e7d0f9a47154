# SPDX-License-Identifier: Apache-2.0
"""`sirdar simulate`: what a policy would have cost on history."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options


def simulate(  # noqa: PLR0913 - one argument per option
    policy: Annotated[
        str,
        typer.Argument(
            help="base-stock, capped-base-stock, min-max, fixed-lot, constant, critical-fractile, "
            "projected-inventory, myopic, myopic-2, learned, never-order or perfect-foresight."
        ),
    ],
    source: options.Input = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, simulation.json and steps.parquet; none if omitted."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps to replay, the table's last ones; 26, or a third of all if fewer, if omitted."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The rung that forecasts for critical-fractile and projected-inventory.")
    ] = "mq-cnn",
    holding_cost: options.HoldingCost = 0.2,
    lost_sale_cost: options.LostSaleCost = 1.0,
    lead_time: options.LeadTime = 2,
    review_period: options.ReviewPeriod = 1,
    price: options.Price = 0.0,
    unit_cost: options.UnitCost = 0.0,
    order_cost: options.OrderCost = 0.0,
    minimum: options.Minimum = 0.0,
    case_pack: options.CasePack = 1.0,
    freq: options.Freq = None,
    column: options.Columns = None,
    gaps: options.Gaps = None,
    holidays: options.Holidays = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Replay a policy on the last part of a table and say what it would have cost.

    Its parameters are chosen on the part before, never on the steps that are replayed. It is set beside perfect
    foresight, which knows all demand, and beside simple rivals: base-stock, a constant order, and no orders at all.

    Examples:
        sirdar simulate base-stock

        sirdar simulate projected-inventory demand.parquet --model tsb --steps 13 --lead-time 3 --out replay

        sirdar simulate min-max sales.csv --column target=units --column in_stock=available --order-cost 5
    """
    from contextlib import ExitStack

    from sirdar.recipes import files
    from sirdar.recipes.simulate import Settings, run
    from sirdar.recipes.simulate_write import summary, write

    problem = options.problem(holding_cost, lost_sale_cost, lead_time, review_period)
    problem = options.traded(problem, (price, unit_cost, order_cost), (minimum, case_pack))
    settings = Settings(policy, source, options.roles(column, freq, gaps, holidays), steps, problem, model, seed)
    with ExitStack() as stack:
        scratch = stack.enter_context(files.output_folder(out)) if out else None
        with options.progress_bar() as progress:
            made = run(settings, progress)
        if scratch is not None:
            write(made, scratch)
    content = summary(made)
    if as_json:
        options.print_json({"out": str(out) if out else None, **content})
        return
    from sirdar.cli import show

    show.simulation(content)
    if out:
        sys.stdout.write(f"The report: {out / 'report.html'}\n")
