# SPDX-License-Identifier: Apache-2.0
"""Units and the one currency in which networks are compared: `Cost`."""

from dataclasses import dataclass

SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6
PICO = 1e-12


@dataclass(frozen=True)
class Cost:
    """What it costs to run a network once, or one operator of it.

    Costs add: seconds, joules, parameter bytes and operations sum; the peak of memory is the larger of the two. A part
    that is not known is not a number.
    """

    latency_s: float = 0.0
    energy_j: float = 0.0
    peak_bytes: float = 0.0  # activations alive at once in all memories, beside the parameters
    parameter_bytes: float = 0.0
    macs: float = 0.0  # multiply-accumulates

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            latency_s=self.latency_s + other.latency_s,
            energy_j=self.energy_j + other.energy_j,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            parameter_bytes=self.parameter_bytes + other.parameter_bytes,
            macs=self.macs + other.macs,
        )


def kwh(energy_j: float) -> float:
    """Joules to kilowatt-hours."""
    return energy_j / JOULES_PER_KWH


def usd(seconds: float, price_usd_per_hour: float) -> float:
    """The price of a machine held for a time."""
    return seconds / SECONDS_PER_HOUR * price_usd_per_hour
