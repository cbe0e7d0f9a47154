# SPDX-License-Identifier: Apache-2.0
"""The report of `sirdar plan`: plain results in, one HTML page out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sirdar.report import plots
from sirdar.report.amounts import Number, duration, number, share
from sirdar.report.page import Figure, Page, Row, Section, Table, render

_DRAWN = 12  # products in one plot
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class LeaderboardRow:
    """One model in the backtest.

    Args:
        model: its name; the one that contains "naive" is the reference for gains.
        wql: weighted quantile loss, lower is better.
        mase: mean absolute scaled error of the median.
        coverage_80: share of demand inside the 10-90 % interval.
        crossing_rate: share of neighbouring quantile pairs that cross.
        seconds: time to fit and predict.
        winner: whether it makes the forecasts of this run.
        note: a remark, such as why it was left out.
    """

    model: str
    wql: Number
    mase: Number
    coverage_80: Number
    crossing_rate: Number
    seconds: Number
    winner: bool = False
    note: str = ""


@dataclass(frozen=True)
class CalibrationPoint:
    """The share of demand (0..1) observed at or below one model's quantile of a nominal level."""

    model: str
    level: Number
    observed: Number


@dataclass(frozen=True)
class Fan:
    """History and forecast of one telling product.

    Args:
        id: product id.
        description: product name.
        why: what it tells, in a word or two ("best seller", "price change").
        history_dates: ISO dates of the history.
        history_values: demand; None where it was not observed.
        forecast_dates: ISO dates of the horizon.
        levels: rising quantile levels.
        quantiles: forecast, [horizon][level].
        prices: unit price at history_dates, drawn in a second panel; None for no panel.
    """

    id: str
    description: str
    why: str
    history_dates: Sequence[str]
    history_values: Sequence[Number | None]
    forecast_dates: Sequence[str]
    levels: Sequence[Number]
    quantiles: Sequence[Sequence[Number]]
    prices: Sequence[Number | None] | None = None


@dataclass(frozen=True)
class OrderRow:
    """One line of the order.

    Args:
        id: product id.
        description: product name.
        on_hand: units in stock and on order before this order.
        expected_demand: mean units demanded until the next order can arrive (lead time and review period).
        order_up_to: units aimed at.
        order_quantity: units to order.
        expected_cost: holding and lost sales until then and the order itself, in money.
        fill_rate: expected share of demand served from stock, 0..1.
    """

    id: str
    description: str
    on_hand: Number
    expected_demand: Number
    order_up_to: Number
    order_quantity: Number
    expected_cost: Number
    fill_rate: Number


@dataclass(frozen=True)
class ChipRow:
    """One chip running the workload.

    Args:
        chip: its name.
        instance: the machine that is priced.
        dtype: number format.
        latency_s: seconds for one batch.
        seconds_total: seconds for the whole workload.
        energy_kwh: low, middle and high estimate for the whole workload.
        price_usd: for the whole workload; None where there is no list price.
        grams_co2: for the whole workload, at the middle energy; None where unknown.
        fits: whether weights and activations fit its memory.
        note: a remark, such as an assumed power.
        cheapest: mark it so.
        greenest: mark it so.
    """

    chip: str
    instance: str
    dtype: str
    latency_s: Number
    seconds_total: Number
    energy_kwh: tuple[Number, Number, Number]
    price_usd: Number | None
    grams_co2: Number | None
    fits: bool = True
    note: str = ""
    cheapest: bool = False
    greenest: bool = False


