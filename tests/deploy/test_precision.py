# SPDX-License-Identifier: Apache-2.0
"""Emulated formats against torch's own, plans against brute force and against their tolerance."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sirdar.deploy import precision, room
from sirdar.deploy.capture import capture
from sirdar.deploy.emulation import Formats, Network, Rounded, network, outputs, relative_error, rounded_to, run
from sirdar.deploy.precision import Tables, allocated, examined, plan, variances
from sirdar.errors import UnsupportedError


def perceptron(seed: int = 0, depth: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    layers = [part for _ in range(depth) for part in (nn.Linear(64, 64), nn.GELU())]
    return nn.Sequential(*layers, nn.Linear(64, 10)).eval()


def made(module: nn.Module, *example: torch.Tensor) -> Network:
    return network(capture(module, example))


X = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))


def test_fp32_is_the_network_itself() -> None:
    module = perceptron()
    net = made(module, X)
    torch.testing.assert_close(outputs(net)[0], module(X).detach())
    assert examined(net, Formats(), 0.01).error == 0


def test_a_network_that_draws_draws_the_same_in_every_format() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = perceptron(0, 1), perceptron(1, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            one, two = torch.randn_like(x), torch.randn_like(x)
            return self.first(x + one) + self.second(two), one - two

    net = made(Noisy().eval(), X)
    assert examined(net, Formats(), 0.01).error == 0
    assert 0 < examined(net, Formats(default="bf16"), 0.01).error < 0.01
    assert float(outputs(net)[1].std()) > 1  # of two draws, the square root of 2


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_16_bit_formats_agree_with_torch(name: str, dtype: torch.dtype) -> None:
    """torch computes each operator in fp32 and rounds its result, as the emulation does; sums differ in order."""
    module = perceptron()
    net = made(module, X)
    (exact,), (emulated,) = outputs(net), outputs(net, Formats(default=name, storage=name))
    own = perceptron().to(dtype)(X.to(dtype)).float().detach()
    ours, theirs = relative_error([(exact, emulated)]), relative_error([(exact, own)])
    assert ours == pytest.approx(theirs, rel=0.35)
    assert relative_error([(own, emulated)]) < 1.2 * theirs


@pytest.mark.gpu
def test_fp8_agrees_with_the_gpu() -> None:
    """torch._scaled_mm multiplies e4m3fn values in tensor cores and adds in fp32."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=False)
    net = made(layer, X[:, :64].repeat(2, 1))
    (emulated,) = outputs(net, Formats(default="e4m3fn"))
    x = X.repeat(2, 1).cuda()
    scales = x.abs().max() / 448, layer.weight.cuda().abs().max() / 448
    a = (x / scales[0]).to(torch.float8_e4m3fn)
    b = (layer.weight.cuda() / scales[1]).to(torch.float8_e4m3fn)
    own = torch._scaled_mm(a, b.t(), scale_a=scales[0], scale_b=scales[1], out_dtype=torch.bfloat16)
    assert relative_error([(own.float().cpu().detach(), emulated)]) < 2e-3


def test_narrower_formats_are_no_better() -> None:
    net = made(perceptron(), X)
    errors = [examined(net, Formats(default=name), 0.01).error for name in ("fp32", "tf32", "bf16", "e4m3fn", "e5m2")]
    assert errors == sorted(errors)


def test_overflow_is_infinite_in_fp16_and_harmless_in_bf16() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval()
    with torch.no_grad():
        module[0].weight *= 1e6
    net = made(module, torch.randn(4, 8))
    lost = examined(net, Formats(default="fp32", storage="fp16"), 0.01)
    assert lost.error == math.inf
    assert lost.layers[0].overflow > 0
    assert lost.first == lost.layers[0].name
    assert examined(net, Formats(default="bf16", storage="bf16"), 0.05).met


def test_variances_predict_the_error_of_one_layer() -> None:
    net = made(perceptron(), X)
    table = variances(net, ("fp32", "e4m3fn"), seed=0)
    for name, row in table.items():
        measured = examined(net, Formats({name: "e4m3fn"}), 0.1).error
        assert math.sqrt(row["e4m3fn"]) == pytest.approx(measured, rel=0.6)
        assert row["fp32"] == 0


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.floats(0.05, 3.0))
def test_the_allocation_is_near_the_optimum(seed: int, budget: float) -> None:
    """Brute force over four layers of three formats; a multiplier may lose one layer's choice, and never the budget."""
    generator = torch.Generator().manual_seed(seed)
    names, choices = tuple("abcd"), ("wide", "middle", "narrow")
    cost, variance = {}, {}
    for name in names:
        unit = float(torch.rand((), generator=generator)) + 0.1
        gap = float(torch.rand((), generator=generator))
        cost[name] = {"wide": 4 * unit, "middle": 2 * unit, "narrow": unit}
        variance[name] = {"wide": 0.0, "middle": gap / 8, "narrow": gap}
    tables = Tables(names, choices, cost, variance)

    def total(table: dict, chosen: tuple[str, ...]) -> float:
        return sum(table[name][choice] for name, choice in zip(names, chosen, strict=True))

    every = [row for row in itertools.product(choices, repeat=4) if total(variance, row) <= budget]
    found = tuple(allocated(tables, budget)[name] for name in names)
    assert total(variance, found) <= budget + 1e-9
    largest = max(max(row.values()) - min(row.values()) for row in cost.values())
    assert total(cost, found) <= min(total(cost, row) for row in every) + largest


