# SPDX-License-Identifier: Apache-2.0
"""Batches for forking-sequence networks: equal windows of history with the future of every step beside them."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sirdar.forecasting.covariates import FARTHEST, Encoding, against_usual, carried, held
from sirdar.forecasting.panel import Panel

_FEWEST = 8  # launches below which the beginnings of all series are learned from


class Inputs(NamedTuple):
    """What a network sees."""

    demand: Float[Tensor, "batch time"]  # 0 where not observed
    observed: Float[Tensor, "batch time"]  # 1 or 0
    past: Float[Tensor, "batch time past"]
    known: Float[Tensor, "batch reach known"]  # time + horizon steps
    static: Float[Tensor, "batch static"]


class Windows:
    """The windows of a panel, made batch by batch so that memory does not grow with series times length.

    Args:
        panel: histories and covariates.
        encoding: how covariates become channels.
        length: steps of history in a window.
        horizon: steps of future known beside it.
    """

    def __init__(self, panel: Panel, encoding: Encoding, length: int, horizon: int) -> None:
        encoding.require(panel)
        self.panel, self.encoding, self.length, self.horizon = panel, encoding, length, horizon
        self._demand = np.where(panel.observed, panel.target, np.float32(np.nan)).astype(np.float32)
        self._static = encoding.static_channels(panel)
        self._usual = {name: against_usual(panel, name) for name, _ in encoding.usual}
        self._late = panel.start > panel.start.min(initial=np.iinfo(np.int64).max)
        # Statics tell new products apart: where hardly any was launched, the beginnings of all are all that there is.
        self.begin_together = bool(panel.static and self._late.sum() < _FEWEST)

    def inputs(self, rows: np.ndarray, back: np.ndarray | int = 0) -> Inputs:
        """The windows that end `back` steps before the end of history."""
        demand = self._gather(self._demand, rows, back, 0)
        observed = np.isfinite(demand)
        return Inputs(
            torch.from_numpy(np.nan_to_num(demand)),
            torch.from_numpy(observed.astype(np.float32)),
            torch.from_numpy(self._past(rows, back)),
            torch.from_numpy(self._known(rows, back)),
            torch.from_numpy(self._static[rows]),
        )

    def channels(self) -> tuple[int, int, int]:
        """How many past, known and static covariates a network is given."""
        sample = self.inputs(np.arange(min(1, len(self.panel))))
        return sample.past.shape[-1], sample.known.shape[-1], sample.static.shape[-1]

    def draw(self, rows: np.ndarray, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Random series, at most `count`, and how far before the end of history the window of each ends."""
        chosen = generator.choice(rows, size=min(count, len(rows)), replace=False)
        # Longer histories than a window: a random end, so that all of them are seen.
        slack = np.maximum(self.panel.history[chosen] - self.length, 0)
        return chosen, generator.integers(0, slack + 1)

    def launches(self, rows: np.ndarray, back: np.ndarray | int = 0) -> Bool[Tensor, "batch time"]:
        """The step before a series began, where others were there already: from it a new product is forecast.

        Of a window that ends there it is that step whenever the series began.
        """
        seen = self.panel.history[rows] - back
        new = self._late[rows] | (seen == 0)
        return torch.from_numpy((np.arange(self.length) == self.length - seen[:, None] - 1) & new[:, None])

    def targets(self, rows: np.ndarray, back: np.ndarray | int = 0) -> Float[Tensor, "batch time horizon"]:
        """The demand that followed every step of the window; NaN where not observed."""
        ahead = self._gather(self._demand, rows, back, self.horizon)
        steps = np.arange(self.length)[:, None] + 1 + np.arange(self.horizon)[None]
        return torch.from_numpy(ahead[:, steps])

    def _gather(self, values: np.ndarray, rows: np.ndarray, back: np.ndarray | int, ahead: int) -> np.ndarray:
        panel = self.panel
        place = (panel.indptr[:-1] + panel.history)[rows] - back
        steps = place[:, None] + np.arange(-self.length, ahead)
        if not len(values):
            return np.full(steps.shape, np.nan, dtype=np.float32)
        inside = (steps >= panel.indptr[:-1][rows][:, None]) & (steps < panel.indptr[1:][rows][:, None])
        return np.where(inside, values[np.where(inside, steps, 0)], np.float32(np.nan))

    def _past(self, rows: np.ndarray, back: np.ndarray | int) -> np.ndarray:
        channels = [
            self.encoding.scaled(name, self._gather(self.panel.covariate(name), rows, back, 0), centre, spread)
            for name, centre, spread in self.encoding.past
        ]
        channels += self._against_usual(self.panel.past, rows, back, 0)
        return _stack(channels, (len(rows), self.length))

    def _known(self, rows: np.ndarray, back: np.ndarray | int) -> np.ndarray:
        shape = (len(rows), self.length + self.horizon)
        periods = (self.panel.end[rows] - back)[:, None] + np.arange(-self.length, self.horizon)
        calendar = self.encoding.calendar(self.panel.frequency, periods)
        told = (np.diff(self.panel.indptr) - self.panel.history)[rows] + back  # steps after the window
        beyond = np.arange(-self.length, self.horizon) >= told[:, None]
        channels = []
        for name, centre, spread in self.encoding.known:
            column = self._gather(self.panel.covariate(name), rows, back, self.horizon)
            column = self.encoding.ended(name, column, beyond)
            channels.append(self.encoding.scaled(name, carried(self.panel, name, column), centre, spread))
        channels += self._against_usual(self.panel.future, rows, back, self.horizon)
        return np.concatenate([calendar, _stack(channels, shape)], axis=-1)

    def _against_usual(
        self, role: dict[str, np.ndarray], rows: np.ndarray, back: np.ndarray | int, ahead: int
    ) -> list[np.ndarray]:
        """The price of one role, past or future, against the usual one."""
        shares = [
            (self._gather(self._usual[name], rows, back, ahead), s) for name, s in self.encoding.usual if name in role
        ]
        return [np.clip(np.nan_to_num(held(share) / spread), -FARTHEST, FARTHEST) for share, spread in shares]


def _stack(channels: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    return np.stack(channels, axis=-1).astype(np.float32) if channels else np.zeros((*shape, 0), dtype=np.float32)
