# SPDX-License-Identifier: Apache-2.0
"""What a search wants and what it must keep to: goals, hard limits, trade-offs, and who dominates whom.

Limits concern costs, which are known before training, so a candidate that breaks one is never trained.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sirdar.errors import ArgumentError, nearest
from sirdar.search.task import Trial
from sirdar.units import Cost

Goal = Literal["minimise", "maximise"]
_NOTHING = 1e-12  # of the reference: less is hardly told from nothing
COSTS = ("latency_s", "energy_j", "peak_bytes", "parameter_bytes", "memory_bytes", "macs")
"""What can be limited; memory_bytes is parameters and peak of activations together."""


def measures_of(cost: Cost) -> dict[str, float]:
    """A cost by name of its parts; one that is not known is left out."""
    parts = {
        "latency_s": float(cost.latency_s),
        "energy_j": float(cost.energy_j),
        "peak_bytes": float(cost.peak_bytes),
        "parameter_bytes": float(cost.parameter_bytes),
        "memory_bytes": float(cost.peak_bytes + cost.parameter_bytes),
        "macs": float(cost.macs),
    }
    return {name: value for name, value in parts.items() if not math.isnan(value)}


@dataclass(frozen=True)
class Objective:
    """One thing that a search wants.

    Args:
        name: of a metric of the task, or one of `COSTS`.
        goal: "minimise" or "maximise".
        weight: exponent in the product that trades several objectives against each other.
        reference: value at which its factor in that product is 1.

    Raises:
        ArgumentError: the goal is neither, or the weight or reference is not above zero.
    """

    name: str
    goal: Goal = "minimise"
    weight: float | int = 1.0
    reference: float | int = 1.0

    def __post_init__(self) -> None:
        if self.goal not in ("minimise", "maximise"):
            msg = f"the goal of objective {self.name!r} must be minimise or maximise, got {self.goal!r}"
            raise ArgumentError(msg)
        if not (0 < self.weight < math.inf and 0 < self.reference < math.inf):
            got = f"{self.weight!r} and {self.reference!r}"
            msg = f"weight and reference of objective {self.name!r} must be above zero, got {got}"
            raise ArgumentError(msg)

    def loss(self, measures: Mapping[str, float]) -> float:
        """Its value with the sign turned so that less is better; infinity where it was not measured."""
        value = measures.get(self.name, math.nan)
        if math.isnan(value):
            return math.inf
        return -value if self.goal == "maximise" else value

    def ratio(self, measures: Mapping[str, float]) -> float:
        """Its value over the reference, the other way round where less is better, to the power of the weight.

        A product of ratios knows no values below zero: all of them, and a score of nothing as a detector has after few
        steps, come next to nothing, in their order.

        Raises:
            ArgumentError: it was not measured.
        """
        value = measures.get(self.name, math.nan) / self.reference
        if math.isnan(value):
            msg = f"objective {self.name!r} was not measured, so it cannot be traded against others"
            raise ArgumentError(msg)
        size = value if value > _NOTHING else max(_NOTHING / (1 + _NOTHING - value), 1e-100)
        return size**self.weight if self.goal == "maximise" else size**-self.weight


@dataclass(frozen=True)
class Objectives:
    """All that a search wants and must keep to.

    Args:
        wanted: at least one objective.
        limits: greatest value allowed of costs, by name.

    Raises:
        ArgumentError: nothing is wanted, or a limit has an unknown name or is not above zero.
    """

    wanted: tuple[Objective, ...]
    limits: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.wanted:
            msg = "a search needs an objective"
            raise ArgumentError(msg)
        for name, limit in self.limits:
            if name not in COSTS:
                msg = f"limit {name!r} is not known; known are {', '.join(COSTS)}.{nearest(name, COSTS)}"
                raise ArgumentError(msg)
            if not 0 < limit < math.inf:
                msg = f"limit {name} must be above zero, got {limit!r}"
                raise ArgumentError(msg)

    @property
    def several(self) -> bool:
        """Whether there is more than one objective."""
        return len(self.wanted) > 1

    def excess(self, measures: Mapping[str, float]) -> float:
        """By how much limits are exceeded, each as the logarithm of value over limit, summed; 0 when all hold.

        What is not known exceeds a limit by infinity.
        """
        found = ((measures.get(name, math.inf), limit) for name, limit in self.limits)
        return sum((max(0.0, math.log(max(value, 1e-300) / limit)) for value, limit in found), 0.0)

    def feasible(self, measures: Mapping[str, float]) -> bool:
        """Whether every limit holds; one of what is not known does not."""
        return all(measures.get(name, math.inf) <= limit for name, limit in self.limits)

    def losses(self, measures: Mapping[str, float]) -> tuple[float, ...]:
        """One number per objective; less is better."""
        return tuple(objective.loss(measures) for objective in self.wanted)

    def reward(self, measures: Mapping[str, float]) -> float:
        """One number for strategies that know only one; more is better.

        The value itself for one objective, for several the product of their ratios to the references, each to the power
        of its weight (Tan et al. 2019, arXiv:1807.11626, equation 2).
        """
        if not self.several:
            return -self.wanted[0].loss(measures)
        return math.prod(objective.ratio(measures) for objective in self.wanted)

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The judged trial with the largest reward, of equals the cheapest, then the earliest; None without any."""
        return max((trial for trial in trials if trial.usable), key=self._merit, default=None)

    def _merit(self, trial: Trial) -> tuple[float, ...]:
        """More is better; of equal rewards none that another dominates, in the objectives or in latency and memory."""
        losses = self.losses(trial.measures)
        costs = [-trial.measures.get(name, math.inf) for name in ("latency_s", "memory_bytes")]
        costs = [-math.inf if math.isnan(cost) else cost for cost in costs]
        return (self.reward(trial.measures), *(-loss for loss in losses), *costs, -float(trial.number))

    def pareto(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        """The judged trials that no other dominates, by rising loss of the first objective; equals count once."""
        judged = [trial for trial in trials if trial.usable]
        if not judged:
            return ()
        losses = np.array([self.losses(trial.measures) for trial in judged])
        front = sorted((judged[row] for row in np.flatnonzero(undominated(losses))), key=self._merit)
        unique = {self.losses(trial.measures): trial for trial in front}  # the best of equals comes last
        return tuple(unique[key] for key in sorted(unique))


def undominated(losses: np.ndarray) -> np.ndarray:
    """Which rows [trial, objective] no other row beats in one objective without losing in another: [trial] of bool."""
    better = (losses[:, None] <= losses[None]).all(axis=2) & (losses[:, None] < losses[None]).any(axis=2)
    return np.asarray(~better.any(axis=0))


def limit_of(name: str, limit: object) -> float:
    """The greatest value of a cost as a plain number.

    Raises:
        ArgumentError: it is no number.
    """
    try:
        return float(limit)  # type: ignore[arg-type] - that is what is tried
    except (TypeError, ValueError) as error:
        msg = f"limit {name} must be a number, got {limit!r}"
        raise ArgumentError(msg) from error


def objectives_of(
    metric: str,
    *,
    higher_is_better: bool,
    limits: Mapping[str, float | int] | None = None,
    wanted: Sequence[Objective] = (),
    priced: bool = True,
) -> Objectives:
    """What a search wants when nothing else is said: the metric within limits; without limits also low latency."""
    bounds = tuple((name, limit_of(name, limit)) for name, limit in (limits or {}).items())
    if wanted:
        return Objectives(tuple(wanted), bounds)
    goal = Objective(metric, "maximise" if higher_is_better else "minimise")
    if bounds or not priced:
        return Objectives((goal,), bounds)
    return Objectives((goal, Objective("latency_s", weight=0.07)), bounds)
