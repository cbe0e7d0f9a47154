# SPDX-License-Identifier: Apache-2.0
"""A chip composed of building blocks that are checked against each other: array, vector unit, SRAM, DRAM, link.

A chip on the drawing board has no data sheet; its peaks follow from its parts. In TOML each part is a table of numbers
with a source, ``[blocks.array]`` with ``rows``, ``columns`` and ``clock_hz`` for instance, and optional ``count``,
``area_mm2`` and ``power_w`` of one. What the parts imply need not be stated again; where it is stated too, the two must
agree. `Blocks.complaints` says what does not fit: an array that its SRAM cannot feed, memory slower than the link that
fills it, parts that together exceed the area or power of the budget.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sirdar.chips.array import Array
from sirdar.chips.number import Number
from sirdar.numerics.formats import element_named

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # required and optional numbers of each block
    "array": (("rows", "columns", "clock_hz"), ("stream", "least_stream", "macs_per_cycle")),
    "vector": (("lanes", "clock_hz"), ()),
    "sram": (("bytes", "bandwidth_bytes_per_s"), ()),
    "dram": (("bytes", "bandwidth_bytes_per_s"), ()),
    "link": (("bandwidth_bytes_per_s",), ()),
}
ANY_BLOCK = ("count", "area_mm2", "power_w")
BUDGET = ("area_mm2", "power_w")
AGREEMENT = 0.15  # vendors round: two pages about Trainium 2 differ by 6 % in bf16, and by 13 % in fp32
_ACCUMULATOR_BYTES = 4  # results leave the array in fp32


@dataclass(frozen=True)
class Block:
    """One kind of part, of which a chip may have several.

    Args:
        kind: one of `KINDS`.
        numbers: its figures, of one part.
        passes: of an array, by number format: how often it passes over the work.
        stationary: of an array, what stays in it (`sirdar.chips.array`).
        hidden_load: of an array, whether the next tile is loaded while the present one works.
    """

    kind: str
    numbers: Mapping[str, Number] = field(hash=False)
    passes: Mapping[str, Number] = field(default_factory=dict, hash=False)
    stationary: str = "weight"
    hidden_load: bool = True

    def value(self, key: str, default: float = 0.0) -> float:
        """A figure of one part."""
        return self.numbers[key].value if key in self.numbers else default

    @property
    def count(self) -> float:
        """How many there are."""
        return self.value("count", 1.0)

    def total(self, key: str) -> float:
        """A figure of all parts of this kind together."""
        return self.count * self.value(key)


@dataclass(frozen=True)
class Blocks:
    """The parts of a chip and what they may take together.

    Args:
        parts: by kind.
        budget: `area_mm2` and `power_w` of the whole chip, where limited.
    """

    parts: Mapping[str, Block] = field(hash=False)
    budget: Mapping[str, Number] = field(default_factory=dict, hash=False)

    def array(self) -> Array | None:
        """The multipliers as a cycle model; None for a chip described without."""
        part = self.parts.get("array")
        if part is None:
            return None
        return Array(
            rows=int(part.value("rows")),
            columns=int(part.value("columns")),
            clock_hz=part.value("clock_hz"),
            count=int(part.count),
            stationary="output" if part.stationary == "output" else "weight",
            macs_per_cycle=part.value("macs_per_cycle"),
            stream=int(part.value("stream", 512.0)),
            least_stream=int(part.value("least_stream", 1.0)),
            hidden_load=part.hidden_load,
            passes={dtype: number.value for dtype, number in part.passes.items()},
        )

    def implied(self) -> dict[str, float]:
        """Keys of a chip's sheet and the values that follow from the parts."""
        found: dict[str, float] = {}
        array = self.array()
        if array is not None:
            found |= {f"flops_per_s.{dtype}": 2 * array.macs_per_s(dtype) for dtype in array.passes}
        vector, sram, dram = (self.parts.get(kind) for kind in ("vector", "sram", "dram"))
        if vector is not None:
            found["vector_flops_per_s"] = vector.total("lanes") * vector.value("clock_hz")
        if sram is not None:
            found["sram_bytes"] = sram.total("bytes")
        if dram is not None:
            found |= {"memory_bytes": dram.total("bytes"), "bandwidth_bytes_per_s": dram.total("bandwidth_bytes_per_s")}
        if self.parts and all("power_w" in part.numbers for part in self.parts.values()):
            found["power_w"] = sum(part.total("power_w") for part in self.parts.values())
        return found

    def numbers(self) -> Iterator[tuple[str, Number]]:
        """Every number, by its key in TOML."""
        for kind, part in self.parts.items():
            yield from ((f"blocks.{kind}.{key}", number) for key, number in part.numbers.items())
            yield from ((f"blocks.{kind}.passes.{dtype}", number) for dtype, number in part.passes.items())
        yield from ((f"blocks.budget.{key}", number) for key, number in self.budget.items())

    def complaints(self) -> Iterator[tuple[str, str]]:
        """What does not fit: the TOML key to blame, and a sentence without its subject."""
        yield from self._feeding()
        yield from self._speeds()
        silent = [kind for kind, part in self.parts.items() if "power_w" not in part.numbers]
        if "power_w" in self.budget and silent:  # area may be missing: device memory takes none of the chip's
            yield f"blocks.{silent[0]}.power_w", "is missing, so the budget of power cannot be checked"
        for key, limit in self.budget.items():
            total = sum(part.total(key) for part in self.parts.values())
            if total > limit.value:
                parts = ", ".join(f"{kind} {part.total(key):g}" for kind, part in self.parts.items() if part.total(key))
                yield f"blocks.budget.{key}", f"allows {limit.value:g}, but the blocks take {total:g} ({parts})"

    def _feeding(self) -> Iterator[tuple[str, str]]:
        """Whether SRAM holds a tile of every array twice, and delivers operands as fast as the arrays take them."""
        array, sram = self.array(), self.parts.get("sram")
        if array is None or sram is None or not array.passes:
            return
        # Wider formats take more passes, so the narrowest of those that take fewest is what memory must keep up with.
        fewest = max(1.0, min(array.passes.values()))
        width = min(element_named(dtype).bits for dtype, passes in array.passes.items() if passes <= fewest) / 8
        needed = array.count * array.clock_hz * (array.rows * width + array.columns * _ACCUMULATOR_BYTES)
        given = sram.total("bandwidth_bytes_per_s")
        if array.stationary == "weight" and given < needed:
            yield (
                "blocks.sram.bandwidth_bytes_per_s",
                f"gives {given:.4g} bytes a second, but the array takes {needed:.4g} to stay busy",
            )
        tile = array.rows * width * (array.columns + array.stream) + array.columns * array.stream * _ACCUMULATOR_BYTES
        if array.stationary == "weight" and sram.total("bytes") < 2 * array.count * tile:
            need = 2 * array.count * tile
            yield "blocks.sram.bytes", f"holds {sram.total('bytes'):.4g}, but the tiles of the array take {need:.4g}"

    def _speeds(self) -> Iterator[tuple[str, str]]:
        """Memory further away must not be the faster one, nor the smaller."""
        chain = [kind for kind in ("sram", "dram", "link") if kind in self.parts]
        for near, far in pairwise(chain):
            fast, slow = (self.parts[kind].total("bandwidth_bytes_per_s") for kind in (near, far))
            if slow > fast:
                yield (
                    f"blocks.{far}.bandwidth_bytes_per_s",
                    f"is {slow:.4g} bytes a second, faster than the {fast:.4g} of {near}, which could not take it",
                )
        if "sram" in self.parts and "dram" in self.parts:
            near_bytes, far_bytes = (self.parts[kind].total("bytes") for kind in ("sram", "dram"))
            if far_bytes < near_bytes:
                yield (
                    "blocks.dram.bytes",
                    f"holds {far_bytes:.4g}, less than the {near_bytes:.4g} of sram in front of it",
                )


def disagreements(stated: Mapping[str, Any], implied: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Where a sheet states something else than its blocks imply, by more than `AGREEMENT`.

    Args:
        stated: numbers of the sheet by key.
        implied: of `Blocks.implied`.
    """
    for key, value in implied.items():
        said: Number | None = stated.get(key)
        if said is None:
            continue
        low, _, high = said.bounds
        if key == "power_w":  # a chip under load draws no more than its parts at their peaks, and may draw less
            if low > value * (1 + AGREEMENT):
                yield key, f"is {said.value:.4g}, but the blocks draw {value:.4g} together"
            continue
        values = [low, high, *(other.value for other in said.alternatives)]
        if not min(values) * (1 - AGREEMENT) <= value <= max(values) * (1 + AGREEMENT):
            yield key, f"is {said.value:.4g}, but the blocks give {value:.4g}, more than {AGREEMENT:.0%} apart"
