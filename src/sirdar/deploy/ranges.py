# SPDX-License-Identifier: Apache-2.0
"""Which values the integers of a network can take: interval arithmetic over an exported graph.

An interval holds every value that a tensor can have, whatever the inputs are (Moore, "Interval Analysis", 1966). What
is not known takes the whole range of its type. An input that only looks up a table is within the table, since anything
else would be an error already.
"""

import math
import operator as python_operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import fx

from sirdar.deploy.nodes import argument, made_by, name_of

_SAME = frozenset(
    [
        "alias",
        "clone",
        "detach",
        "expand",
        "flip",
        "permute",
        "repeat",
        "reshape",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "transpose",
        "unbind",
        "unsqueeze",
        "view",
        "_unsafe_view",
        "lift_fresh_copy",
        "contiguous",
        "unfold",
        "as_strided",
        "diagonal",
        "amax",
        "amin",
        "max",
        "min",
        "sort",
        "topk",
        "gather",
        "index",
        "index_select",
        "embedding",
    ]
)
_TRUTH = frozenset(
    [
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_and",
        "logical_or",
        "logical_not",
        "logical_xor",
        "any",
        "all",
        "isnan",
        "isinf",
    ]
)
_MOVES = frozenset(("view", "slice", "unsqueeze", "expand", "_to_copy", "clone", "permute", "select", "squeeze"))
_TABLES = {"embedding": (1, 0), "index_select": (2, 0)}  # place of the indices, place of the table


Bound = float | int


@dataclass(frozen=True)
class Interval:
    """All integers from `low` to `high`.

    Args:
        low: the least.
        high: the greatest.
        known: whether it follows from the network, and not only from the type.
    """

    low: Bound
    high: Bound
    known: bool = True

    def within(self, low: Bound, high: Bound) -> bool:
        """Whether every value lies between two bounds."""
        return low <= self.low and self.high <= high

    def joined(self, other: "Interval") -> "Interval":
        """Everything in either."""
        return Interval(min(self.low, other.low), max(self.high, other.high), self.known and other.known)


def intervals(
    graph: fx.Graph, constants: Mapping[str, torch.Tensor], *, inputs: frozenset[str] = frozenset()
) -> dict[fx.Node, Interval]:
    """The interval of every integer or boolean tensor, and of every number that a size or an item is.

    Args:
        graph: of an exported program.
        constants: values of the placeholders that are parameters, buffers or constants, by node name.
        inputs: names of the placeholders that the caller passes in.
    """
    found: dict[fx.Node, Interval] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            found[node] = _placeholder(node, constants, inputs)
        elif node.op == "call_function":
            found[node] = _call(node, found)
    return found


def type_range(dtype: torch.dtype) -> Interval:
    """What a type can hold; everything for floats."""
    if dtype == torch.bool:
        return Interval(0, 1, known=True)
    if dtype.is_floating_point or dtype.is_complex:
        return Interval(-math.inf, math.inf, known=False)
    limits = torch.iinfo(dtype)
    return Interval(limits.min, limits.max, known=False)


def _placeholder(node: fx.Node, constants: Mapping[str, torch.Tensor], inputs: frozenset[str]) -> Interval:
    value = constants.get(node.name)
    if value is not None and node.name not in inputs and _countable(value):
        return Interval(int(value.min()), int(value.max()))
    made = made_by(node)
    if not made:
        return Interval(-math.inf, math.inf, known=False)
    table = _table_rows(node)
    if table is not None and not made[0].is_floating_point():
        return Interval(0, table - 1)
    return type_range(made[0].dtype)


def _countable(value: torch.Tensor) -> bool:
    return not value.is_floating_point() and not value.is_complex() and 0 < value.numel() <= 1 << 22


def _table_rows(node: fx.Node) -> int | None:
    """Rows of the smallest table that an input looks up, where it does nothing else but be moved about."""
    rows: list[int] = []
    stack = list(node.users)
    while stack:
        user = stack.pop()
        name = name_of(user)
        place, table = _TABLES.get(name, (-1, 0))
        if place >= 0:
            weight = user.args[table]
            axis = user.args[1] if name == "index_select" else 0
            if isinstance(weight, fx.Node) and isinstance(axis, int):
                size = made_by(weight)[0].shape[axis]
                rows.extend([size] if isinstance(size, int) else [])
        elif name in _MOVES and _takes_all(user):
            stack.extend(user.users)
    return min(rows, default=None)


