# SPDX-License-Identifier: Apache-2.0
"""A network as torch.export sees it: core ATen operators with the user's source lines, or what kept it from being seen.

The network is exported in evaluation mode, on fake tensors: nothing is computed and no weight is touched. Where the
plain export fails, torch's draft export goes on past the failure, so that one run names everything there is to mend.
"""

import copy
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from traceback import StackSummary
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram, _draft_export
from torch.fx.experimental.proxy_tensor import _ModuleStackTracer
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.fx.proxy import TracerBase
from torch.utils import _pytree as pytree

from sirdar.deploy.findings import Location, location_of, location_of_error
from sirdar.deploy.nodes import name_of
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.trace import evaluating, quiet, reduced, split

Example = torch.Tensor | tuple[Any, ...] | dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """Why a network could not be exported.

    Args:
        kind: "data-dependent" where its shapes or branches depend on values, otherwise "other".
        reason: torch's own sentence.
        location: the line of the user's code.
    """

    kind: str
    reason: str
    location: Location | None


@dataclass(frozen=True)
class Captured:
    """A network, exported.

    Args:
        title: what it is called.
        program: core ATen operators; None where nothing could be exported.
        arguments: positional example inputs.
        keywords: example inputs by name.
        failures: what kept torch.export from following it.
        trained: names of the layers that were in training mode.
        module: what was exported, in evaluation mode when it is called through `evaluating`.
        composed: operators that the reduction to core ATen wrote with others, and the user's lines.
    """

    title: str
    program: ExportedProgram | None
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict, hash=False)
    failures: tuple[Failure, ...] = ()
    trained: tuple[str, ...] = ()
    module: nn.Module | None = field(default=None, repr=False, compare=False)
    composed: tuple[tuple[str, Location | None], ...] = ()


def capture(
    module: nn.Module | ExportedProgram,
    example: Example | None = None,
    *,
    dynamic: Any = None,  # noqa: ANN401
) -> Captured:
    """Export a network and reduce it to core ATen operators.

    Args:
        module: any module, or a program that torch.export made.
        example: one tensor, a tuple of positional arguments, or a dictionary of keyword arguments; a program may carry
            its own.
        dynamic: `dynamic_shapes` of torch.export; None for shapes that are all fixed.

    Raises:
        ArgumentError: the example is missing or none of the three.
    """
    if isinstance(module, ExportedProgram):
        return _program(module, example)
    arguments, keywords = split(example)
    title = type(module).__name__
    trained = tuple(name or title for name, part in module.named_modules() if part.training and _behaves(part))
    failures: tuple[Failure, ...] = ()
    with evaluating(module), quiet(), all_lines():
        try:
            program = torch.export.export(module, arguments, keywords, dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # noqa: BLE001 - torch.export raises a dozen unrelated types
            failures = (_failure(error),)
            program = _draft(module, arguments, keywords)
    composed: tuple[tuple[str, Location | None], ...] = ()
    if program is not None:
        try:
            with quiet():
                whole, program = program, reduced(program)
                composed = _composed(whole, program)
        except Exception as error:  # noqa: BLE001
            failures, program = (*failures, _failure(error)), None
    return Captured(title, program, arguments, keywords, failures, trained, module, composed)


def runnable(program: ExportedProgram) -> nn.Module:
    """A module that computes a program; a copy of its own where running it changes what it stores."""
    module = program.module(check_guards=False)
    if not program.graph_signature.buffers_to_mutate:
        return module
    with quiet():  # torch warns of what it copies
        return copy.deepcopy(module)


def fresh(example: Any) -> Any:  # noqa: ANN401 - nested tuples and dictionaries of anything
    """The same inputs in tensors of their own, since a network may change them."""
    return pytree.tree_map(lambda item: item.clone() if isinstance(item, torch.Tensor) else item, example)


@contextmanager
def drawn_alike(seed: int = 0) -> Iterator[None]:
    """Whatever a network draws, it draws the same each time; the generator of torch is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def all_lines() -> Iterator[None]:
    """Every line from the first `forward` on is kept for each node; by itself torch keeps those in a `forward` only."""

    def kept(tracer: TracerBase, frames: StackSummary) -> StackSummary:
        tracer._record_forward_stack_traces_only = False
        return TracerBase._filter_traceback_frames(tracer, frames)

    owner: Any = _ModuleStackTracer
    owner._filter_traceback_frames = kept
    try:
        yield
    finally:
        del owner._filter_traceback_frames


def _program(program: ExportedProgram, example: Example | None) -> Captured:
    given = program.example_inputs if example is None else split(example)
    if given is None:
        msg = "the program carries no example inputs: give example"
        raise ArgumentError(msg)
    arguments, keywords = tuple(given[0]), dict(given[1])
    try:
        with quiet():
            core = reduced(program)
    except Exception as error:
        msg = f"the program cannot be reduced to core ATen operators: {_sentence(error)}"
        raise UnsupportedError(msg) from error
    inner = program.module(check_guards=False)
    for method in ("train", "eval"):  # torch.export refuses to switch modes, since the mode is compiled in
        inner.__dict__.pop(method, None)
    return Captured("program", core, arguments, keywords, module=inner, composed=_composed(program, core))


def _composed(whole: ExportedProgram, core: ExportedProgram) -> tuple[tuple[str, Location | None], ...]:
    """Operators that stand in the program and in its reduction no more, once for each line."""
    kept = {name_of(node) for node in core.graph.nodes}
    gone = [node for node in whole.graph.nodes if node.op == "call_function" and name_of(node) not in kept]
    return tuple(dict.fromkeys((name_of(node), location_of(node)) for node in gone))


def _draft(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> ExportedProgram | None:
    plain = _draft_export.CaptureStructuredTrace
    _draft_export.CaptureStructuredTrace = _Unwritten
    try:
        return torch.export.draft_export(module, arguments, keywords)
    except Exception:  # noqa: BLE001 - the first failure has been recorded
        return None
    finally:
        _draft_export.CaptureStructuredTrace = plain


class _Unwritten(_draft_export.CaptureStructuredTrace):
    """What draft_export records, without the file that it leaves open in the folder for temporary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stream, self._pid = _Nowhere(), os.getpid()


class _Nowhere(StringIO):
    """Takes any text and keeps none."""

    name = os.devnull

    def write(self, text: str, /) -> int:
        return len(text)


def _failure(error: Exception) -> Failure:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GuardOnDataDependentSymNode) or "data-dependent" in str(cause).lower():
            return Failure("data-dependent", _sentence(cause), location_of_error(cause) or location_of_error(error))
        cause = cause.__cause__
    return Failure("other", _of_a_class(str(error)) or _sentence(error), location_of_error(error))


def _of_a_class(said: str) -> str:
    """A sentence where the network takes or returns a class of the user's own; empty for every other error."""
    found = re.search(r"Found <class '([^']+)'> in (\w+), which is not a known type", said)
    if found is None:
        return ""
    name = found[1].rsplit(".", 1)[-1]
    way = f"register it by torch.export.register_dataclass({name}) or use a tuple or dictionary in its place"
    return f"its {found[2]} is a {found[1]}, which torch.export cannot take apart: {way}"


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().split("\n") if line.strip()]
    return lines[0] if lines else type(error).__name__


def _behaves(part: nn.Module) -> bool:
    """Whether a layer computes something else in training."""
    own = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)
    return isinstance(part, own)
