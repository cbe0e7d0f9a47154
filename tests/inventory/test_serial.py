# SPDX-License-Identifier: Apache-2.0
"""The serial optimum against a textbook example and the newsvendor."""

from typing import Any

import pytest

from sirdar.errors import ArgumentError
from sirdar.inventory.newsvendor import newsvendor_normal
from sirdar.inventory.serial import clark_scarf


def test_snyder_and_shen_example_6_1() -> None:
    # Three stages, N(5, 1): S* = 6.49, 12.02, 22.71 and C* = 47.65 (stockpyl prints 47.665 on its own grid).
    found = clark_scarf([7.0, 4.0, 2.0], [1.0, 1.0, 2.0], backlog_cost=37.12, mean=5.0, deviation=1.0)
    assert found.levels == pytest.approx((6.49, 12.02, 22.71), abs=0.011)
    assert found.cost == pytest.approx(47.65, abs=0.02)


@pytest.mark.parametrize(("mean", "deviation"), [(50.0, 8.0), (1.0, 2.0)])
def test_one_stage_is_the_newsvendor(mean: float, deviation: float) -> None:
    level, cost = newsvendor_normal(1.0, 9.0, mean, deviation)
    found = clark_scarf([1.0], [1.0], backlog_cost=9.0, mean=mean, deviation=deviation)
    assert found.levels[0] == pytest.approx(level, abs=0.01)
    assert found.cost == pytest.approx(cost, abs=1e-3)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e6])
def test_the_unit_of_demand_changes_nothing_else(unit: float) -> None:
    found = clark_scarf([7.0, 4.0, 2.0], [1.0, 1.0, 2.0], backlog_cost=37.12, mean=5.0 * unit, deviation=unit)
    assert [level / unit for level in found.levels] == pytest.approx((6.49, 12.02, 22.71), abs=0.011)
    assert found.cost / unit == pytest.approx(47.65, abs=0.02)


def test_a_stage_without_lead_time_changes_nothing() -> None:
    found = clark_scarf([7.0, 4.0, 4.0, 2.0], [1.0, 0.0, 1.0, 2.0], backlog_cost=37.12, mean=5.0, deviation=1.0)
    assert [found.levels[stage] for stage in (0, 2, 3)] == pytest.approx((6.49, 12.02, 22.71), abs=0.011)
    assert found.cost == pytest.approx(47.65, abs=0.02)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"deviation": 0.0}, "deviation must be a number above 0, got 0.0"),
        ({"backlog_cost": -1.0}, "backlog_cost must be a number above 0, got -1.0"),
        ({"step": 0.0}, "step must be a number above 0, got 0.0"),
        ({"mean": float("nan")}, "mean must be finite, got nan"),
        ({"lead_times": [1.0, -1.0]}, "lead_times must not be negative, got -1 for series 1"),
        ({"lead_times": [0.0, 0.0]}, "each stage needs a lead time, not all of them 0"),
    ],
)
def test_numbers_without_sense_are_refused(change: dict[str, Any], sentence: str) -> None:
    given = {"lead_times": [1.0, 1.0], "backlog_cost": 9.0, "mean": 5.0, "deviation": 1.0}
    with pytest.raises(ArgumentError, match=sentence):
        clark_scarf([2.0, 1.0], **(given | change))


def test_rising_holding_costs_are_refused() -> None:
    with pytest.raises(ArgumentError, match="must not rise upstream"):
        clark_scarf([1.0, 2.0], [1.0, 1.0], backlog_cost=9.0, mean=5.0, deviation=1.0)
