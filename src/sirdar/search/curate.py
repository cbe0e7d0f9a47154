# SPDX-License-Identifier: Apache-2.0
"""A space without the channel counts that leave a chip's multipliers idle.

A chip works in wholes: 17 channels may cost as much as 32. How many it takes at once is measured, per kind of operator,
from the estimator, and never assumed: some operators have no such grain, and some estimators do not know of it. What is
left of a space is smaller, and latency in it follows the work more closely, which makes it easier to search.

`curate` keeps the multiples of a grain. `curate_priced` needs none and asks what each width costs where it stands: it
sees the channels that go in as well, and leaves a layer alone that waits for memory and not for multipliers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import rankdata

from sirdar.chips import Chip, Estimator
from sirdar.errors import ArgumentError, nearest
from sirdar.search.space import Candidate, Choice, SearchSpace, Value
from sirdar.search.task import Pricing
from sirdar.workload.graph import Graph, Operator, TensorSpec

WIDTHS = (".channels", ".width", ".deep", "multiplier")
"""What names of choices that make layers wider end with."""
PROBES = ("standard", "pointwise", "depthwise", "dense")
_EXCESS = 0.5  # of the rise of latency that must come at the edges of the grain beyond what a slope has there
_ROUNDING = 1e-9  # of sums: a grain of 2 has just the excess that is asked for
_EQUAL = 0.4  # of neighbours: as many are equal only where there is no noise
_WIDEST = 288  # the arrays of the catalogue take up to 128 channels at once, and two steps tell a grain from a bend


@dataclass(frozen=True)
class Granule:
    """How many output channels an operator computes at once.

    Args:
        kind: of operator, one of `PROBES`.
        size: channels; 1 where latency rises with every one.
        share: of the rise of latency that comes right after a multiple of it.
        latency_s: measured, by number of channels from 1.
    """

    kind: str
    size: int
    share: float
    latency_s: tuple[float, ...]


def probe(kind: str, channels: int, inputs: int = 32, resolution: int = 32) -> Graph:
    """One operator with so many output channels: the network that a granule is measured with.

    Args:
        kind: "standard", a 3 x 3 convolution; "pointwise", 1 x 1; "depthwise", 3 x 3 of each channel alone; "dense", a
            matrix product over as many rows as the resolution.
        channels: that come out.
        inputs: channels that go in; for "depthwise" as many as come out.
        resolution: rows and columns.

    Raises:
        ArgumentError: the kind is unknown.
    """
    if kind not in PROBES:
        msg = f"probe {kind!r} is not known; known are {', '.join(PROBES)}"
        raise ArgumentError(msg)
    if kind == "dense":
        x, y = TensorSpec((resolution, inputs), name="x"), TensorSpec((resolution, channels), name="y")
        weight = TensorSpec((inputs, channels), name="w")
        facts: dict[str, Any] = {"batch": 1, "rows": resolution, "columns": channels, "depth": inputs}
        facts["target"] = "aten.mm.default"
        macs = resolution * inputs * channels
        return Graph((Operator("probe", "matmul", (x,), (y,), (weight,), macs, 0, facts),), (x,), ("y",), kind)
    groups, kernel = (channels, 3) if kind == "depthwise" else (1, 1 if kind == "pointwise" else 3)
    taken = channels if kind == "depthwise" else inputs
    x = TensorSpec((1, taken, resolution, resolution), name="x")
    y = TensorSpec((1, channels, resolution, resolution), name="y")
    weight = TensorSpec((channels, taken // groups, kernel, kernel), name="w")
    facts = {
        "target": "aten.convolution.default",
        "kernel": [kernel, kernel],
        "stride": [1, 1],
        "padding": [kernel // 2, kernel // 2],
        "dilation": [1, 1],
        "transposed": False,
        "output_padding": [0, 0],
        "groups": groups,
    }
    macs = y.elements * taken // groups * kernel * kernel
    return Graph((Operator("probe", "conv", (x,), (y,), (weight,), macs, 0, facts),), (x,), ("y",), kind)


def measure_granule(latency_s: Sequence[float], kind: str = "") -> Granule:
    """The grain of a staircase.

    Args:
        latency_s: of 1, 2, 3, ... channels; timings may be noisy by a few per cent.
        kind: of operator, for the record.

    Returns:
        The size after whose multiples the most of the rise comes, beyond what a slope has there; of a slope, or where
        nothing rises, 1.
    """
    steps = np.maximum(np.diff(_steady(np.asarray(latency_s, dtype=np.float64))), 0.0)
    rise = float(steps.sum())
    best, share = 1, 1.0
    # Up to the widest: a divisor of the grain has all of the rise too, and wins where the grain itself is left out.
    for size in range(2, len(latency_s)):
        there = float(steps[size - 1 :: size].sum()) / rise if rise > 0 else 0.0
        # A slope has a share of 1 / size there, so what counts is how much more it is.
        if there - 1 / size >= max(_EXCESS, share - 1 / best) - _ROUNDING:
            best, share = size, there
    return Granule(kind, best, share, tuple(float(value) for value in latency_s))


def _steady(latency_s: Float64[np.ndarray, " width"]) -> Float64[np.ndarray, " width"]:
    """Timings without their noise: the mean of each stretch between edges, as they are where they have none.

    The edges by optimal partitioning (Jackson et al. 2005, arXiv:math/0309285) of the logarithms, each at the price of
    four times the noise's variance and the logarithm of their number.
    """
    count = len(latency_s)
    if count < 3 or not (latency_s > 0).all():
        return latency_s
    values = np.log(latency_s)
    deviation = float(np.median(np.abs(np.diff(values, 2)))) / (0.6745 * math.sqrt(6))  # both of normal noise
    if deviation == 0 or (np.diff(latency_s) == 0).mean() > _EQUAL:
        return latency_s
    price = 4 * deviation**2 * math.log(count)
    total, squares = (np.concatenate([[0.0], np.cumsum(row)]) for row in (values, values**2))
    least, begins = np.zeros(count + 1), np.zeros(count + 1, dtype=int)
    for end in range(1, count + 1):
        length = end - np.arange(end)
        within = squares[end] - squares[:end] - (total[end] - total[:end]) ** 2 / length
        begins[end] = np.argmin(least[:end] + within)
        least[end] = (least[:end] + within).min() + price
    steady, end = np.empty(count), count
    while end > 0:
        begin = begins[end]
        steady[begin:end] = values[begin:end].mean()
        end = begin
    return np.exp(steady)


def granules(
    estimator: Estimator,
    chip: Chip,
    dtype: str = "int8",
    *,
    kinds: Sequence[str] = PROBES,
    widest: int = _WIDEST,
    inputs: int = 32,
    resolution: int = 32,
) -> dict[str, Granule]:
    """The granule of each kind of operator on a chip, measured with an estimator.

    Args:
        estimator: any; one that knows no grain gives 1.
        chip: to measure.
        dtype: number format to run in.
        kinds: of operators, of `PROBES`.
        widest: channels up to which is measured; a grain as wide as this or wider is told as 1.
        inputs: channels that go in.
        resolution: rows and columns.
    """
    found = {}
    for kind in kinds:
        graphs = (probe(kind, channels, inputs, resolution) for channels in range(1, widest + 1))
        found[kind] = measure_granule([estimator.estimate(graph, chip, dtype).latency_s for graph in graphs], kind)
    return found


@dataclass(frozen=True)
class Curation:
    """A curated space and what became of the rest.

    Args:
        space: what is left.
        before: candidates of the space that was curated, or with the multiplier of the curated one.
        dropped: options that are gone, by name of the choice.
    """

    space: SearchSpace
    before: int
    dropped: Mapping[str, tuple[Value, ...]]

    @property
    def vanished(self) -> int:
        """Candidates that are gone."""
        return self.before - self.space.size

    def sentence(self) -> str:
        """How many vanished, in words."""
        share = self.vanished / self.before
        return f"{self.before} candidates became {self.space.size}: {share:.1%} vanished"


def curate(
    space: SearchSpace,
    size: int | Mapping[str, int],
    *,
    endings: Sequence[str] = (".channels", ".width"),
    multipliers: Sequence[float] = (),
) -> Curation:
    """The space with only those channel counts that fill a chip's granule.

    A choice of which no option is a multiple keeps those that fill best; so does one whose options are all smaller.
    Where there is a multiplier what counts is its product with the channels, in the mean over its options.

    Args:
        space: to curate.
        size: the granule, or one for each choice by name.
        endings: what names of channel choices end with.
        multipliers: a choice "multiplier" of all channels to add, where the space has none.

    Raises:
        ArgumentError: no choice ends so, a granule is below 1, or one is for a choice that is none of these.
    """
    picked = _ending(space, endings)
    known = next((choice.options for choice in space.choices if choice.name == "multiplier"), None)
    scales = tuple(multipliers) or (1.0,) if known is None else known
    names = [choice.name for choice in picked]
    unknown = [] if isinstance(size, int) else [name for name in size if name not in names]
    if unknown:
        msg = f"space {space.name!r} has no channel choice {unknown[0]!r} to curate.{nearest(unknown[0], names)}"
        raise ArgumentError(msg)
    kept: dict[str, list[Value]] = {}
    for choice in picked:
        grain = size if isinstance(size, int) else size.get(choice.name, 1)
        if grain < 1:
            msg = f"a granule must be at least 1, got {grain} for {choice.name!r}"
            raise ArgumentError(msg)
        fill = {option: sum(_fill(option, scale, grain) for scale in scales) / len(scales) for option in choice.options}
        kept[choice.name] = [option for option in choice.options if fill[option] == max(fill.values())]
    found = _restricted(space, kept)
    if multipliers and known is None:
        rest = SearchSpace(found.space.name, (Choice("multiplier", tuple(multipliers)), *found.space.choices))
        return replace(found, space=rest, before=found.before * len(multipliers))
    return found


def _restricted(space: SearchSpace, kept: Mapping[str, list[Value]]) -> Curation:
    dropped = {name: tuple(option for option in space[name].options if option not in kept[name]) for name in kept}
    rest = space.restrict(kept, f"{space.name}, curated")
    return Curation(rest, space.size, {name: options for name, options in dropped.items() if options})


def _ending(space: SearchSpace, endings: Sequence[str]) -> list[Choice]:
    picked = [choice for choice in space.choices if choice.name.endswith(tuple(endings)) and choice.numeric]
    if not picked:
        msg = f"space {space.name!r} has no numeric choice that ends with {' or '.join(endings)}"
        raise ArgumentError(msg)
    return picked


def _fill(option: Value, scale: Value, grain: int) -> float:
    """Share of a chip's multipliers that work; none is idle where there is no such layer."""
    channels = round(float(option) * float(scale), 9)
    return channels / (grain * math.ceil(channels / grain)) if channels > 0 else 1.0


