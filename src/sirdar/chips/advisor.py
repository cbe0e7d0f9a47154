# SPDX-License-Identifier: Apache-2.0
"""Which chip to run a network on: latency, energy, price and carbon of a whole volume, before running on any."""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sirdar.chips.analytic import Estimator, OperatorCost, fits
from sirdar.chips.asked import element_asked
from sirdar.chips.chip import USUAL, Chip, Instance
from sirdar.chips.energy import energy, grams_co2, grid
from sirdar.chips.joules import table_for
from sirdar.chips.option import Option as Option
from sirdar.chips.option import Ranking as Ranking
from sirdar.chips.option import front, reason
from sirdar.chips.reading import load, names
from sirdar.chips.tiled import Tiled
from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.units import Cost, usd
from sirdar.workload.graph import Graph

NO_PRICE = "no public price"
_DAY_S = 86400.0


@dataclass(frozen=True)
class Estimated:
    """A chip with an estimator of its own, such as its maker's compiler.

    Args:
        chip: the chip.
        estimator: of one run on it.
        dtype: the number format that the estimate holds for.
    """

    chip: Chip
    estimator: Estimator
    dtype: str


@dataclass(frozen=True)
class _Work:
    """What is to be done, checked."""

    graph: Graph
    batch: int
    volume: float  # examples in a night, or in a day of a service
    per_s: float | None
    limit_s: float | int | None
    dtype: str
    region: str
    priced: tuple[str, ...]  # regions in which any of the chips has a price


def advise(
    graph: Graph,
    *,
    per_day: float | int | None = None,
    per_s: float | int | None = None,
    batch: int | None = None,
    chips: Iterable[str | Path | Chip | Estimated] | None = None,
    dtype: str | None = None,
    region: str = "us-east-1",
    latency_s: float | int | None = None,
) -> Ranking:
    """Rank chips for a volume of work by the analytic estimate (`sirdar.chips.tiled`), or by one of their own.

    Args:
        graph: the network, traced with `batch` examples.
        per_day: examples to compute in one go, such as one night's forecasts.
        per_s: examples that arrive every second, all day; as many machines as they need are counted. Give one of both.
        batch: examples in one run of the graph; the first axis of its first input where None.
        chips: names, paths of TOML files, chips, or chips with an estimator; where None, all of the catalogue that can
            be rented and compute in such a format.
        dtype: number format to run in, bf16 where None; a chip that lacks it uses the next one it has and says so. Only
            where None, a chip with nothing in its place uses its own.
        region: for prices and the grid; where no chip has a price in it, the ranking is by energy and says so.
        latency_s: what one batch may take, with the time to fill it where `per_s` is given; None for any.

    Raises:
        ArgumentError: an argument is out of range, or a chip, format or region is unknown.
        DataError: a chip's own file is wrong.
    """
    batch = require_positive_integer(_first_axis(graph) if batch is None else batch, "batch")
    if (per_day is None) == (per_s is None):
        msg = f"one of per_day and per_s must be given, got {per_day!r} and {per_s!r}"
        raise ArgumentError(msg)
    for value, name in ((per_day, "per_day"), (per_s, "per_s"), (latency_s, "latency_s")):
        if value is not None:
            require_positive(value, name)
    every_chip = [_estimated(chip, dtype) for chip in (_all(dtype) if chips is None else chips)]
    if not every_chip:
        msg = "chips must name at least one chip, got none"
        raise ArgumentError(msg)
    _require_different([row.chip.name for row in every_chip])
    volume = float(per_s * _DAY_S if per_s is not None else per_day or 0.0)
    rate = None if per_s is None else float(per_s)
    priced = _priced(row.chip for row in every_chip)
    work = _Work(graph, batch, volume, rate, latency_s, dtype or USUAL, region, priced)
    every = [option for row in every_chip for option in _options(row, work)]
    return _ranked(every, work)


def _estimated(chip: str | Path | Chip | Estimated, dtype: str | None) -> Estimated:
    if isinstance(chip, Estimated):
        return chip
    sheet = chip if isinstance(chip, Chip) else load(chip)
    return Estimated(sheet, Tiled(), sheet.usual_dtype() if dtype is None else dtype)


def _priced(chips: Iterable[Chip]) -> tuple[str, ...]:
    """Regions in which any of the chips has a price, sorted."""
    rows = (row for chip in chips for row in chip.instances)
    return tuple(sorted({row.region for row in rows if row.price_usd_per_hour is not None}))


