# SPDX-License-Identifier: Apache-2.0
"""A chip as a frozen spec sheet in which every number carries its source and date."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date as calendar_date

from sirdar.chips.asked import element_asked
from sirdar.chips.blocks import Blocks
from sirdar.chips.number import Number as Number
from sirdar.errors import ArgumentError
from sirdar.numerics.formats import Format, row_named

USUAL = "bf16"  # the number format where nobody asks for one


@dataclass(frozen=True)
class Instance:
    """A machine that can be rented with this chip in it.

    Args:
        name: as the provider calls it.
        chips: how many of them it holds.
        region: where the price holds.
        source: the document that lists it.
        date: the day of that document.
        price_usd_per_hour: on demand; None where no price is public.
    """

    name: str
    chips: int
    region: str
    source: str
    date: calendar_date
    price_usd_per_hour: float | None = None


@dataclass(frozen=True)
class Chip:
    """What a hardware model needs to know of a chip.

    Args:
        name: as in `load`.
        vendor: who makes it.
        kind: "accelerator", "gpu", "cpu", or "npu" for a part of a device whose memories are the board's.
        description: one sentence.
        flops_per_s: dense peak of matrix multiplication by number format, two operations per multiply-accumulate.
        vector_flops_per_s: peak of elementwise work.
        memory_bytes: device memory; the address space of an "npu".
        bandwidth_bytes_per_s: to and from device memory, peak.
        compute_efficiency: share of `flops_per_s` that networks reach.
        bandwidth_efficiency: share of `bandwidth_bytes_per_s` that networks reach.
        overhead_s: to start one operator.
        power_w: of the chip under load.
        sram_bytes: on-chip memory that operators can keep their activations in; None where it is not published.
        instances: where it can be rented.
        blocks: the parts it is made of, as far as they are known.
        fitted: how many times its ideal time each kind of work takes, fitted to measurements; by the names of
            `sirdar.chips.calibration.PARTS`.
        node_nm: of the process it is made in, for energies per operation.
        activations: "sram" where they have to lie in on-chip memory, since device memory cannot be written; otherwise
            "memory".
    """

    name: str
    vendor: str
    kind: str
    description: str
    flops_per_s: Mapping[str, Number] = field(hash=False)
    vector_flops_per_s: Number
    memory_bytes: Number
    bandwidth_bytes_per_s: Number
    compute_efficiency: Number
    bandwidth_efficiency: Number
    overhead_s: Number
    power_w: Number
    sram_bytes: Number | None = None
    instances: tuple[Instance, ...] = ()
    blocks: Blocks | None = None
    fitted: Mapping[str, Number] = field(default_factory=dict, hash=False)
    node_nm: Number | None = None
    activations: str = "memory"

    def numbers(self) -> Iterator[tuple[str, Number]]:
        """Every number on the sheet, by the key it has in TOML."""
        for key, value in vars(self).items():
            if isinstance(value, Number):
                yield key, value
        for dtype, number in self.flops_per_s.items():
            yield f"flops_per_s.{dtype}", number
        for part, number in self.fitted.items():
            yield f"fitted.{part}", number
        if self.blocks is not None:
            yield from self.blocks.numbers()

    def usable_dtype(self, dtype: str) -> str:
        """The format itself where the chip computes in it, else the next one it has.

        Next is the narrowest format that is at least as wide, the one closest in mantissa among equals; the widest
        the chip has where all are narrower. A block format counts as its elements. Formats give way to floating-point
        ones only, since integers need calibration; int8 to those that hold every integer of it.

        Raises:
            ArgumentError: the format is unknown, or the chip has nothing to take its place; the sentence says what to
                give.
        """
        wanted = element_asked(dtype, self.flops_per_s, self.name)
        if dtype in self.flops_per_s:
            return dtype
        rows = [row for row in map(row_named, self.flops_per_s) if isinstance(row, Format)]
        rows = [row for row in rows if row.floating and (wanted.floating or row.mantissa >= wanted.mantissa)]
        if not rows:
            own = ", ".join(self.flops_per_s)
            msg = f"chip {self.name} computes only in {own}, nothing takes the place of {dtype}; give {own} as dtype"
            raise ArgumentError(msg)
        wide = [row for row in rows if row.significant_bits >= wanted.significant_bits]
        if not wide:
            return max(rows, key=lambda row: (row.significant_bits, row.exponent)).name
        return min(wide, key=lambda row: (row.significant_bits, abs(row.mantissa - wanted.mantissa))).name

    def usual_dtype(self) -> str:
        """Where no format is asked for: bf16 or what takes its place, or the first on the sheet where nothing does."""
        try:
            return self.usable_dtype(USUAL)
        except ArgumentError:
            return next(iter(self.flops_per_s))

    def cheapest_instance(self, region: str) -> Instance | None:
        """The instance of a region with the least price per chip; None where none has a price."""
        priced = [row for row in self.instances if row.region == region and row.price_usd_per_hour is not None]
        return min(priced, key=lambda row: (row.price_usd_per_hour or 0.0) / row.chips, default=None)
