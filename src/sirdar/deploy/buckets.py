# SPDX-License-Identifier: Apache-2.0
"""Padded shapes that waste the least: a compiler that wants fixed sizes gets a few, and inputs are padded to the next.

For one varying axis the best buckets are found exactly. Some bucket ends at every place where one may, which is at a
length that occurs; with w(i, j) the padding of all lengths from the i-th to the j-th when padded to the j-th, the least
padding of the first j lengths with k buckets is min over i of best(k - 1, i) + w(i + 1, j) (Bellman, 1957). Several
varying axes get a grid of lengths: each axis is solved exactly given the others, in turns, until nothing improves.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sirdar.errors import ArgumentError, require_positive_integer


@dataclass(frozen=True)
class Buckets:
    """Shapes to compile for.

    Args:
        axes: which axes vary.
        lengths: the padded lengths of each varying axis, ascending.
        shapes: every combination that some input falls into, smallest first.
        samples: how many inputs they were chosen for.
        values: of all inputs together, without padding.
        padded: of all inputs together, each padded to its bucket.
        single_padded: the same with one bucket for all.
    """

    axes: tuple[int, ...]
    lengths: tuple[tuple[int, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    samples: int
    values: int
    padded: int
    single_padded: int

    @property
    def waste(self) -> float:
        """Share of the computed values that are padding."""
        return 1 - self.values / self.padded if self.padded else 0.0

    @property
    def single_waste(self) -> float:
        """The same with one bucket for all."""
        return 1 - self.values / self.single_padded if self.single_padded else 0.0

    def of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest shape to compile for that holds an input.

        Raises:
            ArgumentError: it has another rank, or is larger than every bucket.
        """
        rank = len(self.shapes[0])
        if len(shape) != rank:
            msg = f"an input must have {rank} sizes as the buckets have, got {tuple(shape)}"
            raise ArgumentError(msg)
        # Not every combination of the lengths is compiled, only those that some sample fell into.
        fitting = [row for row in self.shapes if all(size <= end for size, end in zip(shape, row, strict=True))]
        if not fitting:
            known = ", ".join("x".join(map(str, row)) for row in self.shapes)
            msg = f"an input of {'x'.join(map(str, shape))} fits into no bucket of {known}"
            raise ArgumentError(msg)
        return fitting[0]


def choose(shapes: Sequence[Sequence[int]], limit: int = 4) -> Buckets:
    """The buckets that waste the least padding on a sample of shapes.

    Args:
        shapes: of real inputs, all of the same rank.
        limit: on the number of shapes to compile.

    Raises:
        ArgumentError: there are no shapes, they differ in rank, hold something below 1, or the limit is no positive
            integer.
    """
    require_positive_integer(limit, "limit")
    table = _table(shapes)
    axes = tuple(axis for axis in range(table.shape[1]) if len(set(table[:, axis])) > 1)
    whole = [sorted(set(table[:, axis].tolist())) for axis in axes]
    lengths = _grid(table, axes, whole, limit)
    padded = _padded(table, axes, lengths)
    used = Counter(map(tuple, padded.tolist()))
    return Buckets(
        axes=axes,
        lengths=tuple(tuple(sorted({row[axis] for row in used})) for axis in axes),
        shapes=tuple(sorted(used, key=lambda shape: (math.prod(shape), shape))),
        samples=len(table),
        values=_volume(table),
        padded=_volume(padded),
        single_padded=_volume(np.broadcast_to(table.max(axis=0), table.shape)),
    )


