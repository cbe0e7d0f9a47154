# SPDX-License-Identifier: Apache-2.0
"""The report of `sirdar search`: plain results in, one HTML page out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sirdar.report.amounts import Number, number
from sirdar.report.page import Figure, Page, Row, Section, Table, render
from sirdar.report.plots import ACCENT, INK, MUTE, SOFT, WARM

Pairs = Sequence[tuple[str, str]]
Spec = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One trained candidate.

    Args:
        number: in the order of the search.
        name: its choices in words.
        score: the first objective.
        cost: what it is set against.
        front: whether no other is better in both.
        start: whether it is the model the search began from.
    """

    number: int
    name: str
    score: Number
    cost: Number
    front: bool = False
    start: bool = False


@dataclass(frozen=True)
class Scenery:
    """Work against latency over a space, before or after curation.

    Args:
        name: "whole space" or the like.
        points: (multiply-accumulates, seconds) pairs.
        monotone: share of steps to more work that take longer, 0..1.
        size: candidates in the space.
    """

    name: str
    points: Sequence[tuple[Number, Number]]
    monotone: Number
    size: int


@dataclass(frozen=True)
class SearchReport:
    """All that the page of one search shows.

    Args:
        title: heading of the page.
        subtitle: the task, the chip and the space in a sentence.
        metric: name of the first objective.
        higher_is_better: of it.
        cost: name of what it is set against, with its unit.
        points: trained candidates.
        winner: number of the one that is delivered; of several in trade-off it need not have the best score.
        sceneries: of the space, before and after curation.
        rules: what winners share, in sentences.
        facts: (name, value) of the search.
        notes: what the figures rest on.
    """

    title: str
    subtitle: str
    metric: str
    higher_is_better: bool
    cost: str
    points: Sequence[Point]
    winner: int
    sceneries: Sequence[Scenery] = ()
    rules: Sequence[str] = ()
    facts: Pairs = ()
    notes: Sequence[str] = ()


def search_page(report: SearchReport) -> str:
    """The whole page as HTML, in one piece that opens without a network."""
    sections = [_front(report), _course(report)]
    if report.sceneries:
        sections.append(_scenery(report))
    if report.rules:
        rows = [Row([rule]) for rule in report.rules]
        table = Table(["Rule"], "l", rows, "What the best share and the others do not, the clearest first")
        sections.append(Section("rules", "Rules", "What winners have in common", tables=[table]))
    sections.append(Section("data", "Assumptions", "What the search rests on", facts=report.facts, notes=report.notes))
    winner = _winner(report)
    headline = [
        (
            f"The winner's {report.metric} in the search",
            number(winner.score),
            f"at {number(winner.cost)} {report.cost}",
        ),
        ("On the front", str(sum(point.front for point in report.points)), f"of {len(report.points)} trained"),
    ]
    return render(Page(report.title, report.subtitle, headline, sections))


def pareto_plot(points: Sequence[Point], metric: str, cost: str) -> Spec:
    """Score against cost: every trained candidate, the front joined by steps, and where the search began.

    Args:
        points: trained candidates.
        metric: name of the score.
        cost: name and unit of the cost.
    """
    rows = [_row(point) for point in points]
    tips = [
        {"field": "name", "type": "nominal", "title": "Candidate"},
        {"field": "score", "type": "quantitative", "title": metric, "format": ".4g"},
        {"field": "cost", "type": "quantitative", "title": cost, "format": ".4g"},
    ]
    x, y = _axis("cost", cost), _axis("score", metric)
    place = {"x": x, "y": y, "tooltip": tips}
    front = {"filter": "datum.front"}
    layers: list[Spec] = [
        {"mark": {"type": "circle", "size": 40, "color": MUTE, "opacity": 0.9}, "encoding": place},
        {
            "transform": [front],
            "mark": {"type": "line", "interpolate": "step-after", "color": ACCENT, "strokeWidth": 1.6},
            "encoding": {"x": x, "y": y, "order": {"field": "cost", "type": "quantitative"}},
        },
        {
            "transform": [front],
            "mark": {"type": "circle", "size": 80, "color": ACCENT, "opacity": 1},
            "encoding": place,
        },
        {
            "transform": [{"filter": "datum.start"}],
            "mark": {"type": "point", "shape": "diamond", "size": 110, "color": WARM, "filled": True},
            "encoding": place,
        },
    ]
    return _spec(layers, rows, 300)


