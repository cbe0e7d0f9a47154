# SPDX-License-Identifier: Apache-2.0
"""The compiled step of lost sales against torch's own operations, ties and missing gradients included."""

from collections.abc import Callable
from itertools import product

import pytest
import torch

from sirdar.inventory import BaseStock, InventoryProblem, Ledger, OrderRules, State, simulate
from sirdar.inventory.fused import Shelf, has_numba, serve, serve_plainly

pytestmark = pytest.mark.skipif(not has_numba(), reason="numba is not installed")
UNITS = [torch.tensor(x, dtype=torch.float64) for x in ([[0.0, 5.0], [2.0, 1.5]], [[1.0, 0.0], [1.0, 0.5]])]
WANTED = torch.tensor([[3.0, 2.0], [3.0, 2.0]], dtype=torch.float64)  # the second row is a tie


@pytest.mark.parametrize("used", list(product([False, True], repeat=4))[1:])
def test_values_and_gradients(used: tuple[bool, ...]) -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)
    found = []
    for way in (serve, serve_plainly):
        given = [x.clone().requires_grad_() for x in (UNITS[0], UNITS[0] + 3, *UNITS, UNITS[1], UNITS[1] + 9)]
        outcome = way(Shelf(given[0], given[1], 1 * given[2], 1 * given[3]), given[4], WANTED, given[5], 0.9)
        sum(((k + 2) * weights * x).sum() for k, x in enumerate(outcome) if used[k]).backward()
        found.append(([x.detach() for x in outcome], [x.grad if x.grad is not None else 0 * x for x in given]))
    for mine, other in zip(*(values + grads for values, grads in found), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-14, atol=1e-14)


def test_strided_and_expanded_tensors_are_read_rightly() -> None:
    wide = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    outcomes = []
    for way in (serve, serve_plainly):
        shelf = Shelf(wide.T, wide.T, wide.T.clone(), wide.T.clone())
        outcomes.append(way(shelf, wide[:, :1].T.expand(3, 4), wide.T / 2, wide.T))
    for mine, other in zip(*outcomes, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("way", [serve, serve_plainly])
def test_nothing_is_lost_where_something_is_left(way: Callable[..., Shelf]) -> None:
    wanted = torch.rand((50, 40), generator=torch.Generator().manual_seed(0))
    stock = torch.full((40,), 1234.5)  # 6e-5 are its rounding error
    none = torch.zeros(40)
    shelf = Shelf(stock, stock.clone(), none.clone(), none.clone())
    for one in wanted:
        shelf = way(shelf, none, one, none)
    assert bool((shelf.on_hand > 0).all())
    assert not shelf.lost.any()


def test_sums_are_those_of_the_steps_that_count() -> None:
    demand = torch.poisson(torch.full((3, 4, 40), 5.0), generator=torch.Generator().manual_seed(1))
    problem = InventoryProblem(1.0, 9.0, 2, discount=0.9)
    ledger = simulate(BaseStock(17.0), problem, demand, warm_up=7)
    counted = Ledger(ledger.trajectory, problem, 7)
    for name in ("holding", "lost_sales", "income", "cost"):
        # Counted afterwards, what was lost is the small difference of two large sums in float32.
        torch.testing.assert_close(getattr(ledger, name), getattr(counted, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "most"), [("carried", 1e-3), ("position", 1e-5)])
def test_the_position_does_not_drift(name: str, most: float) -> None:
    # In float32, with fractions, over 2,000 steps: what is carried from step to step, and what is counted anew.
    worst = []

    class Watching:
        def order(self, state: State) -> torch.Tensor:
            drift = getattr(state, name) - state.on_hand - state.pipeline.sum(-1)
            worst.append(drift.abs().max().item())
            return BaseStock(26.3).order(state)

    demand = torch.rand((20, 2000), generator=torch.Generator().manual_seed(0)) * 10
    simulate(Watching(), InventoryProblem(1.0, 9.0, 3, rules=OrderRules(case_pack=0.0)), demand)
    assert max(worst) < most
