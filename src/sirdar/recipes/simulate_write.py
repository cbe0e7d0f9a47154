# SPDX-License-Identifier: Apache-2.0
"""A finished replay as plain data, as files and as the content of its page."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sirdar.inventory import Trajectory
from sirdar.recipes import files
from sirdar.recipes.simulate import Replay, Simulation
from sirdar.report.amounts import number
from sirdar.report.simulate import CurvePoint, PolicyRow, SimulationReport, simulation_page
from sirdar.report.simulate import Path as Shown


def summary(made: Simulation) -> dict[str, Any]:
    """What `--json` prints."""
    settings, problem, history = made.settings, made.settings.problem, made.history
    steps = history.panel.frequency.written(history.labels[-history.window :])
    return files.finite(
        {
            "policy": settings.policy,
            "input": str(settings.source) if settings.source else "bundled: UCI Online Retail",
            "series": len(history.demand),
            "window": history.window,
            "first_step": steps[0],
            "last_step": steps[-1],
            "steps_not_counted": made.warm_up,
            "problem": {
                "holding_cost": problem.holding_cost,
                "lost_sale_cost": problem.lost_sale_cost,
                "lead_time": problem.lead_time,
                "review_period": problem.review_period,
                "price": problem.trade.price,
                "unit_cost": problem.trade.unit_cost,
                "order_cost": problem.trade.order_cost,
                "minimum": problem.rules.minimum,
                "case_pack": problem.rules.case_pack,
                "critical_ratio": problem.critical_ratio,
            },
            "policies": [row(replay, made) for replay in made.replays],
            "curve": [vars(point) for point in made.curve],
            "notes": list(made.notes),
            "seed": settings.seed,
        }
    )


def row(replay: Replay, made: Simulation) -> dict[str, Any]:
    """One line of the cost table: sums over series and counted steps."""
    ledger, best = replay.ledger, made.foresight.earned
    costs = {
        "holding": float(ledger.holding.sum()),
        "lost_margin": replay.lost_margin,
        "purchase": float(ledger.purchase.sum()),
        "ordering": float(ledger.ordering.sum()),
        "total": replay.total,
    }
    return {
        "policy": replay.name,
        "words": replay.words,
        **costs,
        "fill_rate": ledger.fill_rate,
        "cycle_service_level": ledger.cycle_service_level,
        "turns": ledger.turns,
        "share_of_foresight": replay.earned / best if best > 0 else float("nan"),
    }


def write(made: Simulation, folder: Path) -> None:
    """simulation.json, steps.parquet (what the policy did) and report.html."""
    files.write_json(summary(made), folder / "simulation.json")
    files.write_table(steps(made), folder / "steps.parquet")
    (folder / "report.html").write_text(simulation_page(report_of(made)), encoding="utf-8")


def steps(made: Simulation) -> pl.DataFrame:
    """What the policy did: one row per series and step of the window."""
    history, done = made.history, made.replays[0].ledger.trajectory
    window = history.window
    day = history.labels[-window:].astype("datetime64[us]")
    return pl.DataFrame(
        {
            "unique_id": np.repeat(np.asarray(history.panel.ids, dtype=object), window).tolist(),
            "ds": np.tile(day, len(history.panel)),
            **{name: units.reshape(-1) for name, units in _units(done).items()},
        }
    )


def report_of(made: Simulation) -> SimulationReport:
    """All that the page shows."""
    facts, history = summary(made), made.history
    period = history.panel.frequency.step
    span = f"{facts['first_step']} to {facts['last_step']}"
    shown = [(name.replace("_", " "), number(value)) for name, value in facts["problem"].items()]
    rows = [
        PolicyRow(
            **row(replay, made),
            chosen=place == 0,
            mark=replay is made.foresight and place > 0,
        )
        for place, replay in enumerate(made.replays)
    ]
    return SimulationReport(
        title=f"{made.settings.policy}, replayed on history",
        subtitle=f"{facts['input']}: {facts['series']:,} series, the last {facts['window']} {period}s, {span}.",
        rows=rows,
        paths=_paths(made),
        curve=[CurvePoint(**vars(point)) for point in made.curve],
        facts=[("series", number(facts["series"])), ("window", f"{facts['window']} {period}s"), *shown],
        notes=made.notes,
        period=period,
        earned="profit" if np.any(made.settings.problem.trade.price) else "margin kept",
    )


def _units(done: Trajectory) -> dict[str, np.ndarray]:
    names = ("demand", "orders", "received", "sold", "on_hand")
    return {name: np.asarray(getattr(done, name), dtype=np.float64) for name in names}


def _paths(made: Simulation) -> list[Shown]:
    """All series together, a best seller, a middling one, an intermittent one, and the worst served."""
    units = _units(made.replays[0].ledger.trajectory)
    counted = slice(made.warm_up, None)
    wanted, sold = units["demand"][:, counted].sum(axis=1), units["sold"][:, counted].sum(axis=1)
    busy = np.flatnonzero(wanted > 0)
    picks: list[tuple[str, np.ndarray]] = [("All series", np.arange(len(wanted)))]
    if len(busy) > 1:
        ranked = busy[np.argsort(-wanted[busy], kind="stable")]
        empty = (units["demand"][busy] == 0).mean(axis=1)
        lost = (wanted - sold)[busy]
        found = {
            "Best seller": ranked[0],
            "Middling": ranked[len(ranked) // 2],
            "Intermittent": busy[np.argmin(np.abs(empty - 0.6))],
            "Most units lost": busy[np.argmax(lost)],
        }
        taken: set[int] = set()
        for why, at in found.items():
            if int(at) not in taken:
                taken.add(int(at))
                picks.append((why, np.array([at])))
    return [_path(made, units, why, at) for why, at in picks]


def _path(made: Simulation, units: dict[str, np.ndarray], why: str, rows: np.ndarray) -> Shown:
    history = made.history
    total = {name: values[rows].sum(axis=0) for name, values in units.items()}
    wanted, sold = (float(total[name][made.warm_up :].sum()) for name in ("demand", "sold"))
    return Shown(
        name=f"{len(rows):,} series" if len(rows) > 1 else history.panel.ids[int(rows[0])],
        why=why,
        dates=history.panel.frequency.written(history.labels[-history.window :]),
        demand=total["demand"].tolist(),
        stock=np.maximum(total["on_hand"], 0.0).tolist(),
        orders=total["orders"].tolist(),
        fill_rate=sold / wanted if wanted > 0 else 1.0,
    )
