# SPDX-License-Identifier: Apache-2.0
"""Is the answer still right in a chip's formats, and which formats are the cheapest that keep it so?

Each layer's error in each format is measured alone (factors rounded, everything before it exact), and carried to the
output by the network's own derivative: with v drawn from a standard normal, the square of (v' J e) has the mean |J e|^2
(Hutchinson, 1990), and a few draws give it for all layers at once. Errors of different layers are taken as independent,
so their squares add. Choosing one format per layer at the least latency under a bound on that sum is a multiple-choice
knapsack; a Lagrange multiplier solves it up to one layer (Sinha and Zoltners, 1979). Every plan is then run as a whole
and the bound moved until the measured error, not the predicted one, meets the tolerance. The search starts from the
cheapest single format that does, so no plan is slower, and is spared where that one is as good as the cheapest of all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from sirdar.deploy.emulation import (
    BLOCKS,
    Formats,
    Network,
    computed,
    filled,
    is_matrix,
    outputs,
    product,
    relative_error,
    run,
)
from sirdar.deploy.findings import Location, location_of
from sirdar.deploy.nodes import name_of
from sirdar.deploy.room import live_bytes, result_bytes, shortage
from sirdar.errors import UnsupportedError
from sirdar.numerics.formats import format_named

_MANY, _FEW = 32, 4  # draws, for small networks and for large ones
_LARGE = 5_000_000  # parameters
_ROOM_BYTES = 1 << 28  # of errors that are alive at once, however small the network is
_TRIES = 4
_NEAR = 0.995  # a plan this close to the least cost that any can have is not searched further
_AIM = 0.95  # of the tolerance: the rest is for what a real run adds in another order


@dataclass(frozen=True)
class Layer:
    """One matrix operator in its format, beside fp32.

    Args:
        name: of the node.
        operator: ATen name.
        module: path of the layer in the network.
        format: that its factors are rounded to.
        error: of its result with everything before it rounded too, relative to fp32.
        largest: largest magnitude of its result in fp32.
        overflow: share of its result that is not finite though fp32's is.
        location: the user's line.
    """

    name: str
    operator: str
    module: str
    format: str
    error: float
    largest: float
    overflow: float
    location: Location | None


@dataclass(frozen=True)
class Plan:
    """Formats for a network, and what they cost in accuracy.

    Args:
        formats: of every layer, and of what is stored.
        error: of the output, measured by running the whole network so.
        tolerance: that it had to meet.
        layers: every matrix operator in order.
        first: name of the first layer whose error exceeds the tolerance; empty for none.
        latency_s: of the matrix operators, by the estimate that was minimised.
        note: a sentence where something else was done than asked.
        file_error: of the output of the int8 file that goes to the chip, run by LiteRT; None where none was run.
    """

    formats: Formats
    error: float
    tolerance: float
    layers: tuple[Layer, ...]
    first: str = ""
    latency_s: float = 0.0
    note: str = ""
    file_error: float | None = None

    @property
    def judged(self) -> float:
        """The error that decides: of the file itself where one was run, otherwise the emulated one."""
        return self.error if self.file_error is None else self.file_error

    @property
    def met(self) -> bool:
        """Whether the error that decides is within the tolerance."""
        return self.judged <= self.tolerance

    @property
    def said(self) -> str:
        """The error that decides, in words."""
        if self.file_error is None:
            return f"{self.error:.2g}"
        return f"{self.file_error:.2g} as LiteRT runs the int8 file ({self.error:.2g} emulated)"


@dataclass(frozen=True)
class Tables:
    """What the search needs: cost and squared error of each layer in each format, in units of the output's square.

    Args:
        names: of the layers.
        choices: formats, in any order.
        cost: seconds, by layer and format.
        exact: outputs of the network in fp32.
        variance: squared error at the output over its own square, by layer and format.
    """

    names: tuple[str, ...]
    choices: tuple[str, ...]
    cost: Mapping[str, Mapping[str, float]]
    variance: Mapping[str, Mapping[str, float]]
    exact: Sequence[torch.Tensor] = ()


def matrix_nodes(net: Network) -> list[fx.Node]:
    """The matrix operators of a network, in order."""
    return [node for node in net.program.graph.nodes if is_matrix(node)]


def examined(net: Network, formats: Formats, tolerance: float, note: str = "") -> Plan:
    """Run a network in given formats: the error of every layer and of the output."""
    wanted = set(net.results)
    layers: list[Layer] = []
    made: dict[fx.Node, tuple[torch.Tensor, torch.Tensor]] = {}
    for step in run(net, formats):
        if step.node in wanted:
            made[step.node] = (step.exact, step.rounded)
        if is_matrix(step.node):
            layers.append(_layer(step.node, step.exact, step.rounded, formats))
    error = relative_error([made[node] for node in net.results if node in made])
    first = next((row.name for row in layers if not row.error <= tolerance), "")
    return Plan(formats, error, tolerance, tuple(layers), first, note=note)


def plan(
    net: Network,
    costs: Mapping[str, Mapping[str, float]],
    storages: Sequence[str],
    tolerance: float,
    *,
    seed: int = 0,
) -> Plan:
    """The cheapest formats per layer that keep the measured error of the output within a tolerance.

    Args:
        net: the network with its example.
        costs: seconds of each layer (by node name) in each format; the formats are the choices.
        storages: formats that activations may be stored in, the cheapest first.
        tolerance: relative error of the output, as `relative_error` has it.
        seed: of the draws that carry errors to the output.

    Raises:
        UnsupportedError: an operator cannot be run, or there is not the memory for it.
    """
    _require_memory(net)
    names = tuple(node.name for node in matrix_nodes(net))
    if not names:
        return examined(net, Formats(storage=storages[-1]), tolerance, "the network has no matrix products")
    choices = tuple(next(iter(costs.values())))
    tables = Tables(names, choices, costs, {}, outputs(net))
    least = math.fsum(min(costs[name].values()) for name in names)
    aim = _AIM * tolerance
    best: Plan | None = None
    for storage in storages:
        found = _uniform(net, tables, storage, aim)
        if found.met and found.latency_s * _NEAR > least:
            short = "" if tables.variance else _short_of_memory(net)
            if not short:
                tables = replace(tables, variance=tables.variance or variances(net, choices, seed=seed))
            found = replace(found, note=short) if short else _searched(net, tables, found, aim)
        found = replace(found, tolerance=tolerance)
        if best is None or (found.met, -found.latency_s) > (best.met, -best.latency_s):
            best = found if best is None or found.met or found.error < best.error else best
        if best.met:
            break
    assert best is not None
    return best


def _require_memory(net: Network) -> None:
    """Refuse a network whose weights, rounded, and whose results, twice, are more than the machine can hold."""
    weights = sum(value.nbytes for value in net.values.values() if isinstance(value, torch.Tensor))
    needed = min(weights, net.weights.room_bytes) + 2 * live_bytes(net.program.graph, net.ends)
    if short := shortage(needed, "a run in other formats"):
        raise UnsupportedError(short)


def _short_of_memory(net: Network) -> str:
    """A sentence where formats cannot be mixed because the derivative of the whole network has no room."""
    needed = result_bytes(net.program.graph) + _room_bytes(net)
    short = shortage(needed, "the search for formats layer by layer")
    return f"all layers have the same format: {short}" if short else ""


def variances(net: Network, choices: Sequence[str], *, seed: int) -> dict[str, dict[str, float]]:
    """Squared error that each layer alone causes at the output in each format, over the square of the output.

    Layers are taken together as far as there is room for their errors; every round draws the same.
    """
    room = _room_bytes(net)
    found: dict[str, dict[str, float]] = {}
    more = True
    while more:
        rows, more = _shares(net, _alone(net, choices, frozenset(found), room), choices, seed)
        found |= rows
    return found


def _room_bytes(net: Network) -> int:
    """Of errors in all formats that are alive at once: a share of what the derivative needs, so that rounds are few."""
    return max(_ROOM_BYTES, result_bytes(net.program.graph) // 2)


def _shares(
    net: Network, alone: "_Alone", choices: Sequence[str], seed: int
) -> tuple[dict[str, dict[str, float]], bool]:
    """Variances of the layers of one round, and whether there is to be another."""
    sizes = {name: {choice: _dot(gap, gap) for choice, gap in row.items()} for name, row in alone.errors.items()}
    scale = sum(float(value.detach().double().square().sum()) for value in alone.made)
    if not alone.made or scale == 0:
        rows = {
            name: {choice: float(gap.square().sum()) for choice, gap in row.items()}
            for name, row in alone.errors.items()
        }
        return rows, alone.more
    totals = {name: dict.fromkeys(choices, 0.0) for name in alone.errors}
    generator = torch.Generator().manual_seed(seed)
    size = sum(value.numel() for value in net.values.values() if isinstance(value, torch.Tensor))
    count = _FEW if size > _LARGE else _MANY
    for _ in range(count):
        draws = [torch.randn(value.shape, generator=generator) for value in alone.made]
        for name, row in _drawn(alone, sizes, draws, scale).items():
            for choice, share in row.items():
                totals[name][choice] += share / count
    rows = {name: {choice: value / scale for choice, value in row.items()} for name, row in totals.items()}
    return rows, alone.more


def _drawn(
    alone: "_Alone", sizes: Mapping[str, Mapping[str, float]], draws: Sequence[torch.Tensor], scale: float
) -> dict[str, dict[str, float]]:
    """What one draw says of each layer; its derivatives, as large as all results together, are gone with it."""
    gradients = _gradients(alone.made, list(alone.kept.values()), draws)
    found = {}
    for (name, value), gradient in zip(alone.kept.items(), gradients, strict=True):
        found[name] = _carried(gradient, alone.errors[name], sizes[name])
        if gradient is None:  # no derivative: as if the layer stood at the end, in proportion
            whole = max(_dot(value.detach(), value.detach()), 1e-30)
            found[name] = {choice: size / whole * scale for choice, size in sizes[name].items()}
    return found


def _carried(
    gradient: torch.Tensor | None, gaps: Mapping[str, torch.Tensor], sizes: Mapping[str, float]
) -> dict[str, float]:
    """Squared error at the output: as it came out, and as it would on average over errors of the same size.

    The first has few samples and the second assumes that errors know nothing of the derivative; their mean errs less.
    """
    if gradient is None or gradient.ndim == 0:  # a sum that nothing reads has no derivative, but a zero
        one = 0.0 if gradient is None else float(gradient)
        return {choice: (one * float(gap.sum())) ** 2 for choice, gap in gaps.items()}
    power = _dot(gradient, gradient)
    found = {}
    for choice, gap in gaps.items():
        drawn = _dot(gradient, gap) ** 2 if sizes[choice] else 0.0
        found[choice] = (drawn + power * sizes[choice] / max(1, gap.numel())) / 2
    return found


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1).float(), b.reshape(-1).float()))


def allocated(tables: Tables, budget: float) -> dict[str, str]:
    """One format per layer at the least cost with the sum of variances at most `budget`, by a Lagrange multiplier."""
    low, high = 0.0, 1.0
    while _spent(tables, _cheapest(tables, high)) > budget and high < 1e30:
        high *= 10
    for _ in range(80):
        middle = math.sqrt(max(low, 1e-30) * high)
        low, high = (low, middle) if _spent(tables, _cheapest(tables, middle)) <= budget else (middle, high)
    return _filled_up(tables, _cheapest(tables, high), budget)


def _cheapest(tables: Tables, price: float) -> dict[str, str]:
    return {
        name: min(tables.choices, key=lambda choice: tables.cost[name][choice] + price * tables.variance[name][choice])
        for name in tables.names
    }


def _filled_up(tables: Tables, chosen: dict[str, str], budget: float) -> dict[str, str]:
    """What the multiplier leaves of the budget, spent on the greatest savings that still fit."""
    room = budget - _spent(tables, chosen)
    swaps = [
        (tables.cost[name][chosen[name]] - tables.cost[name][choice], name, choice)
        for name in tables.names
        for choice in tables.choices
    ]
    for saving, name, choice in sorted(swaps, reverse=True):
        extra = tables.variance[name][choice] - tables.variance[name][chosen[name]]
        if saving > 0 and extra <= room and tables.cost[name][choice] < tables.cost[name][chosen[name]]:
            chosen[name], room = choice, room - extra
    return chosen


def _spent(tables: Tables, chosen: Mapping[str, str]) -> float:
    return sum(tables.variance[name][choice] for name, choice in chosen.items())


def _searched(net: Network, tables: Tables, best: Plan, tolerance: float) -> Plan:
    """The cheapest plan that is found from one that is within the tolerance, in the same storage."""
    storage = best.formats.storage
    cheapest = _cheapest(tables, 0.0)
    budget = tolerance**2
    tried: Plan | None = None
    for _ in range(_TRIES):
        chosen = allocated(tables, budget)
        if _seconds(tables, chosen) >= best.latency_s:
            break
        if tried is None or chosen != tried.formats.layers:  # a smaller budget may choose the same
            tried = _measured(net, tables, chosen, storage, tolerance)
        if tried.met:
            best = tried
            if chosen == cheapest:
                break
        ratio = (tolerance / tried.error) ** 2 if 0 < tried.error < math.inf else 0.1
        if tried.met and ratio < 1.3:
            break
        budget *= min(0.9 * ratio, 10.0) if tried.met else min(max(0.5 * ratio, 0.02), 0.5)
    return best


def _uniform(net: Network, tables: Tables, storage: str, tolerance: float) -> Plan:
    """One format for all layers: the cheapest that meets the tolerance, otherwise the most exact."""
    rows = [dict.fromkeys(tables.names, choice) for choice in tables.choices]
    rows.sort(key=lambda row: _seconds(tables, row))
    finest = max(rows, key=lambda row: _fraction(row[tables.names[0]]))
    early = rows[:2]  # where both fail, the finest says whether going on is of use
    order = early if finest in early else [*early, finest]
    tries = []
    for row in (*order, *(row for row in rows if row not in order)):
        tried = _measured(net, tables, row, storage, tolerance)
        tries.append(tried)
        if tried.met and (row is not finest or row in early):
            return tried
        if row is finest and not tried.met:
            break
    met = [row for row in tries if row.met]
    return min(met, key=lambda row: row.latency_s) if met else min(tries, key=lambda row: row.error)


def _fraction(name: str) -> int:
    """Bits that a format keeps of a number's fraction."""
    return 0 if name in BLOCKS else format_named(name).mantissa


