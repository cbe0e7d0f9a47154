# SPDX-License-Identifier: Apache-2.0
"""The optimum of a serial supply chain with backlogged normal demand: Clark and Scarf's echelon base-stock levels.

Clark and Scarf (1960), "Optimal Policies for a Multi-Echelon Inventory Problem", Management Science 6(4), in the
recursion of Chen and Zheng (1994), as in Snyder and Shen (2019), "Fundamentals of Supply Chain Theory", section 6.2:

    C^_j(x) = h_j x + C_(j-1)(x),    C_j(y) = E C^_j(y - D_j),    S_j = argmin C_j,    C_j(x) := C_j(min(x, S_j))

with echelon holding costs h_j, the demand D_j of the lead time of stage j, and C_0(x) = (p + sum h) max(-x, 0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.inventory.checks import require_numbers

WIDTH = 8.0  # deviations of the whole chain's demand on either side of its mean


@dataclass(frozen=True)
class SerialOptimum:
    """Echelon base-stock levels, the stage that meets demand first, and the expected cost per unit of time."""

    levels: tuple[float, ...]
    cost: float


def clark_scarf(
    holding_costs: Sequence[float],
    lead_times: Sequence[float],
    backlog_cost: float,
    mean: float,
    deviation: float,
    step: float | None = None,
) -> SerialOptimum:
    """Optimal echelon base-stock levels of a serial system.

    Args:
        holding_costs: local holding cost of each stage, the one that meets demand first; they must not rise upstream.
        lead_times: to each stage from the next one upstream. Under periodic review with costs counted after demand, add
            1 to the first.
        backlog_cost: per unit and time that demand waits.
        mean: of demand per unit of time.
        deviation: standard deviation of demand per unit of time.
        step: of the grid on which the cost functions are kept; a thousandth of the deviation without it.

    Raises:
        ArgumentError: local holding costs rise upstream, or a number is negative, or 0 where there must be some.
    """
    local = np.atleast_1d(require_numbers(np.array(holding_costs, dtype=np.float64), "holding_costs"))
    leads = np.atleast_1d(require_numbers(np.array(lead_times, dtype=np.float64), "lead_times"))
    require_numbers(mean, "mean")
    step = deviation / 1000 if step is None else step
    for name, value in (("backlog_cost", backlog_cost), ("deviation", deviation), ("step", step)):
        if not (math.isfinite(value) and value > 0):
            msg = f"{name} must be a number above 0, got {value!r}"
            raise ArgumentError(msg)
    echelon = local - np.append(local[1:], 0.0)
    if len(local) != len(leads) or not leads.any() or bool((echelon < 0).any()):
        msg = (
            "each stage needs a lead time, not all of them 0, and local holding costs must not rise upstream, got "
            f"{local.tolist()} and {leads.tolist()}"
        )
        raise ArgumentError(msg)
    total = float(leads.sum())
    spread = WIDTH * deviation * math.sqrt(total)
    # Below, shortage is linear and is continued as such; above, no level is ever best.
    grid = np.arange(-mean * total - spread, mean * total + spread, step)
    passed = (backlog_cost + local[0]) * np.maximum(-grid, 0.0)
    levels, cost = [], 0.0
    for rate, lead in zip(echelon.tolist(), leads.tolist(), strict=True):
        expected = rate * grid + passed
        if lead:  # what takes no time meets no demand
            expected = _expect(expected, step, NormalDist(mean * lead, deviation * math.sqrt(lead)))
        best = int(np.argmin(expected))
        levels.append(float(grid[best]))
        cost = float(expected[best])
        passed = np.where(grid < grid[best], expected, cost)
    return SerialOptimum(tuple(levels), cost)


def _expect(values: np.ndarray, step: float, demand: NormalDist) -> np.ndarray:
    """E values(y - D) on the grid, the values continued linearly on both sides."""
    low, high = demand.mean - WIDTH * demand.stdev, demand.mean + WIDTH * demand.stdev
    units = np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    edges = np.array([demand.cdf(float(u)) for u in (np.append(units, units[-1] + 1) - 0.5) * step])
    chances = np.diff(edges) / (edges[-1] - edges[0])
    before, after = max(0, int(units[-1])), max(0, -int(units[0]))  # grid points needed on either side
    below = values[0] + (values[1] - values[0]) * np.arange(-before, 0)
    above = values[-1] + (values[-1] - values[-2]) * np.arange(1, after + 1)
    padded = np.concatenate([below, values, above])
    length = len(padded) + len(chances) - 1
    mixed = np.fft.irfft(np.fft.rfft(padded, length) * np.fft.rfft(chances, length), length)
    return mixed[before - int(units[0]) :][: len(values)]
