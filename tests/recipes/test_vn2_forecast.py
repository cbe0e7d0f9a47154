# SPDX-License-Identifier: Apache-2.0
"""The forecast of the VN2 recipe: its calendar, and that it learns what can be learned."""

import numpy as np
import pytest

from sirdar.recipes.vn2_forecast import TreeForecast, _holidays, features
from sirdar.recipes.vn2_rules import History


def history(sales: np.ndarray) -> History:
    weeks = np.datetime64("2021-04-12") + 7 * np.arange(sales.shape[1])
    groups = {name: np.arange(len(sales)) % 3 for name in ("Store", "Product", "ProductGroup", "Department")}
    return History([str(row) for row in range(len(sales))], weeks, sales, np.ones(sales.shape, bool), groups)


@pytest.mark.parametrize(("monday", "year"), [("2021-11-22", 2021), ("2022-11-21", 2022), ("2023-11-20", 2023)])
def test_black_friday_is_four_days_after_its_monday(monday: str, year: int) -> None:
    # 26 November 2021, 25 November 2022, 24 November 2023
    christmas, friday = _holidays(np.datetime64(monday), year)
    assert friday == pytest.approx(4 / 7)
    assert christmas == pytest.approx((np.datetime64(f"{year}-12-24") - np.datetime64(monday)).astype(int) / 7)


def test_features_are_finite_or_unknown_whatever_the_series() -> None:
    silent = history(np.vstack([np.zeros(60), np.ones(60)]))
    level, rows = features(silent, 1)
    assert (level > 0).all()
    assert not np.isinf(rows).any()


def test_levels_of_noisy_series_are_forecast() -> None:
    random = np.random.default_rng(0)
    mean = random.gamma(2.0, 3.0, 120)
    found = TreeForecast.fit(history(random.poisson(mean[:, None], (120, 70)).astype(float)))
    ahead = found.predict(history(random.poisson(mean[:, None], (120, 75)).astype(float)))
    assert ahead.shape == (120, 3)
    # A mean over 13 weeks of Poisson demand has a standard error of sqrt(mean / 13); the model may lose little on it.
    assert np.abs(ahead - mean[:, None]).mean() < 1.3 * np.sqrt(2 / np.pi) * np.sqrt(mean / 13).mean()
    assert ahead.sum() == pytest.approx(3 * mean.sum(), rel=0.1)
