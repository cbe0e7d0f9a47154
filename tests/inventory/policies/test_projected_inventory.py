# SPDX-License-Identifier: Apache-2.0
"""Orders from a forecast."""

from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    InventoryProblem,
    NeverOrder,
    OrderRules,
    Policy,
    ProjectedInventory,
    RandomLeadTime,
    State,
    Stock,
    Trade,
)
from sirdar.inventory.policies import projected_inventory

FREE = OrderRules(case_pack=0.0)


def state(problem: InventoryProblem, stock: Stock, step: int = 0) -> State:
    return State(stock.on_hand, stock.columns(problem), problem, step)


def test_both_members_are_policies() -> None:
    assert isinstance(NeverOrder(), Policy)
    assert isinstance(ProjectedInventory.__new__(ProjectedInventory), Policy)


def test_without_lead_time_it_is_the_newsvendor_on_the_forecast(demand: ModuleType) -> None:
    # With no stock and L = 0 the order is the critical quantile of the first step.
    forecast = demand.normal_forecast([50.0, 100.0], [8.0, 10.0], horizon=1)
    problem = InventoryProblem(1.0, 9.0, lead_time=0, rules=FREE)
    plan = ProjectedInventory(forecast, samples=40_000).plan(problem, Stock.empty(2))
    expected = [NormalDist(50, 8).inv_cdf(0.9), NormalDist(100, 10).inv_cdf(0.9)]
    np.testing.assert_allclose(plan.quantity, expected, rtol=0.004)
    # Expected units short of the newsvendor: sigma (phi(z) - z (1 - 0.9)), z = 1.2816: 0.0473 sigma.
    np.testing.assert_allclose(plan.expected_lost, [0.0473 * 8, 0.0473 * 10], rtol=0.06)
    np.testing.assert_allclose(plan.fill_rate, 1 - plan.expected_lost / plan.expected_demand)
    np.testing.assert_allclose(plan.expected_cost, plan.holding_cost + plan.lost_sale_cost)


def test_correlated_steps_need_more_stock(demand: ModuleType) -> None:
    problem = InventoryProblem(1.0, 19.0, lead_time=3, rules=FREE, backlog=True)
    alone, joined = (
        ProjectedInventory(demand.normal_forecast(50.0, 8.0, 4, rho), samples=20_000).plan(problem, Stock.empty(1))
        for rho in (0.0, 0.8)
    )
    assert alone.quantity[0] == pytest.approx(NormalDist(200, 16).inv_cdf(0.95), rel=0.01)
    # Variance of the sum of four steps: 8^2 (4 + 2 (3 * .8 + 2 * .64 + .512)) = 64 * 12.384.
    assert joined.quantity[0] == pytest.approx(NormalDist(200, 28.15).inv_cdf(0.95), rel=0.01)


def test_a_short_forecast_is_refused_with_the_length_it_needs(demand: ModuleType) -> None:
    policy = ProjectedInventory(demand.normal_forecast(50.0, 8.0, horizon=3))
    with pytest.raises(ArgumentError, match="horizon of 3, but lead_time \\+ review_period needs 6 steps"):
        policy.plan(InventoryProblem(lead_time=2, review_period=4), Stock.empty(1))
    with pytest.raises(ArgumentError, match="the forecast has 1 series, but there is stock for 2"):
        policy.plan(InventoryProblem(), Stock.empty(2))
    with pytest.raises(ArgumentError, match="got RandomLeadTime; use its longest"):
        policy.plan(InventoryProblem(lead_time=RandomLeadTime((0.5, 0.5))), Stock.empty(1))
    with pytest.raises(ArgumentError, match="does not weigh a fixed order cost, got order_cost 5; use MinMax"):
        policy.plan(InventoryProblem(lead_time=0, trade=Trade(order_cost=5.0)), Stock.empty(1))
    with pytest.raises(ArgumentError, match="samples must be a positive integer, got 0"):
        ProjectedInventory(policy.forecast, samples=0)


