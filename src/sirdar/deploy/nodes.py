# SPDX-License-Identifier: Apache-2.0
"""Reading the nodes of an exported graph: what operator one is, and the types and shapes of what it reads and makes."""

import operator as python_operator
from collections.abc import Iterator, Sequence

import torch
from torch import fx
from torch.export import ExportedProgram

DTYPES = {
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.uint16: "uint16",
    torch.uint32: "uint32",
    torch.uint64: "uint64",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.complex32: "complex32",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
    torch.float8_e4m3fn: "e4m3fn",
    torch.float8_e5m2: "e5m2",
    torch.float8_e4m3fnuz: "e4m3fnuz",
    torch.float8_e5m2fnuz: "e5m2fnuz",
    torch.float8_e8m0fnu: "e8m0",
    torch.float4_e2m1fn_x2: "e2m1",
}
INTEGERS = frozenset(("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"))


def computes(node: fx.Node) -> bool:
    """Whether a node is an operator, and no placeholder or element taken out of a tuple."""
    return node.op == "call_function" and node.target is not python_operator.getitem


def namespace_of(node: fx.Node) -> str:
    """Where the operator comes from: "aten", "prims", or that of a custom operator; empty for plain Python."""
    return node.target.namespace if isinstance(node.target, torch._ops.OpOverload) else ""


def name_of(node: fx.Node) -> str:
    """The name without overload: "add" for aten.add.Tensor, "mine::scale" for what is not of ATen."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return getattr(node.target, "__name__", str(node.target))
    name = node.target._schema.name
    return name.removeprefix("aten::")


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a type as rule files write it."""
    return DTYPES.get(dtype, str(dtype).removeprefix("torch."))


def made_by(node: fx.Node) -> tuple[torch.Tensor, ...]:
    """The (fake) tensors that a node makes."""
    return tuple(_tensors(node.meta.get("val")))


def kept_by(node: fx.Node) -> tuple[torch.Tensor, ...]:
    """The (fake) tensors that a node makes, without those of a tuple that nobody reads."""
    value = node.meta.get("val")
    if not isinstance(value, tuple | list) or any(user.target is not python_operator.getitem for user in node.users):
        return made_by(node)
    places = sorted({whole_numbers(user.args[1])[0] for user in node.users if user.users})
    return tuple(_tensors([value[place] for place in places]))


def draws(node: fx.Node) -> bool:
    """Whether an operator draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def changed_buffer(program: ExportedProgram) -> str:
    """The first buffer that a program of functional operators changes as it runs; empty where it changes none."""
    return min(program.graph_signature.buffers_to_mutate.values(), default="")


def read_by(node: fx.Node) -> tuple[torch.Tensor, ...]:
    """The (fake) tensors that a node reads."""
    return tuple(tensor for source in node.all_input_nodes for tensor in _tensors(source.meta.get("val")))


def first_read(node: fx.Node) -> torch.Tensor | None:
    """The tensor of a node's first argument, or of the first of its list."""
    first = node.args[0] if node.args else None
    if isinstance(first, Sequence) and first:
        first = first[0]
    found = tuple(_tensors(first.meta.get("val"))) if isinstance(first, fx.Node) else ()
    return found[0] if found else None


def argument(node: fx.Node, place: int, name: str, default: object = None) -> object:
    """An argument by its place or its name, whichever the graph uses."""
    if place < len(node.args):
        return node.args[place]
    return node.kwargs.get(name, default)


def whole_numbers(value: object) -> tuple[int, ...]:
    """A number or a list of numbers as a tuple of integers; what is no integer is left out."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return tuple(int(item) for item in items if isinstance(item, int))


def shape_text(tensor: torch.Tensor) -> str:
    """Shape and type, such as "int64 [2, s0]"."""
    return f"{dtype_name(tensor.dtype)} [{', '.join(str(size) for size in tensor.shape)}]"


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
