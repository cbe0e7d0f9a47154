# SPDX-License-Identifier: Apache-2.0
"""What a network costs on an Arm Ethos-U, by Arm's own compiler: Vela, in this process and without files.

Vela compiles an int8 TFLite file for one accelerator, one system (clock, memories) and one memory mode, and estimates
cycles for each operator: the longest of its arithmetic and its traffic to each memory. These are a compiler's
estimates, not measurements. Accelerators are called as in the catalogue ("ethos-u55-256"); systems and memory modes as
in the `vela.ini` that Vela ships, which also holds their numbers.
"""

import contextlib
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from types import ModuleType
from typing import Any

from sirdar.chips.analytic import OperatorCost
from sirdar.chips.chip import Chip
from sirdar.chips.energy import energy
from sirdar.chips.reading import load
from sirdar.deploy.tflite.encode import encode
from sirdar.deploy.tflite.graph import draw
from sirdar.errors import ArgumentError, UnsupportedError, nearest
from sirdar.units import Cost
from sirdar.workload.graph import Graph

# What Vela itself takes when nothing is said (`ArchitectureFeatures`, version 5.2).
_SYSTEMS = {"55": "Ethos_U55_High_End_Embedded", "65": "Ethos_U65_Client_Server", "85": "Ethos_U85_SYS_DRAM_Mid"}
_MODES = {"55": "Shared_Sram", "65": "Dedicated_Sram_384KB", "85": "Dedicated_Sram_384KB"}
_ADDRESS_BITS = {"55": 32, "65": 32, "85": 40}  # the arena's limit where a memory mode states none
Untyped = Any  # what Vela returns has no types

_NAME = re.compile(r"ethos-u(55|65|85)-(\d+)")
_HIDDEN = ("shram", "lutram")  # registers and tables inside the accelerator, no memory of the system


@dataclass(frozen=True)
class CompiledOperator:
    """One operator of a compiled network.

    Args:
        name: of the tensor it makes.
        code: what Vela calls it, such as "Conv2D".
        place: of the TFLite operator it stems from.
        cycles: the longest of arithmetic and traffic.
        npu_cycles: of arithmetic alone.
        macs: multiply-accumulates.
        on_npu: whether it runs on the accelerator; on the host processor it costs nothing here.
    """

    name: str
    code: str
    place: int
    cycles: int
    npu_cycles: int
    macs: int
    on_npu: bool


@dataclass(frozen=True)
class Compiled:
    """What Vela says of a network.

    Args:
        cycles: of one run.
        npu_cycles: of arithmetic alone.
        latency_s: cycles at the system's clock.
        sram_bytes: peak use of SRAM, which in some memory modes is but a cache of a larger memory.
        peak_bytes: for activations and what is fetched ahead, in all memories together, each at its own peak: what must
            be kept free for a run.
        memory_bytes: peak use of each memory by its name.
        traffic_bytes: read and written in each memory by its name.
        weight_bytes: of weights after Vela's compression, equal layers as often as they occur.
        parameter_bytes: of all that is only read, as stored: weights, biases, scales and tables, equal ones once.
        macs: multiply-accumulates.
        host_operators: operators that Vela leaves to the host processor, whose time is not in the cycles.
        host_reasons: why it leaves them there, in its own words.
        operators: in order of execution; their cycles add up to `cycles`.
    """

    cycles: int
    npu_cycles: int
    latency_s: float
    sram_bytes: int
    peak_bytes: int
    memory_bytes: Mapping[str, int]
    traffic_bytes: Mapping[str, int]
    weight_bytes: int
    parameter_bytes: int
    macs: int
    host_operators: int
    host_reasons: tuple[str, ...]
    operators: tuple[CompiledOperator, ...]


