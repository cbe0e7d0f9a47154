# SPDX-License-Identifier: Apache-2.0
"""Services, the Pareto front, reasons and savings."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from sirdar.chips import advise, load
from sirdar.chips.option import dominator, front
from sirdar.chips.tiled import Tiled
from sirdar.errors import ArgumentError
from sirdar.testing.chips import example_graph
from sirdar.workload.trace import trace

GRAPH = example_graph(batch=8)
NIGHT = advise(GRAPH, per_day=1e6)


def test_a_service_by_hand() -> None:
    rate = 1e6
    ranking = advise(GRAPH, per_s=rate, chips=["trainium1"])
    latency_s = Tiled().estimate(GRAPH, load("trainium1"), "bf16").latency_s
    (small,) = [row for row in ranking.instances if row.instance == "trn1.2xlarge"]
    assert small.machines == math.ceil(rate * latency_s / 8)
    assert small.seconds == 86400
    assert small.price_usd == pytest.approx(small.machines * 24 * 1.34375)  # on demand, us-east-1, 2026-07-20
    assert small.latency_s == pytest.approx(latency_s + 7 / rate)  # until the batch is full
    assert [row.instance for row in ranking.options] == [
        min(ranking.instances, key=lambda r: r.price_usd or 0).instance
    ]


def test_the_front_is_what_nothing_dominates() -> None:
    able = [row for row in NIGHT.options if row.eligible]
    for row in able:
        better = [
            other
            for other in able
            if other.price_usd is not None
            and row.price_usd is not None
            and other.price_usd <= row.price_usd
            and other.energy_j <= row.energy_j
            and other.latency_s <= row.latency_s
            and (other.price_usd, other.energy_j, other.latency_s) != (row.price_usd, row.energy_j, row.latency_s)
        ]
        if better:
            assert not row.pareto
    assert any(row.pareto for row in able)
    assert front([]) == set()


def test_a_cheaper_twin_dominates_and_an_unknown_price_does_not() -> None:
    one = NIGHT.options[0]
    assert one.price_usd is not None
    dear, unknown = replace(one, price_usd=one.price_usd * 2), replace(one, price_usd=None)
    assert dominator(dear, [one, dear]) is one
    assert dominator(one, [one, dear, unknown]) is None
    assert dominator(unknown, [one, unknown]) is None


def test_every_loser_hears_why() -> None:
    best = NIGHT.best
    assert best is not None
    assert (NIGHT.options[0].reason, best.pareto) == ("", True)
    reasons = {row.chip: row.reason for row in NIGHT.options[1:]}
    assert all(reasons.values())
    assert reasons["trainium2"] == "has no public price"
    assert "times its price" in reasons["a100"]
    tight = advise(GRAPH, per_day=1e6, latency_s=1e-9)
    assert (tight.best, tight.options[0].reason) == (None, "one batch takes too long")


def test_options_without_a_price_are_ranked_by_energy() -> None:
    ranking = advise(GRAPH, per_day=1e6, region="eu-north-1")
    energies = [row.energy_j for row in ranking.options if row.eligible]
    assert all(a <= b for a, b in pairwise(energies))
    second = ranking.options[1].reason
    assert "takes more energy than" in second or "as good or better in energy and latency: " in second
    assert not any("price" in row.reason for row in ranking.options)  # of which nothing is known there


def test_the_saving_is_against_the_instance_in_use() -> None:
    saving = NIGHT.against("g5.xlarge")
    (now,) = [row for row in NIGHT.instances if row.instance == "g5.xlarge"]
    best = NIGHT.best
    assert best is not None
    assert now.price_usd is not None
    assert best.price_usd is not None
    assert saving.price_usd == pytest.approx(now.price_usd - best.price_usd)
    assert saving.price == pytest.approx(1 - best.price_usd / now.price_usd)
    assert NIGHT.against(str(best.instance)).price == 0
    with pytest.raises(ArgumentError, match=r"'g5.xlarg' is not among those considered.*Did you mean 'g5.xlarge'"):
        NIGHT.against("g5.xlarg")
    with pytest.raises(ArgumentError, match="no option with a price to compare"):
        advise(GRAPH, per_day=1e6, latency_s=1e-9).against("g5.xlarge")
    with pytest.raises(ArgumentError, match=r"the job costs nothing on g5.xlarge"):  # a network of views alone
        advise(trace(nn.Flatten(), (torch.zeros(2, 3, 4),)), per_day=1e6, chips=("a10g", "t4")).against("g5.xlarge")


@pytest.mark.parametrize("arguments", [{}, {"per_day": 1.0, "per_s": 1.0}])
def test_one_of_night_and_service_is_needed(arguments: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match="one of per_day and per_s must be given"):
        advise(GRAPH, **arguments)  # type: ignore[arg-type]


def test_graviton4_and_every_other_chip_of_the_catalogue_answer() -> None:
    assert {"graviton4", "inferentia1", "trainium3", "h200"} <= {row.chip for row in NIGHT.options}
