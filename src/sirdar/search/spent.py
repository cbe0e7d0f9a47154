# SPDX-License-Identifier: Apache-2.0
"""What a search itself uses up: hours, kilowatt-hours and grams of carbon dioxide.

Processor time is that of this process and of its children; watts are those of the chip sheets, an estimate.
"""

import resource
import time
from dataclasses import dataclass

from sirdar.chips import grams_co2, load
from sirdar.chips.host import machine
from sirdar.units import SECONDS_PER_HOUR, kwh


@dataclass(frozen=True)
class Spent:
    """The bill of a search.

    Args:
        cpu_hours: of processor cores.
        gpu_hours: of accelerators, as far as the task reports them (measure "gpu_s").
        kwh: of both, at the power of their sheets; None where the accelerator that was used was not named.
        grams_co2: by the grid of the region; None where none was given, or the energy is not known.
    """

    cpu_hours: float
    gpu_hours: float
    kwh: float | None
    grams_co2: float | None


def bill(cpu_s: float, gpu_s: float, gpu: str | None = None, region: str | None = None) -> Spent:
    """The bill for seconds of cores and accelerators.

    Args:
        cpu_s: seconds of processor cores.
        gpu_s: seconds of accelerators.
        gpu: the accelerator's name in the catalogue.
        region: whose grid feeds it.

    Raises:
        ArgumentError: a name is unknown.
    """
    energy_j = cpu_s * load("this-cpu").power_w.value / machine().cores
    if gpu is not None:
        energy_j += gpu_s * load(gpu).power_w.value
    grams = None if region is None else grams_co2(energy_j, region)
    hours = cpu_s / SECONDS_PER_HOUR, gpu_s / SECONDS_PER_HOUR
    return Spent(*hours, None, None) if gpu_s and gpu is None else Spent(*hours, kwh(energy_j), grams)


def cpu_seconds() -> float:
    """Processor time so far of this process and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
