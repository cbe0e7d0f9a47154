# SPDX-License-Identifier: Apache-2.0
"""`QuantileForest`: a quantile regression forest (Meinshausen 2006) over sparse rows, whose size grows with its leaves.

Trees are grown by LightGBM's random-forest mode, which takes scipy's CSR and CSC matrices as they are. A leaf does not
keep its targets but a sketch of them: at most `points` weighted points. A forest of equal accuracy is so far smaller
than one that stores every target of every tree.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16
from scipy import sparse

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.predictive.forecast import require_levels

Matrix = sparse.csr_matrix | sparse.csc_matrix | sparse.csr_array | sparse.csc_array | np.ndarray
_CODES = 2**16
_MOST_LEAVES = 2**15  # children are 16-bit
_CHUNK = 8192
_BINS = 255
_TREES_AT_ONCE = 16  # bounds the leaves held while sketches are filled: rows x 16 x 2 bytes


class QuantileForest:
    """A forest that answers quantiles.

    Args:
        trees: how many.
        leaves: most leaves of a tree, up to 32,768.
        leaf_rows: least rows of a leaf.
        row_share: rows that each tree is grown on, drawn without replacement.
        feature_share: features, drawn anew, that each split may use.
        points: most targets that a leaf's sketch keeps, up to 255.
        seed: of the draws; the same seed gives the same forest on any number of threads.
        threads: all cores that OMP_NUM_THREADS allows when None.
    """

    def __init__(
        self,
        *,
        trees: int = 100,
        leaves: int = 512,
        leaf_rows: int = 20,
        row_share: float = 0.5,
        feature_share: float = 0.5,
        points: int = 32,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.trees = require_positive_integer(trees, "trees")
        self.leaves = _at_most(leaves, _MOST_LEAVES, "leaves")
        self.leaf_rows = require_positive_integer(leaf_rows, "leaf_rows")
        self.row_share, self.feature_share = _share(row_share, "row_share"), _share(feature_share, "feature_share")
        self.points = _at_most(points, 255, "points")
        self.seed = require_seed(seed)
        self.threads = None if threads is None else require_positive_integer(threads, "threads")
        self.arrays: dict[str, np.ndarray] = {}
        self.features = 0

    def fit(
        self,
        rows: Matrix,
        targets: np.ndarray,
        *,
        guide: np.ndarray | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> "QuantileForest":
        """Grows the trees and fills the sketches.

        Args:
            rows: float32 features [row, feature], sparse or dense; not-a-number is a value unknown.
            targets: [row], finite.
            guide: [row], what splits tell apart by its mean, such as a logarithm of skewed targets; the targets
                themselves when None.
            progress: called with the share of trees grown.

        Raises:
            ArgumentError: no row, or not one finite target for each.
        """
        matrix = _single(rows)
        targets = _required(targets, matrix.shape[0])
        self.features = int(matrix.shape[1])
        table, code = _codes(targets)
        model = self._grow(matrix, targets if guide is None else guide, progress)
        self.arrays = {**_parsed(model, self.trees), "table": table}
        self._fill(matrix.tocsr() if sparse.issparse(matrix) else matrix, code)
        return self

    def quantiles(self, rows: Matrix, levels: Sequence[float]) -> Float32[np.ndarray, "row level"]:
        """Quantiles of every row's target, rising along the last axis: targets that occurred, never between two."""
        from sirdar.forecasting import forest_kernels as kernels  # here, not above: it loads numba

        rising = np.array(require_levels(levels))
        trees, sketches = self._trees(), kernels.Sketches(*(self.arrays[name] for name in kernels.Sketches._fields))
        matrix = self._rows(rows)
        codes = np.empty((matrix.shape[0], len(rising)), dtype=np.uint16)

        def part(begin: int) -> None:
            chunk = slice(begin, begin + _CHUNK)
            leaf = _leaves(trees, matrix[chunk], self.features)
            kernels.union_quantiles(sketches, trees.first_leaf, leaf, rising, codes[chunk])

        self._each(part, matrix.shape[0])
        return self.arrays["table"][codes]

    def apply(self, rows: Matrix) -> Int16[np.ndarray, "row tree"]:
        """The leaf that every row falls in, numbered within each tree."""
        trees, matrix = self._trees(), self._rows(rows)
        out = np.empty((matrix.shape[0], self.trees), dtype=np.int16)

        def part(begin: int) -> None:
            out[begin : begin + _CHUNK] = _leaves(trees, matrix[begin : begin + _CHUNK], self.features)

        self._each(part, matrix.shape[0])
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of the fitted forest, all that it needs to answer."""
        return sum(array.nbytes for array in self.arrays.values())

    def restore(self, arrays: dict[str, np.ndarray], features: int) -> "QuantileForest":
        """Takes the `arrays` of a fitted forest of as many features: nothing in them can execute."""
        self.arrays, self.features = arrays, features
        return self

    def _grow(self, rows: Any, guide: np.ndarray, progress: Callable[[float], None] | None) -> str:  # noqa: ANN401
        """LightGBM's model as text; empty when there is nothing to split."""
        import lightgbm  # here, not above: half a second, and not needed to answer

        if len(guide) < 2 * self.leaf_rows or not rows.shape[1]:
            return ""
        parameters = {
            "objective": "regression",
            "boosting": "rf",
            "num_leaves": max(self.leaves, 2),
            "min_data_in_leaf": self.leaf_rows,
            "min_sum_hessian_in_leaf": 0.0,
            "max_bin": _BINS,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "feature_fraction": 1.0,  # a tree that may not see a driver at all would mix in what is so without it
            "feature_fraction_bynode": self.feature_share,
            "seed": self.seed,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": self.threads or _cores(),
            "verbosity": -1,
        }
        tell = [] if progress is None else [lambda env: progress((env.iteration + 1) / self.trees)]
        data = lightgbm.Dataset(rows, guide, params=parameters, free_raw_data=True)
        return lightgbm.train(parameters, data, num_boost_round=self.trees, callbacks=tell).model_to_string()

    def _fill(self, rows: Any, code: np.ndarray) -> None:  # noqa: ANN401
        """Sketches of all leaves from all rows, a few trees at a time."""
        from sirdar.forecasting import forest_kernels as kernels

        trees, order = self._trees(), np.argsort(code, kind="stable").astype(np.int32)
        sizes = np.diff(trees.first_leaf)
        made = []
        for begin in range(0, self.trees, _TREES_AT_ONCE):
            some = range(begin, min(begin + _TREES_AT_ONCE, self.trees))
            few = trees._replace(first_node=trees.first_node[some[0] :], first_leaf=trees.first_leaf[some[0] :])
            leaf = np.empty((len(some), len(code)), dtype=np.int16)

            def part(begin: int, few: Any = few, leaf: np.ndarray = leaf) -> None:  # noqa: ANN401
                chunk = slice(begin, begin + _CHUNK)
                leaf[:, chunk] = _leaves(few, rows[chunk], self.features, len(leaf)).T

            self._each(part, len(code))
            with ThreadPoolExecutor(self.threads or _cores()) as pool:
                job = [
                    pool.submit(kernels.sketch, leaf[i], order, code, sizes[t], self.points) for i, t in enumerate(some)
                ]
                made += [one.result() for one in job]
        steps = np.concatenate([np.diff(first) for first, _, _ in made])
        self.arrays["first_point"] = np.concatenate([[0], np.cumsum(steps)]).astype(np.uint32)
        self.arrays["code"] = np.concatenate([codes for _, codes, _ in made])
        self.arrays["weight"] = np.concatenate([counts for _, _, counts in made])

    def _trees(self) -> Any:  # noqa: ANN401 - a type of the kernels, which are imported late
        from sirdar.forecasting import forest_kernels as kernels

        if not self.arrays:
            msg = "this forest has not learned anything yet: call fit(rows, targets) first"
            raise ArgumentError(msg)
        return kernels.Trees(*(self.arrays[name] for name in kernels.Trees._fields))

    def _rows(self, rows: Matrix) -> Any:  # noqa: ANN401
        matrix = _single(rows)
        if matrix.shape[1] != self.features:
            msg = f"the forest learned from {self.features} features, but these rows have {matrix.shape[1]}"
            raise ArgumentError(msg)
        return matrix.tocsr() if sparse.issparse(matrix) else matrix

    def _each(self, part: Callable[[int], None], rows: int) -> None:
        """Runs `part` at the beginning of every chunk, on all threads: the loops release Python's lock."""
        with ThreadPoolExecutor(self.threads or _cores()) as pool:
            list(pool.map(part, range(0, rows, _CHUNK)))


