# SPDX-License-Identifier: Apache-2.0
"""How the files of a camera network are fed and read, as plain data for `compiled.json`: nothing in them says so."""

import math
from pathlib import Path
from typing import Any

STEP = 2 / 255  # between two bytes of an image in -1..1
_ROUNDED = "round((byte / 127.5 - 1) / scale) + zero_point, within -128 and 127"
_RESIZED = "the whole image to this size, whatever its proportions; bilinear with antialiasing, as by Pillow's BILINEAR"
_MEANINGS = {
    "classification": {"logits": "one number per class, in the order of `classes`; the class of the largest is meant"},
    "segmentation": {
        "logits": "one number per class, in the order of `classes`, for each cell of a grid over the image; enlarge to "
        "the image's size, bilinear with pixels' middles aligned (not their corners), and take the class of the largest"
    },
    "detection": {
        "scores": "one number s per cell of a grid of 16 x 16 pixels; 1 / (1 + exp(-s)) is how sure an object is there",
        "distances": "four numbers d per cell: 16 * log(1 + exp(d)) pixels from the cell's middle to the object's left "
        "edge, top, right and bottom; of cells (row, column) the middle is at x = 16 * (column + 0.5), y = 16 * (row + "
        "0.5) in the resized image. Of boxes that overlap by more than 0.6 (intersection over union) the surest is "
        "kept; those less sure than 0.01 go",
    },
}


def usage(product: str, size: tuple[int, int], onnx: Path, tflite: bytes) -> dict[str, Any]:
    """The facts of a network's input and outputs in both files.

    Args:
        product: "detection", "classification" or "segmentation".
        size: height and width of the input.
        onnx: the ONNX file.
        tflite: the int8 TFLite file.

    Returns:
        "input", a dictionary, and "outputs", one for each by what it means; names, shapes, layouts and int8 scales are
        those of the files.
    """
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    interpreter = Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    (fed,), (stored,) = session.get_inputs(), interpreter.get_input_details()
    given = {
        "size": {"height": size[0], "width": size[1]},
        "resize": _RESIZED,
        "channels": "red, green, blue",
        "onnx": {**_of_onnx(fed), "value": "byte / 127.5 - 1"},
        "tflite": {**_of_tflite(stored), "value": _of_bytes(*stored["quantization"])},
    }
    # Outputs of both differ in their channels, fewest first: that order is torch's and onnx's.
    rows = sorted(interpreter.get_output_details(), key=lambda row: tuple(row["shape"]))
    named = zip(_MEANINGS[product].items(), session.get_outputs(), rows, strict=True)
    outputs = {
        name: {"meaning": meaning, "onnx": _of_onnx(one), "tflite": _of_tflite(other)}
        for (name, meaning), one, other in named
    }
    return {"input": given, "outputs": outputs}


def _of_onnx(row: Any) -> dict[str, Any]:  # noqa: ANN401 - onnxruntime's
    return {"name": row.name, "shape": list(row.shape), **_layout(len(row.shape), "NCHW"), "type": "float32"}


def _of_tflite(row: dict[str, Any]) -> dict[str, Any]:
    scale, zero = row["quantization"]
    shape = [int(side) for side in row["shape"]]
    facts = {"name": row["name"], "shape": shape, **_layout(len(shape), "NHWC"), "type": "int8"}
    return facts | {"scale": float(scale), "zero_point": int(zero), "real": "(value - zero_point) * scale"}


def _layout(axes: int, name: str) -> dict[str, str]:
    return {"layout": name} if axes == 4 else {}


def _of_bytes(scale: float, zero: int) -> str:
    """How a byte of an image is stored; of the whole range each lies half way between two, and the lower is taken."""
    return "byte - 128" if math.isclose(scale, STEP, rel_tol=1e-5) and zero == 0 else _ROUNDED
