# SPDX-License-Identifier: Apache-2.0
"""A policy that is made anew."""

from types import ModuleType

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.inventory import BaseStock, InventoryProblem, ProjectedInventory, Rolling, State, simulate


def test_the_latest_policy_orders() -> None:
    policy = Rolling({0: BaseStock(5.0), 2: BaseStock(9.0)})
    ledger = simulate(policy, InventoryProblem(lead_time=1), np.zeros((1, 4)))
    assert ledger.trajectory.orders.tolist() == [[5.0, 0.0, 4.0, 0.0]]


def test_a_rolled_forecast_counts_from_its_own_origin(demand: ModuleType) -> None:
    steps = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    rolled = {k: ProjectedInventory(demand.certain_forecast([steps[0][k : k + 3]])) for k in range(4)}
    problem = InventoryProblem(0.1, 9.0, 2)
    ledger = simulate(Rolling(rolled), problem, np.array(steps)[:, :4])
    assert ledger.trajectory.orders.tolist() == [[3.0, 4.0, 5.0, 6.0]]
    state = State(np.zeros(1), np.zeros((1, 2)), problem, step=3)
    assert (
        Rolling(rolled).order(state).tolist() == rolled[3].order(State(state.on_hand, state.pipeline, problem)).tolist()
    )


def test_one_is_needed_from_the_start() -> None:
    with pytest.raises(ArgumentError, match=r"from step 0 on, got some for steps \[3\]"):
        Rolling({3: BaseStock(5.0)})
