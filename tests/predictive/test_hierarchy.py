# SPDX-License-Identifier: Apache-2.0
"""WRMSSE and WSPL: by hand, against utilsforecast, and (slow) the weights that the M5 competition published.

The slow test reads `m5/sales_daily.parquet`, `m5/static.parquet` and `m5/weights_evaluation.parquet` from the folder
that the environment variable SIRDAR_DATA names, and is skipped without it.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from utilsforecast import losses

from sirdar.errors import ArgumentError, DataError
from sirdar.predictive import M5_LEVELS, M5_QUANTILES, Hierarchy, hierarchy, wrmsse, wspl

# Two items of one department and one of another, in two stores of two states; "c" is sold in one store only.
KEYS = {
    "item": ["a", "b", "a", "b", "c"],
    "dept": ["D1", "D1", "D1", "D1", "D2"],
    "cat": ["C", "C", "C", "C", "C"],
    "store": ["S1", "S1", "S2", "S2", "S2"],
    "state": ["X", "X", "Y", "Y", "Y"],
}
TREE = Hierarchy.of(KEYS)
RNG = np.random.default_rng(3)
HISTORY, ACTUAL, POINT = RNG.gamma(2, 5, (5, 40)), RNG.gamma(2, 5, (5, 7)), RNG.gamma(2, 5, (5, 7))
WEIGHT = hierarchy.dollar_weights(TREE, HISTORY[:, -28:], np.full((5, 28), 2.0))


def test_the_twelve_levels() -> None:
    assert TREE.names == tuple(M5_LEVELS)
    counts = dict(zip(TREE.names, np.bincount(TREE.level_of).tolist(), strict=True))
    assert counts == {
        "total": 1, "state": 2, "store": 2, "cat": 1, "dept": 2, "state-cat": 2, "state-dept": 3, "store-cat": 2,
        "store-dept": 3, "item": 3, "item-state": 5, "item-store": 5,
    }  # fmt: skip
    assert TREE.labels[6] == (("X", "D1"), ("Y", "D1"), ("Y", "D2"))
    totals = TREE.aggregate(np.arange(1.0, 6.0))
    np.testing.assert_array_equal(totals[:3], [15, 3, 12])
    np.testing.assert_array_equal(totals[TREE.level_of == 9], [4, 6, 5])


def test_a_level_needs_its_keys() -> None:
    with pytest.raises(ArgumentError, match="level 'state' needs the key 'state'; given are \\['item'\\]"):
        Hierarchy.of({"item": ["a", "b"]})
    with pytest.raises(ArgumentError, match="got lengths \\[1, 2\\]"):
        Hierarchy.of({"item": ["a", "b"], "store": ["S"]})
    with pytest.raises(ArgumentError, match="the hierarchy has 31 nodes, but got an array of 5 rows"):
        wrmsse(TREE, ACTUAL, POINT, np.ones(5), np.ones(5))


def test_weights_are_shares_of_turnover_in_each_level() -> None:
    np.testing.assert_allclose(np.bincount(TREE.level_of, WEIGHT), 1)
    one = hierarchy.dollar_weights(TREE, np.eye(5)[:, :2], np.full((5, 2), 3.0))
    # Nodes are sorted by label: a in S1, a in S2, b in S1, b in S2, c in S2.
    np.testing.assert_allclose(one[TREE.level_of == 11], [0.5, 0.0, 0.5, 0.0, 0.0])
    with pytest.raises(DataError, match="add up to 0"):
        hierarchy.dollar_weights(TREE, np.zeros((5, 2)), np.ones((5, 2)))


def test_scales_by_hand_start_at_the_first_sale() -> None:
    single = Hierarchy.of({"item": ["a"]}, {"item": ("item",)})
    history = np.array([[0.0, 0.0, 3.0, 5.0, np.nan, 4.0, 8.0]])
    # From the first sale on the changes known are 3 -> 5 and 4 -> 8.  (A day unobserved breaks the chain.)
    assert hierarchy.absolute_scale(single, history) == pytest.approx(3.0)
    assert hierarchy.quadratic_scale(single, history) == pytest.approx(np.sqrt((4 + 16) / 2))
    assert np.isnan(hierarchy.quadratic_scale(single, np.zeros((1, 7)))).all()


def long(values: np.ndarray, start: int, **more: np.ndarray) -> pl.DataFrame:
    nodes, steps = values.shape
    index = {"unique_id": np.repeat(np.arange(nodes), steps), "ds": np.tile(np.arange(start, start + steps), nodes)}
    return pl.DataFrame(index | {"y": values.reshape(-1)} | {k: v.reshape(-1) for k, v in more.items()})


def test_wrmsse_is_the_weighted_rmsse_of_utilsforecast() -> None:
    table = long(TREE.aggregate(ACTUAL), 40, m=TREE.aggregate(POINT))
    train = long(TREE.aggregate(HISTORY), 0)
    oracle = losses.rmsse(table, models=["m"], seasonality=1, train_df=train).sort("unique_id")["m"].to_numpy()
    found = wrmsse(TREE, ACTUAL, POINT, hierarchy.quadratic_scale(TREE, HISTORY), WEIGHT)
    assert found == pytest.approx((WEIGHT * oracle).sum() / 12)


def test_wspl_is_the_weighted_scaled_loss_of_utilsforecast() -> None:
    samples = RNG.gamma(2, 5, (5, 7, 50))
    quantiles = hierarchy.node_quantiles(TREE, samples)
    np.testing.assert_allclose(quantiles[0], np.quantile(samples.sum(axis=0), M5_QUANTILES, axis=1).T)
    columns = {f"q{i}": quantiles[..., i] for i in range(9)}
    oracle = losses.scaled_mqloss(
        long(TREE.aggregate(ACTUAL), 40, **columns),
        models={"m": list(columns)},
        quantiles=np.array(M5_QUANTILES),
        seasonality=1,
        train_df=long(TREE.aggregate(HISTORY), 0),
    )
    found = wspl(TREE, ACTUAL, quantiles, M5_QUANTILES, hierarchy.absolute_scale(TREE, HISTORY), WEIGHT)
    assert found == pytest.approx((WEIGHT * oracle.sort("unique_id")["m"].to_numpy()).sum() / 12)


def test_unobserved_steps_are_skipped_and_broken_forecasts_are_not() -> None:
    scale = hierarchy.quadratic_scale(TREE, HISTORY)
    gappy = np.where(np.arange(7) < 4, ACTUAL, np.nan)
    expected = wrmsse(TREE, ACTUAL[:, :4], POINT[:, :4], scale, WEIGHT)
    assert wrmsse(TREE, gappy, POINT, scale, WEIGHT) == pytest.approx(expected)
    broken = POINT.copy()
    broken[0] = np.nan
    assert np.isnan(wrmsse(TREE, ACTUAL, broken, scale, WEIGHT))


@pytest.mark.slow
def test_weights_are_those_of_the_m5_competition() -> None:
    folder = os.environ.get("SIRDAR_DATA")
    if not folder:
        pytest.skip("SIRDAR_DATA names no data folder")
    home = Path(folder) / "m5"
    static = pl.read_parquet(home / "static.parquet").sort("unique_id")
    sold = (
        pl.scan_parquet(home / "sales_daily.parquet")
        .filter(pl.col("split").cast(pl.String) == "validation")  # d_1914 to d_1941
        .with_columns(pl.col("unique_id").cast(pl.String))
        .sort("unique_id", "ds")
        .collect()
    )
    assert sold["unique_id"].unique(maintain_order=True).to_list() == static["unique_id"].to_list()
    sales, prices = (
        sold[name].cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(-1, 28) for name in ("y", "sell_price")
    )
    tree = Hierarchy.of({key: static[f"{key}_id"].to_list() for key in ("item", "dept", "cat", "store", "state")})
    assert len(tree.level_of) == 42_840
    weight = hierarchy.dollar_weights(tree, sales, prices)
    official = pl.read_parquet(home / "weights_evaluation.parquet")
    for number, labels in enumerate(tree.labels):
        rows = official.filter(pl.col("Level_id") == f"Level{number + 1}")
        # The file names the parts of a node in an order of its own, filled up with "X"; "Total" is the total.
        pairs = zip(rows["Agg_Level_1"], rows["Agg_Level_2"], strict=True)
        published = dict(zip((frozenset(pair) - {"X", "Total"} for pair in pairs), rows["weight"], strict=True))
        expected = [published[frozenset(label)] for label in labels]
        np.testing.assert_allclose(weight[tree.level_of == number], expected, atol=1e-8)
