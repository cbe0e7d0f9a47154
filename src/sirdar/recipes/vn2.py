# SPDX-License-Identifier: Apache-2.0
"""Plays the VN2 inventory challenge: forecast, order, and compare with the organiser's benchmark.

``python -m sirdar.recipes.vn2 --data FOLDER`` replays it on rolling windows before the competition.

The forecast is the mean of `TreeForecast` and of the organiser's seasonal moving average. The order raises the stock
projected to its arrival to D3 + margin * sqrt(D3), D3 being the forecast of the week it meets: the rule with which
Szablowski won (arXiv:2601.18919), after the projected-inventory-level policies of van Jaarsveld and Arts (2024).

Everything was chosen on the windows from the origins `DEVELOPMENT`, which end before the first of `SCORING` begins.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console

from sirdar.inventory import Stock
from sirdar.recipes.vn2_forecast import TreeForecast
from sirdar.recipes.vn2_rules import Benchmark, History, Units, play, seasonal_moving_average

DEVELOPMENT = tuple(range(61, 86, 4))  # weeks of history; the last window ends with week 92
SCORING = tuple(range(93, 150, 8))  # the last window ends with the last week before the competition
MARGIN = 0.5


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Sirdar's player. Trained once, it takes in every week that is revealed."""

    trees: TreeForecast
    margin: float = MARGIN

    @classmethod
    def fit(cls, history: History, seed: int = 0) -> "Pipeline":
        """Trained on all of a history."""
        return cls(TreeForecast.fit(history, seed))

    def order(self, history: History, on_hand: Units, arriving: Float[np.ndarray, "series lead"]) -> Units:
        """What is missing to the level of the week in which it arrives, in whole units."""
        return raise_projected(self.forecast(history), on_hand, arriving, self.margin)

    def forecast(self, history: History) -> Float[np.ndarray, "series ahead"]:
        """Mean demand of the next three weeks."""
        return 0.5 * (self.trees.predict(history) + seasonal_moving_average(history, 3))


def raise_projected(
    mean: Float[np.ndarray, "series ahead"], on_hand: Units, arriving: Float[np.ndarray, "series lead"], margin: float
) -> Units:
    """Orders that raise the stock, projected to their arrival, to mean + margin * sqrt(mean) of the week they meet."""
    stock = on_hand
    for week in range(arriving.shape[1]):
        stock = np.maximum(stock + arriving[:, week] - mean[:, week], 0.0)
    last = mean[:, arriving.shape[1]]
    return np.maximum(np.round(last + margin * np.sqrt(last) - stock), 0.0)


@dataclass(frozen=True)
class Window:
    """What one window cost, over weeks 3 to 8."""

    origin: int
    first_week: str
    cost: float
    benchmark: float
    holding: float
    lost_sales: float

    @property
    def change(self) -> float:
        """Cost relative to the benchmark's, as a share: -0.13 is 13 % lower."""
        return self.cost / self.benchmark - 1


def windows(history: History, origins: Sequence[int], stock: Stock | None = None, seed: int = 0) -> Iterator[Window]:
    """Plays each window with the pipeline, trained on what was known at its origin, and with the benchmark."""
    for origin in origins:
        ours = play(Pipeline.fit(history.until(origin), seed), history, origin, stock)
        theirs = play(Benchmark(), history, origin, stock)
        costs = (float(x.sum()) for x in (ours.cost, theirs.cost, ours.holding, ours.lost_sales))
        yield Window(origin, str(history.monday(origin)), *costs)


def reduction(played: Sequence[Window]) -> float:
    """By how much the mean cost of the windows lies below the benchmark's, as a share."""
    return 1 - sum(x.cost for x in played) / sum(x.benchmark for x in played)


def interval(
    played: Sequence[Window], statistic: Callable[[Sequence[Window]], float] = reduction, draws: int = 10_000
) -> tuple[float, float]:
    """95 % interval of a statistic by bootstrap over windows, each with its pair of costs."""
    picks = np.random.default_rng(0).integers(0, len(played), (draws, len(played)))
    found = [statistic([played[i] for i in pick]) for pick in picks]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    """Plays and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the VN2 tables")
    parser.add_argument("--windows", choices=("scoring", "development"), default="scoring")
    arguments = parser.parse_args()
    origins = SCORING if arguments.windows == "scoring" else DEVELOPMENT
    show = Console(highlight=False).print
    show("first week        ours  benchmark   change")
    played = []
    for window in windows(History.read(arguments.data), origins):
        played.append(window)
        show(f"{window.first_week}  {window.cost:10.1f} {window.benchmark:10.1f} {window.change:+8.1%}")
    low, high = interval(played)
    show(f"mean cost {reduction(played):.1%} lower (95 % interval over windows: {low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
