# SPDX-License-Identifier: Apache-2.0
"""Buckets against brute force, and properties of padding."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.deploy.buckets import choose, line
from sirdar.errors import ArgumentError


def wasted(counts: dict[int, float], chosen: tuple[int, ...]) -> float:
    return sum(weight * (min(c for c in chosen if c >= length) - length) for length, weight in counts.items())


@given(st.dictionaries(st.integers(1, 40), st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 5))
def test_one_axis_is_optimal(counts: dict[int, int], limit: int) -> None:
    """Brute force over every set of ends."""
    weights = {length: float(weight) for length, weight in counts.items()}
    chosen = line(weights, limit)
    top = max(counts)
    others = sorted(set(counts) - {top})
    every = [(*some, top) for size in range(min(limit, len(counts))) for some in itertools.combinations(others, size)]
    assert len(chosen) <= limit
    assert wasted(weights, chosen) == pytest.approx(min(wasted(weights, ends) for ends in every))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=30), st.integers(1, 6))
def test_every_input_finds_a_bucket(shapes: list[tuple[int, int]], limit: int) -> None:
    found = choose(shapes, limit)
    assert len(found.shapes) <= limit
    padded = 0
    for shape in shapes:
        bucket = found.of(shape)
        assert bucket in found.shapes
        assert all(size <= end for size, end in zip(shape, bucket, strict=True))
        padded += bucket[0] * bucket[1]
    assert padded == found.padded <= found.single_padded
    assert 0 <= found.waste <= found.single_waste < 1


@given(st.lists(st.tuples(st.just(3), st.integers(1, 40)), min_size=2, max_size=20))
def test_more_buckets_never_waste_more(shapes: list[tuple[int, int]]) -> None:
    wastes = [choose(shapes, limit).waste for limit in range(1, 6)]
    assert wastes == sorted(wastes, reverse=True)
    assert choose(shapes, 40).waste == 0


def test_an_input_goes_only_to_what_is_compiled() -> None:
    found = choose([(1, 128), (8, 64)], 4)
    assert found.shapes == ((1, 128), (8, 64))
    assert found.of((2, 3)) == (8, 64)
    with pytest.raises(ArgumentError, match="8x128 fits into no bucket of 1x128, 8x64"):
        found.of((8, 128))  # every length is there, the combination is not
    fixed = choose([(4, 128), (4, 64)], 4)
    assert fixed.of((3, 100)) == (4, 128)
    with pytest.raises(ArgumentError, match="8x100 fits into no bucket"):
        fixed.of((8, 100))


def test_fixed_shapes_need_one_bucket() -> None:
    found = choose([(2, 3), (2, 3)], 4)
    assert found.shapes == ((2, 3),)
    assert found.axes == ()
    assert found.waste == 0


@pytest.mark.parametrize("shapes", [[], [()], [(1, 2), (1,)], [(0,)], [(True,)]])
def test_what_is_no_shape_is_refused(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ArgumentError):
        choose(shapes, 3)


def test_a_larger_input_is_refused() -> None:
    with pytest.raises(ArgumentError, match="an input of 10 fits into no bucket of 4, 9"):
        choose([(4,), (9,)], 2).of((10,))
    with pytest.raises(ArgumentError, match=r"must have 1 sizes as the buckets have, got \(4, 4\)"):
        choose([(4,), (9,)], 2).of((4, 4))
