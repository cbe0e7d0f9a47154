# SPDX-License-Identifier: Apache-2.0
"""Traced graphs against torch.utils.flop_counter, and against torch's own count of parameters."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sirdar.chips.array import Product, products
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.workload.graph import Graph
from sirdar.workload.trace import split, trace


def counted_macs(module: nn.Module, *example: torch.Tensor) -> int:
    """Half the operations that torch counts, without the fused recurrent and attention kernels it does not see into."""
    module.eval()
    unfused = torch.backends.mkldnn.flags(enabled=False)
    with unfused, sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*example)
    return counter.get_total_flops() // 2


def parameter_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


class Camera(nn.Module):
    """Two-dimensional: strided, depthwise, grouped and transposed convolutions, batch norm, pooling, a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.grouped = nn.Conv2d(8, 16, 1, groups=2)
        self.up = nn.ConvTranspose2d(16, 4, 2, stride=2)
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.depthwise(self.stem(x)))
        x = nn.functional.max_pool2d(self.up(x), 2)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Forecaster(nn.Module):
    """One-dimensional: dilated causal convolutions, an embedding, concatenation, slices and reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(4 if d == 1 else 8, 8, 2, dilation=d) for d in (1, 2, 4))
        self.embedding = nn.Embedding(20, 5)
        self.head = nn.Linear(13, 9)

    def forward(self, series: torch.Tensor, item: torch.Tensor) -> dict[str, torch.Tensor]:
        x = series / (1 + series.abs().mean(dim=-1, keepdim=True))
        for layer in self.convolutions:
            x = torch.relu(layer(nn.functional.pad(x, (layer.dilation[0], 0))))
        x = torch.cat([x[:, :, -6:].mean(dim=-1), self.embedding(item)], dim=-1)
        return {"quantiles": nn.functional.softplus(self.head(x)).cumsum(-1)}


class Recurrent(nn.Module):
    """An LSTM followed by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 12, num_layers=2, batch_first=True)
        self.gru = nn.GRU(12, 7, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(self.lstm(x)[0])[0][:, -1]


class Attention(nn.Module):
    """A transformer block."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.mix(self.norm(x)).chunk(3, -1)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch, when oneDNN is switched off
@pytest.mark.parametrize(
    ("module", "example"),
    [
        (Camera(), (torch.zeros(2, 3, 16, 16),)),
        (Forecaster(), (torch.zeros(3, 4, 20), torch.zeros(3, dtype=torch.int64))),
        (Recurrent(), (torch.zeros(2, 6, 5),)),
        (Attention(), (torch.zeros(2, 10, 16),)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_macs_are_those_that_torch_counts(module: nn.Module, example: tuple[torch.Tensor, ...]) -> None:
    graph = trace(module, example)
    assert graph.macs == counted_macs(module, *example)
    assert graph.unknown == ()
    buffers = 2 * 8 * 4 if isinstance(module, Camera) else 0  # running mean and variance of the batch norm
    assert graph.parameter_bytes() == parameter_bytes(module) + buffers


def test_recurrent_macs_by_hand() -> None:
    # An LSTM step has 4 gates of input and hidden width, a GRU step 3.
    steps = 2 * 6
    lstm = 4 * 12 * (5 + 12) + 4 * 12 * (12 + 12)
    gru = 3 * 7 * (12 + 7)
    assert trace(Recurrent(), torch.zeros(2, 6, 5)).macs == steps * (lstm + gru)


def test_matrix_shapes_and_bias() -> None:
    graph = trace(nn.Linear(6, 4), torch.zeros(5, 6))
    (matmul,) = [operator for operator in graph.operators if operator.kind == "matmul"]
    assert {key: matmul.attributes[key] for key in ("batch", "rows", "columns", "depth")} == {
        "batch": 1,
        "rows": 5,
        "columns": 4,
        "depth": 6,
    }
    assert (matmul.macs, matmul.flops) == (5 * 4 * 6, 5 * 4)
    assert {weight.name: weight.shape for weight in matmul.weights} == {"weight": (4, 6), "bias": (4,)}


def test_views_cost_nothing_and_share_memory() -> None:
    class Views(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x.transpose(0, 1)[1:].unsqueeze(0))

    graph = trace(Views(), torch.zeros(3, 4))
    assert {operator.kind for operator in graph.operators} == {"view", "elementwise"}
    assert graph.flops == 3 * 3
    assert graph.peak_bytes() == 4 * (3 * 4 + 3 * 3)


@pytest.mark.parametrize(
    "layer", [nn.Hardswish(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Hardsigmoid(), nn.PReLU(4)], ids=str
)
def test_an_activation_is_one_pass_over_memory(layer: nn.Module) -> None:
    (operator,) = trace(layer, torch.zeros(2, 4, 3)).operators
    assert (operator.kind, operator.flops) == ("elementwise", 2 * 4 * 3)
    assert [weight.shape for weight in operator.weights] == [tuple(value.shape) for value in layer.parameters()]


def test_softmax_norms_and_reductions_are_counted() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x).softmax(-1).sum(-1)

    flops = {operator.kind: operator.flops for operator in trace(Sums(), torch.zeros(3, 4)).operators}
    assert flops == {"norm": 7 * 12, "softmax": 5 * 12, "reduction": 12}  # the conventions of sirdar.workload.counting


def test_an_instance_norm_computes_its_statistics_and_a_batch_norm_has_them() -> None:
    x = torch.zeros(2, 4, 6)
    found = {
        type(norm): sum(operator.flops for operator in trace(norm, x).operators)
        for norm in (nn.InstanceNorm1d(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4))
    }
    assert found == {nn.InstanceNorm1d: 7 * 48, nn.BatchNorm1d: 2 * 48, nn.GroupNorm: 7 * 48}


def test_unknown_operators_are_named_and_keep_their_edges() -> None:
    class Sorts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sort(x).values * 2

    graph = trace(Sorts(), torch.zeros(3))
    assert graph.unknown == ("sort (aten.sort.default)",)
    assert [operator.kind for operator in graph.operators] == ["unknown", "elementwise"]


def test_what_torch_only_asserts_is_no_operator() -> None:
    class Casts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float64).asinh()

    assert [operator.kind for operator in trace(Casts(), torch.zeros(3)).operators] == ["copy", "elementwise"]


def test_examples_may_be_tensor_tuple_or_keywords() -> None:
    module, series, item = Forecaster(), torch.zeros(3, 4, 20), torch.zeros(3, dtype=torch.int64)
    assert trace(module, {"series": series, "item": item}) == trace(module, (series, item))
    with pytest.raises(ArgumentError, match="a tuple or a dict of arguments, got list"):
        split([series, item])  # `trace` itself is type-checked under pytest, before it can say so


def test_the_module_keeps_its_mode() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(2, 2)).eval())
    trace(module, torch.zeros(1, 2))
    assert [part.training for part in module.modules()] == [True, True, False, False]


def test_what_cannot_be_exported_is_refused_by_name() -> None:
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match=r"torch\.export cannot follow Undecided"):
        trace(Undecided(), torch.zeros(3))


def test_shapes_that_depend_on_data_are_refused_by_name() -> None:
    class Ragged(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0]

    with pytest.raises(UnsupportedError, match=r"Ragged has a tensor .* of data-dependent shape"):
        trace(Ragged(), torch.zeros(3))


def test_a_traced_graph_survives_storage() -> None:
    graph = trace(Camera(), torch.zeros(1, 3, 16, 16))
    assert Graph.from_dict(graph.to_dict()) == graph


def test_fused_attention_that_is_viewed_as_one_matrix_is_traced() -> None:
    class Heads(nn.Module):
        """As GPT-2 of `transformers`; torch 2.13 cannot reduce it while attention is fused."""

        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(16, 48)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (part.view(2, 5, 4, 4).transpose(1, 2) for part in self.mix(x).split(16, -1))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
            y = y.contiguous().reshape(2, 5, 16).contiguous()
            return y.view(-1, 16) @ self.mix.weight.t()

    graph = trace(Heads(), torch.randn(2, 5, 16))
    # Three projections in one, two products of two batches of four heads, and the last product.
    assert graph.macs == 10 * 16 * 48 + 2 * (2 * 4 * 5 * 5 * 4) + 10 * 16 * 48


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_two_products_and_one_softmax(masked: bool) -> None:  # noqa: FBT001 - a parameter
    class Attends(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, mask if masked else None)

    query, key = torch.zeros(2, 4, 5, 8), torch.zeros(2, 4, 7, 8)
    graph = trace(Attends(), (query, key, key, torch.zeros(5, 7)))
    assert [row.kind for row in graph.operators if row.macs or row.kind == "softmax"] == ["matmul", "softmax", "matmul"]
    # Both factors are scaled, and the mask is added; nothing else looks at 280 scores but the softmax, five times.
    assert graph.macs == 2 * 280 * 8
    assert sum(row.flops for row in graph.operators) == query.numel() + key.numel() + 280 * masked + 5 * 280


class Standardised(nn.Conv2d):
    """Its weight is computed, so that an operator reads it as an activation, beside a bias that is a parameter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(x, self.weight / spread, self.bias)


class OfABuffer(nn.Module):
    """Everything that its convolution reads is stored with it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(1, 8, 6, 6))
        self.kernel = nn.Parameter(torch.zeros(4, 8, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + nn.functional.conv2d(self.image, self.kernel)


@pytest.mark.parametrize(
    ("module", "shape", "product"),
    [  # rows are positions, depth is kernel times channels, columns are channels of the result
        (Standardised(8, 16, 3, padding=1), (2, 8, 10, 10), Product(200, 72, 16)),
        (OfABuffer(), (1, 4, 4, 4), Product(16, 72, 4)),
        (nn.ConvTranspose2d(6, 4, 4, stride=2, groups=2), (2, 6, 5, 5), Product(50, 3, 32, 2)),
    ],
)
def test_convolutions_are_the_same_products_wherever_their_weight_comes_from(
    module: nn.Module, shape: tuple[int, ...], product: Product
) -> None:
    graph = trace(module, torch.zeros(shape))
    (convolution,) = (operator for operator in graph.operators if operator.kind == "conv")
    assert list(products(convolution)) == [product]
    assert product.macs == convolution.macs
    assert not graph.unknown


def test_operators_say_which_module_they_stand_in() -> None:
    graph = trace(nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 2))), torch.zeros(1, 4))
    assert [operator.module for operator in graph.operators if operator.kind == "matmul"] == ["0", "1.1"]
    assert [operator.module for operator in trace(Doubles(), torch.zeros(2)).operators] == [""]


class Doubles(nn.Module):
    """All of it stands in the network itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_an_embedding_bag_is_a_lookup_and_its_sums() -> None:
    graph = trace(nn.EmbeddingBag(1000, 64, mode="sum"), (torch.zeros(4, 20, dtype=torch.int64),))
    bag = graph.operators[-1]
    assert (bag.kind, bag.flops, bag.attributes["values_read"]) == ("gather", 5120, 5120)


class Cross(nn.Module):
    """Queries from one sequence, keys and values from another: three slices of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.attention(x, y, y, need_weights=False)[0]


def test_slices_of_a_weight_say_what_they_hold() -> None:
    graph = trace(Cross(), (torch.zeros(1, 3, 16), torch.zeros(1, 5, 16)))
    slices = [operator.attributes.get("slices") for operator in graph.operators if operator.weights]
    weight, bias = "attention.in_proj_weight", "attention.in_proj_bias"
    assert slices == [{bias: 16, weight: 256}, {bias: 32, weight: 512}, None]


def test_complex_numbers_are_refused_in_a_sentence() -> None:
    class Mixes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft2(x).real

    with pytest.raises(UnsupportedError, match=r"complex numbers \('_to_copy' is torch.complex64\)"):
        trace(Mixes(), torch.zeros(2, 4))
