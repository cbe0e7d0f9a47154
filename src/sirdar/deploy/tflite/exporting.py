# SPDX-License-Identifier: Apache-2.0
"""From a torch module to the operators that the writer knows, and the range of every value over calibration batches."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, fx, nn

from sirdar.deploy.capture import all_lines, fresh
from sirdar.deploy.tflite.compositions import HIDDEN, compositions
from sirdar.deploy.tflite.masks import clamp_masks, hides
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.trace import evaluating

Example = Tensor | tuple[Tensor, ...]
Ranges = Mapping[fx.Node, tuple[float, float]]


def exported(module: nn.Module, example: Example) -> fx.GraphModule:
    """The module as a graph of functional ATen operators, composites kept whole, in evaluation mode.

    Raises:
        UnsupportedError: torch.export cannot follow the module, whose name and torch's reason the sentence gives; or
            the module changes its own buffers.
        ArgumentError: the example is not what it should be, or its batch is empty.
    """
    title = type(module).__name__
    given = arguments(example)
    empty = next((part for part in given if part.ndim and not part.shape[0]), None)
    if empty is not None:
        msg = f"the batch of an example must hold at least one, got a tensor of shape {tuple(empty.shape)}"
        raise ArgumentError(msg)
    with evaluating(module), all_lines(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about its own bookkeeping
        try:
            program = torch.export.export(module, given).run_decompositions(compositions())
        except Exception as error:  # torch.export raises a dozen unrelated types
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            msg = f"torch.export cannot follow {title}, so no TFLite file can be written: {reason}"
            raise UnsupportedError(msg) from error
        changed = sorted(program.graph_signature.buffers_to_mutate.values())
        if changed:  # calibration would change the caller's, and a file forgets between two runs
            msg = f"{title} changes its own buffer {changed[0]!r} as it runs, which no TFLite file keeps"
            raise UnsupportedError(msg)
        graph = program.module(check_guards=False)
        clamp_masks(graph)
        return graph


def arguments(example: object) -> tuple[Tensor, ...]:
    """An example as a tuple of tensors.

    Raises:
        ArgumentError: it is neither a tensor nor a tuple of tensors.
    """
    found = (example,) if isinstance(example, Tensor) else example
    if not isinstance(found, tuple) or not found or not all(isinstance(part, Tensor) for part in found):
        msg = f"an example or calibration batch must be a tensor or a tuple of tensors, got {example!r:.80}"
        raise ArgumentError(msg)
    return found


def ranges_of(
    graph: fx.GraphModule, batches: Iterable[Example], example: Example, span: tuple[float, float] | None = None
) -> Ranges:
    """Least and greatest value of every node over calibration batches.

    Args:
        graph: from `exported`.
        batches: each shaped like the example, or with a first axis some multiple as long.
        example: what the graph was exported with.
        span: least and greatest value that inputs can take, whatever the batches show of them.

    Raises:
        ArgumentError: there is no batch, its shape does not fit, or a value is not finite.
    """
    recorder = _Recorder(graph)
    with torch.no_grad():
        for batch in batches:
            for part in _parts(arguments(batch), arguments(example)):
                recorder.run(*fresh(part))
                recorder.check()
    if not recorder.ranges:
        msg = "calibration must hold at least one batch, got none"
        raise ArgumentError(msg)
    return recorder.ranges if span is None else {**recorder.ranges, **_widened(recorder.ranges, span)}


def _widened(ranges: Ranges, span: tuple[float, float]) -> Ranges:
    """The ranges of the inputs, with a span in them."""
    inputs = {node: found for node, found in ranges.items() if node.op == "placeholder"}
    return {node: (min(low, span[0]), max(high, span[1])) for node, (low, high) in inputs.items()}


def _parts(batch: tuple[Tensor, ...], example: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    fits = len(batch) == len(example) and all(
        given.ndim == wanted.ndim > 0
        and given.shape[1:] == wanted.shape[1:]
        and given.shape[0] > 0
        and given.shape[0] % wanted.shape[0] == 0
        for given, wanted in zip(batch, example, strict=True)
    )
    if [given.shape for given in batch] == [wanted.shape for wanted in example]:  # inputs without axes among them
        yield batch
        return
    if not fits:
        got, wanted = (" and ".join(str(tuple(tensor.shape)) for tensor in side) for side in (batch, example))
        msg = f"a calibration batch must be shaped like the example, {wanted}, or a multiple of it, got {got}"
        raise ArgumentError(msg)
    pieces = [given.split(wanted.shape[0]) for given, wanted in zip(batch, example, strict=True)]
    yield from zip(*pieces, strict=True)


class _Recorder(fx.Interpreter):
    """Runs the graph and keeps the range of every floating-point tensor."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.ranges: dict[fx.Node, tuple[float, float]] = {}
        self.moving = {node for node in graph.graph.nodes if node.op == "placeholder"}
        for node in graph.graph.nodes:  # what rests on constants alone is folded, and needs no range
            if not self.moving.isdisjoint(node.all_input_nodes):
                self.moving.add(node)

    def run_node(self, n: fx.Node) -> object:
        result = self._masked(n) if n.op == "call_function" and hides(n) else super().run_node(n)
        if isinstance(result, Tensor) and result.is_floating_point() and result.numel() and n in self.moving:
            low, high = (float(value) for value in torch.aminmax(result))
            before = self.ranges.get(n, (low, high))
            self.ranges[n] = (min(low, before[0]), max(high, before[1]))
        return result

    def _masked(self, n: fx.Node) -> Tensor:
        """Scores as the file masks them: minus infinity has no place in it."""
        scores, mask = self.fetch_args_kwargs_from_env(n)[0][:2]
        return scores + torch.where(mask, HIDDEN, 0.0)

    def check(self) -> None:
        """Refuse values that are not finite; here, since torch adds its own text to errors inside a run."""
        for node, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high)):
                msg = f"calibration gives values that are not finite in {node.name!r}, from {low} to {high}"
                raise ArgumentError(msg)
