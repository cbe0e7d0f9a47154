# SPDX-License-Identifier: Apache-2.0
"""Scores against utilsforecast, small cases by hand, and right forecasts of simulated demand."""

from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from utilsforecast import losses

from sirdar.predictive import DECILES, Forecast, Frequency, scores

RNG = np.random.default_rng(7)
ACTUAL = RNG.gamma(2.0, 5.0, (6, 5))
QUANTILES = np.sort(RNG.gamma(2.0, 5.0, (6, 5, 9)), axis=2)


def frame(columns: dict[str, np.ndarray]) -> pl.DataFrame:
    series, horizon = ACTUAL.shape
    index = {"unique_id": np.repeat(np.arange(series), horizon), "ds": np.tile(np.arange(horizon), series)}
    return pl.DataFrame(index | {name: values.reshape(-1) for name, values in columns.items()})


def test_pinball_is_the_quantile_loss_of_utilsforecast() -> None:
    found = scores.pinball(ACTUAL, QUANTILES, DECILES)
    for index, level in enumerate(DECILES):
        table = frame({"y": ACTUAL, "m": QUANTILES[..., index]})
        oracle = losses.quantile_loss(table, models={"m": "m"}, q=level)["m"].to_numpy()
        np.testing.assert_allclose(found[..., index].mean(axis=1), oracle)


def test_wql_is_twice_the_pinball_loss_over_total_demand() -> None:
    table = frame({"y": ACTUAL} | {f"q{i}": QUANTILES[..., i] for i in range(9)})
    names = [f"q{i}" for i in range(9)]
    oracle = losses.mqloss(table, models={"m": names}, quantiles=np.array(DECILES))["m"].mean()
    assert scores.wql(ACTUAL, QUANTILES, DECILES) == pytest.approx(2 * oracle / ACTUAL.mean())
    # By hand: demand 10, quantiles 8 at 0.5: 2 * 0.5 * 2 / 10; at 0.9: 2 * 0.9 * 2 / 10.
    assert scores.wql(np.array([[10.0]]), np.array([[[8.0, 8.0]]]), (0.5, 0.9)) == pytest.approx((0.2 + 0.36) / 2)


def test_steps_that_were_not_observed_count_for_nothing() -> None:
    gappy = np.where(np.arange(5) < 3, ACTUAL, np.nan)
    assert scores.wql(gappy, QUANTILES, DECILES) == pytest.approx(scores.wql(ACTUAL[:, :3], QUANTILES[:, :3], DECILES))
    scale, median = np.ones(6), QUANTILES[..., 4]
    assert scores.mase(gappy, median, scale) == pytest.approx(scores.mase(ACTUAL[:, :3], median[:, :3], scale))
    assert scores.coverage(gappy, QUANTILES, DECILES) == scores.coverage(ACTUAL[:, :3], QUANTILES[:, :3], DECILES)


def test_a_forecast_that_is_no_number_is_not_rewarded() -> None:
    broken = QUANTILES.copy()
    broken[0] = np.nan
    assert np.isnan(scores.wql(ACTUAL, broken, DECILES))
    assert np.isnan(scores.mase(ACTUAL, broken[..., 4], np.ones(6)))


def test_without_observations_or_demand_there_is_no_score() -> None:
    unknown = np.full((6, 5), np.nan)
    assert np.isnan(scores.wql(unknown, QUANTILES, DECILES))
    assert np.isnan(scores.wql(np.zeros((6, 5)), QUANTILES, DECILES))
    assert np.isnan(scores.mase(unknown, QUANTILES[..., 4], np.ones(6)))
    assert np.isnan(scores.coverage(unknown, QUANTILES, DECILES))
    assert np.isnan(scores.closed_coverage(unknown, QUANTILES[..., 0], QUANTILES[..., -1]))
    assert np.isnan(scores.observed_share(unknown, QUANTILES, DECILES)).all()
    assert scores.lag_one_correlation(unknown, QUANTILES, DECILES) == 0


@pytest.mark.parametrize("season", [1, 4])
def test_mase_is_that_of_utilsforecast(season: int) -> None:
    history = np.random.default_rng(1).gamma(2.0, 5.0, (6, 20))
    train = pl.DataFrame(
        {
            "unique_id": np.repeat(np.arange(6), 20),
            "ds": np.tile(np.arange(-20, 0), 6),
            "y": history.reshape(-1),
        }
    )
    table = frame({"y": ACTUAL, "m": QUANTILES[..., 4]})
    oracle = losses.mase(table, models=["m"], seasonality=season, train_df=train)["m"].mean()
    found = scores.mase(ACTUAL, QUANTILES[..., 4], scores.seasonal_scale(history, season))
    assert found == pytest.approx(oracle)


