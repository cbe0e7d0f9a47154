# SPDX-License-Identifier: Apache-2.0
"""What a network costs on a chip, from its spec sheet alone: the roofline.

An operator takes as long as its arithmetic or its traffic to device memory, whichever is longer, plus the time to start
it (Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009). Peaks are multiplied by the shares that networks
reach; both stand in the sheet with their sources. Operators run one after another.

Traffic: weights are read from device memory, unless all of them and the peak of activations fit in on-chip memory
together; of a table that an operator looks up, the rows that it takes. Activations are read and written there, unless
all that is alive while the operator runs fits on chip; what the caller passes in or gets back always is. The scales of
block formats are stored and move with their values.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, Protocol, runtime_checkable

from sirdar.chips.chip import Chip
from sirdar.chips.energy import energy
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator

Bound = Literal["compute", "memory", "overhead", "nothing"]
FREE = ("view", "constant")  # kinds of operators that take no time


@dataclass(frozen=True)
class OperatorCost:
    """One operator on a chip.

    Args:
        name: of the operator.
        kind: of the operator.
        dtype: the number format it runs in, which is not the one asked for where the chip lacks that.
        cost: latency, energy, memory and work.
        compute_s: time of its arithmetic.
        memory_s: time of its traffic to device memory.
        overhead_s: time to start it.
        bound: the longest of the three; "nothing" for views, which take no time.
    """

    name: str
    kind: str
    dtype: str
    cost: Cost
    compute_s: float
    memory_s: float
    overhead_s: float
    bound: Bound


@runtime_checkable
class Estimator(Protocol):
    """Says what a network costs on a chip; `sirdar.testing.chips.EstimatorChecks` states what must hold."""

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        """The cost of running the graph once, with its floating-point tensors in `dtype`."""
        ...

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        """The same by operator, in order; latencies and energies add up to the estimate's."""
        ...


class Roofline:
    """The roofline over operators, with on-chip memory."""

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        """The cost of running the graph once, with its floating-point tensors in `dtype`."""
        rows = self.breakdown(graph, chip, dtype)
        return whole(graph, chip.usable_dtype(dtype), (row.cost for row in rows))

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        """The same by operator, in order."""
        used = chip.usable_dtype(dtype)
        moved = traffic(graph, chip, used)
        rows = zip(moved, graph.live_bytes(used), strict=True)
        return tuple(_operator_cost(row, chip, used, passed + read, alive) for (row, read, passed), alive in rows)


def traffic(graph: Graph, chip: Chip, dtype: str) -> Iterator[tuple[Operator, int, int]]:
    """Every operator with the bytes of weights and of activations that pass between it and device memory.

    Args:
        graph: the network.
        chip: whose on-chip memory keeps what fits in it.
        dtype: a number format that the chip computes in.
    """
    live = graph.live_bytes(dtype)
    sram = 0.0 if chip.sram_bytes is None else chip.sram_bytes.value
    weights_stay = graph.parameter_bytes(dtype) + max(live, default=0) <= sram
    size = sizes(graph, dtype)
    owner = graph.storage()  # what the caller passes in or gets back is outside under the name of any view of it, too
    outside = {owner[name] for name in (*(spec.name for spec in graph.inputs), *graph.outputs) if name in owner}
    for operator, alive in zip(graph.operators, live, strict=True):
        weights = weights_read(operator, dtype)
        stays = alive + weights <= sram
        passed = [spec for spec in (*operator.inputs, *operator.outputs) if not stays or owner[spec.name] in outside]
        yield operator, 0 if weights_stay else weights, sum(size[spec.name] for spec in passed)


def sizes(graph: Graph, dtype: str) -> dict[str, int]:
    """Bytes to read or write for each edge: of a view no more than what it views, which an expanded one repeats.

    Args:
        graph: the network.
        dtype: any number format.
    """
    made = (spec for operator in graph.operators for spec in operator.outputs)
    size = {spec.name: spec.bytes(dtype) for spec in chain(graph.inputs, made)}
    return {name: min(size[name], size[owner]) for name, owner in graph.storage().items()}


def weights_read(operator: Operator, dtype: str) -> int:
    """Bytes of its weights that an operator reads: of a slice what it holds, of a table the rows that are looked up.

    The graph names the whole weight. A lookup and an elementwise operator read no more values of it than they make,
    a lookup that sums its rows as many as it says.

    Args:
        operator: the operator.
        dtype: any number format.
    """
    slices = operator.attributes.get("slices", {})
    taken = math.inf
    if operator.kind in ("gather", "elementwise"):
        taken = int(operator.attributes.get("values_read", sum(spec.elements for spec in operator.outputs)))
    read = 0
    for spec in operator.weights:
        values = int(min(spec.elements, taken, slices.get(spec.name, spec.elements)))
        read += spec.bytes(dtype) * values // max(1, spec.elements)
    return read


