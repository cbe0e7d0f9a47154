# SPDX-License-Identifier: Apache-2.0
"""What `sirdar migrate` takes as a model: our own saved networks come back as they were."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.errors import ArgumentError, DataError
from sirdar.recipes import classification, detection, segmentation
from sirdar.recipes import migrate as recipe
from sirdar.recipes.migrate import open_model
from sirdar.tensors import write_tensors
from sirdar.vision.checkpoint import save_network


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_saved_camera_network_is_the_one_that_was_trained(tmp_path: Path, form: str) -> None:
    candidate = classification.SPACE.smallest()
    network = classification.build_for(candidate, 7).eval()  # not the ten classes of the recipe
    save_network(
        tmp_path / "network.safetensors", network, {"product": "classification", "choices": candidate.as_dict()}
    )
    module, example = open_model(str(tmp_path if form == "folder" else tmp_path / "network.safetensors"))
    assert isinstance(module, nn.Module)
    assert isinstance(example, torch.Tensor)
    with torch.inference_mode():
        assert torch.equal(module(example), network(example))
    assert not module.training


def test_a_detector_too(tmp_path: Path) -> None:
    candidate = detection.SPACE.smallest()
    network = detection.PRODUCT.network(candidate, 3).eval()
    save_network(tmp_path / "network.safetensors", network, {"product": "detection", "choices": candidate.as_dict()})
    module, example = open_model(str(tmp_path))
    assert isinstance(module, nn.Module)
    assert isinstance(example, torch.Tensor)
    assert tuple(example.shape) == (1, 3, *detection.SIZE)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in module.state_dict().items())


def test_a_classifier_comes_back_for_images_of_its_own_size(tmp_path: Path) -> None:
    candidate = classification.SPACE.smallest()
    network = classification.build_for(candidate, 3, (64, 72)).eval()  # its first convolution has a stride of 2
    facts = {"product": "classification", "choices": candidate.as_dict(), "height": 64, "width": 72}
    save_network(tmp_path / "network.safetensors", network, facts)
    module, example = open_model(str(tmp_path))
    assert isinstance(module, nn.Module)
    assert isinstance(example, torch.Tensor)
    assert tuple(example.shape) == (1, 3, 64, 72)
    with torch.inference_mode():
        assert torch.equal(module(example), network(example))


def test_a_segmenter_comes_back_whose_input_is_none_of_the_usual_space(tmp_path: Path) -> None:
    product = segmentation.product_for(3, ("96x112",))
    candidate = product.space.smallest()
    facts = {"product": "segmentation", "choices": candidate.as_dict()}
    save_network(tmp_path / "network.safetensors", product.network(candidate).eval(), facts)
    _, example = open_model(str(tmp_path))
    assert isinstance(example, torch.Tensor)
    assert tuple(example.shape) == (1, 3, 96, 112)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"product": "os"},
        {"product": "detection"},
        {"product": "detection", "choices": "all"},
        {"product": "detection", "choices": detection.BASELINE.as_dict(), "height": 65},
        {"product": "segmentation", "choices": segmentation.BASELINE.as_dict() | {"input": "0x112"}},
    ],
)
def test_a_strangers_file_is_refused_by_its_name(tmp_path: Path, facts: dict[str, object]) -> None:
    write_tensors(tmp_path / "network.safetensors", {"x": torch.zeros(1)}, facts)
    with pytest.raises(DataError, match=r"network\.safetensors"):
        open_model(str(tmp_path))


def test_an_empty_folder_is_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="saved forecaster or camera network"):
        open_model(str(tmp_path))


def test_the_files_of_an_earlier_migration_are_those_that_it_lists(tmp_path: Path) -> None:
    assert recipe.earlier(tmp_path) == []
    listed = [
        {"name": "network_planned.pt2", "sha256": "ab"},
        {"name": "network.onnx", "sha256": ""},  # it could not be written: what stands there is another's
        {"name": "../mine.txt", "sha256": "ab"},
    ]
    (tmp_path / "migration.json").write_text(json.dumps({"artefacts": listed}))
    assert recipe.earlier(tmp_path) == ["network_planned.pt2"]
    (tmp_path / "migration.json").write_text("[]")
    assert recipe.earlier(tmp_path) == []
