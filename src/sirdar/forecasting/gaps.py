# SPDX-License-Identifier: Apache-2.0
"""Histories for models that know no missing values: gaps filled from both sides, or left out."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Float64, Int64

from sirdar.forecasting.panel import Panel

_NEAR = 2  # observed values on each side that fill a gap
_CELLS = 1_000_000  # steps that are filled at once


class Whole(NamedTuple):
    """Histories without gaps.

    Args:
        frame: unique_id (the place in the panel), ds (steps) and y, from the first observed step to the last.
        after: steps from the last observed one to the end of history, which are to be forecast over. Of many steps
            whole seasons are left out.
        share: of the frame's values, those that were observed.
    """

    frame: pl.DataFrame
    after: Int64[np.ndarray, " series"]
    share: Float64[np.ndarray, " series"]

    def of(self, series: Int64[np.ndarray, " series"]) -> "Whole":
        """The histories of some of the series, which keep their names."""
        return Whole(self.frame.filter(pl.col("unique_id").is_in(series)), self.after[series], self.share[series])


def filled(panel: Panel, season: int, most: int) -> Whole:
    """Gaps get a line between the nearest values on both sides, and what their place in the season adds.

    Args:
        panel: every series was observed.
        season: steps of it.
        most: steps after the last observed one that are forecast over.
    """
    values, owner, offset = _observed(panel)
    known = np.isfinite(values)
    first = panel.unseen()
    last = panel.seen_to() - 1
    inside = (offset >= first[owner]) & (offset <= last[owner])
    lengths = last - first + 1
    share = np.bincount(owner[known], minlength=len(panel)) / lengths
    gappy = np.flatnonzero(share < 1)
    for block in _blocks(gappy[np.argsort(lengths[gappy])], lengths):
        step = np.arange(lengths[block].max())
        steps = (panel.indptr[block] + first[block])[:, None] + step
        within = step < lengths[block][:, None]
        table = np.where(within, values[np.where(within, steps, 0)].astype(np.float64), np.nan)
        values[steps[within]] = _whole(table, within, season)[within]
    frame = pl.DataFrame({"unique_id": owner[inside], "ds": offset[inside], "y": values[inside].astype(np.float64)})
    after = panel.history - 1 - last
    beyond = np.maximum(after - most, 0)
    return Whole(frame, after - season * -(-beyond // season), share)


def _blocks(rows: Int64[np.ndarray, " row"], lengths: Int64[np.ndarray, " series"]) -> Iterator[np.ndarray]:
    """Rows in order of their lengths, in blocks whose rectangles bound the memory."""
    begin = 0
    while begin < len(rows):
        end = begin + 1
        while end < len(rows) and (end + 1 - begin) * lengths[rows[end]] <= _CELLS:
            end += 1
        yield rows[begin:end]
        begin = end


def skipped(panel: Panel) -> Whole:
    """The observed values alone, as if they had followed each other."""
    values, owner, _ = _observed(panel)
    known = np.isfinite(values)
    place = np.cumsum(known) - 1
    count = np.bincount(owner[known], minlength=len(panel))
    place -= (np.cumsum(count) - count)[owner]
    frame = pl.DataFrame({"unique_id": owner[known], "ds": place[known], "y": values[known].astype(np.float64)})
    return Whole(frame, np.zeros(len(panel), dtype=np.int64), np.ones(len(panel)))


def _observed(
    panel: Panel,
) -> tuple[Float32[np.ndarray, " step"], Int64[np.ndarray, " step"], Int64[np.ndarray, " step"]]:
    """Demand where it was observed, else NaN; whose each step is, and which of its steps."""
    owner = panel.step_series
    values = np.where(panel.observed, panel.target, np.float32(np.nan))
    return values, owner, np.arange(len(values)) - panel.indptr[:-1][owner]


def _whole(
    table: Float64[np.ndarray, "series time"], within: Bool[np.ndarray, "series time"], season: int
) -> Float64[np.ndarray, "series time"]:
    """The table without gaps: what the season adds is taken away, and given back to what was filled in.

    Args:
        table: NaN where not observed.
        within: whether a step is one of its series, which all begin on the left.
        season: steps of it.
    """
    added = _season(table, within, season) if season > 1 else np.zeros(table.shape)
    low, high = np.nanmin(table, axis=1, keepdims=True), np.nanmax(table, axis=1, keepdims=True)
    return np.where(np.isfinite(table), table, np.clip(_between(table - added) + added, low, high))


def _season(
    table: Float64[np.ndarray, "series time"], within: Bool[np.ndarray, "series time"], season: int
) -> Float64[np.ndarray, "series time"]:
    """What each step's place in the season adds to the mean of the season about it; zero without two seasons."""
    count, time = table.shape
    if time < 2 * season:
        return np.zeros(table.shape)
    padded = np.pad(table, ((0, 0), (0, -time % season)), constant_values=np.nan)
    places = padded.reshape(count, -1, season).transpose(0, 2, 1)
    same = _between(places.reshape(count * season, -1)).reshape(places.shape).transpose(0, 2, 1).reshape(count, -1)
    rough = np.where(np.isfinite(table), table, same[:, :time])
    rough = np.where(np.isfinite(rough), rough, _between(table))
    sums = np.cumsum(np.pad(rough, ((0, 0), (1, 0))), axis=1)
    level = np.full(padded.shape, np.nan)
    begin, ends = season // 2, within[:, season - 1 :]  # a mean is one of steps that are all the series' own
    level[:, begin : begin + time - season + 1] = np.where(
        ends, (sums[:, season:] - sums[:, :-season]) / season, np.nan
    )
    over = (padded - level).reshape(count, -1, season)
    seen = np.isfinite(over)
    mean = np.where(seen, over, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    mean -= mean.mean(axis=1, keepdims=True)
    mean[within.sum(axis=1) < 2 * season] = 0.0
    return np.tile(mean, (1, over.shape[1]))[:, :time]


def _between(table: Float64[np.ndarray, "row time"]) -> Float64[np.ndarray, "row time"]:
    """A line from the mean of the last known values to that of the next ones; what is known on one side alone stays."""
    known, time = np.isfinite(table), np.arange(table.shape[1])
    sums = np.zeros((len(table), len(time) + 1))
    order = np.argsort(~known, axis=1, kind="stable")  # the known ones first, in their order
    np.cumsum(np.nan_to_num(np.take_along_axis(table, order, axis=1)), axis=1, out=sums[:, 1:])
    rank, total = np.cumsum(known, axis=1), known.sum(axis=1, keepdims=True)

    def mean(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        gathered = np.take_along_axis(sums, high, axis=1) - np.take_along_axis(sums, low, axis=1)
        return np.where(high > low, gathered / np.maximum(high - low, 1), np.nan)

    before, after = mean(np.maximum(rank - _NEAR, 0), rank), mean(rank, np.minimum(rank + _NEAR, total))
    last = np.maximum.accumulate(np.where(known, time, -1), axis=1)
    ahead = np.minimum.accumulate(np.where(known, time, len(time))[:, ::-1], axis=1)[:, ::-1]
    share = (time - last) / np.maximum(ahead - last, 1)
    line = before + share * (after - before)
    return np.where(np.isfinite(line), line, np.where(np.isfinite(before), before, after))
