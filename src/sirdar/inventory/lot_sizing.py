# SPDX-License-Identifier: Apache-2.0
"""Lots for one who knows all demand and pays for every order, by dynamic programming over the steps of arrival.

Wagner and Whitin (1958), "Dynamic Version of the Economic Lot Size Model", Management Science 5(1), where demand may
also be lost: Aksen, Altinkemer and Chand (2003), "The Single-Item Lot-Sizing Problem with Immediate Lost Sales",
European Journal of Operational Research 147(3). An order that can wait, since stock lasts until the next one may
arrive, waits: it is carried less and costs no more. So whatever is ordered arrives when stock is about to run out, and
lasts to the arrival of another order, but for units that cost more to carry than their sale is worth.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

Series = Float[np.ndarray, " series"]


@dataclass(frozen=True, eq=False)
class Lots:
    """Known demand and what serving it is worth. Any quantity may be ordered; no limits are shared.

    Args:
        demand: [series, time]; nothing is wanted after it.
        gain: what a unit earns that is sold 0, 1, ... steps after its arrival, less what it and its carrying cost; it
            falls from step to step. [series, step].
        order_cost: per order.
        review: steps from one chance to order to the next.
        discount: worth of the next step's money today.
    """

    demand: Float[np.ndarray, "series time"]
    gain: Float[np.ndarray, "series step"]
    order_cost: Series
    review: Int[np.ndarray, " series"]
    discount: float

    def order(self, stock: Series, at: Int[np.ndarray, " series"]) -> Series:
        """Units of an order that arrives in step `at`, to the stock that is left from the step before."""
        if not self._reach:
            return np.zeros(len(stock))
        rows, at = np.arange(len(at)), np.minimum(at, self.demand.shape[1])
        window = at[:, None] + np.arange(self._reach)
        total = np.cumsum(self._padded[rows[:, None], window], axis=1)
        worth = self._worth(np.maximum(total - stock[:, None], 0.0), self._ahead[rows[:, None], window + 1])
        last = np.argmax(worth, axis=1)  # the step before the arrival of another order
        last = np.minimum(last, np.maximum((self.gain > 0).sum(axis=1) - 1, 0))  # or before no unit pays any more
        wait = self.discount**self.review * self._ahead[rows, np.minimum(at + self.review, self._ahead.shape[1] - 1)]
        short = total[rows, self.review - 1] > stock
        return np.where(short & (worth.max(axis=1) > wait), np.maximum(total[rows, last] - stock, 0.0), 0.0)

    @cached_property
    def _ahead(self) -> Float[np.ndarray, "series later"]:
        """What is earned from each step on, that being one of arrival and the stock nothing."""
        series, time = self.demand.shape
        ahead, rows = np.zeros((series, time + self._reach + 1)), np.arange(series)
        for step in reversed(range(time)):
            total = np.cumsum(self._padded[:, step : step + self._reach], axis=1)
            worth = self._worth(total, ahead[:, step + 1 : step + 1 + self._reach]).max(axis=1)
            wait = self.discount**self.review * ahead[rows, np.minimum(step + self.review, time)]
            ahead[:, step] = np.maximum(worth, wait)
        return ahead

    def _worth(self, missing: np.ndarray, ahead: np.ndarray) -> Float[np.ndarray, "series reach"]:
        """What an order earns that lasts to the arrival of another one 1, 2, ... steps after its own, and that earns.

        Args:
            missing: units that stock lacks up to each step, the first being that of arrival: [series, reach].
            ahead: what is earned from the steps after those on, stock being nothing, [series, reach].
        """
        units = np.diff(missing, axis=1, prepend=0.0)
        money = self.discount ** np.arange(1, self._reach + 1)
        worth = np.cumsum(self._gains * units, axis=1) - self.order_cost[:, None] + money * ahead
        return np.where(self._arrives, worth, -np.inf)

    @cached_property
    def _reach(self) -> int:
        """Steps after which no unit pays any more, in whole review periods of each series."""
        pays = int((self.gain > 0).any(axis=0).sum())
        return int((-(-pays // self.review) * self.review).max(initial=0))

    @cached_property
    def _gains(self) -> Float[np.ndarray, "series reach"]:
        """The gain, or nothing where a unit does not pay, up to where the last order reaches."""
        gain = np.maximum(self.gain[:, : self._reach], 0.0)
        return np.pad(gain, ((0, 0), (0, self._reach - gain.shape[1])))

    @cached_property
    def _arrives(self) -> np.ndarray:
        """Whether another order may arrive 1, 2, ... steps after one: [series, reach]."""
        return np.arange(1, self._reach + 1) % self.review[:, None] == 0

    @cached_property
    def _padded(self) -> Float[np.ndarray, "series later"]:
        """Demand, and zeros after its end up to where the last order reaches."""
        return np.pad(self.demand.astype(np.float64), ((0, 0), (0, self._reach)))