def _seconds(tables: Tables, chosen: Mapping[str, str]) -> float:
    return math.fsum(tables.cost[name][choice] for name, choice in chosen.items())


def _measured(net: Network, tables: Tables, chosen: Mapping[str, str], storage: str, tolerance: float) -> Plan:
    formats = Formats(dict(chosen), storage=storage)
    latency = _seconds(tables, chosen)
    error = relative_error(list(zip(tables.exact, outputs(net, formats), strict=True)))
    return Plan(formats, error, tolerance, (), latency_s=latency)


def _layer(node: fx.Node, exact: torch.Tensor, rounded: torch.Tensor, formats: Formats) -> Layer:
    place = location_of(node)
    low, high = (float(end) for end in torch.aminmax(exact)) if exact.numel() else (math.inf, math.inf)
    largest, lost = max(-low, high), 0.0
    error = relative_error([(exact, rounded)])
    if not (math.isfinite(largest) and math.isfinite(error)):
        finite = torch.isfinite(exact)
        largest = float(exact[finite].abs().max()) if bool(finite.any()) else math.inf
        lost = float((finite & ~torch.isfinite(rounded)).float().mean()) if exact.numel() else 0.0
    return Layer(
        name=node.name,
        operator=name_of(node),
        module="" if place is None else place.module,
        format=formats.of(node.name),
        error=error,
        largest=largest,
        overflow=lost,
        location=place,
    )


