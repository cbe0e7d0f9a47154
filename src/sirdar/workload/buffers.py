# SPDX-License-Identifier: Apache-2.0
"""Buffers that a network writes into as it runs, such as the keys and values that a language model keeps.

torch.export writes every change as a new tensor, which is copied into the buffer at the end. Where nobody reads what
stood there before, neither is needed: the buffer is written where it lies, as the author asked.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from sirdar.workload.counting import kind_of

_WRITES = ("aten.index_put.", "aten.scatter.", "aten.select_scatter.", "aten.slice_scatter.")


def written_in_place(program: ExportedProgram) -> dict[fx.Node, int]:
    """The operators that write into a buffer where it lies, and how many of its values each writes."""
    signature = program.graph_signature
    order = {node: place for place, node in enumerate(program.graph.nodes)}
    by_name = {node.name: node for node in order}
    found: dict[fx.Node, int] = {}
    for name, buffer in signature.buffers_to_mutate.items():
        node, writes = by_name[name], []
        while str(node.target).startswith(_WRITES) and not _read_after(node.args[0], node, order):
            writes.append(node)
            node = node.all_input_nodes[0]
        if signature.inputs_to_buffers.get(node.name) == buffer:
            found.update((write, _values(write)) for write in writes)
    return found


def _read_after(source: Any, write: fx.Node, order: Mapping[fx.Node, int]) -> bool:  # noqa: ANN401 - an argument
    """Whether anyone reads what a write replaces, or a view of it, once it has been written."""
    views = [user for user in source.users if kind_of(user) == "view"]
    others = [user for user in source.users if user is not write and user not in views]
    return any(order[user] > order[write] for user in others) or any(_read_after(view, write, order) for view in views)


def _values(write: fx.Node) -> int:
    """How many values a write replaces; all of the buffer where a mask decides."""
    arguments: Any = write.args
    if "scatter" in str(write.target):
        return arguments[2 if "aten.scatter." in str(write.target) else 1].meta["val"].numel()
    shape = arguments[0].meta["val"].shape
    places = [None if row is None else row.meta["val"] for row in arguments[1]]
    if any(row is not None and row.dtype == torch.bool for row in places):
        return math.prod(shape)
    rows = torch.broadcast_shapes(*(row.shape for row in places if row is not None))
    whole = [size for axis, size in enumerate(shape) if axis >= len(places) or places[axis] is None]
    return math.prod((*rows, *whole))
