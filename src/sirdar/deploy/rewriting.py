# SPDX-License-Identifier: Apache-2.0
"""Rewrites a network so that a chip takes it, and proves that it still computes the same.

The exported graph is edited, exported anew, and run beside the original on the example and on inputs drawn around it.
A rewrite after which some output differs by more than 1e-5 of its size, or which torch.export refuses, is undone.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from sirdar.deploy.capture import Captured, drawn_alike, evaluating, fresh, quiet, runnable
from sirdar.deploy.conditions import Scene, scene
from sirdar.deploy.findings import Finding
from sirdar.deploy.ranges import Interval
from sirdar.deploy.rewrites import EVERYWHERE, REWRITES, Draft
from sirdar.deploy.rulebook import Rulebook
from sirdar.errors import UnsupportedError
from sirdar.workload.counting import is_check

TOLERANCE = 1e-5
_DRAWS = 1


@dataclass(frozen=True)
class Rewrite:
    """Something that was changed in a network.

    Args:
        name: of the rewrite.
        sentence: what was done, and how often.
        operators: the nodes it concerned.
    """

    name: str
    sentence: str
    operators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rewritten:
    """A network that computes the same as the captured one.

    Args:
        captured: it.
        rewrites: what was done.
        difference: largest difference of an output from the original's, relative to its largest value.
        undone: what was tried and computed something else, or could not be exported, with the reason.
    """

    captured: Captured
    rewrites: tuple[Rewrite, ...] = ()
    difference: float = 0.0
    undone: tuple[Rewrite, ...] = ()


def rewritten(captured: Captured, findings: Sequence[Finding], book: Rulebook, *, seed: int = 0) -> Rewritten:
    """Mend what can be mended safely.

    Args:
        captured: the network.
        findings: what the rules said of it.
        book: the rules, which name the rewrites.
        seed: of the inputs on which both are compared.
    """
    if captured.program is None:
        return Rewritten(captured)
    names = _wanted(findings, book) + [name for name in EVERYWHERE if name in book.rewrites]
    undone: list[Rewrite] = []
    while names:
        program, done, reason = _attempt(captured, findings, book, names)
        if program is not None and not done:
            return Rewritten(captured, undone=tuple(undone))
        if program is not None:
            after = replace(captured, program=program)
            try:
                gap = difference(captured, after, seed=seed)
            except UnsupportedError as error:
                return Rewritten(captured, undone=(Rewrite("all", str(error)),))
            if gap <= TOLERANCE:
                return Rewritten(after, tuple(done), gap, tuple(undone))
            reason = f"outputs differ by {gap:.2g}"
        culprit = names[-1] if len(names) == 1 else _culprit(captured, findings, book, names)
        undone.append(Rewrite(culprit, reason))
        names = [name for name in names if name != culprit]
    return Rewritten(captured, (), 0.0, tuple(undone))


def difference(before: Captured, after: Captured, *, seed: int = 0) -> float:
    """Largest difference of any output on the example and on inputs drawn around it, relative to its largest value.

    Integers in the draws keep to the values of the example, so that no table is left.

    Raises:
        UnsupportedError: the original does not run on its own example.
    """
    assert before.program is not None
    assert after.program is not None
    # The user's own module where there is one, so that the reduction to core operators is part of the proof.
    whole = before.module if not before.failures else None
    stateful = bool(before.program.graph_signature.buffers_to_mutate)
    whole = copy.deepcopy(whole) if stateful else whole  # running it would change the user's own network
    one = runnable(before.program) if whole is None else whole
    two = runnable(after.program)
    worst = 0.0
    given = pytree.tree_leaves((before.arguments, before.keywords))
    moved = any(isinstance(item, torch.Tensor) and item.is_floating_point() for item in given)
    for draw in range(_DRAWS + 1 if moved else 1):  # integers are drawn as they are: once is enough
        arguments, keywords = _drawn((before.arguments, before.keywords), draw, seed)
        with torch.no_grad(), quiet(), evaluating(whole) if whole is not None else nullcontext():
            try:
                given, named = fresh((arguments, keywords))
                with drawn_alike():
                    expected = one(*given, **named)
            except (RuntimeError, IndexError, NotImplementedError) as error:
                if draw:  # the noise has left what the network takes
                    break
                msg = f"the network itself fails on its example: {str(error).strip().splitlines()[0]}"
                raise UnsupportedError(msg) from error
            try:
                given, named = fresh((arguments, keywords))
                with drawn_alike():
                    found = two(*given, **named)
            except (RuntimeError, IndexError, NotImplementedError):
                return float("inf")
        pairs = list(zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True))
        if any(isinstance(item, torch.Tensor) and item.is_meta for pair in pairs for item in pair):
            msg = "the network has no values (it is on the meta device), so a rewrite cannot be proven equal"
            raise UnsupportedError(msg)
        worst = max([worst, *(gap_of(a, b) for a, b in pairs if isinstance(a, torch.Tensor))])
    return worst


def gap_of(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Largest difference over the largest finite magnitude expected; infinite where shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    if expected.is_complex():
        expected, found = torch.view_as_real(expected), torch.view_as_real(found)
    a, b = expected.double(), found.double()
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return 0.0
    gap = (a - b).abs()[~same]
    finite = a[torch.isfinite(a)]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    return float(gap.nan_to_num(float("inf")).max()) / (size or 1.0)


def _drawn(example: Any, draw: int, seed: int) -> Any:  # noqa: ANN401
    """The example itself first; then floats moved by noise of their own spread, and everything else as it was."""
    if draw == 0:
        return example
    generator = torch.Generator().manual_seed(seed + draw)

    def moved(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.numel():
            return value
        noise = torch.randn(value.shape, generator=generator)
        spread = float(value.float().std()) if value.numel() > 1 else 1.0
        return (value.float() + noise * (spread if spread > 0 else 0.0)).to(value.dtype)

    return pytree.tree_map(moved, example)


def _wanted(findings: Sequence[Finding], book: Rulebook) -> list[str]:
    rules = {rule.name: rule.rewrite for rule in book.rules}
    return list(dict.fromkeys(rules[row.rule] for row in findings if rules.get(row.rule) in REWRITES))


def _attempt(
    captured: Captured, findings: Sequence[Finding], book: Rulebook, names: Sequence[str]
) -> tuple[ExportedProgram | None, list[Rewrite], str]:
    """Apply rewrites and export anew: the program, what was done, and why there is no program."""
    assert captured.program is not None
    view = scene(captured.program)
    module = captured.program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for node in [node for node in module.graph.nodes if node.op == "call_function" and is_check(node)]:
        module.graph.erase_node(node)  # they compute nothing, and name types that a rewrite may change
    draft = Draft(module, _by_name(view))
    rules = {rule.name: rule.rewrite for rule in book.rules}
    done: list[Rewrite] = []
    for name in names:
        if name in EVERYWHERE:
            touched = EVERYWHERE[name](draft)
        else:
            operators = {row.operator for row in findings if rules.get(row.rule) == name}
            touched = [found for node in draft.nodes(operators) for found in REWRITES[name](draft, node)]
        if touched:
            done.append(Rewrite(name, f"{_SENTENCES[name]} ({len(touched)})", tuple(touched)))
    if not done:
        return captured.program, [], ""
    try:
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
        with torch.no_grad(), quiet():
            program = torch.export.export(module, captured.arguments, captured.keywords, strict=False)
            # Its operators are core ATen's already; but only of a functional graph the signature names what it changes.
            changes = captured.program.graph_signature
            if changes.buffers_to_mutate or changes.user_inputs_to_mutate:
                program = program.run_decompositions({})
            return program, done, ""
    except Exception as error:  # noqa: BLE001 - torch.export raises a dozen unrelated types
        return None, done, f"it could not be exported: {str(error).strip().splitlines()[0] if str(error) else error}"


def _culprit(captured: Captured, findings: Sequence[Finding], book: Rulebook, names: Sequence[str]) -> str:
    """The first rewrite that fails alone; the last one where only all together do."""
    for name in names:
        program, _, _ = _attempt(captured, findings, book, [name])
        if program is None or difference(captured, replace(captured, program=program)) > TOLERANCE:
            return name
    return names[-1]


def _by_name(view: Scene) -> Mapping[str, Interval]:
    return {node.name: span for node, span in view.ranges.items()}


_SENTENCES = {
    "float-matmul": "integer products computed in fp32, where every sum stays below 2**24",
    "float-scatter": "integer scatters computed in fp32, where every sum stays below 2**24",
    "float-topk": "TopK of integers taken of floats, where every value stays below 2**24",
    "fold-batch-norm": "batch norms with stored statistics folded into the convolution before them",
    "compose-activation": "activations written with operators that the chip has",
    "halve-fp8": "8-bit weights beyond 240 halved, and their product doubled",
    "masked-write": "values written under a mask chosen by torch.where",
    "narrow-doubles": "64-bit floats computed in fp32",
    "narrow-integers": "64-bit integers made 32-bit ones, where their range allows",
    "narrow-power": "powers of 64-bit integers computed in 32 bits, where they fit",
    "slice-pooling": "dilated pooling written as the maximum of shifted slices",
    "sort-by-topk": "sorting done by TopK of all values",
    "spread-kernel": "dilated kernels of transposed convolutions spread with zeros",
    "wide-shift": "shifts done in 32 bits",
}
