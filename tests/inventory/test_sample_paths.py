# SPDX-License-Identifier: Apache-2.0
"""The sample-path newsvendor against closed forms, brute force and an independent simulation."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import InventoryProblem, OrderRules, RandomLeadTime
from sirdar.inventory.sample_paths import Timing, best_order, best_timed_order, expect, random_timing

FREE = OrderRules(case_pack=0.0)
NOTHING = np.zeros((1, 0))


def test_one_step_poisson_is_the_newsvendor() -> None:
    # Snyder and Shen, newsvendor with Poisson demand: h = 1, p = 4, mean 50 gives S* = 56 (as stockpyl prints it).
    demand = np.random.default_rng(0).poisson(50, (1, 1, 200_000)).astype(float)
    problem = InventoryProblem(1.0, 4.0, lead_time=0)
    assert best_order(np.zeros(1), NOTHING, demand, problem)[0] == 56
    cost = expect(np.zeros(1), NOTHING, np.array([56.0]), demand, problem)
    # Cost 10.0752 from the same source; the standard error of 200,000 draws is 0.02.
    assert (cost.holding_cost + cost.lost_sale_cost)[0] == pytest.approx(10.0752, abs=0.08)


def test_one_step_normal_is_the_newsvendor() -> None:
    # Snyder and Shen, Example 4.3: h = 0.18, p = 0.70, N(50, 8): S* = 56.604, cost 1.9976.
    demand = np.random.default_rng(0).normal(50, 8, (1, 1, 400_000))
    problem = InventoryProblem(0.18, 0.70, lead_time=0, rules=FREE)
    quantity = best_order(np.zeros(1), NOTHING, demand, problem)
    assert quantity[0] == pytest.approx(56.604, abs=0.07)
    cost = expect(np.zeros(1), NOTHING, quantity, demand, problem)
    assert (cost.holding_cost + cost.lost_sale_cost)[0] == pytest.approx(1.9976, abs=0.01)


def test_backlogged_demand_over_the_lead_time_adds_up() -> None:
    # With backlogging the order-up-to level is the quantile of demand over L + 1 steps: N(4 * 50, 2 * 8).
    demand = np.random.default_rng(1).normal(50, 8, (1, 4, 200_000))
    problem = InventoryProblem(1.0, 9.0, lead_time=3, backlog=True, rules=FREE)
    quantity = best_order(np.array([30.0]), np.array([[20.0, 50.0, 10.0]]), demand, problem)
    assert quantity[0] == pytest.approx(NormalDist(200, 16).inv_cdf(0.9) - 110.0, abs=0.2)


def test_known_demand_is_met_exactly() -> None:
    demand = np.array([3.0, 5.0, 4.0, 6.0])[None, :, None]
    problem = InventoryProblem(1.0, 9.0, lead_time=2, review_period=2)
    # 4 - 3 = 1 left, + 2 - 5: two lost; then 4 + 6 are wanted of an empty shelf.
    assert best_order(np.array([4.0]), np.array([[0.0, 2.0]]), demand, problem)[0] == 10
    found = expect(np.array([4.0]), np.array([[0.0, 2.0]]), np.array([10.0]), demand, problem)
    assert found.lost[0] == 2
    assert found.holding_cost[0] == 1 + 6  # one unit after step 0, six after step 2
    assert found.lost_sale_cost[0] == 18
    assert found.left[0] == 0


def problems() -> st.SearchStrategy[InventoryProblem]:
    return st.builds(
        InventoryProblem,
        holding_cost=st.floats(0.05, 2.0),
        lost_sale_cost=st.floats(0.1, 20.0),
        lead_time=st.integers(0, 3),
        review_period=st.integers(1, 3),
        backlog=st.booleans(),
        rules=st.builds(OrderRules, minimum=st.sampled_from([0.0, 5.0]), case_pack=st.sampled_from([1.0, 4.0])),
    )


def draw_case(problem: InventoryProblem, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    demand = rng.poisson(rng.uniform(0.2, 8.0), (1, problem.cover, 15)).astype(float)
    return rng.integers(0, 12, 1).astype(float), rng.integers(0, 6, (1, problem.lead_time)).astype(float), demand


def slow_cost(
    on_hand: np.ndarray, pipeline: np.ndarray, quantity: float, demand: np.ndarray, problem: InventoryProblem
) -> tuple[float, float, float, float, float]:
    """The rules of `problem.py` followed unit by unit, one path after the other: cost, lost units, last stock."""
    total_holding = total_short = total_late = total_left = interval = 0.0
    for path in demand[0].T:
        stock = on_hand[0]
        for step, wanted in enumerate(path):
            if step < problem.lead_time:
                stock += pipeline[0, step]
            if step == problem.lead_time:
                stock += quantity
            served = min(wanted, max(stock, 0.0))
            stock -= wanted if problem.backlog else served
            holding, short = max(stock, 0.0), (max(-stock, 0.0) if problem.backlog else wanted - served)
            total_late += wanted - served
            total_holding += holding
            total_short += short
            if step >= problem.lead_time:
                interval += problem.holding_cost * holding + problem.lost_sale_cost * short
        total_left += max(stock, 0.0)
    paths = demand.shape[2]
    return total_holding / paths, total_short / paths, total_late / paths, total_left / paths, interval / paths


@settings(max_examples=60)
@given(problem=problems(), seed=st.integers(0, 10_000))
def test_no_permitted_quantity_is_cheaper(problem: InventoryProblem, seed: int) -> None:
    on_hand, pipeline, demand = draw_case(problem, seed)
    best = best_order(on_hand, pipeline, demand, problem)[0]
    pack, least = problem.rules.case_pack, problem.rules.minimum
    allowed = [q for q in np.arange(0, 80, pack) if q == 0 or q >= least]
    assert best in allowed
    costs = [slow_cost(on_hand, pipeline, q, demand, problem)[4] for q in allowed]
    assert slow_cost(on_hand, pipeline, best, demand, problem)[4] == pytest.approx(min(costs))


@settings(max_examples=60)
@given(problem=problems(), seed=st.integers(0, 10_000))
def test_expectations_are_those_of_a_slow_simulation(problem: InventoryProblem, seed: int) -> None:
    on_hand, pipeline, demand = draw_case(problem, seed)
    quantity = np.array([float(seed % 9)])
    found = expect(on_hand, pipeline, quantity, demand, problem)
    held, short, late, left, _ = slow_cost(on_hand, pipeline, quantity[0], demand, problem)
    assert found.holding_cost[0] == pytest.approx(held * problem.holding_cost)
    assert found.lost_sale_cost[0] == pytest.approx(short * problem.lost_sale_cost)
    assert found.lost[0] == pytest.approx(late)
    assert found.left[0] == pytest.approx(left)


@settings(max_examples=60)
@given(problem=problems(), seed=st.integers(0, 10_000), more=st.integers(1, 10))
def test_orders_fall_as_stock_rises_and_rise_with_the_lost_sale_cost(
    problem: InventoryProblem, seed: int, more: int
) -> None:
    problem = replace(problem, rules=FREE)
    on_hand, pipeline, demand = draw_case(problem, seed)
    quantity = best_order(on_hand, pipeline, demand, problem)[0]
    richer = best_order(on_hand + more, pipeline, demand, problem)[0]
    dearer = best_order(
        on_hand, pipeline, demand, replace(problem, lost_sale_cost=problem.lost_sale_cost * (1 + more))
    )[0]
    assert quantity >= richer >= 0
    assert quantity - richer <= more  # a unit of stock replaces at most one of the order
    assert dearer >= quantity
    assert best_order(on_hand, pipeline, demand, problem, unit_price=0.3)[0] <= quantity


def test_an_order_that_costs_more_than_a_lost_sale_is_not_placed() -> None:
    demand = np.full((1, 1, 3), 5.0)
    assert best_order(np.zeros(1), NOTHING, demand, InventoryProblem(lead_time=0), unit_price=1.5)[0] == 0


def test_each_series_has_its_own_costs() -> None:
    demand = np.random.default_rng(0).poisson(20, (1, 1, 5000)).astype(float).repeat(2, axis=0)
    problem = InventoryProblem(np.array([1.0, 1.0]), np.array([1.0, 99.0]), lead_time=0)
    low, high = best_order(np.zeros(2), np.zeros((2, 0)), demand, problem)
    # Median and 99 % quantile of Poisson(20), from tables; the latter within the noise of 5,000 draws.
    assert low == 20
    assert math.isclose(high, 31, abs_tol=1)


def slow_timed_cost(
    on_hand: float, quantity: float, path: np.ndarray, times: tuple[np.ndarray, int, int], problem: InventoryProblem
) -> float:
    """One path followed unit by unit; costs count in the steps that the order covers."""
    arriving, comes, until = times
    stock, cost = on_hand, 0.0
    for step, wanted in enumerate(path):
        stock += arriving[step] + (quantity if step == comes else 0.0)
        served = min(wanted, max(stock, 0.0))
        stock -= wanted if problem.backlog else served
        short = max(-stock, 0.0) if problem.backlog else wanted - served
        if comes <= step < until:
            cost += problem.holding_cost * max(stock, 0.0) + problem.lost_sale_cost * short
    return cost


@settings(max_examples=60)
@given(problem=problems(), seed=st.integers(0, 10_000), review=st.integers(0, 2))
def test_with_random_lead_times_no_permitted_quantity_is_cheaper(
    problem: InventoryProblem, seed: int, review: int
) -> None:
    problem = replace(problem, lead_time=RandomLeadTime((0.2, 0.3, 0.1, 0.4)))
    rng = np.random.default_rng(seed)
    demand = rng.poisson(rng.uniform(0.2, 8.0), (1, problem.cover, 12)).astype(float)
    on_hand = rng.integers(-3 if problem.backlog else 0, 12, 1).astype(float)
    placed = rng.integers(0, 6, (1, 3)).astype(float)
    times = random_timing(np.array([[2.0, 0.0, 1.0]]), placed, problem, demand.shape[1:], reviews=3, seed=seed)
    # Only the interval up to the given review counts: the choice among reviews has its own tests.
    one = Timing(times.arriving, times.comes, (times.until[review],))
    best = best_timed_order(on_hand, demand, one, problem)[0]
    pack, least = problem.rules.case_pack, problem.rules.minimum
    allowed = [q for q in np.arange(0, 80, pack) if q == 0 or q >= least]
    assert best in allowed

    def cost(quantity: float) -> float:
        paths = zip(demand[0].T, times.arriving[0].T, times.comes[0], times.until[review][0], strict=True)
        return sum(slow_timed_cost(on_hand[0], quantity, path, (a, c, u), problem) for path, a, c, u in paths)

    assert cost(best) == pytest.approx(min(cost(q) for q in allowed))


def test_lead_times_are_drawn_as_they_are_likely() -> None:
    problem = InventoryProblem(lead_time=RandomLeadTime((0.5, 0.0, 0.0, 0.5)), review_period=2)
    known, placed = np.array([[7.0, 0.0, 0.0]]), np.array([[0.0, 4.0]])
    times = random_timing(known, placed, problem, (5, 40_000), reviews=2, seed=1)
    # What was ordered two steps ago and has not come is sure to come in the coming step but one: 3 - 2 = 1 more.
    np.testing.assert_array_equal(times.arriving[0].mean(axis=1), [7.0, 4.0, 0.0, 0.0, 0.0])
    assert set(np.unique(times.comes)) == {0, 3}
    assert times.comes.mean() == pytest.approx(1.5, abs=0.03)
    # Of the orders of steps 2, 4, ... one comes in step 2, 4 or, if both take long, 5: chances 1/2, 1/4, 1/4.
    shares = np.bincount(times.until[0][0], minlength=6) / 40_000
    np.testing.assert_allclose(shares[2:6], [0.5, 0.0, 0.25, 0.25], atol=0.01)
    assert (times.until[1] >= np.maximum(times.until[0], 4)).all()


def test_unknown_lead_times_are_refused() -> None:
    with pytest.raises(ArgumentError, match="one known lead time"):
        best_order(np.zeros(1), NOTHING, np.ones((1, 1, 1)), InventoryProblem(lead_time=RandomLeadTime((1.0,))))