def _require_different(titles: list[str]) -> None:
    twice = [title for title in titles if titles.count(title) > 1]
    if twice:
        msg = f"every chip needs a name of its own, got {twice[0]!r} twice"
        raise ArgumentError(msg)


def _all(dtype: str | None) -> list[Chip]:
    """The catalogue, less the chips that compute in nothing that could take the place of the format."""
    every, found = [load(name) for name in names()], list[Chip]()
    had = dict.fromkeys(own for chip in every for own in chip.flops_per_s)
    element_asked(dtype or USUAL, had, "the catalogue")
    for chip in every:
        try:
            chip.usable_dtype(dtype or USUAL)
        except ArgumentError:
            continue
        found.append(chip)
    return found


def _ranked(every: list[Option], work: _Work) -> Ranking:
    """The best instance of each chip, in order, with marks and reasons."""
    chosen: dict[str, Option] = {}
    for option in sorted(every, key=_order):
        chosen.setdefault(option.chip, option)
    options = sorted(chosen.values(), key=_order)
    best = options[0] if options[0].eligible else None
    undominated = front(options)
    told = tuple(
        replace(row, pareto=place in undominated, reason=reason(row, best, options))
        for place, row in enumerate(options)
    )
    able = [option for option in told if option.eligible]
    priced = [option for option in able if option.price_usd is not None]
    return Ranking(
        options=told,
        cheapest=_least(priced, lambda option: option.price_usd or 0.0),
        greenest=_least(able, lambda option: option.grams_co2),
        fastest=_least(able, lambda option: option.seconds if work.per_s is None else option.latency_s),
        assumptions=_assumptions(work),
        instances=tuple(every),
        daily=work.per_s is not None,
    )


def _options(row: Estimated, work: _Work) -> list[Option]:
    """One for every instance with the chip, or one of the chip alone where none has a price."""
    chip = row.chip
    cost = row.estimator.estimate(work.graph, chip, row.dtype)
    bound = _bound(row.estimator.breakdown(work.graph, chip, row.dtype))
    rented = [one for one in chip.instances if one.region == work.region and one.price_usd_per_hour is not None]
    made = [_option(row, work, cost, bound, instance) for instance in rented or [None]]
    if isinstance(row.estimator, Tiled) and chip.kind != "npu":
        return made
    own = f"time and memory are estimated by {type(row.estimator).__name__}"
    if isinstance(row.estimator, Tiled):
        own = "time is from the sheet; `sirdar advise` and `sirdar.estimate` ask the maker's compiler of an Ethos-U"
    return [replace(option, notes=(*option.notes, own)) for option in made]


def _option(row: Estimated, work: _Work, cost: Cost, bound: str, instance: Instance | None) -> Option:
    chip = row.chip
    count = 1 if instance is None else instance.chips
    runs = work.volume / work.batch if work.per_s is not None else float(math.ceil(work.volume / work.batch))
    machines, seconds, idle_s, filling_s = _schedule(work, cost, count, runs)
    joules = energy(chip, cost.latency_s * runs + idle_s * table_for(chip).static_share.value)
    room, sentence = fits(cost, chip)
    rate = None if instance is None else instance.price_usd_per_hour
    latency_s = cost.latency_s + filling_s
    option = Option(
        chip=chip.name,
        instance=None if instance is None else instance.name,
        chips=count,
        dtype=chip.usable_dtype(row.dtype),
        latency_s=latency_s,
        seconds=seconds,
        energy_low_j=joules.low_j,
        energy_j=joules.mid_j,
        energy_high_j=joules.high_j,
        grams_co2=grams_co2(joules.mid_j, work.region),
        price_usd=None if rate is None else machines * usd(seconds, rate),
        peak_bytes=cost.peak_bytes,
        parameter_bytes=cost.parameter_bytes,
        fits=room,
        fit=sentence,
        fast_enough=work.limit_s is None or latency_s <= work.limit_s,
        bound=bound,
        power_assumed=chip.power_w.assumed,
        machines=machines,
    )
    return replace(option, notes=_notes(chip, option, work))


def _schedule(work: _Work, cost: Cost, count: int, runs: float) -> tuple[int, float, float, float]:
    """Machines, seconds they are held, seconds that their chips wait, and seconds until a batch is full."""
    if work.per_s is None:
        return 1, math.ceil(runs / count) * cost.latency_s, 0.0, 0.0
    machines = max(1, math.ceil(work.per_s * cost.latency_s / work.batch / count))  # even a network of views is held
    waiting_s = max(0.0, machines * count * _DAY_S - runs * cost.latency_s)
    return machines, _DAY_S, waiting_s, (work.batch - 1) / work.per_s


