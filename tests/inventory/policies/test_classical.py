# SPDX-License-Identifier: Apache-2.0
"""The textbook rules: conformance, small cases by hand, and published costs."""

from collections.abc import Callable
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    BaseStock,
    CappedBaseStock,
    ConstantOrder,
    CriticalFractile,
    FixedLot,
    InventoryProblem,
    MinMax,
    Myopic,
    NeverOrder,
    OrderRules,
    Policy,
    ProjectedInventory,
    RandomLeadTime,
    State,
    Trade,
    UpTo,
    exact,
    simulate,
)
from sirdar.inventory.checks import require_parameter
from sirdar.inventory.distributions import poisson
from sirdar.testing.policies import check_policy

POISSON = poisson(5.0)
RULES = {
    "never": NeverOrder(),
    "base stock": BaseStock(20.0),
    "capped base stock": CappedBaseStock(20.0, 6.0),
    "(s, S)": MinMax(12.0, 25.0),
    "(r, nQ)": FixedLot(12.0, 6.0),
    "constant": ConstantOrder(4.0),
    "myopic": Myopic(InventoryProblem(1.0, 9.0, 2), POISSON),
    "myopic-2": Myopic(InventoryProblem(1.0, 9.0, 2), POISSON, steps=2),
}


@pytest.mark.parametrize("name", RULES)
def test_conformance(name: str) -> None:
    check_policy(RULES[name], InventoryProblem(1.0, 9.0, 2), series=3)


def test_conformance_of_rules_that_read_forecasts(demand: ModuleType) -> None:
    forecast = demand.normal_forecast([4.0, 6.0], [2.0, 2.0], horizon=8)
    for policy in (ProjectedInventory(forecast), CriticalFractile(forecast)):
        check_policy(policy, InventoryProblem(1.0, 9.0, 2), series=2)


