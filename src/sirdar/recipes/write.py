# SPDX-License-Identifier: Apache-2.0
"""A finished plan as files: forecasts, orders, leaderboard, run and report."""

import time
from pathlib import Path
from typing import Any

from sirdar.recipes import files
from sirdar.recipes.plan import Plan, Progress
from sirdar.recipes.plan_report import report_of
from sirdar.report.plan import plan_page


def write_plan(plan: Plan, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes everything into the folder and answers the summary that `--json` prints."""
    progress("write", 0.0)
    begin = time.perf_counter()
    files.write_forecast(plan.forecast, folder / "forecast.parquet")
    files.write_orders(plan.orders, folder)
    files.write_json(files.leaderboard(plan.backtest), folder / "leaderboard.json")
    plan.winner.save(folder / "model")
    (folder / "report.html").write_text(plan_page(report_of(plan)), encoding="utf-8")
    seconds = plan.seconds | {"write": time.perf_counter() - begin}
    run = run_facts(plan, seconds)
    files.write_json(run, folder / "run.json")
    progress("write", 1.0)
    return files.finite({"leaderboard": files.leaderboard(plan.backtest), **run})


def run_facts(plan: Plan, seconds: dict[str, float]) -> dict[str, Any]:
    """What run.json says: settings, data, results in brief, seconds per step, versions and peak memory."""
    settings, problem = plan.settings, plan.settings.problem
    return {
        "settings": {
            "input": str(settings.source) if settings.source else "bundled: UCI Online Retail",
            "horizon": settings.horizon,
            "windows": settings.windows,
            "models": list(settings.models),
            "levels": list(settings.levels),
            "holding_cost": problem.holding_cost,
            "lost_sale_cost": problem.lost_sale_cost,
            "lead_time": problem.lead_time,
            "review_period": problem.review_period,
            "price": problem.trade.price,
            "unit_cost": problem.trade.unit_cost,
            "order_cost": problem.trade.order_cost,
            "minimum": problem.rules.minimum,
            "case_pack": problem.rules.case_pack,
            "capacity": problem.rules.capacity,
            "budget": problem.rules.budget,
            "critical_ratio": problem.critical_ratio,
            "inventory": str(settings.inventory) if settings.inventory else None,
        },
        "seed": settings.seed,
        "data": plan.panel.quality(),
        "data_notes": list(plan.panel.notes),
        "winner": plan.backtest.winner,
        "order_totals": files.order_totals(plan.orders),
        "stock": plan.orders.note,
        "chips": plan.chips.to_rows() if plan.chips else [],
        "chips_for": plan.priced,
        "chip_assumptions": list(plan.chips.assumptions) if plan.chips else [],
        "seconds": seconds,
        "seconds_total": sum(seconds.values()),
        **files.environment(),
    }
