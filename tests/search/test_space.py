# SPDX-License-Identifier: Apache-2.0
"""Spaces: sizes are counted by hand, moves are checked against full enumeration."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError, DataError
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.spaces import classifier, detector, mqcnn, mqtransformer, nasbench201, segmenter

# kind=a: 2 kernels; kind=b: 2 kernels x 3 expansions; kind=c: nothing more -> 2 + 6 + 1, times 2 depths.
CONDITIONAL = SearchSpace(
    "conditional",
    (
        Choice("kind", ("a", "b", "c")),
        Choice("kernel", (3, 5), "kind", ("a", "b")),
        Choice("expansion", (2, 4, 6), "kind", ("b",)),
        Choice("depth", (1, 2)),
    ),
)


ROWS = st.lists(st.tuples(st.integers(1, 3), st.integers(-1, 4)), min_size=1, max_size=5)


def space_of(rows: list[tuple[int, int]]) -> SearchSpace:
    """Choices of so many options, each perhaps depending on an earlier one's first option."""
    choices: list[Choice] = []
    for place, (count, parent) in enumerate(rows):
        depends = 0 <= parent < place
        choices.append(
            Choice(f"c{place}", tuple(range(count)), f"c{parent}" if depends else "", (0,) if depends else ())
        )
    return SearchSpace("any", tuple(choices))


@settings(max_examples=60)
@given(ROWS, st.integers(0, 1000))
def test_size_sampling_and_moves_agree_with_enumeration(rows: list[tuple[int, int]], seed: int) -> None:
    space = space_of(rows)
    members = list(space)
    assert len(members) == len(set(members)) == space.size
    rng = np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    assert {first, second, space.smallest(), space.largest()} <= set(members)
    assert space.mutate(first, rng) in members
    assert space.crossover(first, second, rng) in members
    assert space.crossover(first, first, rng) == first
    near = list(space.neighbours(first))
    assert first not in near
    assert set(near) <= set(members)
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert space.candidate(first.as_dict()) == first


def test_the_size_of_a_conditional_space_is_exact() -> None:
    assert CONDITIONAL.size == (2 + 6 + 1) * 2


def test_sampling_is_even_over_candidates() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(CONDITIONAL.sample(rng) for _ in range(9000))
    assert len(counts) == 18
    assert max(abs(count - 500) for count in counts.values()) < 5 * np.sqrt(500)


def test_what_does_not_matter_is_no_part_of_a_candidate() -> None:
    candidate = CONDITIONAL.candidate({"kind": "a", "kernel": 3, "expansion": 6, "depth": 1})
    assert "expansion" not in candidate
    assert candidate.get("expansion", 0) == 0
    assert candidate == CONDITIONAL.candidate({"kind": "a", "kernel": 3, "depth": 1})


def test_a_mutation_changes_as_many_choices_as_asked() -> None:
    rng = np.random.default_rng(1)
    space = nasbench201()
    start = space.sample(rng)
    for changes in (1, 3):
        moved = space.mutate(start, rng, changes)
        assert sum(a != b for a, b in zip(start.values, moved.values, strict=True)) == changes


def test_neighbours_of_a_cell_are_all_that_differ_in_one_edge() -> None:
    space = nasbench201()
    assert len(set(space.neighbours(space.smallest()))) == 6 * 4


def test_keys_do_not_change_between_versions() -> None:
    assert Candidate((("kind", "a"), ("depth", 1))).key == "9dc6c9bf797c10a5"
    assert Candidate((("depth", 1),)).key != Candidate((("depth", True),)).key != Candidate((("depth", "1"),)).key


def test_pin_forbid_and_restrict() -> None:
    assert CONDITIONAL.pin("kind", "c").size == 2
    assert CONDITIONAL.forbid("kind", "b").size == 6
    assert CONDITIONAL.restrict({"expansion": (2, 4)}).size == (2 + 4 + 1) * 2
    with pytest.raises(ArgumentError, match="has none of"):
        CONDITIONAL.pin("kind", "d")
    with pytest.raises(ArgumentError, match="has no 'd' to forbid"):
        CONDITIONAL.forbid("kind", "d")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "a", "kernel": 4, "depth": 1}, "choice 'kernel' must be one of"),
        ({"kind": "a", "depth": 1}, "got None"),
        ({"kinds": "a"}, "Did you mean 'kind'"),
        ({"kind": "c", "depth": True}, "must be one of"),
    ],
)
def test_wrong_candidates_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        CONDITIONAL.candidate(values)


