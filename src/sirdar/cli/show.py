# SPDX-License-Identifier: Apache-2.0
"""Results as tables in a terminal."""

import math
import sys
from typing import Any

from sirdar.chips import Ranking
from sirdar.cli.options import print_table
from sirdar.forecasting.backtest import Backtest
from sirdar.forecasting.panel import Panel
from sirdar.recipes.files import order_totals
from sirdar.recipes.plan import Orders
from sirdar.report.amounts import duration, number, share


def quality(panel: Panel) -> None:
    """The data-quality table."""
    facts = panel.quality()
    rows = [[name, value if isinstance(value, str) else number(value)] for name, value in facts.items()]
    print_table("Data", ["fact", "value"], rows + [["note", note] for note in panel.notes])


def leaderboard(evaluation: Backtest) -> None:
    """The backtest, best first."""
    rows = [
        [
            f"{score.model} *" if score.model == evaluation.winner else score.model,
            f"{score.wql:.4f}",
            f"{score.mase:.3f}" if math.isfinite(score.mase) else "–",
            share(score.coverage_80),
            share(score.closed_coverage_80),
            share(score.crossing_rate),
            duration(score.seconds),
            duration(score.cpu_seconds),
            f"{score.peak_memory_bytes / 2**20:,.0f}",
        ]
        for score in evaluation.scores
    ]
    columns = ["model", "WQL", "MASE", "80 %\ncover", "closed", "cross", "time", "CPU", "memory,\nMiB"]
    title = f"Backtest: {len(evaluation.origins)} origins, horizon {evaluation.horizon}, season {evaluation.season}"
    print_table(title, columns, rows)
    for model, reasons in evaluation.why.items():
        print_table(
            f"Why the {model} chose as it did, at the last origin", [""], [[line] for line in reasons.splitlines()]
        )


def orders(made: Orders) -> None:
    """Totals of the orders, and the steps that expectations run over."""
    rows = [[name.replace("_", " "), number(value)] for name, value in order_totals(made).items()]
    print_table("Orders, and what to expect until the next ones arrive", ["sum over products", "value"], rows)


def simulation(made: dict[str, Any]) -> None:
    """The cost table of a replay, the policy asked for first; then its assumptions."""
    costs = ("holding", "lost_margin", "purchase", "ordering", "total")
    rows = [
        [
            row["policy"],
            *[number(row[name]) for name in costs],
            *[f"{row[name]:.1%}" for name in ("fill_rate", "cycle_service_level")],
            number(row["turns"]),
            "–" if row["share_of_foresight"] is None else f"{row['share_of_foresight']:.1%}",
        ]
        for row in made["policies"]
    ]
    title = f"{made['series']:,} series, {made['window']} steps, {made['first_step']} to {made['last_step']}"
    names = ["holding", "lost margin", "purchase", "ordering", "total", "fill", "cycles", "turns"]
    print_table(title, ["policy", *names, "share"], rows)
    chosen = [f"{row['policy']}: {row['words']}" for row in made["policies"]]
    for sentence in (*chosen, *made["notes"]):
        sys.stdout.write(f"* {sentence}\n")


def chips(ranking: Ranking) -> None:
    """Every chip, cheapest first."""
    marks = {"cheapest": ranking.cheapest, "greenest": ranking.greenest, "fastest": ranking.fastest}
    rows = [
        [
            row.chip,
            row.instance or "–",
            row.dtype,
            duration(row.seconds),
            f"{number(row.energy_j)} ({number(row.energy_low_j)} to {number(row.energy_high_j)})",
            "–" if row.price_usd is None else f"${number(row.price_usd)}",
            number(row.grams_co2),
            "yes" if row.fits else "no",
            " ".join(mark for mark, chip in marks.items() if chip == row.chip),
        ]
        for row in ranking.options
    ]
    columns = ["chip", "instance", "dtype", "time", "energy, J", "price", "g CO2", "fits", ""]
    print_table("Chips (estimates)", columns, rows)
