# SPDX-License-Identifier: Apache-2.0
"""Which of TFLite's two paddings is torch's, if either: exact, for any stride, dilation and window.

TFLite knows VALID (none) and SAME: as many windows as ceil(size / stride), with the rows that miss split so that the
odd one stands at the end. torch puts the same number on both sides, and drops rows at the end that no window reaches.
Where the two differ, rows are added by an operator of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """How a window moves along one axis.

    Args:
        kernel: its size.
        stride: from one place to the next.
        before: rows that torch adds ahead of the first.
        dilation: distance of neighbours inside the window.
    """

    kernel: int
    stride: int = 1
    before: int = 0
    dilation: int = 1

    def after(self, size: int, count: int) -> int:
        """Rows that `count` windows need beyond the end of an axis of `size`; none where they stop short of it."""
        return max(self._used(count) - size - self.before, 0)

    def is_same(self, size: int, count: int) -> bool:
        """Whether SAME puts `count` windows where torch does."""
        missing = max(self._used(count) - size, 0)
        return count == -(-size // self.stride) and self.before == missing // 2

    def is_valid(self, size: int, count: int) -> bool:
        """Whether VALID puts `count` windows where torch does."""
        rows = size - (self.kernel - 1) * self.dilation
        return self.before == 0 and count == -(-rows // self.stride)

    def _used(self, count: int) -> int:
        return (count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1


def choose(windows: Sequence[Window], sizes: Sequence[int], counts: Sequence[int]) -> str | tuple[tuple[int, int], ...]:
    """Either "VALID", or "SAME", or the rows to add before and after along each axis, followed by VALID."""
    moves = list(zip(windows, sizes, counts, strict=True))
    if all(window.is_valid(size, count) for window, size, count in moves):
        return "VALID"
    if all(window.is_same(size, count) for window, size, count in moves):
        return "SAME"
    return tuple((window.before, window.after(size, count)) for window, size, count in moves)
