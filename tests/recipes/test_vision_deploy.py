# SPDX-License-Identifier: Apache-2.0
"""A network leaves in four files that agree with torch and come back."""

import json
from pathlib import Path

import pytest
import torch

from sirdar.errors import OutputError
from sirdar.recipes import classification, detection
from sirdar.recipes.vision_deploy import deliver
from sirdar.vision.checkpoint import load_network


@pytest.mark.parametrize(
    "module", [classification, pytest.param(detection, marks=pytest.mark.slow)], ids=["classification", "detection"]
)
def test_every_form_agrees_with_torch(module: object, tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    pytest.importorskip("onnxscript")
    product = module.PRODUCT  # type: ignore[attr-defined]
    candidate = product.space.smallest()
    network = product.network(candidate).eval()
    found = deliver(product, candidate, network, product.example(candidate, 4), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "compiled.json",
        "network.onnx",
        "network.safetensors",
        "network.tflite",
    ]
    assert found["int8_error"] < 0.25  # of random weights; trained ones are measured on data
    stored = json.loads((tmp_path / "compiled.json").read_text())
    assert stored["vela"]["latency_s"] == found["latency_s"] > 0
    assert stored["vela"]["host_operators"] == 0
    other = product.network(product.space.candidate(stored["choices"]), 1).eval()
    load_network(tmp_path / "network.safetensors", other)
    image = product.example(candidate, 1, 5)
    with torch.inference_mode():
        one, two = network(image), other(image)
    pairs = zip(one, two, strict=True) if isinstance(one, tuple) else [(one, two)]
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    product = classification.PRODUCT
    network = product.network(product.space.smallest()).eval()
    with pytest.raises(OutputError, match="file/network.safetensors: cannot be written"):
        deliver(product, product.space.smallest(), network, product.example(product.baseline, 1), tmp_path / "file")
