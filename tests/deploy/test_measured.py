# SPDX-License-Identifier: Apache-2.0
"""Measurements as such: what is reported, that nothing is left changed, what is refused. No bound on any time."""

import os
import statistics

import pytest
import torch
from torch import nn

from sirdar.chips.analytic import Estimator
from sirdar.chips.reading import load
from sirdar.deploy.measured import LiteRT, Timing, _repeat, time_module, time_tflite
from sirdar.deploy.tflite import from_graph
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.testing.chips import example_graph

pytest.importorskip("ai_edge_litert")


def test_a_file_is_timed() -> None:
    before = os.sched_getaffinity(0)
    found = time_tflite(from_graph(example_graph()), seconds=0.02, clock="cpu")
    assert 0 < found.least_s <= found.median_s
    assert found.runs >= 11
    assert found.clock == "cpu"
    assert os.sched_getaffinity(0) == before


def test_a_module_is_timed_and_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout()).train()
    threads = torch.get_num_threads()
    found = time_module(module, torch.randn(1, 8), seconds=0.02)
    assert found.median_s > 0
    assert module.training
    assert torch.get_num_threads() == threads


def test_the_median_and_the_quartiles_are_those_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says 1, 2, 3, ... microseconds for the runs."""
    from sirdar.deploy import measured

    ticks: list[int] = []

    def clock() -> int:
        ticks.append(0)
        count = len(ticks)
        return 0 if count % 2 else 1000 * (count // 2)

    monkeypatch.setitem(measured._CLOCKS, "wall", clock)
    monkeypatch.setattr(measured, "_MOST_RUNS", 20)
    found = _repeat(lambda: None, 10.0, "wall")
    times = [1000 * place for place in range(1, 21)]
    low, _, high = statistics.quantiles(times, n=4)
    assert found == Timing(statistics.median(times) / 1e9, 1e-6, (high - low) / statistics.median(times), 20, "wall")


def test_it_is_an_estimator_of_this_cpu() -> None:
    graph, chip = example_graph(), load("this-cpu")
    assert isinstance(LiteRT(), Estimator)
    rows = LiteRT(seconds=0.02).breakdown(graph, chip)
    assert [row.name for row in rows] == [operator.name for operator in graph.operators]
    assert LiteRT(seconds=0.02).estimate(graph, chip).macs == graph.macs
    with pytest.raises(ArgumentError, match=r"measures int8 networks on this CPU, got 'int8' on t4 \(gpu\)"):
        LiteRT().estimate(graph, load("t4"))


def test_what_is_wrong_is_refused() -> None:
    file = from_graph(example_graph())
    with pytest.raises(ArgumentError, match="threads must be a positive integer, got 0"):
        time_tflite(file, threads=0)
    with pytest.raises(ArgumentError, match="seconds must be finite and above zero, got -1.0"):
        time_tflite(file, seconds=-1.0)
    with pytest.raises(ArgumentError, match="LiteRT cannot load the file of 3 bytes"):
        time_tflite(b"abc")
    with pytest.raises(UnsupportedError, match="device must be cpu, or cuda on a machine that has one, got 'tpu'"):
        time_module(nn.Linear(2, 2), torch.randn(1, 2), device="tpu")


@pytest.mark.gpu
def test_a_gpu_is_waited_for() -> None:
    module = nn.Linear(512, 512)
    assert time_module(module, torch.randn(64, 512), device="cuda", seconds=0.05).median_s > 0
    assert next(module.parameters()).device.type == "cpu"
