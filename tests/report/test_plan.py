# SPDX-License-Identifier: Apache-2.0
"""The page of a plan: what it says, that it is safe, and that a browser draws it on a phone and on a wide screen."""

import dataclasses
import html
import json
import math
import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sirdar.report.plan import (
    CalibrationPoint,
    ChipRow,
    Fan,
    LeaderboardRow,
    OrderRow,
    PlanReport,
    plan_page,
)

HOSTILE = "</script><img src=x onerror=alert(1)><!-- '\" {{ 7 * 7 }} \u2028"
LEVELS = [k / 10 for k in range(1, 10)]


def _fan(seed: int, why: str, description: str, level: float, *, prices: bool = False) -> Fan:
    draw = random.Random(seed)
    days = [str(date(2010, 12, 5) + timedelta(weeks=week)) for week in range(53)]
    wave = [level * (1 + 0.5 * math.sin(week / 8 + seed)) * draw.lognormvariate(0, 0.3) for week in range(53)]
    history: list[float | None] = [float(round(x)) for x in wave]
    if why == "intermittent":
        history = [value if draw.random() < 0.3 else 0.0 for value in history]
    if why == "new":
        history[:34] = [None] * 34
    history[4] = None
    ahead = [str(date(2010, 12, 5) + timedelta(weeks=53 + week)) for week in range(6)]
    spread = [[max(0.0, level * (1 + (q - 0.5) * (0.8 + 0.1 * week))) for q in LEVELS] for week in range(6)]
    if why == "intermittent":
        spread = [[max(0.0, 2 * level * (q - 0.6)) for q in LEVELS] for _ in range(6)]
    tags = [2.95 if week < 22 else 2.1 if week < 40 else 2.55 for week in range(53)] if prices else None
    return Fan(f"{20000 + seed}", description, why, days, history, ahead, LEVELS, spread, tags)


def _orders(count: int) -> list[OrderRow]:
    names = [
        "WORLD WAR 2 GLIDERS ASSTD DESIGNS",
        "JUMBO BAG RED RETROSPOT",
        "POPCORN HOLDER",
        "PAPER CHAIN KIT 50'S CHRISTMAS",
        "ASSORTED COLOUR BIRD ORNAMENT",
        "RABBIT NIGHT LIGHT",
        "WHITE HANGING HEART T-LIGHT HOLDER",
        "MINI PAINT SET VINTAGE",
    ]
    return [
        OrderRow(
            id=f"{84000 + k}",
            description=names[k % len(names)],
            on_hand=2100 / (k + 2),
            expected_demand=3000 / (k + 1),
            order_up_to=4100 / (k + 1),
            order_quantity=4100 / (k + 1) - 2100 / (k + 2),
            expected_cost=120.5 / (1 + k * 7 % count),
            fill_rate=0.98 - 0.002 * k,
        )
        for k in range(count)
    ]


def _chips() -> list[ChipRow]:
    rows = [
        ("Inferentia2", "inf2.xlarge", "bf16", 3.1, 0.0021, 0.0024),
        ("Trainium2", "trn2.48xlarge", "bf16", 0.4, 0.0061, 0.0019),
        ("Graviton3", "c7g.4xlarge", "fp32", 96, 0.0155, 0.0062),
        ("T4", "g4dn.xlarge", "fp16", 11.8, 0.0046, 0.0031),
        ("A10G", "g5.xlarge", "bf16", 6.2, 0.0052, 0.0041),
        ("L4", "g6.xlarge", "bf16", 7.4, 0.0049, 0.0022),
        ("H100", "p5.48xlarge", "bf16", 0.9, 0.0124, 0.0027),
        ("this CPU", "2 cores", "fp32", 840, None, 0.021),
    ]
    return [
        ChipRow(
            chip,
            where,
            dtype,
            seconds / 500,
            seconds,
            (0.7 * kwh, kwh, 1.6 * kwh),
            price,
            380 * kwh,
            note="power assumed" if k % 3 else "",
            cheapest=chip == "Inferentia2",
            greenest=chip == "Trainium2",
        )
        for k, (chip, where, dtype, seconds, price, kwh) in enumerate(rows)
    ] + [ChipRow("Tiny", "none", "int8", 1, 1, (1, 1, 1), 0.1, None, fits=False, note="needs 5 MB, holds 2 MB")]


