# SPDX-License-Identifier: Apache-2.0
"""Masks of attention: minus infinity, or what stands for it, has no place in int8 and would set the scale of scores."""

import torch
from torch import fx

from sirdar.deploy.tflite.compositions import HIDDEN
from sirdar.deploy.tflite.fusion import operator_name

BEYOND = -1e4  # of scores: what is less stands for minus infinity
_MOVED = frozenset(
    ("view", "reshape", "expand", "unsqueeze", "squeeze", "slice", "permute", "transpose", "clone", "_to_copy")
)


def hides(node: fx.Node) -> bool:
    """Whether a node masks scores that only a softmax reads, by minus infinity or what stands for it."""
    if operator_name(node) != "masked_fill" or not isinstance(node.args[2], int | float) or node.args[2] > BEYOND:
        return False
    return _weighs(node)


def clamp_masks(graph: fx.GraphModule) -> None:
    """Bounds what is added to the scores of a softmax alone: a share of e^-16 is left of what a mask hides.

    A constant is clamped; a mask that comes from inputs is a product with a factor far below zero, which is replaced.
    """
    moving: set[fx.Node] = set()
    for node in list(graph.graph.nodes):
        if node.op == "placeholder" or not moving.isdisjoint(node.all_input_nodes):
            moving.add(node)
        if node.op == "call_function" and operator_name(node) == "add" and _weighs(node):
            for source in node.all_input_nodes:
                if source in moving:
                    _soften(source)
                elif moving.intersection(node.all_input_nodes):
                    _clamp(graph.graph, node, source)
    graph.recompile()


def _weighs(node: fx.Node) -> bool:
    """Whether only softmaxes read a node."""
    return bool(node.users) and all(operator_name(user) in ("softmax", "_softmax") for user in node.users)


def _clamp(graph: fx.Graph, node: fx.Node, mask: fx.Node) -> None:
    with graph.inserting_before(node):
        clamped = graph.call_function(torch.ops.aten.clamp.default, (mask, HIDDEN))
        clamped.meta = dict(mask.meta)
        node.replace_input_with(mask, clamped)


def _soften(mask: fx.Node) -> None:
    """The factor of a mask from inputs, however it was moved since."""
    while mask.op == "call_function" and operator_name(mask) in _MOVED and len(mask.users) == 1:
        mask = mask.all_input_nodes[0]
    if mask.op != "call_function" or operator_name(mask) != "mul" or len(mask.users) != 1:
        return
    mask.args = tuple(HIDDEN if isinstance(item, int | float) and item <= BEYOND else item for item in mask.args)
