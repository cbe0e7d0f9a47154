# SPDX-License-Identifier: Apache-2.0
"""Quantised layers against the same products in fp64, scales, and the 448/240 rescale."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.numerics import quantise
from sirdar.numerics.layers import Precision, QuantisedLayer, quantised, rounded
from sirdar.numerics.scaling import rescale, scale_of, scaled_rounding

EXACT = Precision(weight=None, activation=None, gradient=None)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(64, 16), (5, 64)),
        (nn.Conv1d(4, 8, 3, padding=1, padding_mode="circular"), (2, 4, 20)),
        (nn.Conv2d(4, 8, 3, groups=2), (2, 4, 9, 9)),
        (nn.Conv3d(2, 3, 2, bias=False), (1, 2, 4, 4, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_without_formats_a_layer_is_itself(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    assert torch.equal(QuantisedLayer(layer, EXACT)(x), layer(x))


def test_products_of_rounded_operands_are_summed_in_fp32() -> None:
    layer, x = nn.Linear(512, 32, bias=False), 3 * normal(7, 512)
    y = QuantisedLayer(layer, Precision(scaling="none"))(x)
    weight = layer.weight.detach()
    exact = quantise(x, "e4m3fn").double() @ quantise(weight, "e4m3fn").double().T
    # fp32 sums of 512 terms: at most 512 units of 2^-24 of the sum of magnitudes (Higham 2002, section 3.1)
    assert ((y - exact).abs() <= 512 * 2.0**-24 * (x.abs() @ weight.abs().T + 1)).all()
    assert not torch.allclose(y, layer(x), rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(QuantisedLayer(layer, Precision(scaling="none"))(x), y)


def test_formats_are_chosen_apart() -> None:
    layer, x = nn.Linear(32, 8), normal(3, 32)
    only_weight = QuantisedLayer(layer, Precision("e2m1", None, None, scaling="channel"))(x)
    weight = scaled_rounding(layer.weight.detach(), "e2m1", scaling="channel", axis=0)
    assert torch.equal(only_weight, nn.functional.linear(x, weight, layer.bias))
    only_activation = QuantisedLayer(layer, Precision(None, "e3m4", None))(x)
    assert torch.equal(only_activation, layer(scaled_rounding(x, "e3m4")))


def test_gradients_pass_straight_through_and_are_rounded_on_the_way() -> None:
    layer, x = nn.Linear(32, 8, bias=False), normal(3, 32).requires_grad_()
    pull = normal(3, 8, seed=1)
    precision = Precision(None, None, "e5m2", scaling="none", gradient_rounding="nearest")
    QuantisedLayer(layer, precision)(x).backward(pull)
    assert torch.allclose(x.grad, quantise(pull, "e5m2") @ layer.weight.detach())
    assert torch.allclose(layer.weight.grad, quantise(pull, "e5m2").T @ x.detach())
    y = normal(10).requires_grad_()
    rounded(y, "e2m1", scaling="none").sum().backward()
    assert torch.equal(y.grad, torch.ones(10))


def test_every_step_draws_anew_and_evaluation_does_not() -> None:
    layer = QuantisedLayer(nn.Linear(64, 64), Precision(rounding="stochastic", seed=2))
    x = normal(4, 64)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    again = QuantisedLayer(layer.inner, layer.precision)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.eval()(x), layer(x))


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4_e2m1", "mxint8"])
def test_block_formats_run_along_the_axis_that_is_summed(name: str) -> None:
    x, weight = normal(2, 64, 5, 5), nn.Conv2d(64, 8, 3)
    y = QuantisedLayer(weight, Precision(name, name, name))(x)
    blocks_x = quantise(x.permute(0, 2, 3, 1), name).permute(0, 3, 1, 2)
    blocks_w = quantise(weight.weight.detach().permute(0, 2, 3, 1), name).permute(0, 3, 1, 2)
    assert torch.allclose(y, nn.functional.conv2d(blocks_x, blocks_w, weight.bias), atol=1e-5)
    y.sum().backward()
    assert weight.weight.grad.isfinite().all()


def test_quantised_replaces_layers_in_a_copy() -> None:
    net = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    copy = quantised(net, Precision(), skip=("3",))
    assert [type(part).__name__ for part in copy] == ["QuantisedLayer", "ReLU", "Flatten", "Linear"]
    assert isinstance(net[0], nn.Conv1d)
    assert isinstance(quantised(nn.Linear(2, 2), Precision()), QuantisedLayer)
    x = normal(2, 3, 10)
    # e4m3 keeps 3 mantissa bits, so operands are within 1/16 and a layer of independent errors well within a quarter
    assert (copy(x) - net(x)).abs().max() < 0.25 * net(x).abs().max()


def test_scales_bring_the_largest_magnitude_to_the_largest_value() -> None:
    x = normal(4, 100) * torch.tensor([[1e-6], [1.0], [1e5], [0.0]])
    scale = scale_of(x, "e4m3fn", axis=0)
    assert scale.shape == (4, 1)
    assert (x / scale).abs().amax(1).tolist() == pytest.approx([448, 448, 448, 0])
    assert scale_of(x, "e4m3fn").shape == (1, 1)
    x[0, 0] = torch.inf
    assert scale_of(x, "e4m3fn", axis=0).isfinite().all()
    by_channel = scaled_rounding(
        normal(4, 100) * torch.tensor([[1e-6], [1.0], [1e3], [1.0]]), "e4m3fn", scaling="channel"
    )
    assert by_channel[0].count_nonzero() > 90  # one scale for all would leave nothing of this row


def test_weights_of_448_move_to_240() -> None:
    # neuronx-distributed, README_rescaling_fp8_for_neuron.md: weight / (448/240), scale * (448/240)
    weight, scale = quantise(448 * normal(1000).clamp(-1, 1), "e4m3fn"), torch.tensor(0.01)
    moved, new_scale = rescale(weight, scale)
    assert new_scale == pytest.approx(0.01 * 448 / 240)
    assert moved.abs().max() == 240
    assert torch.equal(quantise(moved, "e4m3", overflow="ieee"), moved)
    assert torch.allclose(moved * new_scale, weight * scale, rtol=1 / 16, atol=2.0**-9 * float(new_scale))


def test_what_is_refused() -> None:
    with pytest.raises(ArgumentError, match="got LayerNorm"):
        QuantisedLayer(nn.LayerNorm(3), EXACT)
    with pytest.raises(ArgumentError, match="no number format is called 'e4'"):
        Precision(weight="e4")
    with pytest.raises(ArgumentError, match=r"skip names '7', .* there are 0"):
        quantised(nn.Sequential(nn.Linear(2, 2)), EXACT, skip=("7",))
    with pytest.raises(ArgumentError, match="layer '0' is quantised already"):
        quantised(quantised(nn.Sequential(nn.Linear(2, 2)), EXACT), EXACT)
    with pytest.raises(ArgumentError, match="layer '' is lazy and has no weights yet: run the module once first"):
        quantised(nn.LazyLinear(2), EXACT)
    with pytest.raises(ArgumentError, match="mxint8 carries its own scales"):
        rescale(normal(3), torch.ones(()), source="mxint8")
    with pytest.raises(ArgumentError, match="axis must be one of the 2 that x has, got 5"):
        scale_of(normal(2, 3), "e4m3fn", axis=5)
    with pytest.raises(ArgumentError, match=r"x holds 1e\+300, which fp32 cannot, and scales are fp32"):
        scaled_rounding(torch.tensor([1e300, 1.0], dtype=torch.float64), "e4m3fn")


def test_layers_with_hooks_are_refused_unless_skipped() -> None:
    """A hook may be what makes the weight (`weight_norm` of old); a quantised layer runs those of its own."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    calls: list[str] = []
    net[1].register_forward_pre_hook(lambda *_: calls.append("before"))
    with pytest.raises(ArgumentError, match="layer '1' has forward pre hooks, which would not run: .* name it in skip"):
        quantised(net, EXACT)
    with pytest.raises(ArgumentError, match="layer Linear has forward pre hooks"):
        QuantisedLayer(net[1], EXACT)
    made = quantised(net, EXACT, skip=("1",))
    made[0].register_forward_hook(lambda *_: calls.append("after"))
    made(normal(1, 2))
    assert calls == ["after", "before"]


