# SPDX-License-Identifier: Apache-2.0
"""The report of `sirdar simulate`: plain results in, one HTML page out."""

from collections.abc import Sequence
from dataclasses import dataclass

from sirdar.report import plots
from sirdar.report.amounts import Number, number, share
from sirdar.report.page import Figure, Page, Row, Section, Table, render

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class PolicyRow:
    """One policy on the window.

    Args:
        policy: its name.
        words: what was chosen for it.
        holding: cost of stock held.
        lost_margin: cost of demand that found no stock.
        purchase: paid for the units ordered.
        ordering: paid for placing orders.
        total: of the four.
        fill_rate: share of demand served, 0..1.
        cycle_service_level: share of review periods without a shortage, 0..1.
        turns: units sold per unit of mean stock.
        share_of_foresight: of the profit of perfect foresight, or of the margin that it keeps; 1 at best.
        chosen: whether it is the policy that was asked for.
        mark: whether it is perfect foresight, which is no rival.
    """

    policy: str
    words: str
    holding: Number
    lost_margin: Number
    purchase: Number
    ordering: Number
    total: Number
    fill_rate: Number
    cycle_service_level: Number
    turns: Number
    share_of_foresight: Number
    chosen: bool = False
    mark: bool = False


@dataclass(frozen=True)
class Path:
    """What a policy did with one series, or with all.

    Args:
        name: of the series.
        why: why it is shown, in a word or two.
        dates: ISO dates of the steps.
        demand: units wanted.
        stock: units left after the step.
        orders: units ordered.
        fill_rate: share of demand served, 0..1.
    """

    name: str
    why: str
    dates: Sequence[str]
    demand: Sequence[Number]
    stock: Sequence[Number]
    orders: Sequence[Number]
    fill_rate: Number


@dataclass(frozen=True)
class CurvePoint:
    """One policy decided at `factor` times the lost-sale cost and paid for at the true one."""

    policy: str
    factor: Number
    fill_rate: Number
    cost: Number


@dataclass(frozen=True)
class SimulationReport:
    """All that the page of one replay shows.

    Args:
        title: heading of the page.
        subtitle: the table, the window and the series in a sentence.
        rows: the policy that was asked for and its rivals.
        paths: over time.
        curve: of the policy and of a rival.
        facts: (name, value) of the problem and the data.
        notes: assumptions.
        period: one step of the calendar, as a noun.
        earned: what `share_of_foresight` is a share of.
    """

    title: str
    subtitle: str
    rows: Sequence[PolicyRow]
    paths: Sequence[Path] = ()
    curve: Sequence[CurvePoint] = ()
    facts: Pairs = ()
    notes: Sequence[str] = ()
    period: str = "week"
    earned: str = "profit"


def simulation_page(report: SimulationReport) -> str:
    """The whole page as HTML, in one piece that opens without a network."""
    sections = [_costs(report)]
    if report.paths:
        sections.append(_over_time(report))
    if report.curve:
        sections.append(_trade_off(report))
    sections.append(Section("data", "Assumptions", "What the replay rests on", facts=report.facts, notes=report.notes))
    return render(Page(report.title, report.subtitle, _headline(report), sections))


def _chosen(report: SimulationReport) -> PolicyRow:
    return next((row for row in report.rows if row.chosen), report.rows[0])


def _headline(report: SimulationReport) -> list[tuple[str, str, str]]:
    row = _chosen(report)
    return [
        ("Total cost", number(row.total), f"of {row.policy} over the window"),
        ("Fill rate", share(row.fill_rate), "of demand served at once"),
        ("Cycle service", share(row.cycle_service_level), "of review periods without a shortage"),
        ("Turns", number(row.turns), "units sold per unit of mean stock"),
        ("Of perfect foresight", share(row.share_of_foresight), f"of the {report.earned} of one who knows all demand"),
    ]


