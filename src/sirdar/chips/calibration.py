# SPDX-License-Identifier: Apache-2.0
"""Fitted efficiencies: how many times its ideal time each kind of work takes on a chip, from measured networks.

Bare peaks are off by 2.5 to 8 times. What is missing is mostly the same for every network on a chip, so it can be
learned from a few: time is modelled as a sum over `PARTS`, each an ideal time multiplied by a share of its own,

    seconds = array * a + vector * v + weights * w + activations * m
              + start_s * operators + run_s * runs + exchange_s * exchanges,

with shares above zero. They are fitted to the logarithm of measured times, robustly, and drawn towards 1 (towards
`PRIOR_START_S` and its like for those that are seconds) as far as the data leave them open: a ridge on their
logarithms, which is the prior that a share is off by a factor of e or so (Hastie et al., Elements of Statistical
Learning, 2nd ed., section 3.4.1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from sirdar.errors import ArgumentError

PARTS = ("array", "vector", "weights", "activations", "start_s", "run_s", "exchange_s")
PRIOR_START_S = 2e-6  # an operator, about one transfer
PRIOR_RUN_S = 1e-4  # a network, through the runtime
PRIOR_EXCHANGE_S = 2e-5  # a sum over chips
STRENGTH = 0.05  # of the prior: the square of a 20 % error over that of a factor of e, rounded up
_ROBUST = 0.2  # errors beyond this share count by their size and not its square


@dataclass(frozen=True)
class Parts:
    """The ideal time of a network or an operator, by what it is spent on.

    Args:
        array: seconds of the multipliers, tiles rounded up.
        vector: seconds of elementwise work at its peak.
        weights: seconds to read the weights from device memory at its peak.
        activations: seconds to read and write activations there.
        operators: how many are started.
        runs: how often the network is started.
        exchanges: how often chips that share a network wait for each other.
    """

    array: float = 0.0
    vector: float = 0.0
    weights: float = 0.0
    activations: float = 0.0
    operators: float = 0.0
    runs: float = 0.0
    exchanges: float = 0.0

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(*(getattr(self, row.name) + getattr(other, row.name) for row in fields(Parts)))

    def times(self, factor: float | int) -> "Parts":
        """The same work several times."""
        return Parts(*(getattr(self, row.name) * factor for row in fields(Parts)))

    def row(self) -> list[float]:
        """What the shares of `PARTS` multiply, in their order."""
        return [self.array, self.vector, self.weights, self.activations, self.operators, self.runs, self.exchanges]


@dataclass(frozen=True)
class Calibration:
    """Shares by the names of `PARTS`; the default is the prior."""

    array: float = 1.0
    vector: float = 1.0
    weights: float = 1.0
    activations: float = 1.0
    start_s: float = PRIOR_START_S
    run_s: float = PRIOR_RUN_S
    exchange_s: float = PRIOR_EXCHANGE_S

    def seconds(self, parts: Parts) -> float:
        """The time that a network takes."""
        return math.fsum(share * part for share, part in zip(self.shares(), parts.row(), strict=True))

    def shares(self) -> list[float]:
        """In the order of `PARTS`."""
        return [getattr(self, name) for name in PARTS]

    @classmethod
    def of(cls, shares: Mapping[str, float]) -> "Calibration":
        """From a mapping with all names of `PARTS`."""
        return cls(**{name: shares[name] for name in PARTS})


def calibrate(
    networks: Sequence[Parts],
    seconds: Sequence[float],
    *,
    prior: Calibration | None = None,
    strength: float = STRENGTH,
) -> Calibration:
    """Shares that explain measured times.

    Args:
        networks: ideal times of the networks that were measured.
        seconds: the measurements, in the same order.
        prior: shares to stay near; 1 and a few microseconds where None.
        strength: of the prior; 0 for none.

    Raises:
        ArgumentError: there are no measurements, their number is not that of the networks, or one is not above 0.
    """
    from scipy.optimize import least_squares

    if not networks or len(networks) != len(seconds):
        msg = f"networks and seconds must be as many and at least one, got {len(networks)} and {len(seconds)}"
        raise ArgumentError(msg)
    wrong = [value for value in seconds if not (math.isfinite(value) and value > 0)]
    if wrong:
        msg = f"seconds must be finite and > 0, got {wrong[0]!r}"
        raise ArgumentError(msg)
    rows = np.array([parts.row() for parts in networks])
    measured = np.log(np.asarray(seconds, dtype=float))
    centre = np.log((prior or Calibration()).shares())

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        error = np.log(rows @ np.exp(logarithms)) - measured
        bent = np.sign(error) * _ROBUST * np.sqrt(2 * (np.sqrt(1 + (error / _ROBUST) ** 2) - 1))
        return np.concatenate([bent, math.sqrt(strength) * (logarithms - centre)])

    fitted = least_squares(residuals, centre, max_nfev=500).x
    return Calibration(*(float(share) for share in np.exp(fitted)))
