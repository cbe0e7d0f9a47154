# SPDX-License-Identifier: Apache-2.0
"""CPU seconds as a budget: what is left, how many steps fit in it, and a stop when it is spent."""

import time
from collections.abc import Callable

import numpy as np

_RESERVE = 0.03  # of the budget: what no probe foresees


class Spent(Exception):  # noqa: N818 - no error
    """The training budget is spent; the weights stand as they are."""


class Budget:
    """CPU seconds of this process, all threads, from its start; and wall seconds, for a machine that is lent.

    Args:
        seconds: of training, forecasting and everything before them.
        wall: seconds by the clock, from now; without bound when infinite.
    """

    def __init__(self, seconds: float, wall: float = float("inf")) -> None:
        self._given = np.array([seconds, wall]) * (1 - _RESERVE)
        self._begin = time.perf_counter()
        self._kept = np.zeros(2)  # for what comes after training
        self.told: list[np.ndarray] = []  # when each step was done
        self._before, self._each = np.zeros(2), np.ones(2)  # seconds before the first step, and of one

    def now(self) -> np.ndarray:
        """Seconds used: of CPUs, and by the clock."""
        return np.array([time.process_time(), time.perf_counter() - self._begin])

    @property
    def left(self) -> np.ndarray:
        """Seconds for training: of CPUs, and by the clock."""
        return self._given - self._kept - self.now()

    @property
    def seconds(self) -> float:
        """By the clock, for all steps, once `probe` knows what they take."""
        return float(self._steps() * self._each[1])

    def note(self, done: float) -> None:  # noqa: ARG002 - the shape of `progress`
        """Called after each step."""
        self.told.append(self.now())

    def tell(self, done: float) -> None:
        """Called after each step; raises `Spent` when nothing is left."""
        self.note(done)
        if (self.left <= 0).any():
            raise Spent

    def probe(self, train: Callable[[], object], *, predict: Callable[[], object], share: float) -> int:
        """How many steps fit in what is left.

        Args:
            train: trains for a few steps and calls `tell` after each; what it does before the first of them will be
                done once more.
            predict: forecasts some series.
            share: how many of all they are.
        """
        begin = self.now()
        train()
        told, self.told = self.told, []
        half = len(told) // 2
        self._each = (told[-1] - told[half]) / (len(told) - 1 - half)
        self._before = told[0] - begin
        begin = self.now()
        predict()
        self._kept = 1.2 * (self.now() - begin) / share
        return max(1, int(self._steps()))

    def _steps(self) -> float:
        return ((self.left - self._before) / self._each).min()
