# SPDX-License-Identifier: Apache-2.0
"""Ranking candidates without training any: scores of untrained networks, and their combination.

The combination is the sum, over all scores, of the logarithm of the rank among the candidates at hand (Lee and Ham
2024, arXiv:2403.19232, there with four scores). The logarithm makes a bad rank in one score cost more than
a good one in another earns. Every score counts the same: nothing is fitted to trained networks.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from sirdar.errors import ArgumentError, nearest
from sirdar.search.scores import SCORES, observe
from sirdar.search.space import Candidate


@runtime_checkable
class Scorable(Protocol):
    """A task whose networks can be looked at without training."""

    def network(self, candidate: Candidate) -> nn.Module:
        """A network with fresh random weights from torch's present random state."""
        ...

    def example(self, candidate: Candidate, batch: int, seed: int) -> Tensor:
        """A batch of a candidate's inputs; random values will do."""
        ...


def score(network: nn.Module, inputs: Tensor, seed: int = 0) -> dict[str, float]:
    """Every score of an untrained network, by name; its convolutions and linear maps get fresh normal weights.

    Args:
        network: whose present weights are overwritten (He et al. 2015: normal, kept in scale through rectifiers).
        inputs: a batch.
        seed: of weights and probes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        seen = observe(network, inputs, seed)
    return {name: function(seen) for name, function in SCORES.items()}


def scored(task: Scorable, candidates: Sequence[Candidate], seed: int = 0, batch: int = 32) -> list[dict[str, float]]:
    """Every score of each candidate's untrained network, in order, whoever drew random numbers meanwhile."""
    return [score(_made(task, candidate, seed), task.example(candidate, batch, seed), seed) for candidate in candidates]


def _made(task: Scorable, candidate: Candidate, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # for what `score` leaves as it comes, such as biases
        return task.network(candidate)


def combined(rows: Sequence[Mapping[str, float]], names: Sequence[str] = tuple(SCORES)) -> np.ndarray:
    """One number per candidate, [candidate], larger is better: the sum over scores of the logarithm of the rank.

    Args:
        rows: scores of the candidates that are compared.
        names: which scores count.

    Raises:
        ArgumentError: a score is unknown.
    """
    unknown = [name for name in names if name not in SCORES]
    if unknown:
        msg = f"score {unknown[0]!r} is not known; known are {', '.join(SCORES)}.{nearest(unknown[0], SCORES)}"
        raise ArgumentError(msg)
    total = np.zeros(len(rows))
    for name in names:
        values = np.nan_to_num(np.array([row[name] for row in rows], dtype=np.float64), nan=-np.inf)
        total += np.log(rankdata(values) / max(len(rows), 1))
    return total
