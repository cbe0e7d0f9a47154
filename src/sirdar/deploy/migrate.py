# SPDX-License-Identifier: Apache-2.0
"""From a PyTorch model to another chip, without a surprise: what runs, in which shapes, how exactly, and at what cost.

Everything is known before any chip or vendor compiler is touched: the network is exported, walked against the chip's
rules, mended where that is safe, run in the chip's number formats, and priced beside the chip it runs on now.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from sirdar.chips import Chip
from sirdar.chips import load as load_chip
from sirdar.deploy import rulebook
from sirdar.deploy.buckets import Buckets, choose
from sirdar.deploy.capture import Captured, Example, capture, quiet
from sirdar.deploy.carrying import carried_format, changes_anything
from sirdar.deploy.checking import check, finding, inputs_of, rules_about
from sirdar.deploy.compiled import Compiled, compile_tflite, ethos_u
from sirdar.deploy.emulation import Formats, Network, is_matrix, network
from sirdar.deploy.estimating import has_compiler, left_to_host
from sirdar.deploy.findings import Finding, merged
from sirdar.deploy.fitting import Fit, Price, fit, latencies, price, priced
from sirdar.deploy.int8 import Int8, astray, int8_of, measured
from sirdar.deploy.precision import Plan, examined, plan
from sirdar.deploy.rewriting import Rewrite, Rewritten, rewritten
from sirdar.deploy.rulebook import Rulebook
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.graph import Graph
from sirdar.workload.trace import graph_of, reduced


@dataclass(frozen=True)
class Migration:
    """What is to be known before a network goes to a chip.

    Args:
        title: of the network.
        chip: where it is to go.
        current: where it is now.
        findings: what the chip refuses or does otherwise, errors first; what was mended says how.
        rewrites: what was changed, and how often.
        undone: what was tried and did not compute the same.
        difference: largest difference of the rewritten network's outputs, relative to their largest value.
        buckets: shapes to compile for; None where the shapes are fixed.
        plan: formats per layer and their measured error; None where the network could not be run.
        reference: the same in the chip's own default formats.
        fit: memory, cores and the risk of the compile; None where the work could not be counted.
        prices: of one run: now, on the chip in the widest format it has, on the chip by the plan, and where the plan
            has formats that casts cannot carry (8-bit floats with a scale), as the program with its casts runs. On an
            Ethos-U by Arm's compiler where it takes the int8 file whole, and by the sheet of the chip elsewhere.
        notes: what could not be answered, and why.
        captured: the rewritten network, for the artefacts.
        original: the network as it was exported.
        graph: its operators.
        book: the rules that were used.
        int8: the int8 file of a chip that takes nothing else; None for other chips.
    """

    title: str
    chip: Chip
    current: Chip
    findings: tuple[Finding, ...]
    rewrites: tuple[Rewrite, ...] = ()
    undone: tuple[Rewrite, ...] = ()
    difference: float = 0.0
    buckets: Buckets | None = None
    plan: Plan | None = None
    reference: Plan | None = None
    fit: Fit | None = None
    prices: tuple[Price, ...] = ()
    notes: tuple[str, ...] = ()
    captured: Captured | None = field(default=None, repr=False, compare=False)
    original: Captured | None = field(default=None, repr=False, compare=False)
    graph: Graph | None = field(default=None, repr=False, compare=False)
    book: Rulebook | None = field(default=None, repr=False, compare=False)
    int8: Int8 | None = field(default=None, repr=False, compare=False)

    @property
    def runs(self) -> bool:
        """Whether nothing is left that keeps the network from the chip."""
        return not self.blocking

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What is left to change."""
        return tuple(row for row in self.findings if row.blocking)

    @property
    def changes(self) -> tuple[str, ...]:
        """The smallest list of changes that would let the network go: one for each line and rule, none twice."""
        return tuple(dict.fromkeys(_change(row) for row in self.blocking))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in the order of the report."""
        return {
            "model": self.title,
            "chip": self.chip.name,
            "current": self.current.name,
            "runs": self.runs,
            "changes": list(self.changes),
            "findings": [_row(found) for found in self.findings],
            "rewrites": [asdict(row) for row in self.rewrites],
            "undone": [asdict(row) for row in self.undone],
            "difference": self.difference,
            "buckets": None if self.buckets is None else _bucket_rows(self.buckets),
            "precision": None if self.plan is None else _plan_rows(self.plan),
            "default_precision": None if self.reference is None else _plan_rows(self.reference),
            "fit": None if self.fit is None else asdict(self.fit),
            "prices": [asdict(row) for row in self.prices],
            "notes": list(self.notes),
        }


def migrate(
    module: nn.Module | ExportedProgram,
    example: Example | None = None,
    *,
    chip: str | Path | Chip = "trainium1",
    current: str | Path | Chip = "this-cpu",
    tolerance: float = 0.01,
    shapes: Sequence[Sequence[int]] | None = None,
    limit: int = 4,
    rules: str | Path | None = None,
) -> Migration:
    """Answer what is to be known before a network goes to a chip.

    Args:
        module: any module, or a program that torch.export made.
        example: one tensor, a tuple of positional arguments, or a dictionary of keyword arguments.
        chip: where it is to go: a name of the catalogue, the path of a TOML file, or a chip.
        current: where it runs now.
        tolerance: error of the output that is allowed, root mean square over that of the fp32 output.
        shapes: a sample of shapes of the first input, for buckets.
        limit: on the number of buckets.
        rules: a rule file of one's own; otherwise the one of this package for the chip.

    Raises:
        ArgumentError: the chip is unknown, has no rules, or an argument is out of its range.
        DataError: a chip's or a rule file is wrong.
    """
    if not 0 < tolerance < 1:
        msg = f"tolerance must lie between 0 and 1, got {tolerance!r}"
        raise ArgumentError(msg)
    target, now = _chip(chip), _chip(current)
    book = rulebook.load(target, rules)
    captured = capture(module, example)
    chosen = choose(shapes, limit) if shapes is not None else None
    if chosen is not None:
        _require_rank(captured, chosen)
    captured, fixed = _fixed(captured, book, chosen)
    findings = check(captured, book)
    mended = rewritten(captured, findings, book)
    findings = (*fixed, *_after(findings, mended, book))
    result = Migration(
        title=captured.title,
        chip=target,
        current=now,
        findings=findings,
        rewrites=mended.rewrites,
        undone=mended.undone,
        difference=mended.difference,
        buckets=chosen,
        captured=mended.captured,
        original=captured,
        book=book,
    )
    result = _integer(_priced(_precise(_counted(result), tolerance)))
    return replace(result, findings=merged(result.findings))


def _chip(chip: str | Path | Chip) -> Chip:
    """A chip by its name; Ethos-U sheets lie in a folder of their own."""
    if isinstance(chip, Chip):
        return chip
    return ethos_u(chip) if isinstance(chip, str) and chip.startswith("ethos-u") else load_chip(chip)


def _require_rank(captured: Captured, buckets: Buckets) -> None:
    given = (*captured.arguments, *captured.keywords.values())
    first = next((item for item in given if isinstance(item, torch.Tensor)), None)
    if first is not None and first.ndim != len(buckets.shapes[0]):
        msg = f"shapes must have {first.ndim} sizes, as the first input has, got {tuple(buckets.shapes[0])}"
        raise ArgumentError(msg)


def _fixed(captured: Captured, book: Rulebook, buckets: Buckets | None) -> tuple[Captured, tuple[Finding, ...]]:
    """A network of moving sizes at the sizes of its example, and what the rules say of its inputs."""
    if captured.program is None:
        return captured, ()
    moving = [name for name, tensor in inputs_of(captured.program) if not all(isinstance(n, int) for n in tensor.shape)]
    rules = rules_about(book, "input-dynamic")
    try:
        with torch.no_grad(), quiet():
            if not moving:
                return captured, ()
            module = captured.program.module(check_guards=False)
            program = reduced(torch.export.export(module, captured.arguments, captured.keywords))
    except Exception:  # noqa: BLE001 - the finding of the check says what is wrong
        return captured, ()
    done = "compiled at the sizes of the example; give shapes of real inputs for buckets"
    if buckets is not None:
        done = f"{len(buckets.shapes)} buckets, {buckets.waste:.1%} of the values padding"
    found = tuple(
        replace(finding(rule, f"input {name}", None, name), rewritten=done) for rule in rules for name in moving
    )
    return replace(captured, program=program), found


def _after(findings: Sequence[Finding], mended: Rewritten, book: Rulebook) -> tuple[Finding, ...]:
    """The findings, those that a rewrite mended marked, with whatever the rewritten network brings that is new."""
    rules = {rule.name: rule.rewrite for rule in book.rules}
    said = {"evaluation": "exported in evaluation mode", "composition": "written with operators that the chip has"}
    touched = {(row.name, operator) for row in mended.rewrites for operator in row.operators}
    done = {row.name: row.sentence for row in mended.rewrites}
    left = check(mended.captured, book) if mended.rewrites else findings
    still = {_place(row) for row in left}
    marked = []
    for row in findings:
        name = rules.get(row.rule, "")
        gone = _place(row) not in still
        sentence = done.get(name, "") if gone or (name, row.operator) in touched else ""
        marked.append(replace(row, rewritten=said.get(name, sentence)))
    known = {row.rule for row in findings}
    return (*marked, *(row for row in left if row.rule not in known))


def _place(row: Finding) -> tuple[str, object]:
    """What a finding is about: a line of the caller's, or in torch's own modules, whose lines are not told, a name."""
    return row.rule, row.location or row.operator


def _counted(result: Migration) -> Migration:
    """The operators of the rewritten network, where they can be counted."""
    captured = result.captured
    if captured is None or captured.program is None:
        return replace(result, notes=(*result.notes, "the network was not exported: nothing was run or priced"))
    try:
        graph = graph_of(captured.program, result.title)
        uncounted = tuple(f"the work of {name} is not counted" for name in graph.unknown)
        return replace(result, graph=graph, notes=(*result.notes, *uncounted))
    except UnsupportedError as error:
        return replace(result, notes=(*result.notes, str(error)))


def _precise(result: Migration, tolerance: float) -> Migration:
    """The plan of formats, and the same network in the formats that the chip takes by itself."""
    if result.captured is None or result.graph is None or result.book is None:
        return result
    try:
        net = network(result.captured)
        with torch.no_grad(), quiet():
            found = plan(net, _costs(result, net), _storages(result), tolerance)
            whole = examined(net, found.formats, tolerance, found.note)
            found = replace(whole, latency_s=found.latency_s)
            default = _default(result)
            exact = default == Formats()  # nothing is rounded, so nothing needs to be run
            reference = Plan(default, 0.0, tolerance, ()) if exact else examined(net, default, tolerance)
    except Exception as error:  # noqa: BLE001 - the user's operators run here, and may raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return replace(result, notes=(*result.notes, f"the network could not be run in other formats: {reason}"))
    findings = list(result.findings)
    if _default(result).default != "fp32":
        for rule in rules_about(result.book, "fp32-network"):
            findings.append(finding(rule, f"relative error {reference.error:.2g}", None))
    notes = (*result.notes, found.note) if found.note and found.layers else result.notes
    return replace(result, plan=found, reference=reference, findings=tuple(findings), notes=notes)


def _costs(result: Migration, net: Network) -> dict[str, dict[str, float]]:
    """Seconds of each matrix operator in each format that the chip's rules and its sheet both list."""
    assert result.graph is not None
    assert result.book is not None
    usable = [name for name in result.book.formats if name in result.chip.flops_per_s]
    usable = usable or [result.chip.usable_dtype("bf16")]
    tables = {name: latencies(result.graph, result.chip, name) for name in usable}
    # With a scale of its own a tensor needs no range: of two 8-bit formats of one speed the finer one serves.
    finer = next((name for name in ("e4m3fn", "e4m3") if name in tables), None)
    usable = [name for name in usable if name != "e5m2" or finer is None or tables["e5m2"] != tables[finer]]
    names = [node.name for node in net.program.graph.nodes if is_matrix(node)]
    return {name: {choice: tables[choice][name] for choice in usable} for name in names}