def _costs(report: SimulationReport) -> Section:
    ranked = sorted(report.rows, key=lambda row: row.total)
    bars: plots.Rows = [
        {
            "name": row.policy,
            "value": row.total,
            "label": number(row.total),
            "tone": "best" if row.chosen else "reference" if row.mark else "other",
        }
        for row in ranked
    ]
    figure = Figure(_verdict(report), [plots.bars(bars, "Cost")], kicker="Cost", caption="Total cost over the window.")
    header = ["Policy", "Holding", "Lost margin", "Purchase", "Ordering", "Total", "Fill rate", "Cycle service"]
    header += ["Turns", "Of foresight"]
    table = Table(
        header, "lrrrrrrrrr", [_row(row) for row in ranked], "Cost and service over the window, cheapest first"
    )
    return Section("costs", "Costs", "What each policy would have cost", figures=[figure], tables=[table])


def _verdict(report: SimulationReport) -> str:
    chosen = _chosen(report)
    rivals = [row for row in report.rows if not row.mark and row is not chosen]
    if not rivals:
        return f"{chosen.policy} costs {number(chosen.total)}"
    best = min(rivals, key=lambda row: row.total)
    if not best.total:
        return f"{chosen.policy} costs {number(chosen.total)}, {best.policy} nothing"
    change = chosen.total / best.total - 1
    side = "less" if change < 0 else "more"
    return f"{chosen.policy} costs {share(abs(change))} {side} than {best.policy}, the cheapest rival"


def _row(row: PolicyRow) -> Row:
    costs = [number(value) for value in (row.holding, row.lost_margin, row.purchase, row.ordering, row.total)]
    service = [share(row.fill_rate), share(row.cycle_service_level), number(row.turns), share(row.share_of_foresight)]
    return Row([(row.policy, row.words), *costs, *service], badges=["asked for"] if row.chosen else [], quiet=row.mark)


def _over_time(report: SimulationReport) -> Section:
    figures = []
    for path in report.paths:
        rows: plots.Rows = [
            {
                "t": f"{date}T00:00:00" if len(date) == len("2011-12-09") else date,
                "stock": stock,
                "order": order,
                "demand": demand,
            }
            for date, stock, order, demand in zip(path.dates, path.stock, path.orders, path.demand, strict=True)
        ]
        title = f"{share(path.fill_rate)} of demand served from {number(sum(path.stock) / len(path.stock))} in stock"
        figures.append(Figure(title, [plots.stock(rows)], kicker=path.why, subject=path.name))
    key = [("", f"left at the end of the {report.period}"), ("accent", "ordered"), ("line", "wanted")]
    lead = f"What {_chosen(report).policy} did, {report.period} by {report.period}, in units."
    return Section("time", "Over time", "Stock, orders and demand", lead, key=key, figures=figures)


def _trade_off(report: SimulationReport) -> Section:
    chosen = _chosen(report).policy
    curves: plots.Rows = [
        {
            "name": point.policy,
            "place": place,
            "service": point.fill_rate,
            "cost": point.cost,
            "label": f"{point.factor:g} times the lost-sale cost",
            "tone": "best" if point.policy == chosen else "reference",
            "true": point.factor == 1,
        }
        for place, point in enumerate(report.curve)
    ]
    drawn = {point.policy for point in report.curve}
    marks: plots.Rows = [
        {"name": row.policy, "service": row.fill_rate, "cost": row.total, "label": "the true costs"}
        for row in report.rows
        if row.policy not in drawn and row.policy != "never-order"  # far off: it would squeeze the curves
    ]
    least = min((point for point in report.curve if point.policy == chosen), key=lambda point: point.cost)
    title = f"{chosen} is cheapest where {share(least.fill_rate)} of demand is served"
    caption = "Each line decides at an eighth to 16 times the lost-sale cost and pays the true one; a ring is 1."
    figure = Figure(title, [plots.trade_off(curves, marks)], kicker="Cost against service", caption=caption)
    key = [("accent", chosen)]
    key += [("line", name) for name in dict.fromkeys(point.policy for point in report.curve) if name != chosen]
    return Section("trade-off", "Trade-off", "Cost against service", key=key, figures=[figure])
