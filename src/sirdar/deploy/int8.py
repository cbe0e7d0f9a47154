# SPDX-License-Identifier: Apache-2.0
"""The int8 file of a captured network, or the operator that keeps it from being written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from sirdar.deploy import tflite
from sirdar.deploy.capture import Captured, quiet
from sirdar.deploy.findings import Location
from sirdar.deploy.loading import Positional
from sirdar.deploy.tflite.lowering import RefusedError


@dataclass(frozen=True)
class Int8:
    """An int8 TFLite file of a network, calibrated on its example.

    Args:
        file: the file; None where it cannot be written.
        refusals: why not, a sentence for each operator, with the line of the user's code that asks for it.
        places: the user's line of each tensor of the file, by its name.
    """

    file: bytes | None
    refusals: tuple[tuple[str, Location | None], ...] = ()
    places: Mapping[str, Location] = field(default_factory=dict, hash=False)

    @property
    def reason(self) -> str:
        """The first of the sentences."""
        return self.refusals[0][0] if self.refusals else ""


def inputs_of(captured: Captured) -> tuple[Tensor, ...]:
    """The inputs of the file in its order: those by position, then those by keyword."""
    return (*captured.arguments, *captured.keywords.values())


def int8_of(captured: Captured) -> Int8:
    """Write the file in memory."""
    given = inputs_of(captured)
    if captured.module is None or not all(isinstance(item, Tensor) for item in given):
        return _refused("an int8 file takes tensors only, and the example holds something else")
    if any(item.is_meta for item in (*given, *captured.module.parameters())):
        return _refused("the network has no values (it is on the meta device) that an int8 file could hold")
    module = captured.module
    if captured.keywords:
        module = Positional(module, len(captured.arguments), tuple(captured.keywords), captured.title)
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
