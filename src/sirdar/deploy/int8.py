# SPDX-License-Identifier: Apache-2.0
"""The int8 file of a captured network, or the operator that keeps it from being written."""

from dataclasses import dataclass

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
        reason: why not, in a sentence.
        location: the line of the user's code that asks for what it cannot hold.
    """

    file: bytes | None
    reason: str = ""
    location: Location | None = None


def inputs_of(captured: Captured) -> tuple[Tensor, ...]:
    """The inputs of the file in its order: those by position, then those by keyword."""
    return (*captured.arguments, *captured.keywords.values())


def int8_of(captured: Captured) -> Int8:
    """Write the file in memory."""
    given = inputs_of(captured)
    if captured.module is None or not all(isinstance(item, Tensor) for item in given):
        return Int8(None, "an int8 file takes tensors only, and the example holds something else")
    module = captured.module
    if captured.keywords:
        module = Positional(module, len(captured.arguments), tuple(captured.keywords), captured.title)
    try:
        with quiet():
            return Int8(tflite.write(module, given, [given]))
    except RefusedError as error:
        return Int8(None, str(error), error.location)
    except Exception as error:  # noqa: BLE001 - whatever a network may hold that the writer was not made for
        reason = str(error).strip().split("\n")[0]
        return Int8(None, reason or type(error).__name__)
