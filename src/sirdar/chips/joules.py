# SPDX-License-Identifier: Apache-2.0
"""The energy of every layer: arithmetic, on-chip memory, device memory, and what leaks while it runs.

"A 16-bit matrix product takes a third of the power of a 32-bit one" is true of the multiplier and false of the wires:
`layers` says what it comes to in a network. Energies per operation and byte stand in `energy.toml` by process, with a
source each and low and high where no figure is public (Horowitz, "Computing's energy problem", ISSCC 2014; Jouppi et
al., "Ten lessons from three generations", ISCA 2021). Products are summed in fp32, integers in int32. This counts from
below; the power of the whole chip times the time (`sirdar.chips.energy`) counts from above.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from sirdar.chips.analytic import FREE, Estimator, traffic, weights_read
from sirdar.chips.chip import Chip
from sirdar.chips.energy import Energy
from sirdar.chips.number import Number
from sirdar.chips.reading import Sheet
from sirdar.chips.tiled import Tiled
from sirdar.numerics.formats import element_named
from sirdar.units import PICO
from sirdar.workload.graph import Graph, Operator

_NODE_NM = 7.0  # where a sheet does not say


@dataclass(frozen=True)
class Table:
    """Picojoules in one process.

    Args:
        multiply_pj: by format; "fp8" stands for every floating-point format of 8 bits or fewer.
        add_pj: "fp32" and "int32".
        byte_pj: "sram" and "dram".
        overhead: of wires, registers and control, as a multiple of the bare arithmetic.
        static_share: of a chip's power under load, drawn whatever it does.
    """

    multiply_pj: Mapping[str, Number]
    add_pj: Mapping[str, Number]
    byte_pj: Mapping[str, Number]
    overhead: Number
    static_share: Number


@dataclass(frozen=True)
class LayerEnergy:
    """Where the joules of an operator go.

    Args:
        name: of the operator.
        kind: of the operator.
        dtype: the number format it runs in.
        multiply: of its multiplications.
        accumulate: of their sums, in fp32 or int32.
        elementwise: of everything else it computes.
        sram: operands and results to and from on-chip memory.
        dram: what passes device memory.
        static: leakage and clocks for as long as it runs.
    """

    name: str
    kind: str
    dtype: str
    multiply: Energy
    accumulate: Energy
    elementwise: Energy
    sram: Energy
    dram: Energy
    static: Energy

    @property
    def total(self) -> Energy:
        """The sum of all."""
        parts = [getattr(self, row.name) for row in fields(self) if row.type is Energy]
        return Energy(*(sum(getattr(part, row.name) for part in parts) for row in fields(Energy)))


@cache
def tables() -> dict[float, Table]:
    """The table of every process, by nanometres."""
    sheet = Sheet.read(files("sirdar.chips") / "energy.toml", "energy.toml")
    overhead, static = sheet.number("overhead"), sheet.number("static_share")
    found: dict[float, Table] = {}
    for key in sheet.table:
        if key.startswith("node_"):
            node = sheet.child(key)
            groups = [node.child(name) for name in ("multiply_pj", "add_pj", "byte_pj")]
            multiply, add, byte = ({row: group.number(row) for row in group.table} for group in groups)
            found[float(key.removeprefix("node_"))] = Table(multiply, add, byte, overhead, static)
    return found


def table_for(chip: Chip) -> Table:
    """The table of the process nearest to the chip's; of 7 nm where its sheet does not say."""
    node = chip.node_nm.value if chip.node_nm is not None else _NODE_NM
    return tables()[min(tables(), key=lambda known: abs(known - node))]


def layers(graph: Graph, chip: Chip, dtype: str, estimator: Estimator | None = None) -> tuple[LayerEnergy, ...]:
    """The energy of every operator, in order.

    Args:
        graph: the network.
        chip: whose memory, process and power.
        dtype: number format; a chip that lacks it uses the next one it has.
        estimator: of the time that leakage lasts; the analytic one where None.

    Raises:
        ArgumentError: the format is unknown.
    """
    used = chip.usable_dtype(dtype)
    table = table_for(chip)
    times = (estimator or Tiled()).breakdown(graph, chip, used)
    return tuple(
        _layer(operator, (weights + activations), time.cost.latency_s, chip, table, used)
        for (operator, weights, activations), time in zip(traffic(graph, chip, used), times, strict=True)
    )


def _layer(operator: Operator, passed: int, seconds: float, chip: Chip, table: Table, dtype: str) -> LayerEnergy:
    row, stored = element_named(dtype), element_named(dtype).name
    wide = row.bits > 8 or not row.floating
    product = table.multiply_pj[stored if wide and stored in table.multiply_pj else "fp32" if wide else "fp8"]
    total = table.add_pj["fp32" if row.floating else "int32"]
    local = 0 if operator.kind in FREE else sum(spec.bytes(dtype) for spec in (*operator.inputs, *operator.outputs))
    local += weights_read(operator, dtype)
    low, mid, high = chip.power_w.bounds
    leak_low, leak_mid, leak_high = table.static_share.bounds
    return LayerEnergy(
        operator.name,
        operator.kind,
        dtype,
        multiply=_times(product, operator.macs, table.overhead),
        accumulate=_times(total, operator.macs, table.overhead),
        elementwise=_times(table.add_pj["fp32"], operator.flops, table.overhead),
        sram=_times(table.byte_pj["sram"], local),
        dram=_times(table.byte_pj["dram"], 0 if operator.kind in FREE else passed),
        static=Energy(low * leak_low * seconds, mid * leak_mid * seconds, high * leak_high * seconds),
    )


def _times(number: Number, count: int, overhead: Number | None = None) -> Energy:
    """So many operations of so many picojoules, wires included."""
    factors = overhead.bounds if overhead is not None else (1.0, 1.0, 1.0)
    return Energy(*(pj * PICO * count * factor for pj, factor in zip(number.bounds, factors, strict=True)))
