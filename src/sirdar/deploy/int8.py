# SPDX-License-Identifier: Apache-2.0
"""The int8 file of a captured network and how far it is off, or the operator that keeps it from being written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sirdar.deploy import tflite
from sirdar.deploy.capture import Captured, drawn_alike, fresh, quiet, runnable
from sirdar.deploy.emulation import relative_error
from sirdar.deploy.findings import Location
from sirdar.deploy.litertrun import require_runnable
from sirdar.deploy.loading import Positional, tensors_of
from sirdar.deploy.precision import Plan
from sirdar.deploy.tflite.lowering import RefusedError
from sirdar.errors import UnsupportedError

_FAR = 5.0  # times the tolerance and the emulated error: chance does not put a file so far off


@dataclass(frozen=True)
class Int8:
    """An int8 TFLite file of a network, calibrated on its example.

    Args:
        file: the file; None where it cannot be written.
        refusals: why not, a sentence for each operator, with the line of the user's code that asks for it.
        places: the user's line of each tensor of the file, by its name.
        error: largest one of an output on the example, run by LiteRT, see `emulation.relative_error`; None where it was
            not run.
    """

    file: bytes | None
    refusals: tuple[tuple[str, Location | None], ...] = ()
    places: Mapping[str, Location] = field(default_factory=dict, hash=False)
    error: float | None = None

    @property
    def reason(self) -> str:
        """The first of the sentences."""
        return self.refusals[0][0] if self.refusals else ""


def inputs_of(captured: Captured) -> tuple[Tensor, ...]:
    """The tensors that the file takes, in its order: those by position, then those by keyword."""
    return tensors_of((captured.arguments, captured.keywords))


def int8_of(captured: Captured) -> Int8:
    """Write the file in memory."""
    given = inputs_of(captured)
    if captured.module is None or not given:
        return _refused("an int8 file takes tensors, and the example holds none")
    if any(item.is_meta for item in (*given, *captured.module.parameters())):
        return _refused("the network has no values (it is on the meta device) that an int8 file could hold")
    module = captured.module
    if captured.keywords or len(given) != len(captured.arguments):
        module = Positional(module, captured.arguments, captured.keywords)
    try:
        with quiet():
            file, places = tflite.written(module, given, [given])
    except RefusedError as error:
        return Int8(None, tuple((str(row), row.location) for row in (error, *error.others)))
    except Exception as error:  # noqa: BLE001 - whatever a network may hold that the writer was not made for
        reason = str(error).strip().split("\n")[0]
        return _refused(reason or type(error).__name__)
    return Int8(file, places=places)


def _refused(sentence: str) -> Int8:
    return Int8(None, ((sentence, None),))


def outputs(captured: Captured) -> list[Tensor]:
    """What the network puts out for its example."""
    assert captured.program is not None
    with torch.no_grad(), quiet(), drawn_alike():
        arguments, keywords = fresh((captured.arguments, captured.keywords))
        found = runnable(captured.program)(*arguments, **keywords)
    return [item for item in pytree.tree_leaves(found) if isinstance(item, Tensor)]


def measured(made: Int8, captured: Captured) -> Int8:
    """The file with its error; without one where LiteRT is not here, and no file where LiteRT does not survive it."""
    if made.file is None or find_spec("ai_edge_litert") is None:
        return made
    try:
        require_runnable(made.file)
    except UnsupportedError as error:
        return _refused(str(error))
    try:
        pairs = zip(outputs(captured), tflite.predict(made.file, *inputs_of(captured)), strict=True)
        return replace(made, error=worst_error(pairs))
    except Exception:  # noqa: BLE001 - the runtime's reason is told where the file is written
        return made


def worst_error(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The largest error of the second of a pair, see `emulation.relative_error`."""
    return relative_error([(exact, found.reshape(exact.shape)) for exact, found in pairs])


def astray(error: float | None, plan: Plan | None) -> str:
    """A clause where a file is far beyond its tolerance and beyond what the plan lets expect; otherwise nothing."""
    if error is None or plan is None or error <= _FAR * max(plan.tolerance, plan.error):
        return ""
    return (
        f"run by LiteRT on the example it differs by {error:.2g} as root mean square, "
        f"far beyond the tolerance of {plan.tolerance:g} and the {plan.error:.2g} of the emulation"
    )
