# SPDX-License-Identifier: Apache-2.0
"""The int8 writer against torch in fp32: LiteRT runs the file, and the difference must be that of 8 bits.

Bounds: a tensor of n steps per spread has a rounding error of about 0.3 steps; a spread is about 40 steps of 255 for
normal values, so one layer costs about 1 % of the spread, deep networks a few. The spaces of paddings and strides are
checked with integers that int8 holds exactly, where a wrong window would be off by whole values.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sirdar.deploy.compiled import compile_tflite
from sirdar.deploy.tflite import predict, save, write
from sirdar.deploy.tflite.lowering import RefusedError
from sirdar.errors import ArgumentError, OutputError, UnsupportedError

pytest.importorskip("ai_edge_litert")


def layer(
    into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Module:
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6() if act is None else act)


class Bottleneck(nn.Module):
    """Inverted bottleneck, or its fused form, with a shortcut where shapes allow."""

    def __init__(self, into: int, out: int, stride: int = 1, *, fused: bool = False) -> None:
        super().__init__()
        wide = 4 * into
        inner = [layer(into, wide, 3, stride)] if fused else [layer(into, wide, 1), layer(wide, wide, 3, stride, wide)]
        self.body = nn.Sequential(*inner, layer(wide, out, 1, act=nn.Identity()))
        self.shortcut = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class Segmenter(nn.Module):
    """Encoder, skip connection, bilinear and nearest resizing, transposed convolution, three kinds of activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layer(3, 8, 3, 2, act=nn.ReLU()), layer(8, 12, 3, 2, act=nn.Hardswish())
        self.third, self.up = layer(20, 8, 3, act=nn.SiLU()), nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        early = self.first(x)
        late = functional.interpolate(self.second(early), scale_factor=2, mode="bilinear")
        return functional.interpolate(self.last(self.up(self.third(torch.cat([early, late], 1)))), size=(48, 48))


class Attention(nn.Module):
    """A sequence: conv1d, layer norm, attention, mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(6, 32, 3, padding=1), nn.LayerNorm(32)
        self.mix, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv(x)).transpose(1, 2)
        query, key, value = (t.unflatten(-1, (4, 8)).transpose(1, 2) for t in self.mix(self.norm(y)).chunk(3, -1))
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return (y + self.out(found)).mean(1)


def mobile() -> nn.Module:
    blocks = [layer(3, 8, 3, 2), Bottleneck(8, 8), Bottleneck(8, 12, 2), Bottleneck(12, 12, fused=True)]
    return nn.Sequential(
        *blocks, Bottleneck(12, 16, 2, fused=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    )


def perceptron() -> nn.Module:
    middle = [nn.Linear(64, 64), nn.LeakyReLU(0.1), nn.LayerNorm(64), nn.Linear(64, 7)]
    return nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.GELU(), *middle, nn.Softmax(-1))


def root_norms() -> nn.Module:
    """Norms by the root of the mean square, with an epsilon of their own and with torch's."""
    return nn.Sequential(nn.Linear(20, 64), nn.RMSNorm(64, eps=1e-5), nn.GELU(), nn.Linear(64, 32), nn.RMSNorm(32))


