# SPDX-License-Identifier: Apache-2.0
"""Limits that can and cannot be kept to, against all candidates of spaces in which going downhill gets stuck."""

import math
import re

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.search.limits import feasible_candidate
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.pricing import Priced
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.units import Cost


def rugged(choices: int, seed: int) -> tuple[SearchSpace, dict[Candidate, float]]:
    """Four options a choice; latency depends on all pairs of them."""
    space = SearchSpace("rugged", tuple(Choice(f"x{n}", (0, 1, 2, 3)) for n in range(choices)))
    rng = np.random.default_rng(seed)
    alone, pairs = rng.random((choices, 4)), rng.random((choices, choices, 4, 4))

    def latency(candidate: Candidate) -> float:
        picked = [int(value) for _, value in candidate.values]
        ties = sum(pairs[i, j, picked[i], picked[j]] for i in range(choices) for j in range(i))
        return float(sum(alone[i, picked[i]] for i in range(choices)) + 0.3 * ties)

    return space, {candidate: latency(candidate) for candidate in space}


def within(space: SearchSpace, table: dict[Candidate, float], limit: float) -> tuple[Candidate, int]:
    """A candidate within a limit of latency, and how many were priced."""
    priced = Priced(lambda candidate: Cost(latency_s=table[candidate]))
    objectives = Objectives((Objective("latency_s"),), (("latency_s", limit),))
    return feasible_candidate(space, priced, objectives, seed=0), len(priced)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("choices", [4, 6])
def test_the_least_that_can_be_had_is_found_and_named(choices: int, seed: int) -> None:
    space, table = rugged(choices, seed)
    least = min(table.values())
    found, priced = within(space, table, least)
    assert table[found] == least
    assert priced < 1000
    with pytest.raises(ArgumentError, match="nearest") as refusal:
        within(space, table, least * 0.999)
    named = float(re.findall(r"nearest ([0-9.]+)\)", str(refusal.value))[0])
    assert least <= named <= least * 1.001
    assert table[within(space, table, named)[0]] <= named


def test_a_search_in_vain_of_a_large_space_does_not_say_that_there_is_none() -> None:
    space = SearchSpace("large", tuple(Choice(f"x{n}", (0, 1, 2, 3)) for n in range(6)))
    priced = Priced(lambda _: Cost(latency_s=1.0))
    objectives = Objectives((Objective("latency_s"),), (("latency_s", 0.5),))
    told = r"no candidate was found .* \(nearest 1\) among [0-9]+ priced of 4,096 of space 'large', the nearest is x0="
    with pytest.raises(ArgumentError, match=told):
        feasible_candidate(space, priced, objectives, seed=0)


def test_what_is_named_as_nearest_to_limits_that_conflict_can_be_had() -> None:
    space = SearchSpace("traded", tuple(Choice(f"x{n}", (1, 2, 3, 4, 5, 6)) for n in range(8)))

    def cost(candidate: Candidate) -> Cost:  # latency falls and memory rises with each width, at different rates
        widths = [int(value) for _, value in candidate.values]
        latency = sum(6 * (1 + n) / width for n, width in enumerate(widths))
        return Cost(latency_s=latency, parameter_bytes=float(sum((8 - n) * width**2 for n, width in enumerate(widths))))

    def within(latency_s: float, parameter_bytes: float) -> Candidate:
        limits = (("latency_s", latency_s), ("parameter_bytes", parameter_bytes))
        return feasible_candidate(space, Priced(cost), Objectives((Objective("latency_s"),), limits), seed=0)

    with pytest.raises(ArgumentError, match="nearest") as refusal:
        within(40.0, 500.0)
    latency, memory = map(float, re.findall(r"nearest ([0-9.]+)\)", str(refusal.value)))
    found = cost(within(latency, memory))
    assert found.latency_s <= latency
    assert found.parameter_bytes <= memory


def test_a_candidate_whose_cost_is_not_known_does_not_keep_to_a_limit() -> None:
    space, table = rugged(4, 0)
    unknown = {candidate for candidate in space if candidate["x0"] == 2}
    costs = {candidate: math.nan if candidate in unknown else latency for candidate, latency in table.items()}
    least = min(latency for candidate, latency in costs.items() if candidate not in unknown)
    assert within(space, costs, least)[0] not in unknown
    with pytest.raises(ArgumentError, match="no candidate of space 'rugged' keeps to latency_s"):
        within(space, costs, least * 0.99)