def _bound(rows: Iterable[OperatorCost]) -> str:
    """What the operators that take most of the time are bound by."""
    seconds: dict[str, float] = defaultdict(float)
    for row in rows:
        seconds[row.bound] += row.cost.latency_s
    return max(seconds, key=seconds.__getitem__, default="nothing")


def _notes(chip: Chip, option: Option, work: _Work) -> tuple[str, ...]:
    notes: list[str] = []
    if option.dtype != work.dtype:
        notes.append(f"{chip.name} does not compute in {work.dtype}; {option.dtype} is used")
    if option.instance is None:
        other = [region for region in _priced([chip]) if region != work.region]
        known = f" on the sheet, but in {', '.join(other)}" if other else ""
        notes.append(f"{NO_PRICE} in {work.region}{known}; seconds are those of one chip")
    if chip.power_w.assumed:
        low, mid, high = chip.power_w.bounds
        notes.append(f"power of {low:g} to {high:g} W (taken as {mid:g} W) is an {chip.power_w.source}")
    if chip.sram_bytes is None:
        notes.append("on-chip memory is not stated; all traffic is charged to device memory")
    elif chip.sram_bytes.assumed:
        notes.append(f"on-chip memory of {chip.sram_bytes.value:.3g} bytes is an {chip.sram_bytes.source}")
    if option.bound == "overhead":
        each = chip.fitted.get("start_s", chip.overhead_s)
        start = f"{each.value:g} s each, {each.source}"
        notes.append(f"most of the time goes into starting operators ({start}); a larger batch costs less")
    if not option.fits:
        notes.append(option.fit)
    if not option.fast_enough:
        notes.append(f"one batch takes {option.latency_s:.3g} s, more than the {work.limit_s:g} s allowed")
    return tuple(notes)


def _first_axis(graph: Graph) -> int:
    shapes = [spec.shape for spec in graph.inputs if spec.shape]
    if not shapes:
        msg = "the graph has no input with an axis to take the batch from; give batch"
        raise ArgumentError(msg)
    return shapes[0][0]


def _assumptions(work: _Work) -> tuple[str, ...]:
    intensity = grid()[work.region]
    if work.per_s is None:
        job = f"{work.volume:g} examples in batches of {work.batch}, one batch at a time on each chip of one instance."
        waiting = ""
    else:
        job = (
            f"{work.per_s:g} examples a second, all day, in batches of {work.batch}, on as many instances as it takes; "
            "arrivals are even, fill one batch after another, and no machine is in reserve."
        )
        waiting = " It is that of a day; chips that wait draw their static share."
    sentences = [
        job,
        "Time, where a row does not say otherwise, is an analytic estimate over operators, one after another: whole "
        "tiles on arrays that are known, shares of the peaks as fitted or published, a start for each. Nothing was "
        "measured on these chips.",
        _price(work),
        f"Energy is the power of the chips under load times their time, without hosts and cooling.{waiting}",
        f"Carbon is {intensity.value:g} g CO2e per kWh in {work.region} ({intensity.source}, {intensity.date}).",
    ]
    unknown = work.graph.unknown
    if unknown:
        sentences.append(f"The work of {len(unknown)} operators is not counted: {', '.join(unknown)}.")
    return tuple(sentences)


def _price(work: _Work) -> str:
    """What the prices are, or why there are none."""
    if work.region in work.priced:
        held = "the seconds of computing" if work.per_s is None else "a whole day of all machines, also while they wait"
        return f"Price is the on-demand rate for {held}; starting machines and moving data are not in it."
    ranked = "chips are ranked by energy, each row is of one chip, and no instance is chosen."
    if not work.priced:
        return f"None of the chips has a public price: {ranked}"
    return f"There are prices for {', '.join(work.priced)} only, and none for {work.region}: {ranked}"


def _order(option: Option) -> tuple[bool, bool, float]:
    price = option.price_usd
    return not option.eligible, price is None, option.energy_j if price is None else price


def _least(options: Iterable[Option], quantity: Callable[[Option], float]) -> str | None:
    best = min(options, key=quantity, default=None)
    return None if best is None else best.chip


def require_positive(value: float | int, name: str) -> None:
    """Refuse what is no finite number above zero, by name.

    Raises:
        ArgumentError: the value is none; the sentence has both.
    """
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not 0 < value <= sys.float_info.max:  # an integer may have more digits than any float
        msg = f"{name} must be a finite number > 0, got {value!r}"
        raise ArgumentError(msg)
