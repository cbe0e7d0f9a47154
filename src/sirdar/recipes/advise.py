# SPDX-License-Identifier: Apache-2.0
"""From a network's name to what it costs on chips: opening it at a batch size, estimating, advising, a page."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sirdar.chips import Chip, Cost, Ranking, advisor, layers, load
from sirdar.chips.analytic import fits
from sirdar.chips.asked import element_asked
from sirdar.deploy import loading
from sirdar.deploy.compiled import Vela
from sirdar.deploy.estimating import estimator_of, has_compiler, method_of, require_whole
from sirdar.errors import ArgumentError, UnsupportedError, require_positive_integer
from sirdar.numerics.formats import element_named
from sirdar.recipes.saved import BATCH, saved_network
from sirdar.recipes.vision_saved import camera_file, saved_camera
from sirdar.report.chips import ChipsReport, chips_page
from sirdar.workload.graph import Graph
from sirdar.workload.order import scheduled
from sirdar.workload.trace import trace

_NO_NPU = (
    "Ethos-U NPUs are not ranked, since they are parts of devices and are not rented; one that is named is ranked by "
    "Arm's compiler, for int8 networks of one example at a time."
)


@dataclass(frozen=True)
class Estimate:
    """A network on one chip.

    Args:
        chip: its name.
        dtype: the number format used.
        cost: of one run.
        fit: the sentence that says whether it fits in memory.
        fits: whether it does.
        layers: every operator: name, module of the network, kind, seconds by cause, bound, and joules by cause.
        joules: low, middle and high sums over the layers, counted from operations and bytes.
        least_peak_bytes: of activations, in the best order of operators found; `cost` has those of the order traced.
            A compiler orders operators itself, and both are what it says.
        method: by which the numbers were made.
    """

    chip: str
    dtype: str
    cost: Cost
    fit: str
    fits: bool
    layers: tuple[dict[str, Any], ...]
    joules: tuple[float, float, float]
    least_peak_bytes: float
    method: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "joules": list(self.joules), "layers": list(self.layers)}


def network(model: str, batch: int | None = None) -> Graph:
    """The graph of a network named on the command line.

    Args:
        model: folder of a saved forecaster or camera network, or what `sirdar.deploy.loading.load` takes.
        batch: examples in one run; that of the example inputs (4,096 series of a forecaster) where None.

    Raises:
        ArgumentError: the text names no network, or its inputs have no common first axis to make a batch of.
        DataError: a file is missing, wrong, or could run code.
        UnsupportedError: the network cannot be traced, or not with this batch.
    """
    if batch is not None:
        require_positive_integer(batch, "batch")
    if (weights := camera_file(model)) is not None:
        module, image = saved_camera(weights)
        example = (image,) if batch is None else _resized(model, (image,), batch)
    else:
        module, example = _saved(Path(model), batch) if Path(model).is_dir() else _loaded(model, batch)
    file = Path(model).name if model.endswith(".pt2") else None  # its module's class is none of the user's
    return replace(trace(module, example, file), name=Path(model).name)


def _loaded(model: str, batch: int | None) -> tuple[nn.Module, tuple[Tensor, ...]]:
    module, example = loading.load(model)
    empty = next((x for x in example if not x.numel()), None)
    if empty is not None:
        msg = f"an example input of {model} is empty, of shape {tuple(empty.shape)}"
        raise ArgumentError(msg)
    return module, example if batch is None else _resized(model, example, batch)


def _resized(model: str, example: tuple[Tensor, ...], batch: int) -> tuple[Tensor, ...]:
    """The first examples repeated; inputs that do not share the first axis are left as they are."""
    if not example[0].ndim:
        msg = f"the first input of {model} has no axis to make a batch of {batch} of"
        raise ArgumentError(msg)
    size = example[0].shape[0]
    return tuple(x[:1].expand(batch, *x.shape[1:]).clone() if x.ndim and x.shape[0] == size else x for x in example)


def _saved(path: Path, batch: int | None) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return saved_network(path, f" or camera network; otherwise give {loading.FORMS}").inference(batch or BATCH)


def format_on(chip: Chip, dtype: str | None) -> str:
    """The number format that a network runs in on a chip: int8 on the catalogue's Ethos-U, whatever is asked for.

    Raises:
        ArgumentError: the format is unknown, or nothing of the chip's takes its place.
    """
    if dtype is None:
        return chip.usual_dtype()
    if not has_compiler(chip):
        return chip.usable_dtype(dtype)
    element_asked(dtype, chip.flops_per_s, chip.name)
    return chip.usual_dtype()


def estimate(graph: Graph, chip_name: str, dtype: str | None = None) -> Estimate:
    """What a network costs on a chip, layer by layer.

    Args:
        graph: the network.
        chip_name: a name of the catalogue or the path of a TOML file. An Ethos-U of the catalogue is estimated by Arm's
            compiler, in int8.
        dtype: number format; a chip that lacks it uses the next one it has. Where None, bf16 in this way, and on a chip
            that has nothing in its place the chip's own.

    Raises:
        ArgumentError: the chip or the format is unknown.
        DataError: the chip's own file is wrong.
        UnsupportedError: the network does not run on that Ethos-U; the sentence names the operator or the reason.
    """
    chip = load(chip_name)
    estimator, used = estimator_of(chip), format_on(chip, dtype)
    cost = estimator.estimate(graph, chip, used)
    room, sentence = fits(cost, chip)
    energies = layers(graph, chip, used, estimator)
    causes = ("multiply", "accumulate", "elementwise", "sram", "dram", "static")
    rows = tuple(
        {
            "name": time.name,
            "module": operator.module,
            "kind": time.kind,
            "seconds": time.cost.latency_s,
            "compute_s": time.compute_s,
            "memory_s": time.memory_s,
            "overhead_s": time.overhead_s,
            "bound": time.bound,
            "macs": time.cost.macs,
            "joules": energy.total.mid_j,
            **{f"{cause}_j": getattr(energy, cause).mid_j for cause in causes},
        }
        for operator, time, energy in zip(
            graph.operators, estimator.breakdown(graph, chip, used), energies, strict=True
        )
    )
    totals = [energy.total for energy in energies]
    joules = (sum(t.low_j for t in totals), sum(t.mid_j for t in totals), sum(t.high_j for t in totals))
    ordered = scheduled(graph, element_named(used).name)
    least = cost.peak_bytes if has_compiler(chip) else float(ordered.peak_bytes(used))
    method = method_of(chip, used)
    return Estimate(chip.name, used, cost, sentence, room, rows, (joules[0], joules[1], joules[2]), least, method)


def advise(graph: Graph, *, chips: Iterable[str] | None = None, **work: Any) -> Ranking:  # noqa: ANN401
    """`sirdar.chips.advise`, with an Ethos-U that is named ranked by Arm's compiler.

    Args:
        graph: the network.
        chips: names of the catalogue or paths of TOML files; all that can be rented where None.
        work: the other arguments of `sirdar.chips.advise`.

    Returns:
        The ranking. Its assumptions say which Ethos-U is not ranked, and why.

    Raises:
        UnsupportedError: none of the chips that are named can run the network.
    """
    if chips is None:
        ranking = advisor.advise(graph, **work)
        return replace(ranking, assumptions=(*ranking.assumptions, _NO_NPU))
    able: list[Chip | advisor.Estimated] = []
    left: list[str] = []
    for chip in map(load, chips):
        try:
            if has_compiler(chip):
                require_whole(graph, chip)
                able.append(advisor.Estimated(chip, Vela(), "int8"))
            else:
                able.append(chip)
        except UnsupportedError as error:
            left.append(f"{chip.name} is not ranked: {error}.")
    if left and not able:
        raise UnsupportedError(" ".join(left).removesuffix("."))
    ranking = advisor.advise(graph, chips=able, **work)
    return replace(ranking, assumptions=(*ranking.assumptions, *left))


def summary(ranking: Ranking, current: str | None) -> dict[str, Any]:
    """Plain data of a ranking for JSON, with the saving against an instance in use."""
    best = ranking.best
    return {
        "best": None if best is None else best.title,
        "options": ranking.to_rows(),
        "daily": ranking.daily,
        "saving": None if current is None else asdict(ranking.against(current)),
        "assumptions": list(ranking.assumptions),
    }


def page(ranking: Ranking, graph: Graph, current: str | None) -> str:
    """The ranking as one HTML page."""
    saving = None if current is None else ranking.against(current)
    saved = saving and asdict(saving)
    return chips_page(ChipsReport(graph.name, ranking.to_rows(), ranking.assumptions, saved, ranking.daily))


__all__ = ["Estimate", "advise", "estimate", "format_on", "network", "page", "summary"]
