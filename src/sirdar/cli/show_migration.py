# SPDX-License-Identifier: Apache-2.0
"""A migration in a terminal, in the order of the five questions."""

import sys
from collections.abc import Sequence

from sirdar.cli.options import print_table
from sirdar.deploy.artefacts import Artefact
from sirdar.deploy.findings import Finding
from sirdar.deploy.fitting import Fit
from sirdar.deploy.migrate import Migration
from sirdar.report.amounts import duration, size
from sirdar.report.migrate import PRICE_LABELS, SHEET, board, counted, money


def show(made: Migration, artefacts: Sequence[Artefact]) -> None:
    """Print everything, and at the end what is left to change."""
    _say(f"{made.title} to {made.chip.name}: " + ("it runs" if made.runs else "it does not run yet"))
    _findings(made.findings)
    for row in made.rewrites:
        _say(f"rewritten: {row.sentence}")
    for row in made.undone:
        _say(f"not rewritten: {row.name}, since {row.sentence}")
    if made.rewrites:
        _say(f"the rewritten network differs from the original by {made.difference:.1e} at most")
    _buckets(made)
    _precision(made)
    _cost(made)
    _files(artefacts)
    for note in made.notes:
        _say(f"note: {note}")
    if not made.runs:
        _say("\nWhat is left to change:")
        for number, change in enumerate(made.changes, start=1):
            _say(f"{number}. {change}")


def _findings(findings: Sequence[Finding]) -> None:
    for row in findings:
        code = f" {row.codes[0]}" if row.codes else ""
        times = f" ({row.count} times)" if row.count > 1 else ""
        where = f"{row.location}" if row.location is not None else "whole network"
        kind = "mended" if row.severity == "error" and not row.blocking else row.severity
        _say(f"\n{kind}{code}: {row.title}{times}\n  {where}" + (f": {row.location.code}" if row.location else ""))
        _say(f"  found: {row.detail}" if row.detail else "  found in the graph")
        _say(f"  why: {row.why}")
        _say(f"  done: {row.rewritten}" if row.rewritten else f"  fix: {row.fix}")


def _buckets(made: Migration) -> None:
    if made.buckets is None:
        return
    shapes = ", ".join("x".join(map(str, shape)) for shape in made.buckets.shapes)
    _say(f"\nBuckets: {shapes}")
    _say(f"{made.buckets.waste:.1%} of the values are padding, {made.buckets.single_waste:.1%} with one shape for all")


def _precision(made: Migration) -> None:
    if made.plan is None:
        return
    used: dict[str, int] = {}
    for layer in made.plan.layers:
        used[layer.format] = used.get(layer.format, 0) + 1
    kinds = ", ".join(f"{count} in {name}" for name, count in sorted(used.items()))
    verdict = "within" if made.plan.met else "beyond"
    _say(f"\nFormats: {kinds or 'no layers'}, stored in {made.plan.formats.storage}")
    _say(f"error of the output {made.plan.said}, {verdict} the tolerance of {made.plan.tolerance:g}")
    if made.plan.first and not made.plan.met:
        _say(f"the first layer beyond the tolerance is {made.plan.first}")
    if made.reference is not None and made.reference.formats.default != "fp32":
        _say(f"as the chip does it by itself ({made.reference.formats.default}): {made.reference.error:.2g}")
    for layer in made.plan.layers:
        if layer.overflow:
            _say(
                f"overflow: {layer.name} reaches {layer.largest:.3g}, {layer.overflow:.1%} of it lost in {layer.format}"
            )


def _cost(made: Migration) -> None:
    if made.fit is not None:
        _say(f"\nMemory: {board(made) or _room(made.fit)}")
        if made.fit.compile_s is not None:
            low, middle, high = made.fit.compile_s
            _say(
                f"Compile: about {made.fit.instructions:,} instructions, risk {made.fit.risk}, "
                f"{duration(low)} to {duration(high)} (about {duration(middle)})"
            )
    rows = [
        [
            f"{row.chip} ({label})",
            ", ".join(row.formats),
            duration(row.latency_s),
            f"{row.energy_j:.3g} J ({row.energy_low_j:.2g} to {row.energy_high_j:.2g})",
            row.instance or "-",
            money(row.usd_per_million),
        ]
        for label, row in zip(PRICE_LABELS, made.prices, strict=False)
    ]
    if rows:
        print_table(
            "Cost of one run (estimates)", ["chip", "formats", "latency", "energy", "instance", "per million"], rows
        )
    if rows and made.chip.kind == "npu":
        _say(f"* {SHEET}")


def _room(fit: Fit) -> str:
    need = f"{size(fit.parameter_bytes + fit.peak_bytes)} of {size(fit.core_bytes)} per core"
    return f"{need}: {counted(fit.cores, 'core')}, {counted(fit.chips, 'chip')}"


def _files(artefacts: Sequence[Artefact]) -> None:
    for row in artefacts:
        gap = "" if row.difference is None else f", difference {row.difference:.1e}"
        _say(
            f"not written: {row.name}: {row.problem}"
            if row.problem
            else f"{row.name}: {size(row.bytes)}, {row.check}{gap}"
        )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
