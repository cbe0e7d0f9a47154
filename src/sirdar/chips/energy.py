# SPDX-License-Identifier: Apache-2.0
"""Joules and grams: power under load times time, and what the grid emits for it.

The power is that of the chip alone. Hosts, cooling and idle hours are not in it, and a chip that waits for memory draws
less than under load: an upper bound by design until operators carry energies of their own.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sirdar.chips.chip import Chip, Number
from sirdar.chips.reading import Sheet
from sirdar.errors import ArgumentError, nearest
from sirdar.units import kwh


@dataclass(frozen=True)
class Energy:
    """Joules, and how little or much they may be given what is known of the chip's power."""

    low_j: float
    mid_j: float
    high_j: float


def energy(chip: Chip, seconds: float | int, chips: int = 1) -> Energy:
    """What chips take for a time under load."""
    low_w, mid_w, high_w = chip.power_w.bounds
    return Energy(low_w * seconds * chips, mid_w * seconds * chips, high_w * seconds * chips)


@cache
def grid() -> dict[str, Number]:
    """Grams of CO2-equivalent per kilowatt-hour by region, each with its source and date."""
    sheet = Sheet.read(files("sirdar.chips") / "grid.toml", "grid.toml")
    regions = sheet.child("grams_co2_per_kwh")
    return {region: regions.number(region) for region in regions.table}


def grams_co2(energy_j: float | int, region: str) -> float:
    """Grams of CO2-equivalent that the grid of a region emits for an energy.

    Raises:
        ArgumentError: the grid of that region is not known; the sentence lists those that are.
    """
    known = grid()
    if region not in known:
        msg = f"the grid of region {region!r} is not known; known are {', '.join(known)}.{nearest(region, known)}"
        raise ArgumentError(msg)
    return kwh(energy_j) * known[region].value
