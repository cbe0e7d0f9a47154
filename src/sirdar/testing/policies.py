# SPDX-License-Identifier: Apache-2.0
"""Conformance of a policy: what every rule that orders must do, to run on your own."""

import numpy as np

from sirdar.inventory.policy import Policy, State
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.reference import simulate_slowly
from sirdar.inventory.simulator import simulate


def check_policy(policy: object, problem: InventoryProblem, series: int, steps: int = 8, seed: int = 0) -> None:
    """Run a policy through everything that simulators rely on.

    Args:
        policy: the one to check.
        problem: one that it is meant for.
        series: for how many series it orders.
        steps: of demand to run through; more than the lead time.
        seed: of demand and stock.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
    """
    assert isinstance(policy, Policy), f"{policy!r} has no method order(state)"
    rng = np.random.default_rng(seed)
    on_hand = rng.integers(0, 10, series).astype(np.float64)
    pipeline = Stock(on_hand).columns(problem)
    state = State(on_hand, pipeline, problem)
    first = _checked(policy, state)
    kept = on_hand.copy()
    assert np.array_equal(first, _checked(policy, state)), "the same state must give the same order twice"
    assert np.array_equal(on_hand, kept), "a policy must not change the state"
    many = _checked(policy, State(np.stack([on_hand, on_hand + 3]), np.stack([pipeline, pipeline]), problem))
    assert np.allclose(many[0], first, atol=1e-4), "scenarios are leading axes: each must get the order of its own"
    demand = rng.poisson(4.0, (2, series, steps)).astype(np.float64)
    fast = simulate(policy, problem, demand, Stock(on_hand), seed=seed)
    slow = simulate_slowly(policy, problem, demand, Stock(on_hand), seed=seed)
    close = np.allclose(fast.trajectory.orders.detach().numpy(), slow.trajectory.orders, atol=1e-3)
    assert close, "torch and numpy states must give the same orders"
    # What `up_to` says, if the policy says it, is what the cost of the fast simulation is made of.
    assert np.allclose(fast.cost.detach().numpy(), slow.cost, rtol=1e-3, atol=1e-3), "up_to must say what order does"


def _checked(policy: Policy, state: State) -> np.ndarray:
    order = policy.order(state)
    found = np.asarray(order.detach() if hasattr(order, "detach") else order)
    assert found.shape == state.on_hand.shape, (
        f"an order has the shape of on_hand {state.on_hand.shape}, got {found.shape}"
    )
    assert np.isfinite(found).all(), "an order must be a number"
    assert (found >= 0).all(), f"an order must not be negative, got {found.min():g}"
    return found