class SlowRoofline:
    """The roofline without on-chip memory, written as plainly as it can be: the reference in tests."""

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        """The cost of running the graph once, with its floating-point tensors in `dtype`."""
        rows = self.breakdown(graph, chip, dtype)
        return whole(graph, chip.usable_dtype(dtype), (row.cost for row in rows))

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        """The same by operator, in order."""
        used = chip.usable_dtype(dtype)
        rows: list[OperatorCost] = []
        for step, operator in enumerate(graph.operators):
            edges = (*operator.inputs, *operator.outputs)
            traffic = sum(sizes(graph, used)[spec.name] for spec in edges) + weights_read(operator, used)
            rows.append(_operator_cost(operator, chip, used, traffic, graph.live_bytes(used)[step]))
        return tuple(rows)


class NullEstimator:
    """Everything is free: latency and energy are zero, only memory and work are counted."""

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        """Memory and work of the graph."""
        return whole(graph, chip.usable_dtype(dtype), ())

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        """A row of zeros for each operator."""
        used = chip.usable_dtype(dtype)
        return tuple(
            OperatorCost(operator.name, operator.kind, used, Cost(macs=float(operator.macs)), 0.0, 0.0, 0.0, "nothing")
            for operator in graph.operators
        )


def fits(cost: Cost, chip: Chip) -> tuple[bool, str]:
    """Whether parameters and peak activations fit in the chip's memory, and a sentence that says so.

    The memory of an "npu" is the board's, and its sheet has a usual SRAM at most: activations are compared with that.
    """
    if chip.kind == "npu" and chip.sram_bytes is not None:
        return _fits_board(cost, chip, chip.sram_bytes.value)
    needed = cost.parameter_bytes + cost.peak_bytes
    share = needed / chip.memory_bytes.value
    parts = f"{cost.parameter_bytes:.3g} bytes of parameters and {cost.peak_bytes:.3g} of activations"
    return share <= 1, f"{parts} take {share:.1%} of the memory of {chip.name}"


def _fits_board(cost: Cost, chip: Chip, sram_bytes: float) -> tuple[bool, str]:
    """The same for a chip that has its memories from the board."""
    share = cost.peak_bytes / sram_bytes
    alone = chip.activations == "sram"
    room = share <= 1 if alone else cost.parameter_bytes + cost.peak_bytes <= chip.memory_bytes.value
    taken = f"{_kib(cost.peak_bytes)} of activations take {share:.1%} of the {_kib(sram_bytes)} of SRAM"
    beyond = "weights lie in its flash" if alone else "weights and what is beyond the SRAM lie in its DRAM"
    return room, (
        f"{taken} that the sheet of {chip.name} takes a board to have, and the {_kib(cost.parameter_bytes)} of "
        f"{beyond}; how much yours has decides"
    )


def _kib(size: float) -> str:
    kib = size / 2**10
    return f"{kib:.3g} KiB" if kib < 1e3 else f"{kib:,.0f} KiB"


def _operator_cost(operator: Operator, chip: Chip, dtype: str, traffic: int, alive: int) -> OperatorCost:
    free = operator.kind in FREE
    matrix = chip.flops_per_s[dtype].value * chip.compute_efficiency.value
    compute_s = 2 * operator.macs / matrix + operator.flops / chip.vector_flops_per_s.value
    memory_s = 0.0 if free else traffic / (chip.bandwidth_bytes_per_s.value * chip.bandwidth_efficiency.value)
    overhead_s = 0.0 if free else chip.overhead_s.value
    latency_s = max(compute_s, memory_s) + overhead_s
    cost = Cost(
        latency_s=latency_s,
        energy_j=energy(chip, latency_s).mid_j,
        peak_bytes=float(alive),
        parameter_bytes=float(operator.weight_bytes(dtype)),
        macs=float(operator.macs),
    )
    bound = bound_by(compute_s, memory_s, overhead_s)
    return OperatorCost(operator.name, operator.kind, dtype, cost, compute_s, memory_s, overhead_s, bound)


def bound_by(compute_s: float, memory_s: float, overhead_s: float) -> Bound:
    """What takes longest; nothing where nothing takes time."""
    longest = max(compute_s, memory_s, overhead_s)
    if longest == 0:
        return "nothing"
    if longest == compute_s:
        return "compute"
    return "memory" if longest == memory_s else "overhead"


def whole(graph: Graph, dtype: str, costs: Iterable[Cost]) -> Cost:
    """The sum over operators; weights that several of them share are counted once."""
    return replace(
        sum(costs, Cost()),
        peak_bytes=float(graph.peak_bytes(dtype)),
        parameter_bytes=float(graph.parameter_bytes(dtype)),
        macs=float(graph.macs),
    )
