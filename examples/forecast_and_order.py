# SPDX-License-Identifier: Apache-2.0
"""Forecast some products of the bundled panel and order them.

python examples/forecast_and_order.py [PRODUCTS] [STEPS]
"""

import sys

import numpy as np

import sirdar
from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES


def main(products: int = 500, steps: int = 400) -> None:
    """Reads, forecasts six weeks, orders, and says what a million such forecasts cost on two chips."""
    panel = sirdar.Panel.read(ONLINE_RETAIL, **ROLES)
    panel = panel.select(np.argsort(-panel.observations(), kind="stable")[:products])
    model = sirdar.MQCNN(horizon=6, steps=steps).fit(panel)
    forecast = model.predict(panel)
    print(forecast.to_frame().head())

    problem = sirdar.InventoryProblem(holding_cost=0.2, lost_sale_cost=1.0, lead_time=2)
    orders = sirdar.ProjectedInventory(forecast).plan(problem, sirdar.Stock.empty(len(panel)))
    print(f"order {orders.quantity.sum():,.0f} units; expected fill rate {orders.total_fill_rate:.1%}")

    graph = sirdar.trace(*model.inference(batch=1024))
    for chip in ("inferentia2", "t4"):
        print(chip, sirdar.estimate(graph, chip=chip, dtype="bf16"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