def test_sql_is_twice_the_scaled_loss_of_utilsforecast() -> None:
    history = np.random.default_rng(1).gamma(2.0, 5.0, (6, 20))
    times = np.tile(np.arange(-20, 0), 6)
    train = pl.DataFrame({"unique_id": np.repeat(np.arange(6), 20), "ds": times, "y": history.reshape(-1)})
    names = [f"q{i}" for i in range(9)]
    table = frame({"y": ACTUAL} | {name: QUANTILES[..., i] for i, name in enumerate(names)})
    levels = np.array(DECILES)
    oracle = losses.scaled_mqloss(table, models={"m": names}, quantiles=levels, seasonality=4, train_df=train)
    scale = scores.seasonal_scale(history, 4)
    assert scores.sql(ACTUAL, QUANTILES, DECILES, scale) == pytest.approx(2 * oracle["m"].mean())
    median = QUANTILES[..., 4:5]
    assert scores.sql(ACTUAL, median, (0.5,), scale) == pytest.approx(scores.mase(ACTUAL, median[..., 0], scale))


def test_missing_steps_are_pooled_as_fev_pools_them() -> None:
    """`np.mean(arr[np.isfinite(arr)])` of errors over scales, for MASE and SQL alike; a scale of zero is left out."""
    gappy = np.where(RNG.random(ACTUAL.shape) < 0.4, np.nan, ACTUAL)
    scale = np.array([1.0, 2.0, 0.5, 4.0, 3.0, 0.0])

    def fev(loss: np.ndarray) -> float:
        relative = (loss[:5] / scale[:5, None]).ravel()
        return float(np.mean(relative[np.isfinite(relative)]))

    median, levels = QUANTILES[..., 4], np.array(DECILES)
    assert scores.mase(gappy, median, scale) == pytest.approx(fev(np.abs(gappy - median)))
    over = gappy[..., None] <= QUANTILES
    loss = 2 * np.abs((gappy[..., None] - QUANTILES) * (over - levels))
    assert scores.sql(gappy, QUANTILES, DECILES, scale) == pytest.approx(fev(loss.mean(axis=2)))


def test_the_scale_of_mase_by_hand() -> None:
    history = np.array([[1, 3, np.nan, 4, 9], [np.nan, np.nan, np.nan, np.nan, 2], [5, 5, 5, 5, 5]])
    # Changes known: 1 -> 3 and 4 -> 9, so (2 + 5) / 2; none; all nothing. A season of 3: 1 -> 4 and 3 -> 9.
    np.testing.assert_array_equal(scores.seasonal_scale(history, 1), [3.5, np.nan, 0])
    np.testing.assert_array_equal(scores.seasonal_scale(history, 3), [4.5, np.nan, 0])
    assert np.isnan(scores.seasonal_scale(history, 9)).all()
    actual, median = np.array([[7.0, np.nan], [1.0, 1.0], [1.0, 1.0]]), np.zeros((3, 2))
    assert scores.mase(actual, median, scores.seasonal_scale(history, 1)) == pytest.approx(7 / 3.5)


def test_closed_coverage_is_that_of_utilsforecast() -> None:
    table = frame({"y": ACTUAL, "m": QUANTILES[..., 4], "m-lo-80": QUANTILES[..., 0], "m-hi-80": QUANTILES[..., 8]})
    oracle = losses.coverage(table, models=["m"], level=80)["m"].mean()
    assert scores.closed_coverage(ACTUAL, QUANTILES[..., 0], QUANTILES[..., 8]) == pytest.approx(oracle)
    assert scores.coverage(ACTUAL, QUANTILES, DECILES) == pytest.approx(oracle)  # no ties, so the same


def test_the_transform_by_hand() -> None:
    quantiles = np.array([[0.0, 0.0, 0.0, 2.0, 4.0]])
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    below, upto = scores.transform(np.array([0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 9.0]), np.repeat(quantiles, 7, 0), levels)
    # Zero is an atom from 0 to half-way between 0.5 and 0.7; 1 lies half-way from level 0.5 to 0.7; 9 lies outside.
    np.testing.assert_allclose(below, [0.0, 0.0, 0.6, 0.7, 0.8, 0.9, 1.0])
    np.testing.assert_allclose(upto, [0.6, 0.0, 0.6, 0.7, 0.8, 0.9, 1.0])
    # Of the atom (0, 0.6] the share within (0.1, 0.9) is 5/6.
    one = quantiles[None]
    assert scores.coverage(np.array([[0.0]]), one, levels) == pytest.approx(5 / 6)
    np.testing.assert_allclose(
        scores.observed_share(np.array([[0.0]]), one, levels), np.minimum(np.array(levels) / 0.6, 1)
    )


@settings(max_examples=60)
@given(
    hnp.arrays(np.float64, (3, 2), elements=st.integers(0, 4)),
    hnp.arrays(np.float64, (3, 2, 9), elements=st.integers(0, 4)),
)
def test_the_transform_is_an_interval_of_probabilities(actual: np.ndarray, quantiles: np.ndarray) -> None:
    quantiles = np.sort(quantiles, axis=2)
    below, upto = scores.transform(actual.reshape(-1), quantiles.reshape(-1, 9), DECILES)
    assert ((below >= 0) & (below <= upto) & (upto <= 1)).all()
    assert (
        0
        <= scores.coverage(actual, quantiles, DECILES)
        <= scores.closed_coverage(actual, quantiles[..., 0], quantiles[..., -1])
    )
    assert (np.diff(scores.observed_share(actual, quantiles, DECILES)) >= 0).all()


