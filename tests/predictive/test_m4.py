# SPDX-License-Identifier: Apache-2.0
"""The scores of M4 against utilsforecast, small cases by hand, and (slow) the figures that the competition published.

The slow tests read the competition's series from the folder that the environment variable SIRDAR_DATA names, as
`competitions/m4_weekly.parquet` and so on (unique_id, t, y, split), and are skipped without it. The published figures
stand in "Evaluation and Ranks.xlsx" of github.com/Mcompetitions/M4-methods.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from utilsforecast import losses

from sirdar.errors import ArgumentError
from sirdar.predictive import m4, scores

RNG = np.random.default_rng(7)
ACTUAL, POINT = RNG.gamma(2.0, 5.0, (6, 5)), RNG.gamma(2.0, 5.0, (6, 5))


def frame(**columns: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {"unique_id": np.repeat(np.arange(6), 5), "ds": np.tile(np.arange(5), 6)}
        | {name.replace("_", "-"): values.reshape(-1) for name, values in columns.items()}
    )


def test_smape_is_two_hundred_times_that_of_utilsforecast() -> None:
    oracle = losses.smape(frame(y=ACTUAL, m=POINT), models=["m"])["m"].mean()
    assert m4.smape(ACTUAL, POINT) == pytest.approx(200 * oracle)
    # By hand: |10 - 5| / 15, and no error where both are zero.
    assert m4.smape(np.array([[10.0, 0.0]]), np.array([[5.0, 0.0]])) == pytest.approx(100 / 3)


def test_msis_is_the_scaled_winkler_score_of_utilsforecast() -> None:
    low, high = POINT - 5, POINT + 5
    table = frame(y=ACTUAL, m=POINT, m_lo_95=low, m_hi_95=high)
    oracle = losses.winkler_score(table, models=["m"], level=95)["m"].to_numpy()
    scale = np.arange(1.0, 7.0)
    assert m4.msis(ACTUAL, low, high, scale) == pytest.approx((oracle / scale).mean())
    # By hand, alpha 0.05: width 4, and 3 above the upper end costs 3 * 40; scale 2; one step is missing.
    gappy = np.array([[9.0, np.nan]])
    found = m4.msis(gappy, np.full((1, 2), 2.0), np.full((1, 2), 6.0), np.array([2.0]))
    assert found == pytest.approx((4 + 120) / 2)


def test_alpha_is_a_probability() -> None:
    with pytest.raises(ArgumentError, match="alpha must lie in \\(0, 1\\), got 95.0"):
        m4.msis(ACTUAL, POINT, POINT, np.ones(6), 95.0)


def test_steps_that_were_not_observed_count_for_nothing() -> None:
    gappy = np.where(np.arange(5) < 3, ACTUAL, np.nan)
    assert m4.smape(gappy, POINT) == pytest.approx(m4.smape(ACTUAL[:, :3], POINT[:, :3]))
    assert np.isnan(m4.smape(np.full((6, 5), np.nan), POINT))


def test_owa_of_naive2_is_one_and_else_the_mean_of_two_ratios() -> None:
    naive2 = m4.PointScore(smape=13.564, mase=1.912)
    assert m4.owa(naive2, naive2) == 1
    # Smyl's winning entry: sMAPE 11.374, MASE 1.536, OWA 0.821.
    assert m4.owa(m4.PointScore(11.374, 1.536), naive2) == pytest.approx(0.821, abs=0.0005)
    constant = np.full((2, 3), 7.0)
    exact = m4.PointScore(m4.smape(constant, constant), 0.5)
    assert np.isnan(m4.owa(naive2, exact))


def seasonal_series(seasons: int, figures: np.ndarray) -> np.ndarray:
    return np.tile(figures, seasons) * 100.0


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(0, 5), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_naive2_continues_a_pure_season(season: int, extra: int, padding: int, seed: int) -> None:
    figures = np.random.default_rng(seed).uniform(0.2, 2.0, season) * np.where(np.arange(season) % 2, 1, 3)
    long = seasonal_series(40, figures)
    size = 30 * season + extra
    history = np.concatenate([np.full(padding, np.nan), long[:size]])[None]
    found = m4.naive2_forecast(history, season, 2 * season)
    # A level series times a season: the decomposition is exact, and so is its continuation, wherever the season stands.
    np.testing.assert_allclose(found[0], long[size : size + 2 * season])


def test_naive2_repeats_the_last_observation_without_a_season() -> None:
    history = np.array([[np.nan, 3.0, 9.0, 4.0], [1.0, 2.0, 7.0, np.nan], [np.nan] * 4])
    expected = np.array([[4.0, 4.0, 4.0], [7.0, 7.0, 7.0], [np.nan] * 3])
    np.testing.assert_array_equal(m4.naive2_forecast(history, 1, 3), expected)
    np.testing.assert_array_equal(m4.naive2_forecast(history, 12, 3), expected)  # fewer than three seasons


def test_a_season_of_zeros_is_not_divided_by() -> None:
    history = np.tile([0.0, 0.0, 0.0, 8.0], 10)[None]
    assert m4.is_seasonal(history[0], 4)
    np.testing.assert_array_equal(m4.naive2_forecast(history, 4, 4), np.full((1, 4), 8.0))


def test_the_seasonal_test_by_hand() -> None:
    # 1, -1, 1, ... (n = 12): r_1 = -11/12, r_2 = 10/12 > 1.645 sqrt((1 + 2 (11/12)^2) / 12) = 0.777.
    assert m4.is_seasonal(np.tile([1.0, -1.0], 6), 2)
    # n = 10: r_2 = 8/10 < 1.645 sqrt((1 + 2 (9/10)^2) / 10) = 0.842.
    assert not m4.is_seasonal(np.tile([1.0, -1.0], 5), 2)
    assert not m4.is_seasonal(np.tile([1.0, -1.0], 6), 1)
    assert not m4.is_seasonal(np.ones(60), 4)


def test_one_white_noise_in_ten_is_called_seasonal() -> None:
    rng = np.random.default_rng(5)
    share = np.mean([m4.is_seasonal(rng.normal(size=200), 7) for _ in range(1000)])
    assert share == pytest.approx(0.1, abs=0.04)  # four standard errors; the test is asymptotic


def competition(name: str) -> tuple[np.ndarray, np.ndarray]:
    """History [series, time], padded with NaN on the left, and actual [series, horizon]."""
    folder = os.environ.get("SIRDAR_DATA")
    if not folder:
        pytest.skip("SIRDAR_DATA names no data folder")
    table = pl.read_parquet(Path(folder) / "competitions" / f"{name}.parquet").sort("unique_id", "t")
    parts = {
        split: table.filter(pl.col("split").cast(pl.String) == split)
        .group_by("unique_id", maintain_order=True)
        .agg("y")["y"]
        .to_list()
        for split in ("train", "test")
    }
    size = max(len(demand) for demand in parts["train"])
    history = np.array([[np.nan] * (size - len(demand)) + demand for demand in parts["train"]])
    return history, np.array(parts["test"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "season", "smape", "mase"),
    [("m4_weekly", 1, 9.161, 2.777), ("m4_hourly", 24, 18.383, 2.395), ("m4_yearly", 1, 16.342, 3.974)],
)
def test_naive2_scores_as_published(name: str, season: int, smape: float, mase: float) -> None:
    history, actual = competition(name)
    point = m4.naive2_forecast(history, season, actual.shape[1])
    found = m4.point_score(actual, point, scores.seasonal_scale(history, season))
    assert found.smape == pytest.approx(smape, abs=0.0005)
    assert found.mase == pytest.approx(mase, abs=0.0005)


@pytest.mark.slow
def test_the_seasonal_naive_forecast_of_hourly_series_has_the_published_owa() -> None:
    history, actual = competition("m4_hourly")
    scale = scores.seasonal_scale(history, 24)
    naive2 = m4.point_score(actual, m4.naive2_forecast(history, 24, 48), scale)
    seasonal = m4.point_score(actual, np.tile(history[:, -24:], 2), scale)
    assert seasonal.smape == pytest.approx(13.912, abs=0.0005)
    assert seasonal.mase == pytest.approx(1.193, abs=0.0005)
    assert m4.owa(seasonal, naive2) == pytest.approx(0.627, abs=0.001)
