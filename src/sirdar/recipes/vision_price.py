# SPDX-License-Identifier: Apache-2.0
"""The price of a candidate on an Arm NPU: its operators as int8 with made-up weights, compiled by Vela."""

from sirdar.chips.energy import energy
from sirdar.units import Cost
from sirdar.workload.graph import Graph


def estimated(graph: Graph, chip: str) -> Cost:
    """Compiler's estimates of latency, energy and memory; not measurements.

    Args:
        graph: operators of a network for one image.
        chip: such as "ethos-u85-512".

    Returns:
        Vela's latency and peak of SRAM, the chip's power for that long, and the bytes of int8 weights and four for each
        channel of a batch norm.

    Raises:
        ArgumentError: there is no such Ethos-U.
        UnsupportedError: Vela is not installed, or TFLite lacks an operator.
    """
    from sirdar.deploy.compiled import compile_tflite, ethos_u
    from sirdar.deploy.tflite import from_graph

    found = compile_tflite(from_graph(graph), chip)
    return Cost(
        latency_s=found.latency_s,
        energy_j=energy(ethos_u(chip), found.latency_s).mid_j,
        peak_bytes=float(found.sram_bytes),
        parameter_bytes=float(graph.parameter_bytes("int8")),
        macs=float(found.macs),
    )