def test_the_suite_finds_broken_policies() -> None:
    class Negative:
        def order(self, state: State) -> np.ndarray:
            return state.on_hand - 100.0

    class Flat:
        def order(self, state: State) -> np.ndarray:
            return state.on_hand[..., :1]

    class TwoFaced:
        def order(self, state: State) -> np.ndarray:
            return 0.0 * state.on_hand

        def up_to(self) -> UpTo:
            return UpTo(20.0)

    problem = InventoryProblem()
    for policy, sentence in (
        (TwoFaced(), "up_to must say what order does"),
        (Negative(), "must not be negative"),
        (Flat(), "shape of on_hand"),
        (object(), "no method"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check_policy(policy, problem, series=3)


def see(on_hand: float, *arriving: float) -> State:
    return State(np.array([on_hand]), np.array([arriving]), InventoryProblem(lead_time=len(arriving)))


@pytest.mark.parametrize(
    ("policy", "position", "quantity"),
    [
        (BaseStock(20.0), 13.0, 7.0),
        (BaseStock(20.0), 21.0, 0.0),
        (CappedBaseStock(20.0, 6.0), 13.0, 6.0),
        (CappedBaseStock(20.0, 6.0), 15.0, 5.0),
        (MinMax(12.0, 25.0), 12.0, 13.0),
        (MinMax(12.0, 25.0), 13.0, 0.0),
        (FixedLot(12.0, 6.0), 13.0, 0.0),
        (FixedLot(12.0, 6.0), 12.0, 6.0),
        (FixedLot(12.0, 6.0), 6.0, 12.0),
        (ConstantOrder(4.0), 99.0, 4.0),
        (NeverOrder(), 0.0, 0.0),
    ],
)
def test_by_hand(policy: Policy, position: float, quantity: float) -> None:
    assert policy.order(see(position - 5.0, 3.0, 2.0))[0] == quantity


def simulated(policy: Policy, problem: InventoryProblem) -> float:
    demand = np.random.default_rng(1).poisson(5.0, (200, 5, 500)).astype(np.float64)
    return simulate(policy, problem, demand, warm_up=100).cost_per_step


@pytest.mark.parametrize(
    ("policy", "cost"),
    [
        # Bijvank (2015), Table 1: R = 1, L = 2, h = 1, p = 14, K = 5, Poisson(5): 11.62 for (s, S) = (17, 23), 11.56
        # for (s, nQ) with s = 17 and Q = 7.
        (MinMax(17.0, 23.0), 11.62),
        (FixedLot(17.0, 7.0), 11.56),
    ],
)
def test_published_costs_with_a_fixed_order_cost(policy: Policy, cost: float) -> None:
    problem = InventoryProblem(1.0, 14.0, 2, trade=Trade(order_cost=5.0))
    assert simulated(policy, problem) == pytest.approx(cost, abs=0.04)  # 400,000 steps: standard error about 0.01


def test_simulated_heuristics_cost_what_dynamic_programming_says() -> None:
    # Exact costs of L = 2, p = 9 from sirdar.inventory.exact, itself tested against Zipkin (2008).
    problem = InventoryProblem(1.0, 9.0, 2)
    assert simulated(BaseStock(19.0), problem) == pytest.approx(exact.base_stock(problem, POISSON, 19).cost, abs=0.03)
    assert simulated(CappedBaseStock(19.0, 6.0), problem) == pytest.approx(6.1191, abs=0.03)
    assert simulated(Myopic(problem, POISSON), problem) == pytest.approx(6.2231, abs=0.03)
    assert simulated(Myopic(problem, POISSON, steps=2), problem) == pytest.approx(6.1037, abs=0.03)


def test_critical_fractile_levels(demand: ModuleType) -> None:
    policy = CriticalFractile(demand.normal_forecast([50.0, 20.0], [8.0, 4.0], horizon=4), samples=20_000)
    problem = InventoryProblem(1.0, 9.0, np.array([3, 0]))
    # Sums of independent normal steps: N(200, 16) over L + 1 = 4 steps, N(20, 4) over one.
    expected = [NormalDist(200, 16).inv_cdf(0.9), NormalDist(20, 4).inv_cdf(0.9)]
    np.testing.assert_allclose(policy.levels(problem), expected, rtol=0.005)
    # One step before the end only that step is covered.
    np.testing.assert_allclose(policy.levels(problem, step=3)[0], NormalDist(50, 8).inv_cdf(0.9), rtol=0.005)
    assert CriticalFractile(policy.forecast, level=0.5).levels(problem)[1] == pytest.approx(20.0, abs=1.0)


def test_critical_fractile_refuses(demand: ModuleType) -> None:
    forecast = demand.normal_forecast(50.0, 8.0, horizon=2)
    with pytest.raises(ArgumentError, match="needs 3 steps: forecast at least 3"):
        CriticalFractile(forecast).levels(InventoryProblem(lead_time=RandomLeadTime((0.5, 0.0, 0.5))))
    with pytest.raises(ArgumentError, match="has 1 series, but there is stock for 2"):
        CriticalFractile(forecast).order(State(np.zeros(2), np.zeros((2, 1)), InventoryProblem(lead_time=1)))
    with pytest.raises(ArgumentError, match=r"level must lie in \(0, 1\), got 1.0"):
        CriticalFractile(forecast, level=1.0)


def test_levels_per_series_and_minimum_orders() -> None:
    problem = InventoryProblem(1.0, 9.0, 1, rules=OrderRules(minimum=10.0))
    ledger = simulate(BaseStock(np.array([5.0, 30.0])), problem, np.ones((2, 3)))
    assert ledger.trajectory.orders[:, 0].tolist() == [10.0, 30.0]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: BaseStock(np.inf), "level must be finite, got inf"),
        (lambda: BaseStock(np.array([[1.0, 2.0], [3.0, np.nan]])), "level must be finite, got nan for series 1"),
        (lambda: CappedBaseStock(5.0, -1.0), "cap must not be negative, got -1"),
        (lambda: ConstantOrder(np.array([1.0, np.nan])), "quantity must be finite, got nan for series 1"),
        (lambda: MinMax(np.nan, 9.0), "reorder_point must be a number, got nan"),
        (lambda: FixedLot(3.0, np.array([2.0, np.inf])), "lot must be finite, got inf for series 1"),
    ],
)
def test_parameters_that_cannot_be_are_refused(build: Callable[[], Policy], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        build()


def test_parameters_may_be_a_list_and_are_read_at_once() -> None:
    """Annotations say arrays, which is checked under pytest only; whoever gives a list gets what it says."""
    assert require_parameter([5.0, 6], "level").tolist() == [5.0, 6.0]
    level = np.array([5.0, 6.0])
    policy = BaseStock(level)
    level[0] = 50
    assert np.asarray(policy.level).tolist() == [5.0, 6.0]