@pytest.mark.parametrize("tolerance", [0.3, 0.05, 0.005, 1e-6])
def test_a_plan_meets_its_tolerance_when_it_can(tolerance: float) -> None:
    net = made(perceptron(), X)
    names = [node.name for node in net.program.graph.nodes if node.op == "call_function" and "addmm" in node.name]
    costs = {name: {"fp32": 4.0, "tf32": 2.0, "bf16": 1.5, "e4m3fn": 1.0} for name in names}
    found = plan(net, costs, ["bf16", "fp32"], tolerance)
    assert found.met
    assert examined(net, found.formats, tolerance).error == found.error
    if tolerance == 0.3:
        assert set(found.formats.layers.values()) == {"e4m3fn"}
    if tolerance == 1e-6:
        assert set(found.formats.layers.values()) == {"fp32"}


def test_a_plan_as_cheap_as_any_is_not_searched_further(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(precision, "variances", lambda *_rest, **_named: asked.append(1) or variances(*_rest, **_named))
    net = made(perceptron(), X)
    names = [node.name for node in net.program.graph.nodes if "addmm" in node.name]
    for narrow, searched in ((0.999, 0), (0.5, 1)):
        costs = {name: {"fp32": 4.0, "bf16": 1.0, "e4m3fn": narrow} for name in names}
        found = plan(net, costs, ["fp32"], 0.02)
        assert found.met
        assert len(asked) == searched
        assert found.latency_s <= len(names)
        assert found.error <= 0.95 * 0.02  # the rest is left to what a real run adds


def test_a_transposed_tensor_is_rounded_as_it_lies() -> None:
    x = torch.randn(300, 400, generator=torch.Generator().manual_seed(0))
    for name in ("bf16", "fp16", "tf32", "e4m3", "e5m2", "int8"):
        wanted = rounded_to(x.t().contiguous(), name)
        assert torch.equal(rounded_to(x.t(), name), wanted)
        assert torch.equal(rounded_to(x.t()[:50], name)[:3], rounded_to(x.t()[:50].contiguous(), name)[:3])
        small = x[:9, :9]
        assert torch.equal(rounded_to(small, name), rounded_to(small.contiguous(), name))


@pytest.mark.parametrize("name", ["bf16", "fp16", "tf32", "e4m3", "int8", "mxfp4_e2m1"])
def test_a_repeated_tensor_is_rounded_once(name: str) -> None:
    """The weights of attention stand in a product of as many copies as the batch has entries."""
    x = torch.randn(300, 400, generator=torch.Generator().manual_seed(0))
    many = x.t().unsqueeze(0).expand(50, 400, 300)
    found = rounded_to(many, name)
    assert torch.equal(found, rounded_to(many.contiguous(), name))
    assert found.untyped_storage().nbytes() == 4 * x.numel()
    along = x[:, :1].expand(300, 64)  # blocks lie along the last axis
    assert torch.equal(rounded_to(along, name), rounded_to(along.contiguous(), name))


@pytest.mark.parametrize(
    "module",
    [nn.LSTM(16, 24, batch_first=True), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)],
    ids=["steps", "batch"],
)
def test_rounded_weights_are_no_larger_than_weights(module: nn.Module) -> None:
    """Each of twenty steps and of twenty entries of a batch reads the same weights."""
    net = made(module.eval(), torch.randn(20, 20, 16))
    outputs(net, Formats(default="bf16", storage="bf16"))
    size = sum(4 * weight.numel() for weight in module.parameters())
    assert 0.5 * size < net.weights.bytes <= size


def test_what_was_used_last_is_kept_within_its_room() -> None:
    kept, asked = Rounded(room_bytes=80), []

    def ask(*names: str) -> list[str]:
        asked.clear()
        for name in names:
            kept.of((name,), lambda: asked.append(name) or torch.zeros(10))  # noqa: B023 - called at once
        return list(asked)

    assert ask("a", "b", "a", "b") == ["a", "b"]
    assert ask("a", "c", "a") == ["c"]
    assert kept.bytes == 80
    assert ask("b") == ["b"]
    assert kept.of(("large",), lambda: torch.zeros(100)).numel() == 100
    assert kept.bytes == 0