def curate_priced(
    space: SearchSpace,
    pricing: Pricing,
    *,
    saving: float = 0.1,
    sample: int = 4,
    seed: int = 0,
    endings: Sequence[str] = WIDTHS,
) -> Curation:
    """The space without the widths that cost hardly less than a wider one, priced where they stand.

    All options of a choice are priced in the same few candidates. From the widest down one is kept where it is cheaper
    than the last that was kept by a share of what the choice spans; the cheapest always is, so that what could keep to
    a limit still can. A choice that costs nothing stays whole.

    Args:
        space: to curate.
        pricing: gives latency; it must tell the same again.
        saving: share, in 0..1, of the mean latency between a choice's cheapest and dearest option.
        sample: candidates that a choice is priced in.
        seed: of the sample.
        endings: what names of the choices that are curated end with.

    Raises:
        ArgumentError: no choice ends so.
    """
    rng = np.random.default_rng(seed)
    kept = {}
    for choice in _ending(space, endings):
        rising = sorted(choice.options, key=float)
        latency = np.zeros(len(rising))
        for around in _having(space, choice.name, sample, rng):
            widths = (space.candidate({**around, choice.name: option}) for option in rising)
            latency += [float(pricing(candidate).latency_s) for candidate in widths]
        kept[choice.name] = [rising[place] for place in _worth(latency, saving)]
    return _restricted(space, kept)


