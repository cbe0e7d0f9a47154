# SPDX-License-Identifier: Apache-2.0
"""Single-shot search: all candidates train at once in shared weights, within a latency limit and with a latency term.

* Sandwich rule and in-place distillation (Yu and Huang 2019, arXiv:1903.05134): every step trains the largest candidate
  on the labels, and the smallest and some random ones on the labels and on the largest one's answers: of classes their
  probabilities (also in BigNAS, Yu et al. 2020, arXiv:2003.11142), else the numbers.
* A distribution over candidates learns meanwhile which are good: a policy gradient on the absolute reward
  quality - weight * |latency / target - 1| (Bender et al. 2020, TuNAS, arXiv:2008.06120).
* A hard limit: what exceeds it is never drawn. The largest, when it does, teaches but is never proposed.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.search.multishot import View
from sirdar.search.pricing import Priced
from sirdar.search.sharing import Shared, WeightBank, recalibrate
from sirdar.search.space import Candidate, SearchSpace

_TRIES = 100
_HALVINGS = 3  # of the rate, where training diverges
_HUGE = 1e6  # a weight that no sound training reaches
_FEW = 4  # candidates, at least, of which equal scores are no accident
_NOTHING = 1e-12


class _DivergedError(Exception):
    """A loss was not finite, or a weight is huge."""


@dataclass(frozen=True)
class Supernet:
    """How shared weights are trained.

    Args:
        steps: of the optimiser.
        rate: of learning, its peak; halved where training diverges.
        randoms: random candidates in each step, beside the largest and the smallest.
        distil: weight of the distance to the largest candidate's answers: the cross entropy with its probabilities
            where targets are numbers of classes, which stand along the outputs' second axis, else the squared distance.
        latency_weight: of the latency term in the reward; 0 for none.
        target_s: latency that is wanted.
        policy_rate: of the distribution's learning.

    Raises:
        ArgumentError: a number is out of its range.
    """

    steps: int = 300
    rate: float = 0.05
    randoms: int = 2
    distil: float = 0.5
    latency_weight: float = 0.0
    target_s: float = 0.0
    policy_rate: float = 0.1

    def __post_init__(self) -> None:
        require_positive_integer(self.steps, "steps")
        require_positive_integer(self.randoms, "randoms")
        if self.latency_weight < 0 or (self.latency_weight and self.target_s <= 0):
            msg = (
                f"a latency term needs a weight >= 0 and a target_s > 0, got {self.latency_weight} and {self.target_s}"
            )
            raise ArgumentError(msg)


class Policy:
    """One distribution per choice, moved by the policy gradient."""

    def __init__(self, space: SearchSpace, rate: float) -> None:
        self.space, self.rate, self.baseline, self.spread = space, rate, 0.0, 0.0
        self.logits = {choice.name: np.zeros(len(choice.options)) for choice in space.choices}

    def draw(self, view: View, rng: np.random.Generator) -> Candidate:
        """A candidate that keeps to the limits; the fallback where none comes up."""
        for _ in range(_TRIES):
            values = {
                choice.name: choice.options[int(rng.choice(len(choice.options), p=self._share(choice.name)))]
                for choice in self.space.choices
            }
            candidate = self.space.candidate(values)
            if view.feasible(candidate):
                return candidate
        return view.fallback

    def learn(self, candidate: Candidate, reward: float) -> None:
        """Makes what earned more than usual likelier."""
        gap = reward - self.baseline if self.spread else 0.0
        self.spread = 0.9 * self.spread + 0.1 * max(abs(gap), 1e-6)
        self.baseline = 0.9 * self.baseline + 0.1 * reward if self.spread > 1e-7 else reward
        for name, option in candidate.values:
            gradient = -self._share(name)
            gradient[self.space[name].options.index(option)] += 1
            self.logits[name] += self.rate * float(np.clip(gap / self.spread, -3, 3)) * gradient

    def _share(self, name: str) -> np.ndarray:
        grown = np.exp(self.logits[name] - self.logits[name].max())
        return grown / grown.sum()


@final
class SingleShot:
    """Trains one supernet, ranks candidates by its weights, and proposes them for full training in that order.

    Args:
        task: whose networks share weights.
        supernet: how they are trained.
        pool: candidates that are ranked with the trained weights.
        priced: costs, for the latency term.

    Raises:
        ArgumentError: there is a latency term and nothing to price by.
    """

    name = "single-shot"

    def __init__(
        self, task: Shared, supernet: Supernet | None = None, pool: int = 64, priced: Priced | None = None
    ) -> None:
        self.task, self.supernet = task, supernet or Supernet()
        self.pool, self.priced = require_positive_integer(pool, "pool"), priced
        if self.supernet.latency_weight and priced is None:
            msg = "a latency term needs costs: give priced"
            raise ArgumentError(msg)
        self._ranked: tuple[object, list[Candidate]] | None = None
        self._kept: tuple[object, tuple[WeightBank, Policy]] | None = None

    def propose(self, view: View) -> Candidate:
        """The best by shared weights that was not tried."""
        known = self._ranked
        if known is None or known[0] != view.search:
            known = self._ranked = (view.search, self._rank(view))
        tried = {trial.candidate for trial in view.trials}
        rng = view.rng()
        left = (candidate for candidate in known[1] if candidate not in tried)
        return next(left, None) or view.first(lambda: view.space.sample(rng), rng)

    def train(self, view: View) -> tuple[WeightBank, Policy]:
        """The shared weights and the distribution over candidates after training.

        Where the weights diverge they start again at half the rate, with a warning, up to three times.

        Raises:
            ArgumentError: they diverged even so.
        """
        rate = self.supernet.rate
        for _ in range(_HALVINGS):
            try:
                return self._train_at(rate, view)
            except _DivergedError as error:
                told = f"{error} at a rate of {rate:g}, and start again at half of it"
                warnings.warn(told, RuntimeWarning, stacklevel=2)
                rate /= 2
        try:
            return self._train_at(rate, view)
        except _DivergedError as error:
            msg = (
                f"{error} even at a rate of {rate:g}; give a lower rate or distil=0: in place of a strategy's name "
                "SingleShot(task, Supernet(rate=..., distil=...)), or Hybrid with the scores of that as its ranking"
            )
            raise ArgumentError(msg) from error

    def _train_at(self, rate: float, view: View) -> tuple[WeightBank, Policy]:
        bank, policy = WeightBank(view.seed), Policy(view.space, self.supernet.policy_rate)
        rng = np.random.default_rng((view.seed, 15485863))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(view.seed)  # of dropout and the like
            batches, largest = self.task.batches(view.seed), view.space.largest()
            for step in range(self.supernet.steps):
                batch = next(batches)
                teacher = self._learn(bank, largest, batch)[1]
                self._learn(bank, view.fallback, batch, teacher)  # no draw, so the distribution learns nothing from it
                for candidate in [policy.draw(view, rng) for _ in range(self.supernet.randoms)]:
                    loss, _ = self._learn(bank, candidate, batch, teacher)
                    if not math.isfinite(loss):
                        msg = f"the shared weights diverged in step {step}"
                        raise _DivergedError(msg)
                    # The first losses tell how new the weights are, and nothing else.
                    if step >= self.supernet.steps // 4 and (term := self._term(candidate)) is not None:
                        policy.learn(candidate, -loss - term)
                done = step / self.supernet.steps
                bank.step(rate * min(1.0, 10 * done + 0.1) * 0.5 * (1 + np.cos(np.pi * done)))
        if not (largest_weight := bank.reach()) < _HUGE:
            msg = f"the shared weights diverged, up to {largest_weight:.3g} in size,"
            raise _DivergedError(msg)
        return bank, policy

    def scores(self, view: View, candidates: Sequence[Candidate]) -> np.ndarray:
        """The task's score of each candidate with shared weights, [candidate]; trained when first asked for.

        Where all are equal they tell nothing, which is a warning.
        """
        bank, _ = self._trained(view)
        found = []
        for candidate in candidates:
            network = recalibrate(bank.load(bank.network(self.task, candidate)), self.task, seed=view.seed)
            with torch.no_grad():
                found.append(float(self.task.score(network)))
        if len(found) >= _FEW and len(set(map(str, found))) == 1:
            told = (
                f"the shared weights tell nothing of {len(found)} candidates, which all score {found[0]:.4g}; "
                "give another rate or more steps: SingleShot(task, Supernet(rate=..., steps=...))"
            )
            warnings.warn(told, RuntimeWarning, stacklevel=2)
        return np.array(found)

    def _trained(self, view: View) -> tuple[WeightBank, "Policy"]:
        if self._kept is None or self._kept[0] != view.search:
            self._kept = (view.search, self.train(view))
        return self._kept[1]

    def _learn(
        self,
        bank: WeightBank,
        candidate: Candidate,
        batch: tuple[Tensor, Any],
        teacher: Tensor | None = None,
    ) -> tuple[float, Tensor | None]:
        """Adds a candidate's gradient to the bank's; gives the loss on the labels and the answers."""
        inputs, targets = batch
        network = bank.network(self.task, candidate).train()
        outputs = functional_call(network, bank.lend(network), (inputs,))
        loss = self.task.loss(outputs, targets)
        whole = loss
        if teacher is not None and isinstance(outputs, Tensor) and teacher.shape == outputs.shape:
            whole = loss + self.supernet.distil * _distance(outputs, teacher, targets)
        (whole / (2 + self.supernet.randoms)).backward()
        return float(loss.detach()), outputs.detach() if isinstance(outputs, Tensor) else None

    def _term(self, candidate: Candidate) -> float | None:
        """What latency takes from the reward; None where it cannot be known.

        Raises:
            ArgumentError: the costs tell no latency.
        """
        if not self.supernet.latency_weight or self.priced is None:
            return 0.0
        latency_s = self.priced.measures(candidate).get("latency_s")
        if latency_s is None and self.priced.failure(candidate):
            return None
        if latency_s is None:
            msg = f"a latency term needs costs that tell latency_s, those of {candidate} do not"
            raise ArgumentError(msg)
        return self.supernet.latency_weight * abs(latency_s / self.supernet.target_s - 1)

    def _rank(self, view: View) -> list[Candidate]:
        _, policy = self._trained(view)
        rng = np.random.default_rng((view.seed, 32452843))
        drawn = list(dict.fromkeys(policy.draw(view, rng) for _ in range(self.pool)))
        return [drawn[row] for row in np.argsort(-self.scores(view, drawn), kind="stable")]


def _distance(outputs: Tensor, teacher: Tensor, targets: Any) -> Tensor:  # noqa: ANN401 - the task's own
    """How far outputs are from a teacher's: in probabilities of classes, else squared.

    Nothing holds logits as labels hold a regression's numbers: small networks that follow them pull up the weights they
    share with the teacher, and it runs away. So a spread beyond that of the labels is divided out.
    """
    labelled = isinstance(targets, Tensor)
    classes = outputs.dim() > 1 and outputs.shape[1] > 1 and labelled and not targets.is_floating_point()
    if classes and targets.shape == (len(outputs), *outputs.shape[2:]):
        return functional.cross_entropy(outputs, teacher.softmax(dim=1))
    usual = float(targets.float().var(correction=0)) if labelled else 1.0
    excess = float(teacher.var(correction=0)) / max(usual, _NOTHING)
    return functional.mse_loss(outputs, teacher) / max(1.0, excess)
