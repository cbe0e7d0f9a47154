# SPDX-License-Identifier: Apache-2.0
"""Rows of features for models that have no memory of their own: one row per series, origin and step ahead.

Everything about demand is divided by the series' own recent level at the origin, so that products that differ by 10^6
pool; one step's spike counts as ten usual ones at most. Steps that were not observed count for nothing; what is not
known is not-a-number, what does not apply to a product is zero and takes no room.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from scipy import sparse

from sirdar.errors import ArgumentError
from sirdar.forecasting.covariates import Encoding, calendar_features, carried, held
from sirdar.forecasting.holidays import holiday_features
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.spikes import SOLD, SPIKE
from sirdar.forecasting.words import Words
from sirdar.predictive import Frequency

# unit: (lags, windows, cycles); a cycle that is longer than a month joins only when it was seen twice
_SHAPES = {
    "D": (14, (7, 14, 28, 56, 182), (7,)),
    "B": (10, (5, 10, 20, 40, 130), (5,)),
    "W": (8, (4, 8, 13, 26, 52), (52,)),
    "M": (6, (3, 6, 12, 24, 36), (12,)),
    "Q": (4, (2, 4, 8, 12, 16), (4,)),
    "Y": (4, (2, 3, 5, 8, 12), ()),
}
_PRICE_WINDOW = 8  # steps that make the usual price
_RECENT = (1, 4, 12)  # steps over which past covariates are averaged
_CANDIDATES = 4  # for each row that is kept
_FRESH = 0.03
_UNEVEN = 10.0  # most and least weight of a series, over the median one's
_AGE = -2  # place of age among the columns of a history
_OLD = 12  # steps
_PRICES = ("price over usual", "price over now", "price over line")


@dataclass(frozen=True)
class Rows:
    """Features and what they should tell, one row for each (series, origin, step), the step running fastest.

    What trees learn from.

    Args:
        matrix: float32 CSR [row, feature].
        scale: units of demand of one unit of the scale-free features, by row; multiply a scale-free answer by it.
        target: demand in units; NaN where not known.
    """

    matrix: sparse.csr_matrix
    scale: Float32[np.ndarray, " row"]
    target: Float32[np.ndarray, " row"]


class Pairs(NamedTuple):
    """The same features, those that all steps of a pair share but once: what networks learn from.

    A network would learn single dates and products by heart where a forest, whose leaves hold many rows, cannot. So age
    stands still after some steps, for it only tells the date then; words are told of a product only as long as it has
    no history; and the day of the month is no feature of weeks before two years were seen. Every line's own columns of
    prices are not here: a network makes its own products.
    """

    shared: Float32[np.ndarray, "pair shared"]  # NaN where not known
    ahead: Float32[np.ndarray, "pair steps own"]  # likewise
    scale: Float32[np.ndarray, " pair"]  # units of demand of one unit of the scale-free features
    target: Float32[np.ndarray, "pair steps"]  # in units; NaN where not known


@dataclass(frozen=True)
class Features:
    """How a panel becomes rows; fitted once, stored as JSON.

    Args:
        encoding: of the covariates.
        unit: of the calendar, see `Frequency`.
        reference: units of demand: the level of a typical series, by which one without history is measured.
        words: those of text statics that name each series alone.
        prices: of each line the mean logarithm of price, the panel's own last.
    """

    encoding: Encoding
    unit: str
    reference: float
    words: Words
    prices: tuple[float, ...] = ()

    @classmethod
    def fit(cls, panel: Panel) -> "Features":
        """Learns scales and categories from the panel's history."""
        encoding = Encoding.fit(panel)
        observed, owner = panel.observed, panel.step_series
        size = np.bincount(owner[observed], np.abs(panel.target[observed]), len(panel))
        count = np.bincount(owner[observed], minlength=len(panel))
        sold = size > 0
        reference = float(np.exp(np.median(np.log(size[sold] / count[sold])))) if sold.any() else 1.0
        names = [name for name, _ in encoding.categories]
        features = cls(encoding, panel.frequency.unit, reference, Words.fit(panel, names))
        return cls(encoding, features.unit, reference, features.words, features._line_prices(panel))

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        past = [name for name, *_ in self.encoding.past]
        lags, windows, _ = self.shape
        names = [*self._history_names(lags, windows), *self._own_names()]
        names += [f"{name} over {steps}" for name in past for steps in _RECENT]
        names += [name for name, *_ in self.encoding.static]
        names += [f"{name}={value}" for name, values in self.encoding.categories for value in values]
        names += [f"word {word}" for word in self.words.words]
        return [*names, *(f"{line}: {names[column]}" for line in self._lines for column in self._crossed)]

    @property
    def pair_names(self) -> tuple[list[str], list[str]]:
        """Of the columns of `Pairs`: shared, and ahead."""
        names = self.names
        views = names.index("step") + len(self._own_names())
        words = [name for name in names[views:] if not name.startswith(tuple(f"{line}: " for line in self._lines))]
        return [*names[: names.index("step")], *words], [
            name for name in self._own_names() if self._dated or name not in self._calendar_names()
        ]

    @property
    def shape(self) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """Lags, windows and cycles that a panel of this frequency gets, in steps."""
        calendar = Frequency(self.unit)
        if calendar.intraday:
            day = calendar.season
            return 12, (day // 4, day, 3 * day, 7 * day, 14 * day), (day, calendar.week)
        lags, windows, cycles = _SHAPES[self.unit]
        yearly = {"W", "M", "Q"}
        return lags, windows, () if self.unit in yearly and not self.encoding.yearly else cycles

    def rows(
        self,
        panel: Panel,
        series: Int64[np.ndarray, " pair"],
        origin: Int64[np.ndarray, " pair"],
        step: Int64[np.ndarray, "pair steps"],
    ) -> Rows:
        """The rows of pairs of a series and an origin, for some steps ahead of each.

        Args:
            panel: one with the covariates of the panel that was fitted.
            series: its number in the panel.
            origin: how many of its steps are seen.
            step: 1 is the step after the origin.

        Raises:
            ArgumentError: a covariate is lacking, or the panel is of another frequency.
        """
        return self.on(panel).rows(series, origin, step)

    def on(self, panel: Panel) -> "Source":
        """What is the same for all rows of a panel, made once: worth it where rows are wanted time and again.

        Raises:
            ArgumentError: a covariate is lacking, or the panel is of another frequency.
        """
        from sirdar.forecasting import feature_kernels as kernels  # here, not above: it loads numba

        self.require(panel)
        demand = np.where(panel.observed, panel.target, np.float32(np.nan)).astype(np.float32)
        parts = [sparse.csr_matrix(self.encoding.static_channels(panel)), self.words.matrix(panel)]
        static: Any = sparse.hstack(parts, format="csr", dtype=np.float32)
        price = _log_price(panel) if self.prices else np.zeros(0)
        told = kernels.capped(demand, panel.indptr, SPIKE, SOLD)
        return Source(self, panel, demand, told, panel.unseen(), static, self._line(panel), price)

    def sample(
        self, panel: Panel, horizon: int, count: int, generator: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"], Int64[np.ndarray, "pair 1"]]:
        """Series, origins and steps ahead of at most `count` rows from rolling origins, targets within history.

        Larger series come more often, as the square root of their level, since errors count in units; within bounds, so
        that small ones are heard. A few origins stand at the very beginning of a series, where nothing is known of it:
        so a new product's first steps are learned.

        Args:
            panel: the histories.
            horizon: the most steps ahead.
            count: of rows wanted.
            generator: of the draws.
        """
        from sirdar.forecasting import feature_kernels as kernels

        count = min(count, int(panel.history.sum()) * horizon)
        usable = np.flatnonzero(panel.history > 0)
        series = usable[generator.integers(0, len(usable), _CANDIDATES * count)]
        step = generator.integers(1, np.minimum(horizon, panel.history[series]) + 1)
        origin = generator.integers(0, panel.history[series] - step + 1)
        origin[generator.random(len(series)) < _FRESH] = 0
        known = panel.observed[panel.indptr[:-1][series] + origin + step - 1]
        series, step, origin = series[known], step[known], origin[known]
        demand = np.where(panel.observed, panel.target, np.float32(np.nan)).astype(np.float32)
        begin = panel.indptr[:-1][series]
        weight = np.sqrt(kernels.scales(demand, begin, begin + origin, np.array(self.shape[1]), self.reference))
        middle = np.median(weight) if len(weight) else 1.0
        weight = np.clip(weight, middle / _UNEVEN, middle * _UNEVEN)
        kept = generator.choice(len(series), min(count, len(series)), replace=False, p=weight / weight.sum())
        return series[kept], origin[kept], step[kept][:, None]

    def require(self, panel: Panel) -> None:
        """Raises ArgumentError when the panel is of another frequency, or lacks a covariate."""
        if panel.frequency.unit != self.unit:
            learned = Frequency(self.unit).name
            msg = f"the features were learned from {learned} demand, but the panel is {panel.frequency.name}"
            raise ArgumentError(msg)
        self.encoding.require(panel)

    def _history(self, demand: np.ndarray, begin: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from sirdar.forecasting import feature_kernels as kernels  # here, not above: it loads numba

        lags, windows, _ = self.shape
        steps = np.array(windows)
        middle, longest = windows[len(windows) // 2], windows[-1]
        scale = kernels.scales(demand, begin, now, steps, self.reference)
        place = now[:, None] - np.arange(1, lags + 1)
        past = _taken(demand, place, place >= begin[:, None]) / scale[:, None]
        age = np.log1p(np.minimum(now - begin, longest))
        parts = [
            past,
            kernels.moments(demand, begin, now, scale, steps),
            kernels.spread(demand, begin, now, scale, middle),
            kernels.pace(demand, begin, now, scale, longest),
            age[:, None],
            np.log(scale / self.reference)[:, None],
        ]
        return np.concatenate(parts, axis=1).astype(np.float32), scale

    def _history_names(self, lags: int, windows: tuple[int, ...]) -> list[str]:
        middle, longest = windows[len(windows) // 2], windows[-1]
        names = [f"lag {lag}" for lag in range(1, lags + 1)]
        names += [f"{what} of {window}" for window in windows for what in ("mean", "deviation", "zeros")]
        names += [f"quantile {level:g} of {middle}" for level in (0.25, 0.5, 0.75, 0.9, 1)]
        names += ["since last sale", "between sales", f"size of a sale in {longest}", "share observed"]
        return [*names, "age", "level"]

    def _own_names(self) -> list[str]:
        known = [name for name, *_ in self.encoding.known]
        names = ["step"]
        for cycle in self.shape[2]:
            names += [f"{what} of cycle {cycle}" for what in ("last", "mean of 4", "mean of 8", "index")]
        names += [*self._calendar_names(), *self.encoding.holidays, *(_PRICES if self.prices else ())]
        return names + [f"{name} at step" for name in known] + [f"{name} change" for name in known]

    @property
    def _dated(self) -> bool:
        """Whether a network may be told the calendar."""
        return self.unit != "W" or self.encoding.yearly

    def _cycles(
        self, demand: np.ndarray, begin: np.ndarray, now: np.ndarray, scale: np.ndarray, step: np.ndarray
    ) -> np.ndarray:
        from sirdar.forecasting import feature_kernels as kernels

        parts = [np.zeros((*step.shape, 0))]
        for cycle in self.shape[2]:
            lags = kernels.seasonal(demand, begin, now, scale, step, cycle)
            index = kernels.index_of(demand, begin, now, cycle, lags[..., 2] * scale[:, None])
            parts += [lags[..., :2], lags[..., 2:3], index[..., None]]
        return np.concatenate(parts, axis=2)

    def _calendar(self, panel: Panel, period: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Waves; ordinals, which trees split more easily; holidays."""
        periods = period[:, None] + step - 1
        waves = calendar_features(panel.frequency, periods, yearly=self.encoding.yearly)
        begins = panel.frequency.begins(periods)
        days = begins.astype("datetime64[D]")
        ordinals = []
        if panel.frequency.intraday:
            ordinals.append((begins - days).astype(np.int64) / 3600)
        if panel.frequency.week > 1:
            ordinals.append((days.astype(np.int64) - 4) % 7)
        if self.unit in {"D", "B", "W"}:
            ordinals.append((days - days.astype("datetime64[M]")).astype(np.int64) + 1)
        if self.encoding.yearly and panel.frequency.per_year > 1:
            ordinals.append((days - days.astype("datetime64[Y]")).astype(np.int64) / 366)
        holidays = holiday_features(panel.frequency, periods, self.encoding.country, self.encoding.holidays)
        return np.concatenate([waves, *(part[..., None].astype(np.float32) for part in ordinals), holidays], axis=-1)

    def _calendar_names(self) -> list[str]:
        yearly, intraday = self.encoding.yearly and self.unit != "Y", Frequency(self.unit).intraday
        waves = 10 if intraday else {"D": 6, "B": 4}.get(self.unit, 0)
        waves += {"M": 4, "Q": 4}.get(self.unit, 6) if yearly else 0
        daily = ["weekday", "day of month"]
        ordinals = {"D": daily, "B": daily, "W": daily[1:]}.get(self.unit, ["hour", "weekday"] if intraday else [])
        return [f"wave {number}" for number in range(waves)] + ordinals + (["place in year"] if yearly else [])

    def _price(self, source: "Source", series: np.ndarray, now: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Logarithms of the price at the target over the usual one, the one at the origin, and the line's."""
        if not self.prices:
            return np.zeros((*step.shape, 0))
        panel, column = source.panel, source.price
        seen = held(_before(panel, column, series, now, _PRICE_WINDOW))
        usual, latest = _mean(seen), seen[:, -1]
        then = latest[:, None]
        if panel.price in panel.future:
            after = _at(panel, column, series, now[:, None] + np.arange(int(step.max(initial=1))))
            after = held(np.concatenate([latest[:, None], after], axis=1))
            then = np.take_along_axis(after, step, axis=1)
        line = np.array(self.prices)[source.line[series]]
        parts = [then - usual[:, None], then - latest[:, None], then - line[:, None]]
        return np.stack([np.broadcast_to(part, step.shape) for part in parts], axis=-1)

    def _known(self, panel: Panel, series: np.ndarray, now: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Covariates known ahead: at the target, and their change since the origin."""
        at, change = [np.zeros((*step.shape, 0))], [np.zeros((*step.shape, 0))]
        place = now[:, None] + np.arange(int(step.max(initial=1)))
        beyond = place >= panel.indptr[1:][series][:, None]
        for name, centre, spread in self.encoding.known:
            column = panel.covariate(name)
            latest = carried(panel, name, _before(panel, column, series, now, _PRICE_WINDOW))[:, -1:]
            after = self.encoding.ended(name, _at(panel, column, series, place), beyond)
            held = np.take_along_axis(carried(panel, name, np.concatenate([latest, after], axis=1)), step, axis=1)
            value = self.encoding.scaled(name, held, centre, spread)
            before = self.encoding.scaled(name, latest, centre, spread)
            at.append(value[..., None])
            change.append((value - before)[..., None])
        return np.concatenate([*at, *change], axis=2)

    def _past(self, panel: Panel, series: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Covariates seen only afterwards: means over the last steps, 0 being the panel's mean."""
        parts = [np.zeros((len(series), 0))]
        for name, centre, spread in self.encoding.past:
            seen = _before(panel, panel.covariate(name), series, now, max(_RECENT))
            known = np.isfinite(seen)
            scaled = self.encoding.scaled(name, seen, centre, spread)
            parts += [(_mean(np.where(known, scaled, np.nan)[:, -steps:]))[:, None] for steps in _RECENT]
        return np.concatenate(parts, axis=1)

    @property
    def _lines(self) -> tuple[str, ...]:
        """Names of the product lines."""
        name, values = self._category
        return tuple(f"{name}={value}" for value in values) if self.prices else ()

    @property
    def _category(self) -> tuple[str, tuple[str, ...]]:
        """The static that tells product lines apart: that of fewest values, two at least."""
        several = [category for category in self.encoding.categories if len(category[1]) > 1]
        return min(several, key=lambda category: len(category[1]), default=("", ()))

    @property
    def _crossed(self) -> list[int]:
        """Columns that each line has for itself: what price does differs between lines."""
        if not self._lines:
            return []
        lags, windows, cycles = self.shape
        calendar = len(self._calendar_names()) + len(self.encoding.holidays)
        first = len(self._history_names(lags, windows)) + 1 + 4 * len(cycles) + calendar
        return list(range(first, first + 2))

    def _line(self, panel: Panel) -> Int64[np.ndarray, " series"]:
        """Which product line each series is of, -1 for none."""
        line = np.full(len(panel), -1, dtype=np.int64)
        if self._lines:
            name, values = self._category
            for number, value in enumerate(values):
                line[panel.static[name] == value] = number
        return line

    def _line_prices(self, panel: Panel) -> tuple[float, ...]:
        if panel.price is None:
            return ()
        column = np.where(panel.in_history, _log_price(panel), np.nan)
        known = np.isfinite(column)
        if not known.any():
            return ()
        whole = float(column[known].mean(dtype=np.float64))
        line = Features(self.encoding, self.unit, self.reference, self.words, (whole,))._line(panel)
        owner = line[panel.step_series]
        means = []
        for number in range(int(line.max(initial=-1)) + 1):
            chosen = known & (owner == number)
            means.append(float(column[chosen].mean(dtype=np.float64)) if chosen.any() else whole)
        return (*means, whole)


@dataclass(frozen=True)
class Source:
    """A panel made ready to give rows; `Features.on` makes it.

    Args:
        features: how it becomes rows.
        panel: the panel.
        demand: [step], NaN where it may not be learned from.
        told: the same as features tell it, spikes capped.
        unseen: steps of each series before its first demand, which tell nothing of it.
        static: float32 [series, column] of statics and words.
        line: which product line each series is of, -1 for none.
        price: [step], its logarithm; empty when the panel that was fitted had no price.
    """

    features: Features
    panel: Panel
    demand: Float32[np.ndarray, " steps"]
    told: Float32[np.ndarray, " steps"]
    unseen: Int64[np.ndarray, " series"]
    static: sparse.csr_matrix
    line: Int64[np.ndarray, " series"]
    price: np.ndarray

    def rows(
        self,
        series: Int64[np.ndarray, " pair"],
        origin: Int64[np.ndarray, " pair"],
        step: Int64[np.ndarray, "pair steps"],
    ) -> Rows:
        """See `Features.rows`."""
        history, ahead, past, scale = self._parts(series, origin, step, self.told)
        wide = [np.broadcast_to(part[:, None], (*step.shape, part.shape[1])) for part in (history, past)]
        block = np.concatenate([wide[0], ahead, wide[1]], axis=2)
        matrix = self._assembled(block.reshape(step.size, block.shape[2]), np.repeat(series, step.shape[1]))
        target = self._target(series, origin, step)
        return Rows(matrix, np.repeat(scale, step.shape[1]).astype(np.float32), target.reshape(-1))

    def pairs(
        self,
        series: Int64[np.ndarray, " pair"],
        origin: Int64[np.ndarray, " pair"],
        step: Int64[np.ndarray, "pair steps"],
    ) -> Pairs:
        """Dense features of pairs of a series and an origin, and of some steps ahead of each, as of `rows`."""
        history, ahead, past, scale = self._parts(series, origin, step, self.demand)
        features, static = self.features, self.static[series].toarray()
        history[:, _AGE] = np.minimum(history[:, _AGE], np.log1p(np.float32(_OLD)))
        words = static.shape[1] - len(features.words.words)
        static[:, words:] *= (origin <= self.unseen[series])[:, None]
        if not features._dated:
            dates = 1 + 4 * len(features.shape[2])
            ahead = np.delete(ahead, slice(dates, dates + len(features._calendar_names())), axis=2)
        shared = np.concatenate([history, past, static], axis=1)
        return Pairs(shared, ahead, scale.astype(np.float32), self._target(series, origin, step))

    def _parts(
        self, series: np.ndarray, origin: np.ndarray, step: np.ndarray, seasonal: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Columns that every product line has: of the history, of each step, of past covariates; and the scales.

        A network needs the size of a yearly peak, `seasonal`, as it was; a forest that it was far above the others.
        """
        panel, features = self.panel, self.features
        now = panel.indptr[:-1][series] + origin
        begin = now - np.maximum(origin - self.unseen[series], 0)
        history, scale = features._history(self.told, begin, now)
        ahead = [
            step[..., None],
            features._cycles(seasonal, begin, now, scale, step),
            features._calendar(panel, panel.start[series] + origin, step),
            features._price(self, series, now, step),
            features._known(panel, series, now, step),
        ]
        past = features._past(panel, series, now).astype(np.float32)
        return history, np.concatenate([part.astype(np.float32) for part in ahead], axis=2), past, scale

    def _target(self, series: np.ndarray, origin: np.ndarray, step: np.ndarray) -> np.ndarray:
        place = (self.panel.indptr[:-1][series] + origin)[:, None] + step - 1
        return _taken(self.demand, place, place < self.panel.indptr[1:][series][:, None])

    def _assembled(self, block: np.ndarray, owner: np.ndarray) -> sparse.csr_matrix:
        from sirdar.forecasting import feature_kernels as kernels

        crossed = np.array(self.features._crossed, dtype=np.int64)
        static: Any = self.static
        first = block.shape[1] + static.shape[1]
        arrays = (static.data, static.indices.astype(np.int64), static.indptr.astype(np.int64))
        data, indices, indptr = kernels.sparse_rows(block, owner, arrays, self.line, crossed, first)
        width = first + len(self.features._lines) * len(crossed)
        return sparse.csr_matrix((data, indices, indptr), shape=(len(block), width), copy=False)


def as_features(stored: dict[str, Any], encoding: Encoding) -> Features:
    """A `Features` from its JSON and its encoding, lists back to tuples."""
    words = Words(tuple(map(str, stored["words"]["columns"])), tuple(map(str, stored["words"]["words"])))
    prices = tuple(float(price) for price in stored["prices"])
    return Features(encoding, str(stored["unit"]), float(stored["reference"]), words, prices)


def _log_price(panel: Panel) -> np.ndarray:
    assert panel.price is not None
    price = panel.future[panel.price] if panel.price in panel.future else panel.past[panel.price]
    return np.log(np.where(price > 0, price, np.nan))


def _taken(column: np.ndarray, place: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values of a per-step array at places in it; NaN where these are not inside."""
    if not len(column):
        return np.full(place.shape, np.nan, dtype=np.float32)
    return np.where(inside, column[np.where(inside, place, 0)], np.float32(np.nan)).astype(np.float32)


def _at(panel: Panel, column: np.ndarray, series: np.ndarray, place: np.ndarray) -> np.ndarray:
    inside = (place >= panel.indptr[:-1][series][:, None]) & (place < panel.indptr[1:][series][:, None])
    return _taken(column, place, inside)


def _before(panel: Panel, column: np.ndarray, series: np.ndarray, now: np.ndarray, steps: int) -> np.ndarray:
    return _at(panel, column, series, now[:, None] + np.arange(-steps, 0))


def _mean(values: np.ndarray) -> np.ndarray:
    """Of each row's known values; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)
