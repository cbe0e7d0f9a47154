# SPDX-License-Identifier: Apache-2.0
"""Pruning and clustering against counts, k-means against distances, and what Arm's compiler makes of both."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sirdar.errors import ArgumentError
from sirdar.search.compress import cluster, clustering, compressed, keep, prune, stored_bytes, with_compression
from sirdar.testing.search import TOY


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_smallest_weights_go(share: float) -> None:
    model = network()
    before = torch.cat([p.detach().abs().flatten() for p in model.parameters() if p.dim() > 1])
    masks = prune(model, share)
    after = torch.cat([p.detach().abs().flatten() for p in model.parameters() if p.dim() > 1])
    assert int((after == 0).sum()) == int(share * len(before))
    assert share == 0 or before[after == 0].max() <= before[after > 0].min()
    with torch.no_grad():
        model[0].weight.add_(1.0)  # type: ignore[operator, union-attr]
    keep(model, masks)
    assert torch.equal(model[0].weight == 0, masks["0.weight"] == 0)  # type: ignore[union-attr]


def test_no_more_go_than_were_asked_for_where_weights_are_equal() -> None:
    model = network()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.sign())
    prune(model, 0.29)
    assert sum(int((p == 0).sum()) for p in model.parameters()) == round(0.29 * 42 * 64)
    assert prune(nn.BatchNorm1d(3), 0.5) == {}


def held(layer: nn.Module) -> torch.Tensor:
    """A layer's weights as an int8 file holds them: in steps of a 127th of each output channel's largest."""
    weight = layer.weight.detach()  # type: ignore[union-attr, operator]
    return torch.round(weight / weight.abs().amax(dim=1, keepdim=True) * 127)  # type: ignore[operator]


def test_clusters_are_few_in_an_int8_file_and_near() -> None:
    coarse, fine, whole = network(), network(), network()
    cluster(coarse, 4)
    cluster(fine, 31)
    errors = []
    for model in (coarse, fine):
        assert len(torch.unique(held(model[0]))) <= 31
        errors.append(float(((model[0].weight - whole[0].weight) ** 2).sum().detach()))  # type: ignore[index]
    assert errors[1] < errors[0] / 10
    assert torch.unique(held(coarse[0])).tolist() == [-127, 0, 127]


def test_kmeans_is_nearer_than_an_even_spread() -> None:
    even, found, whole = network(), network(), network()
    for model in (even, found, whole):
        torch.nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    with clustering(even, 15):
        pass
    cluster(found, 15)
    apart = [float(((model[0].weight - whole[0].weight) ** 2).sum().detach()) for model in (even, found)]  # type: ignore[operator, union-attr]
    assert apart[1] < apart[0]


def test_training_within_clusters_learns_and_leaves_few_values() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 32, generator=generator)
    y = x @ torch.randn(32, 10, generator=generator)
    model = network()
    names = set(model.state_dict())
    optimiser, losses = None, []
    with clustering(model, 7):
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(200):
            loss = ((model(x) - y) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        within = model(x).detach()
    assert losses[-1] < 0.2 * losses[0]
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(x).detach(), within)
    assert all(len(torch.unique(held(layer))) <= 7 for layer in (model[0], model[2]))


def test_weights_are_free_until_clustering_begins_and_clustered_afterwards() -> None:
    model = network()
    whole = model.get_parameter("0.weight").detach().clone()
    with clustering(model, 7, begin=0.5) as told:
        for done, free in ((0.0, True), (0.49, True), (0.5, False), (0.2, True)):
            told(done)
            assert torch.equal(torch.as_tensor(model[0].weight), whole) is free
    assert len(torch.unique(held(model[0]))) <= 7


def test_no_clusters_leave_a_network_alone() -> None:
    model, whole = network(), network()
    with clustering(model, 0):
        assert not hasattr(model[0], "parametrizations")
    assert torch.equal(model.get_parameter("0.weight"), whole.get_parameter("0.weight"))


def test_a_compiled_file_shrinks_with_the_number_of_values() -> None:
    """Four bits hold 15 values; their entropy, if normally distributed, is 3.2 bits."""
    pytest.importorskip("ethosu")
    from sirdar.deploy.compiled import compile_tflite
    from sirdar.deploy.tflite import write

    torch.manual_seed(0)
    x, found = torch.rand(4, 64, 8, 8), []
    for clusters in (0, 31, 15):
        model = nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 64, 1)).eval()
        for layer in (model[0], model[3]):
            torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
        torch.nn.init.uniform_(model[1].weight, 0.5, 2.0)  # type: ignore[arg-type]
        if clusters:
            cluster(model, clusters)
        found.append(compile_tflite(write(model, x[:1], [x]), "ethos-u55-256").weight_bytes)
    assert found[1] < 0.75 * found[0]
    assert found[2] < 0.6 * found[0]


def test_no_weight_is_nearer_to_another_value_and_each_value_is_the_mean_of_its_weights() -> None:
    model = nn.Linear(4096, 1, bias=False)
    whole = torch.cat([network().get_parameter("0.weight").detach().flatten(), torch.randn(2048) ** 3])[None]
    whole = whole / whole.abs().max()
    with torch.no_grad():
        model.weight.copy_(whole)
    cluster(model, 15)
    taken = model.weight.detach().abs()
    values = torch.unique(taken)
    assert 5 < len(values) <= 8  # some of an even spread stay empty
    torch.testing.assert_close(values[(whole.abs().T - values).abs().argmin(1)], taken[0])
    for value in values[values > 0]:
        assert float(whole.abs()[taken == value].double().mean()) == pytest.approx(float(value), abs=1e-6)


def test_zeros_stay_when_pruned_weights_are_clustered() -> None:
    model = network()
    space = with_compression(TOY)
    assert space.size == TOY.size * 9
    candidate = space.candidate({**TOY.smallest().as_dict(), "compress.pruned": 0.5, "compress.clusters": 15})
    masks = compressed(model, candidate)
    assert all(bool((model.get_parameter(name)[mask == 0] == 0).all()) for name, mask in masks.items())
    assert len(torch.unique(held(model[0]))) <= 15


def test_bytes_fall_with_pruning_and_clustering() -> None:
    plain, small = network(), network()
    prune(small, 0.75)
    cluster(small, 15)
    count = sum(p.numel() for p in plain.parameters())
    assert stored_bytes(plain) == count
    assert stored_bytes(small) < count / 3


class Mixed(nn.Module):
    """Layers of several kinds, and a parameter of its own with two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.up = nn.Embedding(9, 8), nn.ConvTranspose1d(8, 8, 3)
        self.filter, self.memory = nn.Conv1d(8, 8, 3), nn.LSTM(8, 8, batch_first=True)
        self.table, self.norm = nn.Parameter(torch.randn(8, 8)), nn.LayerNorm(8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = self.filter(self.up(self.embedding(tokens).mT)).mT
        return self.norm(self.memory(seen)[0] @ self.table)


def test_clustering_takes_every_weight_that_cluster_takes() -> None:
    torch.manual_seed(0)
    model, tokens = Mixed(), torch.arange(9)[None]
    names, before = list(model.state_dict()), model(tokens).detach()
    with clustering(model, 7):
        within = model(tokens)
        within.sum().backward()
    assert not torch.allclose(within, before, atol=1e-4)
    torch.testing.assert_close(model(tokens), within)
    assert list(model.state_dict()) == names
    for name, weight in model.named_parameters():
        shares = weight.detach() / weight.detach().abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
        assert weight.dim() == 1 or len(torch.unique((shares * 3).round(decimals=4))) <= 7, name
        assert weight.grad is not None


def test_parameters_keep_their_order_through_clustering() -> None:
    model = network()
    names, weights = list(model.state_dict()), list(model.parameters())
    with clustering(model, 7):
        pass
    assert list(model.state_dict()) == names
    assert all(one is two for one, two in zip(model.parameters(), weights, strict=True))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_weights_that_are_parametrised_already_are_refused_and_left(norm: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 4)))
    with pytest.raises(ArgumentError, match="the weight of layer '1' is computed"), clustering(model, 7):
        pass
    assert hasattr(model[1], "parametrizations")
    assert not hasattr(model[0], "parametrizations")


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ArgumentError, match="at least 0 and below 1, got 1.0"):
        prune(network(), 1.0)
    with pytest.raises(ArgumentError, match="at least 3, .* got 2"):
        cluster(network(), 2)