def line(counts: Mapping[int, float], limit: int) -> tuple[int, ...]:
    """Exactly best padded lengths of one axis.

    Args:
        counts: weight of each length that occurs.
        limit: on their number.

    Returns:
        At most `limit` lengths, ascending; the last is the largest that occurs.
    """
    lengths = sorted(counts)
    weights = np.array([counts[length] for length in lengths], float)
    values = np.array(lengths, float)
    total, mass = np.concatenate([[0.0], np.cumsum(weights)]), np.concatenate([[0.0], np.cumsum(weights * values)])
    best = np.full((min(limit, len(lengths)) + 1, len(lengths) + 1), math.inf)
    best[:, 0] = 0.0
    cut = np.zeros(best.shape, int)
    for count in range(1, best.shape[0]):
        for end in range(1, len(lengths) + 1):
            # Lengths start..end-1 padded to the last of them.
            waste = values[end - 1] * (total[end] - total[:end]) - (mass[end] - mass[:end])
            options = best[count - 1, :end] + waste
            cut[count, end] = int(options.argmin())
            best[count, end] = options[cut[count, end]]
    chosen: list[int] = []
    end = len(lengths)
    for count in range(best.shape[0] - 1, 0, -1):
        if end == 0:
            break
        chosen.append(lengths[end - 1])
        end = int(cut[count, end])
    return tuple(reversed(chosen))


def _grid(table: np.ndarray, axes: tuple[int, ...], whole: list[list[int]], limit: int) -> list[tuple[int, ...]]:
    """The best grid of lengths over all ways to share the limit among the axes."""
    if not axes:
        return []
    best: tuple[int, list[tuple[int, ...]]] | None = None
    for share in _shares(len(axes), limit, [len(lengths) for lengths in whole]):
        lengths = _turns(table, axes, share)
        volume = _volume(_padded(table, axes, lengths))
        if best is None or volume < best[0]:
            best = volume, lengths
    assert best is not None
    return best[1]


def _shares(axes: int, limit: int, most: list[int]) -> list[tuple[int, ...]]:
    """How many lengths each axis may have, so that the grid keeps to the limit and no axis could have more."""
    ranges = [range(1, min(limit, size) + 1) for size in most]
    every = [share for share in itertools.product(*ranges) if math.prod(share) <= limit]
    return [
        share
        for share in every
        if not any(
            share[axis] < most[axis] and math.prod(share) // share[axis] * (share[axis] + 1) <= limit
            for axis in range(axes)
        )
    ]


def _turns(table: np.ndarray, axes: tuple[int, ...], share: tuple[int, ...]) -> list[tuple[int, ...]]:
    lengths: list[tuple[int, ...]] = [(int(table[:, axis].max()),) for axis in axes]
    before = None
    for _ in range(20):
        for place, axis in enumerate(axes):
            padded = _padded(table, axes, lengths)
            weights = padded.astype(float).prod(axis=1) / padded[:, axis]
            counts: dict[int, float] = {}
            for length, weight in zip(table[:, axis].tolist(), weights.tolist(), strict=True):
                counts[length] = counts.get(length, 0.0) + weight
            lengths[place] = line(counts, share[place])
        volume = _volume(_padded(table, axes, lengths))
        if volume == before:
            break
        before = volume
    return lengths


def _padded(table: np.ndarray, axes: tuple[int, ...], lengths: Sequence[tuple[int, ...]]) -> np.ndarray:
    padded = table.copy()
    for axis, row in zip(axes, lengths, strict=True):
        ends = np.array(row)
        padded[:, axis] = ends[np.searchsorted(ends, table[:, axis])]
    return padded


def _volume(table: np.ndarray) -> int:
    return sum(math.prod(row) for row in table.tolist())


def _table(shapes: Sequence[Sequence[int]]) -> np.ndarray:
    rows = [tuple(shape) for shape in shapes]
    if not rows or not rows[0]:
        msg = f"shapes must hold at least one shape of one axis or more, got {list(shapes)[:1]!r}"
        raise ArgumentError(msg)
    for row in rows:
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in row)
        if not whole or len(row) != len(rows[0]):
            msg = f"every shape must have {len(rows[0])} positive integers as the first has, got {row!r}"
            raise ArgumentError(msg)
    return np.array(rows, dtype=np.int64)
