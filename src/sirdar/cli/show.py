# SPDX-License-Identifier: Apache-2.0
"""Results as tables in a terminal."""

from sirdar.chips import Ranking
from sirdar.cli.options import print_table
from sirdar.forecasting.backtest import Backtest
from sirdar.forecasting.panel import Panel
from sirdar.recipes.files import order_totals
from sirdar.recipes.plan import Orders
from sirdar.report.plan import duration, number


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
            f"{score.mase:.3f}",
            f"{score.coverage_80:.1%}",
            f"{score.closed_coverage_80:.1%}",
            f"{score.crossing_rate:.1%}",
            duration(score.seconds),
        ]
        for score in evaluation.scores
    ]
    columns = ["model", "WQL", "MASE", "80 % coverage", "closed", "crossing", "time"]
    print_table(f"Backtest: {len(evaluation.origins)} origins, horizon {evaluation.horizon}", columns, rows)


def orders(made: Orders) -> None:
    """Totals of the orders."""
    rows = [[name.replace("_", " "), number(value)] for name, value in order_totals(made).items()]
    print_table("Orders", ["sum over products", "value"], rows)


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
    print_table("Chips (roofline estimates)", columns, rows)
