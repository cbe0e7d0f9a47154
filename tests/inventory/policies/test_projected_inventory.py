# SPDX-License-Identifier: Apache-2.0
"""Orders from a forecast."""

from dataclasses import replace
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    BaseStock,
    CriticalFractile,
    InventoryProblem,
    MinMax,
    NeverOrder,
    OrderRules,
    Policy,
    ProjectedInventory,
    RandomLeadTime,
    State,
    Stock,
    Trade,
    simulate,
)
from sirdar.inventory.policies import projected_inventory
from sirdar.inventory.policy import Outstanding
from sirdar.predictive import Forecast, Frequency

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


def test_the_expected_cost_is_what_was_weighed(demand: ModuleType) -> None:
    """A unit lost costs 1 and the margin of 5 less 2; of the two orders, the second one's cost is paid."""
    forecast = demand.certain_forecast([[4, 0], [4, 6]])
    problem = InventoryProblem(0.1, 1.0, 1, trade=Trade(5.0, 2.0, np.array([0.0, 7.0])))
    plan = ProjectedInventory(forecast, samples=5).plan(problem, Stock([0.0, 1.0]))
    np.testing.assert_array_equal(plan.lost_sale_cost, [4 * 4.0, 3 * 4.0])
    np.testing.assert_array_equal(plan.ordering_cost, [0.0, 7.0])
    np.testing.assert_array_equal(plan.expected_cost - plan.holding_cost, [16.0, 19.0])
    assert "ordering_cost" in plan.columns()


def test_correlated_steps_need_more_stock(demand: ModuleType) -> None:
    problem = InventoryProblem(1.0, 19.0, lead_time=3, rules=FREE, backlog=True)
    alone, joined = (
        ProjectedInventory(demand.normal_forecast(50.0, 8.0, 4, rho), samples=20_000).plan(problem, Stock.empty(1))
        for rho in (0.0, 0.8)
    )
    assert alone.quantity[0] == pytest.approx(NormalDist(200, 16).inv_cdf(0.95), rel=0.01)
    # Variance of the sum of four steps: 8^2 (4 + 2 (3 * .8 + 2 * .64 + .512)) = 64 * 12.384.
    assert joined.quantity[0] == pytest.approx(NormalDist(200, 28.15).inv_cdf(0.95), rel=0.01)


def test_units_owed_are_none_that_are_left(demand: ModuleType) -> None:
    problem = InventoryProblem(9.0, 1.0, 2, backlog=True)
    plan = ProjectedInventory(demand.normal_forecast(10.0, 1.0, 3)).plan(problem, Stock.empty(1))
    assert plan.expected_left[0] >= 0


def test_a_short_forecast_is_refused_with_the_length_it_needs(demand: ModuleType) -> None:
    policy = ProjectedInventory(demand.normal_forecast(50.0, 8.0, horizon=3))
    with pytest.raises(ArgumentError, match="horizon of 3, but lead_time \\+ review_period needs 6 steps"):
        policy.plan(InventoryProblem(lead_time=2, review_period=4), Stock.empty(1))
    with pytest.raises(ArgumentError, match="the forecast has 1 series, but there is stock for 2"):
        policy.plan(InventoryProblem(), Stock.empty(2))
    with pytest.raises(ArgumentError, match="horizon of 3, but lead_time \\+ review_period needs 4 steps"):
        policy.plan(InventoryProblem(lead_time=RandomLeadTime((0.5, 0.0, 0.0, 0.5))), Stock.empty(1))
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


@pytest.mark.parametrize("kind", [ProjectedInventory, CriticalFractile])
def test_a_price_is_earned_by_what_is_not_lost(demand: ModuleType, kind: type) -> None:
    # The reference is brute force: of all levels, the one with the most profit in the simulator.
    problem = InventoryProblem(1.0, 0.5, 0, trade=Trade(price=10.0, unit_cost=6.0), rules=OrderRules(case_pack=0.0))
    wanted = np.random.default_rng(0).normal(20.0, 4.0, (1, 2000)).clip(0.0)
    levels = np.arange(15.0, 30.0, 0.5)
    best = levels[np.argmax([float(simulate(BaseStock(x), problem, wanted).profit.sum()) for x in levels])]
    forecast = demand.normal_forecast([20.0], [4.0], horizon=1)
    assert kind(forecast, samples=2000).order(state(problem, Stock.empty(1)))[0] == pytest.approx(best, abs=1.0)
    # Nothing is ordered that sells at a loss.
    loss = replace(problem, trade=Trade(price=5.0, unit_cost=6.0))
    assert kind(forecast).order(state(loss, Stock.empty(1)))[0] == 0.0


