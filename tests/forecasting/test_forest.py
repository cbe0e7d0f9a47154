# SPDX-License-Identifier: Apache-2.0
"""The quantile forest against LightGBM, quantile-forest and plain numpy; sketches, storage, threads."""

import os
import warnings

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantile_forest import RandomForestQuantileRegressor
from scipy import sparse

from sirdar.errors import ArgumentError
from sirdar.forecasting import forest_kernels as kernels
from sirdar.forecasting.forest import QuantileForest, _codes, _cores, _rounded_down

LEVELS = (0.05, 0.3, 0.5, 0.9)


def data(rows: int = 600, features: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Half of the features zero, some unknown; targets of unequal spread, a third of them zero."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, features)).astype(np.float32)
    table[rng.random(table.shape) < 0.5] = 0
    signal = np.exp(table[:, 0] + rng.normal(size=rows) * (1 + (table[:, 1] > 0)))
    table[rng.random(table.shape) < 0.05] = np.nan
    return table, (signal * (rng.random(rows) < 0.67)).astype(np.float32)


def forest(seed: int = 0, threads: int = 1, points: int = 255, leaf_rows: int = 20) -> QuantileForest:
    return QuantileForest(
        trees=7, leaves=12, leaf_rows=leaf_rows, points=points, seed=seed, threads=threads, row_share=0.7
    )


def plain_quantiles(leaf: np.ndarray, known: np.ndarray, targets: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Meinshausen (2006), equations 4 to 6, word by word: leaf [row, tree] of new rows, `known` of those learned."""
    answer = np.empty((len(leaf), len(levels)), dtype=np.float32)
    order = np.argsort(targets, kind="stable")
    for i, row in enumerate(leaf):
        same = known == row
        weight = (same / same.sum(axis=0)).mean(axis=1)
        share = np.cumsum(weight[order])
        answer[i] = [targets[order][np.flatnonzero(share >= level - 1e-9)[0]] for level in levels]
    return answer


def test_quantiles_are_exact_when_sketches_hold_all_targets() -> None:
    table, targets = data()
    new, _ = data(40, seed=1)
    fitted = forest().fit(table, targets)
    assert np.bincount(fitted.apply(table)[:, 0]).max() <= 255
    expected = plain_quantiles(fitted.apply(new), fitted.apply(table), targets, np.array(LEVELS))
    assert np.array_equal(fitted.quantiles(new, LEVELS), expected)


def test_small_sketches_are_near() -> None:
    table, targets = data(5000)
    exact, small = (forest(points=points, leaf_rows=200).fit(table, targets) for points in (255, 16))
    assert small.nbytes < exact.nbytes / 2
    share = [[(targets <= q).mean() for q in one.quantiles(table[:200], LEVELS).ravel()] for one in (exact, small)]
    assert np.abs(np.subtract(*share)).max() < 0.05


def test_leaves_are_those_of_lightgbm() -> None:
    table, targets = data(3000)
    fitted = forest().fit(table, targets)
    model = lightgbm.train(
        {
            "objective": "regression",
            "boosting": "rf",
            "num_leaves": 12,
            "min_data_in_leaf": 20,
            "min_sum_hessian_in_leaf": 0.0,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "feature_fraction_bynode": 0.5,
            "seed": 0,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        },
        lightgbm.Dataset(table, targets),
        7,
    )
    new, _ = data(500, seed=2)
    assert np.array_equal(fitted.apply(new), model.predict(new, pred_leaf=True))


def test_no_tree_is_blind_to_what_drives_the_target() -> None:
    """One flag among ten features is all that matters: its quantiles are those of its own rows."""
    rng = np.random.default_rng(0)
    table = rng.random((4000, 10)).astype(np.float32)
    table[:, 3] = rng.random(4000) < 0.2
    targets = (rng.normal(size=4000) + 10 * table[:, 3]).astype(np.float32)
    found = QuantileForest(trees=30, threads=1).fit(table, targets).quantiles(table, (0.1, 0.5, 0.9))
    for flag in (0, 1):
        chosen = table[:, 3] == flag
        exact = np.quantile(targets[chosen], (0.1, 0.5, 0.9))
        np.testing.assert_allclose(np.median(found[chosen], axis=0), exact, atol=0.3)


def test_sparse_and_dense_rows_are_the_same() -> None:
    table, targets = data()
    answers = [
        forest().fit(kind(table), targets).quantiles(kind(table), LEVELS)
        for kind in (np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array)
    ]
    assert all(np.array_equal(answers[0], answer) for answer in answers[1:])


def test_it_is_as_good_as_quantile_forest() -> None:
    """Pinball loss on rows not seen, within 3 % on this little data."""
    table, targets = data(6000)
    table = np.nan_to_num(table)
    learn, score = slice(0, 4000), slice(4000, None)
    mine = QuantileForest(trees=40, leaves=64, leaf_rows=40, feature_share=1.0, threads=1)
    mine.fit(table[learn], targets[learn], guide=np.log1p(targets[learn]))
    peer = RandomForestQuantileRegressor(40, min_samples_leaf=40, max_samples_leaf=None, random_state=0, n_jobs=1)
    peer.fit(table[learn], targets[learn])
    levels = np.array(LEVELS)

    def loss(quantiles: np.ndarray) -> float:
        gap = targets[score, None] - quantiles
        return float(np.maximum(levels * gap, (levels - 1) * gap).mean())

    expected = np.asarray(peer.predict(table[score], quantiles=list(LEVELS)))
    assert loss(mine.quantiles(table[score], LEVELS)) < 1.03 * loss(expected)


@pytest.mark.parametrize(("allowed", "most"), [("1", 1), ("0", 1), ("1000000", None), ("4,2", None), ("", None)])
def test_threads_are_bounded_by_the_cores_and_by_the_environment(
    allowed: str, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    every = _cores()
    assert 1 <= every <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert _cores() == (every if most is None else most)


def test_threads_and_storage_change_nothing() -> None:
    table, targets = data(20_000)  # several chunks
    one, two = (forest(threads=threads).fit(table, targets) for threads in (1, 2))
    again = forest().restore(dict(one.arrays), one.features)
    expected = one.quantiles(table, LEVELS)
    assert np.array_equal(two.quantiles(table, LEVELS), expected)
    assert np.array_equal(again.quantiles(table, LEVELS), expected)
    assert not np.array_equal(forest(seed=1).fit(table, targets).quantiles(table, LEVELS), expected)


def test_size_grows_with_leaves_not_with_rows() -> None:
    few, many = (forest(points=16).fit(*data(rows)) for rows in (4000, 40_000))
    assert many.nbytes - many.arrays["table"].nbytes < 1.3 * (few.nbytes - few.arrays["table"].nbytes)


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    points=st.integers(1, 20),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_a_sketch_holds_all_of_a_small_leaf_and_the_middles_of_a_large_one(
    sizes: list[int], points: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    leaf = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int16)
    code = rng.integers(0, 30, len(leaf)).astype(np.uint16)
    order = np.argsort(code, kind="stable").astype(np.int32)
    first, codes, weights = kernels.sketch(leaf, order, code, len(sizes), points)
    for number, size in enumerate(sizes):
        part = slice(first[number], first[number + 1])
        own = np.sort(code[leaf == number])
        kept = min(size, points)
        expected = [own[int((k + 0.5) * size / kept)] for k in range(kept)]
        assert np.repeat(codes[part], weights[part]).tolist() == expected
        assert (np.diff(codes[part].astype(int)) > 0).all()


@given(seed=st.integers(0, 10_000), spread=st.sampled_from([3, 300, 65_536]), leaves=st.integers(1, 6))
@settings(max_examples=80)
def test_quantiles_of_the_union_are_those_of_plain_numpy(seed: int, spread: int, leaves: int) -> None:
    rng = np.random.default_rng(seed)
    codes = [np.unique(rng.integers(0, spread, rng.integers(1, 12))) for _ in range(leaves)]
    weights = [rng.integers(1, 9, len(part)) for part in codes]
    first = np.concatenate([[0], np.cumsum([len(part) for part in codes])])
    sketches = kernels.Sketches(
        first.astype(np.uint32),
        np.concatenate(codes).astype(np.uint16),
        np.concatenate(weights).astype(np.uint8),
    )
    levels = np.unique(rng.random(5).clip(0.01, 0.99))
    out = np.empty((1, len(levels)), dtype=np.uint16)
    every = np.arange(leaves, dtype=np.int32)
    kernels.union_quantiles(sketches, every, np.zeros((1, leaves), dtype=np.int16), levels, out)
    joined = np.concatenate(codes)
    share = np.concatenate([part / part.sum() / leaves for part in weights])
    order = np.argsort(joined, kind="stable")
    total = np.cumsum(share[order])
    assert out[0].tolist() == [joined[order][np.flatnonzero(total >= level - 1e-9)[0]] for level in levels]


def test_more_targets_than_codes_are_coded_to_the_nearest() -> None:
    targets = np.random.default_rng(0).lognormal(size=200_000).astype(np.float32)
    table, code = _codes(targets)
    assert len(table) <= 65_536
    assert (np.diff(table) > 0).all()
    assert np.quantile(np.abs(table[code] / targets - 1), 0.99) < 1e-3
    assert _codes(targets[:1000])[0][_codes(targets[:1000])[1]].tolist() == targets[:1000].tolist()


@given(st.floats(-1e30, 1e30))
def test_a_rounded_threshold_parts_float32_values_as_before(threshold: float) -> None:
    low = _rounded_down(np.array([threshold]))[0]
    assert float(low) <= threshold < float(np.nextafter(low, np.float32(np.inf)))


@pytest.mark.parametrize("rows", [1, 2, 39])
def test_too_few_rows_to_split_give_the_quantiles_of_all(rows: int) -> None:
    table, targets = data(rows)
    answer = forest().fit(table, targets).quantiles(table, LEVELS)
    assert np.array_equal(answer[0], np.quantile(targets, LEVELS, method="inverted_cdf").astype(np.float32))
    assert (answer == answer[0]).all()


def test_features_or_targets_that_never_change_give_the_quantiles_of_all() -> None:
    _, targets = data(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = forest().fit(np.ones((200, 3)), targets).quantiles(np.ones((1, 3)), LEVELS)
        assert forest().fit(data(200)[0], np.full(200, 7.0)).quantiles(data(5)[0], (0.5,)).tolist() == [[7.0]] * 5
    assert np.array_equal(same[0], np.quantile(targets, LEVELS, method="inverted_cdf").astype(np.float32))


def test_no_rows_to_answer() -> None:
    fitted = forest().fit(*data())
    assert fitted.quantiles(np.zeros((0, 6)), LEVELS).shape == (0, 4)


def test_errors() -> None:
    table, targets = data()
    with pytest.raises(ArgumentError, match="seed must be an integer from 0 to .*, got -1"):
        QuantileForest(seed=-1)
    with pytest.raises(ArgumentError, match="has not learned anything yet"):
        forest().quantiles(table, LEVELS)
    with pytest.raises(ArgumentError, match=r"shape \(599,\) for 600 rows"):
        forest().fit(table, targets[1:])
    with pytest.raises(ArgumentError, match="targets must be finite, got nan in row 3"):
        forest().fit(table, np.where(np.arange(600) == 3, np.nan, targets))
    with pytest.raises(ArgumentError, match="learned from 6 features, but these rows have 5"):
        forest().fit(table, targets).quantiles(table[:, 1:], LEVELS)
    with pytest.raises(ArgumentError, match="leaves must be at most 32768, got 40000"):
        QuantileForest(leaves=40_000)
    with pytest.raises(ArgumentError, match=r"row_share must lie in \(0, 1\], got 0.0"):
        QuantileForest(row_share=0.0)
    with pytest.raises(ArgumentError, match="points must be at most 255, got 256"):
        QuantileForest(points=256)
