# SPDX-License-Identifier: Apache-2.0
"""One question about a chip has one answer, by whichever way it is asked."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import sirdar
from sirdar.chips import Tiled, load
from sirdar.chips import estimate as analytic
from sirdar.deploy.compiled import Vela, ethos_u
from sirdar.deploy.estimating import Compiler, estimate, estimator_of, has_compiler, method_of
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.recipes.advise import estimate as at_the_command_line
from sirdar.testing.chips import example_graph
from sirdar.workload.graph import Graph
from sirdar.workload.trace import trace


def camera(batch: int = 1) -> Graph:
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return trace(nn.Sequential(*layers), torch.zeros(batch, 3, 64, 64))


def test_an_ethos_u_is_asked_of_its_compiler_in_its_own_format() -> None:
    pytest.importorskip("ethosu.vela")
    graph, chip = camera(), ethos_u("ethos-u55-128")
    cost = sirdar.estimate(graph, "ethos-u55-128")
    assert cost == Vela().estimate(graph, chip, "int8") == at_the_command_line(graph, "ethos-u55-128").cost
    assert cost == sirdar.estimate(graph, chip, "int8")
    rows = Compiler().breakdown(graph, chip, "int8")
    assert sum(row.cost.latency_s for row in rows) == pytest.approx(cost.latency_s)
    assert analytic(graph, "ethos-u55-128") == Tiled().estimate(graph, chip, "int8") != cost


@pytest.mark.parametrize("chip", ["trainium1", "t4", "inferentia1"])
def test_every_other_chip_is_asked_of_its_sheet(chip: str) -> None:
    graph = example_graph()
    assert estimate(graph, chip) == estimate(graph, chip, "bf16") == analytic(graph, chip)


def test_a_format_that_nothing_replaces_is_refused_with_what_to_give() -> None:
    for way in (estimate, analytic):
        with pytest.raises(ArgumentError, match="nothing takes the place of bf16; give int8 as dtype"):
            way(camera(), "ethos-u55-128", "bf16")
    with pytest.raises(ArgumentError, match="computes in int8, and so must its estimate; got 'bf16'"):
        Compiler().estimate(camera(), load("ethos-u55-128"), "bf16")


def test_what_is_left_to_the_host_has_no_time_and_is_refused() -> None:
    pytest.importorskip("ethosu.vela")
    with pytest.raises(UnsupportedError, match=r"Vela leaves 1 operators to the host processor.*Batch > 1: 8"):
        estimate(camera(8), "ethos-u55-256")


def test_a_sheet_of_the_user_s_own_has_no_compiler_whatever_its_name() -> None:
    own = replace(load("t4"), name="ethos-u55-256")
    changed: dict[str, Any] = {"description": "a faster one"}
    assert not has_compiler(own)
    assert not has_compiler(replace(load("ethos-u55-256"), **changed))
    assert has_compiler(load("ethos-u55-256"))
    assert isinstance(estimator_of(own), Tiled)


def test_the_method_is_named() -> None:
    assert method_of(load("ethos-u55-256"), "int8") == "Arm's compiler, Vela"
    assert method_of(load("trainium1"), "bf16") == "whole tiles on its array, with shares fitted to measurements"
    assert method_of(load("this-cpu"), "fp32") == "a roofline, with the shares of its sheet"
