# SPDX-License-Identifier: Apache-2.0
"""Fitted shares: recovered from data made with them, near the prior where data say nothing."""

import math

import numpy as np
import pytest

from sirdar.chips.calibration import PARTS, Calibration, Parts, calibrate
from sirdar.errors import ArgumentError


def networks(count: int, seed: int) -> list[Parts]:
    draws = np.random.default_rng(seed).lognormal(mean=-8, sigma=1, size=(count, 4))
    return [Parts(*map(float, row), operators=float(10 + 20 * i), runs=1.0) for i, row in enumerate(draws)]


def test_shares_are_recovered_from_exact_times() -> None:
    truth = Calibration(array=2.0, vector=0.5, weights=1.5, activations=3.0, start_s=4e-6, run_s=3e-4)
    made = networks(200, seed=0)
    found = calibrate(made, [truth.seconds(parts) for parts in made], strength=1e-6)
    assert found.shares()[:6] == pytest.approx(truth.shares()[:6], rel=0.02)
    assert found.exchange_s == pytest.approx(Calibration().exchange_s)  # nothing was exchanged


def test_unseen_networks_are_predicted_through_noise_and_outliers() -> None:
    truth = Calibration(array=2.0, activations=3.0)
    made = networks(80, seed=1)
    noise = np.exp(np.random.default_rng(2).normal(0, 0.1, 80))
    seconds = [truth.seconds(parts) * float(factor) for parts, factor in zip(made, noise, strict=True)]
    seconds[3] *= 20
    found = calibrate(made, seconds)
    unseen = networks(50, seed=3)
    errors = [abs(math.log(found.seconds(parts) / truth.seconds(parts))) for parts in unseen]
    assert float(np.median(errors)) < 0.1


def test_what_the_data_leave_open_stays_at_the_prior() -> None:
    only = Parts(array=1e-3)
    found = calibrate([only, only.times(2)], [2e-3, 4e-3], strength=1e-4)
    assert found.array == pytest.approx(2.0, rel=0.01)
    assert found.vector == pytest.approx(1.0)


def test_seconds_are_a_sum() -> None:
    shares = Calibration.of(dict(zip(PARTS, (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0), strict=True)))
    assert shares.seconds(Parts(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)) == 58.0
    assert Parts(array=1.0) + Parts(array=2.0, runs=1.0) == Parts(array=3.0, runs=1.0)


@pytest.mark.parametrize(
    ("count", "seconds", "sentence"),
    [
        (0, [], "at least one, got 0 and 0"),
        (2, [1.0], "got 2 and 1"),
        (2, [1.0, 0.0], "seconds must be finite and > 0, got 0.0"),
    ],
)
def test_nonsense_is_refused(count: int, seconds: list[float], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        calibrate([Parts(array=1.0)] * count, seconds)
