# SPDX-License-Identifier: Apache-2.0
"""Rows of features against plain numpy: what they say, what they may see, and that scale does not matter."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting import feature_kernels as kernels
from sirdar.forecasting import storage
from sirdar.forecasting.features import Features, Rows, as_features, dense
from sirdar.forecasting.panel import Panel
from sirdar.testing.forecasters import changed_future, example_panel, panel_of


def furnished(unit: str = "W", series: int = 8, length: int = 30, ahead: int = 4) -> Panel:
    """Every kind of covariate; the first product has gaps, the last no history."""
    rng = np.random.default_rng(0)
    history = np.full(series, length, dtype=np.int64)
    history[-1] = 0
    rows = [rng.poisson(6, length + ahead).astype(np.float32) for _ in range(series)]
    rows[0][4:7] = np.nan
    panel = panel_of(rows, history=history.tolist(), unit=unit)
    steps = len(panel.target)
    names = np.array(
        ["red lamp", "red chair", "blue lamp", "blue chair", "red lamp", "a lamp", "red", None], dtype=object
    )
    line = np.array(["lamp", "chair", "lamp", "chair", "lamp", "lamp", "chair", "chair"], dtype=object)
    size = np.array([1, 2, 3, np.nan, 5, 6, 7, 8], dtype=np.float32)
    return replace(
        panel,
        static={"name": names, "line": line, "size": size},
        past={"views": rng.poisson(20, steps).astype(np.float32)},
        future={"price": rng.uniform(1, 2, steps).astype(np.float32), "holiday": rng.integers(0, 2, steps) * 1.0},
        price="price",
    )


def every(panel: Panel, features: Features, back: int = 0, steps: int = 3) -> Rows:
    ahead = np.broadcast_to(np.arange(1, steps + 1), (len(panel), steps))
    return features.rows(panel, np.arange(len(panel)), np.maximum(panel.history - back, 0), ahead)


def column(rows: Rows, features: Features, name: str) -> np.ndarray:
    return rows.matrix.toarray()[:, features.names.index(name)]


@pytest.mark.parametrize("unit", ["h", "D", "W", "M", "Q", "Y"])
@pytest.mark.parametrize("length", [10, 130])
def test_every_column_has_a_name(unit: str, length: int) -> None:
    panel = furnished(unit, length=length)
    features = Features.fit(panel)
    rows = every(panel, features)
    assert rows.matrix.shape == (3 * len(panel), len(features.names))
    assert len(set(features.names)) == len(features.names)
    assert rows.matrix.has_canonical_format or bool((np.diff(rows.matrix.indices) != 0).any())
    assert rows.scale.dtype == rows.target.dtype == rows.matrix.dtype == np.float32


def test_lags_moments_and_pace_are_those_of_plain_numpy() -> None:
    panel = furnished()
    features = Features.fit(panel)
    rows = every(panel, features, back=20)  # ten steps are seen, of which series 0 lacks three
    seen = panel.target[:10].astype(np.float64)
    scale = float(rows.scale[0])
    known = seen[~np.isnan(seen)]
    assert column(rows, features, "lag 1")[0] == pytest.approx(seen[9] / scale)
    assert np.isnan(column(rows, features, "lag 4")[0])
    assert column(rows, features, "mean of 13")[0] == pytest.approx(known.mean() / scale, rel=1e-6)
    assert column(rows, features, "deviation of 13")[0] == pytest.approx(known.std() / scale, rel=1e-5)
    assert column(rows, features, "zeros of 4")[0] == pytest.approx((seen[7:] == 0).mean())
    assert column(rows, features, "quantile 0.5 of 13")[0] == pytest.approx(np.sort(known)[3] / scale)
    assert column(rows, features, "share observed")[0] == pytest.approx(0.7)
    assert column(rows, features, "age")[0] == pytest.approx(np.log1p(10))
    assert column(rows, features, "step")[:3].tolist() == [1, 2, 3]
    assert rows.target[:3].tolist() == panel.target[10:13].tolist()


def test_time_since_the_last_sale_counts_from_the_target() -> None:
    panel = panel_of([[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]] * 2)
    features = Features.fit(panel)
    rows = every(panel, features)
    assert column(rows, features, "since last sale")[0] == pytest.approx(np.log1p(9))
    assert column(rows, features, "between sales")[0] == pytest.approx(np.log1p(10))


def test_seasonal_lags_are_of_the_target_weekday() -> None:
    rows_of = [np.tile([1, 2, 3, 4, 5, 6, 70.0], 9)]
    panel = panel_of(rows_of, unit="D")
    features = Features.fit(panel)
    rows = every(panel, features, steps=9)
    expected = np.resize(rows_of[0][:7], 9)
    assert np.allclose(column(rows, features, "last of cycle 7") * rows.scale, expected)
    assert np.allclose(column(rows, features, "mean of 8 of cycle 7") * rows.scale, expected)
    assert np.allclose(column(rows, features, "index of cycle 7"), expected / rows_of[0][:7].mean())


def test_the_year_is_told_only_when_it_was_seen_twice() -> None:
    short, long = (Features.fit(panel_of([np.ones(length)] * 3)) for length in (100, 110))
    assert "place in year" not in short.names
    assert not any("cycle 52" in name for name in short.names)
    assert {"place in year", "last of cycle 52"} <= set(long.names)


@pytest.mark.parametrize("back", [0, 7])
def test_demand_and_past_covariates_after_the_origin_are_not_seen(back: int) -> None:
    panel = furnished()
    features = Features.fit(panel)
    later = np.arange(len(panel.target)) - panel.indptr[:-1][panel.step_series] >= 30 - back
    other = replace(
        panel,
        target=np.where(later, 999, panel.target).astype(np.float32),
        past={"views": np.where(later, 999, panel.past["views"]).astype(np.float32)},
    )
    first, second = every(panel, features, back), every(other, features, back)
    assert np.array_equal(first.matrix.toarray(), second.matrix.toarray(), equal_nan=True)
    assert np.array_equal(first.scale, second.scale)
    assert Features.fit(panel) == Features.fit(changed_future(panel))


def test_plans_are_seen_at_the_target_and_hold_when_unknown() -> None:
    panel = furnished()
    features = Features.fit(panel)
    rows = every(panel, features, steps=6)  # four steps ahead are known
    price = np.log(panel.future["price"])
    now = price[29]
    expected = price[[30, 31, 32, 33, 33, 33]] - now
    assert np.allclose(column(rows, features, "price over now")[:6], expected, atol=1e-6)
    usual = price[22:30].mean()
    assert np.allclose(column(rows, features, "price over usual")[:6], expected + now - usual, atol=1e-5)


def test_what_is_out_of_stock_is_no_zero_demand() -> None:
    panel = furnished()
    stock = np.ones(len(panel.target), dtype=bool)
    stock[25:30] = False
    sold_out = replace(panel, in_stock=stock, target=np.where(stock, panel.target, 0).astype(np.float32))
    unknown = replace(panel, target=np.where(stock, panel.target, np.nan).astype(np.float32))
    features = Features.fit(sold_out)
    assert features == Features.fit(unknown)
    first, second = every(sold_out, features), every(unknown, features)
    assert np.array_equal(first.matrix.toarray(), second.matrix.toarray(), equal_nan=True)
    assert np.isnan(column(first, features, "lag 1")[0])


def test_a_line_has_columns_of_its_own_and_what_does_not_apply_takes_no_room() -> None:
    panel = furnished()
    features = Features.fit(panel)
    matrix = every(panel, features).matrix
    own = features.names.index("line=lamp: price over now")
    lamps = (panel.static["line"] == "lamp").repeat(3)
    assert np.array_equal(
        matrix.toarray()[lamps, own], column(every(panel, features), features, "price over now")[lamps]
    )
    assert not matrix[~lamps][:, own].nnz
    without_size = matrix[9:12][:, features.names.index("size")]
    assert without_size.nnz == 0


def test_words_are_those_that_enough_products_share() -> None:
    rng = np.random.default_rng(0)
    panel = panel_of([rng.poisson(3, 20) for _ in range(30)])
    names = np.array([f"LAMP no {number} {'red' if number % 2 else 'unique' + 'x' * number}" for number in range(30)])
    features = Features.fit(replace(panel, static={"name": names.astype(object)}))
    assert features.words.words == ("lamp", "red")
    rows = every(replace(panel, static={"name": names.astype(object)}), features)
    assert column(rows, features, "word red").tolist() == np.repeat(np.arange(30) % 2, 3).tolist()


def test_units_of_demand_change_only_the_scale() -> None:
    panel = example_panel()
    factor = np.float32(2.0**20)
    scaled = replace(panel, target=panel.target * factor)
    first, second = every(panel, Features.fit(panel)), every(scaled, Features.fit(scaled))
    assert np.allclose(first.matrix.toarray(), second.matrix.toarray(), rtol=1e-5, atol=1e-6, equal_nan=True)
    assert np.allclose(second.scale / first.scale, factor, rtol=1e-5)


def test_a_series_without_history_is_measured_by_the_panel() -> None:
    panel = furnished()
    features = Features.fit(panel)
    rows = every(panel, features)
    assert rows.scale[-1] == pytest.approx(features.reference)
    assert np.isnan(column(rows, features, "lag 1")[-1])
    assert column(rows, features, "age")[-1] == 0
    assert np.isfinite(rows.scale).all()
    assert (rows.scale > 0).all()


def test_demand_of_nothing_but_zeros_or_of_extreme_size_has_a_scale() -> None:
    demand = np.array([0, 0, 0, 1e30, 1e30, 1e-30, 1e-30], dtype=np.float32)
    begin, end = np.array([0, 3, 5, 7]), np.array([3, 5, 7, 7])
    scale = kernels.scales(demand, begin, end, np.array([4, 8, 13]), 2.0)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    assert scale[3] == pytest.approx(2.0)


def test_samples_lie_within_history_and_are_observed() -> None:
    panel = furnished()
    features = Features.fit(panel)
    series, origin, step = features.sample(panel, 5, 400, np.random.default_rng(0))
    assert len(series) == 400
    assert step.min() >= 1
    assert step.max() <= 5
    place = panel.indptr[:-1][series] + origin + step[:, 0] - 1
    assert panel.observed[place].all()
    assert (origin == 0).any()
    rows = features.rows(panel, series, origin, step)
    assert np.array_equal(rows.target, panel.target[place])


def test_it_survives_json() -> None:
    import json

    features = Features.fit(furnished())
    stored = json.loads(json.dumps(asdict(features)))
    assert as_features(stored, storage.as_encoding(stored["encoding"])) == features


def test_dense_rows_have_no_gaps() -> None:
    panel = furnished()
    features = Features.fit(panel)
    rows = every(panel, features)
    table = dense(rows)
    assert np.isfinite(table).all()
    assert table.shape == rows.matrix.shape
    step = features.names.index("step")
    assert np.allclose(table[:, step], np.arcsinh(rows.matrix.toarray()[:, step]))


def test_errors() -> None:
    panel = furnished()
    features = Features.fit(panel)
    with pytest.raises(ArgumentError, match="past covariate 'views'"):
        every(replace(panel, past={}), features)
    with pytest.raises(ArgumentError, match="learned from 'W' steps, but the panel has 'D'"):
        every(replace(panel, frequency=replace(panel.frequency, unit="D")), features)
