# SPDX-License-Identifier: Apache-2.0
"""Pruning and weight clustering as further moves of a search, and the bytes that are left.

Both keep a network's shape. A task that wants them adds their choices to its space, applies them after training, and
trains on with the masks kept (Han, Mao and Dally 2016, arXiv:1510.00149, sections 2 and 3).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError
from sirdar.search.space import Candidate, Choice, SearchSpace

PRUNED, CLUSTERS = "compress.pruned", "compress.clusters"
_ROUNDS = 1000  # of k-means; 16 or 32 clusters take some hundreds to settle


def with_compression(
    space: SearchSpace, pruned: Sequence[float] = (0.0, 0.5, 0.75), clusters: Sequence[int] = (0, 16, 32)
) -> SearchSpace:
    """The space with two more choices: the share of weights that are zero, and how many values the others take.

    Args:
        space: of networks.
        pruned: shares, 0 for none.
        clusters: numbers of values, 0 for as they are.
    """
    extra = (Choice(PRUNED, tuple(pruned)), Choice(CLUSTERS, tuple(clusters)))
    return SearchSpace(f"{space.name}, compressed", (*space.choices, *extra))


def compressed(network: nn.Module, candidate: Candidate) -> dict[str, Tensor]:
    """Prunes and clusters a trained network in place as a candidate of `with_compression` says.

    Returns:
        The masks of `prune`, to be kept while it trains on.
    """
    share, clusters = float(candidate.get(PRUNED, 0.0)), int(candidate.get(CLUSTERS, 0))
    masks = prune(network, share) if share else {}
    if clusters:
        cluster(network, clusters)
    return masks


def prune(network: nn.Module, share: float) -> dict[str, Tensor]:
    """Sets the smallest weights of all layers together to zero, in place.

    Args:
        network: its parameters with two axes or more.
        share: of them, in 0..1.

    Returns:
        By parameter name, ones where weights stay: `keep` applies them after a step of training.

    Raises:
        ArgumentError: the share is not in 0..1.
    """
    if not 0 <= share < 1:
        msg = f"share of pruned weights must lie in 0..1, got {share!r}"
        raise ArgumentError(msg)
    weights = _weights(network)
    if not weights:
        return {}
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    stays = torch.ones_like(sizes)
    stays[torch.argsort(sizes, stable=True)[: round(share * len(sizes))]] = 0  # of equals the first, and no more
    parts = stays.split([weight.numel() for weight in weights.values()])
    masks = {name: part.view_as(weight).to(weight) for part, (name, weight) in zip(parts, weights.items(), strict=True)}
    keep(network, masks)
    return masks


def keep(network: nn.Module, masks: dict[str, Tensor]) -> None:
    """Sets to zero what masks say, in place."""
    with torch.no_grad():
        for name, weight in _weights(network).items():
            if name in masks:
                weight.mul_(masks[name])


def cluster(network: nn.Module, clusters: int) -> None:
    """Replaces the weights of each layer by so many values, in place; zeros stay zero and are a value of their own.

    The values are found by k-means from an even spread between the least and the largest weight (Han et al. 2016,
    section 3.2).

    Raises:
        ArgumentError: there are fewer than two clusters.
    """
    if clusters < 2:
        msg = f"clusters must be at least 2, got {clusters}"
        raise ArgumentError(msg)
    with torch.no_grad():
        for weight in _weights(network).values():
            alive = weight != 0
            values = weight[alive]
            if len(values) > clusters:
                weight[alive] = _clustered(values, clusters)


def stored_bytes(network: nn.Module, dtype_bits: int = 8) -> float:
    """Bytes of a network's weights, each layer in the smaller of a dense and an entropy-coded form.

    A layer of few values takes their entropy per weight, the least that any code takes, and a book of the values.

    Args:
        network: pruned or clustered or neither.
        dtype_bits: of a value as the chip holds it.
    """
    total = 0.0
    for parameter in network.parameters():
        dense = parameter.numel() * dtype_bits
        values, counts = torch.unique(parameter.detach(), return_counts=True)
        share = counts.double() / counts.sum()
        coded = parameter.numel() * float(-(share * torch.log2(share)).sum()) + len(values) * dtype_bits
        total += min(dense, coded)
    return math.ceil(total / 8) * 1.0


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in network.named_parameters() if weight.dim() > 1}


def _clustered(values: Tensor, clusters: int) -> Tensor:
    ordered = values.double().sort().values
    sums = functional.pad(ordered.cumsum(0), (1, 0))
    centres = torch.linspace(float(ordered[0]), float(ordered[-1]), clusters).to(ordered)
    for _ in range(_ROUNDS):
        ends = torch.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, right=True)
        bounds = functional.pad(functional.pad(ends, (1, 0)), (0, 1), value=len(ordered))
        counts = bounds.diff()
        moved = torch.where(counts > 0, sums[bounds].diff() / counts.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    centres = centres.to(values)
    return centres[torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)]
