# SPDX-License-Identifier: Apache-2.0
"""Which chip to run a network on: latency, energy, price and carbon of a whole volume, before running on any."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sirdar.chips.analytic import Estimator, OperatorCost, Roofline, fits
from sirdar.chips.chip import Chip
from sirdar.chips.energy import energy, grams_co2, grid
from sirdar.chips.reading import load, names
from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.units import usd
from sirdar.workload.graph import Graph

NO_PRICE = "no public price"


@dataclass(frozen=True)
class Option:
    """A volume of work on one instance with one kind of chip.

    Args:
        chip: name of the chip.
        instance: the cheapest per chip that is listed in the region; None where none has a public price.
        chips: how many chips share the work.
        dtype: the number format used.
        latency_s: of one batch on one chip.
        seconds: for the whole volume, on all chips of the instance.
        energy_low_j: least plausible energy of the chips for the whole volume.
        energy_j: energy of the chips for the whole volume.
        energy_high_j: greatest plausible energy of the chips for the whole volume.
        grams_co2: that the region's grid emits for `energy_j`.
        price_usd: of the instance for `seconds`; None where no price is public.
        peak_bytes: of activations alive at once.
        parameter_bytes: of weights.
        fits: whether both fit in the chip's memory.
        fit: the sentence that says so.
        fast_enough: whether one batch meets the latency limit; True where there is none.
        bound: what most of the time goes into: "compute", "memory" or "overhead".
        power_assumed: whether nobody published the chip's power.
        notes: what to know before believing the row.
    """

    chip: str
    instance: str | None
    chips: int
    dtype: str
    latency_s: float
    seconds: float
    energy_low_j: float
    energy_j: float
    energy_high_j: float
    grams_co2: float
    price_usd: float | None
    peak_bytes: float
    parameter_bytes: float
    fits: bool
    fit: str
    fast_enough: bool
    bound: str
    power_assumed: bool
    notes: tuple[str, ...] = ()

    @property
    def eligible(self) -> bool:
        """Whether it can do the job at all."""
        return self.fits and self.fast_enough


@dataclass(frozen=True)
class Ranking:
    """Every chip's option for the same work.

    Args:
        options: cheapest first, then those without a price by energy, then those that cannot do the job.
        cheapest: chip with the least price among those that can do the job; None where none has a price.
        greenest: chip with the least carbon.
        fastest: chip with the least time for the volume on one instance.
        assumptions: sentences that hold for all rows.
    """

    options: tuple[Option, ...]
    cheapest: str | None
    greenest: str | None
    fastest: str | None
    assumptions: tuple[str, ...]

    def to_rows(self) -> list[dict[str, Any]]:
        """Plain dictionaries for JSON and tables, with the marks "cheapest", "greenest" and "fastest" on each row."""
        return [
            {
                **asdict(option),
                "notes": list(option.notes),
                "cheapest": option.chip == self.cheapest,
                "greenest": option.chip == self.greenest,
                "fastest": option.chip == self.fastest,
            }
            for option in self.options
        ]


def advise(
    graph: Graph,
    *,
    per_day: float | int,
    batch: int | None = None,
    chips: Iterable[str | Path | Chip] | None = None,
    dtype: str = "bf16",
    region: str = "us-east-1",
    latency_s: float | int | None = None,
) -> Ranking:
    """Rank chips for a volume of work by the roofline.

    Args:
        graph: the network, traced with `batch` examples.
        per_day: examples to compute, such as one night's forecasts.
        batch: examples in one run of the graph; the first axis of its first input where None.
        chips: names, paths of TOML files or chips; the whole catalogue where None.
        dtype: number format to run in; a chip that lacks it uses the next one it has and says so.
        region: for prices and the grid.
        latency_s: what one batch may take; None for any.

    Raises:
        ArgumentError: an argument is out of range, or a chip, format or region is unknown.
        DataError: a chip's own file is wrong.
    """
    batch = require_positive_integer(_first_axis(graph) if batch is None else batch, "batch")
    _require_positive(per_day, "per_day")
    if latency_s is not None:
        _require_positive(latency_s, "latency_s")
    sheets = [chip if isinstance(chip, Chip) else load(chip) for chip in (names() if chips is None else chips)]
    if not sheets:
        msg = "chips must name at least one chip, got none"
        raise ArgumentError(msg)
    runs = math.ceil(per_day / batch)
    options = [_option(graph, chip, dtype, region, runs, latency_s) for chip in sheets]
    able = [option for option in options if option.eligible]
    priced = [option for option in able if option.price_usd is not None]
    return Ranking(
        options=tuple(sorted(options, key=_order)),
        cheapest=_least(priced, lambda option: option.price_usd or 0.0),
        greenest=_least(able, lambda option: option.grams_co2),
        fastest=_least(able, lambda option: option.seconds),
        assumptions=_assumptions(graph, per_day, batch, region),
    )


def _option(graph: Graph, chip: Chip, dtype: str, region: str, runs: int, limit_s: float | int | None) -> Option:
    estimator: Estimator = Roofline()
    cost = estimator.estimate(graph, chip, dtype)
    instance = chip.cheapest_instance(region)
    count = 1 if instance is None else instance.chips
    seconds = math.ceil(runs / count) * cost.latency_s
    joules = energy(chip, cost.latency_s * runs)
    room, sentence = fits(cost, chip)
    rate = None if instance is None else instance.price_usd_per_hour
    option = Option(
        chip=chip.name,
        instance=None if instance is None else instance.name,
        chips=count,
        dtype=chip.usable_dtype(dtype),
        latency_s=cost.latency_s,
        seconds=seconds,
        energy_low_j=joules.low_j,
        energy_j=joules.mid_j,
        energy_high_j=joules.high_j,
        grams_co2=grams_co2(joules.mid_j, region),
        price_usd=None if rate is None else usd(seconds, rate),
        peak_bytes=cost.peak_bytes,
        parameter_bytes=cost.parameter_bytes,
        fits=room,
        fit=sentence,
        fast_enough=limit_s is None or cost.latency_s <= limit_s,
        bound=_bound(estimator.breakdown(graph, chip, dtype)),
        power_assumed=chip.power_w.assumed,
    )
    return replace(option, notes=_notes(chip, option, dtype, region, limit_s))


def _bound(rows: Iterable[OperatorCost]) -> str:
    """What the operators that take most of the time are bound by."""
    seconds: dict[str, float] = defaultdict(float)
    for row in rows:
        seconds[row.bound] += row.cost.latency_s
    return max(seconds, key=seconds.__getitem__, default="nothing")


def _notes(chip: Chip, option: Option, dtype: str, region: str, limit_s: float | int | None) -> tuple[str, ...]:
    notes: list[str] = []
    if option.dtype != dtype:
        notes.append(f"{chip.name} does not compute in {dtype}; {option.dtype} is used")
    if option.instance is None:
        notes.append(f"{NO_PRICE} in {region}; seconds are those of one chip")
    if chip.power_w.assumed:
        low, mid, high = chip.power_w.bounds
        notes.append(f"power of {low:g} to {high:g} W (taken as {mid:g} W) is an {chip.power_w.source}")
    if chip.sram_bytes is None:
        notes.append("on-chip memory is not stated; all traffic is charged to device memory")
    elif chip.sram_bytes.assumed:
        notes.append(f"on-chip memory of {chip.sram_bytes.value:.3g} bytes is an {chip.sram_bytes.source}")
    if option.bound == "overhead":
        start = f"{chip.overhead_s.value:g} s each, {chip.overhead_s.source}"
        notes.append(f"most of the time goes into starting operators ({start}); a larger batch costs less")
    if not option.fits:
        notes.append(option.fit)
    if not option.fast_enough:
        notes.append(f"one batch takes {option.latency_s:.3g} s, more than the {limit_s:g} s allowed")
    return tuple(notes)


def _first_axis(graph: Graph) -> int:
    shapes = [spec.shape for spec in graph.inputs if spec.shape]
    if not shapes:
        msg = "the graph has no input with an axis to take the batch from; give batch"
        raise ArgumentError(msg)
    return shapes[0][0]


def _assumptions(graph: Graph, volume: float | int, batch: int, region: str) -> tuple[str, ...]:
    intensity = grid()[region]
    sentences = [
        f"{volume:g} examples in batches of {batch}, one batch at a time on each chip of one instance.",
        "Time is a roofline over operators run one after another: peaks times the shares that published results reach, "
        "plus the start of each operator. Nothing was measured on these chips.",
        "Price is the on-demand rate for the seconds of computing; starting machines and moving data are not in it.",
        "Energy is the power of the chips under load times their time, without hosts and cooling.",
        f"Carbon is {intensity.value:g} g CO2e per kWh in {region} ({intensity.source}, {intensity.date}).",
    ]
    if graph.unknown:
        sentences.append(f"The work of {len(graph.unknown)} operators is not counted: {', '.join(graph.unknown)}.")
    return tuple(sentences)


def _order(option: Option) -> tuple[bool, bool, float]:
    price = option.price_usd
    return not option.eligible, price is None, option.energy_j if price is None else price


def _least(options: Iterable[Option], quantity: Callable[[Option], float]) -> str | None:
    best = min(options, key=quantity, default=None)
    return None if best is None else best.chip


def _require_positive(value: float | int, name: str) -> None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value <= 0:
        msg = f"{name} must be a finite number > 0, got {value!r}"
        raise ArgumentError(msg)
