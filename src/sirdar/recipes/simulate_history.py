# SPDX-License-Identifier: Apache-2.0
"""Demand on one calendar, parted into a history to choose by and a window to replay."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting.panel import Panel
from sirdar.inventory import InventoryProblem, Stock, uncensor

_WINDOW = 26  # steps replayed unless told otherwise
_LONGEST = 104  # steps of history that parameters are chosen on


@dataclass(frozen=True, eq=False)
class History:
    """Series that were sold from before the window to its end.

    Args:
        panel: of those series.
        demand: per step, the window last; nothing is missing.
        window: steps to replay.
        labels: of all steps.
        whole: series that were there in all steps of the history; policies are compared on them.
        notes: what was left out, filled in or estimated, as sentences.
    """

    panel: Panel
    demand: Float[np.ndarray, "series time"]
    window: int
    labels: np.ndarray
    whole: np.ndarray
    notes: tuple[str, ...]

    @property
    def past(self) -> Float[np.ndarray, "series past"]:
        """Demand before the window."""
        return self.demand[:, : -self.window]

    @property
    def known(self) -> Float[np.ndarray, "series past"]:
        """The same, NaN before the first step of a series: it did not sell nothing, it was not there."""
        steps = np.arange(self.past.shape[1])
        return np.where(steps >= self.demand.shape[1] - self.panel.history[:, None], self.past, np.nan)

    @property
    def replayed(self) -> Float[np.ndarray, "series window"]:
        """Demand of the window."""
        return self.demand[:, -self.window :]


def part(panel: Panel, problem: InventoryProblem, window: int | None) -> History:
    """The history and the window of a panel.

    Args:
        panel: any.
        problem: its lead time and review period say how much history is needed.
        window: steps to replay; 26 when None, or a third of the table if that is less.

    Raises:
        ArgumentError: the window is too short for an order to arrive in, or leaves no history.
        DataError: no series was sold long enough.
    """
    longest = int(panel.history.max())
    window = min(_WINDOW, longest // 3) if window is None else window
    least = problem.cover + 1
    if window < least:
        msg = (
            f"the window of {window} steps is too short: lead time + review period is {problem.cover} steps, so that "
            f"at least {least} are needed; the table has {longest} steps"
        )
        raise ArgumentError(msg)
    needed = window + 2 * problem.cover
    kept = np.flatnonzero((panel.end == panel.end.max()) & (panel.history >= needed))
    if not len(kept):
        msg = (
            f"no series has the {needed} steps up to the table's last one that a window of {window} needs (twice lead "
            f"time + review period before it); the longest has {longest}; give a smaller --steps"
        )
        raise DataError(msg)
    some = panel.select(kept)
    time = min(int(some.history.max()), window + _LONGEST)
    some, observed, notes = _demand(some, time, window)
    if len(kept) < len(panel):
        notes = (f"{len(panel) - len(kept)} of {len(panel)} series have too short a history and are left out.", *notes)
    end = int(panel.end.max())
    labels = panel.frequency.labels(np.arange(end - time, end))
    shown = time - window
    typical = min(shown, int(np.median(some.history)) - window)
    there = some.history >= window + typical
    demand = observed[:, shown - typical :]
    return History(some, demand, window, labels[shown - typical :], there, notes)


def _demand(panel: Panel, time: int, window: int) -> tuple[Panel, Float[np.ndarray, "series time"], tuple[str, ...]]:
    """Demand of the last steps: uncensored where the table says when there was stock, observed sales elsewhere."""
    sales = panel.tail(panel.target, time).astype(np.float64)
    notes: list[str] = []
    negative = sales < 0
    if negative.any():
        notes.append(f"{int(negative.sum())} steps with more returns than sales count as no demand.")
    sales = np.where(negative, 0.0, sales)
    if panel.in_stock is not None:
        return _uncensored(panel, sales, window, notes)
    notes.append("Sales are taken for demand: the table does not say when there was no stock (in_stock).")
    unknown = int((np.isnan(sales) & _there(panel, time)).sum())
    if unknown:
        notes.append(f"{unknown} steps that were not observed count as no demand.")
    return panel, np.nan_to_num(sales), tuple(notes)


def _there(panel: Panel, time: int) -> Bool[np.ndarray, "series time"]:
    """Steps since the first one of each series."""
    return np.arange(time) >= time - panel.history[:, None]


def _uncensored(
    panel: Panel, sales: Float[np.ndarray, "series time"], window: int, notes: list[str]
) -> tuple[Panel, Float[np.ndarray, "series time"], tuple[str, ...]]:
    """Expected demand where there was no stock. What policies are chosen on knows nothing of the window."""
    assert panel.in_stock is not None
    time = sales.shape[1]
    stocked = panel.tail(panel.in_stock.astype(np.float32), time) > 0
    seen = stocked & np.isfinite(sales)
    sold = np.nan_to_num(sales)
    tells = (seen | (sold > 0))[:, :-window].any(axis=1)
    if not tells.any():
        msg = f"in_stock is false in all steps before the last {window}: demand was never seen"
        raise DataError(msg)
    if not tells.all():
        notes.append(f"{int((~tells).sum())} series were never in stock before the window and are left out.")
    panel, seen, sold = panel.select(np.flatnonzero(tells)), seen[tells], sold[tells]
    past = uncensor(sold[:, :-window], seen[:, :-window], together=True)
    wanted = np.concatenate([past, uncensor(sold, seen, together=True)[:, -window:]], axis=1)
    there = _there(panel, time)
    wanted = np.where(there, wanted, 0.0)
    notes.append(
        f"{int((~seen & there).sum())} of {int(there.sum())} steps were out of stock or not observed: their demand is "
        f"estimated, {wanted.sum() - sold.sum():,.0f} units more than the {sold.sum():,.0f} sold."
    )
    return panel, wanted, tuple(notes)


def opening_stock(demand: Float[np.ndarray, "series past"], problem: InventoryProblem) -> Stock:
    """The stock that every policy begins with: mean demand of a review period on hand, and of each step under way.

    It is whole where goods are counted.
    """
    mean = problem.rules.counted(np.nanmean(demand, axis=1))
    lead = problem.longest_lead_time
    return Stock(mean * int(np.max(problem.review_period)), np.repeat(mean[:, None], lead, axis=1))
