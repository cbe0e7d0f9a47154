# SPDX-License-Identifier: Apache-2.0
"""The page of a migration: runs, buckets, right, fits and costs, files."""

from collections.abc import Sequence

from sirdar.chips import Cost
from sirdar.chips.analytic import fits
from sirdar.deploy.artefacts import Artefact
from sirdar.deploy.findings import Finding
from sirdar.deploy.migrate import Migration
from sirdar.deploy.precision import Layer
from sirdar.report import plots
from sirdar.report.amounts import duration, size
from sirdar.report.page import Figure, Page, Row, Section, Table

PRICE_LABELS = ("now", "as it is", "by the plan", "by network_planned.pt2")
SHEET = (
    "On an Ethos-U by Vela, which `sirdar estimate` asks too, where it takes the int8 file whole; else by its sheet."
)
_LAYERS_SHOWN = 400


def migration_page(made: Migration, artefacts: Sequence[Artefact] = ()) -> Page:
    """Everything about one migration, in the order of its questions."""
    sections = [_runs(made), *_buckets(made), *_right(made), *_costs(made), *_files(artefacts)]
    verdict = "runs" if made.runs else f"needs {counted(len(made.changes), 'change')}"
    said = f"{counted(len(made.findings), 'finding')}, {counted(len(made.rewrites), 'kind')} of rewrites"
    headline = [(made.chip.name, verdict, said)]
    if made.plan is not None:
        headline.append(("error", f"{made.plan.judged:.2g}", f"tolerance {made.plan.tolerance:g}"))
    if len(made.prices) > 1:
        now, last = made.prices[0], made.prices[-1]
        headline.append(("latency", duration(last.latency_s), f"{duration(now.latency_s)} on {now.chip} (estimates)"))
        headline.append(("per million", money(last.usd_per_million), f"{money(now.usd_per_million)} on {now.chip}"))
    return Page(
        title=f"{made.title} to {made.chip.name}",
        subtitle="What is known before a chip or its compiler is touched.",
        headline=headline,
        sections=sections,
    )


def gap(value: float) -> str:
    """A difference with one decimal of its own, and plain zero."""
    return f"{value:.1e}" if value else "0"


def counted(number: int, noun: str) -> str:
    """A number and what it counts, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def money(value: float | None) -> str:
    """Dollars, or that there is no public price."""
    return "no public price" if value is None else f"{value:.3g} USD"


def board(made: Migration) -> str:
    """What the network takes of a board's memories, of a chip that has none of its own; empty for others."""
    if made.fit is None or made.chip.kind != "npu":
        return ""
    return fits(Cost(parameter_bytes=made.fit.parameter_bytes, peak_bytes=made.fit.peak_bytes), made.chip)[1]


def _runs(made: Migration) -> Section:
    tables = []
    if made.changes:
        tables.append(Table(("What is left to change",), "l", [Row((change,)) for change in made.changes]))
    if made.findings:
        rows = [_finding(row) for row in made.findings]
        tables.append(Table(("Finding", "Line", "Why", "Fix"), "llll", rows, "What the rules of the chip say"))
    if made.rewrites:
        rows = [Row((row.name, row.sentence)) for row in made.rewrites]
        tables.append(Table(("Rewrite", "What was done"), "ll", rows, "What was rewritten"))
    lead = "Nothing keeps the network from the chip." if made.runs else "The network cannot go as it is."
    facts = [("difference after rewriting", gap(made.difference))] if made.rewrites else []
    notes = [*made.notes, *(f"{row.name} was not done, since {row.sentence}" for row in made.undone)]
    return Section("runs", "Runs", "Does it run?", lead, facts=facts, tables=tables, notes=notes)


def _finding(row: Finding) -> Row:
    code = ", ".join(row.codes)
    place = "whole network" if row.location is None else (str(row.location), row.location.code)
    done = ("done", row.rewritten) if row.rewritten else (row.fix, row.source)
    badges = [row.severity] if row.blocking else []
    times = f" ({row.count} times)" if row.count > 1 else ""
    return Row(((f"{row.title}{times}", code), place, (row.why, row.detail), done), badges, quiet=not row.blocking)


