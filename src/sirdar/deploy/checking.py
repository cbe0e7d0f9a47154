# SPDX-License-Identifier: Apache-2.0
"""Will a network run on a chip? Its exported graph is walked once against the chip's rules."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from sirdar.deploy.capture import Captured
from sirdar.deploy.conditions import CONDITIONS, WHOLE, Scene, scene
from sirdar.deploy.findings import Finding, Location, location_of
from sirdar.deploy.nodes import computes, dtype_name, kept_by, name_of, read_by, shape_text
from sirdar.deploy.rulebook import Rule, Rulebook
from sirdar.errors import DataError
from sirdar.workload.counting import is_check

_KINDS = {"data-dependent": "data-dependent", "not-exported": "other"}  # conditions and the failures they speak of


def check(captured: Captured, book: Rulebook) -> tuple[Finding, ...]:
    """Everything in a network that the rules of a chip speak of, node by node.

    Args:
        captured: the network.
        book: the rules of the chip.

    Raises:
        DataError: a rule names a condition that does not exist.
    """
    require_conditions(book)
    found = [*_failures(captured, book), *_training(captured, book), *_composed(captured, book)]
    if captured.program is not None:
        found += _inputs(captured, book)
        found += _nodes(scene(captured.program, book.supported), book)
    return tuple(found)


def require_conditions(book: Rulebook) -> None:
    """Refuse a rule that names a condition which does not exist.

    Raises:
        DataError: the sentence names the rule file, the rule and the condition.
    """
    for rule in book.rules:
        if rule.condition and rule.condition not in CONDITIONS and rule.condition not in WHOLE:
            known = ", ".join((*CONDITIONS, *WHOLE))
            msg = f"{book.name}: rule {rule.name!r} has condition {rule.condition!r}; known are {known}"
            raise DataError(msg)


def finding(rule: Rule, detail: str, location: Location | None, operator: str = "") -> Finding:
    """What a rule says of one operator."""
    return Finding(
        rule=rule.name,
        severity=rule.severity,
        title=rule.title,
        why=rule.why,
        fix=rule.fix,
        codes=rule.codes,
        operator=operator,
        detail=detail,
        location=location,
        source=f"{rule.source} ({rule.date})",
    )


def rules_about(book: Rulebook, condition: str) -> tuple[Rule, ...]:
    """The rules that name a condition."""
    return tuple(rule for rule in book.rules if rule.condition == condition)


def holds(rule: Rule, node: fx.Node, view: Scene) -> str | None:
    """Why a rule holds for a node, or None."""
    if rule.operators and name_of(node) not in rule.operators:
        return None
    detail = ""
    read, made = read_by(node), kept_by(node)
    for wanted, tensors in ((rule.reads, read), (rule.makes, made), (rule.touches, (*made, *read))):
        if wanted:
            hits = [tensor for tensor in tensors if dtype_name(tensor.dtype) in wanted]
            if not hits:
                return None
            detail = shape_text(hits[0])
    if rule.condition:
        said = CONDITIONS[rule.condition](node, view, rule.limit)
        return None if said is None else said
    return detail


def _nodes(view: Scene, book: Rulebook) -> Iterator[Finding]:
    rules = [rule for rule in book.rules if rule.condition not in WHOLE]
    anywhere = [rule for rule in rules if not rule.operators]
    by_name: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in rule.operators:
            by_name.setdefault(name, []).append(rule)
    for node, branch in _walked(view.program.graph_module):
        if not computes(node) or is_check(node):
            continue
        asked = [rule for rule in (*by_name.get(name_of(node), ()), *anywhere) if not (branch and rule.condition)]
        found = [(rule, holds(rule, node, view)) for rule in asked]
        said = [(rule, detail) for rule, detail in found if detail is not None]
        worse = any(rule.severity != "note" for rule, _ in said)
        for rule, detail in said:
            if not (worse and rule.severity == "note"):  # a refusal says more than that nothing is known
                yield finding(rule, detail, location_of(node), node.name)


def _walked(graph: fx.GraphModule, *, branch: bool = False) -> Iterator[tuple[fx.Node, bool]]:
    """Every node, and whether it stands in a branch or the body of a loop, of whose values nothing is known."""
    for node in graph.graph.nodes:
        yield node, branch
        inner = getattr(graph, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(inner, fx.GraphModule):
            yield from _walked(inner, branch=True)


def _failures(captured: Captured, book: Rulebook) -> Iterator[Finding]:
    for failure in captured.failures:
        for condition, kind in _KINDS.items():
            if failure.kind == kind:
                for rule in rules_about(book, condition):
                    yield finding(rule, failure.reason, failure.location)


def _training(captured: Captured, book: Rulebook) -> Iterator[Finding]:
    if captured.trained:
        some = ", ".join(captured.trained[:3]) + (" and more" if len(captured.trained) > 3 else "")
        for rule in rules_about(book, "in-training"):
            yield finding(rule, f"{len(captured.trained)} layers, such as {some}", None)


def _composed(captured: Captured, book: Rulebook) -> Iterator[Finding]:
    """Operators that the chip lacks and that were written with others already."""
    for rule in rules_about(book, "composed"):
        for name, location in captured.composed:
            if name in rule.operators:
                yield finding(rule, f"aten::{name}", location, name)


def _inputs(captured: Captured, book: Rulebook) -> Iterator[Finding]:
    assert captured.program is not None
    for name, tensor in inputs_of(captured.program):
        if all(isinstance(size, int) for size in tensor.shape):
            continue
        for rule in rules_about(book, "input-dynamic"):
            yield finding(rule, f"input {name} is {shape_text(tensor)}", None, name)


def inputs_of(program: Any) -> list[tuple[str, torch.Tensor]]:  # noqa: ANN401 - an ExportedProgram
    """Name and (fake) tensor of everything the caller passes in."""
    wanted = set(program.graph_signature.user_inputs)
    rows = [(node.name, node.meta.get("val")) for node in program.graph.find_nodes(op="placeholder")]
    return [(name, value) for name, value in rows if name in wanted and isinstance(value, torch.Tensor)]
