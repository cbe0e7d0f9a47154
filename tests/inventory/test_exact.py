# SPDX-License-Identifier: Apache-2.0
"""Exact costs against Zipkin (2008), Table 3, and against a solver written another way."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.inventory import InventoryProblem, OrderRules, State, Trade, exact
from sirdar.inventory.distributions import poisson
from sirdar.inventory.newsvendor import step_costs

POISSON = poisson(5.0)

# Zipkin (2008), Table 3: Poisson demand of mean 5, h = 1: (L, p): optimal, myopic, myopic-2, best base-stock.
PRINTED = {
    (1, 4): (4.04, 4.11, 4.04, 4.16),
    (2, 4): (4.40, 4.56, 4.41, 4.64),
    (3, 4): (4.60, 4.84, 4.64, 4.98),
    (2, 19): (7.66, 7.77, 7.67, 7.84),
    (3, 39): (10.04, 10.17, 10.07, 10.22),
}


@pytest.mark.parametrize("cell", PRINTED)
def test_printed_costs(cell: tuple[int, int]) -> None:
    problem = InventoryProblem(1.0, float(cell[1]), cell[0])
    found = (
        exact.optimal(problem, POISSON).cost,
        exact.myopic(problem, POISSON).cost,
        exact.myopic(problem, POISSON, steps=2).cost,
        exact.best_base_stock(problem, POISSON)[1].cost,
    )
    # Printed with two decimals; 4.98 is 4.974996.
    assert found == pytest.approx(PRINTED[cell], abs=0.00501)


def test_capped_base_stock_lies_between() -> None:
    problem = InventoryProblem(1.0, 9.0, 2)
    best = exact.optimal(problem, POISSON).cost
    _, base = exact.best_base_stock(problem, POISSON)
    level, cap, capped = exact.best_capped_base_stock(problem, POISSON)
    assert best <= capped.cost <= base.cost
    assert (level, cap) == (19, 6)  # found by a grid search over every level and cap, cost 6.1191
    assert capped.cost == pytest.approx(6.1191, abs=5e-5)


def slow_optimum(problem: InventoryProblem, demand: np.ndarray, limit: int) -> float:
    """The same optimum by plain relative value iteration over a dictionary of states."""
    lead = problem.lead_time
    assert isinstance(lead, int)
    costs = step_costs(float(problem.holding_cost), float(problem.lost_sale_cost), demand, limit)
    states = [s for s in product(range(limit + 1), repeat=lead) if sum(s) <= limit]
    value = dict.fromkeys(states, 0.0)

    def mean(state: tuple[int, ...], order: int) -> float:
        coming = (*state[1:], order)
        total = 0.0
        for units, chance in enumerate(demand):
            stock = max(state[0] - units, 0) + coming[0]
            total += chance * value[(stock, *coming[1:])]
        return total

    while True:
        new = {s: costs[s[0]] + min(mean(s, z) for z in range(limit - sum(s) + 1)) for s in states}
        change = [new[s] - value[s] for s in states]
        value = {s: new[s] - min(new.values()) for s in states}
        if max(change) - min(change) < 1e-6:
            return (max(change) + min(change)) / 2


@pytest.mark.parametrize("lead", [1, 2, 3])
def test_the_optimum_of_a_slow_solver(lead: int) -> None:
    demand = np.array([0.3, 0.4, 0.2, 0.1])
    problem = InventoryProblem(1.0, 5.0, lead)
    limit = exact.optimal(problem, demand).policy.space.limit
    assert exact.optimal(problem, demand).cost == pytest.approx(slow_optimum(problem, demand, limit), abs=1e-5)


def test_tables_order_as_policies() -> None:
    problem = InventoryProblem(1.0, 9.0, 2)
    policy = exact.base_stock(problem, POISSON, 19).policy
    stock, arriving = np.array([[3.0, 30.0], [0.0, 7.0]]), np.zeros((2, 2, 2))
    arriving[..., 0], arriving[..., 1] = 4.0, 5.0
    found = policy.order(State(stock, arriving, problem))
    np.testing.assert_array_equal(found, [[7.0, 0.0], [10.0, 3.0]])
    with pytest.raises(ArgumentError, match="for a lead time of 2, but the pipeline has 1"):
        policy.order(State(stock, arriving[..., :1], problem))


@pytest.mark.parametrize(
    "change",
    [
        {"lead_time": 0},
        {"lead_time": np.array([1, 2])},
        {"review_period": 2},
        {"backlog": True},
        {"discount": 0.9},
        {"trade": Trade(order_cost=5.0)},
        {"trade": Trade(price=5.0)},
        {"rules": OrderRules(case_pack=6.0)},
        {"rules": OrderRules(shelf=4.0)},
        {"rules": OrderRules(capacity=4.0)},
    ],
)
def test_what_is_not_covered_is_refused(change: dict[str, object]) -> None:
    problem = replace(InventoryProblem(1.0, 9.0, 2), **change)
    with pytest.raises(UnsupportedError, match="exact solutions are for lost sales"):
        exact.optimal(problem, POISSON)


def test_too_many_states_and_odd_steps_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="states, more than 20,000,000: shorten lead_time 9"):
        exact.optimal(InventoryProblem(1.0, 9.0, 9), POISSON)
    with pytest.raises(ArgumentError, match="steps must be 1 or 2, got 3"):
        exact.myopic(InventoryProblem(1.0, 9.0, 2), POISSON, steps=3)


def test_where_stock_does_not_pay_the_best_level_is_none() -> None:
    problem, demand = InventoryProblem(1.0, 0.1, 1), np.array([0.5, 0.5])
    level, base = exact.best_base_stock(problem, demand)
    assert (level, *exact.best_capped_base_stock(problem, demand)[:2]) == (0, 0, 0)
    assert base.cost == pytest.approx(exact.optimal(problem, demand).cost, abs=1e-6)


@pytest.mark.parametrize(
    ("lead", "lost", "demand"), [(1, 0.5, [0.05, 0.7, 0.2, 0.05]), (2, 0.5, [0.1, 0.28, 0.62]), (2, 0.1, [0, 0.1, 0.9])]
)
def test_no_other_level_and_cap_cost_less(lead: int, lost: float, demand: list[float]) -> None:
    problem, chances = InventoryProblem(1.0, lost, lead), np.array(demand)
    level, cap, best = exact.best_capped_base_stock(problem, chances)
    pairs = [(high, most) for high in range(9) for most in range(high + 1)]
    least = min(exact.capped_base_stock(problem, chances, *pair).cost for pair in pairs)
    assert cap <= level
    assert best.cost == pytest.approx(least, abs=1e-6)


def test_what_comes_back_every_few_steps_has_an_average_cost() -> None:
    # One unit is wanted in each step. A level of one orders every third step, so that two of three units are lost.
    assert exact.base_stock(InventoryProblem(1.0, 9.0, 2), np.array([0.0, 1.0]), 1).cost == pytest.approx(6.0, abs=1e-6)
    assert exact.best_base_stock(InventoryProblem(1.0, 9.0, 2), np.array([0.0, 1.0]))[0] == 3
