# SPDX-License-Identifier: Apache-2.0
"""A simulation in one go against the slow reference, and its gradients against those of the simulation by steps."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import (
    BaseStock,
    CappedBaseStock,
    ConstantOrder,
    InventoryProblem,
    Ledger,
    MinMax,
    NeverOrder,
    OrderRules,
    Policy,
    RandomLeadTime,
    State,
    Stock,
    Trade,
    rollout,
    simulate,
)
from sirdar.inventory.fused import has_numba
from sirdar.inventory.reference import simulate_slowly

pytestmark = pytest.mark.skipif(not has_numba(), reason="numba is not installed")
COSTS = ("holding", "lost_sales", "purchase", "ordering", "income", "cost", "profit")
SERIES, TIME = 3, 9
FREE = OrderRules(case_pack=0.0)


@dataclass(frozen=True)
class ByStep:
    """Hides what a policy is, so that it is asked in every step."""

    policy: Policy

    def order(self, state: State) -> object:
        return self.policy.order(state)


def draw(seed: int) -> tuple[np.ndarray, Stock]:
    rng = np.random.default_rng(seed)
    demand = rng.poisson(rng.uniform(0, 8, (2, SERIES, 1)), (2, SERIES, TIME)).astype(np.float64)
    return demand, Stock(rng.integers(0, 9, SERIES) * (seed % 3 > 0))


def rolled(policy: Policy, problem: InventoryProblem, demand: np.ndarray | torch.Tensor, stock: Stock) -> Ledger:
    ledger = simulate(policy, problem, demand, stock, warm_up=1)
    assert ledger.sums is not None
    assert set(ledger.sums) == {"held", "short", "ordered", "placed"}
    return ledger


PROBLEMS = st.builds(
    InventoryProblem,
    holding_cost=st.floats(0.1, 2.0),
    lost_sale_cost=st.lists(st.floats(0.5, 20.0), min_size=SERIES, max_size=SERIES).map(np.array),
    lead_time=st.one_of(st.integers(0, 4), st.just(np.array([2, 2, 2]))),
    review_period=st.integers(1, 3),
    backlog=st.booleans(),
    discount=st.sampled_from([1.0, 0.95]),
    trade=st.builds(Trade, price=st.floats(0, 5), unit_cost=st.floats(0, 2), order_cost=st.floats(0, 9)),
    rules=st.sampled_from(
        [FREE, OrderRules(), OrderRules(5.0, 4.0), OrderRules(np.array([0.0, 3.5, 7.0]), np.array([0.0, 2.0, 0.0]))]
    ),
)
POLICIES = st.sampled_from(
    [
        NeverOrder(),
        BaseStock(np.array([3.0, 12.0, 30.5])),
        BaseStock(np.arange(6.0).reshape(2, 3) * 5),
        CappedBaseStock(20.0, np.array([6.5, 0.0, 4.0])),
        MinMax(np.array([5.0, -1.0, 9.0]), 14.0),
        ConstantOrder(np.array([3.25, 0.0, 8.0])),
    ]
)


@settings(max_examples=80)
@given(problem=PROBLEMS, policy=POLICIES, seed=st.integers(0, 1000))
def test_costs_are_those_of_the_slow_reference(problem: InventoryProblem, policy: Policy, seed: int) -> None:
    demand, stock = draw(seed)
    found, slow = rolled(policy, problem, demand, stock), simulate_slowly(policy, problem, demand, stock, warm_up=1)
    for name in COSTS:
        np.testing.assert_allclose(getattr(found, name).numpy(), getattr(slow, name), atol=1e-9, err_msg=name)
    assert found.summary() == pytest.approx(slow.summary(), abs=1e-9)  # asks for the trajectory


@settings(max_examples=60)
@given(problem=PROBLEMS, seed=st.integers(0, 1000), scalar=st.booleans(), whole=st.booleans())
def test_gradients_are_those_of_the_steps(problem: InventoryProblem, seed: int, *, scalar: bool, whole: bool) -> None:
    # Whole numbers meet ties all the time: demand equal to stock, nothing missing to the level, just the cap missing.
    demand, stock = draw(seed)
    random = torch.Generator().manual_seed(seed)
    found = []
    for hide in (False, True):
        random.manual_seed(seed)
        level, cap = (
            (torch.rand(1 if scalar else SERIES, generator=random, dtype=torch.float64) * most) for most in (30.0, 9.0)
        )
        level, cap = ((x.round() if whole else x).requires_grad_() for x in (level, cap))
        policy: Policy = CappedBaseStock(level, cap)
        weights = torch.rand((2, SERIES), generator=random, dtype=torch.float64)
        ledger = simulate(ByStep(policy) if hide else policy, problem, demand, stock, warm_up=1)
        (ledger.profit * weights).sum().backward()
        found.append((level.grad, cap.grad))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backlog", [False, True])
def test_gradients_are_finite_differences(*, backlog: bool) -> None:
    demand, stock = draw(4)
    trade = Trade(price=2.0, unit_cost=0.3)
    problem = InventoryProblem(0.7, 3.0, 2, 2, backlog=backlog, discount=0.9, trade=trade, rules=FREE)

    def profit(level: torch.Tensor, cap: torch.Tensor) -> torch.Tensor:
        return simulate(CappedBaseStock(level, cap), problem, torch.from_numpy(demand), stock).profit.sum()

    level = torch.tensor([6.3, 9.1, 34.7], dtype=torch.float64, requires_grad=True)
    cap = torch.tensor([100.2, 7.7, 5.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(profit, (level, cap), eps=1e-4)


@pytest.mark.parametrize("pack", [0.01, 0.1, 0.3, 1.0])
def test_rounding_error_buys_no_pack_more_than_by_steps(pack: float) -> None:
    """In float32, k packs over the size of one are k but for a few steps of its precision."""
    counts = np.arange(1, 2001)
    level = torch.tensor(counts * pack, dtype=torch.float32)
    problem = InventoryProblem(1.0, 9.0, 0, rules=OrderRules(case_pack=pack))
    found = simulate(BaseStock(level), problem, torch.zeros((2000, 1)))
    assert found.sums is not None
    for ordered in (found.sums["ordered"], found.trajectory.orders[:, 0]):  # in one go, and by steps
        np.testing.assert_array_equal(np.round(ordered.numpy() / pack), counts)


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    demand = torch.poisson(torch.full((1100, 60), 5.0), generator=torch.Generator().manual_seed(1))
    problem, before = InventoryProblem(1.0, 9.0, 2), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            monkeypatch.setattr(rollout, "_SHARE", 1)
            level = torch.linspace(5, 30, 1100).requires_grad_()
            ledger = simulate(BaseStock(level), problem, demand)
            ledger.cost.sum().backward()
            found.append((ledger.cost.detach(), level.grad))
    finally:
        torch.set_num_threads(before)
    by_step = simulate(ByStep(BaseStock(torch.linspace(5, 30, 1100))), problem, demand)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][0], by_step.cost, rtol=1e-6, atol=1e-3)


def test_the_trajectory_is_that_of_the_policy_as_it_was() -> None:
    demand, stock = draw(7)
    level = torch.tensor(12.0, dtype=torch.float64, requires_grad=True)
    problem = InventoryProblem(lead_time=1, rules=FREE)
    ledger = simulate(BaseStock(level), problem, demand, stock)
    orders = simulate(ByStep(BaseStock(12.0)), problem, demand, stock).trajectory.orders
    with torch.no_grad():
        level += 5.0
    assert torch.equal(ledger.trajectory.orders, orders)
    fresh = simulate(BaseStock(level), problem, demand, stock)
    fresh.trajectory.orders.sum().backward()
    assert level.grad is not None
    assert float(level.grad) > 0


@pytest.mark.parametrize(
    "problem",
    [
        InventoryProblem(lead_time=RandomLeadTime((0.5, 0.5))),
        InventoryProblem(lead_time=np.array([1, 2, 1])),
        InventoryProblem(review_period=np.array([1, 2, 1])),
        InventoryProblem(rules=OrderRules(shelf=20.0)),
        InventoryProblem(rules=OrderRules(capacity=300.0)),
    ],
)
def test_other_problems_are_taken_by_steps(problem: InventoryProblem) -> None:
    ledger = simulate(BaseStock(12.0), problem, draw(1)[0])
    assert ledger.sums is None or "ordered" not in ledger.sums


def test_refusals_are_the_same_sentences() -> None:
    demand = draw(1)[0]
    for policy, sentence in (
        (CappedBaseStock(12.0, torch.tensor(-1.0)), "the policy ordered -1 for series 0 in step 0"),
        (BaseStock(torch.tensor(math.nan)), "the policy ordered nan for series 0 in step 0"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            simulate(policy, InventoryProblem(rules=FREE), demand)
    for wrong in (-2.0, math.nan):
        demand[1, 2, 5] = wrong
        with pytest.raises(ArgumentError, match=f"got {wrong:g} for series 2, step 5"):
            simulate(BaseStock(12.0), replace(InventoryProblem(), lead_time=1), demand)
