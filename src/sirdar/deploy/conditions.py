# SPDX-License-Identifier: Apache-2.0
"""What a rule may ask of a node beyond its operator and types, by name; rule files refer to these names.

A condition returns the values that made it hold, as a phrase for the report, or None.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from sirdar.deploy.nodes import (
    INTEGERS,
    argument,
    dtype_name,
    first_read,
    made_by,
    name_of,
    namespace_of,
    read_by,
    shape_text,
    whole_numbers,
)
from sirdar.deploy.ranges import Interval, intervals

Condition = Callable[[fx.Node, "Scene", float | int | None], str | None]


@dataclass(frozen=True)
class Scene:
    """What conditions may look at.

    Args:
        program: core ATen operators.
        supported: names of the operators that are known to run; empty where all do.
        ranges: what integers can be.
        inputs: names of the placeholders that the caller passes in.
    """

    program: ExportedProgram
    supported: frozenset[str] = frozenset()
    ranges: Mapping[fx.Node, Interval] = field(default_factory=dict, hash=False)
    inputs: frozenset[str] = frozenset()


def scene(program: ExportedProgram, supported: frozenset[str] = frozenset()) -> Scene:
    """What conditions may look at, with the ranges of all integers worked out."""
    inputs = frozenset(
        spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT
    )
    return Scene(program, supported, intervals(program.graph, constants_of(program), inputs=inputs), inputs)


def constants_of(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants by the name of their placeholder."""
    found: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        value = program.state_dict.get(spec.target or "", program.constants.get(spec.target or ""))
        if isinstance(value, torch.Tensor):
            found[spec.arg.name] = value
    return found