@dataclass(frozen=True)
class PlanReport:
    """All that the page of one plan shows.

    Args:
        title: heading of the page.
        subtitle: the input, span and date in a sentence.
        headline: (label, value, note) of a few big numbers.
        quality: (name, value) facts about the data.
        quality_notes: reservations about the data.
        leaderboard: the backtest; drawn best first.
        leaderboard_note: how it was made (origins, horizon).
        calibration: of any of the models.
        fans: telling products, about six.
        orders: the largest orders; totals stand apart.
        order_totals: (name, value) facts about all orders.
        order_assumptions: costs, lead time, stock assumed.
        chips: every chip considered.
        chip_assumptions: how they were estimated.
        workload: what is run on the chips, as a noun phrase ("forecasting one million series").
        run: (name, value) facts about this run.
        period: one step of the calendar, as a noun ("week").
        currency: a sign set before the costs of orders, such as "£"; may be empty.
    """

    title: str
    subtitle: str
    headline: Sequence[tuple[str, str, str]]
    leaderboard: Sequence[LeaderboardRow]
    orders: Sequence[OrderRow]
    chips: Sequence[ChipRow]
    calibration: Sequence[CalibrationPoint] = ()
    fans: Sequence[Fan] = ()
    quality: Pairs = ()
    quality_notes: Sequence[str] = ()
    leaderboard_note: str = ""
    order_totals: Pairs = ()
    order_assumptions: Sequence[str] = ()
    chip_assumptions: Sequence[str] = ()
    workload: str = "the workload"
    run: Pairs = ()
    period: str = "week"
    currency: str = ""


def plan_page(report: PlanReport) -> str:
    """The whole page as HTML, in one piece that opens without a network."""
    parts: list[tuple[object, Callable[[PlanReport], Section]]] = [
        (report.leaderboard, _models),
        (report.fans, _products),
        (report.orders or report.order_totals, _orders),
        (report.chips, _chips),
        (report.quality or report.quality_notes, _data),
        (report.run, _run),
    ]
    sections = [make(report) for content, make in parts if content]
    return render(Page(report.title, report.subtitle, report.headline, sections))


def _quantity(value: Number) -> str:
    """Units of stock, whole from ten upwards."""
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 10 else number(round(value, 1))


def _ranked(report: PlanReport) -> list[LeaderboardRow]:
    return sorted(report.leaderboard, key=lambda row: row.wql if math.isfinite(row.wql) else math.inf)


def _models(report: PlanReport) -> Section:
    ranked = _ranked(report)
    winner = next((row for row in ranked if row.winner), ranked[0])
    drawn = [row for row in ranked if math.isfinite(row.wql)]
    naive = next((row for row in drawn if "naive" in row.model.lower()), None)
    figures = []
    if drawn:
        tones = {id(naive): "reference", id(winner): "best"}
        rows = [
            {"name": row.model, "value": row.wql, "label": f"{row.wql:.3f}", "tone": tones.get(id(row), "other")}
            for row in drawn
        ]
        spec = plots.bars(rows, "Weighted quantile loss")
        caption = "Weighted quantile loss in the backtest; lower is better."
        figures.append(Figure(_gain(winner, naive), [spec], kicker="Accuracy", caption=caption))
    if report.calibration:
        figures.append(_calibration(report.calibration, winner.model))
    header = ["Model", "WQL", "MASE", "80 % coverage", "Crossing", "Time", "Note"]
    table = Table(header, "lrrrrrl", [_model_row(row, row is winner) for row in ranked], "Backtest, best first")
    title = f"{winner.model} makes the forecasts"
    return Section("models", "Models", title, report.leaderboard_note, figures=figures, tables=[table])


def _gain(winner: LeaderboardRow, naive: LeaderboardRow | None) -> str:
    if naive is None or naive is winner or not naive.wql:
        return f"{winner.model} has the lowest loss, {winner.wql:.3f}"
    change = winner.wql / naive.wql - 1
    side = "below" if change < 0 else "above"
    return f"The loss of {winner.model} is {share(abs(change), 0)} {side} that of {naive.model}"


def _model_row(row: LeaderboardRow, best: bool) -> Row:  # noqa: FBT001  # a cell's tint, not a mode
    cells = [row.model, f"{row.wql:.4f}", f"{row.mase:.3f}", share(row.coverage_80), share(row.crossing_rate)]
    cells = [cell.replace("nan", "–") for cell in cells]
    return Row([*cells, duration(row.seconds), row.note], badges=["chosen"] if best else ())