class Own(nn.Linear):
    """A layer whose forward pass is not that of its class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.softmax(-1).T


@pytest.mark.parametrize(
    ("layer", "example"),
    [
        (nn.MultiheadAttention(4, 2, batch_first=True), 3 * (torch.ones(1, 3, 4),)),
        (nn.LSTM(4, 4, batch_first=True), (torch.ones(1, 3, 4),)),
        (nn.ConvTranspose1d(3, 2, 2), (torch.ones(1, 3, 4),)),
        (Own(4, 4), (torch.ones(3, 4),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_that_multiply_in_another_way_are_named_and_not_left_out_in_silence(
    layer: nn.Module, example: tuple[torch.Tensor, ...]
) -> None:
    net = nn.ModuleDict({"mix": layer, "out": nn.Linear(4, 4)})
    with pytest.raises(UnsupportedError, match=rf"layer 'mix' is a {type(layer).__name__}, .* name it in skip"):
        quantised(net, Precision())
    left = quantised(net, Precision(), skip=("mix",))
    assert isinstance(left["out"], QuantisedLayer)
    expected, got = layer(*example), left["mix"](*example)
    assert torch.equal(*(value[0] if isinstance(value, tuple) else value for value in (expected, got)))


@pytest.mark.parametrize(
    ("field", "word", "sentence"),
    [
        ("scaling", "row", "scaling must be 'none', 'tensor' or 'channel', got 'row'"),
        ("gradient_rounding", "up", "rounding must be 'nearest' or 'stochastic', got 'up'"),
    ],
)
def test_words_of_a_precision_are_checked_when_it_is_made(field: str, word: str, sentence: str) -> None:
    precision = Precision()
    object.__setattr__(precision, field, word)  # the type checks of the tests would come first
    with pytest.raises(ArgumentError, match=sentence):
        precision.__post_init__()


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.Sequential(self.first, nn.ReLU())])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[0](self.first(x))


def test_a_layer_that_is_used_twice_is_quantised_under_both_names() -> None:
    copy = quantised(Twice(), Precision())
    assert isinstance(copy.first, QuantisedLayer)
    assert copy.blocks[0][0] is copy.first
    for name in ("first", "blocks.0.0"):
        left = quantised(Twice(), Precision(), skip=(name,))
        assert isinstance(left.first, nn.Linear)
        assert left.blocks[0][0] is left.first
    net = nn.ModuleDict({"a": nn.LSTM(2, 2), "out": nn.Linear(2, 2)})
    net["b"] = net["a"]
    assert isinstance(quantised(net, Precision(), skip=("b",))["out"], QuantisedLayer)


@pytest.mark.parametrize("build", [lambda layer: layer, lambda layer: nn.TransformerEncoder(layer, 2)])
def test_encoders_of_torch_round_in_evaluation_as_in_training(build: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    plain = build(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True))
    skip = tuple(name for name, part in plain.named_modules() if isinstance(part, nn.MultiheadAttention))
    net, x = quantised(plain, Precision(gradient=None), skip=skip), normal(2, 3, 8)
    padded = torch.tensor([[False, False, False], [False, False, True]])
    with torch.no_grad():
        expected, found, exact = net.train()(x), net.eval()(x), plain.eval()(x)
        torch.testing.assert_close(found, expected)
        assert (found - exact).abs().max() > 1e-4
        masked = net(x, src_key_padding_mask=padded)
    assert masked.shape == x.shape
    assert masked[~padded].isfinite().all()


@pytest.mark.parametrize("name", ["int8", "e4m3fn", "e5m2", "e2m1"])
def test_the_largest_values_stay_finite(name: str) -> None:
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        end = min(torch.finfo(kind).max, torch.finfo(torch.float32).max)
        x = torch.tensor([end, 1.0, -end], dtype=kind)
        for seed in range(3):
            y = scaled_rounding(x, name, rounding="stochastic", seed=seed)
            assert y.isfinite().all()
        torch.testing.assert_close(scaled_rounding(x, name)[::2], x[::2])


@pytest.mark.parametrize("name", ["bf16", "tf32", "fp32"])
def test_formats_of_the_range_of_fp32_have_no_scale(name: str) -> None:
    x = 100 * normal(3, 50)
    for scaling in ("tensor", "channel"):
        assert torch.equal(scaled_rounding(x, name, scaling=scaling), quantise(x, name))
    layer = nn.Linear(50, 4, bias=False)
    weight = quantise(layer.weight.detach(), name)
    assert torch.equal(QuantisedLayer(layer, Precision(name, name, None))(x), quantise(x, name) @ weight.T)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gets_the_draws_of_before(*, reentrant: bool) -> None:
    layer = quantised(nn.Linear(64, 32), Precision(rounding="stochastic"))
    again = copy.deepcopy(layer)
    plain, checked = normal(8, 64).requires_grad_(), normal(8, 64).requires_grad_()
    layer(plain).square().sum().backward()
    checkpoint(again, checked, use_reentrant=reentrant).square().sum().backward()
    assert torch.equal(plain.grad, checked.grad)
    assert int(again.steps) == 1
