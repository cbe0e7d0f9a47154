# SPDX-License-Identifier: Apache-2.0
"""Demand as simulators take it: histories, sample paths, or a forecast to draw from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.predictive import Forecast


def paths(
    demand: Float[Any, "*batch series time"] | Sequence[Any] | Forecast, samples: int, seed: int, *, later: bool = False
) -> Float[Any, "*batch series time"]:
    """Demand per step: an array as it is, lists as one, or a forecast's sample paths [sample, series, time] from 0 up.

    Whoever says `later` asks `none_below_zero` of each step as it comes, while it is in the cache, and then
    `require_demand` for the sentence.

    Raises:
        ArgumentError: demand is not a number somewhere, negative, or has no series or no time.
    """
    if isinstance(demand, Forecast):
        return np.maximum(np.moveaxis(demand.sample(samples, seed=seed), -1, 0), 0.0)
    array = _numbers(demand)
    if array.ndim < 2 or 0 in array.shape:
        msg = f"demand must have shape [series, time] or [..., series, time], got {tuple(array.shape)}"
        raise ArgumentError(msg)
    if not later:
        require_demand(array)
    return array


def _numbers(demand: Any) -> Any:  # noqa: ANN401
    """An array of numbers: as it is, or made of lists or a frame."""
    if hasattr(demand, "dtype") and getattr(demand.dtype, "kind", "f") in "biuf":  # torch has no kind, and no texts
        return demand
    try:
        return np.asarray(demand, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"demand must be numbers of shape [series, time] or [..., series, time]: {error}"
        raise ArgumentError(msg) from None


def require_demand(demand: Float[Any, "*batch series time"]) -> None:
    """Refuse demand that is negative or no number."""
    if not none_below_zero(demand):
        demand = _plain(demand)
        at = tuple(int(x) for x in np.argwhere(~(np.asarray(demand) >= 0))[0])
        where = f"for series {at[-2]}, step {at[-1]}"
        msg = f"demand must be numbers that are not negative, got {float(demand[at]):g} {where}"
        raise ArgumentError(msg)


def require_fitting(problem: InventoryProblem, shape: tuple[int, ...], stock: Stock | None, warm_up: int) -> Stock:
    """The starting stock, once problem, demand and stock agree on series and time."""
    series, time = shape[-2:]
    problem.require_series(series)
    if problem.longest_lead_time >= time:
        msg = f"lead_time {problem.longest_lead_time} lies beyond the {time} steps of demand: no order would arrive"
        raise ArgumentError(msg)
    if not 0 <= warm_up < time:
        msg = f"warm_up must lie in 0..{time - 1}, got {warm_up}"
        raise ArgumentError(msg)
    start = Stock.empty(series) if stock is None else stock
    if len(start.on_hand) != series:
        msg = f"there is stock for {len(start.on_hand)} series, but demand for {series}"
        raise ArgumentError(msg)
    return start


def require_order(order: Float[Any, "*batch series"], step: int) -> None:
    """Refuse a policy that orders less than nothing, or what is no number."""
    if not none_below_zero(order):
        at = tuple(int(x) for x in np.argwhere(~(np.asarray(order) >= 0))[0])
        where = f"for series {at[-1]} in step {step}"
        msg = f"the policy ordered {float(order[at]):g} {where}: orders must be numbers that are not negative"
        raise ArgumentError(msg)


def require_order_shape(given: tuple[int, ...], wanted: tuple[int, ...], step: int) -> None:
    """Refuse orders that are neither one per series and scenario nor can be spread to it, as one number can."""
    pairs = zip(given[::-1], wanted[::-1], strict=False)
    if len(given) > len(wanted) or any(mine not in (1, theirs) for mine, theirs in pairs):
        msg = f"the policy ordered an array of shape {given} in step {step}, but there is stock of shape {wanted}"
        raise ArgumentError(msg)


def none_below_zero(units: Any) -> bool:  # noqa: ANN401
    """Whether all are numbers and none is negative. In main memory numpy finds the least several times sooner."""
    units = _plain(units)
    least = np.asarray(units).min() if str(getattr(units, "device", "cpu")) == "cpu" else units.min()
    return bool(least >= 0)  # NaN is not


def _plain(units: Any) -> Any:  # noqa: ANN401
    """The same without the graph that may stand behind it, with which torch hands nothing to numpy."""
    return units.detach() if getattr(units, "requires_grad", False) else units
