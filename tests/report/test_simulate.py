# SPDX-License-Identifier: Apache-2.0
"""The page of a replay: what it says, that it is safe, and that a browser draws it on a phone and on a wide screen."""

import dataclasses
import html
import math
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path as File

import pytest

from sirdar.report.simulate import CurvePoint, Path, PolicyRow, SimulationReport, simulation_page

HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"
DAYS = [str(date(2024, 1, 7) + timedelta(weeks=week)) for week in range(20)]


def _row(policy: str, total: float, fill: float, **marks: bool) -> PolicyRow:
    return PolicyRow(policy, f"how {policy} orders", total / 2, total / 2, 0, 0, total, fill, fill, 12.0, 0.9, **marks)


def _path(name: str, why: str, level: float) -> Path:
    demand = [level * (1 + week % 3) for week in range(20)]
    return Path(name, why, DAYS, demand, [level] * 20, [2 * level] * 20, 0.95)


@pytest.fixture(scope="module")
def report() -> SimulationReport:
    curve = [
        CurvePoint(policy, factor, 1 - 0.1 / factor, cost * (1.3 - 0.3 / (1 + abs(factor - 1))))
        for policy, cost in (("min-max", 80.0), ("base-stock", 100.0))
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0)
    ]
    return SimulationReport(
        title="min-max, replayed on history",
        subtitle="demand.parquet: 20 series, the last 20 weeks.",
        rows=[
            _row("min-max", 80.0, 0.93, chosen=True),
            _row("base-stock", 100.0, 0.95),
            _row("constant", 160.0, 0.9),
            _row("never-order", 900.0, 0.03),
            _row("perfect-foresight", 4.0, 1.0, mark=True),
        ],
        paths=[_path("20 series", "All series", 900.0), _path(HOSTILE, "Best seller", 30.0)],
        curve=curve,
        facts=[("series", "20"), ("holding cost", "0.2")],
        notes=["Sales are taken for demand.", HOSTILE],
    )


def test_the_page_says_what_was_found(report: SimulationReport) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", simulation_page(report))).replace("\u00a0", " ")
    for finding in (
        "min-max costs 20.0 % less than base-stock, the cheapest rival",
        "95.0 % of demand served from 900 in stock",
        "min-max is cheapest where 90.0 % of demand is served",
        "how constant orders",
        "Sales are taken for demand.",
    ):
        assert finding in text
    assert text.index("how perfect-foresight orders") < text.index("how min-max orders")  # cheapest first


def test_hostile_names_stay_text(report: SimulationReport) -> None:
    page = simulation_page(report)
    assert page.lower().count("</script>") == 3
    assert "<img" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert html.escape(HOSTILE) in page


def test_numbers_that_are_missing_are_dashes() -> None:
    alone = dataclasses.replace(_row("base-stock", 0.0, 1.0, chosen=True), turns=math.inf, share_of_foresight=math.nan)
    page = simulation_page(SimulationReport("Replay", "", [alone]))
    assert "base-stock costs 0" in page
    assert page.count("–") >= 2
    assert "NaN" not in page.split('id="charts"')[1].split("</script>")[0]
    assert "base-stock costs 5, never-order nothing" in simulation_page(
        SimulationReport("Replay", "", [_row("base-stock", 5.0, 1.0, chosen=True), _row("never-order", 0.0, 1.0)])
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_draws_every_plot(report: SimulationReport, tmp_path: File, width: int, browse: Callable) -> None:
    page = simulation_page(report)
    seen, console = browse(page, tmp_path, width)
    assert console == []
    assert seen["plots"] == page.count('class="plot"') == 4
    assert min(seen["marks"]) > 0
    assert min(seen["widths"]) > 250
    assert seen["scroll"] <= width
    assert seen["spilt"] == 0
    assert seen["injected"] == 0
