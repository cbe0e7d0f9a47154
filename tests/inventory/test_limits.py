# SPDX-License-Identifier: Apache-2.0
"""Shared limits against the Lagrange condition, brute force and the simulator."""

from collections.abc import Iterable
from itertools import product
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    BaseStock,
    InventoryProblem,
    OrderRules,
    ProjectedInventory,
    RandomLeadTime,
    Stock,
    Trade,
    simulate,
    simulate_slowly,
)
from sirdar.inventory.limits import within_limits
from sirdar.inventory.sample_paths import expect
from sirdar.predictive import Forecast, Frequency


def test_room_goes_where_it_saves_most(demand: ModuleType) -> None:
    # Two equal newsvendors but for the size of a unit: at one price of room the marginal saving per litre is equal:
    # p - (p + h) F(q1) = (p - (p + h) F(q2)) / 2 with volumes 1 and 2.
    forecast = demand.normal_forecast([50.0, 50.0], [10.0, 10.0], horizon=1)
    rules = OrderRules(case_pack=0.0, capacity=140.0, volume=np.array([1.0, 2.0]))
    problem = InventoryProblem(1.0, 9.0, 0, rules=rules)
    quantity = ProjectedInventory(forecast, samples=4000).plan(problem, Stock.empty(2)).quantity
    assert quantity @ [1.0, 2.0] == pytest.approx(140.0, abs=0.1)
    paths = np.stack([forecast.sample(4000, seed=5)[0, 0] for _ in range(2)])
    below = (paths <= quantity[:, None]).mean(axis=1)
    first, second = 9.0 - 10.0 * below
    assert first == pytest.approx(second / 2, abs=0.35)  # three standard errors of the two fractions


def test_whole_orders_within_a_budget_are_the_best_there_are(demand: ModuleType) -> None:
    forecast = demand.certain_forecast([[4.0, 3.0], [3.0, 5.0], [2.0, 2.0]])
    trade = Trade(unit_cost=np.array([2.0, 1.0, 3.0]))
    problem = InventoryProblem(1.0, np.array([4.0, 5.0, 9.0]), 1, trade=trade, rules=OrderRules(budget=13.0))
    quantity = ProjectedInventory(forecast, samples=4).plan(problem, Stock.empty(3)).quantity
    assert quantity @ trade.unit_cost <= 13.0
    paths = np.repeat(np.array([[4.0, 3.0], [3.0, 5.0], [2.0, 2.0]])[:, :, None], 4, axis=2)

    def cost(orders: np.ndarray) -> float:
        found = expect(np.zeros(3), np.zeros((3, 1)), orders, paths, problem)
        return float((found.holding_cost + found.lost_sale_cost).sum())

    # Savings per unit of money are 2, 5 and 3: five of the second (5), two of the third (6), one of the first (2).
    affordable = [np.array(q, dtype=np.float64) for q in product(range(4), range(6), range(3))]
    best = min(cost(q) for q in affordable if q @ trade.unit_cost <= 13.0)
    # All units of a series save the same here, so that its price of indifference takes all of them or none.
    assert quantity.tolist() == [1.0, 5.0, 2.0]
    assert cost(quantity) == pytest.approx(best)


@given(
    wanted=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    pack=st.sampled_from([0.0, 1.0, 2.0]),
    minimum=st.sampled_from([0.0, 2.0]),
    budget=st.floats(2.0, 40.0),
    capacity=st.floats(2.0, 40.0),
)
@settings(max_examples=40)
def test_nothing_that_is_wanted_and_fits_is_left(
    wanted: list[int], pack: float, minimum: float, budget: float, capacity: float
) -> None:
    """Demand is certain and every unit saves the same: no price tells the first unit from the last."""
    count = len(wanted)
    values = np.array(wanted, dtype=np.float32).reshape(count, 1, 1)
    forecast = Forecast(list(map(str, range(count))), np.zeros(count, dtype=np.int64), Frequency("W"), (0.5,), values)
    rules = OrderRules(case_pack=pack, minimum=minimum, budget=budget, capacity=capacity)
    free = OrderRules(case_pack=pack, minimum=minimum)
    policy, trade = ProjectedInventory(forecast, samples=2), Trade(unit_cost=1.0)
    most = policy.plan(InventoryProblem(1.0, 9.0, 0, trade=trade, rules=free), Stock.empty(count)).quantity
    got = policy.plan(InventoryProblem(1.0, 9.0, 0, trade=trade, rules=rules), Stock.empty(count)).quantity
    room = min(budget, capacity) - got.sum()
    assert room >= -1e-9
    assert (got <= most + 1e-9).all()
    assert ((got == 0) | (got >= minimum - 1e-9)).all()
    if pack:
        assert np.allclose(got % pack, 0)
    least = np.where(got > 0, pack, np.maximum(rules.least, pack))
    left = (least <= room - 1e-9) & (got + least <= most + 1e-9) & (least > 0)
    assert not left.any()
    if pack == 0 and minimum == 0:
        assert room == pytest.approx(0.0, abs=1e-6) or got == pytest.approx(most)