def ethos_u(name: str) -> Chip:
    """The spec sheet of an Ethos-U by its name, "ethos-u55-32" to "ethos-u85-2048".

    Raises:
        ArgumentError: there is no such accelerator.
    """
    folder = files("sirdar.chips") / "catalogue" / "npu"
    known = sorted(row.name.removesuffix(".toml") for row in folder.iterdir())
    if name not in known:
        msg = f"no Ethos-U is called {name!r}; there are {', '.join(known)}.{nearest(name, known)}"
        raise ArgumentError(msg)
    with as_file(folder / f"{name}.toml") as path:
        return load(path)


def compile_tflite(
    file: bytes,
    accelerator: str,
    *,
    memory_mode: str | None = None,
    system: str | None = None,
    arena_bytes: int | None = None,
) -> Compiled:
    """Compiles an int8 TFLite file for an Ethos-U and returns what Vela says of it.

    Args:
        file: the bytes of the file.
        accelerator: "ethos-u55-32" to "ethos-u85-2048".
        memory_mode: "Sram_Only", "Shared_Sram", "Dedicated_Sram_384KB", ...; Vela's own default where None.
        system: section of vela.ini, such as "Ethos_U85_SYS_DRAM_Mid"; Vela's own default where None.
        arena_bytes: limit of SRAM; that of the memory mode where None.

    Raises:
        ArgumentError: Vela knows no such accelerator, system or memory mode, or refuses the combination.
        UnsupportedError: ethos-u-vela is not installed.
    """
    return _report(*_compiled(file, accelerator, memory_mode, system, arena_bytes))


def vela_file(file: bytes, accelerator: str) -> bytes:
    """The TFLite file that a device runs: what Vela makes of an int8 one, by its own system and memory mode.

    Raises:
        ArgumentError: Vela knows no such accelerator, or refuses the file.
        UnsupportedError: ethos-u-vela is not installed.
    """
    return bytes(_compiled(file, accelerator)[0].model)


def _compiled(
    file: bytes,
    accelerator: str,
    memory_mode: str | None = None,
    system: str | None = None,
    arena_bytes: int | None = None,
) -> tuple[Untyped, float, tuple[str, ...]]:
    """What Vela returns, the system's clock, and why operators are left to the host."""
    regor = _regor()
    if file[4:8] != b"TFL3":  # anything else ends the process
        msg = f"a TFLite file has TFL3 in its bytes 4 to 8, got {file[4:8]!r}"
        raise ArgumentError(msg)
    family, macs, cores = _accelerator(accelerator)
    settings = _settings()
    system = system or _SYSTEMS[family]
    memory_mode = memory_mode or _MODES[family]
    sections = settings.sections()
    for wanted, kind in ((system, "System_Config"), (memory_mode, "Memory_Mode")):
        if f"{kind}.{wanted}" not in sections:
            known = [name.split(".", 1)[1] for name in sections if name.startswith(f"{kind}.")]
            msg = f"Vela has no {kind} {wanted!r}; there are {', '.join(known)}.{nearest(wanted, known)}"
            raise ArgumentError(msg)
    _check_writeable(system, memory_mode)
    limit = settings[f"Memory_Mode.{memory_mode}"].get("arena_cache_size", str(2 ** _ADDRESS_BITS[family]))
    config = (
        f"[architecture]\nmacs={macs}\ncores={cores}\n[vela]\nsystem_config_name={system}\n"
        f"memory_mode_name={memory_mode}\n{_settings_text()}"
    )
    with _captured() as said:
        options, error = _options(arena_bytes or int(limit)), None
        try:
            found = regor.compile(f"EthosU{family}", file, "TFLITE", config, options=options)
        except RuntimeError as raised:
            found, error = None, raised
    if error is not None:
        reason = str(error).strip().split("\n")[0]
        msg = f"Vela cannot compile the network for {accelerator} ({system}, {memory_mode}): {reason}"
        raise ArgumentError(msg) from error
    reasons = tuple(dict.fromkeys(line.removeprefix("Reason: ") for line in said if line.startswith("Reason: ")))
    return found, float(settings[f"System_Config.{system}"]["core_clock"]), reasons


