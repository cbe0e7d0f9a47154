# SPDX-License-Identifier: Apache-2.0
"""What a network costs on any chip by the best that is known of it: Arm's compiler for Ethos-U, else the spec sheet."""

from pathlib import Path
from typing import TYPE_CHECKING, final

from sirdar.chips import Chip, Estimator, OperatorCost, Tiled, load, npu_names
from sirdar.chips.energy import energy
from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.units import Cost
from sirdar.workload.graph import Graph

if TYPE_CHECKING:
    from sirdar.deploy.compiled import Compiled


def estimate(graph: Graph, chip: str | Path | Chip = "trainium1", dtype: str | None = None) -> Cost:
    """What a network costs on a chip: by Arm's compiler on the catalogue's Ethos-U, else by the analytic estimator.

    `sirdar.chips.estimate` is the analytic one on every chip.

    Args:
        graph: the network.
        chip: a name of the catalogue, the path of a TOML file, or a chip.
        dtype: number format to run in; a chip that lacks it uses the next one it has (`Chip.usable_dtype`). Where None,
            bf16 in this way, and on a chip that has nothing in its place the chip's own: int8 on an Ethos-U.

    Raises:
        ArgumentError: the chip or the format is unknown, or nothing of the chip's takes the place of the format.
        DataError: the chip's own file is wrong.
        UnsupportedError: the network does not run on that Ethos-U, or its compiler is not installed.
    """
    sheet = chip if isinstance(chip, Chip) else load(chip)
    used = sheet.usual_dtype() if dtype is None else sheet.usable_dtype(dtype)
    return estimator_of(sheet).estimate(graph, sheet, used)


def estimator_of(chip: Chip) -> Estimator:
    """The estimator that knows most of a chip without running on it."""
    return Compiler() if has_compiler(chip) else Tiled()


def has_compiler(chip: Chip) -> bool:
    """Whether it is an Ethos-U as the catalogue has it; a sheet of the user's own may bear the same name."""
    return chip.name in npu_names() and chip == load(chip.name)


def method_of(chip: Chip, dtype: str) -> str:
    """How `estimator_of` comes by its numbers, as the end of a sentence that begins with "estimated by".

    Args:
        chip: the chip.
        dtype: a number format that it computes in.
    """
    if has_compiler(chip):
        return "Arm's compiler, Vela"
    array = None if chip.blocks is None else chip.blocks.array()
    tiles = "whole tiles on its array" if array is not None and dtype in array.passes else "a roofline"
    shares = "shares fitted to measurements" if chip.fitted else "the shares of its sheet"
    return f"{tiles}, with {shares}"


def require_whole(graph: Graph, chip: Chip) -> "Compiled":
    """What Arm's compiler says of a network that it takes whole.

    Raises:
        UnsupportedError: operators would be left to the host, whose time is not known; or TFLite has nothing for one,
            the compiler refuses the network or is not installed.
    """
    from sirdar.deploy.compiled import compile_tflite
    from sirdar.deploy.tflite.graph import from_graph

    try:
        found = compile_tflite(from_graph(graph), chip.name)
    except ArgumentError as error:  # in Vela's words
        raise UnsupportedError(str(error)) from error
    msg = left_to_host(found)
    if msg:
        raise UnsupportedError(msg)
    return found


def left_to_host(found: "Compiled") -> str:
    """A sentence where Arm's compiler leaves operators to the host; otherwise nothing."""
    if not found.host_operators:
        return ""
    reasons = "; ".join(found.host_reasons) or "it does not say why"
    return f"Vela leaves {found.host_operators} operators to the host processor, whose time is not known ({reasons})"


@final
class Compiler:
    """`sirdar.deploy.compiled.Vela` as it comes, for networks that the accelerator takes whole."""

    def estimate(self, graph: Graph, chip: Chip, dtype: str = "int8") -> Cost:
        """The cost of one run: Vela's latency and peak of SRAM.

        Raises:
            ArgumentError: the format is not int8.
            UnsupportedError: the network does not run on that chip, or Vela is not installed.
        """
        _require_int8(chip, dtype)
        found = require_whole(graph, chip)
        return Cost(
            latency_s=found.latency_s,
            energy_j=energy(chip, found.latency_s).mid_j,
            peak_bytes=float(found.peak_bytes),
            parameter_bytes=float(graph.parameter_bytes("int8")),
            macs=float(graph.macs),
        )

    def breakdown(self, graph: Graph, chip: Chip, dtype: str = "int8") -> tuple[OperatorCost, ...]:
        """The same by operator; those fused to others cost nothing."""
        from sirdar.deploy.compiled import Vela

        return Vela().breakdown(graph, chip, dtype)


def _require_int8(chip: Chip, dtype: str) -> None:
    if dtype != "int8":
        msg = f"{chip.name} computes in int8, and so must its estimate; got {dtype!r}"
        raise ArgumentError(msg)