def test_a_whole_number_stands_for_the_option_that_it_equals() -> None:
    space = SearchSpace("x", (Choice("multiplier", (0.5, 1.0)), Choice("deep", (False, True))))
    wanted = space.candidate({"multiplier": 1.0, "deep": True})
    for one in (1, np.int64(1), np.float64(1.0)):
        found = space.candidate({"multiplier": one, "deep": True})
        assert (found, found.key) == (wanted, wanted.key)
    assert space.pin("multiplier", 1) == space.pin("multiplier", 1.0) == space.forbid("multiplier", 0.5)
    with pytest.raises(ArgumentError, match="must be one of"):
        space.candidate({"multiplier": 1.0, "deep": 1})


def test_a_space_too_large_for_floating_point_is_sampled() -> None:
    many = tuple(Choice(f"c{n}", tuple(range(10)), "kind", ("a",)) for n in range(400))
    space = SearchSpace("large", (Choice("kind", ("a", "b")), *many))
    assert space.size == 10**400 + 1
    assert space.sample(np.random.default_rng(0))["kind"] == "a"


def test_wrong_spaces_are_refused() -> None:
    with pytest.raises(ArgumentError, match="two choices called 'a'"):
        SearchSpace("x", (Choice("a", (1,)), Choice("a", (2,))))
    with pytest.raises(ArgumentError, match="no earlier choice has them"):
        SearchSpace("x", (Choice("b", (1,), "a", (1,)), Choice("a", (1,))))
    with pytest.raises(ArgumentError, match="distinct options"):
        Choice("a", (1, 1))
    with pytest.raises(ArgumentError, match="distinct options"):
        Choice("a", (1, 1.0))
    with pytest.raises(ArgumentError, match="plain strings, numbers or booleans, got np.float64"):
        Choice("a", tuple(np.linspace(0.5, 1.0, 3)))
    with pytest.raises(DataError, match="schema 1, got 2"):
        SearchSpace.from_dict({"schema": 2})
    with pytest.raises(DataError, match="damaged"):
        SearchSpace.from_dict({"schema": 1, "name": "x"})


def test_encoding_tells_candidates_apart() -> None:
    rows = {tuple(CONDITIONAL.encode(candidate)) for candidate in CONDITIONAL}
    assert len(rows) == CONDITIONAL.size


def test_ready_made_spaces() -> None:
    assert nasbench201().size == 15625
    per_stage = 3 * 3 * 2 * (2 * 3 + 2)  # widths, depths, kernels, kinds of which two have three expansions
    assert classifier().size == 3 * 3 * per_stage**4
    assert detector().size == 3 * 3 * 4 * per_stage**4
    assert segmenter().size == 3 * 3 * 2 * 4 * per_stage**4
    assert mqcnn().size == 10 * 5 * 10
    assert mqtransformer().size == 6 * 5 * 6 * 3 * 3


def unchecked(kind: Any, **fields: object) -> Any:  # noqa: ANN401
    """An object as a program without jaxtyping makes it: what is a list here would not pass."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    made.__post_init__()
    return made


def test_lists_become_tuples() -> None:
    choices = [unchecked(Choice, name="a", options=[1, 2], parent="", when=())]
    choices += [unchecked(Choice, name="b", options=[3, 4], parent="a", when=[2])]
    space = unchecked(SearchSpace, name="s", choices=choices)
    assert space == SearchSpace("s", (Choice("a", (1, 2)), Choice("b", (3, 4), "a", (2,))))
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert len({space}) == 1


@pytest.mark.parametrize("options", [(24, 4, 8), (1.0, float("nan")), (float("nan"),), (1.0, float("inf"))])
def test_numbers_are_finite_and_rise(options: tuple[float, ...]) -> None:
    with pytest.raises(ArgumentError, match="options of choice 'w' are numbers, which must be finite and rise, got"):
        Choice("w", options)