def _calibration(points: Sequence[CalibrationPoint], winner: str) -> Figure:
    rows = [
        {"model": p.model, "level": p.level, "observed": p.observed, "tone": "best" if p.model == winner else "other"}
        for p in points
    ]
    misses = [(abs(p.observed - p.level), p) for p in points if p.model == winner and math.isfinite(p.observed)]
    title = "How often demand stayed below each quantile"
    if misses:
        _, point = max(misses, key=lambda miss: miss[0])
        worst = 100 * abs(point.observed - point.level)
        title = f"{winner} misses a level by {worst:.1f} points at most, at the {share(point.level, 0)} quantile"
    caption = f"{winner} in colour, the other models in grey; on the dashed line quantiles mean what they say."
    return Figure(title, [plots.calibration(rows)], kicker="Calibration", caption=caption)


def _products(report: PlanReport) -> Section:
    key = [("line", "sold"), ("ring", "sold nothing"), ("median", "median forecast"), ("band", _bands(report.fans))]
    if any(fan.prices is not None for fan in report.fans):
        key.append(("warm", "price"))
    lead = f"Units per {report.period}. A gap is a {report.period} in which demand was not observed."
    lead += " Hover or touch for the numbers."
    figures = [_fan(fan, report.period) for fan in report.fans]
    return Section("fans", "Products", "What will sell", lead, key=key, figures=figures)