class Total(nn.Module):
    """A sum over everything beside what it sums."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sum()


def vgg() -> nn.Module:
    first = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(8 * 3 * 3, 10), nn.Sigmoid())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mobile": (mobile, (1, 3, 32, 32)),
    "segmenter": (Segmenter, (1, 3, 32, 32)),
    "perceptron": (perceptron, (2, 20)),
    "attention": (Attention, (1, 6, 12)),
    "total": (Total, (1, 20)),
    "root norms": (root_norms, (2, 20)),
    "vgg": (vgg, (1, 3, 16, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_torch_does(name: str) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    module = build()
    for _ in range(3):
        module.train()(torch.randn(16, *shape[1:]))  # statistics of batch norms
    module.train()
    file = write(module, torch.randn(shape), [torch.randn(32, *shape[1:])])
    assert all(part.training for part in module.modules())  # left as it was
    x = torch.randn(shape)
    with torch.no_grad():
        expected = module.eval()(x)
    (found,) = predict(file, x)
    assert found.shape == expected.shape
    assert (found - expected).square().mean().sqrt() <= 0.06 * expected.std()


def exact(module: nn.Module, x: Tensor, tolerance: float = 0.51) -> None:
    """Whole numbers in and out: scales of about one step, so a window off by one place shows."""
    with torch.no_grad():
        expected = module.eval()(x)
    (found,) = predict(write(module, x, [x]), x)
    step = max(float(expected.max().clamp(min=0) - expected.min().clamp(max=0)) / 255, 1e-6)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= (tolerance + 0.55) * step + 0.02 * float(expected.abs().max())


@pytest.mark.slow
@settings(max_examples=40)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    depthwise=st.booleans(),
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
)
def test_convolutions_are_padded_as_torch_does(
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    depthwise: bool,  # noqa: FBT001
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    groups = 4 if depthwise else 1
    conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups)
    x = torch.randint(-20, 21, (1, 4, *size)).float()
    exact(conv, x)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    kernel=st.integers(2, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    size=st.integers(6, 10),
    ceil=st.booleans(),
    kind=st.sampled_from(["max", "mean", "mean without padding"]),
)
def test_pooling_is_padded_as_torch_does(
    kernel: int,
    stride: int,
    padding: int,
    size: int,
    ceil: bool,  # noqa: FBT001
    kind: str,
) -> None:
    torch.manual_seed(0)
    x = torch.randint(-60, 61, (1, 3, size, size + 1)).float()
    if kind == "max":
        exact(nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil), x - 80.0)  # the padding must not win
    else:
        counted = kind == "mean"
        exact(nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted), x)


@pytest.mark.slow
@settings(max_examples=20)
@given(kernel=st.integers(2, 4), stride=st.integers(1, 3), padding=st.integers(0, 1), outer=st.integers(0, 1))
def test_transposed_convolutions_are_cut_as_torch_does(kernel: int, stride: int, padding: int, outer: int) -> None:
    torch.manual_seed(0)
    outer = min(outer, padding, stride - 1)
    exact(nn.ConvTranspose2d(3, 5, kernel, stride, padding, outer), torch.randint(-20, 21, (1, 3, 6, 5)).float())


class Expression(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


EXPRESSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum of both sides": lambda x: functional.relu(x + x.mean((2, 3), keepdim=True)),
    "difference": lambda x: 2.0 - x,
    "product with a constant": lambda x: x * torch.arange(1.0, 5.0).reshape(1, 4, 1, 1),
    "quotient": lambda x: x / 3.0 - 1,
    "square": lambda x: x**2,
    "negative": lambda x: -x,
    "tanh": torch.tanh,
    "hard sigmoid": functional.hardsigmoid,
    "leaky": lambda x: functional.leaky_relu(x, 0.2),
    "gelu by tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "clamp": lambda x: x.clamp(-0.5, 1.5),
    "maximum": lambda x: torch.maximum(x, 0.3 * x),
    "softmax over channels": lambda x: x.softmax(1),
    "channels split and stacked": lambda x: torch.cat([part * 2 for part in x.split([1, 3], 1)], 1),
    "slices": lambda x: x[:, 1:3, ::2, 1:],
    "one channel": lambda x: x[:, 2],
    "stack": lambda x: torch.stack([x[:, 0], x[:, 1]], 1),
    "padded": lambda x: functional.pad(x, (1, 2, 0, 1)),
    "patches": lambda x: x.reshape(1, 4, 3, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 9, 16),
    "pixel shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "adaptive": lambda x: functional.adaptive_avg_pool2d(x, 3),
    "resized by corners": lambda x: functional.interpolate(x, size=(11, 9), mode="bilinear", align_corners=True),
    "resized": lambda x: functional.interpolate(x, size=(12, 12), mode="bilinear"),
    "nearest": lambda x: functional.interpolate(x, size=(9, 5)),
    "greatest": lambda x: x.amax((2, 3)),
    "matrices": lambda x: x @ x.transpose(-1, -2),
    "over channels": lambda x: x.permute(0, 2, 3, 1).mean(-1, keepdim=True),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x),
    "causal attention": lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked attention": lambda x: functional.scaled_dot_product_attention(x, x, x, torch.eye(6, dtype=torch.bool)),
    "a mask that hides nothing": lambda x: functional.scaled_dot_product_attention(x, x, x, torch.zeros(6, 6)),
    "a window wider than the image": lambda x: functional.avg_pool2d(x, 9, ceil_mode=True),
    "log1p": lambda x: torch.log1p(x.abs()),
    "expm1": torch.expm1,
    "softplus": functional.softplus,
    "steep softplus": lambda x: functional.softplus(x, 2.0),
    "mish": functional.mish,
    "selu": functional.selu,
    "celu": lambda x: functional.celu(x, 0.7),
    "elu of another height": lambda x: functional.elu(x, 0.5),
    "log sigmoid": functional.logsigmoid,
    "gated": lambda x: functional.glu(x, 1),
    "log of a sum": lambda x: torch.logaddexp(x, -x * 0.5),
    "backwards": lambda x: x.flip(2, 3),
    "sum": lambda x: x.sum((1, 2)),
    "groups": lambda x: functional.group_norm(x, 2, torch.arange(1.0, 5.0)),
    "instances": functional.instance_norm,
    "beside zeros": lambda x: torch.cat([x, torch.zeros_like(x)], 1),
    "beside nothing": lambda x: torch.cat([x[:, :0], x], 1),
    "a factor on a constant": lambda x: torch.add(x, torch.ones(4, 1, 1), alpha=3),
    "lerp": lambda x: torch.lerp(x, x.mean(1, keepdim=True), 0.3),
    "product added": lambda x: torch.addcmul(x, x, x.flip(2), value=0.5),
    "pixels apart": lambda x: functional.pixel_unshuffle(x, 2),
    "least": lambda x: x.amin((2, 3)),
    "repeated": lambda x: x.mean(3).repeat(1, 3, 1, 2),
    "sum of products": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "least of all": lambda x: x.amin() + x,
    "least kept": lambda x: x.amin(1, keepdim=True),
    "scores masked": lambda x: (x @ x * 0.3).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1),
    "scores less a mask": lambda x: (x @ x * 0.3 + torch.full((6, 6), torch.finfo().min).triu(1)).softmax(-1),
    "scores and minus infinity": lambda x: (torch.full((6, 6), -torch.inf).triu(1) + x @ x * 0.3).softmax(-1),
    "cube": lambda x: x**3,
    "fourth power": lambda x: x**4 * 0.1,
    "root below": lambda x: (x * x + 1) ** -0.5,
    "rolled": lambda x: torch.roll(x, (2, -1), (1, 3)),
    "channels shuffled": lambda x: functional.channel_shuffle(x, 2),
    "as the other": lambda x: x.mean(1, keepdim=True).type_as(x) + x,
    "around": lambda x: functional.pad(x, (1, 2, 3, 1), mode="circular"),
    "ends again": lambda x: functional.pad(x, (1, 2, 0, 1), mode="replicate"),
    "cropped and padded": lambda x: functional.pad(x, (-1, 2, 1, -2)),
    "running sum": lambda x: x.cumsum(2),
    "log of a sum of powers": lambda x: x.logsumexp((1, 3)),
    "variance": lambda x: x.var((2, 3)),
    "variance of all": lambda x: x.var(correction=0, dim=(1, 2, 3), keepdim=True) + x,
    "means of unlike windows": lambda x: functional.adaptive_avg_pool2d(x, (4, 5)),
    "transposed in groups": lambda x: functional.conv_transpose2d(x, torch.ones(4, 3, 2, 3), stride=2, groups=2),
    "padded by a value": lambda x: functional.pad(x, (1, 2, 0, 1), value=0.5),
    "reflected": lambda x: functional.pad(x, (1, 2, 3, 1), mode="reflect"),
    "channels picked": lambda x: x[:, [2, 0, -1]].index_select(2, torch.tensor([3, 1])),
    "nearest and exact": lambda x: functional.interpolate(x, size=(12, 18), mode="nearest-exact"),
    "each repeated": lambda x: x.repeat_interleave(2, 3),
    "expanded": lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1) + x,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_operators_compute_what_torch_does(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 6, 6)
    module = Expression(EXPRESSIONS[name])
    expected = module(x)
    (found,) = predict(write(module, x, [x]), x)
    assert found.shape == expected.shape
    scale = float(expected.max() - expected.min())
    assert (found - expected).abs().max() <= 0.03 * scale + 1e-6


@pytest.mark.parametrize("low", [-1e9, torch.finfo().min])
def test_a_mask_from_an_input_is_bounded(low: float) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, seen: Tensor) -> Tensor:
            return ((1.0 - seen)[:, None, None] * low + x @ x * 0.3).softmax(-1)

    torch.manual_seed(0)
    x, seen = torch.randn(1, 4, 6, 6), torch.ones(1, 6)
    seen[:, 4:] = 0
    (found,) = predict(write(Masked(), (x, seen), [(x, seen)]), x, seen)
    assert (found - Masked()(x, seen)).abs().max() < 0.03


def test_minus_infinity_is_hidden_from_a_softmax_alone() -> None:
    x = torch.randn(1, 4, 6, 6)
    module = Expression(lambda x: x.masked_fill(torch.ones(6, 6).triu(1).bool(), -1e9).amax(3))
    with pytest.raises(UnsupportedError, match="masked_fill.*only minus infinity before a softmax is"):
        write(module, x, [x])


def test_a_batch_norm_that_stands_alone_is_kept() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.train()(torch.randn(32, 4, 5, 5) * 2 + 1)
    exact(nn.Sequential(nn.ReLU(), norm, nn.ReLU()), torch.randn(1, 4, 5, 5))


@pytest.mark.parametrize("width", [4, 6])  # that of the norm's channels, and another
def test_a_batch_norm_over_another_axis_than_the_linear_layers_is_not_folded(width: int) -> None:
    class Points(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(5, width), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.linear(x))

    torch.manual_seed(0)
    module = Points()
    module.train()(torch.randn(64, 4, 5) * torch.tensor([1.0, 4.0, 0.3, 2.0])[:, None] + 1)
    module.eval()
    x = torch.randn(1, 4, 5)
    with torch.no_grad():
        expected = module(x)
    (found,) = predict(write(module, x, [x]), x)
    assert (found - expected).abs().max() <= 0.03 * float(expected.max() - expected.min())


class Lookup(nn.Module):
    """An embedding of what a function makes of indices."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.table, self.change = nn.Embedding(30, 4), change

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        moved = self.change(ids)
        return self.table(moved), moved


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "column": lambda ids: ids[:, 1],
    "step": lambda ids: ids[:, ::2],
    "view": lambda ids: ids.reshape(3, -1),
    "transpose": lambda ids: ids.t(),
    "flip": lambda ids: ids.flip(1),
    "expand": lambda ids: ids[:, None].expand(-1, 3, -1),
    "stack": lambda ids: torch.stack(ids.unbind(1), 1),
    "token ahead": lambda ids: torch.cat([torch.full((2, 1), 29), ids.clone()], 1),
}


