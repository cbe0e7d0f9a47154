# SPDX-License-Identifier: Apache-2.0
"""Scores of untrained networks on cases that can be worked out, and their combination on ranks written by hand."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError
from sirdar.search.cells import CellNetwork, live_edges, parse_cell
from sirdar.search.scores import SCORES, observe
from sirdar.search.space import Candidate
from sirdar.search.spaces import EDGES, edge_name, nasbench201
from sirdar.search.zeroshot import combined, score, scored

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"


def inputs(batch: int = 8) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def cells(operation: str) -> dict[str, str]:
    return {edge_name(*edge): operation for edge in EDGES}


def test_a_cell_string_and_its_live_edges() -> None:
    cell = parse_cell(CELL)
    assert cell["edge 0-1"] == "nor_conv_3x3"
    assert live_edges(cell) == ((0, 1), (1, 2), (0, 3), (1, 3), (2, 3))
    assert live_edges(cells("none")) == ()
    assert nasbench201().candidate(cell).as_dict() == cell
    with pytest.raises(ArgumentError, match="six edges"):
        parse_cell("|nor_conv_3x3~0|")


def test_parameters_of_the_largest_cell_are_those_published() -> None:
    network = CellNetwork(cells("nor_conv_3x3"))
    # NAS-Bench-201 lists 1.531546 M parameters for the cell of six 3 x 3 convolutions on CIFAR-10.
    assert sum(parameter.numel() for parameter in network.parameters()) == 1531546


def test_dead_operations_are_not_built() -> None:
    dead = parse_cell("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
    assert len(list(CellNetwork(dead, cells=1).blocks[1].parameters())) == 0
    assert CellNetwork(cells("none"), cells=1)(inputs()).shape == (8, 10)


def test_work_is_counted_as_the_layers_do_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 7, 5))
    seen = observe(network, inputs(), 0)
    assert seen.macs == 7 * 7 * 8 * 27 + 8 * 49 * 5
    assert seen.parameters == 8 * 27 + 8 + 5 * 392 + 5
    assert seen.codes.shape == (8, 8 * 49)


def test_work_of_attention_and_of_other_convolutions_counts() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(8, 16), nn.Linear(16, 3)
            self.attend = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            hidden = self.enter(tokens)
            return self.leave(self.attend(hidden, hidden, hidden)[0])

    # five tokens: two maps, four projections of 16 x 16, and twice 5 x 5 x 16 of attention
    work = 5 * (8 * 16 + 16 * 3 + 4 * 16 * 16) + 2 * 5 * 5 * 16
    assert observe(Attending(), torch.randn(4, 5, 8), 0).macs == work
    solid = nn.Conv3d(2, 4, 3, padding=1, bias=False)
    assert observe(solid, torch.randn(2, 2, 4, 4, 4), 0).macs == 4 * 2 * 27 * 64
    turned = nn.ConvTranspose2d(2, 4, 2, stride=2, bias=False)
    assert observe(turned, torch.randn(2, 2, 3, 3), 0).macs == 2 * 4 * 4 * 9


def test_work_of_fused_attention_and_of_recurrent_layers_counts() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
    # ten tokens: four projections of 32 x 32, 32 x 64 and back, and twice 10 x 10 x 32 of attention
    assert observe(encoder, torch.randn(8, 10, 32), 0).macs == 10 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 10 * 10 * 32

    class Last(nn.Module):
        def __init__(self, layer: nn.RNNBase) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, steps: Tensor) -> Tensor:
            return self.layer(steps)[0][:, -1]

    for kind, gates in ((nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)):
        recurrent = Last(kind(8, 16, batch_first=True))
        assert observe(recurrent, torch.randn(4, 12, 8), 0).macs == 12 * gates * 16 * (8 + 16), kind
    both = Last(nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True))
    assert observe(both, torch.randn(4, 12, 8), 0).macs == 12 * 2 * 4 * 16 * ((8 + 16) + (32 + 16))


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.ReLU(), functional.relu),
        (nn.ReLU(), Tensor.relu_),
        (nn.ReLU6(), functional.relu6),
        (nn.ReLU6(), partial(functional.relu6, inplace=True)),
        (nn.GELU(), functional.gelu),
        (nn.SiLU(), functional.silu),
        (nn.Hardswish(), functional.hardswish),
        (nn.LeakyReLU(), functional.leaky_relu),
    ],
)
def test_an_activation_called_as_a_function_is_seen_like_its_module(
    module: nn.Module, function: Callable[[Tensor], Tensor]
) -> None:
    class Called(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten()]
    one, other = (
        observe(nn.Sequential(layers[0], between, layers[1], between, layers[2]), inputs(), 0)
        for between in (module, Called())
    )
    assert one.codes.shape == (8, 8 * 14 * 14 + 8 * 12 * 12)
    assert torch.equal(one.codes, other.codes)
    assert one.macs == other.macs


def test_what_does_not_switch_or_goes_along_another_axis_is_not_seen() -> None:
    class Called(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.relu(functional.hardtanh(x).mean(1)) @ x.T.relu().T  # one number each, and transposed

    assert observe(nn.Sequential(nn.Linear(4, 4), nn.Hardtanh()), torch.randn(8, 4), 0).codes.shape == (8, 0)
    assert observe(Called(), torch.randn(8, 4), 0).codes.shape == (8, 0)


def test_what_cannot_be_scored_is_told() -> None:
    class Named(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"logits": super().forward(inputs)}

    with pytest.raises(ArgumentError, match="network that puts out tensors, got dict"):
        score(Named(3, 2), torch.randn(4, 3))
    with pytest.raises(ArgumentError, match="need a batch of inputs, got none"):
        score(nn.Linear(3, 2), torch.randn(0, 3))
    flat = score(nn.Sequential(nn.Linear(8, 1), nn.Flatten(0)), torch.randn(8, 8))  # one number for each input
    assert math.isfinite(flat["operations"])


def test_a_network_that_answers_nothing_ranks_below_one_that_does() -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.layer, self.factor = nn.Linear(8, 4), factor

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs) * self.factor

    rows = [score(Scaled(factor), torch.randn(8, 8)) for factor in (1.0, math.nan)]
    sound, broken = combined(rows)
    assert broken < sound


def test_regions_are_the_log_determinant_of_shared_codes() -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    seen = observe(network, inputs(4), 0)
    code = (inputs(4).flatten(1) > 0).numpy()
    kernel = np.array([[float((a == b).sum()) for b in code] for a in code])
    assert SCORES["regions"](seen) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-9)
    columns = {tuple(column) for column in code.T}
    assert SCORES["patterns"](seen) == len(columns)


def test_an_identity_is_perfectly_trainable() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1 * x

    torch.manual_seed(0)
    start = nn.Conv2d(3, 3, 1)
    same = observe(nn.Sequential(start, Same(), Same()), inputs(64), 0)
    double = observe(nn.Sequential(start, Doubled(), Doubled()), inputs(64), 0)
    assert SCORES["trainability"](same) == pytest.approx(0.0, abs=1e-2)
    assert SCORES["trainability"](double) == pytest.approx(2 - 2 - 1 / 2, abs=2e-2)
    assert SCORES["progressivity"](same) == pytest.approx(0.0, abs=1e-9)


def test_scores_follow_the_seed_and_leave_the_caller_s_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = score(CellNetwork(parse_cell(CELL), cells=1), inputs(), 1)
    torch.manual_seed(5)
    network = CellNetwork(parse_cell(CELL), cells=1)
    state = torch.random.get_rng_state()
    assert score(network, inputs(), 1) == pytest.approx(first, rel=1e-4, nan_ok=True)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), expected)


def test_a_network_that_shows_nothing_has_scores() -> None:
    found = score(CellNetwork(cells("none"), cells=1), inputs(), 0)
    assert set(found) == set(SCORES)
    assert all(not math.isnan(value) for value in found.values())


class Cells:
    def network(self, candidate: Candidate) -> nn.Module:
        return CellNetwork({name: str(value) for name, value in candidate.values}, cells=1, channels=(4, 8, 8))

    def example(self, candidate: Candidate, batch: int, seed: int) -> Tensor:
        del candidate
        return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_network_that_overflows_has_scores_and_ranks_last() -> None:
    class Overflowing(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features * 1e30 * 1e30

    def made(middle: nn.Module) -> nn.Module:
        rest = (nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), middle, *rest)

    rows = [score(made(middle).eval(), inputs(), 0) for middle in (Overflowing(), nn.Identity())]
    assert math.isnan(rows[0]["expressivity"])
    assert combined(rows).argmax() == 1


def test_scores_leave_the_mode_and_biases_come_from_the_seed() -> None:
    class Biased(Cells):
        def network(self, candidate: Candidate) -> nn.Module:
            del candidate
            return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten())

    candidate = nasbench201().smallest()
    torch.manual_seed(1)
    first = scored(Biased(), [candidate], 0)
    torch.manual_seed(2)
    assert scored(Biased(), [candidate], 0) == first
    network = Biased().network(candidate).eval()
    score(network, inputs())
    assert not network.training


def test_the_combination_adds_logarithms_of_ranks() -> None:
    rows = [{"operations": value, "regions": -value} for value in (1.0, 2.0, 3.0)]
    assert combined(rows, ("operations",)).tolist() == pytest.approx([math.log(1 / 3), math.log(2 / 3), 0.0])
    both = combined(rows, ("operations", "regions"))
    assert both.argmax() == 1  # good in both rather than best in one
    with pytest.raises(ArgumentError, match="Did you mean 'operations'"):
        combined(rows, ("operation",))


def test_convolutions_rank_above_pooling() -> None:
    space = nasbench201()
    names = ("avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
    rows = scored(Cells(), [space.candidate(cells(name)) for name in names], batch=16)
    assert combined(rows).argmax() == 2
    assert combined(rows).argmin() == 0


def test_what_a_block_writes_into_its_input_changes_no_score() -> None:
    def made(*, inplace: bool) -> nn.Module:
        torch.manual_seed(0)
        block = [nn.Sequential(nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 3, padding=1)) for _ in range(2)]
        return nn.Sequential(nn.Conv2d(3, 8, 3), *block, nn.Flatten())

    one, other = (score(made(inplace=inplace), inputs(), 0) for inplace in (False, True))
    assert one == pytest.approx(other, nan_ok=True)


class Growing(nn.Module):
    """Makes a buffer in its first run, and puts another tensor in the place of one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)
        self.register_buffer("grid", None)
        self.register_buffer("wide", torch.zeros(1).expand(4))
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.grid, self.seen = torch.zeros(3), torch.ones(5)
        return self.layer(x).relu().flatten(1)


def test_buffers_that_come_and_change_are_borne() -> None:
    network = Growing()
    score(network, inputs())
    assert torch.equal(network.seen, torch.zeros(2))


def test_scores_leave_modes_and_statistics() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten()).train()
    network[1].eval()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    score(network, inputs())
    assert network.training
    assert not network[1].training
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_a_batch_of_one_has_no_gradients_to_compare() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    found = [score(network, torch.rand(count, 3, 8, 8))["gradients"] for count in (1, 2)]
    assert found[0] == -math.inf < found[1]