class Vela:
    """The compiled estimator.

    Args:
        memory_mode: as for `compile_tflite`.
        system: as for `compile_tflite`.
        seed: of the weights of graphs, which are made up.
    """

    def __init__(self, memory_mode: str | None = None, system: str | None = None, seed: int = 0) -> None:
        self.memory_mode = memory_mode
        self.system = system
        self.seed = seed

    def estimate(self, graph: Graph | bytes, chip: Chip, dtype: str = "int8") -> Cost:
        """The cost of one run: Vela's latency, and its peak of activations in all memories.

        Args:
            graph: a network, or an int8 TFLite file.
            chip: an Ethos-U; its power times the latency is the energy.
            dtype: "int8".

        Raises:
            ArgumentError: the format is another, or the chip is no Ethos-U.
            UnsupportedError: TFLite has nothing for an operator; the sentence names it.
        """
        found, _ = self._compiled(graph, chip, dtype)
        parameters = found.parameter_bytes if isinstance(graph, bytes) else graph.parameter_bytes("int8")
        return Cost(
            latency_s=found.latency_s,
            energy_j=energy(chip, found.latency_s).mid_j,
            peak_bytes=float(found.peak_bytes),
            parameter_bytes=float(parameters),
            macs=float(found.macs if isinstance(graph, bytes) else graph.macs),
        )

    def breakdown(self, graph: Graph | bytes, chip: Chip, dtype: str = "int8") -> tuple[OperatorCost, ...]:
        """The same by operator of the graph (of the file, where it is one); those fused to others cost nothing.

        Args:
            graph: a network, or an int8 TFLite file.
            chip: an Ethos-U.
            dtype: "int8".
        """
        found, owners = self._compiled(graph, chip, dtype)
        if isinstance(graph, bytes):
            return tuple(_row(row.name, row.code, row.macs, [row], found, chip) for row in found.operators)
        parts: dict[str, list[CompiledOperator]] = defaultdict(list)
        for row in found.operators:
            parts[owners[min(row.place, len(owners) - 1)]].append(row)
        return tuple(
            _row(operator.name, operator.kind, operator.macs, parts[operator.name], found, chip)
            for operator in graph.operators
        )

    def _compiled(self, graph: Graph | bytes, chip: Chip, dtype: str) -> tuple[Compiled, tuple[str, ...]]:
        if dtype != "int8":
            msg = f"{chip.name} computes in int8, and so must its estimate; got {dtype!r}"
            raise ArgumentError(msg)
        file, owners = graph, ()
        if isinstance(file, Graph):
            net, owners = draw(file, self.seed)
            file = encode(net)
        return compile_tflite(file, chip.name, memory_mode=self.memory_mode, system=self.system), owners


def _row(name: str, kind: str, macs: int, parts: list[CompiledOperator], found: Compiled, chip: Chip) -> OperatorCost:
    share = found.latency_s / max(found.cycles, 1)
    latency_s = sum(part.cycles for part in parts) * share
    compute_s = sum(part.npu_cycles for part in parts) * share
    bound = "nothing" if latency_s == 0 else "compute" if compute_s >= latency_s else "memory"
    cost = Cost(latency_s=latency_s, energy_j=energy(chip, latency_s).mid_j, macs=float(macs))
    return OperatorCost(name, kind, "int8", cost, compute_s, latency_s if bound == "memory" else 0.0, 0.0, bound)


def _report(found: Untyped, clock_hz: float, reasons: tuple[str, ...]) -> Compiled:
    report = found.perf_report
    memories = {name: row for name, row in report.memories.items() if name.lower() not in _HIDDEN}
    traffic = {
        name: sum(part.bytesRead + part.bytesWritten for part in row.accesses.values())
        for name, row in memories.items()
    }
    peaks = {name: int(row.peakUsage) for name, row in memories.items()}
    return Compiled(
        cycles=int(report.totalCycles),
        npu_cycles=int(report.npuCycles),
        latency_s=report.totalCycles / clock_hz,
        sram_bytes=peaks.get("Sram", 0),
        peak_bytes=sum(peaks.values()) - int(report.readOnlyPeakUsage),
        memory_bytes=peaks,
        traffic_bytes=traffic,
        weight_bytes=int(report.encodedWeights),
        parameter_bytes=int(report.readOnlyPeakUsage),
        macs=int(report.macCount),
        host_operators=int(report.cpuOps),
        host_reasons=reasons,
        operators=_operators(found.opt_database.tables),
    )


