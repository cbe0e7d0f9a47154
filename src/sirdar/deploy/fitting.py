# SPDX-License-Identifier: Apache-2.0
"""Does a network fit on a chip, how large will it be once compiled, and what does it cost there and where it runs now.

Instructions are counted as tiles: a matrix product of r x d by d x c takes ceil(r / 128) ceil(d / 128) ceil(c / 512)
of them on a chip whose array holds 128 x 128 values and takes 512 columns at a time; other operators take one for each
piece that the lanes hold. Compilers merge and add, so it is an estimate of the order of magnitude.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sirdar.chips import Chip, Tiled
from sirdar.chips.energy import energy
from sirdar.deploy.rulebook import Rulebook
from sirdar.units import usd
from sirdar.workload.graph import Graph, Operator

_FREE = frozenset(("view", "constant"))
_RISKS = ((0.03, "low"), (0.3, "some"), (1.0, "high"), (math.inf, "beyond the limit"))


@dataclass(frozen=True)
class Fit:
    """Whether a network fits on a chip.

    Args:
        parameter_bytes: of its weights in the formats of the plan.
        peak_bytes: of activations alive at once.
        core_bytes: memory of one core.
        cores: cores whose memory together holds both.
        chips: chips with that many cores.
        share: of the memory of one chip.
        instructions: estimate of what a tiling compiler generates; None for chips without one.
        instruction_limit: at which the compiler stops; None where there is none.
        compile_s: low, middle and high estimate of the compiler's time; None where there is no compiler.
        risk: of the compile: "low", "some", "high" or "beyond the limit"; empty where there is no compiler.
    """

    parameter_bytes: float
    peak_bytes: float
    core_bytes: float
    cores: int
    chips: int
    share: float
    instructions: int | None = None
    instruction_limit: float | None = None
    compile_s: tuple[float, float, float] | None = None
    risk: str = ""


@dataclass(frozen=True)
class Price:
    """What one run of the network costs on one chip.

    Args:
        chip: its name.
        formats: the number formats that matrix products run in.
        latency_s: of one run.
        energy_low_j: least plausible energy of one run.
        energy_j: energy of one run.
        energy_high_j: greatest plausible energy of one run.
        instance: the cheapest that holds the chip; None where none has a public price.
        usd_per_million: price of a million runs, all chips of the instance at work; None without a public price.
        assumed: whether nobody published the power of the chip.
        compiled: whether the latency is the maker's compiler's, and not that of the chip's sheet.
    """

    chip: str
    formats: tuple[str, ...]
    latency_s: float
    energy_low_j: float
    energy_j: float
    energy_high_j: float
    instance: str | None
    usd_per_million: float | None
    assumed: bool
    compiled: bool = False


def instructions(graph: Graph, book: Rulebook) -> int | None:
    """Instructions that a tiling compiler is expected to generate; None where the rule file has no tiles."""
    if "tile_rows" not in book.limits:
        return None
    return sum(_instructions(operator, book) for operator in graph.operators)


def fit(graph: Graph, chip: Chip, book: Rulebook, dtypes: Mapping[str, str], storage: str) -> Fit:
    """Whether a network fits, and how hard it will be to compile.

    Args:
        graph: its operators.
        chip: the target.
        book: its rules.
        dtypes: format of the weights of an operator, by its name; `storage` for all others.
        storage: format of activations.
    """
    parameters = _parameter_bytes(graph, dtypes, storage)
    peak = float(graph.peak_bytes(storage))
    core_bytes = chip.memory_bytes.value / book.cores.value
    cores = max(1, math.ceil((parameters + peak) / core_bytes))
    count = instructions(graph, book)
    limit = book.limits["instructions"].value if "instructions" in book.limits else None
    speed = book.limits.get("instructions_per_s")
    seconds = None
    if count is not None and speed is not None:
        low, middle, high = speed.bounds
        seconds = (count / high, count / middle, count / low)
    return Fit(
        parameter_bytes=parameters,
        peak_bytes=peak,
        core_bytes=core_bytes,
        cores=cores,
        chips=math.ceil(cores / book.cores.value),
        share=(parameters + peak) / chip.memory_bytes.value,
        instructions=count,
        instruction_limit=limit,
        compile_s=seconds,
        risk="" if count is None or limit is None else risk_of(count / limit),
    )


def risk_of(share: float) -> str:
    """The risk of a compile that takes a share of the instructions a compiler allows."""
    return next(word for bound, word in _RISKS if share <= bound)


def latencies(graph: Graph, chip: Chip, dtype: str) -> dict[str, float]:
    """Seconds of each operator in a number format by the sheet of the chip; the first carries a run's start."""
    return {row.name: row.cost.latency_s for row in Tiled().breakdown(graph, chip, dtype)}


