# SPDX-License-Identifier: Apache-2.0
"""The page of `sirdar advise`: where to run a network, what each choice costs, and why the others lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sirdar.report import plots
from sirdar.report.amounts import duration, number
from sirdar.report.page import Figure, Page, Row, Section, Table, render
from sirdar.units import kwh


@dataclass(frozen=True)
class ChipsReport:
    """All that the page shows.

    Args:
        network: its name.
        options: rows of `sirdar.chips.Ranking.to_rows`, best first.
        assumptions: sentences that hold for all.
        saving: against an instance in use: instance, to, price_usd, and shares of price, energy and latency.
        daily: whether price, energy and carbon are those of a day.
    """

    network: str
    options: Sequence[Mapping[str, Any]]
    assumptions: Sequence[str]
    saving: Mapping[str, Any] | None = None
    daily: bool = False

    @property
    def day(self) -> str:
        """What to say behind an amount."""
        return " a day" if self.daily else ""


def chips_page(report: ChipsReport) -> str:
    """The whole page as HTML, in one piece that opens without a network."""
    able = [row for row in report.options if row["fits"] and row["fast_enough"]]
    best = able[0] if able else None
    section = Section(
        "chips",
        "Chips",
        f"Run {report.network} on {_title(best)}" if best else f"No chip can run {report.network} as asked",
        "Estimated before anything was rented; every figure has a source in the catalogue.",
        figures=[figure for figure in _figures(able, report.day) if figure],
        tables=[_table(report)],
        notes=list(report.assumptions),
    )
    return render(Page(f"Where to run {report.network}", report.assumptions[0], _headline(best, report), [section]))


def _figures(able: Sequence[Mapping[str, Any]], day: str) -> tuple[Figure | None, ...]:
    return _prices(able, day), _energies(able, day), _latencies(able)


def _title(row: Mapping[str, Any]) -> str:
    return str(row["instance"] or row["chip"])


def _headline(best: Mapping[str, Any] | None, report: ChipsReport) -> list[tuple[str, str, str]]:
    if best is None:
        return []
    shown = [
        (f"Price{report.day}", "–" if best["price_usd"] is None else f"${number(best['price_usd'])}", _title(best)),
        (f"Energy{report.day}", f"{number(kwh(best['energy_j']))} kWh", f"{number(best['grams_co2'])} g CO₂"),
        ("Latency", duration(best["latency_s"]), "of one batch"),
    ]
    if report.saving:
        shown.append(("Saved", f"{report.saving['price']:.0%}", f"of the price on {report.saving['instance']}"))
    return shown


def _table(report: ChipsReport) -> Table:
    amounts = [f"{name}{report.day}, {unit}" for name, unit in (("Price", "USD"), ("Energy", "kWh"), ("CO₂", "g"))]
    header = ["Chip", "Format", "Machines", *amounts, "Time", "Latency", "Why not"]
    rows = [
        Row(
            [
                (str(row["chip"]), str(row["instance"] or "no price known")),
                str(row["dtype"]),
                number(row["machines"]),
                number(row["price_usd"]),
                number(kwh(row["energy_j"])),
                number(row["grams_co2"]),
                duration(row["seconds"]),
                duration(row["latency_s"]),
                str(row["reason"]),
            ],
            badges=_badges(row),
            quiet=not (row["fits"] and row["fast_enough"]),
        )
        for row in report.options
    ]
    return Table(header, "lcrrrrrrl", rows, "Every chip, best first")


def _badges(row: Mapping[str, Any]) -> list[str]:
    marks = [word for word in ("cheapest", "greenest", "fastest") if row[word]]
    return marks or (["on the front"] if row["pareto"] else [])


def _prices(rows: Sequence[Mapping[str, Any]], day: str) -> Figure | None:
    priced = [row for row in rows if row["price_usd"]]
    if not priced:
        return None
    first, last = priced[0], priced[-1]
    title = f"{_title(first)} is cheapest, at ${number(first['price_usd'])}{day}"
    if len(priced) > 1:
        title += f"; {_title(last)} costs {last['price_usd'] / first['price_usd']:.1f} times as much"
    dots = [_dot(row, [row["price_usd"]] * 3, f"${number(row['price_usd'])}", "cheapest") for row in priced]
    return Figure(title, [plots.dots(dots, "US dollars")], kicker="Price")


def _energies(rows: Sequence[Mapping[str, Any]], day: str) -> Figure | None:
    known = sorted((row for row in rows if row["energy_low_j"] > 0), key=lambda row: row["energy_j"])
    if not known:
        return None
    spent = [[kwh(row[f"energy{part}_j"]) for part in ("_low", "", "_high")] for row in known]
    dots = [_dot(row, values, number(values[1]), "greenest") for row, values in zip(known, spent, strict=True)]
    title = f"{_title(known[0])} is greenest, at {number(spent[0][1])} kWh{day}"
    caption = "A line runs from the low to the high estimate of the power, the dot is the middle."
    return Figure(title, [plots.dots(dots, "kWh")], kicker="Energy", caption=caption)


def _latencies(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    known = sorted((row for row in rows if row["latency_s"] > 0), key=lambda row: row["latency_s"])
    if not known:
        return None
    dots = [_dot(row, [1e3 * row["latency_s"]] * 3, duration(row["latency_s"]), "fastest") for row in known]
    title = f"{_title(known[0])} answers first, in {duration(known[0]['latency_s'])} for a batch"
    return Figure(title, [plots.dots(dots, "milliseconds")], kicker="Latency")


def _dot(row: Mapping[str, Any], values: Sequence[float], label: str, mark: str) -> dict[str, Any]:
    low, value, high = values
    full = label if low == high else f"{number(low)} – {number(high)}"
    tone = "best" if row[mark] else "reference" if row["pareto"] else "other"
    return {"name": row["chip"], "low": low, "value": value, "high": high, "label": label, "full": full, "tone": tone}