@pytest.mark.parametrize("room", [55.0, 58.0])
def test_a_least_order_that_does_not_fit_leaves_the_room_to_others(demand: ModuleType, room: float) -> None:
    # The first wants its minimum of 60 most of all; without it the twenty others share the room out.
    forecast = demand.normal_forecast([20.0] + [5.0] * 20, [4.0] + [1.0] * 20, horizon=2)
    lost, minimum, stock = (np.append(first, np.full(20, rest)) for first, rest in ((10, 1.0), (60, 0.0), (10, 0.0)))
    for limit in ({"capacity": room + 10.0}, {"capacity": room + 10.0, "budget": 70.0}):
        rules = OrderRules(minimum=minimum, **limit)
        problem = InventoryProblem(0.1, lost, 1, trade=Trade(unit_cost=1.0), rules=rules)
        quantity = ProjectedInventory(forecast).plan(problem, Stock(stock)).quantity
        assert quantity[0] == 0.0
        assert quantity.sum() == room


def test_a_pack_that_does_not_fit_leaves_the_room_to_others(demand: ModuleType) -> None:
    # The first saves more and takes one of two packs of 40; the rest of the room is less than its second.
    forecast = demand.certain_forecast([[80.0], [30.0]])
    rules = OrderRules(case_pack=np.array([40.0, 1.0]), capacity=65.0)
    problem = InventoryProblem(1.0, np.array([9.0, 3.0]), 0, rules=rules)
    assert ProjectedInventory(forecast, samples=2).plan(problem, Stock.empty(2)).quantity.tolist() == [40.0, 25.0]


