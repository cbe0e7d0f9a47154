# SPDX-License-Identifier: Apache-2.0
"""A network as a graph of operators: plain Python, so that hardware models need no torch.

Operators stand in the order in which they run. An edge is a name: what one operator puts out under it, later ones take
in. The peak of activation memory follows from that order by liveness analysis: a value occupies memory from the
operator that makes it to the last one that reads it or any view of it (Aho et al., Compilers, 2nd ed., section 9.2.5).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from sirdar.errors import ArgumentError, DataError, nearest
from sirdar.numerics.formats import FORMATS, BlockFormat, row_named

KINDS = (
    "attention",
    "concat",
    "constant",
    "conv",
    "copy",
    "elementwise",
    "gather",
    "matmul",
    "norm",
    "pool",
    "reduction",
    "softmax",
    "unknown",
    "view",
)
SCHEMA = 1  # of the dictionaries that `to_dict` writes

# What tensors hold beside the number formats: never converted when a network runs in another format.
_FIXED_BITS = {"bool": 8, "uint8": 8, "int16": 16, "int32": 32, "int64": 64, "fp64": 64}
_CONVERTIBLE = frozenset(row.name for row in FORMATS if row.floating)
_DTYPES = (*(row.name for row in FORMATS), *_FIXED_BITS)


@dataclass(frozen=True)
class TensorSpec:
    """Shape and type of a tensor, and the name of the edge it travels on.

    Args:
        shape: sizes of its axes, slowest first.
        dtype: a number format ("fp32", "bf16", ...) or "fp64", "int64", "int32", "int16", "uint8", "bool".
        name: the edge or weight it is.
    """

    shape: tuple[int, ...]
    dtype: str = "fp32"
    name: str = ""

    def __post_init__(self) -> None:
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in self.shape)
        if not isinstance(self.shape, tuple) or not whole:
            msg = f"the shape of tensor {self.name!r} must be a tuple of integers >= 0, got {self.shape!r}"
            raise ArgumentError(msg)
        if self.dtype not in _DTYPES:
            known = ", ".join(_DTYPES)
            msg = f"tensor {self.name!r} has dtype {self.dtype!r}; known are {known}.{nearest(self.dtype, _DTYPES)}"
            raise ArgumentError(msg)

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def bytes(self, dtype: str | None = None) -> int:
        """Bytes in memory; with `dtype`, those after its floating-point values were converted to that format.

        Of a block format, those of its elements and of one scale for every block; the last block may not be full.
        """
        name = dtype if dtype is not None and self.dtype in _CONVERTIBLE else self.dtype
        if name in _FIXED_BITS:
            return self.elements * _FIXED_BITS[name] // 8
        row = row_named(name)
        if isinstance(row, BlockFormat):
            return self.elements * row.element.bits // 8 + math.ceil(self.elements / row.block)
        return self.elements * row.bits // 8


@dataclass(frozen=True)
class Operator:
    """One step of a network.

    Args:
        name: unique within its graph.
        kind: one of `KINDS`.
        inputs: activations it reads, by edge name.
        outputs: activations it makes, by edge name. Those of a "view" share the memory of its first input.
        weights: parameters and buffers it reads, by name; the same name twice is the same memory.
        macs: multiply-accumulates.
        flops: floating-point operations that are no multiply-accumulate.
        attributes: what a hardware model may need to know besides, such as strides and groups; JSON values.
        module: path of the network's part that it stands in, such as "body.0.3"; empty where that is not known. It is
            a word for people: operators that differ in nothing else are equal.
    """

    name: str
    kind: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    weights: tuple[TensorSpec, ...] = ()
    macs: int = 0
    flops: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    module: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = ", ".join(KINDS)
            msg = f"operator {self.name!r} has kind {self.kind!r}; known are {known}.{nearest(self.kind, KINDS)}"
            raise ArgumentError(msg)
        for quantity, value in (("macs", self.macs), ("flops", self.flops)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                msg = f"{quantity} of operator {self.name!r} must be an integer >= 0, got {value!r}"
                raise ArgumentError(msg)
        nameless = [spec for spec in chain(self.inputs, self.outputs, self.weights) if not spec.name]
        if nameless:
            msg = f"operator {self.name!r} has a tensor without a name, of shape {nameless[0].shape}"
            raise ArgumentError(msg)

    def weight_bytes(self, dtype: str | None = None) -> int:
        """Bytes of the weights it reads."""
        return sum(spec.bytes(dtype) for spec in self.weights)


@dataclass(frozen=True)
class Graph:
    """A whole network: operators in the order they run.

    Args:
        operators: every operator once, producers before consumers.
        inputs: what the caller passes in.
        outputs: names of the edges (or weights) that the caller gets back.
        name: of the network.

    Raises:
        ArgumentError: a name is made twice, read before it is made, or read with another shape or type.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    name: str = "network"

    def __post_init__(self) -> None:
        made = _collect(self.inputs, "input of the graph")
        weights: dict[str, TensorSpec] = {}
        seen: set[str] = set()
        for operator in self.operators:
            if operator.name in seen:
                msg = f"two operators are called {operator.name!r}"
                raise ArgumentError(msg)
            seen.add(operator.name)
            _check_operator(operator, made, weights)
        missing = [name for name in self.outputs if name not in made and name not in weights]
        if missing:
            msg = f"the graph puts out {missing[0]!r}, which no operator makes.{nearest(missing[0], made)}"
            raise ArgumentError(msg)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(operator.macs for operator in self.operators)

    @property
    def flops(self) -> int:
        """Floating-point operations of one run, a multiply-accumulate counted as two."""
        return sum(2 * operator.macs + operator.flops for operator in self.operators)

    @property
    def weights(self) -> tuple[TensorSpec, ...]:
        """Every parameter and buffer that is read, once."""
        return tuple({spec.name: spec for operator in self.operators for spec in operator.weights}.values())

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the operators whose work is not counted, each with what it is: "topk (aten.topk.default)"."""
        return tuple(
            f"{operator.name} ({operator.attributes.get('target', '?')})"
            for operator in self.operators
            if operator.kind == "unknown"
        )

    def parameter_bytes(self, dtype: str | None = None) -> int:
        """Bytes of all weights, floating-point ones converted to `dtype`."""
        return sum(spec.bytes(dtype) for spec in self.weights)

    def live_bytes(self, dtype: str | None = None) -> tuple[int, ...]:
        """Bytes of activations alive while each operator runs, in order.

        Graph inputs are alive from the start to their last use (to the end where nothing uses them), graph outputs
        to the end.
        """
        storage = self.storage()
        size = {spec.name: spec.bytes(dtype) for spec in self._activations() if storage[spec.name] == spec.name}
        last = self._last_use(storage)
        ending: dict[int, int] = defaultdict(int)
        for name, step in last.items():
            ending[step] += size[name]
        alive = sum(size[spec.name] for spec in self.inputs)
        profile: list[int] = []
        for step, operator in enumerate(self.operators):
            made = {storage[spec.name] for spec in operator.outputs if storage[spec.name] == spec.name}
            alive += sum(size[name] for name in made)
            profile.append(alive)
            alive -= ending[step] + sum(size[name] for name in made if name not in last)
        return tuple(profile)

    def peak_bytes(self, dtype: str | None = None) -> int:
        """Most bytes of activations alive at once, in the given order of operators."""
        passed = sum(spec.bytes(dtype) for spec in self.inputs)
        return max((passed, *self.live_bytes(dtype)))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists that JSON can hold."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Graph":
        """The graph that `to_dict` wrote, validated anew.

        Raises:
            DataError: something is missing or of another schema.
        """
        if stored.get("schema") != SCHEMA:
            msg = f"a stored graph must have schema {SCHEMA}, got {stored.get('schema')!r}"
            raise DataError(msg)
        try:
            operators = tuple(_operator(row) for row in stored["operators"])
            return cls(operators, _specs(stored["inputs"]), tuple(stored["outputs"]), stored["name"])
        except (KeyError, TypeError) as error:
            msg = f"a stored graph is damaged: {error}"
            raise DataError(msg) from error

    def _activations(self) -> Iterable[TensorSpec]:
        return chain(self.inputs, (spec for operator in self.operators for spec in operator.outputs))

    def storage(self) -> dict[str, str]:
        """The edge that owns the memory of each edge."""
        owner = {spec.name: spec.name for spec in self.inputs}
        for operator in self.operators:
            shared = operator.kind == "view" and bool(operator.inputs)
            for spec in operator.outputs:
                owner[spec.name] = owner[operator.inputs[0].name] if shared else spec.name
        return owner

    def _last_use(self, storage: Mapping[str, str]) -> dict[str, int]:
        """The step at which each owner of memory is read last; beyond the end for outputs of the graph."""
        last: dict[str, int] = {}
        for step, operator in enumerate(self.operators):
            last.update((storage[spec.name], step) for spec in operator.inputs)
        last.update((storage[name], len(self.operators)) for name in self.outputs if name in storage)
        return last


def _collect(specs: Iterable[TensorSpec], role: str) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    for spec in specs:
        if not spec.name or spec.name in found:
            msg = f"every {role} needs a name of its own, got {spec.name!r}"
            raise ArgumentError(msg)
        found[spec.name] = spec
    return found


def _check_operator(operator: Operator, made: dict[str, TensorSpec], weights: dict[str, TensorSpec]) -> None:
    """Add what an operator makes and reads, or say what is wrong with it."""
    for spec in operator.inputs:
        if spec.name not in made:
            msg = f"operator {operator.name!r} reads {spec.name!r} before it is made.{nearest(spec.name, made)}"
            raise ArgumentError(msg)
        _same(operator, spec, made[spec.name])
    for spec in operator.weights:
        _same(operator, spec, weights.setdefault(spec.name, spec))
    for spec in operator.outputs:
        if spec.name in made:
            msg = f"operator {operator.name!r} makes {spec.name!r}, which is already there"
            raise ArgumentError(msg)
        made[spec.name] = spec


def _same(operator: Operator, got: TensorSpec, expected: TensorSpec) -> None:
    if got != expected:
        there = f"{expected.dtype} {expected.shape}"
        msg = f"operator {operator.name!r} reads {got.name!r} as {got.dtype} {got.shape}, but it is {there}"
        raise ArgumentError(msg)


def _specs(rows: Iterable[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tuple(row["shape"]), row["dtype"], row["name"]) for row in rows)


def _operator(row: Mapping[str, Any]) -> Operator:
    tensors = {role: _specs(row[role]) for role in ("inputs", "outputs", "weights")}
    return Operator(
        row["name"],
        row["kind"],
        **tensors,
        macs=row["macs"],
        flops=row["flops"],
        attributes=row["attributes"],
        module=row.get("module", ""),
    )