class Attributes(HTMLParser):
    """Every attribute of every element."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.found += attrs


@pytest.fixture(scope="module")
def report() -> PlanReport:
    board = [
        LeaderboardRow("Ensemble", 0.5632, 0.88, 0.791, 0.0, 83.2, note="mean of all quantiles"),
        LeaderboardRow("MQ-CNN", 0.5487, 0.861, 0.803, 0.0, 41.7, winner=True),
        LeaderboardRow("AutoETS", 0.6112, 0.93, 0.842, 0.0, 12.9),
        LeaderboardRow("DynamicOptimizedTheta", 0.6240, 0.95, 0.871, 0.0, 19.4),
        LeaderboardRow("TSB", 0.6903, 1.01, 0.902, 0.0, 1.3),
        LeaderboardRow("Seasonal naive", 0.8127, 1.24, 0.741, 0.0, 0.2),
    ]
    points = [
        CalibrationPoint(row.model, q, min(1.0, q + bend * math.sin(math.pi * q)))
        for row, bend in zip(board, (0.02, 0.012, 0.04, 0.06, 0.09, -0.07), strict=True)
        for q in LEVELS
    ]
    fans = [
        _fan(1, "best seller", "JUMBO BAG RED RETROSPOT", 640),
        _fan(2, "intermittent", "SET 12 LAVENDER BOTANICAL T-LIGHTS", 9),
        _fan(3, "new", "PAPER CHAIN KIT VINTAGE CHRISTMAS", 180),
        _fan(4, "price change", "WHITE HANGING HEART T-LIGHT HOLDER", 420, prices=True),
        _fan(5, "seasonal", "HOT WATER BOTTLE KEEP CALM", 90),
        _fan(6, "fading", HOSTILE, 30),
    ]
    return PlanReport(
        title="What to order, and where to compute it",
        subtitle="Online Retail, 3,912 products, weekly, 5 December 2010 to 4 December 2011; forecast for 6 weeks.",
        headline=[
            ("Units to order", "48,310", "for 2,114 of 3,912 products"),
            ("Expected cost", "£9,840", "until the next order arrives"),
            ("Fill rate", "96.4 %", "of demand served from stock"),
            ("Best model", "MQ-CNN", "32 % better than seasonal naive"),
            ("Cheapest chip", "Inferentia2", "$0.0021 per million series"),
        ],
        quality=[
            ("Series", "3,912"),
            ("Weeks", "53"),
            ("Zeros", "61.2 %"),
            ("Not observed", "1.9 %"),
            ("New", "412"),
            ("Dead", "655"),
        ],
        quality_notes=["Days on which the shop was closed are not observed, rather than zero."],
        leaderboard=board,
        leaderboard_note="Three rolling origins, six weeks each; every model saw the same past.",
        calibration=points,
        fans=fans,
        orders=_orders(40),
        order_totals=[
            ("Units", "48,310"),
            ("Products ordered", "2,114"),
            ("Expected cost", "£9,840"),
            ("Fill rate", "96.4 %"),
        ],
        order_assumptions=[
            "No stock file was given: two weeks of the median forecast are assumed to be on hand.",
            HOSTILE,
        ],
        chips=_chips(),
        chip_assumptions=[
            "Prices are on-demand list prices.",
            "Where a maker states no power, low, middle and high are assumed.",
        ],
        workload="forecasting one million series",
        run=[("Seed", "0"), ("Seconds", "171"), ("Peak memory", "1.9 GB"), ("Sirdar", "0.1.0"), ("Input", HOSTILE)],
        currency="£",
    )


@pytest.fixture(scope="module")
def page(report: PlanReport) -> str:
    return plan_page(report)


def test_the_page_says_what_was_found(page: str) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ")

    for finding in (
        "The loss of MQ-CNN is 32 % below that of Seasonal naive",
        "MQ-CNN misses a level by 1.2 points at most, at the 50 % quantile",
        "Inferentia2 is cheapest, at $0.0021; Graviton3 costs 7.4 times as much",
        "Trainium2 is greenest, at 0.0019 kWh; 5 more might be, within the uncertainty",
        "The 12 largest orders come to",
        "£120.50",
        "in a middling week, after a mean of",
    ):
        assert finding in text


def test_the_page_asks_for_nothing_outside(page: str) -> None:
    markup = _without_library(page)
    seen = Attributes()
    seen.feed(markup)

    assert not re.search(r"(?i)https?:|@import|url\(", markup)
    assert "src" not in {name for name, _ in seen.found}
    assert all((value or "").startswith(("#", "data:,")) for name, value in seen.found if name == "href")
    assert "default-src 'none'" in page
    assert len(page.encode()) < 2_500_000


def test_hostile_names_stay_text(page: str) -> None:
    assert "<img" not in _without_library(page)
    assert page.lower().count("</script>") == 3
    assert "49" not in re.findall(r"&lt;img[^\n]*", page)[0]
    assert html.escape("</script><img src=x onerror=alert(1)>") in page


def test_numbers_that_are_missing_are_dashes_and_gaps(report: PlanReport) -> None:
    broken = LeaderboardRow("broken", math.nan, math.nan, math.nan, math.nan, math.nan, note="did not converge")
    page = plan_page(dataclasses.replace(report, leaderboard=[*report.leaderboard, broken]))

    assert "NaN" not in _charts(page)
    assert re.search(r"broken\s*</th>\s*<td class=\"r\">–\s*</td>", page)


def test_the_smallest_report_is_a_page() -> None:
    only = LeaderboardRow("naive", 0.0, 1, 1, 0, 0, winner=True)
    fan = Fan("a", "", "only", ["2011-01-02"], [None], ["2011-01-09"], [0.5], [[3]])
    page = plan_page(PlanReport("Plan", "", [], [only], [], [], fans=[fan]))

    assert "3 in a middling week, without a history" in page
    assert 'id="orders"' not in page
    assert 'id="chips"' not in page


def test_nothing_at_all_is_a_page() -> None:
    assert "<h1>Plan</h1>" in plan_page(PlanReport("Plan", "", [], [], [], []))


@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_draws_every_plot(browse: Callable, page: str, tmp_path: Path, width: int) -> None:
    seen, console = browse(page, tmp_path, width)

    assert console == []
    assert seen["plots"] == page.count('class="plot"') == 13
    assert min(seen["marks"]) > 0
    assert min(seen["widths"]) > 250
    assert seen["scroll"] <= width
    assert seen["outside"] == []
    assert seen["spilt"] == 0
    assert seen["injected"] == 0


def _without_library(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def _charts(page: str) -> str:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    json.loads(found[1])
    return found[1]
