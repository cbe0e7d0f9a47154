# SPDX-License-Identifier: Apache-2.0
"""Value iteration for lost sales, compiled: the loops behind `sirdar.inventory.exact`.

A state is the stock x0 that the next demand meets and the orders x1, ..., x(L-1) under way, a *tail*. All states whose
units sum to at most `limit` are kept; those with the same tail are neighbours, x0 rising, so that the expectation over
demand is a short triangular convolution of one row. Importing this module loads numba.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit


class Space(NamedTuple):
    """All states up to a limit, and the demand of one step."""

    limit: int  # most units in a state, after ordering
    tails: np.ndarray  # [tail, L - 1] orders under way, the next to arrive first
    starts: np.ndarray  # [tail] where the row of x0 = 0, 1, ... begins in an array over states
    rests: np.ndarray  # [tail] limit less the units of the tail: the largest x0
    codes: np.ndarray  # [tail] the tail as a number with digits in base limit + 1
    lookup: np.ndarray  # [code] the start of a row
    demand: np.ndarray  # [units] probabilities
    beyond: np.ndarray  # [units] chances that demand is at least so many


@njit(cache=True)
@no_type_check
def _row(space, tail, order):  # noqa: ANN001, ANN202
    """Where the stock that follows demand is looked up: the row of the next tail, from what arrives on."""
    length = space.tails.shape[1]
    if length == 0:
        return order
    base = space.limit + 1
    code = (space.codes[tail] % base ** (length - 1)) * base + order
    return space.lookup[code] + space.tails[tail, 0]


@njit(cache=True)
@no_type_check
def _expected(value, row, stock, space):  # noqa: ANN001, ANN202
    """The mean of value[row + left], left being what demand leaves of the stock."""
    total = space.beyond[stock] * value[row]
    for units in range(min(stock, len(space.demand))):
        total += space.demand[units] * value[row + stock - units]
    return total


@njit(cache=True)
@no_type_check
def _ahead(space, tail, stock, chances, spare):  # noqa: ANN001, ANN202
    """Chances of each stock when an order placed now arrives, that order excluded: filled into `chances`."""
    chances[:] = 0.0
    chances[stock] = 1.0
    length = space.tails.shape[1]
    for step in range(length + 1):
        spare[:] = 0.0
        arriving = space.tails[tail, step] if step < length else 0
        for before in range(space.limit + 1):
            if chances[before] == 0.0:
                continue
            spare[arriving] += chances[before] * space.beyond[before]
            for units in range(min(before, len(space.demand))):
                spare[before - units + arriving] += chances[before] * space.demand[units]
        chances[:] = spare


@njit(cache=True)
@no_type_check
def best_orders(space, value, arrival_cost, best, orders):  # noqa: ANN001, ANN201
    """The order of each state that minimises the cost on its arrival plus the mean value of the next state.

    Args:
        space: the states.
        value: [state] worth of the next state.
        arrival_cost: [units] cost of the step in which the order arrives by the stock in it; zeros to leave it out.
        best: [state] filled with the minima.
        orders: [state] filled with the orders, the least of equals.
    """
    looking = arrival_cost.any()
    chances, spare = np.zeros(space.limit + 1), np.zeros(space.limit + 1)
    for tail in range(len(space.starts)):
        start, rest = space.starts[tail], space.rests[tail]
        for stock in range(rest + 1):
            if looking:
                _ahead(space, tail, stock, chances, spare)
            lowest = np.inf
            for order in range(rest - stock + 1):
                cost = _expected(value, _row(space, tail, order), stock, space)
                if looking:
                    for left in range(space.limit - order + 1):
                        cost += chances[left] * arrival_cost[left + order]
                if cost < lowest - 1e-12:
                    lowest = cost
                    orders[start + stock] = order
            best[start + stock] = lowest


@njit(cache=True)
@no_type_check
def next_rows(space, orders):  # noqa: ANN001, ANN201
    """For each state where the stock that follows its demand is looked up, if it has its order."""
    rows = np.empty(len(orders), dtype=np.int64)
    for tail in range(len(space.starts)):
        start = space.starts[tail]
        for stock in range(space.rests[tail] + 1):
            rows[start + stock] = _row(space, tail, orders[start + stock])
    return rows


@njit(cache=True)
@no_type_check
def reachable(space, rows, stocks):  # noqa: ANN001, ANN201
    """The states that can follow, in any number of steps, on nothing in stock and nothing under way; sorted.

    Args:
        space: the states.
        rows: [state] of `next_rows`.
        stocks: [state] units on hand.
    """
    known = np.zeros(len(rows), dtype=np.bool_)
    waiting = np.empty(len(rows), dtype=np.int64)
    waiting[0], known[0], count = 0, True, 1
    while count:
        count -= 1
        state = waiting[count]
        for left in range(stocks[state] + 1):
            units = stocks[state] - left
            likely = space.beyond[units] > 0 if left == 0 else units < len(space.demand) and space.demand[units] > 0
            after = rows[state] + left
            if likely and not known[after]:
                known[after] = True
                waiting[count] = after
                count += 1
    return np.flatnonzero(known)


@njit(cache=True)
@no_type_check
def follow(space, states, rows, stocks, value, best):  # noqa: ANN001, ANN201
    """The mean value of the next state for some states: best[k] belongs to states[k], value to all states."""
    for k in range(len(states)):
        best[k] = _expected(value, rows[states[k]], stocks[states[k]], space)