def zero_inflated(share: float, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Demand that is 0 with a probability of `share` and else lognormal, beside the quantiles of that very law."""
    rng = np.random.default_rng(11)
    demand = np.where(rng.random(count) < share, 0.0, rng.lognormal(2.0, 1.0, count))
    exact = [
        0.0 if level <= share else float(np.exp(2 + NormalDist().inv_cdf((level - share) / (1 - share))))
        for level in DECILES
    ]
    return demand[:, None], np.tile(exact, (count, 1, 1))


# Shares of zero that end half-way between two levels, where the transform puts the end of an atom.
@pytest.mark.parametrize("share", [0.25, 0.45, 0.65, 0.85])
def test_a_right_forecast_of_mostly_zeros_covers_eighty_percent(share: float) -> None:
    actual, quantiles = zero_inflated(share)
    # Four standard errors of a share of 40,000 draws are at most 0.01.
    assert scores.coverage(actual, quantiles, DECILES) == pytest.approx(0.8, abs=0.01)
    assert scores.closed_coverage(actual, quantiles[..., 0], quantiles[..., -1]) == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(scores.observed_share(actual, quantiles, DECILES), DECILES, atol=0.01)


@pytest.mark.parametrize("share", [0.22, 0.38, 0.5, 0.71])
def test_between_levels_the_atom_s_end_is_known_to_half_a_step(share: float) -> None:
    actual, quantiles = zero_inflated(share)
    assert scores.coverage(actual, quantiles, DECILES) == pytest.approx(0.8, abs=0.025)
    np.testing.assert_allclose(scores.observed_share(actual, quantiles, DECILES), DECILES, atol=0.055)


def test_a_right_forecast_of_counts_covers_eighty_percent() -> None:
    # Poisson demand of mean 30 has no large atom, so that ties matter little.
    rng = np.random.default_rng(3)
    actual = rng.poisson(30, (20_000, 1)).astype(np.float64)
    cumulative = np.sort(rng.poisson(30, 400_000))
    exact = np.quantile(cumulative, DECILES).astype(np.float64)
    found = scores.coverage(actual, np.tile(exact, (len(actual), 1, 1)), DECILES)
    low, high = np.full_like(actual, exact[0]), np.full_like(actual, exact[-1])
    assert 0.8 <= found <= scores.closed_coverage(actual, low, high)


def test_a_right_forecast_of_few_units_covers_eighty_percent() -> None:
    # Means from a tenth to a hundred, so that the ends of intervals lie anywhere in a count's probability.
    mean = np.exp(np.random.default_rng(4).normal(0, 1.5, (4_000, 10)))
    actual = np.random.default_rng(5).poisson(mean).astype(np.float64)
    exact = stats.poisson.ppf(DECILES, mean[..., None])
    assert scores.coverage(actual, exact, DECILES) > 0.81  # ends counted whole
    assert scores.coverage(actual, exact, DECILES, counts=True) == pytest.approx(0.8, abs=0.01)
    np.testing.assert_allclose(scores.observed_share(actual, exact, DECILES, counts=True), DECILES, atol=0.01)


def test_a_right_forecast_with_a_single_zero_quantile_covers_eighty_percent() -> None:
    actual, quantiles = zero_inflated(0.15)
    assert scores.coverage(actual, quantiles, DECILES) == pytest.approx(0.8, abs=0.025)


def test_a_forecast_too_narrow_covers_too_little() -> None:
    actual, quantiles = zero_inflated(0.0)
    middle = np.median(quantiles)
    assert scores.coverage(actual, middle + (quantiles - middle) * 0.5, DECILES) < 0.6


def test_crossing_rate_by_hand() -> None:
    assert scores.crossing_rate(np.array([[[1.0, 2.0, 1.5], [1.0, 1.0, 1.0]]])) == pytest.approx(1 / 4)
    assert scores.crossing_rate(np.ones((2, 2, 1))) == 0


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.6])
def test_the_correlation_of_sample_paths_is_found_again(correlation: float) -> None:
    levels = tuple(float(level) for level in np.arange(1, 20) / 20)
    values = np.tile(np.sort(np.random.default_rng(0).normal(100, 10, 19)), (1, 4, 1))
    forecast = Forecast(["a"], np.zeros(1, dtype=np.int64), Frequency("W"), levels, values, correlation=correlation)
    actual = forecast.sample(4000, seed=5)[0].T
    found = scores.lag_one_correlation(actual, np.repeat(values, 4000, axis=0), levels)
    # Spearman's correlation of a Gaussian copula is 6/pi asin(rho/2), within 0.02 of rho.
    assert found == pytest.approx(correlation, abs=0.05)
