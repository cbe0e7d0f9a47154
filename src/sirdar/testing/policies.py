# SPDX-License-Identifier: Apache-2.0
"""Conformance of a policy: what every rule that orders must do, to run on your own."""

import copy

import numpy as np

from sirdar.inventory.policy import Policy, State
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.reference import simulate_slowly
from sirdar.inventory.simulator import simulate
from sirdar.inventory.terms import RandomLeadTime


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
    _check_memory(policy, on_hand, problem)
    _check_axes(policy, on_hand, problem)
    demand = rng.poisson(4.0, (2, series, steps)).astype(np.float64)
    fast = simulate(policy, problem, demand, Stock(on_hand), seed=seed)
    slow = simulate_slowly(policy, problem, demand, Stock(on_hand), seed=seed)
    close = np.allclose(fast.trajectory.orders.detach().numpy(), slow.trajectory.orders, atol=1e-3)
    assert close, "torch and numpy states must give the same orders"
    # What `up_to` says, if the policy says it, is what the cost of the fast simulation is made of.
    assert np.allclose(fast.cost.detach().numpy(), slow.cost, rtol=1e-3, atol=1e-3), "up_to must say what order does"


def _state(on_hand: np.ndarray, problem: InventoryProblem, step: int = 0) -> State:
    """A state with as much under way in every step as an order placed before can bring."""
    width = Stock(np.zeros(on_hand.shape[-1])).columns(problem).shape[-1]
    lead = width if isinstance(problem.lead_time, RandomLeadTime) else problem.lead_time
    comes = np.arange(width) < np.reshape(lead, (-1, 1))
    pipeline = np.where(comes, np.arange(1.0, width + 1), 0.0) * np.ones((*on_hand.shape, 1))
    return State(on_hand, pipeline, problem, step, [on_hand * 0 + 1.0 for _ in range(step)])


def _check_memory(policy: Policy, on_hand: np.ndarray, problem: InventoryProblem) -> None:
    """An order follows from the state alone, and leaves it as it is."""
    fresh, state, later = _copied(policy), _state(on_hand, problem), _state(on_hand, problem, step=3)
    kept = [array.copy() for array in (on_hand, state.pipeline, *later.sales)]
    first, third = _checked(policy, state), _checked(policy, later)
    left = all(map(np.array_equal, kept, (on_hand, state.pipeline, *later.sales)))
    assert left, "a policy must not change the state, neither on_hand nor pipeline nor sales"
    assert np.array_equal(first, _checked(policy, state)), "the same state must give the same order twice"
    _checked(policy, _state(on_hand + 5, problem, step=2))
    again = _checked(policy, _state(on_hand, problem, step=3))
    assert np.array_equal(third, again), "an order must follow from the state alone, not from orders placed before"
    _checked(fresh, _state(on_hand + 5, problem))
    begun = _checked(fresh, _state(on_hand, problem))
    assert np.array_equal(first, begun), "an order must follow from the state alone, not from the first state seen"


def _copied(policy: Policy) -> Policy:
    """The policy as it is before it has seen a state; the policy itself where it holds what cannot be copied."""
    try:
        return copy.deepcopy(policy)
    except (RuntimeError, TypeError):  # of a tensor with a graph behind it, of a handle
        return policy


def _check_axes(policy: Policy, on_hand: np.ndarray, problem: InventoryProblem) -> None:
    """Leading axes are scenarios, as many as there are."""
    each = on_hand + 2.0 * np.arange(6)[:, None]
    alone = np.stack([_checked(policy, _state(row, problem)) for row in each])
    for axes in ((6,), (2, 3)):
        found = _checked(policy, _state(each.reshape(*axes, -1), problem)).reshape(each.shape)
        told = f"scenarios are leading axes, here {len(axes)} of them: each must get the order of its own"
        assert np.allclose(found, alone, atol=1e-4), told


def _checked(policy: Policy, state: State) -> np.ndarray:
    order = policy.order(state)
    found = np.asarray(order.detach() if hasattr(order, "detach") else order)
    assert found.shape == state.on_hand.shape, (
        f"an order has the shape of on_hand {state.on_hand.shape}, got {found.shape}"
    )
    assert np.isfinite(found).all(), "an order must be a number"
    assert (found >= 0).all(), f"an order must not be negative, got {found.min():g}"
    return found