def course_plot(points: Sequence[Point], metric: str, *, higher_is_better: bool) -> Spec:
    """The score of each trial, and the best so far.

    Args:
        points: in the order of the search.
        metric: name of the score.
        higher_is_better: of it.
    """
    rows, best = [], math.nan
    for point in points:
        better = math.isnan(best) or (point.score > best if higher_is_better else point.score < best)
        best = float(point.score) if better else best
        rows.append({**_row(point), "best": best})
    x = _axis("number", "Trial", zero=True)
    layers: list[Spec] = [
        {
            "mark": {"type": "circle", "size": 30, "color": MUTE, "opacity": 0.9},
            "encoding": {"x": x, "y": _axis("score", metric)},
        },
        {
            "mark": {"type": "line", "interpolate": "step-after", "color": ACCENT, "strokeWidth": 2},
            "encoding": {"x": x, "y": _axis("best", metric)},
        },
    ]
    return _spec(layers, rows, 200)


def scenery_plot(scenery: Scenery) -> Spec:
    """Latency against work of sampled candidates."""
    rows = [{"macs": float(work) / 1e6, "latency": float(seconds) * 1e3} for work, seconds in scenery.points]
    mark = {"type": "circle", "size": 36, "color": ACCENT, "opacity": 0.8}
    encoding = {"x": _axis("macs", "Million multiply-accumulates"), "y": _axis("latency", "Latency, ms")}
    return _spec([{"mark": mark, "encoding": encoding}], rows, 220)


def _front(report: SearchReport) -> Section:
    winner = _winner(report)
    title = f"{report.metric} {number(winner.score)} at {number(winner.cost)} {report.cost}"
    plot = pareto_plot(report.points, report.metric, report.cost)
    figure = Figure(
        title, [plot], kicker="Score against cost", caption="Joined: what no other candidate beats in both."
    )
    begun = any(point.start for point in report.points)
    key = [("accent", "on the front"), *([("warm", "where the search began")] if begun else [])]
    ranked = sorted((point for point in report.points if point.front or point.start), key=lambda point: point.cost)
    rows = [
        Row(
            [str(point.number), point.name, f"{point.score:.5g}", number(point.cost)],
            badges=["start"] if point.start else [],
        )
        for point in ranked
    ]
    table = Table(["Trial", "Candidate", report.metric, report.cost], "llrr", rows, "The front, cheapest first")
    return Section("front", "Front", "What can be had for what", key=key, figures=[figure], tables=[table])


def _course(report: SearchReport) -> Section:
    plot = course_plot(report.points, report.metric, higher_is_better=report.higher_is_better)
    figure = Figure(f"The winner was trial {report.winner}", [plot], kicker="Course of the search")
    return Section("course", "Course", "How it was found", figures=[figure])


def _scenery(report: SearchReport) -> Section:
    figures = [
        Figure(
            f"{100 * scene.monotone:.0f}\u00a0% of steps to more work take longer",
            [scenery_plot(scene)],
            kicker=scene.name,
            subject=f"{scene.size} candidates",
        )
        for scene in report.sceneries
    ]
    lead = "Work is what a network asks for, latency what the chip makes of it."
    return Section("landscape", "Landscape", "Work against latency", lead, figures=figures)


def _winner(report: SearchReport) -> Point:
    return next(point for point in report.points if point.number == report.winner)


def _row(point: Point) -> dict[str, Any]:
    return {
        "number": point.number,
        "name": point.name,
        "score": float(point.score),
        "cost": float(point.cost),
        "front": point.front,
        "start": point.start,
    }


def _axis(field: str, title: str, *, zero: bool = False) -> Spec:
    scale = {"zero": zero, "padding": 12}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": scale,
        "axis": {"tickCount": 5, "format": "~g"},
    }


def _spec(layers: list[Spec], rows: list[dict[str, Any]], height: int) -> Spec:
    """The finished specification: as wide as its box, in the page's inks."""
    inks = {"labelColor": SOFT, "titleColor": SOFT, "gridColor": "var(--grid)", "domainColor": "var(--line)"}
    sizes = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8}
    return {
        "data": {"values": rows},
        "layer": layers,
        "width": "container",
        "height": height,
        "background": "transparent",
        "padding": 2,
        "autosize": {"type": "fit-x"},
        "config": {
            "axis": {**inks, **sizes, "tickColor": "var(--line)"},
            "view": {"stroke": None},
            "text": {"color": INK},
        },
    }
