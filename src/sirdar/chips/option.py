# SPDX-License-Identifier: Apache-2.0
"""What the advisor says of one machine, and of all of them together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sirdar.errors import ArgumentError, nearest


@dataclass(frozen=True)
class Option:
    """A volume of work on one instance with one kind of chip.

    Args:
        chip: name of the chip.
        instance: the one that does the work for the least, of those with the chip that are listed in the region; None
            where none has a public price.
        chips: how many chips one instance holds.
        machines: how many instances are needed: one for a nightly volume, enough for the rate of a service.
        dtype: the number format used.
        latency_s: of one batch on one chip; for a service, with the time until a batch is full.
        seconds: for the whole volume; a day for a service.
        energy_low_j: least plausible energy of the chips for the whole volume.
        energy_j: energy of the chips for the whole volume.
        energy_high_j: greatest plausible energy of the chips for the whole volume.
        grams_co2: that the region's grid emits for `energy_j`.
        price_usd: of the instances for `seconds`; None where no price is public.
        peak_bytes: of activations alive at once.
        parameter_bytes: of weights.
        fits: whether both fit in the chip's memory.
        fit: the sentence that says so.
        fast_enough: whether one batch meets the latency limit; True where there is none.
        bound: what most of the time goes into: "compute", "memory" or "overhead".
        power_assumed: whether nobody published the chip's power.
        notes: what to know before believing the row.
        pareto: whether no other able option is at least as good in price, energy and latency, and better in one; see
            `front` for those without a price.
        reason: why it is not the one to take; empty for the one that is.
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
    machines: int = 1
    pareto: bool = False
    reason: str = ""

    @property
    def eligible(self) -> bool:
        """Whether it can do the job at all."""
        return self.fits and self.fast_enough

    @property
    def title(self) -> str:
        """The instance, or the chip where there is none."""
        return self.chip if self.instance is None else self.instance


@dataclass(frozen=True)
class Saving:
    """What changing the instance saves over the same work, as shares of the present cost; negative where it costs more.

    Args:
        instance: the present one.
        to: the one to change to.
        price_usd: saved over the work.
        price: share of the price.
        energy: share of the energy of the chips.
        latency: share of the time a batch takes.
    """

    instance: str
    to: str
    price_usd: float
    price: float
    energy: float
    latency: float


@dataclass(frozen=True)
class Ranking:
    """Every chip's option for the same work.

    Args:
        options: cheapest first, then those without a price by energy, then those that cannot do the job.
        cheapest: chip with the least price among those that can do the job; None where none has a price.
        greenest: chip with the least carbon.
        fastest: chip with the least time for the volume on one instance; for a service, the least latency.
        assumptions: sentences that hold for all rows.
        instances: the same for every instance of every chip.
        daily: whether price, energy and carbon are those of a day of a service, and not those of one volume.
    """

    options: tuple[Option, ...]
    cheapest: str | None
    greenest: str | None
    fastest: str | None
    assumptions: tuple[str, ...]
    instances: tuple[Option, ...] = ()
    daily: bool = False

    @property
    def best(self) -> Option | None:
        """The option to take: the cheapest able one, the greenest where none has a price; None where none is able."""
        first = self.options[0] if self.options else None
        return first if first is not None and first.eligible else None

    def against(self, instance: str) -> Saving:
        """What the best option saves against an instance in use.

        Raises:
            ArgumentError: the instance is not among those considered or has no price, or no option can do the job.
        """
        known = {row.instance: row for row in self.instances if row.instance is not None}
        if not known:
            msg = f"no chip has an instance with a price in the region, so there is none to compare {instance!r} with"
            raise ArgumentError(msg)
        if instance not in known:
            msg = f"instance {instance!r} is not among those considered: {', '.join(known)}.{nearest(instance, known)}"
            raise ArgumentError(msg)
        now, best = known[instance], self.best
        if best is None or best.price_usd is None or now.price_usd is None:
            msg = f"there is no option with a price to compare {instance} with"
            raise ArgumentError(msg)
        if not (now.price_usd and now.energy_j and now.latency_s):
            msg = f"the job costs nothing on {instance}, so there is nothing to save"
            raise ArgumentError(msg)
        return Saving(
            instance,
            best.title,
            now.price_usd - best.price_usd,
            1 - best.price_usd / now.price_usd,
            1 - best.energy_j / now.energy_j,
            1 - best.latency_s / now.latency_s,
        )

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


def front(options: Iterable[Option]) -> set[int]:
    """Places of the options that no other dominates in price, energy and latency.

    An option without a price is dominated by none that has one, since it may be cheaper; two without one are compared
    in energy and latency.
    """
    rows = list(options)
    return {place for place, row in enumerate(rows) if row.eligible and dominator(row, rows) is None}


def dominator(option: Option, others: Iterable[Option]) -> Option | None:
    """An able option that is nowhere worse and somewhere better; None where there is none."""
    for other in others:
        never_worse = not any(_worse(a, b) for a, b in _pairs(other, option))
        if other.eligible and never_worse and any(_worse(b, a) for a, b in _pairs(other, option)):
            return other
    return None


def _worse(one: float | None, other: float | None) -> bool:
    """Whether the first is greater; an unknown one may be."""
    if one is None or other is None:
        return one is not other
    return one > other


def _pairs(one: Option, other: Option) -> Iterator[tuple[float | None, float | None]]:
    measures: tuple[Callable[[Option], float | None], ...] = (
        lambda row: row.price_usd,
        lambda row: row.energy_j,
        lambda row: row.latency_s,
    )
    return ((measure(one), measure(other)) for measure in measures)


def reason(option: Option, best: Option | None, others: Iterable[Option]) -> str:
    """Why an option is not the one to take, as a sentence; empty for the one that is."""
    if option is best:
        return ""
    if not option.fits:
        return f"does not fit: {option.fit}"
    if best is None or not option.fast_enough:
        return "one batch takes too long"
    if option.price_usd is None and best.price_usd is not None:
        return "has no public price"
    better = dominator(option, others)
    if better is not None:
        measures = "energy and latency" if better.price_usd is None else "price, energy and latency"
        return f"{better.title} is as good or better in {measures}: {_compared(option, better)}"
    measure = "costs more" if best.price_usd is not None else "takes more energy"
    return f"{measure} than {best.title}: {_compared(option, best)}"


def _compared(option: Option, other: Option) -> str:
    names = ("price", "energy", "latency")
    ratios = [
        f"{a / b:.3g} times its {name}"
        for name, (a, b) in zip(names, _pairs(option, other), strict=True)
        if a is not None and b
    ]
    return ", ".join(ratios)
