# SPDX-License-Identifier: Apache-2.0
"""The VN2 pipeline: its order by hand, no look ahead, and the arithmetic of the comparison."""

from dataclasses import replace

import numpy as np
import pytest

from sirdar.recipes.vn2 import DEVELOPMENT, SCORING, Pipeline, Window, interval, raise_projected, reduction, windows
from sirdar.recipes.vn2_rules import WEEKS, History, play


@pytest.fixture(scope="module")
def past() -> History:
    random = np.random.default_rng(0)
    sales = random.poisson(random.gamma(1.0, 4.0, (30, 1)), (30, 75)).astype(float)
    weeks = np.datetime64("2021-04-12") + 7 * np.arange(75)
    groups = {name: np.arange(30) % 3 for name in ("Store", "Product", "ProductGroup", "Department")}
    return History([str(row) for row in range(30)], weeks, sales, random.uniform(size=sales.shape) > 0.05, groups)


def test_the_order_lifts_the_projected_stock() -> None:
    mean = np.array([[3.0, 2.0, 4.0], [3.0, 2.0, 4.0], [1.0, 1.0, 0.0]])
    on_hand, arriving = np.array([5.0, 1.0, 9.0]), np.array([[1.0, 2.0], [0.0, 1.0], [0.0, 0.0]])
    # Left before the arrival: (5 + 1 - 3) + 2 - 2 = 3; lost both weeks: 0; 7. The level is 4 + 0.5 * 2 = 5, or 0.
    assert raise_projected(mean, on_hand, arriving, 0.5).tolist() == [2, 5, 0]


def test_the_future_changes_no_order(past: History) -> None:
    origin = 60
    changed = replace(past, sales=past.sales.copy(), in_stock=past.in_stock.copy())
    changed.sales[:, origin + 2 :] += 50
    changed.in_stock[::2, origin + 2 :] ^= True
    orders = []
    for one in (past, changed):
        orders.append(np.asarray(play(Pipeline.fit(one.until(origin)), one, origin).trajectory.orders))
    assert (orders[0][:, :3] == orders[1][:, :3]).all()  # before weeks 1 to 3 the first two weeks at most are known
    assert (orders[0][:, 3] != orders[1][:, 3]).any()
    assert (orders[0] == np.round(orders[0])).all()


def test_a_window_is_replayed_alike_and_adds_up(past: History) -> None:
    first, second = list(windows(past, [60])), list(windows(past, [60]))
    assert first == second
    assert first[0].cost == pytest.approx(first[0].holding + first[0].lost_sales)


def test_no_week_of_development_is_scored() -> None:
    assert DEVELOPMENT[-1] + WEEKS <= SCORING[0]
    assert len(SCORING) == 8
    assert SCORING[-1] + WEEKS == 157  # the weeks of the published history
    assert (np.diff(SCORING) == WEEKS).all()


def test_the_reduction_is_of_mean_costs() -> None:
    played = [Window(0, "", cost, 100.0, 0.0, 0.0) for cost in (80.0, 90.0)]
    assert reduction(played) == pytest.approx(0.15)
    assert interval(played) == pytest.approx((0.1, 0.2))
    assert played[0].change == pytest.approx(-0.2)
