# SPDX-License-Identifier: Apache-2.0
"""The loops behind `features.Features`, compiled by numba: statistics of a history, seasonal lags, and sparse rows.

Imported on first use only: it loads numba. Not-a-number stands for whatever is not known.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

QUANTILES = np.array([0.25, 0.5, 0.75, 0.9, 1.0])
MOMENTS = 3  # mean, standard deviation and share of zeros
PACE = 4  # steps since the last sale, steps between sales, size of a sale, share of steps observed
CYCLE = 4  # last season, mean of four, mean of eight, index
_SEASONS = 8
_LONG_CYCLE = 24  # from here on one step of a season is noise: neighbours join


# Functions are unwrapped: under pytest, jaxtyping wraps every one of the package, and numba cannot compile the wrapper.
def _loop(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - numba's dispatcher has no type
    return njit(nogil=True, cache=True)(inspect.unwrap(function))


@_loop
def capped(demand: np.ndarray, indptr: np.ndarray, spike: float, sold: int) -> np.ndarray:
    """Demand of at most `spike` times the mean of the earlier steps that had any, once these are `sold`: [step]."""
    out = demand.copy()
    for i in range(len(indptr) - 1):
        total = 0.0
        count = 0
        for t in range(indptr[i], indptr[i + 1]):
            size = abs(demand[t])
            if np.isnan(size) or size == 0:
                continue
            if count >= sold and size > spike * total / count:
                out[t] = np.sign(demand[t]) * spike * total / count
            total += size
            count += 1
    return out


@_loop
def scales(demand: np.ndarray, begin: np.ndarray, now: np.ndarray, windows: np.ndarray, reference: float) -> np.ndarray:
    """The level of every history: the mean of |demand| over the middle window, with a little of the longest.

    The longest window's mean is itself drawn, on a logarithmic scale and as one observation would, to `reference`: a
    history of nothing is measured by that, a long one by itself alone.
    """
    out = np.empty(len(now))
    near, far = windows[len(windows) // 2], windows[-1]
    for i in range(len(now)):
        recent = total = 0.0
        seen_recent = seen = 0
        for t in range(max(begin[i], now[i] - far), now[i]):
            if not np.isnan(demand[t]):
                total += abs(demand[t])
                seen += 1
                if t >= now[i] - near:
                    recent += abs(demand[t])
                    seen_recent += 1
        average = total / seen if total > 0 else reference / (seen + 1)
        level = np.exp((seen * np.log(average) + np.log(reference)) / (seen + 1))
        out[i] = (recent + level) / (seen_recent + 1)
    return out


@_loop
def moments(
    demand: np.ndarray, begin: np.ndarray, now: np.ndarray, scale: np.ndarray, windows: np.ndarray
) -> np.ndarray:
    """Mean, standard deviation and share of zeros over the last `windows` steps: [pair, 3 windows]."""
    out = np.full((len(now), MOMENTS * len(windows)), np.nan, np.float32)
    for i in range(len(now)):
        total = square = 0.0
        seen = zeros = 0
        t = now[i]
        for j in range(len(windows)):  # windows rise, so each goes on where the one before it ended
            while t > max(begin[i], now[i] - windows[j]):
                t -= 1
                if not np.isnan(demand[t]):
                    value = demand[t] / scale[i]
                    total += value
                    square += value * value
                    seen += 1
                    zeros += demand[t] == 0
            if seen > 0:
                mean = total / seen
                out[i, MOMENTS * j] = mean
                out[i, MOMENTS * j + 1] = np.sqrt(max(square / seen - mean * mean, 0.0))
                out[i, MOMENTS * j + 2] = zeros / seen
    return out


@_loop
def spread(demand: np.ndarray, begin: np.ndarray, now: np.ndarray, scale: np.ndarray, window: int) -> np.ndarray:
    """Quantiles of the last `window` steps: [pair, quantile]."""
    out = np.full((len(now), len(QUANTILES)), np.nan, np.float32)
    held = np.empty(window)
    for i in range(len(now)):
        seen = 0
        for t in range(max(begin[i], now[i] - window), now[i]):
            if not np.isnan(demand[t]):
                held[seen] = demand[t]
                seen += 1
        if seen > 0:
            order = np.sort(held[:seen])
            for k in range(len(QUANTILES)):
                out[i, k] = order[int(np.ceil(QUANTILES[k] * seen)) - 1] / scale[i]
    return out


@_loop
def pace(demand: np.ndarray, begin: np.ndarray, now: np.ndarray, scale: np.ndarray, window: int) -> np.ndarray:
    """How often and how much sells: [pair, 4], steps as log(1 + steps); those not observed do not count."""
    out = np.full((len(now), PACE), np.nan, np.float32)
    for i in range(len(now)):
        since, seen, sales, total = 0, 0, 0, 0.0
        first = max(begin[i], now[i] - window)
        for t in range(first, now[i]):
            if not np.isnan(demand[t]):
                seen += 1
                since += 1
                if demand[t] != 0:
                    sales += 1
                    total += demand[t]
                    since = 1
        if sales > 0:
            out[i, 0] = np.log1p(since)
            out[i, 1] = np.log1p(seen / sales)
            out[i, 2] = total / sales / scale[i]
        if now[i] > first:
            out[i, 3] = seen / (now[i] - first)
    return out


@_loop
def seasonal(
    demand: np.ndarray, begin: np.ndarray, now: np.ndarray, scale: np.ndarray, step: np.ndarray, cycle: int
) -> np.ndarray:
    """What the target step's own place in a cycle brought in the cycles before: [pair, steps, 4]."""
    out = np.full((len(now), step.shape[1], CYCLE), np.nan, np.float32)
    reach = 1 if cycle >= _LONG_CYCLE else 0
    for i in range(len(now)):
        for j in range(step.shape[1]):
            place = now[i] + step[i, j] - 1 - cycle * ((step[i, j] + cycle - 1) // cycle)
            total = near = 0.0
            seen = seen_near = 0
            for k in range(_SEASONS):
                for t in range(place - k * cycle - reach, place - k * cycle + reach + 1):
                    if begin[i] <= t < now[i] and not np.isnan(demand[t]):
                        total += demand[t]
                        seen += 1
                        if k < 4:
                            near += demand[t]
                            seen_near += 1
            if begin[i] <= place < now[i]:
                out[i, j, 0] = demand[place] / scale[i]
            if seen_near > 0:
                out[i, j, 1] = near / seen_near / scale[i]
            if seen > 0:
                out[i, j, 2] = total / seen / scale[i]
    return out


@_loop
def index_of(demand: np.ndarray, begin: np.ndarray, now: np.ndarray, cycle: int, same_phase: np.ndarray) -> np.ndarray:
    """Demand at the target step's place in the cycle over that of whole cycles: [pair, steps], 1 without a pattern."""
    out = np.full(same_phase.shape, np.nan, np.float32)
    for i in range(len(now)):
        whole = min(_SEASONS, (now[i] - begin[i]) // cycle)
        total = 0.0
        seen = 0
        for t in range(now[i] - whole * cycle, now[i]):
            if not np.isnan(demand[t]):
                total += demand[t]
                seen += 1
        if seen > 0 and total > 0:
            for j in range(same_phase.shape[1]):
                out[i, j] = same_phase[i, j] * seen / total
    return out


@_loop
def _copy(row: np.ndarray, columns: np.ndarray, first: int, out: tuple[np.ndarray, np.ndarray], at: int) -> int:
    """Writes what is not zero in some columns of a row, as columns from `first` on, and answers the next place."""
    for k in range(len(columns)):
        if row[columns[k]] != 0:
            out[0][at], out[1][at] = row[columns[k]], first + k
            at += 1
    return at


@_loop
def sparse_rows(
    block: np.ndarray,
    owner: np.ndarray,
    static: tuple[np.ndarray, np.ndarray, np.ndarray],
    line: np.ndarray,
    crossed: np.ndarray,
    first: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Data, indices and index pointers of the CSR matrix [block | statics of the owner | crossed columns by line].

    Args:
        block: float32 [row, column]; zeros are left out, not-a-number is kept.
        owner: the series of each row.
        static: data, indices and index pointers of [series, static].
        line: of each series, -1 for none.
        crossed: columns of the block that stand again in columns that only the row's own line has.
        first: the first of these columns.
    """
    indptr = np.zeros(len(block) + 1, np.int64)
    for i in range(len(block)):
        indptr[i + 1] = indptr[i] + (block[i] != 0).sum() + static[2][owner[i] + 1] - static[2][owner[i]]
        if line[owner[i]] >= 0:
            for j in crossed:
                indptr[i + 1] += block[i, j] != 0
    data, indices = np.empty(indptr[-1], np.float32), np.empty(indptr[-1], np.int32)
    every = np.arange(block.shape[1])
    for i in range(len(block)):
        at = _copy(block[i], every, 0, (data, indices), indptr[i])
        for j in range(static[2][owner[i]], static[2][owner[i] + 1]):
            data[at], indices[at] = static[0][j], block.shape[1] + static[1][j]
            at += 1
        if line[owner[i]] >= 0:
            _copy(block[i], crossed, first + line[owner[i]] * len(crossed), (data, indices), at)
    return data, indices, indptr
