# SPDX-License-Identifier: Apache-2.0
"""Rows of features against plain loops: what they say, what they may see, and that scale does not matter.

Expected numbers are made here, from the demand itself, one series and one step at a time.
"""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.forecasting import feature_kernels as kernels
from sirdar.forecasting import storage
from sirdar.forecasting.features import Features, Pairs, Rows, as_features
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


@pytest.mark.parametrize("unit", ["h", "D", "B", "W", "M", "Q", "Y"])
@pytest.mark.parametrize("length", [10, 130])
def test_every_column_has_a_name(unit: str, length: int) -> None:
    panel = furnished(unit, length=length)
    features = Features.fit(panel)
    rows = every(panel, features)
    assert rows.matrix.shape == (3 * len(panel), len(features.names))
    assert len(set(features.names)) == len(features.names)
    assert rows.matrix.has_canonical_format or bool((np.diff(rows.matrix.indices) != 0).any())
    assert rows.scale.dtype == rows.target.dtype == rows.matrix.dtype == np.float32
    pairs, (shared, own) = pairs_of(panel, features), features.pair_names
    assert pairs.shared.shape == (len(panel), len(shared))
    assert pairs.ahead.shape == (len(panel), 3, len(own))
    assert not set(shared) & set(own)


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


def test_time_since_the_last_sale_counts_from_the_origin() -> None:
    panel = panel_of([[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]] * 2)
    features = Features.fit(panel)
    rows = every(panel, features)
    assert column(rows, features, "since last sale")[0] == pytest.approx(np.log1p(9))
    assert column(rows, features, "between sales")[0] == pytest.approx(np.log1p(10))


def test_steps_not_observed_are_no_steps_without_a_sale() -> None:
    nan = np.nan
    panel = panel_of([[0, 3, 0, nan, nan, nan, 0], [nan, nan, nan, 0, 3, 0, 0], [nan] * 7])
    features = Features.fit(panel)
    rows = every(panel, features, steps=1)
    np.testing.assert_allclose(column(rows, features, "since last sale"), [np.log1p(3), np.log1p(3), nan])
    np.testing.assert_allclose(column(rows, features, "age"), np.log1p([7, 4, 0]))  # since it was first observed


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


def pairs_of(panel: Panel, features: Features, back: int = 0, steps: int = 3) -> Pairs:
    ahead = np.broadcast_to(np.arange(1, steps + 1), (len(panel), steps))
    return features.on(panel).pairs(np.arange(len(panel)), np.maximum(panel.history - back, 0), ahead)


def test_pairs_say_what_rows_say() -> None:
    panel = furnished("D")
    features = Features.fit(panel)
    rows, pairs = every(panel, features, back=5), pairs_of(panel, features, back=5)
    table = np.nan_to_num(rows.matrix.toarray(), nan=-7).reshape(len(panel), 3, -1)
    step, views, size, line = (features.names.index(name) for name in ("step", "views over 1", "size", "name=red lamp"))
    assert np.array_equal(np.nan_to_num(pairs.ahead, nan=-7), table[..., step:views])
    age, shared = features.names.index("age"), np.nan_to_num(pairs.shared, nan=-7)
    assert np.array_equal(shared[:, :age], table[:, 0, :age])
    assert np.array_equal(shared[:, step : step + line - views], table[:, 0, views:line])
    assert size < line
    assert np.array_equal(pairs.scale, rows.scale[::3])
    assert np.array_equal(pairs.target.reshape(-1), rows.target, equal_nan=True)


def test_pairs_tell_words_of_new_products_alone_and_age_to_a_dozen_steps() -> None:
    rng = np.random.default_rng(0)
    history = [0, 5, 30] * 10
    panel = panel_of([rng.poisson(3, 30) for _ in range(30)], history=history)
    panel = replace(panel, static={"name": np.array([f"lamp no{'x' * row}" for row in range(30)], dtype=object)})
    features = Features.fit(panel)
    assert features.words.words == ("lamp",)
    pairs = pairs_of(panel, features)
    assert pairs.shared[:, -1].tolist() == [1, 0, 0] * 10
    age = features.names.index("age")
    assert np.allclose(pairs.shared[:, age], np.log1p([0, 5, 12] * 10))
    assert "day of month" in features.names
    assert pairs.ahead.shape[2] == 1  # the step alone


def without_spikes(demand: list[float]) -> list[float]:
    """Of a step that is more than ten times the mean of four or more before it that sold, ten times that mean."""
    told = list(demand)
    for place, value in enumerate(demand):
        sold = [x for x in demand[:place] if x > 0]
        if len(sold) >= 4 and value > 10 * np.mean(sold):
            told[place] = float(10 * np.mean(sold))
    return told


