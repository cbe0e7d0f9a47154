# SPDX-License-Identifier: Apache-2.0
"""DirectBackprop: train a policy on the money itself, by gradients through the simulator.

Madeka et al. (2022), "Deep Inventory Management", arXiv:2210.03137: since demand does not depend on orders, the reward
along a path is a differentiable function of the policy's weights, and its mean over paths is what is climbed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.inventory.policies.learned import LearnedPolicy
from sirdar.inventory.problem import InventoryProblem, Stock
from sirdar.inventory.simulator import simulate


@dataclass(frozen=True, eq=False)
class Episode:
    """Demand for one step of training.

    Args:
        problem: of the series in this episode.
        demand: [*scenario, series, time].
        stock: at first; empty without it. Varied stock shows the network more states.
        rows: which series of the policy these are; None for all.
        weight: by which the profit of each series counts; equal without it.
    """

    problem: InventoryProblem
    demand: Float[Tensor, "*batch series time"]
    stock: Stock | None = None
    rows: np.ndarray | None = None
    weight: Float[Tensor, " series"] | None = None


@dataclass(frozen=True)
class Training:
    """How to train.

    Args:
        steps: updates of the weights.
        learning_rate: at first, for Adam; it falls to a hundredth along a cosine.
        warm_up: first steps of each episode that are simulated but not counted.
        clip: largest norm of a gradient.
    """

    steps: int = 3000
    learning_rate: float = 0.01
    warm_up: int = 0
    clip: float = 1.0

    def __post_init__(self) -> None:
        require_positive_integer(self.steps, "steps")
        for name in ("learning_rate", "clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                msg = f"{name} must be above 0, got {getattr(self, name)!r}"
                raise ArgumentError(msg)


def direct_backprop(
    policy: LearnedPolicy,
    draw: Callable[[int], Episode],
    training: Training | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> LearnedPolicy:
    """Train a policy in place, and return it ready to order.

    Args:
        policy: the network.
        draw: called with the number of the step, makes its episode; equal numbers should give equal episodes.
        training: how.
        progress: called after each step with its number and its mean loss (less is better) per series and time.

    Raises:
        ArgumentError: the loss is no longer a number.
    """
    plan = training or Training()
    optimiser = torch.optim.Adam(policy.parameters(), lr=plan.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps, eta_min=plan.learning_rate / 100)
    policy.train()
    for step in range(plan.steps):
        loss = _loss(policy, draw(step), plan.warm_up)
        if not math.isfinite(loss.item()):
            msg = f"the loss of step {step} is {loss.item()}: the learning rate {plan.learning_rate} may be too high"
            raise ArgumentError(msg)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), plan.clip)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step, loss.item())
    return policy.eval()


def _loss(policy: LearnedPolicy, episode: Episode, warm_up: int) -> Tensor:
    """Mean loss of money per series and time."""
    some = policy if episode.rows is None else policy.take(episode.rows)
    ledger = simulate(some, episode.problem, episode.demand, episode.stock, warm_up=warm_up)
    loss = -ledger.profit
    loss = loss if episode.weight is None else loss * episode.weight
    return loss.mean() / ledger.steps