@dataclass(frozen=True)
class _Alone:
    """Layers whose errors are known, and a run of the network from which their derivatives follow.

    Args:
        errors: of each layer's result in each format with exact inputs.
        made: outputs, with their derivatives.
        kept: results of the layers, with their derivatives.
        more: whether layers are left for which there was no room.
    """

    errors: dict[str, dict[str, torch.Tensor]]
    made: list[torch.Tensor]
    kept: dict[str, torch.Tensor]
    more: bool


def _alone(net: Network, choices: Sequence[str], known: frozenset[str], room_bytes: int) -> _Alone:
    """The errors of layers that are not known yet, at least of one and of as many as there is room for."""
    values: dict[fx.Node, Any] = {}
    errors: dict[str, dict[str, torch.Tensor]] = {}
    kept: dict[str, torch.Tensor] = {}
    more, used = False, 0
    for node in net.program.graph.nodes:
        if node.op == "placeholder":
            values[node] = net.values[node.name]
        elif node.op == "call_function":
            arguments, keywords = filled(node.args, values), filled(node.kwargs, values)
            with torch.enable_grad():
                values[node] = computed(node, arguments, keywords)
            if is_matrix(node) and isinstance(values[node], torch.Tensor) and node.name not in known:
                more = more or used > room_bytes
                if not more:
                    errors[node.name] = _gaps(net, node, (arguments, keywords), values[node].detach(), choices)
                    values[node] = kept[node.name] = _watched(values[node])
                    used += values[node].nbytes + sum(gap.nbytes for gap in errors[node.name].values())
        for gone in net.ends.get(node, ()):
            del values[gone]
    made = [values[node] for node in net.results if isinstance(values[node], torch.Tensor)]
    return _Alone(errors, [value for value in made if value.is_floating_point()], kept, more)


def _gaps(
    net: Network, node: fx.Node, given: tuple[Any, dict[str, Any]], exact: torch.Tensor, choices: Sequence[str]
) -> dict[str, torch.Tensor]:
    arguments, keywords = given
    plain = map_aggregate(arguments, lambda item: item.detach() if isinstance(item, torch.Tensor) else item)
    with torch.no_grad():
        return {
            choice: torch.zeros(())
            if choice == "fp32"
            # Two bytes are enough for an error, and all layers' errors in all formats are alive at once.
            else (product(net, node, (plain, keywords), choice) - exact).to(torch.bfloat16)
            for choice in choices
        }


def _watched(value: torch.Tensor) -> torch.Tensor:
    """The same with a derivative, where nothing before it had one."""
    return value if value.requires_grad else value.detach().requires_grad_()


def _gradients(
    made: Sequence[torch.Tensor], kept: Sequence[torch.Tensor], draws: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor | None]:
    pairs = [(value, draw) for value, draw in zip(made, draws, strict=True) if value.requires_grad]
    if not pairs:
        return [None] * len(kept)
    values, seeds = zip(*pairs, strict=True)
    try:
        found = torch.autograd.grad(values, list(kept), seeds, retain_graph=True, allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return [None] * len(kept)
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]