@pytest.mark.parametrize("name", MOVES)
def test_indices_are_moved_before_they_look_up(name: str) -> None:
    torch.manual_seed(0)
    module, ids = Lookup(MOVES[name]), torch.randint(0, 28, (2, 6))
    with torch.no_grad():
        rows, moved = module(ids)
    found, indices = predict(write(module, ids, [ids]), ids)
    assert torch.equal(indices, moved)
    assert found.shape == rows.shape
    assert (found - rows).abs().max() <= 0.01 * float(module.table.weight.detach().abs().max())


@pytest.mark.parametrize("change", [lambda ids: ids + 1, lambda ids: ids.clamp(0, 5), lambda ids: ids * ids])
def test_nothing_is_computed_with_indices(change: Callable[[Tensor], Tensor]) -> None:
    ids = torch.arange(6)[None]
    with pytest.raises(RefusedError, match="whole numbers are only moved and looked up there"):
        write(Lookup(change), ids, [ids])


def test_a_mask_of_whole_numbers_is_refused() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x * mask[..., None]

    x, mask = torch.randn(1, 3, 4), torch.tensor([[1, 1, 0]])
    with pytest.raises(RefusedError, match=r"aten.mul.Tensor.*whole numbers"):
        write(Masked(), (x, mask), [(x, mask)])


