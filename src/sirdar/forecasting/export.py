# SPDX-License-Identifier: Apache-2.0
"""A trained network as an ONNX file, checked against torch before it is handed over."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sirdar.errors import UnsupportedError
from sirdar.placing import placed

NAMES = ("demand", "observed", "past", "known", "static")
TOLERANCE = 1e-4  # of onnxruntime against torch, relative to the largest quantile


def write_onnx(module: nn.Module, example: tuple[Tensor, ...], path: Path, names: Sequence[str] = NAMES) -> None:
    """Writes `module` as ONNX with a free batch size, under a temporary name that is renamed once it runs alike.

    Args:
        module: takes tensors whose first axis is the batch.
        example: inputs of it, with a batch of at least two.
        path: the file.
        names: of the inputs.

    Raises:
        UnsupportedError: onnx, onnxscript or onnxruntime is missing, or the file does not compute what torch does.
        OutputError: the file cannot be written.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        msg = f"ONNX export needs {error.name}: pip install 'sirdar[onnx]'"
        raise UnsupportedError(msg) from error
    # An input without channels (no covariates) has nothing to feed; ONNX refuses it, so it is a constant of the file.
    used = [index for index, tensor in enumerate(example) if tensor.numel()]
    wrapped = _Fed(module, used, [tuple(tensor.shape[1:]) for tensor in example])
    fed = tuple(example[index] for index in used)
    with placed(path) as part:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            torch.onnx.export(
                wrapped.eval(),
                fed,
                str(part),
                input_names=[names[index] for index in used],
                output_names=["quantiles"],
                dynamic_shapes=(tuple({0: torch.export.Dim("batch")} for _ in used),),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        inputs = {names[index]: tensor.numpy() for index, tensor in zip(used, fed, strict=True)}
        found = np.asarray(session.run(None, inputs)[0])
        with torch.inference_mode():
            expected = module(*example).numpy()
        worst = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1.0))
        if not worst <= TOLERANCE:
            msg = f"the ONNX file differs from torch by {worst:.2g} of the largest quantile, more than {TOLERANCE:g}"
            raise UnsupportedError(msg)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's log, which tells of packages that no forecaster needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Fed(nn.Module):
    """The module with its empty inputs filled in."""

    def __init__(self, module: nn.Module, used: list[int], shapes: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.module, self.used, self.shapes = module, used, shapes

    def forward(self, *fed: Tensor) -> Tensor:
        given = dict(zip(self.used, fed, strict=True))
        batch = fed[0].shape[0]
        parts = [given[i] if i in given else fed[0].new_zeros((batch, *shape)) for i, shape in enumerate(self.shapes)]
        return self.module(*parts)
