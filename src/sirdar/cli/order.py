# SPDX-License-Identifier: Apache-2.0
"""`sirdar order`: from a forecast to orders."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli import options


def order(  # noqa: PLR0913 - one argument per option
    source: Annotated[Path, typer.Argument(help="forecast.parquet of `sirdar forecast` or `sirdar plan`.")],
    out: options.Out = Path("orders"),
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
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Order by the projected-inventory policy at the critical ratio of the two costs; writes orders.parquet and .csv.

    With --order-cost an order may be meant for several reviews: for as many as the forecast reaches. The expected cost
    is what was weighed: holding, placing orders, and lost sales with their margin (price less unit_cost), if any.

    Example: sirdar order plan/forecast.parquet --inventory stock.csv --holding-cost 0.1 --lost-sale-cost 2
    """
    from sirdar.recipes import files
    from sirdar.recipes.plan import Settings, place_orders

    problem = options.problem(holding_cost, lost_sale_cost, lead_time, review_period)
    problem = options.traded(problem, (price, unit_cost, order_cost), (minimum, case_pack), (capacity, budget))
    made = files.read_forecast(source)
    settings = Settings(horizon=made.horizon, problem=problem, inventory=inventory, seed=seed)
    with files.output_folder(out) as scratch:
        orders = place_orders(settings, made)
        files.write_orders(orders, scratch)
    if as_json:
        options.print_json(files.finite({"out": str(out), "stock": orders.note, **files.order_totals(orders)}))
        return
    from sirdar.cli import show

    show.orders(orders)
    sys.stdout.write(f"{orders.note}\nThe orders: {out / 'orders.csv'}\n")