def _storages(result: Migration) -> list[str]:
    """Formats that activations may be kept in, narrow ones first; of 16 bits those that the chip's sheet lists."""
    assert result.book is not None
    known = {"int8", "fp32", *result.chip.flops_per_s}
    return [name for name in ("int8", "bf16", "fp16", "fp32") if name in result.book.storage and name in known]


def _default(result: Migration) -> Formats:
    """What the chip does with an fp32 network when nobody says anything."""
    assert result.book is not None
    if "fp32" in result.book.storage:
        return Formats()
    return Formats(default=result.book.storage[0], storage=result.book.storage[0])


def _priced(result: Migration) -> Migration:
    if result.graph is None or result.book is None:
        return result
    formats = result.plan.formats if result.plan is not None else _default(result)
    layers = {
        operator.name: formats.of(operator.name)
        for operator in result.graph.operators
        if operator.kind in ("matmul", "conv", "attention")
    }
    widest = _default(result).storage
    room = fit(result.graph, result.chip, result.book, layers, formats.storage)
    now = price(_untouched(result) or result.graph, result.current, {}, "fp32")
    plain = price(result.graph, result.chip, dict.fromkeys(layers, widest), widest)
    planned = price(result.graph, result.chip, layers, formats.storage)
    whole = {"memory-above": room.share, "instructions-above": _instruction_share(room)}
    findings = list(result.findings)
    for condition, share in whole.items():
        over = [rule for rule in rules_about(result.book, condition) if rule.limit is not None and share > rule.limit]
        for rule in sorted(over, key=lambda rule: -(rule.limit or 0))[:1]:
            findings.append(finding(rule, _share_text(condition, share, room), None))
    prices = (now, plain, planned) if result.plan is not None else (now, plain)
    if result.plan is not None and changes_anything(formats):
        wider = {name: carried_format(row) for name, row in layers.items()}
        if wider != layers:
            prices = (*prices, price(result.graph, result.chip, wider, formats.storage))
    return replace(result, fit=room, prices=prices, findings=tuple(findings))


