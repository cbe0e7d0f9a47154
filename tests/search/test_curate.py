# SPDX-License-Identifier: Apache-2.0
"""Granules of staircases that are known, and what curation leaves of spaces counted by hand."""

import itertools
import math

import numpy as np
import pytest

from sirdar.chips import Chip, NullEstimator, OperatorCost, Roofline, Tiled, load
from sirdar.errors import ArgumentError
from sirdar.search.curate import PROBES, curate, curate_priced, curated, granules, landscape, measure_granule, probe
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.units import Cost
from sirdar.workload.graph import Graph

GRAIN = 16
SPACE = SearchSpace(
    "two layers",
    (
        Choice("first.channels", (8, 12, 16, 24, 32)),
        Choice("first.kernel", (3, 5)),
        Choice("second.channels", (40, 48, 56, 64)),
    ),
)


class Stairs:
    """An array that computes 16 output channels at once, and nothing else matters."""

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        del chip, dtype
        channels = graph.operators[-1].weights[0].shape[0]
        return Cost(latency_s=math.ceil(channels / GRAIN) * 1e-6, macs=float(graph.macs))

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        return NullEstimator().breakdown(graph, chip, dtype)


@pytest.mark.parametrize("size", [1, *range(4, 65, 4), 95])
def test_the_grain_of_a_staircase_is_found(size: int) -> None:
    assert measure_granule([float(math.ceil(n / size)) for n in range(1, 97)]).size == size


def test_a_slope_has_no_grain_and_does_not_hide_one() -> None:
    assert measure_granule([float(n) for n in range(1, 97)]).size == 1
    assert measure_granule([1.0] * 96).size == 1
    sloping = [math.ceil(n / 8) + 0.02 * n for n in range(1, 97)]
    assert measure_granule(sloping).size == 8


@pytest.mark.parametrize("size", [1, 16, 32, 128])
@pytest.mark.parametrize("seed", range(5))
def test_timings_that_vary_by_three_per_cent_show_the_grain(size: int, seed: int) -> None:
    noise = 1 + 0.03 * np.random.default_rng(seed).standard_normal(288)
    stairs = np.array([math.ceil(n / size) for n in range(1, 289)])
    assert measure_granule((noise * stairs).tolist()).size == size
    assert measure_granule((noise * 1e-3).tolist()).size == 1


def test_granules_come_from_the_estimator() -> None:
    chip = load("trainium1")
    assert granules(Stairs(), chip, "bf16", kinds=("standard",), widest=64)["standard"].size == GRAIN
    assert granules(Tiled(), chip, "bf16", kinds=("standard",))["standard"].size == 128
    assert {row.size for row in granules(Roofline(), chip, "bf16", widest=48).values()} == {1}


@pytest.mark.parametrize("kind", PROBES)
def test_probes_count_their_work(kind: str) -> None:
    graph = probe(kind, 24, inputs=32, resolution=8)
    each = {"standard": 9 * 32 * 64, "pointwise": 32 * 64, "depthwise": 9 * 64, "dense": 32 * 8}[kind]
    assert graph.macs == 24 * each
    assert graph.operators[0].weights[0].elements * (8 if kind == "dense" else 64) == graph.macs


def test_what_does_not_fill_the_grain_vanishes() -> None:
    curation = curate(SPACE, GRAIN)
    assert curation.space["first.channels"].options == (16, 32)
    assert curation.space["second.channels"].options == (48, 64)
    assert curation.space["first.kernel"].options == (3, 5)
    assert (curation.before, curation.space.size, curation.vanished) == (40, 8, 32)
    assert curation.dropped["second.channels"] == (40, 56)
    assert "40 candidates became 8: 80.0% vanished" in curation.sentence()


def test_a_choice_without_multiples_keeps_what_fills_best() -> None:
    small = SearchSpace("small", (Choice("a.channels", (4, 8, 12)), Choice("b.channels", (20, 28))))
    space = curate(small, GRAIN).space
    assert space["a.channels"].options == (12,)
    assert space["b.channels"].options == (28,)


def test_a_multiplier_is_added_once() -> None:
    curation = curate(SPACE, {"first.channels": 8}, multipliers=(0.5, 1.0))
    assert curation.space["multiplier"].options == (0.5, 1.0)
    assert curation.space["second.channels"].options == (40, 48, 56, 64)
    assert curation.before == 80
    assert curate(curation.space, 16, multipliers=(0.5,)).space["multiplier"].options == (0.5, 1.0)


def price(candidate: Candidate) -> Cost:
    widths = [int(value) for name, value in candidate.values if name.endswith("channels")]
    return Cost(latency_s=sum(math.ceil(w / GRAIN) for w in widths) * 1e-6, macs=float(sum(widths)))


def test_curation_makes_the_landscape_monotone() -> None:
    before, after = landscape(SPACE, price, 60), landscape(curate(SPACE, GRAIN).space, price, 60)
    assert before.monotone < 0.8
    assert after.monotone == 1.0
    assert after.spearman >= before.spearman
    assert len(before.points) == 60