def _cores() -> int:
    """Those that this process may use, or as many as OMP_NUM_THREADS allows."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(free, max(1, int(allowed))) if allowed.isdigit() else free


def _single(rows: Any) -> Any:  # noqa: ANN401
    """As float32: thresholds are of that precision, so that storing them is exact."""
    if sparse.issparse(rows):
        return rows if rows.dtype == np.float32 else rows.astype(np.float32)
    return np.ascontiguousarray(rows, dtype=np.float32)


def _required(targets: np.ndarray, rows: int) -> Float32[np.ndarray, " row"]:
    """The targets as float32, or an ArgumentError."""
    targets = np.asarray(targets, dtype=np.float32)
    if targets.shape != (rows,) or not rows:
        msg = f"targets must be one number for each row and at least one, got shape {targets.shape} for {rows} rows"
        raise ArgumentError(msg)
    wrong = np.flatnonzero(~np.isfinite(targets))
    if len(wrong):
        msg = f"targets must be finite, got {targets[wrong[0]]} in row {wrong[0]}"
        raise ArgumentError(msg)
    return targets


def _leaves(trees: Any, rows: Any, features: int, count: int | None = None) -> np.ndarray:  # noqa: ANN401
    from sirdar.forecasting import forest_kernels as kernels

    out = np.empty((rows.shape[0], len(trees.first_leaf) - 1 if count is None else count), dtype=np.int16)
    if sparse.issparse(rows):
        room = np.zeros(features, dtype=np.float32)
        kernels.leaves_of_sparse(trees, rows.data, rows.indices, rows.indptr, room, out)
    else:
        kernels.leaves_of_dense(trees, rows, out)
    return out


def _codes(targets: np.ndarray) -> tuple[Float32[np.ndarray, " value"], np.ndarray]:
    """A rising table of at most 65,536 targets and the entry nearest to each: its own, unless there are more."""
    table = np.unique(targets)
    if len(table) > _CODES:
        ranks = np.linspace(0, len(targets) - 1, _CODES).round().astype(np.int64)
        table = np.unique(np.sort(targets)[ranks])
    if len(table) == 1:
        return table, np.zeros(len(targets), dtype=np.uint16)
    middle = (table[1:].astype(np.float64) + table[:-1]) / 2
    return table, np.searchsorted(middle, targets).astype(np.uint16)


def _parsed(model: str, trees: int) -> dict[str, np.ndarray]:
    """The arrays of `forest_kernels.Trees` from LightGBM's text; trees that are lacking have one leaf."""
    blocks = [_block(text) for text in model.split("\nTree=")[1:]]
    blocks += [_block("")] * (trees - len(blocks))
    nodes = [len(block["split_feature"]) for block in blocks]
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    feature = joined["split_feature"].astype(np.int64)
    kind = joined["decision_type"].astype(np.int64)
    unknown_apart = (kind >> 2) & 3 == 2
    return {
        "first_node": np.concatenate([[0], np.cumsum(nodes)]).astype(np.int32),
        "first_leaf": np.concatenate([[0], np.cumsum(np.array(nodes) + 1)]).astype(np.int32),
        "feature": feature.astype(np.uint16 if feature.max(initial=0) < _CODES else np.uint32),
        "threshold": _rounded_down(joined["threshold"]),
        "missing": np.where(unknown_apart, np.where(kind & 2, 2, 1), 0).astype(np.uint8),
        "left": joined["left_child"].astype(np.int16),
        "right": joined["right_child"].astype(np.int16),
    }


_FIELDS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def _block(text: str) -> dict[str, np.ndarray]:
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: np.array(lines.get(name, "").split(), dtype=np.float64) for name in _FIELDS}


def _rounded_down(values: np.ndarray) -> Float32[np.ndarray, " node"]:
    """The greatest float32 not above: a float32 is below one if and only if it is below the other."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def _at_most(value: int, most: int, name: str) -> int:
    if require_positive_integer(value, name) > most:
        msg = f"{name} must be at most {most}, got {value}"
        raise ArgumentError(msg)
    return value


def _share(value: float, name: str) -> float:
    if not 0 < value <= 1:
        msg = f"{name} must lie in (0, 1], got {value}"
        raise ArgumentError(msg)
    return float(value)
