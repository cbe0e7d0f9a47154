# SPDX-License-Identifier: Apache-2.0
"""A module as a `.pt2` or ONNX file, checked against the module before it gets its name."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree

from sirdar.deploy.nodes import changed_buffer
from sirdar.errors import UnsupportedError
from sirdar.placing import placed
from sirdar.workload.trace import evaluating

TOLERANCE = 1e-4  # largest difference, relative to the largest value (or to 1, where all are smaller)
_OPSET = 18


def export_pt2(module: nn.Module, example: Tensor | tuple[Tensor, ...], path: str | Path) -> None:
    """Writes what torch.export makes of a module, loads it again and compares.

    Args:
        module: is exported in evaluation mode and left as it was.
        example: one input or a tuple of them; shapes are fixed to theirs. They are left as they were.
        path: the file, usually ending in ".pt2".

    Raises:
        UnsupportedError: torch.export cannot follow the module, or the file computes something else.
        OutputError: the file cannot be written.
    """
    given = example if isinstance(example, tuple) else (example,)

    def write(part: str) -> Callable[[], tuple[Tensor, ...]]:
        torch.export.save(torch.export.export(module, given), part)
        loaded = torch.export.load(part).module()
        return lambda: _flat(loaded(*_copied(given)))

    _checked(module, given, Path(path), ".pt2", write)


def export_onnx(module: nn.Module, example: Tensor | tuple[Tensor, ...], path: str | Path) -> None:
    """Writes a module as ONNX, runs it under onnxruntime and compares.

    Args:
        module: is exported in evaluation mode and left as it was.
        example: one input or a tuple of them; shapes are fixed to theirs. They are left as they were.
        path: the file, usually ending in ".onnx".

    Raises:
        UnsupportedError: a package is missing, the exporter cannot follow the module, the module changes its own
            buffers, or the file computes something else under onnxruntime.
        OutputError: the file cannot be written.
    """
    onnxruntime = require_onnx()
    given = example if isinstance(example, tuple) else (example,)

    def write(part: str) -> Callable[[], tuple[Tensor, ...]]:
        made = torch.onnx.export(
            module, given, part, dynamo=True, external_data=False, opset_version=_OPSET, verbose=False
        )
        assert made is not None
        assert made.exported_program is not None  # dynamo's has one
        changed = changed_buffer(made.exported_program)
        if changed:
            msg = f"it changes its own buffer {changed!r} as it runs, which no ONNX file keeps"
            raise UnsupportedError(msg)
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
        feeds = {row.name: tensor.numpy() for row, tensor in zip(session.get_inputs(), _copied(given), strict=True)}
        return lambda: tuple(torch.as_tensor(found) for found in session.run(None, feeds))

    _checked(module, given, Path(path), ".onnx", write)


def require_onnx() -> Any:  # noqa: ANN401 - the module
    """onnxruntime, or a sentence that says how to install what an ONNX file needs.

    Raises:
        UnsupportedError: onnxscript or onnxruntime is missing.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        msg = f"ONNX export needs {error.name}: pip install 'sirdar[onnx]'"
        raise UnsupportedError(msg) from error
    return onnxruntime


def _checked(
    module: nn.Module,
    given: tuple[Tensor, ...],
    path: Path,
    suffix: str,
    write: Callable[[str], Callable[[], tuple[Tensor, ...]]],
) -> None:
    """Write under a temporary name, compare, rename."""
    title = type(module).__name__
    with placed(path, suffix) as part, evaluating(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        buffers = _copied(dict(module.named_buffers()))
        expected = _flat(functional_call(module, buffers, _copied(given)))
        try:
            found = write(str(part))()
        except OSError:
            raise
        except Exception as error:  # exporters raise a dozen unrelated types
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            msg = f"{title} cannot be exported as {suffix[1:]}: {reason}"
            raise UnsupportedError(msg) from error
        _compare(found, expected, f"{title} as {suffix[1:]}")


def _compare(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], what: str) -> None:
    found, expected = tuple(map(_real, found)), tuple(map(_real, expected))
    if [tuple(tensor.shape) for tensor in found] != [tuple(tensor.shape) for tensor in expected]:
        msg = f"{what} puts out {len(found)} tensors of other shapes than the {len(expected)} of torch"
        raise UnsupportedError(msg)
    for left, right in zip(found, expected, strict=True):
        if not right.numel():
            continue
        same = (left == right) | (left.isnan() & right.isnan())  # as masked scores are, minus infinity
        largest = max(float(right.nan_to_num(0.0, 0.0, 0.0).abs().max()), 1.0)
        worst = float((left - right).abs().masked_fill(same, 0.0).max()) / largest
        if not worst <= TOLERANCE:
            msg = f"{what} differs from torch by {worst:.2g} of the largest value, more than {TOLERANCE:g}"
            raise UnsupportedError(msg)


def _real(tensor: Tensor) -> Tensor:
    """Values of any type in fp64; complex ones as pairs, as ONNX has them."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).to(torch.float64)


def _copied(inputs: Any) -> Any:  # noqa: ANN401 - as nested as the inputs
    """Tensors of their own for a run, which may change them."""
    return _pytree.tree_map_only(Tensor, torch.clone, inputs)


def _flat(output: object) -> tuple[Tensor, ...]:
    """All tensors that a module puts out, in order."""
    leaves, _ = _pytree.tree_flatten(output)
    return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
