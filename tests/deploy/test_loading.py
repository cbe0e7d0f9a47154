# SPDX-License-Identifier: Apache-2.0
"""Networks by name: factories of the user's own, weights beside them, exported programs."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sirdar.deploy.loading import load, load_with_example
from sirdar.errors import ArgumentError, DataError
from sirdar.workload.trace import trace

FACTORY = """
import torch
def good():
    return torch.nn.Linear(4, 3), torch.zeros(2, 4)
def bare():
    return torch.nn.Linear(4, 3)
def words():
    return torch.nn.Linear(4, 3), ("x",)
def listed():
    return torch.nn.Linear(4, 3), [torch.zeros(2, 4)]
class Nested(torch.nn.Module):
    def forward(self, x, pair, twice=False, mask=None):
        y = x + pair[0] * mask - pair[1]
        return 2 * y if twice else y
def nested():
    one = torch.ones(2)
    return Nested(), (one, (2 * one, 3 * one), True, 5 * one)
def named():
    one = torch.ones(2)
    return Nested(), {"mask": 5 * one, "pair": (2 * one, 3 * one), "twice": True, "x": one}
number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "made_here.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "made_here", raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_factory_in_the_current_folder() -> None:
    module, example = load("made_here:good")
    assert not module.training
    assert module(*example).shape == (2, 3)


@pytest.mark.parametrize("form", ["nested", "named"])
@pytest.mark.usefixtures("here")
def test_named_and_nested_examples_as_they_are_and_in_a_row(form: str) -> None:
    module, example = load_with_example(f"made_here:{form}")
    found = module(**example) if isinstance(example, dict) else module(*example)
    assert found.tolist() == [16.0, 16.0]
    module, row = load(f"made_here:{form}")
    assert [float(item[0]) for item in row] == ([1.0, 2.0, 3.0, 5.0] if form == "nested" else [5.0, 2.0, 3.0, 1.0])
    assert module(*row).tolist() == [16.0, 16.0]


def test_factory_with_weights(here: Path) -> None:
    weights = {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}
    save_file(weights, here / "w.safetensors")
    module, _ = load("made_here:good@w.safetensors")
    assert torch.equal(module(torch.ones(1, 4)), torch.full((1, 3), 4.0))
    save_file({"weight": torch.ones(3, 4)}, here / "short.safetensors")
    with pytest.raises(DataError, match="does not fit Linear: Missing key"):
        load("made_here:good@short.safetensors")
    with pytest.raises(DataError, match=re.escape("none.safetensors: cannot be read")):
        load("made_here:good@none.safetensors")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("resnet", "must be given as package.module:factory"),
        ("no_such_module:f", "'no_such_module' of 'no_such_module:f' cannot be imported"),
        (":f", "cannot be imported"),
        ("made_here:god", "does not exist. Did you mean 'good'"),
        ("made_here:number", "cannot be called"),
        ("made_here:bare", "must return (module, example), got Linear"),
        ("made_here:words", "got a tuple of str"),
        ("made_here:listed", "must return a tensor, or a tuple or dict with tensors, as the example, got list"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_no_factory(spec: str, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        load(spec)


@dataclass
class Answer:
    logits: torch.Tensor


torch.export.register_dataclass(Answer, serialized_type_name="tests.Answer")


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.register_buffer("gain", torch.full((3,), 2.0))

    def forward(self, x: torch.Tensor, *, other: torch.Tensor) -> Answer:
        return Answer(self.layer(x) * self.gain + other + x.shape[0])


def test_exported_program_with_free_batch_keywords_and_named_outputs(tmp_path: Path) -> None:
    network, batch = Network().eval(), torch.export.Dim("batch")
    inputs, other = torch.randn(5, 4), torch.ones(5, 3)
    program = torch.export.export(
        network, (inputs,), {"other": other}, dynamic_shapes={"x": {0: batch}, "other": {0: batch}}
    )
    torch.export.save(program, tmp_path / "n.pt2")
    module, example = load(str(tmp_path / "n.pt2"))
    found = module(*example)
    torch.testing.assert_close(found["logits"], network(inputs, other=other).logits)
    assert module(torch.ones(7, 4), torch.ones(7, 3))["logits"].shape == (7, 3)
    assert trace(module, example).macs == 5 * 4 * 3


def test_exported_program_without_tensors_in_its_example(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("x")
    with pytest.raises(DataError, match="cannot be read as an exported program"):
        load(str(tmp_path / "text.pt2"))
