# SPDX-License-Identifier: Apache-2.0
"""Pruning and weight clustering as further moves of a search, and the bytes that are left.

Both keep a network's shape. A task that wants them adds their choices to its space, and either applies them after
training, and trains on with the masks kept (Han, Mao and Dally 2016, arXiv:1510.00149, sections 2 and 3), or trains
within `clustering`.

An int8 file scales the weights of each output channel by the largest of them. Values that a layer shares are therefore
shares of that largest one: then all channels hold the same few integers, and a compiler that codes weights by how often
each stands there (Arm's Vela does) makes the file smaller and its reading faster.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from sirdar.errors import ArgumentError
from sirdar.search.space import Candidate, Choice, SearchSpace

PRUNED, CLUSTERS = "compress.pruned", "compress.clusters"
_ROUNDS = 1000  # of k-means; 15 or 31 clusters take some hundreds to settle


def with_compression(
    space: SearchSpace, pruned: Sequence[float] = (0.0, 0.5, 0.75), clusters: Sequence[int] = (0, 15, 31)
) -> SearchSpace:
    """The space with two more choices: the share of weights that are zero, and how many values the others take.

    Args:
        space: of networks.
        pruned: shares, 0 for none.
        clusters: numbers of values, 0 for as they are; Vela codes at most 32 of them well.
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
        share: of them, at least 0 and below 1.

    Returns:
        By parameter name, ones where weights stay: `keep` applies them after a step of training.

    Raises:
        ArgumentError: the share is below 0, or 1 or more, which would leave nothing.
    """
    if not 0 <= share < 1:
        msg = f"share of pruned weights must be at least 0 and below 1, got {share!r}"
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
    """Replaces the weights of each layer by so many values, in place; zeros stay zero.

    The values are zero and, on either side of it, shares of each output channel's largest weight. They are found by
    k-means from an even spread (Han et al. 2016, section 3.2).

    Raises:
        ArgumentError: there are fewer than three clusters.
    """
    steps = _steps(clusters)
    with torch.no_grad():
        for weight in _weights(network).values():
            largest = _largest(weight)
            shares = (weight.abs() / largest).flatten()
            weight.copy_(_clustered(shares, steps).view_as(weight) * largest * weight.sign())


@contextmanager
def clustering(network: nn.Module, clusters: int, begin: float = 0.0) -> Iterator[Callable[[float], None]]:
    """Within it the weights that `cluster` takes are used as if clustered, so that training finds ones that may be.

    The values are an even spread over each output channel's range. A weight itself moves by the gradient of the value
    that stands for it (straight through: Bengio et al. 2013, arXiv:1308.3432); on leaving it becomes that value.

    Args:
        network: changed in place; its parameters with two axes or more have other names within.
        clusters: values of a layer's weights; 0 leaves the network alone.
        begin: the share of the training after which it begins.

    Yields:
        To be told the share of the training that is done.

    Raises:
        ArgumentError: there are one or two clusters, or a layer's weight is parametrised already.
    """
    even = _Even(_steps(clusters or 3), active=begin <= 0)
    layers = _layers(network) if clusters else []
    orders = [list(layer._parameters) for layer, _ in layers]
    for layer, names in layers:
        for name in names:
            parametrize.register_parametrization(layer, name, even)

    def tell(done: float) -> None:
        even.active = done >= begin

    try:
        yield tell
    finally:
        tell(begin)
        for (layer, names), order in zip(layers, orders, strict=True):
            for name in names:
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
            for name in order:  # optimisers and files count parameters in their order
                layer._parameters[name] = layer._parameters.pop(name)


def _layers(network: nn.Module) -> list[tuple[nn.Module, list[str]]]:
    """Layers and the names of their parameters with two axes or more.

    Raises:
        ArgumentError: a layer's weights are made of something else, and leaving would end that as well.
    """
    found = []
    for name, layer in network.named_modules():
        if _computed(layer):
            msg = f"the weight of layer {name!r} is computed (parametrised) already: take that away before clustering"
            raise ArgumentError(msg)
        own = [key for key, weight in layer._parameters.items() if weight is not None and weight.dim() > 1]
        if own:
            found.append((layer, own))
    return found


def _computed(layer: nn.Module) -> bool:
    """Whether a weight is made of other parameters, by torch's parametrisation or, as of old, by a hook."""
    made = list(layer.parametrizations) if parametrize.is_parametrized(layer) else []  # pyright: ignore[reportArgumentType]
    weights = [getattr(layer, name) for name in made] + [vars(layer).get("weight")]
    return any(isinstance(weight, Tensor) and weight.dim() > 1 for weight in weights)


def stored_bytes(network: nn.Module, dtype_bits: int = 8) -> float:
    """Bytes of a network's weights, each layer in the smaller of a dense and an entropy-coded form.

    A layer of few values takes their entropy per weight, the least that any code takes, and a book of the values.
    Biases count as `dtype_bits` each, though a file in int8 holds four bytes of one.

    Args:
        network: pruned or clustered or neither.
        dtype_bits: of a value as the chip holds it, scaled by the largest of its output channel.
    """
    total = 0.0
    for parameter in network.parameters():
        value = parameter.detach()
        held = torch.round(value / _largest(value) * (2 ** (dtype_bits - 1) - 1)) if value.dim() > 1 else value
        values, counts = torch.unique(held, return_counts=True)
        share = counts.double() / counts.sum()
        coded = parameter.numel() * float(-(share * torch.log2(share)).sum()) + len(values) * dtype_bits
        total += min(parameter.numel() * dtype_bits, coded)
    return math.ceil(total / 8) * 1.0


@final
class _Even(nn.Module):
    """A weight in even steps of each output channel's largest; its gradient is that of the value."""

    def __init__(self, steps: int, *, active: bool) -> None:
        super().__init__()
        self.steps, self.active = steps, active

    def forward(self, weight: Tensor) -> Tensor:
        if not self.active:
            return weight
        fixed = weight.detach()
        largest = _largest(fixed)
        return torch.round(fixed / largest * self.steps) / self.steps * largest + (weight - fixed)


def _steps(clusters: int) -> int:
    """Values on either side of zero."""
    if clusters < 3:
        msg = f"clusters must be at least 3, for zero and both signs, got {clusters}"
        raise ArgumentError(msg)
    return (clusters - 1) // 2


def _largest(weight: Tensor) -> Tensor:
    """Of each output channel, at least so much that it can be divided by."""
    return weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in network.named_parameters() if weight.dim() > 1}


def _clustered(shares: Tensor, steps: int) -> Tensor:
    """Of numbers in 0..1, the nearest of zero and so many others."""
    ordered = shares.double().sort().values
    sums = functional.pad(ordered.cumsum(0), (1, 0))
    centres = torch.linspace(0, 1, steps + 1).to(ordered)
    for _ in range(_ROUNDS):
        ends = torch.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, right=True)
        bounds = functional.pad(functional.pad(ends, (1, 0)), (0, 1), value=len(ordered))
        counts = bounds.diff()
        moved = torch.where(counts > 0, sums[bounds].diff() / counts.clamp(min=1), centres)
        moved[0] = 0  # weights of both signs stand around it
        if torch.equal(moved, centres):
            break
        centres = moved
    centres = centres.to(shares)
    return centres[torch.bucketize(shares, (centres[1:] + centres[:-1]) / 2)]
