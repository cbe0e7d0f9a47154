# SPDX-License-Identifier: Apache-2.0
"""A plan carried out by casts: torch's own 16-bit run, layer by layer as the plan says, opened from its file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sirdar.deploy import vendor
from sirdar.deploy.artefacts import outputs, write_all
from sirdar.deploy.capture import Captured, capture
from sirdar.deploy.carrying import carried, carried_format, changes_anything
from sirdar.deploy.emulation import Formats, network, relative_error
from sirdar.deploy.emulation import outputs as emulated
from sirdar.deploy.migrate import migrate
from sirdar.deploy.opening import opened
from sirdar.errors import UnsupportedError


class Attending(nn.Module):
    """Keyword inputs, a nested output, weights through views, and integers that must stay integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.mix = nn.Parameter(torch.randn(16, 16) / 4)

    def forward(self, tokens: torch.Tensor, *, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.layer(self.table(tokens)) * scale
        return {"scores": x @ self.mix.t(), "best": x[..., 0].argmax(-1)}  # sums are zero after a layer norm


TOKENS = torch.arange(10).reshape(2, 5)


def attending() -> Captured:
    return capture(Attending().eval(), {"tokens": TOKENS, "scale": torch.tensor(1.5)})


def error_of(captured: Captured, formats: Formats) -> float:
    found = outputs(replace(captured, program=carried(captured, formats).program))
    return relative_error([(a, b) for a, b in zip(outputs(captured), found, strict=True) if a.is_floating_point()])


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_whole_network_runs_as_torch_runs_it_in_that_type(name: str) -> None:
    captured = attending()
    found = carried(captured, Formats(default=name, storage=name))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    wanted = Attending().eval().to(dtype)(TOKENS, scale=torch.tensor(1.5, dtype=dtype))["scores"]
    got = found.program.module(check_guards=False)(**captured.keywords)
    assert got["scores"].dtype == torch.float32  # inputs and outputs keep the types of the original
    assert got["best"].dtype == torch.int64
    # Both round every result once; fused attention and layer norms differ in what they keep in fp32 meanwhile.
    assert relative_error([(wanted.detach().float(), got["scores"])]) < {"bf16": 0.01, "fp16": 0.001}[name]
    formats = Formats(default=name, storage=name)
    net = network(captured)
    with torch.no_grad():
        rounded = relative_error(list(zip(emulated(net), emulated(net, formats), strict=True)))
    exact = error_of(captured, formats)
    assert 0.5 < exact / rounded < 2


def test_each_layer_has_its_own_type_and_each_weight_is_kept_once() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    captured = capture(module, torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert captured.program is not None
    layers = [node.name for node in captured.program.graph.nodes if "addmm" in node.name]
    found = carried(captured, Formats({layers[0]: "fp16", layers[1]: "tf32", layers[2]: "e4m3"}, storage="bf16"))
    kinds = [node.meta["val"].dtype for node in found.program.graph.nodes if "addmm" in str(node.target)]
    assert kinds == [torch.float16, torch.float32, torch.bfloat16]
    assert dict(found.wider) == {layers[2]: "bf16"}
    weights = sorted(str(value.dtype) for value in found.program.state_dict.values())
    assert weights == ["torch.bfloat16"] * 2 + ["torch.float16"] * 2 + ["torch.float32"] * 2
    # fp16 -> bf16 after the first, bf16 -> fp32 -> bf16 around the second, and one at each end: inputs come as fp32.
    assert sum("_to_copy" in str(node.target) for node in found.program.graph.nodes) <= 6


class Rotary(nn.Module):
    """Asserts, once exported, what type a buffer has: an assertion that a cast of the buffer would break."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rates", torch.arange(1.0, 9.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x @ (self.rates.to(device=x.device, dtype=torch.float) / 8).diag())


def test_what_torch_asserts_of_types_is_not_carried_over() -> None:
    captured = capture(Rotary(), torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert captured.program is not None
    assert any("_assert_tensor_metadata" in str(node.target) for node in captured.program.graph.nodes)
    assert error_of(captured, Formats(default="bf16", storage="bf16")) < 0.02


def test_results_of_a_narrow_layer_are_narrow_in_torch_and_emulated() -> None:
    """Storage in fp32 with a product in bf16: torch gives the product as bf16, and so must the emulation."""
    torch.manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(32, 32), nn.Hardtanh())]
    captured = capture(nn.Sequential(*layers).eval(), torch.randn(64, 32))
    formats = Formats(default="bf16", storage="fp32")
    net = network(captured)
    with torch.no_grad():
        (rounded,) = emulated(net, formats)
        expected = relative_error(list(zip(emulated(net), [rounded], strict=True)))
    assert error_of(captured, formats) == pytest.approx(expected, rel=0.1)


def test_nothing_is_written_where_the_plan_changes_nothing() -> None:
    assert not changes_anything(Formats())
    assert not changes_anything(Formats(default="tf32"))
    assert not changes_anything(Formats(default="int8", storage="int8"))
    assert changes_anything(Formats(default="e4m3"))
    assert carried_format("e5m2") == "bf16"
    with pytest.raises(UnsupportedError, match="int8"):
        carried_format("int8")


def test_the_file_is_run_and_its_error_is_within_the_tolerance(tmp_path: Path) -> None:
    made = migrate(Attending().eval(), {"tokens": TOKENS, "scale": torch.tensor(1.5)}, chip="trainium1", tolerance=0.02)
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert made.captured is not None
    assert made.captured.module is not None
    planned = files[vendor.PLANNED]
    assert not planned.problem
    assert planned.difference is not None
    assert planned.difference <= 0.02
    program = opened(tmp_path / vendor.PLANNED)
    assert any("test_carrying.py" in node.meta.get("stack_trace", "") for node in program.graph.nodes)
    script = (tmp_path / "compile.py").read_text()
    assert vendor.PLANNED in script
    assert "--auto-cast-type=fp16" not in script  # the graph has its casts: no flag may add others
    space: dict[str, Any] = {"__file__": str(tmp_path / "compile.py"), "__name__": "compiling"}
    exec(script, space)  # all of it that needs no vendor's package
    module, inputs = space["network"]()
    exact = made.captured.module(**made.captured.keywords)["scores"]
    assert relative_error([(exact.detach(), module(*inputs)["scores"])]) <= 0.02


def test_a_plan_that_torch_cannot_keep_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sirdar.deploy import artefacts

    monkeypatch.setattr(artefacts, "relative_error", lambda _pairs: 0.5)
    made = migrate(Attending().eval(), {"tokens": TOKENS, "scale": torch.tensor(1.5)}, chip="trainium1", tolerance=0.02)
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert "0.5" in files[vendor.PLANNED].problem
    assert not (tmp_path / vendor.PLANNED).exists()
    assert "network.pt2" in (tmp_path / "compile.py").read_text()
