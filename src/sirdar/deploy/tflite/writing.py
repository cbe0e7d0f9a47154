# SPDX-License-Identifier: Apache-2.0
"""The doors of the writer: a torch module to an int8 TFLite file, and back to numbers through LiteRT.

Post-training quantisation: weights symmetric int8 with a scale per output channel, biases int32, activations int8 with
one scale from the least and greatest value over calibration batches. Batch norms and rectifiers are folded into the
layers before them. Four-axis inputs and outputs of the file lie batch, height, width, channel; all others as in torch.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sirdar.deploy.findings import Location
from sirdar.deploy.tflite import rules_linear, rules_pointwise, rules_pool, rules_shape
from sirdar.deploy.tflite.encode import encode
from sirdar.deploy.tflite.exporting import Example, arguments, exported, ranges_of
from sirdar.deploy.tflite.lowering import Lowering
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.placing import placed

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

_RULES = {**rules_linear.RULES, **rules_pointwise.RULES, **rules_pool.RULES, **rules_shape.RULES}


def write(
    module: nn.Module,
    example: Example,
    calibration: Iterable[Example],
    *,
    span: tuple[float, float] | None = None,
) -> bytes:
    """An int8 TFLite file that computes what a module does.

    Args:
        module: convolutional or fully connected network; it is run in evaluation mode and left as it was.
        example: one input (or a tuple of them) with the batch that the file shall have, shape [batch, ...].
        calibration: inputs shaped like the example, or with a first axis some multiple as long; their least and
            greatest activations decide the scales, so they must look like what the network will see.
        span: least and greatest value that inputs can take, whatever the calibration shows of them.

    Returns:
        The file. Inputs and outputs are int8; their scales stand in the file.

    Raises:
        UnsupportedError: the module cannot be exported, an operator is not covered (the sentence names module and
            operator), or a package is missing.
        ArgumentError: the example or the calibration does not fit, or gives values that are not finite.
    """
    return written(module, example, calibration, span=span)[0]


def written(
    module: nn.Module,
    example: Example,
    calibration: Iterable[Example],
    *,
    span: tuple[float, float] | None = None,
) -> tuple[bytes, dict[str, Location]]:
    """The same, with the user's line of each tensor of the file, by its name."""
    graph = exported(module, example)
    ranges = ranges_of(graph, calibration, example, span)
    lowering = Lowering(graph, ranges, type(module).__name__)
    return encode(lowering.run(_RULES)), lowering.places


def save(file: bytes, path: str | Path) -> None:
    """Writes the bytes under a temporary name and renames it.

    Raises:
        OutputError: the file cannot be written.
    """
    with placed(Path(path)) as part:
        part.write_bytes(file)


def predict(file: bytes, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What a TFLite file computes, by LiteRT on this CPU, in and out as torch has it.

    Args:
        file: an int8 TFLite file of `write`.
        inputs: real values, or whole numbers where the module takes those; four-axis ones as batch, channel, height,
            width.

    Returns:
        Real-valued outputs, four-axis ones with the channel second.

    Raises:
        UnsupportedError: ai-edge-litert is not installed.
        ArgumentError: number or shape of the inputs is not that of the file.
    """
    interpreter = _interpreter(file)
    details = interpreter.get_input_details()
    if len(details) != len(inputs):
        msg = f"the TFLite file takes {len(details)} inputs, got {len(inputs)}"
        raise ArgumentError(msg)
    for detail, given in zip(details, arguments(inputs), strict=True):
        interpreter.set_tensor(detail["index"], _as_stored(given, detail))
    interpreter.invoke()
    return tuple(_as_real(interpreter.get_tensor(row["index"]), row) for row in interpreter.get_output_details())


def _interpreter(file: bytes) -> "Interpreter":
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        msg = f"running TFLite files needs {error.name}: pip install 'sirdar[npu]'"
        raise UnsupportedError(msg) from error
    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _as_stored(given: Tensor, detail: dict[str, Any]) -> np.ndarray:
    values = given.detach().cpu().to(torch.float64)
    values = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
    wanted = tuple(int(size) for size in detail["shape"])
    if tuple(values.shape) != wanted:
        msg = f"input {detail['name']!r} of the TFLite file has shape {wanted}, got {tuple(values.shape)}"
        raise ArgumentError(msg)
    if detail["dtype"] is np.int32:
        return values.numpy().astype(np.int32)
    step, zero = detail["quantization"]
    return np.clip(np.rint(values.numpy() / step) + zero, -128, 127).astype(np.int8)


def _as_real(stored: Any, detail: dict[str, Any]) -> Tensor:  # noqa: ANN401 - LiteRT gives a number where no axes are
    numbers = np.asarray(stored)
    if numbers.dtype == np.int32:  # whole numbers without scale
        values = torch.from_numpy(numbers.astype(np.int64))
    else:
        step, zero = detail["quantization"]
        values = torch.from_numpy(np.asarray((numbers.astype(np.float32) - zero) * np.float32(step)))
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values
