# SPDX-License-Identifier: Apache-2.0
"""How the axes of a value lie: torch puts channels ahead of space, TFLite behind.

A `Value` is a stored tensor and the order of its axes: stored axis i is torch's axis order[i]. Convolutions make values
that lie channels last, a permutation only changes the order, and a TRANSPOSE is added where an operator needs another
order than the one at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sirdar.deploy.tflite import layers
from sirdar.deploy.tflite.net import Net


@dataclass(frozen=True)
class Value:
    """An activation.

    Args:
        tensor: its place in the net.
        order: torch's axis of each stored one.
    """

    tensor: int
    order: tuple[int, ...]


def channels_last(rank: int) -> tuple[int, ...]:
    """The order of axes in which TFLite has images (and here sequences as well)."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


class Layout:
    """Values of one net; remembers what it has transposed already."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self._arranged: dict[tuple[int, tuple[int, ...]], int] = {}

    def shape(self, value: Value) -> tuple[int, ...]:
        """Sizes of a value as torch has them."""
        stored = self.net.shape(value.tensor)
        return tuple(stored[value.order.index(axis)] for axis in range(len(stored)))

    def arrange(self, value: Value, order: Sequence[int]) -> int:
        """The value with its axes stored in an order."""
        moves = tuple(value.order.index(axis) for axis in order)
        key = (value.tensor, moves)
        if key not in self._arranged:
            name = f"{self.net.name(value.tensor)}/arranged"
            self._arranged[key] = layers.transpose(self.net, value.tensor, moves, name)
        return self._arranged[key]

    def plain(self, value: Value) -> int:
        """The value with its axes stored as torch has them."""
        return self.arrange(value, range(len(value.order)))

    def raised(self, value: Value, rank: int) -> Value:
        """A value with axes of size 1 ahead of its own."""
        more = rank - len(value.order)
        if more == 0:
            return value
        shape = (1,) * more + self.net.shape(value.tensor)
        order = (*range(more), *(axis + more for axis in value.order))
        return Value(layers.reshape(self.net, value.tensor, shape, f"{self.net.name(value.tensor)}/raised"), order)

    def viewed(self, value: Value, shape: Sequence[int], name: str) -> Value:
        """The value in another shape. Channels may stay last where only axes of size 1 come and go."""
        before, after = self.shape(value), tuple(shape)
        if [size for size in before if size > 1] != [size for size in after if size > 1]:
            return Value(layers.reshape(self.net, self.plain(value), after, name), tuple(range(len(after))))
        long = [axis for axis, size in enumerate(after) if size > 1]
        short = [axis for axis, size in enumerate(after) if size == 1]
        kept = [axis for axis in value.order if before[axis] > 1]
        moved = tuple(short + [long[sorted(kept).index(axis)] for axis in kept])
        if [axis for axis in moved if after[axis] > 1] == long:
            moved = tuple(range(len(after)))
        return Value(layers.reshape(self.net, value.tensor, [after[axis] for axis in moved], name), moved)

    def block(self, value: Value, axis: int, start: int, size: int, name: str) -> Value:
        """A range of one axis."""
        place = value.order.index(axis)
        begin = [0] * len(value.order)
        begin[place] = start
        sizes = list(self.net.shape(value.tensor))
        sizes[place] = size
        return Value(layers.cut(self.net, value.tensor, begin, sizes, name), value.order)

    def without(self, value: Value, axis: int, name: str) -> Value:
        """The value less an axis of size 1."""
        place = value.order.index(axis)
        shape = self.net.shape(value.tensor)
        left = [other for other in value.order if other != axis]
        order = tuple(sorted(left).index(other) for other in left)
        return Value(layers.reshape(self.net, value.tensor, (*shape[:place], *shape[place + 1 :]), name), order)

    def stretched(self, value: Value, shape: Sequence[int], name: str) -> Value:
        """The value repeated along axes of size 1, and along new ones ahead of its own."""
        value = self.raised(value, len(shape))
        times = [to // of for of, to in zip(self.shape(value), shape, strict=True)]
        return Value(layers.tile(self.net, value.tensor, [times[axis] for axis in value.order], name), value.order)

    def image(self, value: Value, name: str) -> int:
        """A batch of images, or of sequences as images of height one, channels last."""
        rank = len(value.order)
        tensor = self.arrange(value, channels_last(rank))
        if rank == 4:
            return tensor
        batch, length, channels = self.net.shape(tensor)
        return layers.reshape(self.net, tensor, (batch, 1, length, channels), f"{name}/image")

    def unimage(self, tensor: int, rank: int, name: str) -> Value:
        """What `image` made, as images or sequences again."""
        if rank == 3:
            batch, _, length, channels = self.net.shape(tensor)
            tensor = layers.reshape(self.net, tensor, (batch, length, channels), f"{name}/sequence")
        return Value(tensor, channels_last(rank))