def _dynamic(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """A tensor made here has a size that is not fixed, and none that was read has."""
    moving = [tensor for tensor in made_by(node) if not _fixed(tensor)]
    if not moving or any(not _fixed(tensor) for tensor in read_by(node)):
        return None
    return f"makes {shape_text(moving[0])}"


def _fixed(tensor: torch.Tensor) -> bool:
    return all(isinstance(size, int) for size in tensor.shape)


def _conv(node: fx.Node) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    """Whether it is transposed, its strides and its dilation."""
    return bool(node.args[6]), whole_numbers(node.args[3]), whole_numbers(node.args[5])


def _two_dilations(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """A transposed convolution spreads its input by its stride, and its kernel by its dilation."""
    transposed, stride, dilation = _conv(node)
    if transposed and max(stride, default=1) > 1 and max(dilation, default=1) > 1:
        return f"transposed with stride {list(stride)} and dilation {list(dilation)}"
    return None


def _kernel_dilated(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    _, _, dilation = _conv(node)
    return f"dilation {list(dilation)}" if max(dilation, default=1) > (limit or 1) else None


def _stride_above(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    stride = whole_numbers(argument(node, 3 if name_of(node) == "convolution" else 2, "stride", ()))
    return f"stride {list(stride)}" if max(stride, default=1) > (limit or 1) else None


def _window_dilated(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    dilation = whole_numbers(argument(node, 4, "dilation", ()))
    return f"window dilation {list(dilation)}" if max(dilation, default=1) > 1 else None


def _window_above(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    window = whole_numbers(argument(node, 1, "kernel_size", ()))
    return f"a window of {list(window)}" if max(window, default=1) > (limit or 1) else None


def _indices_used(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    taken = [user for user in node.users if user.args[1:] == (1,) and user.users]
    return "the indices are used" if taken else None


def _rank_above(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    large = [tensor for tensor in (*made_by(node), *read_by(node)) if tensor.ndim > (limit or 8)]
    return f"a tensor of {large[0].ndim} axes, {shape_text(large[0])}" if large else None


def _wide_constant(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """A number beyond 32 bits, signed ones unless all integers made are unsigned, written into the graph for them."""
    integers = [name for tensor in made_by(node) if (name := dtype_name(tensor.dtype)) in INTEGERS]
    numbers = [value for value in (*node.args, *node.kwargs.values()) if isinstance(value, int)]
    end = 2**32 if all(name.startswith("u") for name in integers) else 2**31
    wide = [value for value in numbers if not -(2**31) <= value < end]
    # The ends of int64 are torch's way to say "to the end" in a slice.
    wide = [value for value in wide if abs(value) < 2**63 - 1]
    if integers and wide and name_of(node) not in ("slice", "clamp"):
        return f"the constant {wide[0]}"
    return None


def _beyond_32_bits(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """Integers of 64 bits are known to leave 32: here, or in a constant that is read here, and not before."""
    if any(_leaves(source, scene) for source in node.all_input_nodes if source.op == "call_function"):
        return None
    constants = [source for source in node.all_input_nodes if source.op == "placeholder"]
    found = next((item for item in (node, *constants) if _leaves(item, scene)), None)
    if found is None:
        return None
    return f"values from {scene.ranges[found].low:,} to {scene.ranges[found].high:,}"


def _leaves(node: fx.Node, scene: Scene) -> bool:
    made, span = made_by(node), scene.ranges.get(node)
    if not made or made[0].dtype != torch.int64 or span is None or not span.known:
        return False
    return not span.within(-(2**31), 2**31 - 1)


def _table(node: fx.Node) -> tuple[object, object, int]:
    """The table, the indices and the axis that they run over."""
    name = name_of(node)
    if name == "embedding":
        return node.args[0], node.args[1], 0
    axis = argument(node, 1, "dim", 0)
    return node.args[0], argument(node, 2, "index"), axis if isinstance(axis, int) else 0


def _outside(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """Indices that are known to leave the table."""
    if name_of(node) in ("index", "index_put", "_unsafe_index"):
        return _outside_several(node, scene)
    table, indices, axis = _table(node)
    if not isinstance(table, fx.Node) or not isinstance(indices, fx.Node):
        return None
    return _beyond(indices, made_by(table)[0].shape[axis], scene)


def _outside_several(node: fx.Node, scene: Scene) -> str | None:
    table, rows = node.args[0], node.args[1]
    if not isinstance(table, fx.Node) or not isinstance(rows, list | tuple):
        return None
    for axis, row in enumerate(rows):
        if isinstance(row, fx.Node) and made_by(row)[0].dtype != torch.bool:
            found = _beyond(row, made_by(table)[0].shape[axis], scene)
            if found is not None:
                return found
    return None


def _beyond(indices: fx.Node, size: object, scene: Scene) -> str | None:
    span = scene.ranges.get(indices)
    if not isinstance(size, int) or span is None or not span.known or not _certain(indices, scene):
        return None
    if -size <= span.low and span.high < size:
        return None
    return f"indices from {span.low:g} to {span.high:g} into {size} rows"


def _certain(node: fx.Node, scene: Scene) -> bool:
    """Whether values depend on no input, so that the ends of their interval are met and not only possible."""
    stack, seen = [node], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.op == "placeholder" and current.name in scene.inputs:
            return False
        stack.extend(current.all_input_nodes)
    return True


def _unknown(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """No list of what the chip runs names the operator."""
    name = name_of(node)
    if not scene.supported or name in scene.supported or namespace_of(node) != "aten":
        return None
    return f"operator aten::{name}"


def _custom(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    space = namespace_of(node)
    known = ("aten", "prims", "rngprims", "", "_c10d_functional", "higher_order", "quantized_decomposed")
    return None if space in known else f"custom operator {name_of(node)}"


def _sparse(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    odd = next((item for item in (*read_by(node), *made_by(node)) if item.layout is not torch.strided), None)
    return None if odd is None else f"layout {str(odd.layout).removeprefix('torch.')}"


def _sums_overlap(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """A scatter that computes, and not only overwrites."""
    if name_of(node) in ("scatter_add", "index_add"):
        return "adds"
    if name_of(node) == "index_put":
        return "accumulates" if argument(node, 3, "accumulate", False) else None
    way = argument(node, 4, "reduce", None)
    return f"reduces by {way!r}" if isinstance(way, str) else None


def _boolean_index(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """Places are given by a mask, so that their number depends on values."""
    rows = node.args[1] if isinstance(node.args[1], list | tuple) else ()
    masks = [made_by(row)[0] for row in rows if isinstance(row, fx.Node) and made_by(row)[0].dtype == torch.bool]
    return f"the mask is {shape_text(masks[0])}" if masks else None


def _not_32_bits(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    first = first_read(node)
    if first is None or dtype_name(first.dtype) in ("int32", "uint32", "fp32"):
        return None
    return f"shifts {shape_text(first)}"


def _batched(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """The batch is not one."""
    first = first_read(node)
    if first is None or first.ndim == 0 or first.shape[0] == 1:
        return None
    return f"a batch of {first.shape[0]}"


def _weight_computed(node: fx.Node, scene: Scene, limit: float | int | None) -> str | None:  # noqa: ARG001
    """The kernel of a convolution is no parameter."""
    weight = node.args[1]
    if isinstance(weight, fx.Node) and (weight.op != "placeholder" or weight.name in scene.inputs):
        return f"the kernel is {weight.name}, which is computed"
    return None


CONDITIONS: dict[str, Condition] = {
    "batch-above-one": _batched,
    "beyond-32-bits": _beyond_32_bits,
    "boolean-index": _boolean_index,
    "computed-kernel": _weight_computed,
    "custom-operator": _custom,
    "dynamic-shape": _dynamic,
    "index-out-of-range": _outside,
    "indices-used": _indices_used,
    "input-and-kernel-dilation": _two_dilations,
    "kernel-dilation-above": _kernel_dilated,
    "not-32-bits": _not_32_bits,
    "rank-above": _rank_above,
    "sparse": _sparse,
    "scatter-computes": _sums_overlap,
    "stride-above": _stride_above,
    "unknown-operator": _unknown,
    "wide-constant": _wide_constant,
    "window-above": _window_above,
    "window-dilation": _window_dilated,
}
# What concerns the whole network is answered in `checking.py`.
WHOLE = (
    "composed",
    "data-dependent",
    "fp32-network",
    "in-training",
    "input-dynamic",
    "instructions-above",
    "int8-error",
    "int8-file",
    "memory-above",
    "not-exported",
)
