# SPDX-License-Identifier: Apache-2.0
"""Seasons that are there are found; those that are not, are not."""

from dataclasses import replace

import numpy as np
import pytest

from sirdar.forecasting.addons.seasonal import SeasonalProfile
from sirdar.testing.forecasters import panel_of

WEEK = np.array([0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5])


@pytest.mark.parametrize(("unit", "week"), [("D", WEEK), ("B", WEEK[1:6])])
def test_a_weekly_season_is_recovered(unit: str, week: np.ndarray) -> None:
    rng, days = np.random.default_rng(0), len(week)
    panel = panel_of(rng.poisson(20 * np.tile(week, 30), (10, 30 * days)), unit=unit)
    effect = SeasonalProfile().fit(panel).effect(panel, days)
    np.testing.assert_allclose(effect, np.tile(week, (10, 1)), atol=0.08)


def test_a_yearly_season_is_recovered_through_a_trend() -> None:
    rng = np.random.default_rng(1)
    year = 1 + 0.5 * np.sin(np.arange(60) / 12 * 2 * np.pi)
    panel = panel_of(rng.poisson(np.linspace(40, 80, 60) * year, (20, 60)), unit="M")
    effect = SeasonalProfile().fit(panel).effect(panel, 12)
    np.testing.assert_allclose(effect, np.tile(year[:12], (20, 1)), atol=0.12)


def test_noise_leaves_the_profile_near_one() -> None:
    panel = panel_of(np.random.default_rng(2).poisson(5, (50, 160)))
    effect = SeasonalProfile().fit(panel).effect(panel, 52)
    assert np.abs(effect - 1).mean() < 0.03


def test_one_year_is_no_evidence_of_a_yearly_season() -> None:
    panel = panel_of(np.random.default_rng(3).poisson(30 * (1 + np.sin(np.arange(70) / 52 * 6.28)), (5, 70)))
    assert (SeasonalProfile().fit(panel).effect(panel, 70, 8) == 1).all()


def test_a_new_product_has_its_category_s_season() -> None:
    rng = np.random.default_rng(4)
    rows = [rng.poisson(9 * np.tile(WEEK if i % 2 else WEEK[::-1], 30)) for i in range(20)]
    kind = np.array(["up" if i % 2 else "down" for i in range(20)], dtype=object)
    panel = replace(panel_of([*rows, []], unit="D"), static={"kind": np.append(kind, "up")})
    panel = replace(panel, start=np.append(np.zeros(20, dtype=np.int64), 210))
    found = SeasonalProfile().fit(panel.select(np.arange(20))).effect(panel, 0, 7)[20]
    np.testing.assert_allclose(found, WEEK, atol=0.12)
