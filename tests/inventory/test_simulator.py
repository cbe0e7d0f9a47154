# SPDX-License-Identifier: Apache-2.0
"""The fast simulator against the slow one, against hand-worked steps, exact costs and finite differences."""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    InventoryProblem,
    NeverOrder,
    OrderRules,
    PerfectForesight,
    RandomLeadTime,
    State,
    Stock,
    Trade,
    exact,
)
from sirdar.inventory.demand import _numbers
from sirdar.inventory.distributions import poisson
from sirdar.inventory.ledger import Ledger
from sirdar.inventory.policies.base_stock import BaseStock
from sirdar.inventory.policies.capped_base_stock import CappedBaseStock
from sirdar.inventory.policies.constant_order import ConstantOrder
from sirdar.inventory.policies.fixed_lot import FixedLot
from sirdar.inventory.policies.min_max import MinMax
from sirdar.inventory.policy import Policy
from sirdar.inventory.reference import simulate_slowly
from sirdar.inventory.simulator import simulate

SERIES, TIME = 3, 9
FIELDS = ("orders", "received", "demand", "sold", "late", "on_hand")
COSTS = ("holding", "lost_sales", "purchase", "ordering", "income", "cost", "profit")
LEADS = st.one_of(
    st.integers(0, 4),
    st.lists(st.integers(0, 4), min_size=SERIES, max_size=SERIES).map(np.array),
    st.sampled_from([RandomLeadTime((0.2, 0.3, 0.0, 0.5)), RandomLeadTime((0.0, 0.5, 0.5)), RandomLeadTime((1.0,))]),
)
PROBLEMS = st.builds(
    InventoryProblem,
    holding_cost=st.floats(0.1, 2.0),
    lost_sale_cost=st.lists(st.floats(0.5, 20.0), min_size=SERIES, max_size=SERIES).map(np.array),
    lead_time=LEADS,
    review_period=st.one_of(st.integers(1, 3), st.just(np.array([1, 2, 3]))),
    backlog=st.booleans(),
    discount=st.sampled_from([1.0, 0.95]),
    trade=st.builds(Trade, price=st.floats(0, 5), unit_cost=st.floats(0, 2), order_cost=st.floats(0, 9)),
    rules=st.sampled_from([OrderRules(), OrderRules(case_pack=0.0), OrderRules(minimum=5.0, case_pack=4.0)]),
)
POLICIES = st.sampled_from(
    [
        NeverOrder(),
        BaseStock(np.array([3.0, 12.0, 30.5])),
        CappedBaseStock(20.0, 6.5),
        MinMax(5.0, 14.0),
        FixedLot(np.array([0.0, 4.0, 9.0]), 7.0),
        ConstantOrder(3.25),
    ]
)


def draw(seed: int) -> tuple[np.ndarray, Stock]:
    rng = np.random.default_rng(seed)
    demand = rng.poisson(rng.uniform(0, 8, (2, SERIES, 1)), (2, SERIES, TIME)).astype(np.float64)
    return demand, Stock(rng.integers(0, 9, SERIES))


@settings(max_examples=80)
@given(problem=PROBLEMS, policy=POLICIES, seed=st.integers(0, 1000))
def test_fast_and_slow_agree_and_units_are_conserved(problem: InventoryProblem, policy: Policy, seed: int) -> None:
    demand, stock = draw(seed)
    fast = simulate(policy, problem, demand, stock, seed=seed, warm_up=2)
    slow = simulate_slowly(policy, problem, demand, stock, seed=seed, warm_up=2)
    for name in FIELDS:
        found = getattr(fast.trajectory, name).numpy()
        np.testing.assert_allclose(found, getattr(slow.trajectory, name), atol=1e-5, err_msg=name)
    for name in COSTS:
        np.testing.assert_allclose(getattr(fast, name).numpy(), getattr(slow, name), atol=1e-5, err_msg=name)
    assert fast.summary() == pytest.approx(slow.summary(), abs=1e-5)
    check_conservation(fast, stock)