def test_a_module_that_changes_its_own_buffers_is_refused_and_left_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("runs", torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            return self.layer(x) / self.runs

    module, x = Counting(), torch.randn(1, 3)
    with pytest.raises(UnsupportedError, match="Counting changes its own buffer 'runs'"):
        write(module, x, [x])
    assert module.runs == 1


def test_everything_returned_comes_back_in_order_and_as_often() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.linear = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, ids: Tensor) -> dict[str, object]:
            y = self.linear(self.table(ids))
            return {"logits": y, "again": [ids, y], "none": None, "loss": y.mean()}

    torch.manual_seed(0)
    module, ids = Several(), torch.tensor([[3, 8, 0]])
    with torch.no_grad():
        y = module.linear(module.table(ids))
    found = predict(write(module, ids, [ids]), ids)
    assert [tuple(item.shape) for item in found] == [(1, 3, 2), (1, 3), (1, 3, 2), ()]
    assert found[1].tolist() == ids.tolist()
    assert torch.equal(found[0], found[2])
    for got, wanted in ((found[0], y), (found[3], y.mean())):
        assert (got - wanted).abs().max() <= 0.03 * float(y.max() - y.min())


def test_embeddings_are_gathered() -> None:
    from sirdar.deploy.tflite.writing import write as door

    torch.manual_seed(0)
    file = door(
        nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 3)),
        torch.zeros(1, 4, dtype=torch.long),
        [torch.arange(4)[None]],
    )
    assert file[4:8] == b"TFL3"


