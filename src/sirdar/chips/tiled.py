# SPDX-License-Identifier: Apache-2.0
"""What a network costs on a chip whose array of multipliers is known: whole tiles instead of a peak.

The arithmetic of matrix products takes the cycles of `sirdar.chips.array`, in which widths are rounded up to the
parallelism of the array; everything else is as in the roofline (`sirdar.chips.analytic`). Where the sheet has shares
that were fitted to measurements (`sirdar.chips.calibration`), times are the fitted sum instead of the roofline's
maximum; such shares lie below 1 where compilers fuse operators, so the sum is never taken below what memory needs for
weights and for what the caller passes in or gets back. A chip without an array is estimated by the roofline.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sirdar.chips.analytic import FREE, OperatorCost, bound_by, sizes, traffic, whole
from sirdar.chips.array import products
from sirdar.chips.calibration import Calibration, Parts
from sirdar.chips.chip import Chip
from sirdar.chips.energy import energy
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator


@dataclass(frozen=True)
class Tiled:
    """The analytic estimator: tiles on an array, vector unit, memory.

    Args:
        calibration: shares to use instead of those on the sheet.
    """

    calibration: Calibration | None = None

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        """The cost of running the graph once, with its floating-point tensors in `dtype`."""
        rows = self.breakdown(graph, chip, dtype)
        return whole(graph, chip.usable_dtype(dtype), (row.cost for row in rows))

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        """The same by operator, in order; starting the network is charged to the first operator that takes time."""
        used = chip.usable_dtype(dtype)
        shares = self.calibration or (fitted(chip) if chip.fitted else None)
        live = graph.live_bytes(used)
        least = _least_seconds(graph, chip, used)
        rows: list[OperatorCost] = []
        starts = 1.0
        for (operator, parts), alive, floor_s in zip(ideal_times(graph, chip, used), live, least, strict=True):
            if shares is None:
                seconds = _roofline(parts, chip)
            else:
                parts += Parts(runs=starts if parts.operators else 0.0)
                starts = 0.0 if parts.operators else starts
                seconds = _sum(parts, shares, floor_s)
            rows.append(_row(operator, chip, used, seconds, alive, total=shares is not None))
        return tuple(rows)


def fitted(chip: Chip) -> Calibration:
    """The shares on a chip's sheet."""
    return Calibration.of({name: number.value for name, number in chip.fitted.items()})


def ideal_times(graph: Graph, chip: Chip, dtype: str) -> Iterator[tuple[Operator, Parts]]:
    """Every operator and the time it would take at the chip's peaks, in order.

    Args:
        graph: the network.
        chip: whose peaks.
        dtype: a number format that the chip computes in.
    """
    array = chip.blocks.array() if chip.blocks is not None else None
    bandwidth = chip.bandwidth_bytes_per_s.value
    for operator, weights, activations in traffic(graph, chip, dtype):
        if array is not None and dtype in array.passes:
            arithmetic = math.fsum(array.seconds(work, dtype) for work in products(operator))
        else:
            arithmetic = 2 * operator.macs / chip.flops_per_s[dtype].value
        free = operator.kind in FREE
        yield (
            operator,
            Parts(
                array=arithmetic,
                vector=operator.flops / chip.vector_flops_per_s.value,
                weights=0.0 if free else weights / bandwidth,
                activations=0.0 if free else activations / bandwidth,
                operators=0.0 if free else 1.0,
            ),
        )


def ideal(graph: Graph, chip: Chip, dtype: str) -> Parts:
    """The time of a whole network at the chip's peaks, by what it is spent on; what `calibrate` takes."""
    return sum((parts for _, parts in ideal_times(graph, chip, chip.usable_dtype(dtype))), Parts(runs=1.0))


def _roofline(parts: Parts, chip: Chip) -> tuple[float, float, float]:
    """Arithmetic, traffic and start, with the shares of the sheet."""
    compute_s = parts.array / chip.compute_efficiency.value + parts.vector
    memory_s = (parts.weights + parts.activations) / chip.bandwidth_efficiency.value
    return compute_s, memory_s, parts.operators * chip.overhead_s.value


def _sum(parts: Parts, shares: Calibration, floor_s: float) -> tuple[float, float, float]:
    compute_s = parts.array * shares.array + parts.vector * shares.vector
    memory_s = parts.weights * shares.weights + parts.activations * shares.activations
    return compute_s, max(memory_s, floor_s - compute_s), parts.operators * shares.start_s + parts.runs * shares.run_s


def _least_seconds(graph: Graph, chip: Chip, dtype: str) -> list[float]:
    """For every operator, the traffic that no fusion avoids at the peak of memory: each graph input and output once."""
    owner, size = graph.storage(), sizes(graph, dtype)
    outside = {owner[name] for name in (*(spec.name for spec in graph.inputs), *graph.outputs) if name in owner}
    seconds: list[float] = []
    for operator, weights, _ in traffic(graph, chip, dtype):
        passed = 0
        for spec in () if operator.kind in FREE else (*operator.inputs, *operator.outputs):
            if owner[spec.name] in outside:
                outside.remove(owner[spec.name])
                passed += size[spec.name]
        read = 0 if operator.kind in FREE else weights
        seconds.append((passed + read) / chip.bandwidth_bytes_per_s.value)
    return seconds


def _row(
    operator: Operator, chip: Chip, dtype: str, seconds: tuple[float, float, float], alive: int, *, total: bool
) -> OperatorCost:
    compute_s, memory_s, overhead_s = seconds
    latency_s = (compute_s + memory_s if total else max(compute_s, memory_s)) + overhead_s
    cost = Cost(
        latency_s=latency_s,
        energy_j=energy(chip, latency_s).mid_j,
        peak_bytes=float(alive),
        parameter_bytes=float(operator.weight_bytes(dtype)),
        macs=float(operator.macs),
    )
    bound = bound_by(compute_s, memory_s, overhead_s)
    return OperatorCost(operator.name, operator.kind, dtype, cost, compute_s, memory_s, overhead_s, bound)
