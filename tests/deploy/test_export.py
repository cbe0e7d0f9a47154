# SPDX-License-Identifier: Apache-2.0
"""Exported files compute what torch does, and only those that do get their name."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sirdar.deploy import export
from sirdar.deploy.export import export_onnx, export_pt2
from sirdar.errors import OutputError, UnsupportedError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + y, x * y


def test_a_pt2_file_computes_what_the_module_does(tmp_path: Path) -> None:
    module, x = network(), torch.randn(1, 3, 8, 8)
    module.train()
    export_pt2(module, x, tmp_path / "net.pt2")
    assert module.training
    found = torch.export.load(tmp_path / "net.pt2").module()(x)
    assert torch.allclose(found, module.eval()(x), atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]


class Counting(nn.Module):
    """Every run gives another answer, and changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x.mul_(2) * self.count


def test_a_module_that_changes_itself_and_its_input_has_a_file_and_stays_as_it_was(tmp_path: Path) -> None:
    module, x = Counting().eval(), torch.randn(2, 3)
    before = x.clone()
    export_pt2(module, x, tmp_path / "net.pt2")
    assert torch.equal(x, before)
    assert module.count == 1
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for _ in range(2):
        assert torch.equal(loaded(before.clone()), module(before.clone()))


def test_what_changes_itself_has_no_onnx_file_that_would_forget(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    x = torch.randn(2, 3)
    before = x.clone()
    with pytest.raises(
        UnsupportedError, match="Counting cannot be exported as onnx: it changes its own buffer 'count'"
    ):
        export_onnx(Counting(), x, tmp_path / "net.onnx")
    assert torch.equal(x, before)
    assert not list(tmp_path.iterdir())


def test_truth_values_masks_and_complex_numbers_are_compared(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return x > 0, x.argmax(1), x.masked_fill(x > 0, -torch.inf), x.log(), torch.complex(x, 2 * x)

    export_pt2(Odd(), torch.randn(2, 3), tmp_path / "net.pt2")
    undefined, masked = torch.tensor([1.0, torch.nan]), torch.tensor([-torch.inf, 1.0])
    for right, wrong in ((undefined, torch.ones(2)), (masked, torch.tensor([-torch.inf, 1.1]))):
        export._compare((right,), (right,), "it")
        with pytest.raises(UnsupportedError, match=r"it differs from torch by (nan|0\.1) "):
            export._compare((wrong,), (right,), "it")


@pytest.mark.slow
def test_an_onnx_file_computes_what_the_module_does(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    export_onnx(Two(), (x, y), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    names = [row.name for row in session.get_inputs()]
    found = session.run(None, {names[0]: x.numpy(), names[1]: y.numpy()})
    assert torch.allclose(torch.as_tensor(found[1]), x * y, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_file_that_computes_something_else_is_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UnsupportedError, match="Sequential as pt2 differs from torch by 0 of the largest value"):
        export_pt2(network(), torch.randn(1, 3, 8, 8), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_a_module_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match="Branching cannot be exported as pt2"):
        export_pt2(Branching(), torch.randn(3), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"missing/net.pt2: cannot be written \(No such file or directory\)"):
        export_pt2(network(), torch.randn(1, 3, 8, 8), tmp_path / "missing" / "net.pt2")