@settings(max_examples=60)
@given(
    problem=PROBLEMS.map(lambda one: replace(one, rules=OrderRules(case_pack=0.0))),
    policy=st.one_of(
        POLICIES,
        st.sampled_from(
            [
                MinMax(0.0, 14.0),
                MinMax(np.array([0.0, 7.3, -1.0]), 20.7),
                FixedLot(0.0, 12.3),
                FixedLot(np.array([0.0, 6.1, 12.2]), 6.1),  # at the point: nothing, one lot or two, and a bare shelf
            ]
        ),
    ),
    seed=st.integers(0, 1000),
)
def test_fractions_leave_no_rounding_error_that_stops_orders(
    problem: InventoryProblem, policy: Policy, seed: int
) -> None:
    """A sum carried from step to step would end near 1e-15, above a reorder point of zero, when no unit is left."""
    demand, stock = fractions(problem, seed, (8, SERIES, 40))
    fast, slow = (run(policy, problem, demand, stock, seed=seed) for run in (simulate, simulate_slowly))
    for name in COSTS:
        np.testing.assert_allclose(getattr(fast, name).numpy(), getattr(slow, name), rtol=1e-6, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("policy", [MinMax(0.0, 20.0), FixedLot(0.0, 20.0)])
@pytest.mark.parametrize("review", [1, np.repeat([1, 2], 50)])
def test_orders_go_on_whatever_is_left_of_fractions(policy: Policy, review: int | np.ndarray, kind: type) -> None:
    problem = InventoryProblem(0.1, 2.0, 2, review, rules=OrderRules(case_pack=0.0))
    demand, stock = fractions(problem, 0, (100, 60))
    orders = simulate(policy, problem, demand.astype(kind), stock).trajectory.orders
    assert bool((orders[:, -30:].sum(-1) > 0).all())
    by_lots = replace(problem, trade=Trade(order_cost=1.0))  # counted without the steps, where that is done
    ledger = simulate(policy, by_lots, demand.astype(kind), stock)
    assert ledger.ordering.tolist() == (orders > 0).sum(-1).tolist()


def fractions(problem: InventoryProblem, seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, Stock]:
    """Demand and stock, on hand and under way, in kilograms."""
    rng = np.random.default_rng(seed)
    series, width = shape[-2], problem.longest_lead_time
    lead = width if isinstance(problem.lead_time, RandomLeadTime) else problem.lead_time
    soon = np.arange(width) < np.reshape(lead, (-1, 1))
    stock = Stock(rng.uniform(0, 20, series).round(2), rng.uniform(0, 5, (series, width)).round(2) * soon)
    return rng.gamma(2.0, 1.7, shape), stock


def test_demand_may_require_a_gradient() -> None:
    demand = torch.tensor([[3.0, 5.0, 2.0], [1.0, 1.0, 1.0]], requires_grad=True)
    free = OrderRules(case_pack=0.0)
    # Lost sales, lead time 0, level 4: only in step 1 of series 0 a unit more is lost; elsewhere it is not held.
    simulate(BaseStock(4.0), InventoryProblem(1.0, 9.0, 0, rules=free), demand).cost.sum().backward()
    assert demand.grad is not None
    assert demand.grad.tolist() == [[-1.0, 9.0, -1.0], [-1.0, -1.0, -1.0]]
    with pytest.raises(ArgumentError, match="got -1 for series 0, step 1"):
        simulate(BaseStock(4.0), InventoryProblem(lead_time=0), torch.tensor([[1.0, -1.0]], requires_grad=True))


@pytest.mark.parametrize("run", [simulate, simulate_slowly])
def test_demand_may_be_a_list(run: Any) -> None:  # noqa: ANN401
    problem, rows = InventoryProblem(lead_time=0), [[1, 2, 3], [4.0, 5.0, 6.0]]
    assert run(BaseStock(4.0), problem, rows).summary() == run(BaseStock(4.0), problem, np.array(rows)).summary()
    for wrong in ([["a", "b"]], [[1, 2], [3]]):
        with pytest.raises(ArgumentError, match=r"demand must be numbers of shape \[series, time\]"):
            run(BaseStock(4.0), problem, wrong)


def check_conservation(ledger: Ledger, stock: Stock) -> None:
    """Units in are units sold and units left, in every step; and every unit wanted is served, lost or waiting."""
    found = {name: getattr(ledger.trajectory, name).numpy() for name in FIELDS}
    shelf = np.maximum(found["on_hand"], 0.0)
    entered = stock.on_hand[:, None] + found["received"].cumsum(-1)
    np.testing.assert_allclose(entered, found["sold"].cumsum(-1) + shelf, atol=1e-9)
    waiting = np.maximum(-found["on_hand"], 0.0)
    lost = 0.0 if ledger.problem.backlog else found["late"].cumsum(-1)
    np.testing.assert_allclose(found["demand"].cumsum(-1), found["sold"].cumsum(-1) + lost + waiting, atol=1e-9)
    assert (found["late"] >= 0).all()
    assert (found["late"] <= found["demand"]).all()


def test_hand_worked_lost_sales() -> None:
    problem = InventoryProblem(1.0, 4.0, 2, trade=Trade(price=10.0, unit_cost=2.0, order_cost=3.0))
    found = simulate(BaseStock(6.0), problem, np.array([[3.0, 2.0, 4.0, 0.0]]), Stock([2.0], [[2.0, 1.0]]))
    done = found.trajectory
    # Step 0: position 5, order 1; 2 + 2 meet 3. Step 1: position 1 + 1 + 1, order 3; 1 + 1 meet 2. Step 2: position 4,
    # order 2; the 1 of step 0 arrives for 4. Step 3: position 5, order 1; 3 arrive and stay.
    assert done.orders.tolist() == [[1.0, 3.0, 2.0, 1.0]]
    assert done.received.tolist() == [[2.0, 1.0, 1.0, 3.0]]
    assert done.sold.tolist() == [[3.0, 2.0, 1.0, 0.0]]
    assert done.on_hand.tolist() == [[1.0, 0.0, 0.0, 3.0]]
    costs = [float(x) for x in (found.holding, found.lost_sales, found.purchase, found.ordering, found.income)]
    assert costs == [4.0, 12.0, 14.0, 12.0, 60.0]
    assert float(found.cost) == 42.0
    assert float(found.profit) == 18.0
    assert found.cost_per_step == 42.0 / 4
    assert found.fill_rate == pytest.approx(6 / 9)
    assert found.cycle_service_level == 0.75
    assert found.turns == pytest.approx(6.0)  # six sold, mean stock one


def test_hand_worked_backlog_and_review() -> None:
    problem = InventoryProblem(1.0, 4.0, 1, review_period=2, backlog=True, discount=0.5)
    found = simulate(BaseStock(5.0), problem, np.array([[3.0, 4.0, 1.0, 1.0]]), Stock([1.0]))
    # Orders of 4 and then 5 - (-2) = 7 in steps 0 and 2. Left: -2; -2 + 4 - 4 = -2; -3; -3 + 7 - 1 = 3.
    assert found.trajectory.orders.tolist() == [[4.0, 0.0, 7.0, 0.0]]
    assert found.trajectory.on_hand.tolist() == [[-2.0, -2.0, -3.0, 3.0]]
    assert found.trajectory.sold.tolist() == [[1.0, 4.0, 0.0, 4.0]]
    assert found.trajectory.late.tolist() == [[2.0, 2.0, 1.0, 0.0]]
    assert float(found.lost_sales) == 4 * (2 + 2 / 2 + 3 / 4)
    assert float(found.holding) == 3 / 8
    assert found.cycle_service_level == 0.0


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 5.0, 100.0, 1e4]),
    lead=st.integers(0, 3),
    review=st.integers(1, 3),
    cover=st.floats(0.5, 20.0),
    backlog=st.booleans(),
)
def test_service_in_float32_is_that_in_float64(
    seed: int, scale: float, lead: int, review: int, cover: float, *, backlog: bool
) -> None:
    """Fractions: units sold, the difference of stocks, carry the rounding error of the stock, not of the demand."""
    random = np.random.default_rng(seed)
    demand = random.gamma(2.0, scale, (2, SERIES, 20)).astype(np.float32)
    problem = InventoryProblem(1.0, 9.0, lead, review, backlog=backlog, rules=OrderRules(case_pack=0.0))
    policies = (BaseStock(2.0 * scale * (lead + cover)), ConstantOrder(2.0 * scale), PerfectForesight(demand[0]))
    for policy in policies:
        ledger = simulate(policy, problem, demand)
        slow = simulate_slowly(policy, problem, demand.astype(np.float64))
        assert ledger.cycle_service_level == slow.cycle_service_level
        assert ledger.fill_rate == pytest.approx(slow.fill_rate, abs=1e-5)
        assert ledger.fill_rate <= 1.0


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1.0), (np.float64, 1e4)])
def test_who_is_never_short_serves_all(dtype: type, size: float) -> None:
    demand = (np.random.default_rng(0).gamma(4.0, 25.0, (50, 200)) * size).astype(dtype)
    problem = InventoryProblem(1.0, 9.0, 2, rules=OrderRules(case_pack=0.0))
    for policy in (BaseStock(2000.0 * size), FixedLot(2000.0 * size, 1.0)):  # in one go, and by steps
        found = simulate(policy, problem, demand, Stock(np.full(50, 1500.0 * size)))
        assert float(found.trajectory.on_hand.min()) > 0
        assert (found.fill_rate, found.cycle_service_level) == (1.0, 1.0)
        assert not found.trajectory.late.any()
        assert not found.lost_sales.any()