@pytest.mark.parametrize("activation", [nn.Mish(), nn.SELU(), nn.Softplus(), nn.GLU()])
def test_composed_activations_run_on_the_npu_whole(activation: nn.Module) -> None:
    pytest.importorskip("ethosu.vela")
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(8, 8), activation), torch.randn(1, 8)
    file = write(module, x, [torch.randn(64, 8)])
    assert {compile_tflite(file, name).host_operators for name in ("ethos-u55-256", "ethos-u85-512")} == {0}


class Recurrent(nn.Module):
    def __init__(self, layer: nn.LSTM | nn.GRU | nn.RNN) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size * (1 + layer.bidirectional), 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(8, 12)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 12), x.new_zeros(x.shape[0], 12)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0]


RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Recurrent(nn.LSTM(8, 12, batch_first=True)),
    "gru": lambda: Recurrent(nn.GRU(8, 12, batch_first=True)),
    "rnn": lambda: Recurrent(nn.RNN(8, 12, batch_first=True)),
    "both ways, two layers": lambda: Recurrent(nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)),
    "cell": Cell,
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_unrolled(name: str) -> None:
    """Seven steps, each with two roundings of the state: an error of a few roundings of one layer."""
    pytest.importorskip("ethosu.vela")
    torch.manual_seed(0)
    module, calibration, x = RECURRENT[name]().eval(), torch.randn(64, 7, 8), torch.randn(1, 7, 8)
    file = write(module, x, [calibration])
    with torch.no_grad():
        expected, spread = module(x), module(calibration).std()
    (found,) = predict(file, x)
    assert (found - expected).square().mean().sqrt() <= 0.06 * spread
    assert compile_tflite(file, "ethos-u85-512").host_operators == 0


def test_equal_numbers_are_stored_once() -> None:
    """A further step of an LSTM adds operators, and no weights."""
    torch.manual_seed(0)
    module = Recurrent(nn.LSTM(64, 64, batch_first=True))
    sizes = [len(write(module, x, [x])) for x in (torch.randn(1, 2, 64), torch.randn(1, 3, 64))]
    assert sizes[1] - sizes[0] < 4 * 64 * 64  # bytes of one of its two matrices


