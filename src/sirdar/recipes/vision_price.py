# SPDX-License-Identifier: Apache-2.0
"""The price of a candidate on an Arm NPU: its operators as int8 with made-up weights, compiled by Vela."""

from sirdar.chips.energy import energy
from sirdar.units import Cost
from sirdar.workload.graph import Graph, Operator

_SCALE_BYTES = 10  # that Vela stores for each channel of an output: its bias and its scale


def estimated(graph: Graph, chip: str, values: int | None = None) -> Cost:
    """Compiler's estimates of latency, energy and memory; not measurements.

    Args:
        graph: operators of a network for one image.
        chip: such as "ethos-u85-512".
        values: how many the weights take, where they are clustered.

    Returns:
        Vela's latency, peak of activations in all memories and bytes of weights as it codes them, with ten bytes for
        the bias and the scale of every channel; and the chip's power for that long.

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
        peak_bytes=float(found.peak_bytes),
        # Made-up weights of equal layers are equal, and stored once: what is stored would be too little.
        parameter_bytes=float(found.weight_bytes + _SCALE_BYTES * sum(map(_scaled, graph.operators))),
        macs=float(found.macs),
    )


def _scaled(operator: Operator) -> int:
    """Channels of an operator's output that have a scale each; a mean over the image runs as a convolution."""
    weighted = operator.kind in ("conv", "matmul") and bool(operator.weights)
    return operator.outputs[0].shape[1] if weighted or operator.kind == "reduction" else 0
