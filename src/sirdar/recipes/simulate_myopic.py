# SPDX-License-Identifier: Apache-2.0
"""Myopic policies for `sirdar simulate`: demand is that of each series' own history, independent from step to step."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from sirdar.errors import UnsupportedError
from sirdar.inventory import InventoryProblem, Myopic, ProjectedInventory, Rolling, State
from sirdar.inventory.distributions import empirical
from sirdar.predictive import Forecast
from sirdar.recipes.simulate_history import History

_LEVELS = tuple(float(x) for x in np.arange(1, 200) / 200)


def myopic(history: History, problem: InventoryProblem, seed: int) -> Rolling:
    """The least expected cost of the review in which the order arrives: sample paths of demand as it has been."""
    values = np.nanquantile(history.known, _LEVELS, axis=1, method="inverted_cdf").T
    panel, horizon = history.panel, problem.cover
    forecast = Forecast(
        list(panel.ids),
        np.zeros(len(values), dtype=np.int64),
        panel.frequency,
        _LEVELS,
        np.repeat(values[:, None], horizon, axis=1),
        floor=0.0,
    )
    # Each step has paths of its own: with the same ones the same chance error would be made in all of them.
    return Rolling({step: ProjectedInventory(forecast, seed=seed + step) for step in range(history.window)})


@dataclass(frozen=True, eq=False)
class Myopic2:
    """The least expected cost of the step in which the order arrives and of the one after, from a table per series.

    Args:
        history: whose frequencies are taken for probabilities.
        problem: of the kind that `sirdar.inventory.exact` solves.
    """

    history: History
    problem: InventoryProblem

    @cached_property
    def tables(self) -> tuple[Myopic, ...]:
        """One for each series.

        Raises:
            UnsupportedError: a table cannot be made, or not in memory; the sentence names the series.
        """
        names = self.history.panel.ids
        made = []
        for name, known in zip(names, self.history.known, strict=True):
            demand = known[np.isfinite(known)]
            units = np.rint(demand)
            if abs(units.sum() - demand.sum()) > 0.5 * demand.sum():
                msg = (
                    f"myopic-2 has no table for {name!r}: it counts whole units, but demand has a mean of "
                    f"{demand.mean():g}, and of {units.mean():g} if rounded; give it in a smaller unit"
                )
                raise UnsupportedError(msg)
            made.append(Myopic(self.problem, empirical(units), steps=2))
            try:
                _ = made[-1].table
            except UnsupportedError as error:
                msg = f"myopic-2 has no table for {name!r}: {error}"
                raise UnsupportedError(msg) from None
        return tuple(made)

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Each series by its own table."""
        on_hand, pipeline = np.asarray(state.on_hand), np.asarray(state.pipeline)
        found = [
            table.order(State(on_hand[..., [row]], pipeline[..., [row], :], self.problem, state.step))
            for row, table in enumerate(self.tables)
        ]
        return np.concatenate(found, axis=-1)


def myopic_2(history: History, problem: InventoryProblem, factor: float) -> Myopic2:
    """Made for a multiple of the lost-sale cost; what it cannot be made for is refused at once."""
    policy = Myopic2(history, replace(problem, lost_sale_cost=factor * problem.lost_sale_cost))
    _ = policy.tables
    return policy