def loops(demand: np.ndarray, now: int, scale: float, shape: tuple[int, tuple[int, ...]]) -> dict[str, float]:
    """What `Features` says of the history before `now`, by definition."""
    said: dict[str, float] = {}
    lags, windows = shape
    for lag in range(1, lags + 1):
        said[f"lag {lag}"] = demand[now - lag] / scale if now >= lag else np.nan
    for window in windows:
        seen = [x for x in demand[max(0, now - window) : now] if not np.isnan(x)]
        said[f"mean of {window}"] = float(np.mean(seen)) / scale if seen else np.nan
        said[f"deviation of {window}"] = float(np.std(seen)) / scale if seen else np.nan
        said[f"zeros of {window}"] = float(np.mean([x == 0 for x in seen])) if seen else np.nan
    middle, longest = windows[len(windows) // 2], windows[-1]
    seen = sorted(x for x in demand[max(0, now - middle) : now] if not np.isnan(x))
    for level in (0.25, 0.5, 0.75, 0.9, 1):
        # the least value that at least this share of what was seen does not exceed
        value = next((x for x in seen if sum(y <= x for y in seen) >= level * len(seen) - 1e-9), np.nan)
        said[f"quantile {level:g} of {middle}"] = value / scale
    begin = next((t for t in range(now) if not np.isnan(demand[t])), now)
    far = demand[max(begin, now - longest) : now]
    sales = [t for t in range(len(far)) if far[t] > 0]
    known = [x for x in far if not np.isnan(x)]
    said["since last sale"] = np.log1p(1 + np.isfinite(far[sales[-1] + 1 :]).sum()) if sales else np.nan
    said["between sales"] = np.log1p(len(known) / len(sales)) if sales else np.nan
    said[f"size of a sale in {longest}"] = np.sum(far[sales]) / len(sales) / scale if sales else np.nan
    said["share observed"] = len(known) / len(far) if len(far) else np.nan
    said["age"] = np.log1p(min(now - begin, longest))
    return said


demands = st.lists(st.sampled_from([0, 0, 0, 1, 2, 7, 40, np.nan]), min_size=1, max_size=70)


@settings(max_examples=40)
@example(demand=[1, 1, 1, 1, 40], now=5, unit="D")
@given(demands, st.integers(0, 70), st.sampled_from(["D", "W", "M"]))
def test_history_is_what_loops_say(demand: list[float], now: int, unit: str) -> None:
    now = min(now, len(demand))
    panel = panel_of([demand, np.ones(70)], unit=unit)  # the second, so that there is a level
    features = Features.fit(panel)
    rows = features.rows(panel, np.array([0]), np.array([now]), np.array([[1]]))
    expected = loops(np.array(without_spikes(demand), dtype=float), now, float(rows.scale[0]), features.shape[:2])
    for name, value in expected.items():
        assert column(rows, features, name)[0] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name


@settings(max_examples=40)
@given(demands, st.integers(0, 70), st.integers(1, 20))
def test_seasons_are_what_loops_say(demand: list[float], now: int, step: int) -> None:
    now, cycle = min(now, len(demand)), 7
    panel = panel_of([demand, np.ones(70)], unit="D")
    features = Features.fit(panel)
    rows = features.rows(panel, np.array([0]), np.array([now]), np.array([[step]]))
    told = without_spikes(demand)
    same = [told[t] for t in range(now) if (now + step - 1 - t) % cycle == 0][::-1]  # newest first
    last = same[0] if same else np.nan
    for count in (4, 8):
        known = [x for x in same[:count] if not np.isnan(x)]
        mean = np.mean(known) / rows.scale[0] if known else np.nan
        assert column(rows, features, f"mean of {count} of cycle 7")[0] == pytest.approx(mean, rel=1e-4, nan_ok=True)
    assert column(rows, features, "last of cycle 7")[0] == pytest.approx(last / rows.scale[0], rel=1e-4, nan_ok=True)


@settings(max_examples=25)
@given(st.integers(0, 30), st.integers(0, 10_000), st.sampled_from(["h", "D", "B", "W", "M"]))
def test_nothing_after_the_origin_changes_a_feature(back: int, seed: int, unit: str) -> None:
    """Demand, stock and past covariates, whatever they are; plans beyond the target step likewise."""
    panel = furnished(unit)
    features = Features.fit(panel)
    rng = np.random.default_rng(seed)
    offset = np.arange(len(panel.target)) - panel.indptr[:-1][panel.step_series]
    later = offset >= np.maximum(panel.history - back, 0)[panel.step_series]
    beyond = offset >= np.maximum(panel.history - back, 0)[panel.step_series] + 3
    noise = rng.choice([0, 3, 1e6, np.nan], len(later)).astype(np.float32)
    other = replace(
        panel,
        target=np.where(later, noise, panel.target),
        past={"views": np.where(later, noise, panel.past["views"])},
        future={name: np.where(beyond, noise, values) for name, values in panel.future.items()},
        in_stock=~later | (rng.random(len(later)) < 0.5),
    )
    first, second = every(panel, features, back), every(other, features, back)
    assert np.array_equal(first.matrix.toarray(), second.matrix.toarray(), equal_nan=True)
    assert np.array_equal(first.scale, second.scale)
    pairs, changed = pairs_of(panel, features, back), pairs_of(other, features, back)
    for before, after in zip(pairs[:3], changed[:3], strict=True):
        assert np.array_equal(before, after, equal_nan=True)


def test_an_empty_panel_has_no_rows() -> None:
    panel = furnished()
    none = panel.select(np.array([], dtype=np.int64))
    features = Features.fit(panel)
    assert every(none, features).matrix.shape == (0, len(features.names))
    assert pairs_of(none, features).ahead.shape[:2] == (0, 3)


def test_errors() -> None:
    panel = furnished()
    features = Features.fit(panel)
    with pytest.raises(ArgumentError, match="past covariate 'views'"):
        every(replace(panel, past={}), features)
    with pytest.raises(ArgumentError, match="learned from weekly demand, but the panel is daily"):
        every(replace(panel, frequency=replace(panel.frequency, unit="D")), features)
