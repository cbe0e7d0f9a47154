# SPDX-License-Identifier: Apache-2.0
"""A network as rows of numbers: one row for each group of operators that compilers and runtimes do at once.

A group is a layer (convolution, product, pooling, ...) with what follows it at the same place: batch norm, activation,
a sum with a shortcut. Views take no part. A row holds the group's own sizes, how much memory is alive while it runs,
and the sizes of the groups before and behind it, since weights are fetched ahead and results stay on chip or do not.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sirdar.workload.graph import Graph, Operator

_FREE = frozenset(("view", "constant"))
_TYPES = ("conv", "depthwise", "matmul", "pool", "reduction", "elementwise", "concat", "norm", "softmax", "other")
_PLACE = {name: float(place) for place, name in enumerate(_TYPES)}
OWN = (
    "type",
    "macs",
    "read",
    "made",
    "weights",
    "kernel",
    "stride",
    "channels_in",
    "channels_out",
    "height_in",
    "width_in",
    "height_out",
    "width_out",
    "groups",
    "unary",
    "binary",
    "alive",
    "first",
    "last",
)
_MODULI = (4, 8, 16, 32)
_NEIGHBOUR = ("type", "macs", "weights", "made", "alive")
NAMES = (
    *OWN,
    *(f"channels_in mod {m}" for m in _MODULI),
    *(f"channels_out mod {m}" for m in _MODULI),
    "macs per byte",
    "pixels out",
    *(f"{name} before" for name in _NEIGHBOUR),
    *(f"{name} behind" for name in _NEIGHBOUR),
)
_AT = {name: place for place, name in enumerate(OWN)}


@dataclass
class _Group:
    """A group in the making: its operators, what it read and made last."""

    members: list[str]
    row: list[float]
    edge: str
    step: int


@dataclass(frozen=True)
class Groups:
    """All groups of a network.

    Args:
        rows: [group, feature], features by `NAMES`.
        members: names of the operators of each group.
    """

    rows: np.ndarray
    members: tuple[tuple[str, ...], ...]


def groups_of(graph: Graph) -> Groups:
    """The groups of a network in order of execution, sizes as int8 bytes."""
    readers: dict[str, int] = defaultdict(int)
    for operator in graph.operators:
        for spec in operator.inputs:
            readers[spec.name] += 1
    for name in graph.outputs:
        readers[name] += 2  # a result of the network ends its group
    alias: dict[str, str] = {}
    of_edge: dict[str, _Group] = {}
    groups: list[_Group] = []
    for step, operator in enumerate(graph.operators):
        if operator.kind in _FREE:
            _pass_on(operator, alias, readers)
            continue
        group = _joined(operator, alias, of_edge, readers)
        if group is None:
            group = _Group([operator.name], _own(operator), "", step)
            groups.append(group)
        else:
            group.members.append(operator.name)
            group.row[_AT["unary" if len(operator.inputs) < 2 else "binary"]] += 1.0
            group.row[_AT["read"]] += sum(spec.elements for spec in operator.inputs[1:])
        if operator.outputs:
            of_edge.pop(group.edge, None)
            group.edge = operator.outputs[0].name
            of_edge[group.edge] = group
    return Groups(_rows(graph, groups), tuple(tuple(group.members) for group in groups))


def _pass_on(operator: Operator, alias: dict[str, str], readers: Mapping[str, int]) -> None:
    """A view is its input under another name."""
    if operator.inputs and operator.outputs and readers[operator.inputs[0].name] == 1:
        source = operator.inputs[0].name
        alias[operator.outputs[0].name] = alias.get(source, source)


def _joined(
    operator: Operator, alias: Mapping[str, str], of_edge: Mapping[str, _Group], readers: Mapping[str, int]
) -> _Group | None:
    """The group that an operator continues: the latest of those whose only reader it is."""
    if operator.kind not in ("elementwise", "norm"):
        return None
    found: _Group | None = None
    for spec in operator.inputs:
        group = of_edge.get(alias.get(spec.name, spec.name))
        if group is not None and readers[spec.name] == 1 and (found is None or group.step > found.step):
            found = group
    return found


def _own(operator: Operator) -> list[float]:
    read = operator.inputs[0].shape if operator.inputs else ()
    made = operator.outputs[0].shape if operator.outputs else ()
    attributes = operator.attributes
    kind = operator.kind
    groups = int(attributes.get("groups", 1)) if kind == "conv" else 1
    if groups > 1:
        kind = "depthwise"
    weights = operator.weights[0].elements if operator.weights else 0
    channels_in, height_in, width_in = _sizes(read)
    channels_out, height_out, width_out = _sizes(made)
    kernel = attributes.get("kernel", (1,))
    stride = attributes.get("stride", (1,))
    return [
        _PLACE.get(kind, _PLACE["other"]),
        float(operator.macs),
        float(sum(spec.elements for spec in operator.inputs)),
        float(sum(spec.elements for spec in operator.outputs)),
        float(weights),
        float(kernel[-1]),
        float(stride[-1]),
        channels_in,
        channels_out,
        height_in,
        width_in,
        height_out,
        width_out,
        float(groups),
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    ]


def _sizes(shape: Sequence[int]) -> tuple[float, float, float]:
    """Channels, height and width, whatever the rank."""
    if len(shape) == 4:
        return float(shape[1]), float(shape[2]), float(shape[3])
    if len(shape) == 3:
        return float(shape[1]), 1.0, float(shape[2])
    return float(shape[-1]) if shape else 1.0, 1.0, 1.0


def _rows(graph: Graph, groups: list[_Group]) -> np.ndarray:
    """The groups' own numbers with those derived and those of neighbours."""
    if not groups:
        return np.zeros((0, len(NAMES)))
    own = np.array([group.row for group in groups])
    alive = np.asarray(_alive(graph), dtype=float)
    steps = [group.step for group in groups]
    own[:, _AT["alive"]] = np.maximum.reduceat(alive, steps)
    own[0, _AT["first"]] = own[-1, _AT["last"]] = 1.0
    into, out = own[:, _AT["channels_in"]], own[:, _AT["channels_out"]]
    moduli = [channels % m for channels in (into, out) for m in _MODULI]
    bytes_moved = own[:, _AT["read"]] + own[:, _AT["made"]] + own[:, _AT["weights"]]
    derived = [own[:, _AT["macs"]] / bytes_moved, own[:, _AT["height_out"]] * own[:, _AT["width_out"]]]
    near = own[:, [_AT[name] for name in _NEIGHBOUR]]
    none = np.full((1, near.shape[1]), -1.0)
    before, behind = np.vstack([none, near[:-1]]), np.vstack([near[1:], none])
    return np.hstack([own, np.array(moduli + derived).T, before, behind])


def _alive(graph: Graph) -> list[int]:
    """Values alive at each step, a byte each; views counted as what they view."""
    last: dict[str, int] = {}
    owner: dict[str, str] = {spec.name: spec.name for spec in graph.inputs}
    sizes = {spec.name: spec.elements for spec in graph.inputs}
    for step, operator in enumerate(graph.operators):
        view = operator.kind == "view" and bool(operator.inputs)
        for spec in operator.inputs:
            last[owner[spec.name]] = step
        for spec in operator.outputs:
            owner[spec.name] = owner[operator.inputs[0].name] if view else spec.name
            sizes.setdefault(owner[spec.name], spec.elements)
    for name in graph.outputs:
        if name in owner:
            last[owner[name]] = len(graph.operators)
    change = [0] * (len(graph.operators) + 1)
    made = {spec.name: 0 for spec in graph.inputs}
    for step, operator in enumerate(graph.operators):
        for spec in operator.outputs:
            made.setdefault(owner[spec.name], step)
    for name, start in made.items():
        change[start] += sizes[name]
        end = last.get(name, start) + 1
        if end < len(change):
            change[end] -= sizes[name]
    return np.cumsum(change[:-1]).tolist()