def small_market(seed: int) -> tuple[InventoryProblem, np.ndarray, list[dict[float, float]]]:
    """A problem of two or three series, where they stand, and what each permitted order of each costs."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 4))
    hold, lose, price, volume = (random.uniform(*ends, count) for ends in ((0.1, 1), (0.5, 5), (0.2, 3), (0.5, 2)))
    pack, minimum = random.choice([1.0, 1.0, 2.0, 3.0], count), random.choice([0.0, 0.0, 4.0], count)
    stock, wanted = random.integers(0, 4, count).astype(float), random.poisson(random.uniform(1, 9, count), (30, count))
    least = np.asarray(OrderRules(minimum, pack).least)
    rules = OrderRules(
        minimum,
        pack,
        budget=max((least * price).max(), random.uniform(2, 25)),
        capacity=max((least * volume).max(), volume @ stock + random.uniform(0.5, 15)),
        volume=volume,
    )
    problem = InventoryProblem(hold, lose, 0, trade=Trade(unit_cost=price), rules=rules)
    costs = []
    for i in range(count):
        orders = np.array([0.0, *(q for q in pack[i] * np.arange(1, 30) if q >= minimum[i])])
        after = stock[i] + orders - wanted[:, [i]]
        means = (hold[i] * np.maximum(after, 0) + lose[i] * np.maximum(-after, 0)).mean(axis=0)
        costs.append(dict(zip(orders.tolist(), means.tolist(), strict=True)))
    return problem, stock, costs


def _sum_of(costs: list[dict[float, float]], orders: Iterable[float]) -> float:
    return sum(cost[order] for cost, order in zip(costs, orders, strict=True))


def lost_share(seed: int) -> float:
    """Which share of the saving that there is within the limits is missed: all permitted orders are tried."""
    problem, stock, costs = small_market(seed)
    rules, price = problem.rules, np.asarray(problem.trade.unit_cost)

    def solve(unit_price: np.ndarray) -> np.ndarray:
        pairs = zip(costs, unit_price, strict=True)
        return np.array([min(cost, key=lambda q: cost[q] + p * q) for cost, p in pairs])

    def keeps(orders: np.ndarray) -> bool:
        filled = np.maximum(stock + orders, 0) @ np.asarray(rules.volume)
        return bool(orders @ price <= rules.budget * (1 + 1e-9) and filled <= rules.capacity * (1 + 1e-9))

    found = within_limits(solve, problem, stock)
    assert keeps(found)
    most = np.maximum(solve(np.zeros(len(stock))), rules.least)  # nobody wants more
    plans = product(*([q for q in cost if q <= top] for cost, top in zip(costs, most, strict=True)))
    total = {plan: _sum_of(costs, plan) for plan in plans if keeps(np.array(plan))}
    none, best = total[(0.0,) * len(stock)], min(total.values())
    return (_sum_of(costs, found.tolist()) - best) / (none - best) if none > best else 0.0


def test_little_is_lost_to_the_best_of_all_permitted_orders() -> None:
    # Before those whose orders do not fit were left out: .10 on average, over a fifth in 24 of 150, and all in 8.
    lost = np.array([lost_share(seed) for seed in range(150)])
    assert lost.min() >= -1e-9
    assert lost.mean() < 0.03
    assert (lost > 0.2).sum() <= 8
    assert lost.max() < 0.7  # one large order for a small one


@pytest.mark.parametrize("limit", [{"capacity": 900.0}, {"budget": 500.0}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_error_breaks_no_limit(demand: ModuleType, limit: dict[str, float], dtype: type) -> None:
    forecast = demand.normal_forecast([150.0, 90.0, 210.0, 33.3], [40.0, 30.0, 70.0, 9.0], horizon=12)
    problem = InventoryProblem(
        0.2, 1.0, 2, trade=Trade(unit_cost=1.7), rules=OrderRules(case_pack=0.0, volume=0.9, **limit)
    )
    wanted = np.random.default_rng(0).gamma(4.0, 30.0, (1, 4, 10)).astype(dtype)
    done = simulate(ProjectedInventory(forecast, samples=5), problem, wanted)  # which would refuse it
    assert float(done.trajectory.orders.sum(-2).max()) * 1.7 > 499.0


def test_an_order_that_costs_something_as_such_is_whole_or_none() -> None:
    forecast = Forecast(["a", "b"], np.zeros(2, dtype=np.int64), Frequency("W"), (0.5,), np.full((2, 1, 1), 8.0), 0.0)
    problem = InventoryProblem(1.0, 9.0, 0, trade=Trade(unit_cost=1.0, order_cost=5.0), rules=OrderRules(budget=12.0))
    quantity = ProjectedInventory(forecast, samples=2).plan(problem, Stock.empty(2)).quantity
    assert sorted(quantity.tolist()) == [0.0, 8.0]


@pytest.mark.parametrize("money", [1e-9, 1e-3, 1e6])
def test_the_currency_changes_no_order(demand: ModuleType, money: float) -> None:
    forecast, cost = demand.normal_forecast([20.0, 30.0, 10.0], [6.0, 9.0, 5.0], horizon=4), np.array([1.0, 2.0, 0.5])

    def ordered(unit: float) -> np.ndarray:
        rules = OrderRules(case_pack=0.0, capacity=70.0, budget=60.0 * unit)
        problem = InventoryProblem(
            unit, np.array([4.0, 9.0, 6.0]) * unit, 1, trade=Trade(0.0, cost * unit), rules=rules
        )
        return ProjectedInventory(forecast, samples=50).plan(problem, Stock.empty(3)).quantity

    assert ordered(money) == pytest.approx(ordered(1.0), rel=1e-3)
    assert ordered(money) @ cost <= 60.0 * (1 + 1e-9)


def test_two_limits_at_once_and_the_simulator_agrees(demand: ModuleType) -> None:
    forecast = demand.normal_forecast([20.0, 30.0, 10.0], [6.0, 9.0, 5.0], horizon=4)
    rules = OrderRules(capacity=150.0, budget=90.0)
    problem = InventoryProblem(1.0, 9.0, 2, trade=Trade(unit_cost=2.0), rules=rules)
    ledger = simulate(ProjectedInventory(forecast, samples=40), problem, forecast.sample(3, seed=1).transpose(2, 0, 1))
    orders, sold = (x.numpy() for x in (ledger.trajectory.orders, ledger.trajectory.sold))
    assert (orders.sum(axis=-2) * 2.0 <= 90.0).all()
    assert (orders.sum(axis=-2) * 2.0 >= 80.0).any()  # the budget binds, and is used
    position = orders.cumsum(-1) - sold.cumsum(-1) + sold
    assert (position.sum(axis=-2) <= 150.0).all()


@pytest.mark.parametrize("lead_time", [1, RandomLeadTime((0.3, 0.3, 0.4))])
@pytest.mark.parametrize("limit", ["capacity", "budget"])
def test_limits_are_kept_where_an_order_is_meant_for_several_reviews(
    demand: ModuleType, lead_time: int | RandomLeadTime, limit: str
) -> None:
    # With backlog a unit saves its cost in every step that it would be waited for: more than within one review.
    forecast = demand.normal_forecast([10.0, 8.0, 6.0], [3.0, 3.0, 3.0], horizon=14)
    trade = Trade(unit_cost=1.0, order_cost=30.0)
    problem = InventoryProblem(1.0, 9.0, lead_time, 2, backlog=True, trade=trade, rules=OrderRules(**{limit: 20.0}))
    quantity = ProjectedInventory(forecast).plan(problem, Stock.empty(3)).quantity
    assert 15.0 <= quantity.sum() <= 20.0


def test_waiting_customers_take_no_room_and_give_none(demand: ModuleType) -> None:
    # A hundred wait for the first, at little cost; 150 of the second are wanted dearly, but its shelf space is 50.
    rules = OrderRules(capacity=50.0)
    problem = InventoryProblem(1.0, np.array([1.5, 30.0]), 0, backlog=True, rules=rules)
    policy = ProjectedInventory(demand.normal_forecast([1.0, 150.0], [1.0, 9.0], horizon=1))
    first, second = policy.plan(problem, Stock([-100.0, 0.0])).quantity
    assert second <= 50.0
    assert max(first - 100.0, 0.0) + second <= 50.0
    # A rush that must be waited for is ordered for on top of what the room holds, and the simulator agrees.
    rush = np.full((2, 20), 10.0)
    rush[:, 5] = 60.0
    room = InventoryProblem(1.0, 9.0, 2, backlog=True, rules=OrderRules(capacity=60.0))
    forecast = demand.certain_forecast(np.full((2, 20), 10.0))
    done = simulate(ProjectedInventory(forecast, samples=2), room, rush).trajectory
    position = (done.orders.cumsum(-1) - done.demand.cumsum(-1) + done.demand).numpy()
    assert position.clip(min=0.0).sum(axis=0).max() <= 60.0
    assert done.on_hand[:, -1].min() >= 0.0  # all were served in the end


def test_broken_and_impossible_limits_are_refused(demand: ModuleType) -> None:
    ones = np.ones((2, 5))
    tight = InventoryProblem(1.0, 9.0, 1, rules=OrderRules(capacity=15.0))
    with pytest.raises(ArgumentError, match="the policy filled 20 of room, but the capacity is 15"):
        simulate(BaseStock(10.0), tight, ones)
    poor = InventoryProblem(1.0, 9.0, 1, trade=Trade(unit_cost=3.0), rules=OrderRules(budget=15.0))
    with pytest.raises(ArgumentError, match="the policy spent 60 in one step, but the budget is 15"):
        simulate(BaseStock(10.0), poor, ones)
    with pytest.raises(ArgumentError, match=r": 5 too much in step 0, most of it for series 1 \(12\)"):
        simulate(BaseStock(np.array([8.0, 12.0])), tight, ones)
    with pytest.raises(ArgumentError, match=r"exceeded by 4 before anything is ordered.* most of it series 0 with 12"):
        simulate(BaseStock(1.0), tight, ones, Stock([12.0, 7.0]))  # whoever orders
    policy = ProjectedInventory(demand.normal_forecast([5.0, 5.0], [1.0, 1.0], horizon=2))
    with pytest.raises(ArgumentError, match=r"of 15 is exceeded by 10 before .* most of it series 1 with 22"):
        policy.plan(tight, Stock([3.0, 20.0], [[0.0], [2.0]]))
    free = InventoryProblem(1.0, 9.0, 1, rules=OrderRules(budget=15.0))
    with pytest.raises(ArgumentError, match="a budget of 15 says nothing while unit_cost is 0"):
        policy.plan(free, Stock.empty(2))


@pytest.mark.parametrize("lead_time", [2, RandomLeadTime((0.2, 0.5, 0.3))])
def test_shelves_bound_every_policy_and_both_simulators_agree(lead_time: int | RandomLeadTime) -> None:
    shelf = np.array([9.0, 30.0, np.inf])
    problem = InventoryProblem(1.0, 9.0, lead_time, rules=OrderRules(minimum=2.0, case_pack=2.0, shelf=shelf))
    demand = np.random.default_rng(0).poisson(4.0, (2, 3, 15)).astype(np.float64)
    fast, slow = (run(BaseStock(25.0), problem, demand) for run in (simulate, simulate_slowly))
    orders, sold = fast.trajectory.orders.numpy(), fast.trajectory.sold.numpy()
    np.testing.assert_allclose(orders, slow.trajectory.orders)
    position = orders.cumsum(-1) - sold.cumsum(-1) + sold
    assert (position <= shelf[:, None]).all()
    assert (position[:, 0].max(axis=-1) >= 8.0).all()  # filled, but for less than a pack of two
    assert (position[:, 2].max(axis=-1) >= 25.0).all()


def test_a_plan_keeps_the_shelves(demand: ModuleType) -> None:
    forecast = demand.certain_forecast([[4.0, 3.0], [3.0, 5.0]])
    problem = InventoryProblem(0.1, 9.0, 1, rules=OrderRules(shelf=np.array([20.0, 6.0])))
    plan = ProjectedInventory(forecast, samples=3).plan(problem, Stock([4.0, 3.0]))
    assert plan.quantity.tolist() == [3.0, 3.0]  # five are wanted of the second, for which its shelf has no room
