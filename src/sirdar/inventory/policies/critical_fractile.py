# SPDX-License-Identifier: Apache-2.0
"""Order up to the critical quantile of demand until the next order arrives: the textbook's use of a forecast.

It treats all demand of the lead time as if it were served, and so orders too much where sales are lost: a rival of the
learned policies in Madeka et al. (2022), arXiv:2210.03137, and Alvo et al. (2023), arXiv:2306.11246.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.inventory.policy import State
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import RandomLeadTime
from sirdar.predictive import Forecast

CHUNK = 4096  # series whose sample paths are in memory at once


@dataclass(frozen=True, eq=False)
class CriticalFractile:
    """An order-up-to level per series and step, from a forecast.

    Args:
        forecast: of demand, from the step of the first order; it must reach lead time + review period.
        samples: paths per series, by which steps are added up.
        seed: of the paths.
        level: the quantile to order up to; the problem's critical ratio without it.
    """

    forecast: Forecast
    samples: int = 200
    seed: int = 0
    level: float | None = None

    def __post_init__(self) -> None:
        require_positive_integer(self.samples, "samples")
        require_seed(self.seed)
        if self.level is not None and not 0 < self.level < 1:
            msg = f"level must lie in (0, 1), got {self.level}"
            raise ArgumentError(msg)

    def order(self, state: State) -> Float[np.ndarray, "*batch series"]:
        """What is missing to the level. Past the end of the forecast the level only counts what it covers."""
        position = np.asarray(state.position, dtype=np.float64)
        if position.shape[-1] != len(self.forecast.ids):
            msg = f"the forecast has {len(self.forecast.ids)} series, but there is stock for {position.shape[-1]}"
            raise ArgumentError(msg)
        return np.maximum(self.levels(state.problem, state.step) - position, 0.0)

    def levels(self, problem: InventoryProblem, step: int = 0) -> Float[np.ndarray, " series"]:
        """The order-up-to levels of a step.

        Raises:
            ArgumentError: the forecast is too short for the first order.
        """
        if step == 0 and self.forecast.horizon < problem.cover:
            msg = (
                f"the forecast has a horizon of {self.forecast.horizon}, but lead_time + review_period needs "
                f"{problem.cover} steps: forecast at least {problem.cover}"
            )
            raise ArgumentError(msg)
        count = len(self.forecast.ids)
        lead = problem.lead_time.longest if isinstance(problem.lead_time, RandomLeadTime) else problem.lead_time
        cover = np.broadcast_to(np.add(lead, problem.review_period), count)
        ratio = np.broadcast_to(problem.critical_ratio if self.level is None else self.level, count)
        levels = np.zeros(count)
        for rows, demand in self._chunks():
            ahead = demand[:, step:]
            counted = np.arange(ahead.shape[1]) < cover[rows, None]
            total = np.sort((ahead * counted[..., None]).sum(axis=1), axis=1)
            rank = np.minimum(np.ceil(ratio[rows] * self.samples - 1e-9).astype(np.int64), self.samples) - 1
            levels[rows] = np.where(rank < 0, 0.0, np.take_along_axis(total, rank[:, None], axis=1)[:, 0])
        return levels

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(self.forecast.ids), CHUNK):
            rows = np.arange(first, min(first + CHUNK, len(self.forecast.ids)))
            seed = int(np.random.SeedSequence((self.seed, first)).generate_state(1)[0])
            yield rows, np.maximum(self.forecast.take(rows).sample(self.samples, seed=seed), 0.0)
