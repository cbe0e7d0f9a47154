# SPDX-License-Identifier: Apache-2.0
"""Lots of known demand: by hand, and against every plan there is."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.inventory import InventoryProblem, OrderRules, PerfectForesight, State, Stock, Trade, simulate

FREE = OrderRules(case_pack=0.0)


@pytest.mark.parametrize(
    ("order_cost", "orders"),
    [
        (0.5, [3.0, 1.0, 4.0, 2.0]),  # the least that carrying would cost is 1
        (1.5, [4.0, 0.0, 4.0, 2.0]),
        (2.5, [4.0, 0.0, 6.0, 0.0]),
        (12.0, [0.0, 0.0, 6.0, 0.0]),  # the first pair earns 11: 4 times 3 less 1 carried
        (17.0, [0.0] * 4),  # the second one 16
    ],
)
def test_orders_are_brought_together(order_cost: float, orders: list[float]) -> None:
    demand = np.array([[3.0, 1.0, 4.0, 2.0]])
    problem = InventoryProblem(1.0, 3.0, 0, trade=Trade(order_cost=order_cost))
    done = simulate(PerfectForesight(demand), problem, demand)
    assert done.trajectory.orders.tolist() == [orders]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lead=st.integers(0, 2),
    review=st.integers(1, 2),
    discount=st.sampled_from([0.8, 1.0]),
    trade=st.sampled_from([(0.0, 0.0, 0.5), (0.0, 0.0, 2.0), (3.0, 1.0, 3.0)]),
)
def test_no_plan_earns_more(
    seed: int, lead: int, review: int, discount: float, trade: tuple[float, float, float]
) -> None:
    """All whole orders are tried, with stock on hand and under way."""
    random, time = np.random.default_rng(seed), 3 + review
    demand = random.choice([0.0, 1.0, 2.0], (1, time), p=[0.4, 0.3, 0.3])
    hold, lost = random.choice([0.1, 0.5, 1.0]), random.uniform(0.3, 4.0)
    problem = InventoryProblem(hold, lost, lead, review, discount=discount, trade=Trade(*trade))
    stock = Stock(random.integers(0, 4, 1), random.integers(0, 2, (1, lead)))
    useful = [range(int(demand.sum()) + 1) if at + lead < time else range(1) for at in range(0, time, review)]
    plans = np.array(list(product(*useful)), dtype=np.float64)

    class Planned:
        def order(self, state: State) -> torch.Tensor:
            return torch.as_tensor(plans[:, [state.step // review]])

    most = simulate(Planned(), problem, np.tile(demand, (len(plans), 1, 1)), stock).profit.max()
    assert float(simulate(PerfectForesight(demand), problem, demand, stock).profit) >= float(most) - 1e-6


def test_series_keep_their_own_times_and_costs() -> None:
    """Each as if it were alone; half units too."""
    random = np.random.default_rng(3)
    demand = random.gamma(1.0, 3.0, (4, 20))
    times, dear = (np.array([0, 1, 2, 3]), np.array([3, 1, 2, 1])), Trade(order_cost=np.array([0.0, 2.0, 9.0, 30.0]))
    problem = InventoryProblem(0.3, np.array([1.0, 2.0, 3.0, 4.0]), *times, trade=dear, rules=FREE)
    together = np.asarray(simulate(PerfectForesight(demand), problem, demand).cost)
    for row in range(4):
        some = np.array([row])
        alone = simulate(PerfectForesight(demand[some]), problem.take(some), demand[some])
        assert float(alone.cost) == pytest.approx(together[row], rel=1e-12)
