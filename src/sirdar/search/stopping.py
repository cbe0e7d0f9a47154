# SPDX-License-Identifier: Apache-2.0
"""Ending a training early when its learning curve says that the candidate will not be among the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.search.task import Trial

Curve = tuple[tuple[int, float], ...]


@runtime_checkable
class Stopping(Protocol):
    """Looks at a learning curve while it grows."""

    def hopeless(self, curve: Curve, trials: Sequence[Trial], *, higher_is_better: bool) -> bool:
        """Whether to stop now."""
        ...


@dataclass(frozen=True)
class MedianStopping:
    """Stops what is worse than the median of earlier curves at the same step (Golovin et al. 2017).

    Nothing is worse than what is not a number.

    Args:
        warm_up: trials that run to the end before any is stopped.
        share: of earlier curves that must have been better at this step.
    """

    warm_up: int = 5
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.warm_up < 1 or not 0 < self.share <= 1:
            msg = f"warm_up must be at least 1 and share in 0..1, got {self.warm_up} and {self.share}"
            raise ArgumentError(msg)

    def hopeless(self, curve: Curve, trials: Sequence[Trial], *, higher_is_better: bool) -> bool:
        """Whether the best value so far is worse than that of enough earlier trials at this step."""
        rivals = [_best_until(t.curve, curve[-1][0], higher=higher_is_better) for t in trials if t.usable and t.curve]
        rivals = [value for value in rivals if value is not None]
        present = _best_until(curve, curve[-1][0], higher=higher_is_better)
        if len(rivals) < self.warm_up or present is None:
            return False
        better = [value > present if higher_is_better else value < present for value in rivals]
        return float(np.mean(better)) > self.share


@dataclass(frozen=True)
class CurveStopping:
    """Stops what would not reach the best even if its curve went on as a power law (Domhan et al. 2015, one family).

    Points that are not finite say nothing, nor do those before the steepest rise: an S is no power law until then, and
    while it still gets steeper it is not judged.

    Args:
        until: the step at which trainings end.
        least: points of a curve, from its steepest rise on, before it is judged.
        slack: share of the expected rest of the way that is added, for hope.
    """

    until: int
    least: int = 4
    slack: float = 0.5

    def hopeless(self, curve: Curve, trials: Sequence[Trial], *, higher_is_better: bool) -> bool:
        """Whether the value expected at the end, with the slack, stays behind the best trial's last value."""
        ends = [trial.curve[-1][1] for trial in trials if trial.usable and trial.curve]
        ends = [end for end in ends if math.isfinite(end)]
        curve = tuple((step, value) for step, value in curve if math.isfinite(value))
        if len(curve) < self.least or not ends:
            return False
        sign = 1.0 if higher_is_better else -1.0
        best = max(sign * value for value in ends)
        steps = np.array([step for step, _ in curve], dtype=np.float64)
        values = sign * np.array([value for _, value in curve])
        steepest = _steepest(steps, values)
        if len(values) - steepest < self.least:
            return False
        hoped = expected_end(steps[steepest:], values[steepest:], self.until)
        return bool(hoped + self.slack * max(hoped - values[-1], 0.0) < best)


def expected_end(steps: np.ndarray, values: np.ndarray, until: int) -> float:
    """The value at step `until` of the power law a - b / step^c that fits a rising curve best, over a grid of c."""
    best, hoped = np.inf, float(values[-1])
    for power in (0.25, 0.5, 1.0, 2.0):
        design = np.stack([np.ones_like(steps), -(np.maximum(steps, 1.0) ** -power)], axis=1)
        solution = np.linalg.lstsq(design, values, rcond=None)[0]
        error = float(((design @ solution - values) ** 2).sum())
        if solution[1] >= 0 and error < best:
            best, hoped = error, float(solution[0] - solution[1] * max(until, 1) ** -power)
    return max(hoped, float(values[-1]))


def _steepest(steps: np.ndarray, values: np.ndarray) -> int:
    """The place where the steepest rise begins, the first of equals."""
    slopes = np.diff(values) / np.maximum(np.diff(steps), 1.0)  # a step may be told twice
    return int(np.argmax(slopes)) if slopes.max(initial=0.0) > 0 else 0  # what only falls is judged from its start


def _best_until(curve: Curve, step: int, *, higher: bool) -> float | None:
    worst = -math.inf if higher else math.inf
    values = [worst if math.isnan(value) else value for at, value in curve if at <= step]
    return (max(values) if higher else min(values)) if values else None