def test_one_unit_short_among_millions_is_seen_in_float32() -> None:
    demand = np.full((1, 4), 8e6, dtype=np.float32)
    for backlog in (False, True):
        found = simulate(BaseStock(8e6 - 1), InventoryProblem(1.0, 9.0, 0, backlog=backlog), demand)
        assert found.cycle_service_level == 0.0


@pytest.mark.parametrize("lead", [1, 3])
def test_exact_policies_cost_what_they_should(lead: int) -> None:
    problem = InventoryProblem(1.0, 9.0, lead)
    best = exact.optimal(problem, poisson(5.0))
    demand = np.random.default_rng(lead).poisson(5.0, (100, 5, 400)).astype(np.float64)
    found = simulate(best.policy, problem, demand, warm_up=100)
    assert found.cost_per_step == pytest.approx(best.cost, abs=0.03)  # 150,000 steps: standard error 0.01


def test_gradients_are_the_derivative_of_the_cost() -> None:
    demand, stock = draw(4)
    problem = InventoryProblem(0.7, 3.0, np.array([0, 1, 2]), rules=OrderRules(case_pack=0.0))

    def cost(level: torch.Tensor) -> torch.Tensor:
        return simulate(BaseStock(level), problem, torch.from_numpy(demand), stock).cost.sum()

    level = torch.tensor([6.3, 9.1, 14.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cost, (level,), eps=1e-4)


@pytest.mark.parametrize("lead_time", [2, np.array([1, 2])])
def test_a_summary_is_numbers_whatever_graph_stands_behind_it(lead_time: int | np.ndarray) -> None:
    problem, demand = InventoryProblem(1.0, 9.0, lead_time), np.random.default_rng(0).poisson(4.0, (2, 9)).astype(float)
    trained = simulate(BaseStock(torch.tensor(9.0, requires_grad=True)), problem, demand)
    plain = simulate(BaseStock(9.0), problem, demand)
    assert trained.summary() == plain.summary()  # without a warning of torch, which would end the test
    assert trained.cost_per_step == plain.cost_per_step


def test_gradients_pass_the_rounding() -> None:
    demand, stock = draw(4)
    level = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    found = simulate(BaseStock(level), InventoryProblem(rules=OrderRules(case_pack=4.0)), demand, stock)
    found.cost.sum().backward()
    assert level.grad is not None
    assert float(level.grad) != 0.0
    assert bool((found.trajectory.orders % 4 == 0).all())


class OnceThenRecord:
    """Orders once and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def order(self, state: State) -> np.ndarray:
        self.seen.append(state.pipeline[0].tolist())
        return np.array([8.0 if state.step == 0 else 0.0])


def test_with_random_lead_times_the_future_is_not_seen() -> None:
    problem = InventoryProblem(lead_time=RandomLeadTime((0.0, 0.25, 0.75)))
    found, seen = set(), OnceThenRecord()
    for seed in range(12):
        seen = OnceThenRecord()
        ledger = simulate(seen, problem, np.ones((1, 4)), seed=seed)
        found.add(tuple(ledger.trajectory.received[0].tolist()))
        # One step after the order: a quarter of the chance is on now, the rest on the next step, whatever was drawn.
        assert seen.seen[1] == [2.0, 6.0]
        late = ledger.trajectory.received[0, 1] == 0
        assert seen.seen[2] == ([8.0, 0.0] if late else [0.0, 0.0])
    assert found == {(0.0, 8.0, 0.0, 0.0), (0.0, 0.0, 8.0, 0.0)}


def test_a_forecast_is_demand_to_draw_from(demand: ModuleType) -> None:
    forecast = demand.normal_forecast([20.0, 40.0], [2.0, 4.0], horizon=6)
    found = simulate(NeverOrder(), InventoryProblem(1.0, 2.0), forecast, samples=500, seed=1)
    assert found.cost.shape == (500, 2)
    assert found.cost_per_step == pytest.approx(2.0 * 30.0, rel=0.01)  # all demand is lost
    again = simulate(NeverOrder(), InventoryProblem(1.0, 2.0), forecast, samples=500, seed=1)
    assert torch.equal(found.cost, again.cost)


@pytest.mark.parametrize("policy", [BaseStock(9.0), FixedLot(5.0, 3.0)])
def test_demand_is_taken_as_it_lies_in_memory(policy: Policy) -> None:
    problem, plain = InventoryProblem(1.0, 9.0, 2), np.random.default_rng(0).poisson(4.0, (2, 3, 12)).astype(float)
    kinds = [plain.astype(kind) for kind in (np.float16, ">f8")]
    tensors = [torch.tensor(plain, dtype=kind) for kind in (torch.float16, torch.bfloat16)]
    fixed = np.broadcast_to(plain, plain.shape)  # read-only
    for demand in (*kinds, *tensors, fixed, np.asfortranarray(plain), plain[..., ::-1].copy()[..., ::-1]):
        cost = simulate(policy, problem, demand).cost
        np.testing.assert_array_equal(cost, simulate(policy, problem, plain).cost)


@pytest.mark.parametrize("lead_time", [0, 2, np.array([1, 2, 0]), RandomLeadTime((0.5, 0.5))])
@pytest.mark.parametrize("rules", [OrderRules(), OrderRules(case_pack=0.0)])
def test_orders_are_spread_over_series_and_scenarios(
    lead_time: int | np.ndarray | RandomLeadTime, rules: OrderRules
) -> None:
    problem, demand = InventoryProblem(1.0, 9.0, lead_time, rules=rules), np.full((2, 3, 10), 4.0)

    @dataclass
    class Fixed:
        answer: Any

        def order(self, state: State) -> Any:  # noqa: ANN401, ARG002
            return self.answer

    for run in (simulate, simulate_slowly):
        whole = run(Fixed(np.full((2, 3), 5.0)), problem, demand).summary()
        for few in (5.0, np.array([5.0]), np.full(3, 5.0), np.full((2, 1), 5.0)):
            assert run(Fixed(few), problem, demand).summary() == pytest.approx(whole)
        for wrong in (np.full(2, 5.0), np.full((4, 2, 3), 5.0)):
            with pytest.raises(ArgumentError, match=r"the policy ordered an array of shape .* stock of shape \(2, 3\)"):
                run(Fixed(wrong), problem, demand)


def test_bad_input_is_refused() -> None:
    problem, ones = InventoryProblem(), np.ones((2, 5))
    with pytest.raises(ArgumentError, match="lead_time 5 lies beyond the 5 steps of demand"):
        simulate(NeverOrder(), replace(problem, lead_time=5), ones)
    with pytest.raises(ArgumentError, match="got nan for series 1, step 2"):
        simulate(NeverOrder(), problem, np.where(np.arange(10).reshape(2, 5) == 7, np.nan, 1.0))
    with pytest.raises(ArgumentError, match=r"demand must have shape \[series, time\]"):
        simulate(NeverOrder(), problem, np.ones((2, 0)))
    with pytest.raises(ArgumentError, match="there is stock for 1 series, but demand for 2"):
        simulate(NeverOrder(), problem, ones, Stock([1.0]))
    with pytest.raises(ArgumentError, match=r"warm_up must lie in 0..4, got 5"):
        simulate(NeverOrder(), problem, ones, warm_up=5)
    with pytest.raises(ArgumentError, match=r"demand must have shape .*, got \(0, 5\)"):
        simulate(NeverOrder(), problem, ones[:0])
    with pytest.raises(ArgumentError, match="the policy ordered -1 for series 0 in step 0"):
        simulate(ConstantOrder(torch.tensor(-1.0)), replace(problem, rules=OrderRules(case_pack=0.0)), ones)
    random = replace(problem, lead_time=RandomLeadTime((0.5, 0.5)))
    with pytest.raises(ArgumentError, match=r"seed must be an integer from 0 .* got -1"):
        simulate(NeverOrder(), random, ones, seed=-1)
    with pytest.raises(ArgumentError, match="lot must be above 0, got 0"):
        FixedLot(1.0, 0.0)


def test_demand_may_be_lists_or_a_frame() -> None:
    demand = np.random.default_rng(0).poisson(5, (2, 20)).astype(float)
    for given_as in (demand.tolist(), pd.DataFrame(demand), pl.DataFrame(demand)):
        np.testing.assert_array_equal(_numbers(given_as), demand)
