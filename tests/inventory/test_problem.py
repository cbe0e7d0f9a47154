# SPDX-License-Identifier: Apache-2.0
"""Problems and stocks: what is refused, in which words, and the arithmetic of costs."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.inventory import InventoryProblem, OrderRules, RandomLeadTime, Stock, Trade
from sirdar.inventory.checks import require_integers, require_numbers
from sirdar.inventory.terms import permitted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"holding_cost": -0.1}, "holding_cost must not be negative, got -0.1"),
        ({"lost_sale_cost": float("nan")}, "lost_sale_cost must be finite, got nan"),
        ({"lost_sale_cost": np.array([1.0, -2.0])}, "lost_sale_cost must not be negative, got -2 for series 1"),
        ({"lead_time": -1}, "lead_time must not be negative, got -1"),
        ({"lead_time": np.array([1.5])}, "lead_time must be a whole number of steps, got 1.5 for series 0"),
        ({"review_period": 0}, "review_period must be at least 1, got 0"),
        ({"holding_cost": 0.0}, r"the critical ratio must lie in \(0, 1\), got 1 \(series 0\)"),
        ({"lost_sale_cost": 0.0}, r"the critical ratio must lie in \(0, 1\), got 0 \(series 0\)"),
        ({"holding_cost": 0.0, "lost_sale_cost": 0.0}, r"the critical ratio must lie in \(0, 1\), got nan"),
        ({"discount": 0.0}, r"discount must be one number in \(0, 1\], got 0.0"),
        ({"holding_cost": np.ones(2), "lost_sale_cost": np.ones(3)}, "values per series must be equally many"),
        (
            {"rules": OrderRules(np.array([1.0, 20.0]), 12.0, capacity=40.0, volume=2.0)},
            "the least order of series 1, 24 units, fills 48 of room, but the capacity is 40: 8 too much",
        ),
        (
            {"rules": OrderRules(case_pack=12.0, shelf=np.array([20.0, 10.0]))},
            "the least order of series 1 is 12 units, but its shelf holds 10: 2 too much",
        ),
        (
            {"rules": OrderRules(case_pack=0.0, minimum=5.0, budget=14.0), "trade": Trade(unit_cost=3.0)},
            "the least order of series 0, 5 units, costs 15, but the budget is 14: 1 too much",
        ),
        ({"holding_cost": np.ones((2, 2))}, r"got an array of shape \(2, 2\)"),
    ],
)
def test_bad_problems_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        InventoryProblem(**arguments)


def test_bad_terms_are_refused() -> None:
    with pytest.raises(ArgumentError, match="unit_cost must not be negative, got -1"):
        Trade(unit_cost=-1.0)
    with pytest.raises(ArgumentError, match="shelf must be above 0, got 0 for series 1"):
        OrderRules(shelf=np.array([1.0, 0.0]))
    with pytest.raises(ArgumentError, match="shelf must be finite, got nan"):
        OrderRules(shelf=float("nan"))
    with pytest.raises(ArgumentError, match="capacity must be a number above 0"):
        OrderRules(capacity=0.0)
    with pytest.raises(ArgumentError, match=r"which sum to 0.9"):
        RandomLeadTime((0.5, 0.4))


def test_bad_stock_is_refused() -> None:
    with pytest.raises(ArgumentError, match="on_hand must be finite, got nan for series 1"):
        Stock([1.0, float("nan")])
    with pytest.raises(ArgumentError, match="pipeline must be not negative, got -1 for series 0"):
        Stock([1.0], [[2.0, -1.0]])
    with pytest.raises(ArgumentError, match=r"got \(1,\) and \(2, 1\)"):
        Stock([1.0], [[2.0], [1.0]])
    with pytest.raises(ArgumentError, match="on_hand must not be negative where sales are lost, got -1"):
        Stock([-1.0]).columns(InventoryProblem())
    with pytest.raises(ArgumentError, match=r"3 units for series 0 arriving in step 2, but .* arrives in step 2"):
        Stock([1.0], [[1.0, 2.0, 3.0]]).columns(InventoryProblem(lead_time=2))
    with pytest.raises(ArgumentError, match="values for 3 series, but there are 1"):
        Stock([1.0]).columns(InventoryProblem(holding_cost=np.ones(3)))


def test_the_pipeline_has_one_column_per_step_of_the_longest_lead_time() -> None:
    problem = InventoryProblem(lead_time=np.array([1, 3]))
    columns = Stock([0.0, 0.0], [[4.0, 0.0], [1.0, 2.0]]).columns(problem)
    np.testing.assert_array_equal(columns, [[4.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    assert Stock.empty(2).columns(problem).shape == (2, 3)


def test_critical_ratio_counts_holding_over_the_review_period() -> None:
    assert InventoryProblem(0.2, 1.0).critical_ratio == pytest.approx(1 / 1.2)
    assert InventoryProblem(0.2, 1.0, review_period=4).critical_ratio == pytest.approx(1 / 1.8)
    # Waiting is paid for in every step, and so is holding: the period cancels.
    assert InventoryProblem(0.2, 1.0, review_period=4, backlog=True).critical_ratio == pytest.approx(1 / 1.2)
    # Interest of 1 % on a purchase of 5 adds 0.05 to the holding.
    dear = InventoryProblem(0.2, 1.0, discount=0.99, trade=Trade(unit_cost=5.0))
    assert dear.critical_ratio == pytest.approx(1 / 1.25)
    np.testing.assert_allclose(
        InventoryProblem(np.array([1.0, 1.0]), np.array([9.0, 19.0])).critical_ratio, [0.9, 0.95]
    )


def test_with_a_price_a_lost_sale_costs_its_margin_too() -> None:
    # 0.5 of penalty and 10 - 6 of margin against 1 of holding.
    assert InventoryProblem(1.0, 0.5, trade=Trade(10.0, 6.0)).critical_ratio == pytest.approx(4.5 / 5.5)
    # Without a price the lost-sale cost is the margin, whatever is paid for the units.
    assert InventoryProblem(1.0, 0.5, trade=Trade(unit_cost=6.0)).critical_ratio == pytest.approx(0.5 / 1.5)
    # Who waits buys in the end; and what sells at a loss is worth no stock.
    assert InventoryProblem(1.0, 0.5, backlog=True, trade=Trade(10.0, 6.0)).critical_ratio == pytest.approx(0.5 / 1.5)
    some = InventoryProblem(1.0, 0.5, trade=Trade(np.array([10.0, 0.0, 4.0]), 6.0))
    np.testing.assert_allclose(some.shortage_cost, [4.5, 0.5, 0.0])


def test_cover_is_the_longest_lead_time_plus_review_period() -> None:
    assert InventoryProblem(lead_time=np.array([1, 5]), review_period=np.array([3, 1])).cover == 6
    assert InventoryProblem(lead_time=RandomLeadTime((0.5, 0.25, 0.25, 0.0))).cover == 3


def test_take_keeps_the_values_of_the_rows() -> None:
    problem = InventoryProblem(np.array([1.0, 2.0]), 9.0, rules=OrderRules(case_pack=np.array([6.0, 12.0])))
    part = problem.take(np.array([1]))
    assert part.series == 1
    np.testing.assert_array_equal(part.holding_cost, [2.0])
    np.testing.assert_array_equal(part.rules.case_pack, [12.0])
    assert part.lost_sale_cost == 9.0


def test_values_cannot_be_changed_after_they_were_checked() -> None:
    costs = np.array([1.0, 2.0])
    problem = InventoryProblem(costs, 9.0)
    costs[0] = -1.0
    np.testing.assert_array_equal(problem.holding_cost, [1.0, 2.0])


def test_random_lead_times() -> None:
    lead = RandomLeadTime((0.5, 0.3, 0.2))
    assert lead.mean == pytest.approx(0.7)
    # Not here after one step: it is 1 or 2 steps long, 0.3 against 0.2.
    np.testing.assert_allclose(lead.remaining(1), [0.6, 0.4])
    draws = lead.draw((100_000,), seed=0)
    np.testing.assert_allclose(np.bincount(draws) / len(draws), lead.probabilities, atol=0.006)  # 4 standard errors


def test_permitted_quantities_keep_minimum_and_case_pack() -> None:
    asked = np.array([0.0, 1.0, 5.0, 12.0, 12.0000001, 13.0])
    np.testing.assert_array_equal(permitted(asked, OrderRules(case_pack=6.0)), [0, 6, 6, 12, 12, 18])
    np.testing.assert_array_equal(permitted(asked, OrderRules(minimum=10.0, case_pack=4.0)), [0, 12, 12, 12, 12, 16])
    np.testing.assert_array_equal(
        permitted(asked, OrderRules(minimum=10.0, case_pack=0.0)), np.maximum(asked, [0] + [10] * 5)
    )
    mixed = OrderRules(case_pack=np.array([0.0, 5.0]))
    np.testing.assert_array_equal(permitted(np.array([2.5, 2.5]), mixed), [2.5, 5.0])


def test_importing_inventory_loads_no_torch() -> None:
    code = "import sirdar.inventory, sys; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ArgumentError, match="holding_cost must be a number, or one number per series, got 'much'"):
        require_numbers("much", "holding_cost")
    with pytest.raises(ArgumentError, match=r"lead_time must be a whole number of steps, got 1.5"):
        require_integers(1.5, "lead_time", least=0)
    with pytest.raises(ArgumentError, match="lead_time must be a whole number of steps, got True"):
        require_integers(True, "lead_time", least=0)
    assert InventoryProblem(1, 4).critical_ratio == 0.8  # whole numbers are numbers too


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_shelf_holds_as_many_packs_in_float32(kind: type) -> None:
    position, filled = np.array([-8.0, 999.9], dtype=kind), np.array([29.0, 1000.0])  # 370 packs more, and one
    rules = OrderRules(case_pack=0.1, shelf=filled)
    placed = permitted(np.array([50.0, 50.0], dtype=kind), rules, position)
    np.testing.assert_allclose(placed, [37.0, 0.1], rtol=1e-6)
    least = OrderRules(minimum=1000.0, case_pack=0.1, shelf=1000.0)
    assert permitted(np.array([1000.0], dtype=kind), least, np.zeros(1, dtype=kind)) == pytest.approx(1000.0)


@given(
    asked=st.floats(0, 100),
    position=st.floats(0, 60),
    minimum=st.sampled_from([0.0, 5.0]),
    pack=st.sampled_from([0.0, 1.0, 6.0]),
    shelf=st.sampled_from([12.0, 40.0, np.inf]),
)
def test_orders_never_overfill_a_shelf(
    asked: float, position: float, minimum: float, pack: float, shelf: float
) -> None:
    rules = OrderRules(minimum, pack, shelf=shelf)
    free = permitted(np.array([asked]), rules)[0]
    placed = permitted(np.array([asked]), rules, np.array([position]))[0]
    assert placed <= free
    assert placed <= max(shelf - position, 0.0) + 1e-5
    assert placed == 0 or placed >= rules.least - 1e-5
    if free <= shelf - position:
        assert placed == free
    if pack:
        assert placed % pack == pytest.approx(0, abs=1e-6)
        assert placed + pack > min(free, shelf - position) or placed == 0  # not a pack too few