def _bands(fans: Sequence[Fan]) -> str:
    """The nested bands in words, where all fans share them."""
    shared = {tuple(fan.levels) for fan in fans}
    levels = shared.pop()
    if shared or len(levels) < 2:
        return "nested quantile bands"
    pairs = [f"{share(levels[i], 0)[:-2]}–{share(levels[-1 - i], 0)}" for i in (0, len(levels) // 2 - 1)]
    return f"bands, {' to '.join(dict.fromkeys(pairs))}"


def _fan(fan: Fan, period: str) -> Figure:
    history = [
        {"t": _local(date), "y": value, "zero": value == 0}
        for date, value in zip(fan.history_dates, fan.history_values, strict=True)
    ]
    pairs = [(i, len(fan.levels) - 1 - i) for i in range(len(fan.levels) // 2)]
    forecast = [
        _bounds(date, row, pairs) | {"median": _middle(row)}
        for date, row in zip(fan.forecast_dates, fan.quantiles, strict=True)
    ]
    observed = [value for value in fan.history_values if value is not None]
    rare = sum(value == 0 for value in observed) * 3 > len(observed)
    bands = [(f"q{low}", f"q{high}") for low, high in pairs]
    specs = [plots.fan(history, forecast, bands, bars=rare, bare=fan.prices is not None)]
    if fan.prices is not None:
        rows = [{"t": row["t"], "price": price} for row, price in zip(history, fan.prices, strict=True)]
        specs.append(plots.price_panel(rows, [row["t"] for row in history + forecast]))
    subject = f"{fan.id} · {fan.description}" if fan.description else fan.id
    return Figure(_outlook(fan, period), specs, kicker=fan.why, subject=subject)


def _bounds(date: str, row: Sequence[Number], pairs: Sequence[tuple[int, int]]) -> dict[str, object]:
    bounds: dict[str, object] = {f"q{index}": row[index] for pair in pairs for index in pair}
    wide = f"{_quantity(row[0])} – {_quantity(row[-1])}"
    return {"t": _local(date), "top": row[-1], "likely": _quantity(_middle(row)), "wide": wide, **bounds}


def _middle(row: Sequence[Number]) -> float:
    """The median: the middle level, or half-way between the two around it."""
    return (row[(len(row) - 1) // 2] + row[len(row) // 2]) / 2


def _outlook(fan: Fan, period: str) -> str:
    """What the forecast says, against as long a stretch of the latest history."""
    steps = len(fan.quantiles)
    ahead = sum(_middle(row) for row in fan.quantiles) / max(1, steps)
    top = sum(row[-1] for row in fan.quantiles) / max(1, steps)
    recent = [value for value in fan.history_values if value is not None][-steps:]
    if ahead == 0:
        return f"Nothing in a middling {period}, {_quantity(top)} at the {share(fan.levels[-1], 0)} quantile"
    if not recent:
        return f"{_quantity(ahead)} in a middling {period}, without a history"
    span = f"the last {len(recent)} {period}s" if len(recent) > 1 else f"the last {period}"
    before = _quantity(sum(recent) / len(recent))
    return f"{_quantity(ahead)} in a middling {period}, after a mean of {before} in {span}"


def _local(date: str) -> str:
    """A bare date as local midnight: a browser would read it as UTC and show the day before, west of Greenwich."""
    return f"{date}T00:00:00" if len(date) == len("2011-12-09") else date


def _orders(report: PlanReport) -> Section:
    def money(value: Number) -> str:
        digits = 2 if abs(value) < 1000 else 0
        return f"{report.currency}{value:,.{digits}f}" if math.isfinite(value) else "–"

    header = [
        "Product",
        "Order",
        "On hand and under way",
        "Order up to",
        "Expected demand",
        "Expected cost",
        "Fill rate",
    ]
    rows = [_order_row(row, money) for row in report.orders]
    figures = [_order_figure(report.orders)] if rows else []
    if any(math.isfinite(row.expected_cost) for row in report.orders):
        figures.append(_cost_figure(report.orders, money))
    key = [
        ("", "on hand and under way"),
        ("accent", "order"),
        ("tick", "expected demand until the next order can arrive"),
    ]
    return Section(
        "orders",
        "Orders",
        "What to order",
        "Every order fills stock up to the level at which one more unit would cost more than it is expected to save.",
        key=key if figures else (),
        figures=figures,
        facts=report.order_totals,
        tables=[Table(header, "lrrrrrr", rows, "The largest orders")] if rows else [],
        notes=report.order_assumptions,
    )


def _order_row(row: OrderRow, money: Callable[[Number], str]) -> Row:
    units = [_quantity(x) for x in (row.order_quantity, row.on_hand, row.order_up_to, row.expected_demand)]
    return Row([(row.id, row.description), *units, money(row.expected_cost), share(row.fill_rate)])


def _order_figure(orders: Sequence[OrderRow]) -> Figure:
    shown = sorted(orders, key=lambda row: -row.order_quantity)[:_DRAWN]
    names = _order_names(shown)
    parts = [
        ("On hand and under way", [row.on_hand for row in shown]),
        ("Order", [row.order_quantity for row in shown]),
    ]
    rows = [
        {"name": name, "part": part, "units": units, "place": place}
        for place, (part, column) in enumerate(parts)
        for name, units in zip(names, column, strict=True)
    ]
    rows.sort(key=lambda row: names.index(str(row["name"])))
    demand = [
        {"name": name, "part": "Expected demand", "units": row.expected_demand}
        for name, row in zip(names, shown, strict=True)
    ]
    total = sum(row.order_quantity for row in shown)
    title = (
        f"The {len(shown)} largest orders come to {_quantity(total)} units" if len(shown) > 1 else "The largest order"
    )
    return Figure(title, [plots.orders(rows, demand)], kicker="Largest orders", caption="Units, largest order first.")


def _cost_figure(orders: Sequence[OrderRow], money: Callable[[Number], str]) -> Figure:
    known = [row for row in orders if math.isfinite(row.expected_cost)]
    shown = sorted(known, key=lambda row: -row.expected_cost)[:_DRAWN]
    rows: plots.Rows = [
        {"name": name, "value": row.expected_cost, "label": money(row.expected_cost), "tone": "other"}
        for name, row in zip(_order_names(shown), shown, strict=True)
    ]
    title = f"The {len(shown)} costliest of these products carry {money(sum(row.expected_cost for row in shown))}"
    caption = "Expected cost of holding and of lost sales until the next order can arrive, and of placing this one."
    return Figure(title, [plots.bars(rows, "Expected cost")], kicker="Where the cost lies", caption=caption)


def _order_names(rows: Sequence[OrderRow]) -> list[str]:
    return _distinct([row.description.capitalize() or row.id for row in rows], [row.id for row in rows])


def _distinct(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The names, with the id added to those that occur twice."""
    return [f"{name} ({id_})" if names.count(name) > 1 else name for name, id_ in zip(names, ids, strict=True)]


def _chips(report: PlanReport) -> Section:
    names = _distinct([row.chip for row in report.chips], [row.dtype for row in report.chips])
    named = dict(zip(map(id, report.chips), names, strict=True))
    figures = [figure for figure in (_prices(report, named), _energies(report, named)) if figure]
    header = ["Chip", "Format", "Price, USD", "Energy, kWh", "CO₂, g", "Time", "Latency of a batch", "Fits", "Note"]
    ranked = sorted(report.chips, key=lambda row: (not row.fits, row.price_usd is None, row.price_usd or 0))
    table = Table(header, "lcrrrrrll", [_chip_row(row) for row in ranked], f"Cost of {report.workload}, cheapest first")
    cheapest = next((row for row in report.chips if row.cheapest), None)
    title = f"Run it on {named[id(cheapest)]}" if cheapest else "Where to run it"
    lead = f"Estimated for {report.workload}, before anything is rented."
    return Section("chips", "Chip", title, lead, figures=figures, tables=[table], notes=report.chip_assumptions)


def _chip_row(row: ChipRow) -> Row:
    low, middle, high = row.energy_kwh
    energy = (number(middle), f"{number(low)} – {number(high)}") if low != high else number(middle)
    badges = [word for word, marked in (("cheapest", row.cheapest), ("greenest", row.greenest)) if marked]
    cells = [(row.chip, row.instance), row.dtype, number(row.price_usd), energy, number(row.grams_co2)]
    cells += [duration(row.seconds_total), duration(row.latency_s), "yes" if row.fits else "no", row.note]
    return Row(cells, badges=badges, quiet=not row.fits)


def _prices(report: PlanReport, names: dict[int, str]) -> Figure | None:
    priced = [
        (row.price_usd, row) for row in report.chips if row.fits and row.price_usd and math.isfinite(row.price_usd)
    ]
    if not priced:
        return None
    priced.sort(key=lambda pair: pair[0])
    rows = [
        {
            "name": names[id(row)],
            "low": price,
            "value": price,
            "high": price,
            "label": f"${number(price)}",
            "full": f"${number(price)}",
            "tone": "best" if row.cheapest else "other",
        }
        for price, row in priced
    ]
    (least, first), (most, last) = priced[0], priced[-1]
    title = f"{names[id(first)]} is cheapest, at ${number(least)}"
    title += f"; {names[id(last)]} costs {most / least:.1f} times as much" if len(priced) > 1 else ""
    caption = f"US dollars for {report.workload}."
    return Figure(title, [plots.dots(rows, "US dollars")], kicker="Price", caption=caption)


def _energies(report: PlanReport, names: dict[int, str]) -> Figure | None:
    known = [row for row in report.chips if row.fits and min(row.energy_kwh) > 0 and math.isfinite(sum(row.energy_kwh))]
    if not known:
        return None
    known.sort(key=lambda row: row.energy_kwh[1])
    rows = [
        {
            "name": names[id(row)],
            "low": row.energy_kwh[0],
            "value": row.energy_kwh[1],
            "high": row.energy_kwh[2],
            "label": number(row.energy_kwh[1]),
            "full": " – ".join(number(kwh) for kwh in row.energy_kwh),
            "tone": "best" if row.greenest else "other",
        }
        for row in known
    ]
    first = known[0]
    rivals = sum(row.energy_kwh[0] <= first.energy_kwh[2] for row in known[1:])
    title = f"{names[id(first)]} is greenest, at {number(first.energy_kwh[1])} kWh"
    title += f"; {rivals} more might be, within the uncertainty" if rivals else ", beyond the uncertainty"
    caption = (
        f"Kilowatt-hours for {report.workload}. A line runs from the low to the high estimate, the dot is the middle."
    )
    return Figure(title, [plots.dots(rows, "kWh")], kicker="Energy", caption=caption)


def _data(report: PlanReport) -> Section:
    return Section("data", "Data", "What the forecasts rest on", facts=report.quality, notes=report.quality_notes)


def _run(report: PlanReport) -> Section:
    return Section("run", "Run", "How this was made", facts=report.run)