def _having(space: SearchSpace, name: str, sample: int, rng: np.random.Generator) -> Iterable[dict[str, Value]]:
    """Candidates in which a choice is there, as values for all choices."""
    usual = {choice.name: choice.options[-1] for choice in space.choices}
    drawn = (space.sample(rng).as_dict() for _ in range(100 * sample))
    return islice((usual | values for values in drawn if name in values), sample)


def _worth(latency_s: Float64[np.ndarray, " option"], saving: float) -> list[int]:
    """Places of the options that save something, in their order."""
    least, most = float(latency_s.min()), float(latency_s.max())
    if most <= least * (1 + 1e-9):
        return list(range(len(latency_s)))
    kept = [len(latency_s) - 1]
    for place in range(len(latency_s) - 2, -1, -1):
        if latency_s[place] < latency_s[kept[-1]] - saving * (most - least):
            kept.append(place)
    cheapest = int(np.flatnonzero(latency_s <= least + 1e-9 * most)[-1])
    return sorted({*kept, cheapest})


@dataclass(frozen=True)
class Landscape:
    """Work against latency over a space.

    Args:
        points: (multiply-accumulates, seconds) of sampled candidates.
        monotone: share of steps to the next larger option of a choice that make it slower, as more work should.
        spearman: correlation of work and latency over the sample.
    """

    points: tuple[tuple[float, float], ...]
    monotone: float
    spearman: float


