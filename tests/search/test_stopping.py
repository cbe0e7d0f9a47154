# SPDX-License-Identifier: Apache-2.0
"""Stopping rules on curves whose end is known."""

import math
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.search.space import Candidate
from sirdar.search.stopping import CurveStopping, MedianStopping, expected_end
from sirdar.search.study import Options, search
from sirdar.search.task import Report, Stopped, Trial
from sirdar.testing.search import TOY, ToyTask


def curve(end: float, speed: float = 1.0, steps: int = 10) -> tuple[tuple[int, float], ...]:
    return tuple((step, end * (1 - 1 / (1 + speed * step))) for step in range(1, steps + 1))


PAST = [Trial(n, TOY.smallest(), {"score": 1.0}, curve=curve(0.5 + 0.1 * n)) for n in range(5)]


def test_worse_than_the_median_is_stopped() -> None:
    rule = MedianStopping(warm_up=5)
    assert rule.hopeless(curve(0.3)[:3], PAST, higher_is_better=True)
    assert not rule.hopeless(curve(0.8)[:3], PAST, higher_is_better=True)
    assert not rule.hopeless(curve(0.3)[:3], PAST[:4], higher_is_better=True)
    assert rule.hopeless(curve(0.8)[:3], PAST, higher_is_better=False)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_power_law_is_continued_exactly(power: float) -> None:
    steps = np.arange(1, 7, dtype=np.float64)
    assert expected_end(steps, 0.9 - 0.5 * steps**-power, 100) == pytest.approx(0.9 - 0.5 * 100**-power, abs=1e-9)


def test_what_cannot_reach_the_best_is_stopped() -> None:
    rule = CurveStopping(until=10)
    assert rule.hopeless(curve(0.4)[:5], PAST, higher_is_better=True)
    assert not rule.hopeless(curve(1.0)[:5], PAST, higher_is_better=True)
    assert not rule.hopeless(curve(0.4)[:3], PAST, higher_is_better=True)
    assert not rule.hopeless(curve(0.4)[:5], [], higher_is_better=True)


@pytest.mark.parametrize("higher", [True, False])
def test_what_is_not_a_number_is_worse_than_any(*, higher: bool) -> None:
    rule = MedianStopping(warm_up=5)
    nothing, good, bad = (1, math.nan), (2, 0.9 if higher else 0.1), (2, 0.01 if higher else 0.99)
    broken = [Trial(9, TOY.smallest(), {"score": 1.0}, curve=(nothing, *curve(0.1)[1:]))]
    assert rule.hopeless((nothing,), PAST, higher_is_better=higher)
    assert rule.hopeless((nothing, bad), PAST, higher_is_better=higher)
    assert rule.hopeless((bad, (3, math.nan)), PAST, higher_is_better=higher)
    assert not rule.hopeless((nothing, good), [*PAST, *broken], higher_is_better=higher)


def test_points_that_are_not_finite_neither_doom_a_curve_nor_save_one() -> None:
    rule = CurveStopping(until=10)
    broken = Trial(9, TOY.smallest(), {"score": 0.3}, curve=(*curve(0.3)[:-1], (10, math.nan)))
    assert rule.hopeless(curve(0.4)[:5], [broken, *PAST], higher_is_better=True)
    losses = tuple((step, 1.0 - value) for step, value in curve(1.0)[:6])
    assert not rule.hopeless(((1, math.inf), *losses[1:]), PAST, higher_is_better=False)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ArgumentError, match="got 0 and 0.5"):
        MedianStopping(warm_up=0)


def test_accelerators_of_stopped_trainings_are_billed() -> None:
    """Each step takes an hour of one; a training that is stopped says how many it took."""

    class Accelerated(ToyTask):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            del seed
            done = 0
            try:
                for step in range(1, 6):
                    done = step
                    report(step, -float(number_of[candidate]))
            except Stopped as stopped:
                stopped.gpu_s = 3600.0 * done
                raise
            return {self.metric: -float(number_of[candidate]), "gpu_s": 3600.0 * done}

    number_of: dict[Candidate, int] = defaultdict(lambda: len(number_of))
    study = search(TOY, Accelerated(), strategy="random", trials=6, options=Options(stopping=MedianStopping(2)))
    steps = sum(len(trial.curve) for trial in study.trials)
    assert any(trial.state == "stopped" for trial in study.trials)
    assert study.spent.gpu_hours == pytest.approx(steps)


@pytest.mark.parametrize(("middle", "width"), [(35.0, 4.0), (50.0, 8.0), (55.0, 3.0)])
def test_a_curve_like_an_s_is_judged_only_after_its_steepest_rise(middle: float, width: float) -> None:
    def rising(end: float) -> tuple[tuple[int, float], ...]:
        return tuple((step, end / (1 + math.exp((middle - step) / width))) for step in range(10, 101, 10))

    rule, past = CurveStopping(until=100), [Trial(0, TOY.smallest(), {"score": 0.8}, curve=((100, 0.8),))]
    good, bad = rising(0.9), rising(0.5)
    assert not any(rule.hopeless(good[:seen], past, higher_is_better=True) for seen in range(1, 11))
    assert rule.hopeless(bad, past, higher_is_better=True)


def test_a_training_that_only_gets_worse_is_stopped() -> None:
    rule, past = CurveStopping(until=100), [Trial(0, TOY.smallest(), {"score": 0.8}, curve=((100, 0.8),))]
    falling = tuple((step, 0.5 * step**-0.3) for step in range(1, 7))
    assert rule.hopeless(falling, past, higher_is_better=True)