def _buckets(made: Migration) -> list[Section]:
    if made.buckets is None:
        return []
    rows = [Row((" x ".join(map(str, shape)),)) for shape in made.buckets.shapes]
    facts = [
        ("padding", f"{made.buckets.waste:.1%} of all values"),
        ("with one shape for all", f"{made.buckets.single_waste:.1%}"),
        ("sample", f"{made.buckets.samples} inputs"),
    ]
    lead = "The compiler wants fixed sizes; inputs are padded to the next of these."
    return [Section("buckets", "Buckets", "Which shapes?", lead, facts=facts, tables=[Table(("Shape",), "l", rows)])]


def _right(made: Migration) -> list[Section]:
    if made.plan is None:
        return []
    verdict = "within" if made.plan.met else "beyond"
    lead = f"The output's error is {made.plan.said}, {verdict} the tolerance of {made.plan.tolerance:g}."
    first = "" if made.plan.met else made.plan.first
    rows = [_layer(layer, first) for layer in made.plan.layers[:_LAYERS_SHOWN]]
    header = ("Layer", "Format", "Error", "Largest value", "Overflow")
    facts = [("stored in", made.plan.formats.storage)]
    if first:
        facts.append(("first layer beyond", first))
    if made.reference is not None:
        facts.append(("as the chip does it by itself", f"{made.reference.error:.2g}"))
    return [
        Section(
            "right",
            "Right",
            "Is the answer still right?",
            lead,
            figures=_error_figure(made),
            facts=facts,
            tables=[Table(header, "llrrr", rows, "Every matrix product, run in its format beside fp32")],
            notes=["Measured on the example inputs: give inputs like those of production."],
        )
    ]


def _layer(layer: Layer, first: str) -> Row:
    place = "" if layer.location is None else str(layer.location)
    name = (layer.module or layer.name, f"{layer.operator} {place}")
    cells = (name, layer.format, f"{layer.error:.2g}", f"{layer.largest:.3g}", f"{layer.overflow:.1%}")
    return Row(cells, badges=["first beyond"] if layer.name == first else [])


def _error_figure(made: Migration) -> list[Figure]:
    assert made.plan is not None
    if len(made.plan.layers) < 2:
        return []
    values = [
        {"layer": number, "error": max(layer.error, 1e-9), "format": layer.format, "name": layer.module or layer.name}
        for number, layer in enumerate(made.plan.layers[:_LAYERS_SHOWN], start=1)
    ]
    spec = plots.errors(values)
    return [Figure("How the error grows through the network", [spec])]


def _costs(made: Migration) -> list[Section]:
    if made.fit is None:
        return []
    room = made.fit
    facts = [
        ("parameters", size(room.parameter_bytes)),
        ("activations at most", size(room.peak_bytes)),
    ]
    if not board(made):
        facts.append(("memory of a core", size(room.core_bytes)))
        facts += [("cores needed", str(room.cores)), ("chips needed", str(room.chips))]
    if room.compile_s is not None:
        low, middle, high = room.compile_s
        facts.append(("instructions, about", f"{room.instructions:,}"))
        facts.append(("risk of the compile", room.risk))
        facts.append(("compile time, about", f"{duration(middle)} ({duration(low)} to {duration(high)})"))
    rows = [
        Row(
            (
                (row.chip, label),
                ", ".join(row.formats),
                duration(row.latency_s),
                (f"{row.energy_j:.3g} J", f"{row.energy_low_j:.2g} to {row.energy_high_j:.2g}"),
                row.instance or "none",
                money(row.usd_per_million),
            )
        )
        for label, row in zip(PRICE_LABELS, made.prices, strict=False)
    ]
    header = ("Chip", "Formats", "Latency", "Energy", "Instance", "A million runs")
    notes = ["Estimates from spec sheets by a roofline; nothing was measured on these chips."]
    if board(made):
        notes += [f"{board(made)}.", SHEET]
    table = Table(header, "llrrlr", rows, "One run, before and after")
    return [Section("costs", "Costs", "Does it fit, and what does it cost?", facts=facts, tables=[table], notes=notes)]


def _files(artefacts: Sequence[Artefact]) -> list[Section]:
    if not artefacts:
        return []
    rows = [
        Row(
            (
                (row.name, row.kind),
                size(row.bytes) if row.bytes else "not written",
                row.problem or row.check,
                "" if row.difference is None else gap(row.difference),
                row.sha256[:16],
            ),
            quiet=bool(row.problem),
        )
        for row in artefacts
    ]
    table = Table(("File", "Size", "Check", "Difference", "SHA-256"), "lrlrl", rows)
    return [Section("files", "Files", "Files to take along", tables=[table])]