def landscape(space: SearchSpace, pricing: Pricing, sample: int = 100, seed: int = 0) -> Landscape:
    """Prices a sample of candidates, and of each a random step to the next larger option of a numeric choice.

    Args:
        space: to sample.
        pricing: gives latency and multiply-accumulates.
        sample: candidates.
        seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    points, rises = [], []
    for _ in range(sample):
        candidate = space.sample(rng)
        cost = pricing(candidate)
        points.append((float(cost.macs), float(cost.latency_s)))
        larger = list(_larger(space, candidate))
        if larger:
            moved = pricing(larger[int(rng.integers(len(larger)))])
            if moved.macs > cost.macs:
                rises.append(moved.latency_s > cost.latency_s * (1 + 1e-9))
    table = np.array(points)
    varied = all(len({*column.tolist()}) > 1 for column in table.T)
    rho = float(np.corrcoef(rankdata(table, axis=0).T)[0, 1]) if varied else math.nan
    return Landscape(tuple(points), float(np.mean(rises)) if rises else math.nan, rho)


@dataclass(frozen=True)
class Curated:
    """A space before and after curation, drawn.

    Args:
        curation: what is left, and what is gone.
        before: landscape of the whole space.
        after: of what is left.
    """

    curation: Curation
    before: Landscape
    after: Landscape

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists that JSON can hold."""
        sizes = {"before": self.curation.before, "after": self.curation.space.size}
        views = {"before": asdict(self.before), "after": asdict(self.after)}
        dropped = {name: list(options) for name, options in self.curation.dropped.items()}
        return {"size": sizes, "dropped": dropped, "landscape": views}


def curated(space: SearchSpace, pricing: Pricing, seed: int = 0, sample: int = 30) -> Curated:
    """Curates a space by `curate_priced`, and samples the landscape of both.

    Args:
        space: to curate.
        pricing: gives latency and multiply-accumulates; it must tell the same again.
        seed: of the samples.
        sample: candidates of a landscape.
    """
    found = curate_priced(space, pricing, seed=seed)
    views = (landscape(part, pricing, sample, seed) for part in (space, found.space))
    return Curated(found, *views)


def _larger(space: SearchSpace, candidate: Candidate) -> Iterable[Candidate]:
    for name, present in candidate.values:
        choice = space[name]
        place = choice.options.index(present)
        if choice.numeric and place + 1 < len(choice.options):
            rest = {other.name: other.options[-1] for other in space.choices}
            yield space.candidate({**rest, **candidate.as_dict(), name: choice.options[place + 1]})
