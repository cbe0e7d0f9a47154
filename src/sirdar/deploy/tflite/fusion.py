# SPDX-License-Identifier: Apache-2.0
"""Which nodes of an exported graph one TFLite operator does at once: layer, batch norm, rectifier."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from sirdar.deploy.tflite.net import NO_ACTIVATION

NORM = "_native_batch_norm_legit_no_training"
_LINEAR = frozenset(("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear"))
_FUSING = _LINEAR | {"add", "sub", "mul", NORM}

Bound = float | fx.Node | None


@dataclass(frozen=True)
class Fused:
    """A node and those after it that the same operator does.

    Args:
        last: the node whose value it makes.
        norm: the batch norm to be folded into its weights.
        activation: rectifier: "NONE", "RELU" or "RELU6".
        absorbed: all nodes but the first.
    """

    last: fx.Node
    norm: fx.Node | None = None
    activation: str = NO_ACTIVATION
    absorbed: tuple[fx.Node, ...] = ()


def operator_name(node: fx.Node) -> str:
    """The name without namespace and overload: add for aten.add.Tensor."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return target._schema.name.removeprefix("aten::").rstrip("_")
    return getattr(target, "__name__", str(target))


def given(node: fx.Node) -> dict[str, Any]:
    """Every argument of an ATen operator by its name in the schema, defaults filled in."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)  # rules are for ATen operators alone
    names = target._schema.arguments
    found: dict[str, Any] = {row.name: row.default_value for row in names}
    found.update(zip((row.name for row in names), node.args, strict=False))
    return found | node.kwargs


def fusions(graph: fx.Graph) -> dict[fx.Node, Fused]:
    """Every node that others are fused to."""
    found: dict[fx.Node, Fused] = {}
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        if node in taken or node.op != "call_function" or operator_name(node) not in _FUSING:
            continue
        fused = _follow(node)
        if fused.absorbed:
            found[node] = fused
            taken.update(fused.absorbed)
    return found


def _follow(node: fx.Node) -> Fused:
    last, norm, absorbed = node, None, []
    name = operator_name(node)
    user = _only_user(node)
    if name in _LINEAR and user is not None and operator_name(user) == NORM and _same_channels(node):
        item = _first_item(user)
        if item is not None:
            last, norm = item, user
            absorbed += [user, item]
    elif name == NORM:
        item = _first_item(node)
        if item is not None:
            last = item
            absorbed.append(item)
    user = _only_user(last)
    activation = NO_ACTIVATION if user is None else rectifier(user)
    if user is not None and activation != NO_ACTIVATION:
        last = user
        absorbed.append(user)
    return Fused(last, norm, activation, tuple(absorbed))


def _same_channels(node: fx.Node) -> bool:
    """Whether what a layer makes lies along axis 1, that of a batch norm.

    A linear layer's lies along the last, a convolution's without a batch along the first.
    """
    name = operator_name(node)
    return node.meta["val"].ndim == (2 if name == "linear" else 4 if name.endswith("2d") else 3)


def rectifier(node: fx.Node) -> str:
    """The rectifier that a node is: "RELU", "RELU6" or "NONE"."""
    name = operator_name(node)
    if name in ("relu", "relu6"):
        return name.upper()
    if name not in ("hardtanh", "clamp", "clamp_min"):
        return NO_ACTIVATION
    low, high = bounds(node)
    if low != 0:
        return NO_ACTIVATION
    return "RELU" if high is None else "RELU6" if high == 6 else NO_ACTIVATION


def bounds(node: fx.Node) -> tuple[Bound, Bound]:
    """Least and greatest value that a clamp lets through: a number, the node of a tensor, or None for none."""
    given = (*node.args[1:3], None, None)[:2]
    name = operator_name(node)
    if name == "hardtanh":
        given = (*node.args[1:3], *(-1.0, 1.0)[len(node.args[1:3]) :])
    elif name == "clamp_max":
        given = (None, given[0])
    low, high = node.kwargs.get("min", given[0]), node.kwargs.get("max", given[1])
    return _bound(low), _bound(high)


def _bound(value: object) -> Bound:
    return value if isinstance(value, fx.Node) else float(value) if isinstance(value, int | float) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op == "call_function" else None


def _first_item(norm: fx.Node) -> fx.Node | None:
    """The node that takes the normalised values, where nobody takes the statistics."""
    user = _only_user(norm)
    return user if user is not None and operator_name(user) == "getitem" and user.args[1] == 0 else None