def test_a_fixed_order_cost_is_spread_over_reviews(demand: ModuleType) -> None:
    # 10 units a step, K = 25: for one, two, three steps at once a step costs 25, (25 + 10) / 2, (25 + 10 + 20) / 3.
    policy = ProjectedInventory(demand.certain_forecast([[10] * 6] * 3), samples=3)
    problem = InventoryProblem(1.0, 20.0, 0, trade=Trade(order_cost=25.0))
    # Two steps are ordered for, unless the coming one has enough; four units of it are not enough at 6 x 20 lost.
    np.testing.assert_array_equal(policy.order(state(problem, Stock([0.0, 10.0, 4.0]))), [20.0, 0.0, 16.0])
    # With a unit lost costing 1.7, 6 of them (10.2) are cheaper than a step of the best cycle (17.5); 11 are not.
    cheap = InventoryProblem(1.0, 1.7, 0, trade=Trade(order_cost=25.0))
    np.testing.assert_array_equal(policy.order(state(cheap, Stock([4.0, 0.0, 4.0]))) > 0, [False, False, False])
    # Where only some series pay for an order, the others order as they would alone.
    mixed = InventoryProblem(1.0, 20.0, 0, trade=Trade(order_cost=np.array([0.0, 25.0, 0.0])))
    np.testing.assert_array_equal(policy.order(state(mixed, Stock([0.0, 0.0, 4.0]))), [10.0, 20.0, 6.0])
    # So too where demand ends after one uncertain step: holding its rest for two steps would call for less of it.
    ending = Forecast(
        ["a", "b"],
        np.zeros(2, np.int64),
        Frequency("W"),
        (0.25, 0.5, 0.75),
        np.tile([[5.0, 10, 15], [0, 0, 0]], (2, 1, 1)),
    )
    alone, beside = (
        ProjectedInventory(ending).order(
            state(InventoryProblem(1.0, 3.0, 0, trade=Trade(order_cost=np.array([0.0, cost]))), Stock.empty(2))
        )
        for cost in (0.0, 25.0)
    )
    assert beside[0] == alone[0] > 0


def test_a_certain_lead_time_is_a_known_one(demand: ModuleType) -> None:
    forecast = demand.normal_forecast([20.0, 5.0], [6.0, 3.0], horizon=9)
    stock = Stock([12.0, 3.0], [[9.0, 15.0], [0.0, 4.0]])
    for order_cost in (0.0, 20.0):
        for backlog in (False, True):
            known, random = (
                InventoryProblem(1.0, 9.0, lead, 2, backlog=backlog, trade=Trade(order_cost=order_cost))
                for lead in (2, RandomLeadTime((0.0, 0.0, 1.0)))
            )
            policy = ProjectedInventory(forecast, seed=1)
            plans = [policy.plan(problem, stock).columns() for problem in (known, random)]
            for name in plans[0]:
                np.testing.assert_array_equal(plans[0][name], plans[1][name], err_msg=name)


class Anew:
    """The same forecast in every step, whatever the scenario: demand that does not change."""

    def __init__(self, forecast: Forecast, samples: int) -> None:
        self.policy = ProjectedInventory(forecast, samples)

    def order(self, state: State) -> np.ndarray:
        """All scenarios as if they were series."""
        shape, count = tuple(state.on_hand.shape), int(np.prod(state.on_hand.shape))
        one = self.policy.forecast
        values = np.broadcast_to(one.values, (count, *one.values.shape[1:]))
        many = Forecast([str(i) for i in range(count)], np.zeros(count, np.int64), one.frequency, one.levels, values)

        def flat(units: Any) -> np.ndarray:  # noqa: ANN401
            return np.asarray(units, dtype=np.float64).reshape(count, units.shape[-1])

        under_way = Outstanding(flat(state.outstanding.known), flat(state.outstanding.placed))
        on_hand, pipeline = np.asarray(state.on_hand, dtype=np.float64).reshape(count), flat(state.pipeline)
        now = State(on_hand, pipeline, state.problem, outstanding=lambda: under_way)
        return replace(self.policy, forecast=many, seed=state.step).order(now).reshape(shape)


def compared(problem: InventoryProblem, mean: float, rival: Policy, horizon: int) -> float:
    """Its cost over that of a rival, on the same 6,000 steps: of 2,000 the ratio strays by more than a per cent."""
    levels = tuple(float(x) for x in np.arange(1, 200) / 200)
    values = np.tile(stats.poisson.ppf(levels, mean), (1, horizon, 1))
    forecast = Forecast(["a"], np.zeros(1, np.int64), Frequency("W"), levels, values)
    demand = np.random.default_rng(5).poisson(mean, (60, 1, 120)).astype(np.float64)
    ours, theirs = (simulate(one, problem, demand, warm_up=20, seed=5) for one in (Anew(forecast, 300), rival))
    return ours.cost_per_step / theirs.cost_per_step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chances", "backlog", "level"),
    # The levels are the best of all whole ones on 200 other paths of 100 steps.
    [((0.5, 0.0, 0.0, 0.5), True, 20.0), ((0.5, 0.0, 0.0, 0.5), False, 18.0), ((0.0, 0.3, 0.4, 0.3), False, 20.0)],
)
def test_orders_that_cross_cost_no_more_than_by_the_best_base_stock(
    chances: tuple[float, ...], level: float, *, backlog: bool
) -> None:
    problem = InventoryProblem(1.0, 9.0, RandomLeadTime(chances), backlog=backlog)
    assert compared(problem, 5.0, BaseStock(level), problem.cover) < 1.01


@pytest.mark.slow
def test_with_a_fixed_order_cost_it_costs_no_more_than_the_best_min_max() -> None:
    # Bijvank (2015), Table 1: the best (s, S) is (17, 23), 1.4 % above the optimum.
    problem = InventoryProblem(1.0, 14.0, 2, trade=Trade(order_cost=5.0))
    assert compared(problem, 5.0, MinMax(17.0, 23.0), horizon=10) < 1.01


def test_the_null_policy_orders_nothing() -> None:
    problem, stock = InventoryProblem(), Stock([3.0, 4.0])
    np.testing.assert_array_equal(NeverOrder().order(state(problem, stock)), [0.0, 0.0])
