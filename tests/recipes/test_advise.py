# SPDX-License-Identifier: Apache-2.0
"""Networks by name: every forecaster that is one is counted whole, operator by operator."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sirdar.chips import load
from sirdar.errors import ArgumentError, DataError, UnsupportedError
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.mqrnn import MQRNN
from sirdar.forecasting.models.mqtransformer import MQTransformer
from sirdar.forecasting.models.textbook import Textbook
from sirdar.recipes.advise import advise, estimate, format_on, network
from sirdar.testing.forecasters import example_panel
from sirdar.workload.graph import Graph
from sirdar.workload.trace import trace

FORECASTERS = [MQCNN, MQRNN, MQTransformer, FeedForward]


@pytest.fixture(scope="module", params=FORECASTERS, ids=lambda one: one.__name__)
def trained(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - they share no base
    return request.param(3, steps=1, width=8).fit(example_panel())


def counted(module: nn.Module, example: tuple[torch.Tensor, ...]) -> int:
    """Multiply-accumulates as torch counts them, without fused kernels that it does not see into."""
    with (
        torch.backends.mkldnn.flags(enabled=False),
        sdpa_kernel(SDPBackend.MATH),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        module(*example)
    return counter.get_total_flops() // 2


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch, when oneDNN is switched off
def test_every_forecaster_is_counted_from_its_folder(trained: Any, tmp_path: Path) -> None:  # noqa: ANN401
    trained.save(tmp_path / "model")
    graph = network(str(tmp_path / "model"), 16)
    assert graph.unknown == ()
    assert graph.macs == counted(*trained.inference(16)) > 0
    found = estimate(graph, "trainium1", "bf16")
    assert 0 < found.least_peak_bytes <= found.cost.peak_bytes
    assert sum(row["macs"] for row in found.layers) == graph.macs


def test_a_forecaster_without_a_network_is_refused_by_its_kind(tmp_path: Path) -> None:
    Textbook(3, "theta").fit(example_panel()).save(tmp_path / "model")
    with pytest.raises(DataError, match=r"holds a 'textbook' forecaster, which is no network"):
        network(str(tmp_path / "model"))


def camera(batch: int = 1) -> Graph:
    """A small network that Ethos-U takes whole, one picture at a time."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return trace(nn.Sequential(*layers), torch.zeros(batch, 3, 64, 64))


def test_an_exported_network_keeps_its_batch_and_is_refused_by_its_own_name(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(3, 4), (torch.zeros(2, 3),)), tmp_path / "mine.pt2")
    assert network(str(tmp_path / "mine.pt2")).macs == 2 * 3 * 4
    with pytest.raises(UnsupportedError, match=r"torch.export cannot follow mine.pt2.*equal to 2, but got 8"):
        network(str(tmp_path / "mine.pt2"), 8)


def test_an_npu_that_is_named_is_ranked_by_its_compiler() -> None:
    pytest.importorskip("ethosu.vela")
    ranking = advise(camera(), chips=["t4", "ethos-u85-512"], per_s=10)
    assert ranking.best is not None
    assert ranking.best.chip == "t4"  # which has a price
    npu = ranking.options[-1]
    assert (npu.chip, npu.dtype, npu.reason) == ("ethos-u85-512", "int8", "has no public price")
    assert npu.latency_s == estimate(camera(), "ethos-u85-512", "bf16").cost.latency_s
    assert "time and memory are estimated by Vela" in npu.notes
    assert npu.energy_j < ranking.best.energy_j


def test_a_compiler_that_orders_operators_itself_is_told_of_no_better_order() -> None:
    pytest.importorskip("ethosu.vela")
    one = trace(nn.Flatten(), torch.zeros(1, 4, 3))  # of a single operator, for which Vela takes more memory
    found = estimate(one, "ethos-u55-256", "int8")
    assert found.least_peak_bytes == found.cost.peak_bytes > one.peak_bytes("int8")


def test_a_sheet_of_the_user_s_own_is_estimated_by_its_own_numbers_whatever_its_name(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    sheet = (files("sirdar.chips") / "catalogue" / "t4.toml").read_text(encoding="utf-8")
    own.write_text(sheet.replace('name = "t4"', 'name = "ethos-u55-256"'))
    assert estimate(camera(), str(own), "fp16").cost == estimate(camera(), "t4", "fp16").cost
    (row,) = advise(camera(), chips=[str(own)], per_s=10, dtype="fp16").options
    assert (row.chip, row.dtype) == ("ethos-u55-256", "fp16")


def test_an_npu_that_cannot_run_a_network_is_left_out_in_a_sentence() -> None:
    pytest.importorskip("ethosu.vela")
    sentence = "ethos-u55-256 is not ranked: Vela leaves 1 operators to the host processor.*Batch > 1: 8"
    with pytest.raises(UnsupportedError, match=sentence):
        advise(camera(8), chips=["ethos-u55-256"], per_s=10)
    ranking = advise(camera(8), chips=["ethos-u55-256", "t4"], per_s=10)
    assert [option.chip for option in ranking.options] == ["t4"]
    assert ranking.assumptions[-1].startswith("ethos-u55-256 is not ranked: Vela leaves 1 operators")
    sorts = trace(Sorts(), torch.zeros(4, 4))
    with pytest.raises(UnsupportedError, match=r"operator 'sort' of graph 'Sorts' .* is not covered by int8 TFLite"):
        estimate(sorts, "ethos-u55-256", "int8")


class Sorts(nn.Module):
    """What TFLite has nothing for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sort(x).values * 2


def test_where_no_chip_is_named_it_is_said_that_npus_are_not_ranked() -> None:
    ranking = advise(camera(), per_s=10)
    assert not any(option.chip.startswith("ethos") for option in ranking.options)
    assert ranking.assumptions[-1].startswith("Ethos-U NPUs are not ranked")


def test_an_estimate_says_by_which_method_and_of_which_module() -> None:
    pytest.importorskip("ethosu.vela")
    npu, chip = estimate(camera(), "ethos-u55-128"), estimate(camera(), "trainium1")
    assert (npu.dtype, npu.to_dict()["method"]) == ("int8", "Arm's compiler, Vela")
    assert (chip.dtype, chip.to_dict()["method"].split(",")[0]) == ("bf16", "whole tiles on its array")
    assert [row["module"] for row in chip.layers if row["kind"] in ("conv", "matmul")] == ["0", "4"]
    assert "of the 4,096 KiB of SRAM that the sheet of ethos-u55-128 takes a board to have" in npu.fit


def test_the_format_is_that_of_the_chip_or_what_takes_its_place() -> None:
    assert [format_on(load(name), None) for name in ("t4", "ethos-u55-128")] == ["fp16", "int8"]
    assert [format_on(load(name), "fp32") for name in ("t4", "ethos-u55-128")] == ["fp32", "int8"]
    with pytest.raises(ArgumentError, match="'fp8'; floats of 8 bits are .* and ethos-u55-128 computes in none"):
        format_on(load("ethos-u55-128"), "fp8")