def price(graph: Graph, chip: Chip, dtypes: Mapping[str, str], storage: str, *, region: str = "us-east-1") -> Price:
    """What one run costs with every operator in its own format, by the sheet of the chip.

    Args:
        graph: its operators.
        chip: where it runs.
        dtypes: format of an operator, by its name; `storage` for all others. What the chip lacks it replaces.
        storage: format of everything else.
        region: for the price.
    """
    used = {name: chip.usable_dtype(dtype) for name, dtype in dtypes.items()}
    rest = chip.usable_dtype(storage)
    tables = {dtype: latencies(graph, chip, dtype) for dtype in {*used.values(), rest}}
    seconds = math.fsum(tables[used.get(operator.name, rest)][operator.name] for operator in graph.operators)
    formats = tuple(sorted({used.get(name, rest) for name in dtypes} or {rest}))
    return priced(chip, formats, seconds, region=region)


def priced(
    chip: Chip, formats: tuple[str, ...], latency_s: float, *, region: str = "us-east-1", compiled: bool = False
) -> Price:
    """What one run costs that takes so long.

    Args:
        chip: where it runs.
        formats: the number formats that matrix products run in.
        latency_s: of one run.
        region: for the price.
        compiled: whether the maker's compiler gave the latency.
    """
    joules = energy(chip, latency_s)
    instance = chip.cheapest_instance(region)
    rate = None if instance is None else instance.price_usd_per_hour
    million = None if rate is None or instance is None else usd(latency_s * 1e6 / instance.chips, rate)
    return Price(
        chip=chip.name,
        formats=formats,
        latency_s=latency_s,
        energy_low_j=joules.low_j,
        energy_j=joules.mid_j,
        energy_high_j=joules.high_j,
        instance=None if instance is None else instance.name,
        usd_per_million=million,
        assumed=chip.power_w.assumed,
        compiled=compiled,
    )


def _parameter_bytes(graph: Graph, dtypes: Mapping[str, str], storage: str) -> float:
    """Each weight once, in the widest format that an operator reads it in."""
    sizes: dict[str, int] = {}
    for operator in graph.operators:
        dtype = dtypes.get(operator.name, storage)
        for spec in operator.weights:
            sizes[spec.name] = max(sizes.get(spec.name, 0), spec.bytes(dtype))
    return float(sum(sizes.values()))


def _instructions(operator: Operator, book: Rulebook) -> int:
    if operator.kind in _FREE:
        return 0
    rows, depth, columns = (int(book.limits[f"tile_{axis}"].value) for axis in ("rows", "depth", "columns"))
    if operator.kind == "matmul" and operator.attributes.get("depth"):
        facts = operator.attributes
        tiles = math.ceil(facts["rows"] / columns) * math.ceil(facts["columns"] / rows)
        return (
            facts["batch"]
            * min(tiles, _tiles(facts["rows"], facts["columns"], rows, columns))
            * math.ceil(facts["depth"] / depth)
        )
    if operator.kind == "conv" and operator.macs:
        return _conv_instructions(operator, rows, depth, columns)
    piece = book.limits["lanes"].value * book.limits["lane_values"].value
    values = sum(spec.elements for spec in operator.outputs)
    passes = max(1, round(operator.flops / values)) if values else 1
    return math.ceil(values / piece) * min(passes, 8)


def _tiles(moving: int, still: int, rows: int, columns: int) -> int:
    return math.ceil(still / columns) * math.ceil(moving / rows)


def _conv_instructions(operator: Operator, rows: int, depth: int, columns: int) -> int:
    groups = int(operator.attributes.get("groups", 1))
    output = operator.outputs[0]
    channels = output.shape[1] // groups
    positions = output.elements // output.shape[1]
    deep = max(1, operator.macs // max(1, output.elements))
    if channels == 1:  # depthwise: channels lie across the lanes
        return math.ceil(groups / rows) * math.ceil(positions / columns) * deep
    return groups * math.ceil(channels / rows) * math.ceil(deep / depth) * math.ceil(positions / columns)
