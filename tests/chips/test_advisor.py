# SPDX-License-Identifier: Apache-2.0
"""The advisor: sums by hand, marks, limits, and what it says when a fact is missing."""

import json
import math
from dataclasses import replace
from datetime import date

import pytest

from sirdar.chips import Chip, Instance, Number, advise, energy, estimate, grams_co2, load, names
from sirdar.chips.energy import grid
from sirdar.errors import ArgumentError
from sirdar.testing.chips import example_graph
from sirdar.workload.graph import Graph, Operator, TensorSpec

GRAPH = example_graph(batch=8)


def rented(name: str, chips: int, price: float | None, watts: float, memory: float = 1e9) -> Chip:
    """Trainium under another name, price, power and memory."""

    def fact(value: float) -> Number:
        return Number(value, "by hand", date(2026, 11, 22))

    instance = Instance(f"{name}.large", chips, "us-east-1", "by hand", date(2026, 11, 22), price)
    chip = load("trainium1")
    return replace(chip, name=name, instances=(instance,), power_w=fact(watts), memory_bytes=fact(memory))


def test_one_option_by_hand() -> None:
    chip = rented("four", chips=4, price=3.6, watts=100.0)
    latency_s = estimate(GRAPH, chip).latency_s
    # 1,001 examples in batches of 8 are 126 runs; four chips take 32 turns; 3.6 dollars an hour are 0.001 a second.
    (option,) = advise(GRAPH, per_day=1001, batch=8, chips=[chip]).options
    assert option.seconds == pytest.approx(32 * latency_s)
    assert option.price_usd == pytest.approx(32 * latency_s * 0.001)
    assert option.energy_j == pytest.approx(126 * latency_s * 100.0)
    # Cloud Carbon Footprint coefficients: 0.000415755 t/kWh in us-east-1
    assert option.grams_co2 == pytest.approx(option.energy_j / 3.6e6 * 415.755)
    assert (option.instance, option.chips, option.dtype) == ("four.large", 4, "bf16")
    assert (option.peak_bytes, option.parameter_bytes) == (GRAPH.peak_bytes("bf16"), GRAPH.parameter_bytes("bf16"))


def test_a_service_that_takes_no_time_still_holds_a_machine() -> None:
    x, y = TensorSpec((8, 2, 3), name="x"), TensorSpec((8, 6), name="y")
    views = Graph((Operator("flat", "view", (x,), (y,)),), (x,), ("y",))
    (option,) = advise(views, per_s=10, chips=[rented("one", chips=1, price=2.0, watts=100.0)]).options
    assert (option.machines, option.price_usd) == (1, pytest.approx(48.0))


def test_marks_go_to_the_least() -> None:
    chips = [rented("cheap", 1, 1.0, 300.0), rented("green", 1, 2.0, 10.0), rented("fast", 8, 90.0, 300.0)]
    ranking = advise(GRAPH, per_day=1e6, batch=8, chips=chips)
    assert (ranking.cheapest, ranking.greenest, ranking.fastest) == ("cheap", "green", "fast")
    assert [option.chip for option in ranking.options] == ["cheap", "green", "fast"]  # by price
    (green,) = [row for row in ranking.to_rows() if row["greenest"]]
    assert green["chip"] == "green"


def test_what_cannot_do_the_job_is_listed_last_and_wins_nothing() -> None:
    chips = [rented("tiny", 1, 0.01, 1.0, memory=1000.0), rented("roomy", 1, 1.0, 100.0)]
    ranking = advise(GRAPH, per_day=1000, batch=8, chips=chips)
    assert (ranking.cheapest, ranking.greenest, ranking.fastest) == ("roomy", "roomy", "roomy")
    last = ranking.options[-1]
    assert (last.chip, last.fits, last.eligible) == ("tiny", False, False)
    assert any("of the memory of tiny" in note for note in last.notes)


def test_a_latency_limit_disqualifies() -> None:
    ranking = advise(GRAPH, per_day=1000, batch=8, chips=["trainium1"], latency_s=1e-9)
    assert (ranking.cheapest, ranking.options[0].fast_enough) == (None, False)
    assert "more than the 1e-09 s allowed" in ranking.options[0].notes[-1]


def test_without_a_price_there_is_none_and_it_is_said() -> None:
    ranking = advise(GRAPH, per_day=1000, batch=8, chips=["trainium2"])
    (option,) = ranking.options
    assert (option.price_usd, option.instance, ranking.cheapest) == (None, None, None)
    assert ranking.greenest == "trainium2"
    assert any(note.startswith("no public price in us-east-1") for note in option.notes)


def test_the_format_used_instead_is_said() -> None:
    (option,) = advise(GRAPH, per_day=1000, batch=8, chips=["t4"]).options
    assert option.dtype == "fp16"
    assert "t4 does not compute in bf16; fp16 is used" in option.notes


def test_assumed_power_has_bounds_and_is_said() -> None:
    (option,) = advise(GRAPH, per_day=1000, batch=8, chips=["inferentia2"]).options
    assert option.energy_low_j < option.energy_j < option.energy_high_j
    assert option.power_assumed
    assert any("is an assumption: no figure is published" in note for note in option.notes)


def test_the_whole_catalogue_answers_in_plain_json() -> None:
    ranking = advise(GRAPH, per_day=1e6, batch=8)
    rows = json.loads(json.dumps(ranking.to_rows(), allow_nan=False))
    assert {row["chip"] for row in rows} == set(names())
    for mark in ("cheapest", "greenest", "fastest"):
        assert sum(row[mark] for row in rows) == 1
    assert "us-east-1" in " ".join(ranking.assumptions)