def test_series_with_their_own_times_get_what_they_would_get_alone(demand: ModuleType) -> None:
    forecast = demand.certain_forecast([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    problem = InventoryProblem(lead_time=np.array([0, 2, 2]), review_period=np.array([2, 1, 3]))
    plan = ProjectedInventory(forecast, samples=5).plan(problem, Stock([0.0, 4.0, 0.0]))
    # 1+2; the third step's 3 on the one left of 4-1-2; 3+2+1 after an empty shelf.
    np.testing.assert_array_equal(plan.quantity, [3.0, 2.0, 6.0])
    np.testing.assert_array_equal(plan.expected_demand, [3.0, 6.0, 15.0])
    np.testing.assert_array_equal(plan.expected_lost, [0.0, 0.0, 9.0])
    np.testing.assert_array_equal(plan.fill_rate, [1.0, 1.0, 0.4])
    assert plan.total_fill_rate == pytest.approx(1 - 9 / 24)


def test_no_demand_is_a_fill_rate_of_one(demand: ModuleType) -> None:
    plan = ProjectedInventory(demand.certain_forecast([[0, 0, 0]])).plan(InventoryProblem(), Stock.empty(1))
    assert plan.quantity[0] == 0
    assert plan.fill_rate[0] == 1
    assert plan.total_fill_rate == 1


def test_policy_and_plan_agree_and_equal_seeds_give_equal_orders(demand: ModuleType) -> None:
    forecast = demand.normal_forecast(np.linspace(1, 60, 30), np.linspace(0.5, 20, 30), horizon=5)
    problem, stock = InventoryProblem(), Stock(np.arange(30.0), np.ones((30, 2)))
    plan = ProjectedInventory(forecast, seed=3).plan(problem, stock)
    np.testing.assert_array_equal(plan.quantity, ProjectedInventory(forecast, seed=3).order(state(problem, stock)))
    assert (plan.quantity != ProjectedInventory(forecast, seed=4).plan(problem, stock).quantity).any()
    assert (plan.quantity == np.floor(plan.quantity)).all()
    assert set(plan.columns()) >= {"unique_id", "quantity", "expected_cost", "fill_rate"}


def test_later_orders_use_what_is_left_of_the_forecast(demand: ModuleType) -> None:
    policy = ProjectedInventory(demand.certain_forecast([[1, 2, 3, 4, 5]]), samples=3)
    problem, empty = InventoryProblem(lead_time=1), Stock.empty(1)
    found = [policy.order(state(problem, empty, step))[0] for step in range(6)]
    # The order of step t meets the demand of step t + 1; beyond the forecast nothing is known to be wanted.
    assert found == [2, 3, 4, 5, 0, 0]


def test_scenarios_are_leading_axes(demand: ModuleType) -> None:
    policy = ProjectedInventory(demand.normal_forecast([20.0, 30.0], [3.0, 3.0], horizon=3))
    problem = InventoryProblem(lead_time=2)
    both = policy.order(State(np.array([[0.0, 5.0], [40.0, 9.0]]), np.zeros((2, 2, 2)), problem))
    alone = policy.order(State(np.array([40.0, 9.0]), np.zeros((2, 2)), problem))
    assert both.shape == (2, 2)
    np.testing.assert_array_equal(both[1], alone)


def test_chunks_bound_memory_and_every_series_is_served_once(
    demand: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected_inventory, "CHUNK", 4)
    steps = np.arange(1, 12)[:, None] * np.ones((1, 3))
    plan = ProjectedInventory(demand.certain_forecast(steps), samples=2).plan(InventoryProblem(), Stock.empty(11))
    np.testing.assert_array_equal(plan.quantity, np.arange(1.0, 12.0))
    np.testing.assert_array_equal(plan.expected_lost, 2 * np.arange(1.0, 12.0))


def test_the_null_policy_orders_nothing() -> None:
    problem, stock = InventoryProblem(), Stock([3.0, 4.0])
    np.testing.assert_array_equal(NeverOrder().order(state(problem, stock)), [0.0, 0.0])
