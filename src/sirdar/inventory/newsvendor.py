# SPDX-License-Identifier: Apache-2.0
"""The newsvendor in closed form: one order, one demand, a price for each unit too many and each too few.

The best level is the p / (p + h) quantile of demand; its cost with normal demand is (p + h) sigma phi(z). Snyder and
Shen (2019), "Fundamentals of Supply Chain Theory", 2nd edition, section 4.3.
"""

from statistics import NormalDist

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.inventory.distributions import quantile, require_probabilities


def newsvendor_normal(holding_cost: float, lost_sale_cost: float, mean: float, deviation: float) -> tuple[float, float]:
    """The best level for normal demand, and its expected cost.

    Raises:
        ArgumentError: a cost or the deviation is not above 0.
    """
    _require_above_zero(holding_cost=holding_cost, lost_sale_cost=lost_sale_cost, deviation=deviation)
    score = NormalDist().inv_cdf(lost_sale_cost / (lost_sale_cost + holding_cost))
    cost = (lost_sale_cost + holding_cost) * deviation * NormalDist().pdf(score)
    return mean + deviation * score, cost


def newsvendor_discrete(holding_cost: float, lost_sale_cost: float, demand: np.ndarray) -> tuple[int, float]:
    """The best level for demand with probabilities of 0, 1, 2, ... units, and its expected cost.

    Raises:
        ArgumentError: a cost is not above 0, or the probabilities are none.
    """
    _require_above_zero(holding_cost=holding_cost, lost_sale_cost=lost_sale_cost)
    chances = require_probabilities(demand)
    level = quantile(chances, lost_sale_cost / (lost_sale_cost + holding_cost))
    return level, float(step_costs(holding_cost, lost_sale_cost, chances, level)[level])


def step_costs(holding_cost: float, lost_sale_cost: float, demand: np.ndarray, limit: int) -> np.ndarray:
    """Expected cost of one step for a stock of 0, 1, ..., limit before demand: h E(x - D)^+ + p E(D - x)^+."""
    gap = np.arange(limit + 1)[:, None] - np.arange(len(demand))[None, :]
    return (holding_cost * np.maximum(gap, 0) + lost_sale_cost * np.maximum(-gap, 0)) @ demand


def _require_above_zero(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            msg = f"{name} must be above 0, got {value!r}"
            raise ArgumentError(msg)