def _untouched(result: Migration) -> Graph | None:
    """The operators of the network before the target's rewrites; None where nothing is, or they cannot be counted."""
    if not result.rewrites or result.original is None or result.original.program is None:
        return None
    try:
        return graph_of(result.original.program, result.title)
    except UnsupportedError:
        return None


def _integer(result: Migration) -> Migration:
    """The int8 file of a chip that takes nothing else, or a finding that says what it cannot hold."""
    assert result.book is not None
    rules = rules_about(result.book, "int8-file")
    if not rules or not result.runs or result.captured is None or result.captured.program is None:
        return result
    made = measured(int8_of(result.captured), result.captured)
    refused = tuple(finding(rule, reason, place) for rule in rules for reason, place in made.refusals)
    said = astray(made.error, result.plan)
    far = [finding(rule, said, None) for rule in rules_about(result.book, "int8-error")] if said else []
    judged = None if result.plan is None else replace(result.plan, file_error=made.error)
    result = replace(result, plan=judged)
    result = result if made.file is None else _compiled(result, made, made.file)
    return replace(result, int8=made, findings=(*result.findings, *refused, *far))


def _compiled(result: Migration, made: Int8, file: bytes) -> Migration:
    """The migration with what Vela says in place of what rules and sheet let expect."""
    try:
        found = compile_tflite(file, result.chip.name)
    except (ArgumentError, UnsupportedError) as error:  # a chip of one's own, or Vela is not here
        return _by_sheet(result, str(error))
    result = replace(result, findings=_left(result, made, found))
    reason = left_to_host(found)
    if reason or not has_compiler(result.chip):
        return _by_sheet(result, reason)
    rows = [priced(result.chip, row.formats, found.latency_s, compiled=True) for row in result.prices[1:]]
    return replace(result, prices=(*result.prices[:1], *rows))


