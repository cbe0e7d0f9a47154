# SPDX-License-Identifier: Apache-2.0
"""The page of a search: what it says, and that no name can mean anything to it."""

import html
import json

import pytest

from sirdar.report.search import Point, Scenery, SearchReport, course_plot, pareto_plot, search_page

HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"
POINTS = [
    Point(0, "width=32", 0.30, 4e-4, front=True, start=True),
    Point(1, "width=8", 0.34, 1e-4, front=True),
    Point(2, HOSTILE, 0.36, 3e-4),
    Point(3, "width=16", 0.31, 2e-4, front=True),
]


@pytest.fixture(scope="module")
def page() -> str:
    scenery = [Scenery("whole space", [(1e6, 1e-3), (2e6, 1e-3)], 0.5, 40), Scenery("curated", [(1e6, 1e-3)], 1.0, 8)]
    rules = ["*.kind: prefer fused (9 of 10 winners, 1 of 10 others)"]
    facts = [("Strategy", "evolution")]
    report = SearchReport(
        "A search", "of a toy", "wql", False, "seconds", POINTS, 3, scenery, rules, facts, ["An estimate."]
    )
    return search_page(report)


def test_the_page_says_what_was_found(page: str) -> None:
    text = html.unescape(page)
    for part in (
        "wql 0.31 at",  # of the winner, which is not the one with the best score
        "The winner was trial 3",
        "prefer fused",
        "50\u00a0% of steps",
        "100\u00a0% of steps",
        "An estimate.",
        "evolution",
    ):
        assert part in text, part


def test_a_start_is_in_the_key_only_where_one_is_drawn(page: str) -> None:
    assert "where the search began" in page
    assert "where the search began" not in search_page(SearchReport("A", "b", "wql", False, "seconds", POINTS[1:], 1))


def test_no_name_can_leave_its_place(page: str) -> None:
    assert "<img src=x" not in page
    assert "</script><img" not in page


def test_the_front_and_the_course_are_in_the_plots() -> None:
    rows = pareto_plot(POINTS, "wql", "seconds")["data"]["values"]
    assert [row["front"] for row in rows] == [True, True, False, True]
    json.dumps(rows)
    best = [row["best"] for row in course_plot(POINTS, "wql", higher_is_better=False)["data"]["values"]]
    assert best == [0.30, 0.30, 0.30, 0.30]
    rising = [row["best"] for row in course_plot(POINTS, "wql", higher_is_better=True)["data"]["values"]]
    assert rising == [0.30, 0.34, 0.36, 0.36]
