# SPDX-License-Identifier: Apache-2.0
"""Search a network of your own for a chip: a space, and a task that builds, trains and judges candidates.

python examples/own_search.py [TRIALS] [STEPS]
"""

import sys
from collections.abc import Callable

import torch
from torch import nn

import sirdar
from sirdar.search import Candidate, Choice, SearchSpace
from sirdar.workload.graph import Graph

SPACE = SearchSpace(
    "stripes",
    (
        Choice("channels", (4, 8, 16, 32, 64)),
        Choice("kernel", (3, 5)),
        Choice("layers", (1, 2, 3)),
    ),
)


def build(candidate: Candidate) -> nn.Module:
    """The network of a candidate: images [batch, 1, 16, 16] to two logits."""
    channels, kernel = int(candidate["channels"]), int(candidate["kernel"])
    layers: list[nn.Module] = []
    for index in range(int(candidate["layers"])):
        layers += [nn.Conv2d(channels if index else 1, channels, kernel, padding=kernel // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


class Stripes:
    """Tell fine stripes from coarse ones under noise."""

    metric, higher_is_better = "accuracy", True

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def graph(self, candidate: Candidate) -> Graph:
        """What the chip is asked the price of; nothing is trained for it."""
        return sirdar.trace(build(candidate), torch.zeros(1, 1, 16, 16))

    def evaluate(self, candidate: Candidate, seed: int, report: Callable[[int, float], None]) -> dict[str, float]:
        """Trains, tells how far it has come, and judges on images that were not trained on."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(candidate)
            optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
            for step in range(1, self.steps + 1):
                images, labels = draw(64)
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()
                optimiser.step()
                if step % 20 == 0:
                    report(step, accuracy(network, 256))
            return {"accuracy": accuracy(network, 2048)}


def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [image, 1, 16, 16] and which of the two kinds they are."""
    labels = torch.randint(2, (count,))
    phase, period = torch.rand(count, 1, 1, 1) * 6.28, torch.where(labels == 0, 3.0, 3.5).reshape(-1, 1, 1, 1)
    stripes = torch.sin(6.28 * torch.arange(16) / period + phase).expand(count, 1, 16, 16)
    return stripes + 2 * torch.randn(count, 1, 16, 16), labels


def accuracy(network: nn.Module, count: int) -> float:
    """Share of new images that are told right."""
    images, labels = draw(count)
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).float().mean())


def main(trials: int = 12, steps: int = 100) -> None:
    """Looks for accurate and fast networks on a microcontroller's accelerator; `limits` would bound their latency."""
    study = sirdar.search(SPACE, Stripes(steps), chip="ethos-u55-256", strategy="evolution", trials=trials)
    for trial in sorted(study.pareto(), key=lambda trial: trial.measures["latency_s"]):
        told = ", ".join(f"{name} {value}" for name, value in trial.candidate.values)
        print(f"{trial.measures['accuracy']:.1%} in {trial.measures['latency_s'] * 1e6:.0f} us: {told}")
    print(f"{len(study.trials)} networks trained in {study.spent.cpu_hours * 3600:.0f} CPU seconds")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
