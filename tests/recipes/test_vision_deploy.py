# SPDX-License-Identifier: Apache-2.0
"""A network leaves in four files that agree with torch and come back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sirdar.deploy.tflite import predict, write
from sirdar.errors import OutputError
from sirdar.recipes import classification, detection, vision_deploy
from sirdar.recipes.vision_deploy import Int8Network, deliver, deliver_winner
from sirdar.recipes.vision_product import Data, Product, searched
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.spent import Spent
from sirdar.search.study import Study
from sirdar.search.task import Trial
from sirdar.vision import training as training_module
from sirdar.vision.checkpoint import load_network
from sirdar.vision.images import Labelled


@pytest.mark.parametrize(
    "module", [classification, pytest.param(detection, marks=pytest.mark.slow)], ids=["classification", "detection"]
)
def test_every_form_agrees_with_torch(module: object, tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    pytest.importorskip("onnxscript")
    product = module.PRODUCT  # type: ignore[attr-defined]
    candidate = product.space.smallest()
    network = product.network(candidate).eval()
    calibration = product.example(candidate, 4).clamp(-0.99, 0.9)  # no byte is cut that the calibration lacks
    found = deliver(product, candidate, network, calibration, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "compiled.json",
        "network.onnx",
        "network.safetensors",
        "network.tflite",
        "network_vela.tflite",
    ]
    assert found["int8_error"] < 0.25  # of random weights; trained ones are measured on data
    stored = json.loads((tmp_path / "compiled.json").read_text())
    assert stored["vela"]["latency_s"] == found["latency_s"] > 0
    assert stored["vela"]["host_operators"] == 0
    _require_usable(stored, tmp_path, product.example(candidate, 1, 6))
    other = product.network(product.space.candidate(stored["choices"]), 1).eval()
    told = load_network(tmp_path / "network.safetensors", other)
    assert (told["height"], told["width"]) == product.size(candidate)
    image = product.example(candidate, 1, 5)
    with torch.inference_mode():
        one, two = network(image), other(image)
    pairs = zip(one, two, strict=True) if isinstance(one, tuple) else [(one, two)]
    assert all(torch.equal(a, b) for a, b in pairs)


def _require_usable(facts: dict[str, Any], folder: Path, image: torch.Tensor) -> None:
    """Both files run by what is said of them alone, and put out the same as far as 8 bits tell it."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    pixels = ((image + 1) * 127.5).round().numpy().astype(np.uint8)  # [1, 3, height, width]
    one, two = facts["input"]["onnx"], facts["input"]["tflite"]
    assert (one["layout"], two["layout"], two["value"]) == ("NCHW", "NHWC", "byte - 128")
    assert one["shape"][2:] == two["shape"][1:3] == list(facts["input"]["size"].values())
    session = onnxruntime.InferenceSession(folder / "network.onnx")
    interpreter = Interpreter(model_path=str(folder / "network.tflite"))
    interpreter.allocate_tensors()
    places = {
        row["name"]: row["index"] for row in (*interpreter.get_input_details(), *interpreter.get_output_details())
    }
    fed = (pixels.astype(np.int16) - 128).astype(np.int8).transpose(0, 2, 3, 1)
    interpreter.set_tensor(places[two["name"]], fed)
    interpreter.invoke()
    for name, row in facts["outputs"].items():
        (wanted,) = session.run([row["onnx"]["name"]], {one["name"]: (pixels / 127.5 - 1).astype(np.float32)})
        stored = row["tflite"]
        found = (interpreter.get_tensor(places[stored["name"]]) - np.float64(stored["zero_point"])) * stored["scale"]
        found = found.transpose(0, 3, 1, 2) if found.ndim == 4 else found
        assert row["meaning"], name
        assert np.abs(found - wanted).max() < 0.3 * np.abs(wanted).max()  # of random weights
    assert list(facts["outputs"]) == (["logits"] if facts["product"] != "detection" else ["scores", "distances"])