def test_unknown_operators_are_an_assumption() -> None:
    x, y = TensorSpec((4,), "fp32", "x"), TensorSpec((4,), "fp32", "y")
    sorts = Graph((Operator("sort", "unknown", (x,), (y,), attributes={"target": "aten.sort"}),), (x,), ("y",))
    ranking = advise(sorts, per_day=1, batch=1, chips=["trainium1"])
    assert "The work of 1 operators is not counted: sort (aten.sort)." in ranking.assumptions


def test_starting_operators_is_said_where_most_time_goes_into_it() -> None:
    (small,) = advise(example_graph(1, 8), per_day=1000, batch=1, chips=["h100"]).options
    assert small.bound == "overhead"
    assert any("a larger batch costs less" in note for note in small.notes)


def test_another_region_has_another_grid() -> None:
    here, there = (
        advise(GRAPH, per_day=1e3, batch=8, chips=["l4"], region=region) for region in ("us-east-1", "eu-north-1")
    )
    assert there.options[0].grams_co2 < here.options[0].grams_co2 / 10  # Sweden
    assert there.options[0].price_usd is None  # prices are listed for us-east-1 alone


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch": 0}, "batch must be a positive integer, got 0"),
        ({"per_day": math.nan}, "per_day must be a finite number > 0, got nan"),
        ({"per_day": 10**400}, "per_day must be a finite number > 0, got 1000"),
        ({"per_day": -4.0}, "per_day must be a finite number > 0, got -4.0"),
        ({"latency_s": 0.0}, "latency_s must be a finite number > 0, got 0.0"),
        ({"region": "eu-nort-1"}, r"region 'eu-nort-1' is not known.*Did you mean 'eu-north-1'\?"),
        ({"chips": []}, "chips must name at least one chip, got none"),
        ({"chips": ["tpu"]}, "no chip is called 'tpu'"),
        ({"chips": ["t4", load("t4")]}, "every chip needs a name of its own, got 't4' twice"),
        ({"dtype": "fp61"}, r"'fp61'; there are.*Did you mean 'fp16'\?"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        advise(GRAPH, **{"per_day": 1000.0, "batch": 8, **arguments})  # type: ignore[arg-type]


def test_energy_and_carbon() -> None:
    chip = rented("one", 1, 1.0, 200.0)
    assert energy(chip, 10.0, chips=3).mid_j == 6000.0
    assert grams_co2(3.6e6, "us-east-1") == pytest.approx(415.755)
    assert all(row.source and row.date for row in grid().values())


def test_the_batch_is_that_of_the_graph_when_it_is_not_given() -> None:
    given = advise(GRAPH, per_day=1000, batch=GRAPH.inputs[0].shape[0], chips=["t4"])
    assert advise(GRAPH, per_day=1000, chips=["t4"]).options == given.options


def test_a_region_without_prices_is_told_and_ranked_by_energy() -> None:
    ranking = advise(GRAPH, per_day=1e6, region="eu-central-1")
    said = " ".join(ranking.assumptions)
    assert "There are prices for us-east-1 only, and none for eu-central-1: chips are ranked by energy" in said
    assert "on-demand rate" not in said
    assert {option.price_usd for option in ranking.options} == {None}
    energies = [option.energy_j for option in ranking.options if option.eligible]
    assert energies == sorted(energies)
    notes = {option.chip: option.notes for option in ranking.options}
    lacking = "no public price in eu-central-1 on the sheet, but in us-east-1;"
    assert any(note.startswith(lacking) for note in notes["t4"])
    assert any(note.startswith("no public price in eu-central-1;") for note in notes["trainium2"])
    with pytest.raises(ArgumentError, match="no chip has an instance with a price in the region.*'g5.xlarge'"):
        ranking.against("g5.xlarge")


def test_chips_that_have_no_price_anywhere_are_told() -> None:
    ranking = advise(GRAPH, per_day=1e6, chips=["trainium2"])
    assert any(row.startswith("None of the chips has a public price: chips are") for row in ranking.assumptions)


def test_a_service_is_priced_by_the_day_and_says_so() -> None:
    night, service = advise(GRAPH, per_day=1e6), advise(GRAPH, per_s=10)
    assert (night.daily, service.daily) == (False, True)
    assert any(row.startswith("Price is the on-demand rate for the seconds of computing;") for row in night.assumptions)
    assert any(row.startswith("Price is the on-demand rate for a whole day of all") for row in service.assumptions)
    assert any("It is that of a day; chips that wait draw" in row for row in service.assumptions)


def test_without_a_word_on_formats_a_chip_of_integers_alone_takes_its_own() -> None:
    (option,) = advise(GRAPH, per_day=1e6, chips=["ethos-u55-128"]).options
    assert option.dtype == "int8"
    assert "ethos-u55-128 does not compute in bf16; int8 is used" in option.notes
    assert any(note.startswith("time is from the sheet") for note in option.notes)
    with pytest.raises(ArgumentError, match="nothing takes the place of fp16; give int8 as dtype"):
        advise(GRAPH, per_day=1e6, chips=["ethos-u55-128"], dtype="fp16")


def test_a_family_of_formats_is_answered_for_the_whole_catalogue() -> None:
    with pytest.raises(ArgumentError, match=r"floats of 8 bits are .*, and the catalogue computes in .*e4m3fn"):
        advise(GRAPH, per_day=1e6, dtype="fp8")
