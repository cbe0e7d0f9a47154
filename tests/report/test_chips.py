# SPDX-License-Identifier: Apache-2.0
"""The page of the advisor: findings, reasons, and nothing that a name could break."""

from sirdar.chips import advise
from sirdar.report.chips import ChipsReport, chips_page
from sirdar.testing.chips import example_graph

RANKING = advise(example_graph(), per_day=1e6)


def test_the_page_says_where_to_run_and_why_not_elsewhere() -> None:
    saving = {"instance": "g5.xlarge", "to": "inf1.xlarge", "price_usd": 1.0, "price": 0.5, "energy": 0.1, "latency": 0}
    page = chips_page(ChipsReport("net", RANKING.to_rows(), RANKING.assumptions, saving))
    best = RANKING.best
    assert best is not None
    assert f"Run net on {best.instance}" in page
    assert "has no public price" in page
    assert "50%" in page
    assert "of the price on g5.xlarge" in page


def test_nothing_able_is_said() -> None:
    tight = advise(example_graph(), per_day=1e6, latency_s=1e-9)
    page = chips_page(ChipsReport("net", tight.to_rows(), tight.assumptions))
    assert "No chip can run net as asked" in page


def test_names_are_text() -> None:
    page = chips_page(ChipsReport("<b>net</b>", RANKING.to_rows(), RANKING.assumptions))
    assert "<b>net</b>" not in page


def test_amounts_of_a_service_are_those_of_a_day() -> None:
    service = advise(example_graph(), per_s=10)
    page = chips_page(ChipsReport("net", service.to_rows(), service.assumptions, daily=service.daily))
    for head in ("Price a day, USD", "Energy a day, kWh", "CO₂ a day, g"):
        assert head in page
    assert "a day, " not in chips_page(ChipsReport("net", RANKING.to_rows(), RANKING.assumptions))