def small(steps: int) -> tuple[Product, Data, Labelled]:
    """Classification with one candidate and two dozen images of noise, of which the held ones come last."""
    candidate = classification.SPACE.smallest()
    product = replace(
        classification.PRODUCT,
        space=classification.SPACE.restrict({name: (value,) for name, value in candidate.values}),
        schedule=replace(classification.PRODUCT.schedule, steps=steps, batch=4),
    )
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    held = Labelled(images[12:], torch.arange(12) % 10, tuple("abcdefghij"))
    return product, classification.data_of(Labelled(images[:12], torch.arange(12) % 10, held.classes), held), held


def test_a_winner_s_training_that_was_killed_goes_on_to_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, data, _ = small(steps=20)  # a checkpoint after each
    trial = Trial(0, product.space.smallest(), {"top1": 0.1})
    wanted = Objectives((Objective("top1", "maximise"),))
    study = Study(product.space, wanted, (trial,), Spent(0.0, 0.0, None, None), chip="ethos-u55-128")
    left: list[dict[str, torch.Tensor]] = []
    steps: list[int] = []

    def leaves(_product: Product, _candidate: object, network: torch.nn.Module, *_rest: object) -> None:
        left.append(network.state_dict())
        raise KeyboardInterrupt  # what follows is tested above

    def training(dies_after: int, seed: int = 4, unfinished: Path | None = tmp_path / "unfinished") -> int:
        before = len(steps)
        update = training_module._update

        def updated(*arguments: object) -> None:
            if len(steps) - before == dies_after:
                raise KeyboardInterrupt
            steps.append(1)
            update(*arguments)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(training_module, "_update", updated)
            patched.setattr(vision_deploy, "deliver", leaves)
            with pytest.raises(KeyboardInterrupt):
                deliver_winner(product, data, study, tmp_path, seed, unfinished)
        return len(steps) - before

    assert training(99, unfinished=None) == 20
    assert training(13) == 13
    assert training(99, seed=5) == 20  # another training's checkpoint is left alone
    assert training(99) == 7
    whole, _, resumed = left
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_winner_is_judged_by_running_its_int8_file(tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    pytest.importorskip("onnxscript")
    product, data, held = small(steps=3)
    settings = {"strategy": "random", "trials": 1, "seed": 4}
    study = searched(product, data, "ethos-u55-128", {}, settings)
    found = deliver_winner(product, data, study, tmp_path, seed=4)
    assert found["top1"] == study.best.measures["top1"]  # trained as in the search
    file = (tmp_path / "network.tflite").read_bytes()
    fed = (held.images.float() - 128) / 127.5  # byte - 128, as compiled.json says
    named = [int(predict(file, image[None])[0].argmax()) for image in fed]
    assert found["top1_int8"] == np.mean(np.array(named) == held.labels.numpy())
    stored = json.loads((tmp_path / "compiled.json").read_text())
    assert (stored["chip"], stored["classes"]) == ("ethos-u55-128", list(held.classes))
    assert b"ethos-u" in (tmp_path / "network_vela.tflite").read_bytes()


@pytest.mark.slow
def test_a_detector_s_int8_file_stands_in_for_it() -> None:
    pytest.importorskip("ai_edge_litert")
    torch.manual_seed(0)
    candidate = detection.SPACE.smallest()
    network, images = detection.build(candidate).eval(), detection.PRODUCT.example(candidate, 2)
    with torch.inference_mode():
        wanted = network(images)
    found = Int8Network(write(network, images[:1], [images]))(images)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 0.25 * other.abs().max()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    product = classification.PRODUCT
    network = product.network(product.space.smallest()).eval()
    with pytest.raises(OutputError, match="file/network.safetensors: cannot be written"):
        deliver(product, product.space.smallest(), network, product.example(product.baseline, 1), tmp_path / "file")
