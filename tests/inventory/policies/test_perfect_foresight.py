# SPDX-License-Identifier: Apache-2.0
"""Perfect foresight: by hand, and that no policy is cheaper."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    BaseStock,
    ConstantOrder,
    InventoryProblem,
    OrderRules,
    PerfectForesight,
    RandomLeadTime,
    State,
    Stock,
    Trade,
    simulate,
)
from sirdar.testing.policies import check_policy

FREE = OrderRules(case_pack=0.0)


def test_conformance() -> None:
    demand = np.random.default_rng(0).poisson(4.0, (3, 8)).astype(np.float64)
    for problem in (
        InventoryProblem(1.0, 9.0, 2),
        InventoryProblem(1.0, 9.0, np.array([0, 1, 3]), np.array([1, 2, 3])),
        InventoryProblem(1.0, 9.0, 1, backlog=True),
    ):
        check_policy(PerfectForesight(demand), problem, series=3)


def test_orders_arrive_just_in_time() -> None:
    demand = np.array([[3.0, 1.0, 4.0, 1.0, 5.0, 9.0]])
    ledger = simulate(PerfectForesight(demand), InventoryProblem(1.0, 9.0, 2), demand, Stock([3.0], [[0.0, 1.0]]))
    # Two steps are served by the stock there is; what arrives after the last step is not ordered.
    assert ledger.trajectory.orders.tolist() == [[4.0, 1.0, 5.0, 9.0, 0.0, 0.0]]
    assert float(ledger.cost.sum()) == 0.0


def test_a_unit_is_carried_only_as_long_as_it_pays() -> None:
    demand = np.array([[2.0, 3.0, 4.0]])
    # Every third step one may order: with a holding cost of 1 the third step's units would cost 2 each to carry.
    for lost, order in ((1.5, 5.0), (2.5, 9.0), (0.5, 2.0)):
        problem = InventoryProblem(1.0, lost, 0, review_period=3)
        ordered = PerfectForesight(demand).order(State(np.zeros(1), np.zeros((1, 0)), problem))
        assert ordered.tolist() == [order]
    dear = InventoryProblem(1.0, 2.5, 0, trade=Trade(price=1.0, unit_cost=4.0))
    assert PerfectForesight(demand).order(State(np.zeros(1), np.zeros((1, 0)), dear)).tolist() == [0.0]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    lead=st.integers(0, 3),
    review=st.integers(1, 3),
    lost=st.floats(0.5, 9.0),
    backlog=st.booleans(),
)
def test_nothing_is_cheaper(seed: int, lead: int, review: int, lost: float, *, backlog: bool) -> None:
    random = np.random.default_rng(seed)
    demand = random.poisson(3.0, (4, 12)).astype(np.float64)
    problem = InventoryProblem(1.0, lost, lead, review, backlog=backlog, rules=FREE)
    stock = Stock(random.integers(0, 6, 4), random.integers(0, 4, (4, lead)))
    best = simulate(PerfectForesight(demand), problem, demand, stock).cost
    for rival in (BaseStock(random.uniform(0, 20, 4)), ConstantOrder(random.uniform(0, 9, 4))):
        assert (best <= simulate(rival, problem, demand, stock).cost + 1e-6).all()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    lead=st.integers(0, 2),
    review=st.integers(1, 2),
    discount=st.sampled_from([0.6, 0.9, 1.0]),
    prices=st.sampled_from([(0.0, 0.0), (0.0, 1.0), (3.0, 1.0), (3.0, 2.0)]),
)
def test_no_plan_earns_more(seed: int, lead: int, review: int, discount: float, prices: tuple[float, float]) -> None:
    demand = np.random.default_rng(seed).integers(0, 3, (1, 4)).astype(np.float64)
    lost = float(np.random.default_rng(seed).uniform(0.3, 4.0))
    problem = InventoryProblem(1.0, lost, lead, review, discount=discount, trade=Trade(*prices), rules=FREE)
    plans = np.array(list(product(range(int(demand.sum()) + 1), repeat=len(range(0, 4, review)))), dtype=np.float64)

    class Planned:
        def order(self, state: State) -> torch.Tensor:
            return torch.as_tensor(plans[:, [state.step // review]])

    planned = simulate(Planned(), problem, np.tile(demand, (len(plans), 1, 1))).profit
    assert float(simulate(PerfectForesight(demand), problem, demand).profit) >= float(planned.max()) - 1e-9


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    lead=st.integers(0, 2),
    review=st.integers(1, 4),
    discount=st.sampled_from([0.8, 1.0]),
)
def test_no_plan_costs_less_where_customers_wait(seed: int, lead: int, review: int, discount: float) -> None:
    """All whole orders are tried: with whole demand and stock the best plan is one of them, as costs are linear."""
    random = np.random.default_rng(seed)
    time = 5
    demand = random.integers(0, 3, (1, time)).astype(np.float64)
    hold, wait = random.uniform(0.1, 2.0), random.uniform(0.2, 4.0)
    problem = InventoryProblem(hold, wait, lead, review, backlog=True, discount=discount, rules=FREE)
    stock = Stock(random.integers(0, 3, 1), random.integers(0, 2, (1, lead)))
    # An order that arrives after the end is nobody's.
    useful = [range(int(demand.sum()) + 1) if at + lead < time else range(1) for at in range(0, time, review)]
    plans = np.array(list(product(*useful)), dtype=np.float64)

    class Planned:
        def order(self, state: State) -> torch.Tensor:
            return torch.as_tensor(plans[:, [state.step // review]])

    least = simulate(Planned(), problem, np.tile(demand, (len(plans), 1, 1)), stock).cost.min()
    assert float(simulate(PerfectForesight(demand), problem, demand, stock).cost) <= float(least) + 1e-9


def test_nobody_is_served_who_waits_cheaper_to_the_end() -> None:
    # One unit, wanted in the last step but one's place: carrying it there costs 1, its waiting a single step 0.7.
    demand, problem = np.array([[0.0, 1.0]]), InventoryProblem(1.0, 0.7, 0, 3, backlog=True)
    assert float(simulate(PerfectForesight(demand), problem, demand).cost) == pytest.approx(0.7)


def test_shared_room_is_kept() -> None:
    demand = np.array([[4.0] * 5, [4.0] * 5])
    problem = InventoryProblem(1.0, np.array([2.0, 5.0]), 0, rules=OrderRules(capacity=5.0))
    ledger = simulate(PerfectForesight(demand), problem, demand)
    assert ledger.trajectory.orders[:, 0].tolist() == [1.0, 4.0]  # room goes first to what loses more without it


def test_a_budget_below_what_is_wanted_is_spent() -> None:
    """The best there is by hand: five units a step, each of which earns 3 - 1 at no carrying."""
    demand = np.full((1, 20), 10.0)
    problem = InventoryProblem(0.2, 1.0, 1, trade=Trade(3.0, 1.0), rules=OrderRules(budget=5.0))
    ledger = simulate(PerfectForesight(demand), problem, demand)
    assert ledger.trajectory.orders[0, :-1].tolist() == [5.0] * 19


def test_what_cannot_be_known_is_refused() -> None:
    demand = np.ones((1, 3))
    state = State(np.zeros(2), np.zeros((2, 1)), InventoryProblem(lead_time=1))
    with pytest.raises(ArgumentError, match="demand is known for 1 series, but there is stock for 2"):
        PerfectForesight(demand).order(state)
    random = InventoryProblem(lead_time=RandomLeadTime((0.5, 0.5)))
    with pytest.raises(ArgumentError, match="needs a lead_time that is known, got RandomLeadTime"):
        PerfectForesight(demand).order(State(np.zeros(1), np.zeros((1, 1)), random))
