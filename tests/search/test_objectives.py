# SPDX-License-Identifier: Apache-2.0
"""Limits, trade-offs and domination, against what can be worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sirdar.errors import ArgumentError
from sirdar.search.objectives import Objective, Objectives, limit_of, objectives_of, undominated
from sirdar.search.space import Candidate
from sirdar.search.task import Trial


def trial(number: int, state: str = "complete", **measures: float) -> Trial:
    return Trial(number, Candidate((("x", number),)), measures, state)  # type: ignore[arg-type]


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float)))
def test_the_front_is_what_nobody_dominates(losses: np.ndarray) -> None:
    slow = [not any((other <= row).all() and (other < row).any() for other in losses) for row in losses]
    assert undominated(losses).tolist() == slow
    assert any(slow)


def test_the_front_of_trials_is_sorted_and_counts_equals_once() -> None:
    wanted = Objectives((Objective("score", "maximise"), Objective("latency_s")))
    trials = [
        trial(0, score=1.0, latency_s=1.0),
        trial(1, score=2.0, latency_s=2.0),
        trial(2, score=2.0, latency_s=2.0),
        trial(3, score=1.5, latency_s=3.0),
        trial(4, "stopped", score=9.0, latency_s=0.1),
    ]
    assert [row.number for row in wanted.pareto(trials)] == [1, 0]
    assert Objectives((Objective("score", "maximise"),)).best(trials) == trials[1]


def test_reward_is_the_weighted_product() -> None:
    wanted = Objectives((Objective("score", "maximise"), Objective("latency_s", weight=0.5, reference=2.0)))
    assert wanted.reward({"score": 3.0, "latency_s": 8.0}) == pytest.approx(3.0 * (2.0 / 8.0) ** 0.5)
    with pytest.raises(ArgumentError, match="'score' was not measured, so it cannot be traded against others"):
        wanted.reward({"latency_s": 1.0})


numbers = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1e-300, -1e-300]))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_the_best_is_on_the_front_whatever_the_signs(rows: list[tuple[float, float]]) -> None:
    """A product of ratios knows only what is above zero; R2, a loss or a free candidate are not."""
    wanted = Objectives((Objective("score", "maximise"), Objective("loss", weight=0.5)))
    trials = [trial(number, score=score, loss=loss) for number, (score, loss) in enumerate(rows)]
    best = wanted.best(trials)
    assert best is not None
    losses = np.array([wanted.losses(row.measures) for row in trials])
    assert undominated(losses)[best.number]


@given(numbers, numbers, numbers)
def test_a_better_value_never_lowers_the_reward(one: float, other: float, rest: float) -> None:
    wanted = Objectives((Objective("score", "maximise"), Objective("loss")))
    low, high = sorted((one, other))
    assert wanted.reward({"score": low, "loss": rest}) <= wanted.reward({"score": high, "loss": rest})
    assert wanted.reward({"score": rest, "loss": low}) >= wanted.reward({"score": rest, "loss": high})


@given(st.floats(max_value=0.0, allow_nan=False), st.floats(1e-6, 1.0), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_a_score_of_nothing_ranks_last(nothing: float, score: float, slow: float, fast: float) -> None:
    wanted = Objectives((Objective("score", "maximise"), Objective("latency_s", weight=0.07)))
    trials = [trial(0, score=nothing, latency_s=fast), trial(1, score=score, latency_s=slow)]
    assert wanted.best(trials) == trials[1]
    assert wanted.best(trials[:1]) == trials[0]
    assert wanted.reward(trials[0].measures) < 1e-11


def test_excess_counts_what_is_broken() -> None:
    wanted = Objectives((Objective("score"),), (("latency_s", 1.0), ("peak_bytes", 10.0)))
    assert wanted.excess({"latency_s": math.e, "peak_bytes": 5.0}) == pytest.approx(1.0)
    assert wanted.excess({"latency_s": 1.0, "peak_bytes": 10.0}) == 0
    assert wanted.feasible({"latency_s": 1.0, "peak_bytes": 10.0})
    assert not wanted.feasible({"latency_s": 1.1, "peak_bytes": 10.0})


def test_defaults() -> None:
    assert [row.name for row in objectives_of("wql", higher_is_better=False).wanted] == ["wql", "latency_s"]
    limited = objectives_of("wql", higher_is_better=False, limits={"latency_s": 1})
    assert [row.name for row in limited.wanted] == ["wql"]
    assert limited.limits == (("latency_s", 1.0),)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [({"latency": 1.0}, "Did you mean 'latency_s'"), ({"latency_s": 0.0}, "above zero, got 0.0")],
)
def test_wrong_limits_are_refused(limits: dict, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        objectives_of("wql", higher_is_better=False, limits=limits)
    with pytest.raises(ArgumentError, match="above zero, got 0.0 and 1.0"):
        Objective("wql", weight=0.0)


@pytest.mark.parametrize("limit", ["2ms", None])
def test_a_limit_that_is_no_number_is_named(limit: object) -> None:
    with pytest.raises(ArgumentError, match=f"limit latency_s must be a number, got {limit!r}"):
        limit_of("latency_s", limit)