def _operators(tables: Mapping[str, Any]) -> tuple[CompiledOperator, ...]:
    """The rows of Vela's table of costs, each with the TFLite operator it stems from."""
    if "perf" not in tables:
        return ()
    places = {}
    for row in _rows(tables, "source"):
        places[row["id"]] = int(row["ext_key"])
    return tuple(
        CompiledOperator(
            row["name"],
            row["operator"],
            places.get(row["source_id"], 0),
            int(row["op_cycles"]),
            int(row["npu_cycles"]),
            int(row["mac_count"]),
            row["operator"] != "Passthrough",
        )
        for row in _rows(tables, "perf")
    )


def _rows(tables: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    return [dict(zip(tables[name].header, row, strict=True)) for row in tables[name].data]


def _accelerator(name: str) -> tuple[str, int, int]:
    """Family, multiply-accumulates a cycle of one core, and cores, as Vela has them."""
    from ethosu.vela.architecture_features import Accelerator

    known = [row.value for row in Accelerator]
    match = _NAME.fullmatch(name)
    if match is None or name not in known:
        msg = f"Vela knows no accelerator {name!r}; there are {', '.join(known)}.{nearest(name, known)}"
        raise ArgumentError(msg)
    family, macs = match[1], int(match[2])
    smaller = [row for row in known if row.startswith("ethos-u65-") and int(row.rsplit("-", 1)[1]) < macs]
    cores = 2 if family == "65" and smaller else 1  # the larger U65 is two of the smaller
    return family, macs // cores, cores


def _regor() -> ModuleType:
    try:
        from ethosu import regor
    except ImportError as error:
        msg = f"compiling for Ethos-U needs {error.name}: pip install 'sirdar[npu]'"
        raise UnsupportedError(msg) from error
    return regor


@cache
def _settings_text() -> str:
    return (files("ethosu") / "config_files" / "Arm" / "vela.ini").read_text(encoding="utf-8")


@cache
def _settings() -> ConfigParser:
    """Vela's own systems and memory modes."""
    parser = ConfigParser()
    parser.read_string(_settings_text())
    return parser


def _check_writeable(system: str, memory_mode: str) -> None:
    """Refuse a memory mode that would put activations into flash."""
    settings = _settings()
    mode = settings[f"Memory_Mode.{memory_mode}"]
    mode = settings[mode["inherit"]] if "inherit" in mode else mode
    memory = settings[f"System_Config.{system}"][f"{mode['arena_mem_area'].lower()}_port"]
    if "Flash" in memory:
        msg = f"memory mode {memory_mode} keeps activations in {memory} of system {system}, which cannot be written"
        raise ArgumentError(msg)


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """What compiled code writes to standard output and error in the meantime, as lines; nothing reaches the screen."""
    lines: list[str] = []
    kept = {number: os.dup(number) for number in (1, 2)}
    with tempfile.TemporaryFile() as sink:
        try:
            for number in kept:
                os.dup2(sink.fileno(), number)
            yield lines
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
            sink.seek(0)
            lines += sink.read().decode(errors="replace").splitlines()


def _options(arena_bytes: int) -> str:
    return (
        "\n[compiler]\nenable_db=true\noutput_format=TFLite\ncop_format=COP1\n"
        f"\n[scheduler]\noptimize=Performance\narena_size_limit={arena_bytes}\ndisable_feature=\n"
        "cpu_tensor_alignment=16\ntensor_allocator=HillClimb\n\n[graph]\n"
    )
