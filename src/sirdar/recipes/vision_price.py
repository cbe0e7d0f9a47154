# SPDX-License-Identifier: Apache-2.0
"""The price of a candidate on an Arm NPU: its operators as int8 with made-up weights, compiled by Vela."""

from sirdar.chips.energy import energy
from sirdar.units import Cost
from sirdar.workload.graph import Graph


def estimated(graph: Graph, chip: str, values: int | None = None) -> Cost:
    """Compiler's estimates of latency, energy and memory; not measurements.

    Args:
        graph: operators of a network for one image.
        chip: such as "ethos-u85-512".
        values: how many the weights take, where they are clustered.

    Returns:
        Vela's latency, peak of SRAM and bytes of weights and biases as it codes them, and the chip's power for that
        long.

    Raises:
        ArgumentError: there is no such Ethos-U.
        UnsupportedError: Vela is not installed, or TFLite lacks an operator.
    """
    from sirdar.deploy.compiled import compile_tflite, ethos_u
    from sirdar.deploy.tflite import from_graph

    found = compile_tflite(from_graph(graph, values=values), chip)
    return Cost(
        latency_s=found.latency_s,
        energy_j=energy(ethos_u(chip), found.latency_s).mid_j,
        peak_bytes=float(found.sram_bytes),
        parameter_bytes=float(found.weight_bytes),
        macs=float(found.macs),
    )
