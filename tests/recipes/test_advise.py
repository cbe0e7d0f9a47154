# SPDX-License-Identifier: Apache-2.0
"""Networks by name: every forecaster that is one is counted whole, operator by operator."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sirdar.errors import DataError
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.mqrnn import MQRNN
from sirdar.forecasting.models.mqtransformer import MQTransformer
from sirdar.forecasting.models.textbook import Textbook
from sirdar.recipes.advise import estimate, network
from sirdar.testing.forecasters import example_panel

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
