# SPDX-License-Identifier: Apache-2.0
"""Pruning and clustering against counts, and against distances that k-means must not raise."""

import pytest
import torch
from torch import nn

from sirdar.errors import ArgumentError
from sirdar.search.compress import cluster, compressed, keep, prune, stored_bytes, with_compression
from sirdar.testing.search import TOY


def network() -> nn.Module:
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


def test_clusters_are_few_and_near() -> None:
    coarse, fine, whole = network(), network(), network()
    cluster(coarse, 4)
    cluster(fine, 32)
    errors = []
    for model in (coarse, fine):
        assert len(torch.unique(model[0].weight)) <= 32  # type: ignore[index]
        errors.append(float(((model[0].weight - whole[0].weight) ** 2).sum().detach()))  # type: ignore[index]
    assert errors[1] < errors[0] / 10
    assert len(torch.unique(coarse[0].weight)) <= 4  # type: ignore[index]


def test_no_weight_is_nearer_to_another_value_and_each_value_is_the_mean_of_its_weights() -> None:
    model, whole = nn.Linear(100, 100, bias=False), network().get_parameter("0.weight").detach().flatten()
    whole = torch.cat([whole, whole**3 * 100])
    with torch.no_grad():
        model.weight.flatten()[: len(whole)].copy_(whole)
        model.weight.flatten()[len(whole) :] = 0.0
    cluster(model, 16)
    taken = model.weight.detach().flatten()[: len(whole)]
    values = torch.unique(taken)
    assert torch.equal(values[(whole[:, None] - values).abs().argmin(1)], taken)
    for value in values:
        assert float(whole[taken == value].double().mean()) == pytest.approx(float(value), abs=1e-6)


def test_zeros_stay_when_pruned_weights_are_clustered() -> None:
    model = network()
    space = with_compression(TOY)
    assert space.size == TOY.size * 9
    candidate = space.candidate({**TOY.smallest().as_dict(), "compress.pruned": 0.5, "compress.clusters": 16})
    masks = compressed(model, candidate)
    assert all(bool((model.get_parameter(name)[mask == 0] == 0).all()) for name, mask in masks.items())
    assert len(torch.unique(model[0].weight)) <= 17  # type: ignore[index]


def test_bytes_fall_with_pruning_and_clustering() -> None:
    plain, small = network(), network()
    prune(small, 0.75)
    cluster(small, 16)
    count = sum(p.numel() for p in plain.parameters())
    assert stored_bytes(plain) == count
    assert stored_bytes(small) < count / 3


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ArgumentError, match="in 0..1, got 1.0"):
        prune(network(), 1.0)
    with pytest.raises(ArgumentError, match="at least 2, got 1"):
        cluster(network(), 1)