def test_pixels_of_one_byte_go_in_as_they_are() -> None:
    class Camera(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv((x.float() - 120.0) / 60.0)

    torch.manual_seed(0)
    module, x = Camera(), torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = module(x)
    (found,) = predict(write(module, x, [x]), x)
    assert (found - expected).abs().max() <= 0.03 * float(expected.max() - expected.min())
    with pytest.raises(UnsupportedError, match="whole numbers of more than 8 bits"):
        write(module, x.int(), [x.int()])


def test_an_operator_that_is_not_covered_is_named_with_its_module_and_all_others_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Sequential(nn.Threshold(0.1, 0.2))

        def forward(self, x: Tensor) -> Tensor:
            y = self.head(x).relu()
            return (y / x).cumprod(-1)

    x = torch.ones(1, 4)
    with pytest.raises(RefusedError, match=r"layer 'head.0' \(Threshold\) of Net uses aten.threshold") as caught:
        write(Net(), x, [x])
    said = [(str(row).split(", ")[0], row.location.line if row.location else 0) for row in caught.value.others]
    line = said[0][1]
    assert said == [("Net uses aten.div.Tensor", line), ("Net uses aten.cumprod.default", line)]


def test_calibration_must_fit_and_be_finite() -> None:
    module, x = nn.Linear(4, 2), torch.randn(1, 4)
    with pytest.raises(ArgumentError, match="calibration must hold at least one batch, got none"):
        write(module, x, [])
    with pytest.raises(ArgumentError, match=r"must be shaped like the example, \(1, 4\).*got \(3, 5\)"):
        write(module, x, [torch.randn(3, 5)])
    with pytest.raises(ArgumentError, match="values that are not finite in 'input_1'"):
        write(module, x, [x * float("nan")])
    with pytest.raises(ArgumentError, match="must be a tensor or a tuple of tensors, got \\(\\)"):
        write(module, (), [x])


def test_a_rule_that_fails_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from sirdar.deploy.tflite import writing

    def broken(low: object, node: object) -> None:  # noqa: ARG001
        raise IndexError("tuple index out of range")

    monkeypatch.setitem(writing._RULES, "linear", broken)
    sentence = r"layer '0' \(Linear\) of Sequential uses aten.linear.default.*\(IndexError: tuple index out of range\)"
    with pytest.raises(UnsupportedError, match=sentence):
        write(nn.Sequential(nn.Linear(4, 2)), torch.randn(1, 4), [torch.randn(1, 4)])


@pytest.mark.parametrize("axis", [1, -1, None])
@pytest.mark.parametrize("keep", [False, True])
def test_the_place_of_the_greatest(axis: int | None, keep: bool) -> None:  # noqa: FBT001
    class Greatest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(axis, keep)

    x = torch.randperm(120, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4, 5).float()
    found = predict(write(Greatest(), x, [x]), x)[0]
    assert torch.equal(found, x.argmax(axis, keep))


@pytest.mark.parametrize("name", ["max", "min"])
def test_values_with_their_places(name: str) -> None:
    class Extreme(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            function = getattr(x, name)
            return *function(1), function(-1, keepdim=True).values, function(x.flip(0))

    x = torch.randperm(120, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4, 5).float()
    (values, places, kept, other), found = Extreme()(x), predict(write(Extreme(), x, [x]), x)
    assert torch.equal(found[1], places)
    pairs = zip((found[0], *found[2:]), (values, kept, other), strict=True)
    assert all(
        a.shape == b.shape and (a - b).abs().max() <= 0.5 for a, b in pairs
    )  # two roundings to steps of 119 / 255


def test_the_same_question_has_the_same_answer() -> None:
    torch.manual_seed(0)
    module, x = nn.Linear(4, 2), torch.randn(1, 4)
    assert write(module, x, [x]) == write(module, x, [x])


def test_a_file_is_written_whole_or_not_at_all(tmp_path) -> None:  # noqa: ANN001
    save(b"abc", tmp_path / "net.tflite")
    assert (tmp_path / "net.tflite").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["net.tflite"]
    with pytest.raises(OutputError, match="cannot be written"):
        save(b"abc", tmp_path / "missing" / "net.tflite")


def test_inputs_must_be_those_of_the_file() -> None:
    module, x = nn.Linear(4, 2), torch.randn(1, 4)
    file = write(module, x, [x])
    with pytest.raises(ArgumentError, match="takes 1 inputs, got 2"):
        predict(file, x, x)
    with pytest.raises(ArgumentError, match=r"has shape \(1, 4\), got \(2, 4\)"):
        predict(file, torch.randn(2, 4))
