# SPDX-License-Identifier: Apache-2.0
"""A page is one file, whatever texts and numbers stand in it."""

import base64
import hashlib
import json
import math
import re

import pytest

from sirdar.report.page import Figure, Page, Row, Section, Table, render

TEXT = "</SCRIPT><script>alert(1)</script><!-- & \" ' \u2029 {% raw %} {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def page() -> str:
    figure = Figure(TEXT, [{"data": {"values": [{"x": TEXT, "y": math.nan}, {"x": "b", "y": -math.inf}]}}], TEXT, TEXT)
    table = Table([TEXT], "l", [Row([TEXT], badges=[TEXT]), Row([(TEXT, TEXT)], quiet=True)], TEXT)
    section = Section("a", TEXT, TEXT, TEXT, [("band", TEXT)], [figure], [(TEXT, TEXT)], [table], [TEXT])
    return render(Page(TEXT, TEXT, [(TEXT, TEXT, TEXT)], [section]))


def test_texts_open_and_close_no_element(page: str) -> None:
    assert page.lower().count("<script") == 3
    assert page.lower().count("</script") == 3
    assert "<!--" not in page
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page, flags=re.DOTALL)[0]


def test_plots_keep_their_data_and_lose_what_json_cannot_say(page: str) -> None:
    found = re.search(r'id="charts">(.*?)</script>', page, flags=re.DOTALL)

    assert found
    assert json.loads(found[1]) == [{"data": {"values": [{"x": TEXT, "y": None}, {"x": "b", "y": None}]}}]


def test_the_policy_names_exactly_the_scripts_that_run(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]

    assert re.findall(r"&#39;sha256-(.*?)&#39;|'sha256-(.*?)'", page)
    assert all(f"sha256-{digest}" in page.replace("&#43;", "+") for digest in digests)
    assert len(digests) == 2
    assert "unsafe-eval" not in page


def test_rows_are_marked(page: str) -> None:
    assert '<tr class="best">' in page
    assert '<tr class="quiet">' in page
    assert 'class="badge"' in page


def test_every_plot_has_its_own_place() -> None:
    twice = Figure("both", [{"mark": "a"}, {"mark": "b"}])
    page = render(Page("t", "", [], [Section("a", "A", "A", figures=[twice, Figure("one", [{"mark": "c"}])])]))

    assert re.findall(r'data-plot="(\d+)"', page) == ["0", "1", "2"]
    assert "noscript" in page
