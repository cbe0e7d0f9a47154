# SPDX-License-Identifier: Apache-2.0
"""`sirdar plan`: the main job, end to end."""

import sys
from pathlib import Path

from sirdar.cli import options


def plan(  # noqa: PLR0913 - one argument per option
    source: options.Input = None,
    out: options.Out = Path("plan"),
    horizon: options.Horizon = 6,
    windows: options.Windows = 3,
    models: options.Models = None,
    levels: options.Levels = None,
    holding_cost: options.HoldingCost = 0.2,
    lost_sale_cost: options.LostSaleCost = 1.0,
    lead_time: options.LeadTime = 2,
    review_period: options.ReviewPeriod = 1,
    price: options.Price = 0.0,
    unit_cost: options.UnitCost = 0.0,
    order_cost: options.OrderCost = 0.0,
    minimum: options.Minimum = 0.0,
    case_pack: options.CasePack = 1.0,
    capacity: options.Capacity = None,
    budget: options.Budget = None,
    inventory: options.Inventory = None,
    freq: options.Freq = None,
    column: options.Columns = None,
    gaps: options.Gaps = None,
    sold_out: options.SoldOut = None,
    holidays: options.Holidays = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Read demand, backtest the ladder, forecast with the winner, order, and choose the chip.

    Writes forecast.parquet, orders.parquet and .csv, leaderboard.json, run.json, report.html and the winner (model/).
    Orders know of demand what the quantiles of --levels tell: from few of them they are coarse.

    Examples:
        sirdar plan

        sirdar plan demand.csv --column id=sku --column time=week --column target=units --column price=price --horizon 8

        sirdar plan demand.parquet --inventory stock.csv --holding-cost 0.1 --lost-sale-cost 2.5 --lead-time 3
    """
    from sirdar.recipes import files
    from sirdar.recipes.plan import Settings
    from sirdar.recipes.plan import plan as run
    from sirdar.recipes.write import write_plan

    problem = options.problem(holding_cost, lost_sale_cost, lead_time, review_period)
    settings = Settings(
        source,
        options.roles(column, freq, gaps, holidays, sold_out),
        horizon,
        windows,
        options.names(models, Settings.models),
        options.traded(problem, (price, unit_cost, order_cost), (minimum, case_pack), (capacity, budget)),
        inventory,
        seed,
        options.levels(levels, Settings.levels),
    )
    with files.output_folder(out) as scratch, options.progress_bar() as progress:
        done = run(settings, progress)
        summary = write_plan(done, scratch, progress)
    summary = {"out": str(out), **summary}
    if as_json:
        options.print_json(summary)
        return
    from sirdar.cli import show

    show.quality(done.panel)
    show.leaderboard(done.backtest)
    show.orders(done.orders)
    if done.chips:
        show.chips(done.chips)
    sys.stdout.write(f"{done.orders.note}\nThe report: {out / 'report.html'}\n")