def test_layers_taken_by_turns_have_the_variances_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    choices = ("fp32", "bf16", "e4m3")
    nets = [made(perceptron(), X), made(layer, torch.randn(3, 5, 16))]
    whole = [variances(net, choices, seed=0) for net in nets]
    turns = []
    monkeypatch.setattr(precision, "_room_bytes", lambda _net: 0)
    alone = precision._alone
    monkeypatch.setattr(precision, "_alone", lambda *given: turns.append(1) or alone(*given))
    assert [variances(net, choices, seed=0) for net in nets] == whole
    assert len(turns) == sum(map(len, whole))


def test_what_has_no_room_is_said_instead_of_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    net = made(perceptron(), X)
    names = [node.name for node in net.program.graph.nodes if "addmm" in node.name]
    costs = {name: {"fp32": 4.0, "bf16": 1.0, "e4m3fn": 0.5} for name in names}
    monkeypatch.setattr(room, "spare_bytes", lambda: 1 << 28)  # enough to run, not to mix formats
    found = plan(net, costs, ["fp32"], 0.02)
    assert found.met
    assert set(found.formats.layers.values()) == {"bf16"}
    assert found.note == (
        "all layers have the same format: the search for formats layer by layer needs about 0.27 GB of memory, "
        "and 0.27 GB are to spare"
    )
    monkeypatch.setattr(room, "spare_bytes", lambda: 1 << 10)
    with pytest.raises(UnsupportedError, match=r"^a run in other formats needs about 0\.06 MB of memory, and 0\.00 MB"):
        plan(net, costs, ["fp32"], 0.02)
    with pytest.raises(UnsupportedError, match=r"^Sequential in fp32 needs about 0\.05 MB"):
        made(perceptron().double(), X.double())


def test_no_plan_is_said_to_meet_what_it_does_not() -> None:
    net = made(perceptron(), X)
    names = [node.name for node in net.program.graph.nodes if "addmm" in node.name]
    found = plan(net, {name: {"e5m2": 1.0} for name in names}, ["bf16"], 1e-4)
    assert not found.met
    assert found.error > 1e-4


def test_recurrent_and_convolutional_networks_run() -> None:
    torch.manual_seed(0)
    recurrent = made(nn.LSTM(4, 5, batch_first=True).eval(), torch.randn(2, 3, 4))
    assert examined(recurrent, Formats(default="bf16", storage="bf16"), 0.05).met
    image = made(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8))
    found = examined(image, Formats(default="e4m3fn"), 0.1)
    assert found.met
    assert [layer.operator for layer in found.layers] == ["convolution"]


def test_steps_come_in_order() -> None:
    seen = [step.node.name for step in run(made(perceptron(), X), Formats())]
    assert seen == sorted(seen, key=seen.index)
    assert len([name for name in seen if "addmm" in name]) == 4


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_8_bit_product_is_that_of_torch(device: str) -> None:
    """torch has scaled 8-bit products on processors and on GPUs; both add in fp32, in an order of their own."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(32, 64, generator=generator), torch.randn(64, 16, generator=generator) * 3
    scales = [value.abs().max() / 448 for value in (x, w)]
    a, b = ((value / scale).to(torch.float8_e4m3fn).to(device) for value, scale in zip((x, w), scales, strict=True))
    found = torch._scaled_mm(
        a, b.t().contiguous().t(), scales[0].to(device), scales[1].to(device), out_dtype=torch.bfloat16
    )
    wanted = rounded_to(x, "e4m3fn") @ rounded_to(w, "e4m3fn")
    assert relative_error([(wanted, found.float().cpu())]) < 2**-8  # the result is rounded to bf16 there
    assert relative_error([(x @ w, wanted)]) > 0.02


@pytest.mark.parametrize("low", [-torch.inf, torch.finfo().min, -1e9])
@pytest.mark.parametrize("written", ["causal", "added", "filled"])
def test_what_a_mask_hides_sets_no_scale(low: float, written: str) -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if written == "causal":
                return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
            scores, later = 0.3 * x @ x.transpose(1, 2), torch.ones(16, 16).triu(1)
            if written == "added":
                return (scores + torch.full((16, 16), low).triu(1)).softmax(-1) @ x
            return scores.masked_fill(later.bool(), low).softmax(-1) @ x

    x = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    net = made(Attention(), x)
    assert examined(net, Formats(default="int8", storage="int8"), 0.1).error < 0.06
    assert examined(net, Formats(default="bf16", storage="bf16"), 0.1).error < 0.01


def test_of_whole_numbers_the_share_that_differs_is_the_error() -> None:
    class Class(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax(1)

    x = torch.stack([torch.arange(64.0).roll(k) for k in range(8)])
    net = made(Class(), x)
    assert outputs(net)[0].dtype == torch.int64
    assert examined(net, Formats(), 0.01).error == 0
    close = made(Class(), torch.tensor([[0.0, 100.0, 100.1], [0.0, 50.0, 100.0]]))  # 8 bits do not tell 100 from 100.1
    assert examined(close, Formats(storage="int8"), 0.01).error == 0.5
    assert relative_error([(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5]))]) == 0.25
