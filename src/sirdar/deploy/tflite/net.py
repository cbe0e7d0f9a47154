# SPDX-License-Identifier: Apache-2.0
"""A network as a TFLite file holds it, before its numbers are int8: tensors with value ranges, and operators.

Tensors are named by their place in `Net.tensors`. Each activation has a range [low, high] of real values. Operators
that copy values (pooling, reshaping, concatenation) leave numbers as they are, so TFLite wants the same scale on
both sides: `Net.same` ties tensors together, and the tied share the union of their ranges. Outputs of softmax, sigmoid
and tanh have scales that TFLite prescribes: `Net.fix`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

NO_ACTIVATION: Final = "NONE"
LEAST_STEP: Final = 1e-30  # of a scale: products of two have to stay within the fp32 that a file holds them in

Scale = tuple[float, int]  # real value of one step, and the int8 that stands for zero


@dataclass(frozen=True)
class Weights:
    """Weights in TFLite's own axis order, real-valued, with the axis that has a scale for each of its channels.

    Args:
        values: float array; or int8 numbers to be stored as they are.
        axis: of the output channels.
        bias: one value per output channel.
    """

    values: np.ndarray
    axis: int
    bias: np.ndarray


@dataclass
class Tensor:
    """One tensor of the file.

    Args:
        name: unique within the net.
        shape: sizes as stored.
        low: least real value it takes.
        high: greatest real value it takes.
        values: the real values of a constant, to be quantised.
        raw: int8 or int32 numbers to be stored as they are.
        integer: an int32 activation without scale, such as indices.
    """

    name: str
    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 0.0
    values: np.ndarray | None = None
    raw: np.ndarray | None = None
    integer: bool = False


@dataclass(frozen=True)
class Step:
    """One operator of the file.

    Args:
        code: name of the builtin operator, such as "CONV_2D".
        inputs: places of its input tensors, before weights and bias; -1 for one that is left out.
        outputs: places of its output tensors.
        options: fields of its options table.
        weights: weights and bias, which become inputs of their own.
    """

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | None = None


class Net:
    """Tensors and steps in the order they were added."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.steps: list[Step] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._parent: list[int] = []
        self._fixed: dict[int, Scale] = {}
        self._names: dict[str, int] = {}
        self._maker: dict[int, Step] = {}

    def activation(self, name: str, shape: Sequence[int], low: float, high: float) -> int:
        """A new activation with the real values it takes."""
        return self._add(Tensor(self._unique(name), tuple(shape), min(low, 0.0), max(high, 0.0)))

    def integers(self, name: str, shape: Sequence[int]) -> int:
        """A new int32 activation without scale."""
        return self._add(Tensor(self._unique(name), tuple(shape), integer=True))

    def alike(self, source: int, name: str, shape: Sequence[int]) -> int:
        """A new tensor for values of another one: on its scale, or whole numbers as it is."""
        if self.whole(source):
            return self.integers(name, shape)
        result = self.activation(name, shape, 0.0, 0.0)
        self.same(source, result)
        return result

    def whole(self, tensor: int) -> bool:
        """Whether a tensor holds int32 numbers without scale."""
        row = self.tensors[tensor]
        return row.integer or (row.raw is not None and row.raw.dtype == np.int32)

    def constant(self, name: str, values: np.ndarray) -> int:
        """A new constant that is quantised with one scale."""
        values = np.asarray(values, dtype=np.float32)
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        return self._add(Tensor(self._unique(name), values.shape, min(low, 0.0), max(high, 0.0), values=values))

    def raw(self, name: str, numbers: np.ndarray) -> int:
        """A new constant of int32 or int8 numbers, stored as they are."""
        return self._add(Tensor(self._unique(name), numbers.shape, raw=numbers))

    def step(self, step: Step) -> int:
        """Append an operator; returns the place of its first output."""
        self.steps.append(step)
        self._maker.update(dict.fromkeys(step.outputs, step))
        return step.outputs[0]

    def maker(self, tensor: int) -> Step | None:
        """The operator that makes a tensor; None for inputs and constants."""
        return self._maker.get(tensor)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Sizes of a tensor as stored."""
        return self.tensors[tensor].shape

    def name(self, tensor: int) -> str:
        """Name of a tensor."""
        return self.tensors[tensor].name

    def root(self, tensor: int) -> int:
        """The tensor that stands for all that share its scale."""
        while self._parent[tensor] != tensor:
            self._parent[tensor] = self._parent[self._parent[tensor]]
            tensor = self._parent[tensor]
        return tensor

    def same(self, first: int, second: int) -> None:
        """Give two tensors one scale. At most one of them may have a prescribed one."""
        keep, drop = self.root(first), self.root(second)
        if keep == drop:
            return
        if drop in self._fixed:
            keep, drop = drop, keep
        self._parent[drop] = keep
        kept, dropped = self.tensors[keep], self.tensors[drop]
        kept.low, kept.high = min(kept.low, dropped.low), max(kept.high, dropped.high)

    def fix(self, tensor: int, scale: Scale) -> None:
        """Prescribe the scale of a tensor."""
        self._fixed[self.root(tensor)] = scale

    def fixed(self, tensor: int) -> Scale | None:
        """The prescribed scale of a tensor, None where its range decides."""
        return self._fixed.get(self.root(tensor))

    def scale(self, tensor: int) -> Scale:
        """The scale of an activation or constant: asymmetric int8 over the union of the ranges tied to it."""
        root = self.root(tensor)
        return self._fixed.get(root) or scale_of(self.tensors[root].low, self.tensors[root].high)

    def widen(self, tensor: int, spread: float) -> None:
        """Make the range of a tensor at least so wide, unless its scale is prescribed."""
        row = self.tensors[self.root(tensor)]
        if self.fixed(tensor) is None:
            row.high = max(row.high, row.low + spread)

    def free(self, tensor: int) -> int:
        """The tensor itself, or a requantised copy where its scale is prescribed: one that can be tied to others."""
        if self.fixed(tensor) is None:
            return tensor
        source = self.tensors[self.root(tensor)]
        copy = self.activation(f"{self.name(tensor)}/requantised", self.shape(tensor), source.low, source.high)
        return self.step(Step("QUANTIZE", (tensor,), (copy,)))

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        self._parent.append(len(self._parent))
        return len(self.tensors) - 1

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if count == 0 else f"{name}_{count}"


def scale_of(low: float, high: float) -> Scale:
    """The asymmetric int8 scale that covers [low, high] and holds zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = max((high - low) / 255.0, LEAST_STEP)
    zero = int(np.clip(np.rint(-128.0 - low / step), -128, 127))
    return step, zero


def quantised(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Real values as int8."""
    step, zero = scale
    return np.asarray(np.clip(np.rint(np.asarray(values, dtype=np.float64) / step) + zero, -128, 127), dtype=np.int8)