def _by_sheet(result: Migration, reason: str) -> Migration:
    """The migration with a note where a price is not that of `sirdar estimate`."""
    if not result.prices or not has_compiler(result.chip):
        return result
    return replace(result, notes=(*result.notes, f"{result.chip.name} is priced by its sheet: {reason}"))


def _left(result: Migration, made: Int8, found: Compiled) -> tuple[Finding, ...]:
    """The findings with what Vela leaves to the host in place of what the rules let expect."""
    assert result.book is not None
    known = tuple(row for row in result.findings if row.severity != "warning" or row.rewritten)
    detail = f"left to the host: {'; '.join(found.host_reasons) or 'Vela gives no reason'}"
    names = [row.name for row in found.operators if not row.on_npu]
    names += [""] * (found.host_operators - len(names))
    rules = rules_about(result.book, "unknown-operator")
    places = [made.places.get(name) for name in names]
    return (*known, *(finding(rule, detail, *row) for rule in rules for row in zip(places, names, strict=True)))


def _instruction_share(room: Fit) -> float:
    if room.instructions is None or room.instruction_limit is None:
        return 0.0
    return room.instructions / room.instruction_limit


def _share_text(condition: str, share: float, room: Fit) -> str:
    if condition == "memory-above":
        return f"{room.parameter_bytes + room.peak_bytes:.3g} bytes are {share:.1%} of the memory"
    return f"about {room.instructions:,} instructions are {share:.1%} of the limit"


def _change(row: Finding) -> str:
    place = f"{row.location}: " if row.location is not None else ""
    codes = f" [{', '.join(row.codes)}]" if row.codes else ""
    detail = f" ({row.detail})" if row.detail else ""
    return f"{place}{row.title}{detail}: {row.fix}{codes}"


def _row(found: Finding) -> dict[str, Any]:
    return {**asdict(found), "place": "" if found.location is None else str(found.location)}


def _bucket_rows(buckets: Buckets) -> dict[str, Any]:
    return {**asdict(buckets), "waste": buckets.waste, "single_waste": buckets.single_waste}


def _plan_rows(found: Plan) -> dict[str, Any]:
    return {
        "met": found.met,
        "error": found.error,
        "file_error": found.file_error,
        "tolerance": found.tolerance,
        "storage": found.formats.storage,
        "first_beyond": found.first,
        "latency_s": found.latency_s,
        "note": found.note,
        "layers": [asdict(row) for row in found.layers],
    }
