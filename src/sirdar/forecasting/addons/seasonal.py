# SPDX-License-Identifier: Apache-2.0
"""The seasonal component: a multiplicative profile, pooled from all series over their categories to the single one.

Every level (all series, each shared text static from the coarsest to the finest, the series itself) estimates what the
levels above it left over, as a ratio of sums to the local level (the ratio-to-moving-average of classical
decomposition; sums stand the zeros of slow sellers). Each estimate is shrunk by its evidence, harmonic band by harmonic
band: with power P in a band and noise N in it, measured by how much the profile differs from season to season, the
factor is ``max(0, 1 - caution * N / P)``, the blockwise James-Stein rule (Efromovich & Pinsker 1984; Cai 1999, eq. 9).
Fewer than two seasons, or noise alone, leave the profile at 1.
"""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sirdar.forecasting.addons.history import History, codes, periods, shared_statics
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Frequency

_ALL, _SERIES = "", "unique_id"
_LEAST, _MOST = 0.01, 100.0


@dataclass(frozen=True)
class Cycle:
    """One period of recurrence.

    Args:
        name: "day", "week" or "year".
        positions: places that a profile tells apart.
        steps: steps of the calendar in one cycle.
    """

    name: str
    positions: int
    steps: int

    def position(self, frequency: Frequency, period: np.ndarray) -> Int64[np.ndarray, "..."]:
        """The place in the cycle of each period."""
        if self.name == "day":
            return period % self.steps
        if self.name == "week":
            return (period // (self.steps // self.positions)) % self.positions
        begin = frequency.begins(period).astype("datetime64[D]")
        year = begin.astype("datetime64[Y]")
        if self.positions == 52:
            return np.minimum((begin - year.astype("datetime64[D]")).astype(np.int64) // 7, 51)
        month = (begin.astype("datetime64[M]") - year.astype("datetime64[M]")).astype(np.int64)
        return month * self.positions // 12


def cycles_of(frequency: Frequency) -> tuple[Cycle, ...]:
    """The cycles of a calendar, shortest first."""
    if frequency.intraday:
        return Cycle("day", frequency.season, frequency.season), Cycle("week", 7, frequency.week)
    table = {
        "D": (Cycle("week", 7, 7), Cycle("year", 52, 365)),
        "B": (Cycle("week", 5, 5), Cycle("year", 52, 261)),
        "W": (Cycle("year", 52, 52),),
        "M": (Cycle("year", 12, 12),),
        "Q": (Cycle("year", 4, 4),),
    }
    return table.get(frequency.unit, ())


@dataclass
class Profile:
    """Factors of one cycle for the values of one static: shape [value, position]."""

    cycle: Cycle
    static: str
    values: list[str]
    factors: Float32[np.ndarray, "value position"]


@dataclass
class SeasonalProfile:
    """Seasonal factors of every series.

    Args:
        caution: how many times the noise a band must exceed before any of it is believed.
    """

    caution: float = 2.0
    profiles: list[Profile] = field(default_factory=list)

    def fit(self, panel: Panel, other: Float32[np.ndarray, "series time"] | None = None) -> "SeasonalProfile":
        """Learns profiles from a panel's history.

        Args:
            panel: the history.
            other: effects to divide out first (those of price), over all history.
        """
        self.profiles = []
        history = History.of(panel)
        if not history.demand.size:
            return self
        demand = history.demand.astype(np.float64)
        demand = demand if other is None else demand / other
        effect = np.ones(demand.shape)
        for cycle in cycles_of(panel.frequency):
            level = local_level(demand / np.maximum(effect, _LEAST), cycle.steps)
            if not np.isfinite(level).any():
                continue
            position = cycle.position(panel.frequency, history.period)
            season = (history.period.max() - history.period) // cycle.steps
            for name, values in self._levels(panel):
                member = _members(panel, name, values)
                factors = self._estimate(demand, level * effect, member, (season, position), (len(values), cycle))
                self.profiles.append(Profile(cycle, name, values, factors.astype(np.float32)))
                effect *= factors[member[:, None], position]
        return self

    def effect(self, panel: Panel, length: int, ahead: int = 0) -> Float32[np.ndarray, "series time"]:
        """Factors over the last `length` steps of history and `ahead` after it; 1 where nothing is known."""
        when = periods(panel, length, ahead)
        result = np.ones(when.shape, dtype=np.float32)
        for profile in self.profiles:
            member = _members(panel, profile.static, profile.values)
            padded = np.concatenate([profile.factors, np.ones((1, profile.cycle.positions), dtype=np.float32)])
            result *= padded[member[:, None], profile.cycle.position(panel.frequency, when)]
        return np.clip(result, _LEAST, _MOST)

    def state(self) -> dict[str, Any]:
        """Everything learned, for `from_state`."""
        return {"caution": self.caution, "profiles": [asdict(profile) for profile in self.profiles]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "SeasonalProfile":
        """The component whose `state` this is."""
        profiles = [Profile(**(stored | {"cycle": Cycle(**stored["cycle"])})) for stored in state["profiles"]]
        return cls(state["caution"], profiles)

    def _levels(self, panel: Panel) -> list[tuple[str, list[str]]]:
        shared = list(shared_statics(panel).items())
        own = [(_SERIES, sorted(panel.ids))] if len(panel) > 1 else []
        return [(_ALL, [_ALL]), *shared, *own]

    def _estimate(
        self,
        demand: np.ndarray,
        base: np.ndarray,
        member: np.ndarray,
        when: tuple[np.ndarray, np.ndarray],
        shape: tuple[int, Cycle],
    ) -> Float64[np.ndarray, "value position"]:
        """Shrunk ratios of demand to base by member and position."""
        season, position = when
        (groups, cycle), seasons = shape, int(season.max()) + 1
        known = np.isfinite(demand) & np.isfinite(base) & (base > 0)
        # A ratio of sums is led by the largest series; the root is between that and one vote for each.
        mean = np.where(known, base, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        weight = np.where(mean > 0, 1 / np.sqrt(np.where(mean > 0, mean, 1)), 0)[:, None]
        cell = ((member[:, None] * seasons + season) * cycle.positions + position)[known]
        size = groups * seasons * cycle.positions
        dims = (groups, seasons, cycle.positions)
        sums = [np.bincount(cell, (part * weight)[known], size) for part in (demand, base)]
        above, below = (part.astype(np.float64).reshape(dims) for part in sums)  # those of nothing are integers
        return shrunk_profile(above, below, self.caution)


def shrunk_profile(
    above: Float64[np.ndarray, "value season position"],
    below: Float64[np.ndarray, "value season position"],
    caution: float,
) -> Float64[np.ndarray, "value position"]:
    """Ratios above / below by position, of mean 1, shrunk to 1 band by band as their seasons disagree."""
    seen = below > 0
    count = seen.sum(axis=1)
    usable = count >= 2
    total = below.sum(axis=1)
    ratio = np.where(usable, above.sum(axis=1) / np.where(usable, total, 1), 0)
    weight = np.where(usable, total, 0)
    mean = (ratio * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
    scale = np.where(mean > 0, mean, 1)[:, None]
    ratio = np.where(usable & (mean > 0)[:, None], ratio / scale, 1)
    part = np.where(seen & usable[:, None], above / scale[:, None] - ratio[:, None] * below, 0)
    noise = part / np.where(usable, total, 1)[:, None]
    bessel = np.sqrt(count / np.maximum(count - 1, 1))
    power, error = np.fft.rfft(ratio - 1, axis=1), np.fft.rfft(noise * bessel[:, None], axis=2)
    by_harmonic = (np.abs(error) ** 2).sum(axis=1)
    kept = np.zeros_like(power)
    flat = by_harmonic[:, 1:].mean(axis=1)
    for first, last in _bands(power.shape[1]):
        signal = (np.abs(power[:, first:last]) ** 2).mean(axis=1)
        # Shocks last longer than a step, so noise is not white; of few seasons its spectrum is uncertain: the larger.
        doubt = np.maximum(by_harmonic[:, first:last].mean(axis=1), flat)
        factor = np.where(signal > 0, np.clip(1 - caution * doubt / np.where(signal > 0, signal, 1), 0, 1), 0)
        kept[:, first:last] = power[:, first:last] * factor[:, None]
    enough = usable.sum(axis=1) * 2 > usable.shape[1]
    smooth = np.fft.irfft(kept, n=above.shape[2], axis=1)
    return np.where(enough[:, None] & usable, np.clip(1 + smooth, _LEAST, _MOST), 1.0)


def _bands(harmonics: int) -> list[tuple[int, int]]:
    """Dyadic bands of harmonics, the constant left out: 1, 2, 3-4, 5-8, ..."""
    edges = [1, 2]
    while edges[-1] < harmonics:
        edges.append(2 * edges[-1] - 1)
    return [(a, min(b, harmonics)) for a, b in pairwise(edges)]


def local_level(demand: Float64[np.ndarray, "series time"], window: int) -> Float64[np.ndarray, "series time"]:
    """Centred moving average over one cycle; beyond its ends the nearest value; NaN without a full window.

    Gaps are left out of the average; a window of which less than half was observed has none.
    """
    count, length = demand.shape
    result = np.full((count, length), np.nan)
    kernel = np.concatenate([[0.5], np.ones(window - 1), [0.5]]) if window % 2 == 0 else np.ones(window)
    if length < len(kernel):
        return result
    known = np.isfinite(demand)
    half = len(kernel) // 2
    sums = _moving(np.where(known, demand, 0), kernel)
    counts = _moving(known.astype(np.float64), kernel)
    value = np.where(counts >= window / 2, sums / np.maximum(counts, 1), np.nan)
    centre = np.full((count, length), np.nan)
    centre[:, half : length - half] = value
    return np.where(known, _nearest(centre, half), np.nan)


def _moving(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Weighted sums over windows of the kernel's length; its weights are 1 but perhaps at the ends."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    width = len(kernel)
    sums = total[:, width:] - total[:, :-width]
    last = values.shape[1] - width + 1
    return sums - (1 - kernel[0]) * (values[:, :last] + values[:, width - 1 :])


def _nearest(values: np.ndarray, most: int) -> np.ndarray:
    """Gaps filled with the nearest value on the left or right, at most `most` steps away."""
    steps = np.arange(values.shape[1])
    known = np.isfinite(values)
    left = np.maximum.accumulate(np.where(known, steps, -(10**9)), axis=1)
    right = np.minimum.accumulate(np.where(known, steps, 10**9)[:, ::-1], axis=1)[:, ::-1]
    source = np.where(steps - left <= right - steps, left, right)
    reachable = np.abs(source - steps) <= most
    filled = np.take_along_axis(values, np.clip(source, 0, values.shape[1] - 1), axis=1)
    return np.where(reachable, filled, np.nan)


def _members(panel: Panel, static: str, values: list[str]) -> Int64[np.ndarray, " series"]:
    """The row of each series in a profile, -1 for none."""
    if static == _ALL:
        return np.zeros(len(panel), dtype=np.int64)
    if static == _SERIES:
        return codes(np.array(panel.ids, dtype=object), values)
    column = panel.static.get(static)
    return codes(column, values) if column is not None else np.full(len(panel), -1, dtype=np.int64)
