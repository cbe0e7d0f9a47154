# SPDX-License-Identifier: Apache-2.0
"""ONNX files against torch, under onnxruntime."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from sirdar.errors import OutputError, UnsupportedError
from sirdar.forecasting.export import NAMES, write_onnx
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.mqrnn import MQRNN
from sirdar.forecasting.models.mqtransformer import MQTransformer
from sirdar.forecasting.neural import NeuralForecaster
from sirdar.predictive import Frequency
from sirdar.testing.forecasters import example_panel

# The exporter warns of its own deprecations, in threads of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("rung", "length", "unit"),
    [(MQCNN, 40, "W"), (MQCNN, 240, "D"), (MQRNN, 40, "W"), (MQTransformer, 40, "W")],
)
def test_the_file_forecasts_what_torch_does_for_any_batch(
    rung: type[NeuralForecaster], length: int, unit: str, tmp_path: Path
) -> None:
    panel = replace(example_panel(length=length), frequency=Frequency(unit))
    price = np.random.default_rng(1).gamma(9, 1, len(panel.target)).astype(np.float32)
    panel = replace(panel, future={"price": price})
    model = rung(3, steps=4, width=8).fit(panel)
    model.export_onnx(tmp_path / "network.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    seen = dict(zip(NAMES, model._windows(panel).inputs(np.arange(len(panel))), strict=True))
    found = session.run(None, {part.name: seen[part.name].numpy() for part in session.get_inputs()})[0]
    assert [part.name for part in session.get_inputs()] == ["demand", "observed", "known"]  # the others have no channel
    with torch.inference_mode():
        expected = model.inference()[0](*seen.values()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Demand is in whole units here, and so is the forecast once it leaves the network. Look-alikes stand outside.
    assert model.learned is not None
    model.learned = replace(model.learned, alike=None)
    np.testing.assert_array_equal(model.predict(panel).values, np.floor(np.maximum.accumulate(expected, 2) + 0.5))


def test_the_network_on_features_is_exported_too(tmp_path: Path) -> None:
    model = FeedForward(3, steps=4, width=8).fit(example_panel())
    model.export_onnx(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    assert [part.name for part in session.get_inputs()] == ["shared", "ahead", "location", "spread"]


class Drifting(nn.Module):
    """Computes something else when it is exported."""

    def forward(self, demand: torch.Tensor) -> torch.Tensor:
        return demand + (1.0 if torch.compiler.is_exporting() else 0.0)


def test_a_file_that_computes_something_else_is_not_handed_over(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="the ONNX file differs from torch by"):
        write_onnx(Drifting(), (torch.rand(2, 5),), tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_onnx(nn.Identity(), (torch.rand(2, 5),), tmp_path / "nowhere" / "network.onnx")
