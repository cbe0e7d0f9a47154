# SPDX-License-Identifier: Apache-2.0
"""The loops of the quantile forest, compiled by numba: routing rows, filling leaf sketches, quantiles of their union.

Imported on first use only: it loads numba. `tests/forecasting/test_forest.py` has each loop in plain numpy.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

COARSE = 256  # buckets of the first pass; a code of 16 bits is a bucket and a place within it
_TINY = 1e-9  # rounding of sums of weights, relative to their total


class Trees(NamedTuple):
    """The trees of a forest, one after another in shared arrays.

    A child that is not negative is an inner node of the same tree, -1 - c is its leaf c.
    """

    first_node: np.ndarray  # [tree + 1]
    first_leaf: np.ndarray  # [tree + 1]
    feature: np.ndarray  # [node]
    threshold: np.ndarray  # float32 [node]: values up to it go left
    missing: np.ndarray  # uint8 [node]: not-a-number goes 0: where zero goes, 1: right, 2: left
    left: np.ndarray  # int16 [node]
    right: np.ndarray  # int16 [node]


class Sketches(NamedTuple):
    """A few weighted points of the targets of every leaf."""

    first_point: np.ndarray  # [leaf + 1], over the leaves of all trees
    code: np.ndarray  # uint16 [point]: rank in the table of targets, rising within a leaf
    weight: np.ndarray  # uint8 [point]: how many of the sketch's equal parts it stands for


# Functions are unwrapped: under pytest, jaxtyping wraps every one of the package, and numba cannot compile the wrapper.
def _loop(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - numba's dispatcher has no type
    return njit(nogil=True, cache=True)(inspect.unwrap(function))


@_loop
def _descend(trees: Trees, tree: int, row: np.ndarray) -> int:
    """The leaf, numbered within its tree, of a row spread out over all features."""
    base = trees.first_node[tree]
    if trees.first_node[tree + 1] == base:
        return 0
    node = 0
    while node >= 0:
        at = base + node
        value = row[trees.feature[at]]
        if np.isnan(value):
            rule = trees.missing[at]
            goes_left = rule == 2 or (rule == 0 and trees.threshold[at] >= 0)
        else:
            goes_left = value <= trees.threshold[at]
        node = int(trees.left[at]) if goes_left else int(trees.right[at])
    return -1 - node


@_loop
def leaves_of_sparse(
    trees: Trees, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, row: np.ndarray, out: np.ndarray
) -> None:
    """Writes out[row, tree]: the leaf, within its tree, that each row of a CSR matrix falls in; `row` is room."""
    for i in range(len(indptr) - 1):
        for j in range(indptr[i], indptr[i + 1]):
            row[indices[j]] = data[j]
        for tree in range(out.shape[1]):
            out[i, tree] = _descend(trees, tree, row)
        for j in range(indptr[i], indptr[i + 1]):
            row[indices[j]] = 0


@_loop
def leaves_of_dense(trees: Trees, matrix: np.ndarray, out: np.ndarray) -> None:
    """The same of a dense matrix."""
    for i in range(len(matrix)):
        for tree in range(out.shape[1]):
            out[i, tree] = _descend(trees, tree, matrix[i])


@_loop
def sketch(
    leaf: np.ndarray, order: np.ndarray, code: np.ndarray, leaves: int, points: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sketches of the leaves of one tree: (first point of each, codes, counts).

    A leaf of at most `points` targets keeps them all; a larger one keeps those in the middle of `points` groups of
    equal size. Equal neighbours become one point that counts more.

    Args:
        leaf: of every row.
        order: rows by rising code.
        code: of every row's target.
        leaves: of the tree.
        points: most targets kept for a leaf, 1 to 255.
    """
    end = np.zeros(leaves + 1, np.int64)
    for i in range(len(leaf)):
        end[leaf[i] + 1] += 1
    for j in range(leaves):
        end[j + 1] += end[j]
    begin = end[:-1].copy()
    place = begin.copy()
    sorted_codes = np.empty(len(leaf), np.uint16)
    for i in order:  # in order of the target, so that every leaf's part is sorted
        sorted_codes[place[leaf[i]]] = code[i]
        place[leaf[i]] += 1
    first = np.zeros(leaves + 1, np.int64)
    codes, counts = np.empty(leaves * points, np.uint16), np.empty(leaves * points, np.uint8)
    written = 0
    for j in range(leaves):
        size = end[j + 1] - begin[j]
        kept = min(size, points)
        for k in range(kept):
            value = sorted_codes[begin[j] + (2 * k + 1) * size // (2 * kept)]
            if k > 0 and codes[written - 1] == value:
                counts[written - 1] += 1
            else:
                codes[written], counts[written] = value, 1
                written += 1
        first[j + 1] = written
    return first, codes[:written].copy(), counts[:written].copy()


@_loop
def _weigh(sketches: Sketches, leaf: np.ndarray, slot: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> None:
    """Adds up the weights of the points of a row's leaves: by bucket, and by code in buckets that have a slot."""
    for i in leaf:
        begin, end = sketches.first_point[i], sketches.first_point[i + 1]
        total = 0
        for j in range(begin, end):
            total += sketches.weight[j]
        for j in range(begin, end):
            share = sketches.weight[j] / total
            bucket = sketches.code[j] >> 8
            coarse[bucket] += share
            if slot[bucket] >= 0:
                fine[slot[bucket], sketches.code[j] & 255] += share


@_loop
def union_quantiles(
    sketches: Sketches, first_leaf: np.ndarray, leaf: np.ndarray, levels: np.ndarray, out: np.ndarray
) -> None:
    """Writes out[row, level]: the code of each quantile of the weighted union of the sketches of a row's leaves.

    Every leaf weighs the same and its points share that (Meinshausen 2006, equation 4). The quantile is the least code
    up to which at least the share `level` of the weight lies. Two passes over 256 buckets instead of a sort.
    """
    count = len(levels)
    coarse, fine = np.zeros(COARSE), np.zeros((count, COARSE))
    slot = np.empty(COARSE, np.int64)
    bucket_of, before = np.empty(count, np.int64), np.empty(count)
    nowhere = np.full(COARSE, -1, np.int64)
    whole = np.empty(leaf.shape[1], np.int64)
    for i in range(len(leaf)):
        for tree in range(leaf.shape[1]):
            whole[tree] = first_leaf[tree] + leaf[i, tree]
        coarse[:] = 0
        _weigh(sketches, whole, nowhere, coarse, fine)
        slot[:], fine[:] = -1, 0
        _find(coarse, levels * len(whole), bucket_of, before)
        for k in range(count):
            if k > 0 and bucket_of[k] == bucket_of[k - 1]:
                continue
            slot[bucket_of[k]] = k
        _weigh(sketches, whole, slot, coarse, fine)
        for k in range(count):
            row, wanted, total, place = fine[slot[bucket_of[k]]], levels[k] * len(whole), before[k], -1
            last = 0
            for j in range(COARSE):
                if row[j] > 0:
                    last = j
                total += row[j]
                if total >= wanted - _TINY * len(whole):
                    place = j
                    break
            out[i, k] = bucket_of[k] * COARSE + (place if place >= 0 else last)


@_loop
def _find(coarse: np.ndarray, wanted: np.ndarray, bucket_of: np.ndarray, before: np.ndarray) -> None:
    """The bucket that each wanted sum of weights is reached in, and the sum before it; `wanted` rises."""
    total, bucket, full = 0.0, 0, 0
    for j in range(COARSE):
        if coarse[j] > 0:
            full = j
    for k in range(len(wanted)):
        while bucket < full and total + coarse[bucket] < wanted[k] - _TINY * wanted[-1]:
            total += coarse[bucket]
            bucket += 1
        bucket_of[k], before[k] = bucket, total
