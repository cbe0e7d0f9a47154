# SPDX-License-Identifier: Apache-2.0
"""A panel's history as right-aligned matrices, and what its columns say of groups."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64

from sirdar.forecasting.panel import Panel


@dataclass(frozen=True)
class History:
    """Demand that may be learned from, one row per series, the last column being the step before the forecast.

    Args:
        demand: NaN where nothing was observed, or stock limited the sales.
        period: the period number of every step.
    """

    demand: Float32[np.ndarray, "series time"]
    period: Int64[np.ndarray, "series time"]

    @classmethod
    def of(cls, panel: Panel) -> "History":
        """All history of a panel."""
        length = longest(panel)
        seen = np.where(panel.observed, panel.target, np.float32(np.nan))
        return cls(panel.tail(seen, length), periods(panel, length))


def longest(panel: Panel) -> int:
    """Steps of the longest history."""
    return int(panel.history.max()) if len(panel) else 0


def periods(panel: Panel, length: int, ahead: int = 0) -> Int64[np.ndarray, "series time"]:
    """Period numbers of the last `length` steps of history and `ahead` after it."""
    return panel.end[:, None] + np.arange(-length, ahead, dtype=np.int64)


def known_column(panel: Panel, name: str, length: int, ahead: int) -> Float32[np.ndarray, "series time"]:
    """A covariate over the last `length` steps and `ahead` after them; what is seen only afterwards is NaN ahead.

    Raises:
        ArgumentError: the panel has no such per-step covariate.
    """
    column = panel.covariate(name)
    seen = column if name not in panel.past else np.where(panel.in_history, column, np.float32(np.nan))
    return panel.tail(seen, length, ahead=ahead)


def held(values: Float32[np.ndarray, "series time"]) -> Float32[np.ndarray, "series time"]:
    """Each gap filled with the value before it, and gaps at the beginning with the first value."""
    known = np.isfinite(values)
    index = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), -1), axis=1)
    first = np.where(known.any(axis=1), known.argmax(axis=1), 0)
    return np.take_along_axis(values, np.where(index >= 0, index, first[:, None]), axis=1)


def shared_statics(panel: Panel) -> dict[str, list[str]]:
    """Text statics whose values are mostly shared by several series, coarsest first, with their values."""
    found = {}
    for name, column in panel.static.items():
        if column.dtype != object:
            continue
        values, counts = np.unique(as_text(column), return_counts=True)
        if len(values) > 1 and (counts * (counts > 1)).sum() > len(panel) / 2:
            found[name] = [str(value) for value in values]
    return dict(sorted(found.items(), key=lambda item: len(item[1])))


def as_text(column: np.ndarray) -> np.ndarray:
    """Values as text; an absent one is empty."""
    return np.array(["" if value is None else str(value) for value in column], dtype=object).astype(str)


def codes(column: np.ndarray, values: list[str]) -> Int64[np.ndarray, " series"]:
    """The place of each series' value in a sorted list; -1 for one that is not there."""
    known, text = np.asarray(values, dtype=str), as_text(column)
    if not len(known) or not len(text):
        return np.full(len(text), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, text), len(known) - 1)
    return np.where(known[place] == text, place, -1).astype(np.int64)


def adjusted(panel: Panel, effect: Float32[np.ndarray, "series time"]) -> Panel:
    """The panel with its observed history divided by an effect; steps whose effect is all but zero are not observed."""
    length = effect.shape[1]
    offset = np.arange(len(panel.target)) - (panel.indptr[:-1] + panel.history)[panel.step_series]
    inside = (offset < 0) & (offset >= -length)
    factor = np.ones(len(panel.target), dtype=np.float32)
    factor[inside] = effect[panel.step_series[inside], length + offset[inside]]
    divided = np.where(factor > 0.05, panel.target / np.maximum(factor, 0.05), np.nan)
    target = np.where(panel.in_history, divided, panel.target).astype(np.float32)
    return replace(panel, target=target)