def _takes_all(node: fx.Node) -> bool:
    """Whether a node passes on every value that it reads: a column that looks up a table bounds no other column."""
    if name_of(node) not in ("slice", "select"):
        return True
    source, made = node.args[0], made_by(node)[0].numel()
    return isinstance(source, fx.Node) and isinstance(made, int) and made_by(source)[0].numel() == made


def _call(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval:
    if node.target is python_operator.getitem:
        return _element(node, found)
    made = made_by(node)
    if made and (made[0].is_floating_point() or made[0].is_complex()) and name_of(node) not in ("max", "min", "topk"):
        return type_range(made[0].dtype)
    limit = type_range(made[0].dtype) if made else Interval(-math.inf, math.inf, known=False)
    result = _rule(node, found)
    if result is None or not result.known:
        return limit
    if result.within(limit.low, limit.high):
        return result
    return Interval(limit.low, limit.high, known=False)  # it may wrap round


def _element(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval:
    source, place = node.args[0], node.args[1]
    made = made_by(node)
    if not isinstance(source, fx.Node) or not made:
        return Interval(-math.inf, math.inf, known=False)
    if name_of(source) in ("topk", "sort", "max", "min") and place == 1:
        first = source.args[0]
        axis = argument(source, 2 if name_of(source) == "topk" else 1, "dim", -1)
        size = made_by(first)[0].shape[axis] if isinstance(first, fx.Node) and isinstance(axis, int) else math.inf
        return Interval(0, size - 1) if isinstance(size, int) else type_range(made[0].dtype)
    if made[0].is_floating_point():
        return type_range(made[0].dtype)
    return found[source] if source in found and found[source].known else type_range(made[0].dtype)


def _of(value: object, found: Mapping[fx.Node, Interval]) -> Interval:
    if isinstance(value, fx.Node):
        return found.get(value, Interval(-math.inf, math.inf, known=False))
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return Interval(value, value)
    return Interval(-math.inf, math.inf, known=False)


def _rule(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval | None:
    name = name_of(node)
    if name in _TRUTH:
        return Interval(0, 1)
    if name in _MAKERS:
        return _MAKERS[name](node, found)
    if not node.args:
        return None
    one = _of(node.args[0], found)
    if name in _ALONE:
        return _ALONE[name](one, node)
    if name in _PAIRS and len(node.args) > 1:
        two = _times(_of(node.args[1], found), argument(node, 2, "alpha", 1))
        return _PAIRS[name](one, two) if one.known and two.known else None
    return one if name in _SAME or name == "_to_copy" else None


def _times(one: Interval, alpha: object) -> Interval:
    """What `alpha` makes of the second argument of a sum or a difference."""
    if alpha == 1:
        return one
    if not one.known or not isinstance(alpha, int):
        return Interval(-math.inf, math.inf, known=False)
    return _corners(one, Interval(alpha, alpha), lambda a, b: a * b)


def _arange(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval | None:  # noqa: ARG001
    numbers = [value for value in node.args if isinstance(value, int)]
    if len(numbers) != len(node.args) or not numbers:
        return None
    start, stop = (0, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
    step = numbers[2] if len(numbers) > 2 else 1
    values = range(start, stop, step)
    return Interval(min(values[0], values[-1]), max(values[0], values[-1])) if values else Interval(0, 0)


def _full(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval:
    return _of(node.args[0] if name_of(node) == "scalar_tensor" else node.args[1], found)


def _where(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval:
    return _of(node.args[1], found).joined(_of(node.args[2], found))


def _cat(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval | None:
    parts = node.args[0]
    if not isinstance(parts, list | tuple) or not parts:
        return None
    result = _of(parts[0], found)
    for part in parts[1:]:
        result = result.joined(_of(part, found))
    return result


def _constant(value: int) -> Callable[[fx.Node, Mapping[fx.Node, Interval]], Interval]:
    return lambda node, found: Interval(value, value)  # noqa: ARG005


def _place(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval | None:  # noqa: ARG001
    first = node.args[0]
    axis = argument(node, 1, "dim")
    if not isinstance(first, fx.Node):
        return None
    source = made_by(first)[0]
    size = source.shape[axis] if isinstance(axis, int) else source.numel()
    return Interval(0, size - 1) if isinstance(size, int) else None


def _put(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval | None:
    """What stays and what is written; where values are added, any number of them may meet in one place."""
    if argument(node, 3, "accumulate", False):
        return None
    return _of(node.args[0], found).joined(_of(node.args[2], found))


def _pad(node: fx.Node, found: Mapping[fx.Node, Interval]) -> Interval:
    return _of(node.args[0], found).joined(_of(argument(node, 2, "value", 0), found))


_MAKERS: dict[str, Callable[[fx.Node, Mapping[fx.Node, Interval]], Interval | None]] = {
    "arange": _arange,
    "argmax": _place,
    "argmin": _place,
    "cat": _cat,
    "constant_pad_nd": _pad,
    "full": _full,
    "full_like": _full,
    "index_put": _put,
    "new_full": lambda node, found: _of(node.args[2], found),
    "new_ones": _constant(1),
    "new_zeros": _constant(0),
    "ones": _constant(1),
    "ones_like": _constant(1),
    "scalar_tensor": _full,
    "stack": _cat,
    "where": _where,
    "zeros": _constant(0),
    "zeros_like": _constant(0),
}


def _corners(one: Interval, two: Interval, combine: Callable[[Bound, Bound], Bound]) -> Interval:
    values = [combine(a, b) for a in (one.low, one.high) for b in (two.low, two.high)]
    return Interval(min(values), max(values))


def _remainder(one: Interval, two: Interval) -> Interval | None:
    return Interval(0, two.high - 1) if two.low > 0 and one.low >= 0 else None


def _floor(one: Interval, two: Interval) -> Interval | None:
    if two.low <= 0:
        return None
    down = _corners(one, two, lambda a, b: math.floor(a / b))
    return Interval(down.low, down.high + 1 if one.low < 0 else down.high)  # rounding to zero may end one higher


def _power(one: Interval, two: Interval) -> Interval | None:
    if two.low < 0 or two.high > 64 or max(abs(one.low), abs(one.high)) > 2**32:
        return None
    top = max(abs(one.low), abs(one.high), 1) ** two.high
    return Interval(0 if one.low >= 0 else -top, top)


def _and(one: Interval, two: Interval) -> Interval | None:
    return Interval(0, min(one.high, two.high)) if one.low >= 0 and two.low >= 0 else None


def _shift(one: Interval, two: Interval) -> Interval | None:
    return Interval(min(one.low, 0), max(one.high, 0)) if two.low >= 0 else None


_PAIRS: dict[str, Callable[[Interval, Interval], Interval | None]] = {
    "add": lambda one, two: Interval(one.low + two.low, one.high + two.high),
    "bitwise_and": _and,
    "bitwise_right_shift": _shift,
    "__rshift__": _shift,
    "div": _floor,
    "floor_divide": _floor,
    "maximum": lambda one, two: Interval(max(one.low, two.low), max(one.high, two.high)),
    "minimum": lambda one, two: Interval(min(one.low, two.low), min(one.high, two.high)),
    "mul": lambda one, two: _corners(one, two, lambda a, b: a * b),
    "pow": _power,
    "remainder": _remainder,
    "rsub": lambda one, two: Interval(two.low - one.high, two.high - one.low),
    "sub": lambda one, two: Interval(one.low - two.high, one.high - two.low),
}


def _absolute(one: Interval, node: fx.Node) -> Interval | None:  # noqa: ARG001
    if not one.known:
        return None
    low = 0 if one.low <= 0 <= one.high else min(abs(one.low), abs(one.high))
    return Interval(low, max(abs(one.low), abs(one.high)))


def _summed(one: Interval, node: fx.Node) -> Interval | None:
    """A sum over some axes, or a running one: as many values as were summed, each within the interval."""
    first = node.args[0]
    made = made_by(node)
    if not one.known or not isinstance(first, fx.Node) or not made:
        return None
    source = made_by(first)[0]
    count = source.numel() if name_of(node) == "cumsum" else source.numel() // max(1, made[0].numel())
    if not isinstance(count, int):
        return None
    return Interval(min(one.low, one.low * count), max(one.high, one.high * count))


def _clamped(one: Interval, node: fx.Node) -> Interval | None:
    low, high = argument(node, 1, "min"), argument(node, 2, "max")
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        return None
    known = one.known or (isinstance(low, int) and isinstance(high, int))
    least, most = one.low, one.high
    if isinstance(low, int):
        least, most = max(least, low), max(most, low)
    if isinstance(high, int):  # the upper bound wins where they cross
        least, most = min(least, high), min(most, high)
    return Interval(least, most) if known else None


_ALONE: dict[str, Callable[[Interval, fx.Node], Interval | None]] = {
    "abs": _absolute,
    "clamp": _clamped,
    "cumsum": _summed,
    "neg": lambda one, node: Interval(-one.high, -one.low) if one.known else None,  # noqa: ARG005
    "sum": _summed,
}