def test_widths_that_save_nothing_where_they_stand_vanish() -> None:
    found = curate_priced(SPACE, price)
    assert found.space["first.channels"].options == (16, 32)  # 8 and 12 cost what 16 does, and 24 what 32 does
    assert found.space["second.channels"].options == (48, 64)
    assert found.space["first.kernel"].options == (3, 5)
    assert found.dropped == {"first.channels": (8, 12, 24), "second.channels": (40, 56)}
    assert (found.before, found.space.size) == (40, 8)


def test_a_slope_is_thinned_to_steps_that_count_and_what_costs_nothing_is_left_alone() -> None:
    space = SearchSpace("slope", (Choice("a.channels", tuple(range(1, 101))), Choice("b.channels", (8, 16, 24))))
    found = curate_priced(space, lambda candidate: Cost(latency_s=float(candidate["a.channels"])))
    kept = found.space["a.channels"].options
    assert kept[0] == 1
    assert kept[-1] == 100
    steps = [float(wide) - float(narrow) for narrow, wide in itertools.pairwise(kept)]
    assert all(9.9 < step < 11 for step in steps[1:])  # a tenth of 99; the cheapest stays whatever it saves
    assert found.space["b.channels"].options == (8, 16, 24)


def test_a_choice_that_is_seldom_there_is_priced_where_it_is() -> None:
    space = SearchSpace(
        "bent", (Choice("kind", ("plain", "ibn")), Choice("inner.channels", (8, 12, 16), "kind", ("ibn",)))
    )

    def inner(candidate: Candidate) -> Cost:
        return Cost(latency_s=1e-3 * (1 + math.ceil(float(candidate.get("inner.channels", 0)) / 8)))

    assert curate_priced(space, inner).space["inner.channels"].options == (8, 16)


def test_a_curated_space_is_drawn_before_and_after() -> None:
    found = curated(SPACE, price, sample=30)
    assert found.after.monotone == 1.0 > found.before.monotone
    stored = found.to_dict()
    assert stored["size"] == {"before": 40, "after": 8}
    assert stored["dropped"] == {"first.channels": [8, 12, 24], "second.channels": [40, 56]}
    assert len(stored["landscape"]["before"]["points"]) == 30


def test_a_step_may_bring_a_choice_that_the_largest_candidate_lacks() -> None:
    space = SearchSpace("bent", (Choice("depth", (1, 2, 3)), Choice("kernel", (3, 5), "depth", (2,))))
    found = landscape(space, lambda candidate: Cost(latency_s=float(candidate["depth"]), macs=1.0), 20)  # type: ignore[arg-type]
    assert len(found.points) == 20
    assert math.isnan(found.spearman)  # all do the same work


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        curate(SPACE, 0)
    with pytest.raises(
        ArgumentError, match="no channel choice 'first.chanels' to curate. Did you mean 'first.channels'"
    ):
        curate(SPACE, {"first.chanels": 8})
    with pytest.raises(ArgumentError, match="no numeric choice that ends with .width"):
        curate(SPACE, 8, endings=(".width",))
    with pytest.raises(ArgumentError, match="no numeric choice that ends with .depth"):
        curate_priced(SPACE, price, endings=(".depth",))
    with pytest.raises(ArgumentError, match="probe 'conv' is not known"):
        probe("conv", 3)


@pytest.mark.parametrize("grain", [1, 2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize("overhead", [0.0, 5.0, 50.0, 300.0])
def test_a_staircase_without_noise_shows_its_grain_whatever_stands_below_it(grain: int, overhead: float) -> None:
    assert measure_granule([overhead + -(-width // grain) for width in range(1, 289)]).size == grain


def test_no_layer_leaves_no_multiplier_idle() -> None:
    space = SearchSpace("top", (Choice("top.channels", (0, 12, 32)),))
    assert curate(space, 16).space["top.channels"].options == (0, 32)


@pytest.mark.parametrize("overhead", [0.0, 50.0])
def test_a_grain_of_two_is_not_lost_to_rounding(overhead: float) -> None:
    assert measure_granule([1e-6 * (overhead + 2 * math.ceil(c / 2)) for c in range(1, 289)]).size == 2


def test_channels_fill_the_grain_times_the_multiplier() -> None:
    widths = tuple(range(8, 100, 8))
    space = SearchSpace("scaled", (Choice("multiplier", (0.5, 1.0)), Choice("a.channels", widths)))
    assert curate(space, 24).space["a.channels"].options == (48, 96)
    plain = SearchSpace("plain", space.choices[1:])
    assert curate(plain, 24).space["a.channels"].options == (24, 48, 72, 96)
    assert curate(plain, 24, multipliers=(0.5, 1.0)).space["a.channels"].options == (48, 96)
