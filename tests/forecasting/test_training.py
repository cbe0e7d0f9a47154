# SPDX-License-Identifier: Apache-2.0
"""The loss against a loop and numpy's pinball loss; the schedule and random state by their definitions."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sirdar.errors import ArgumentError
from sirdar.forecasting import training
from sirdar.predictive import scores

LEVELS = (0.1, 0.5, 0.9)


def test_the_loss_is_the_weighted_pinball_loss() -> None:
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(1, 1, (2, 3, 4, 3)), axis=-1)
    scale, targets = rng.gamma(2, 3, (2, 3)), rng.gamma(2, 3, (2, 3, 4))
    targets[0, 1, 2] = np.nan
    begun = np.array([[False, True, True], [True, True, True]])
    total, weights = 0.0, 0.0
    for batch, origin in zip(*np.nonzero(begun), strict=True):
        size = scale[batch, origin]
        for step in range(4):
            target = targets[batch, origin, step]
            if np.isnan(target):
                continue
            part = scores.pinball(np.array([[target / size]]), quantiles[batch, origin, step][None, None], LEVELS)
            total += np.sqrt(size) * 2 * part.mean()
            weights += np.sqrt(size)
    tensors = [torch.from_numpy(array) for array in (quantiles, scale, targets, begun)]
    found = training.quantile_loss(*tensors, LEVELS)
    assert found.item() == pytest.approx(total / weights)


def test_no_origin_counts_for_more_than_five_of_the_median_one() -> None:
    quantiles, targets = torch.ones(5, 1, 1, 1), torch.ones(5, 1, 1)
    scale = torch.tensor([[1.0], [1.0], [1.0], [1e8], [1e8]])
    targets[0] = 2.0  # the only error, of a series of the usual size: 2 * 0.5 * 1, and of the others none
    targets[3:] = 1e8
    begun = torch.ones(5, 1, dtype=torch.bool)
    loss = training.quantile_loss(quantiles, scale, targets, begun, [0.5])
    assert loss.item() == pytest.approx(1 / (3 + 2 * 5))


def test_nothing_observed_is_no_loss_and_no_gradient() -> None:
    quantiles = torch.ones(1, 1, 2, 3, requires_grad=True)
    unknown = torch.full((1, 1, 2), float("nan"))
    loss = training.quantile_loss(quantiles, torch.ones(1, 1), unknown, torch.ones(1, 1, dtype=torch.bool), LEVELS)
    loss.backward()
    assert loss.item() == 0
    assert quantiles.grad is not None
    assert (quantiles.grad == 0).all()


@pytest.mark.parametrize("seed", [-1, 2**64, True])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ArgumentError, match=f"seed must be .*, got {seed}"), training.seeded(seed):
        pass


def test_random_state_follows_the_seed_within_and_is_restored_after() -> None:
    before = torch.random.get_rng_state()
    with training.seeded(5):
        first = torch.rand(3)
    with pytest.raises(ZeroDivisionError), training.seeded(5):
        torch.rand(1) / (1 // 0)
    assert torch.equal(before, torch.random.get_rng_state())
    with training.seeded(5):
        assert torch.equal(first, torch.rand(3))
    with training.seeded(6):
        assert not torch.equal(first, torch.rand(3))


def test_one_cycle_warms_up_and_comes_down_to_nothing() -> None:
    shares = [training._one_cycle(step / 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.04)
    assert max(shares) == pytest.approx(1)
    assert np.argmax(shares) == 20
    assert shares[60] == pytest.approx(0.5)  # half-way through the cosine
    assert shares[-1] == pytest.approx(0)


@pytest.mark.parametrize(("observed", "steps"), [(1, 400), (400_000, 400), (1_600_000, 800)])
def test_steps_grow_with_the_root_of_the_observations(observed: int, steps: int) -> None:
    assert training.steps_for(None, np.array([observed, 0]), 400) == steps
    assert training.steps_for(7, np.array([observed, 0]), 400) == 7


@pytest.mark.parametrize(
    ("series", "length", "steps"),
    [(1, 1, 25), (1, 100, 25), (50, 100, 100), (200, 100, 400), (50, 400, 400), (12, 400, 192), (400, 25, 200)],
)
def test_steps_fall_with_few_observations_of_short_series(series: int, length: int, steps: int) -> None:
    counts = np.repeat([length, 0], series)
    assert training.steps_for(None, counts, 400, few=20_000, least=25) == steps
    assert training.steps_for(7, counts, 400, few=20_000, least=25) == 7


def test_training_lowers_the_loss_and_reports_progress() -> None:
    with training.seeded(0):
        network = nn.Linear(1, 1)
    done: list[float] = []

    def loss(generator: np.random.Generator) -> torch.Tensor:
        x = torch.from_numpy(generator.normal(size=(32, 1)).astype(np.float32))
        return ((network(x) - 0.5 * x) ** 2).mean()

    first = loss(np.random.default_rng(1)).item()
    training.train(network, training.Run(loss, 200, 0, progress=done.append), training.Training())
    assert loss(np.random.default_rng(1)).item() < first / 2
    assert not network.training
    assert done == pytest.approx(np.arange(1, 201) / 200)


def test_a_limit_of_time_ends_training_and_brings_the_rate_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = nn.Linear(1, 1)
    rates: list[float] = []
    done: list[float] = []
    monkeypatch.setattr(training.time, "monotonic", itertools.count(0.0, 2.0).__next__)  # two seconds a step
    monkeypatch.setattr(training, "_one_cycle", lambda share: rates.append(share) or 1.0)
    options = training.Training(seconds=100.0, checkpoint=tmp_path)
    run = training.Run(lambda _: network(torch.ones(1, 1)).sum(), 10**6, 0, progress=done.append)
    training.train(network, run, options)
    assert rates == pytest.approx(np.arange(50) / 50)
    assert done == pytest.approx(np.arange(1, 51) / 50)

    def kill(share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    killed = training.Run(run.batch_loss, 10**6, 0, progress=kill)
    with pytest.raises(KeyboardInterrupt):
        training.train(network, killed, options)
    done.clear()
    training.train(network, run, options)  # what was spent before counts
    assert done == pytest.approx(np.arange(26, 51) / 50)


def test_steps_end_a_training_that_has_time_left() -> None:
    network, done = nn.Linear(1, 1), list[float]()
    run = training.Run(lambda _: network(torch.ones(1, 1)).sum(), 4, 0, progress=done.append)
    training.train(network, run, training.Training(seconds=1e6))
    assert done == [0.25, 0.5, 0.75, 1.0]
