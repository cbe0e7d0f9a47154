# SPDX-License-Identifier: Apache-2.0
"""The second rung: a point forecaster between a seasonal component, a price component and a Distribution Engine.

History is freed of season and price, forecast, given both back, and past errors of exactly that become the quantiles.
Products without history start from their look-alikes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64

from sirdar.errors import ArgumentError, UnsupportedError, require_positive_integer
from sirdar.forecasting import ladder, storage
from sirdar.forecasting.addons.distribution import DistributionEngine, Scale
from sirdar.forecasting.addons.elasticity import PriceElasticity
from sirdar.forecasting.addons.history import History, adjusted, codes, longest, shared_statics
from sirdar.forecasting.addons.lookalike import LookAlikes
from sirdar.forecasting.addons.seasonal import SeasonalProfile, cycles_of
from sirdar.forecasting.addons.state import pack, unpack
from sirdar.forecasting.forecaster import Explained, Forecaster
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, Forecast, Frequency
from sirdar.predictive.forecast import require_levels

COMPONENTS = ("season", "price")
_MEANS = {"tsb", "croston", "adida"}  # methods whose point is a mean that their median does not show
_SAMPLE = 600  # series whose past errors are looked at
_WORTH = 0.995  # of the error without a component: what it must beat to be kept
_MORE = 2  # origins, at most, for flags that were not set after the last ones
_GROUPS = 20
_TIMES, _CYCLES = 4, 3  # of the mean history, and of the longest cycle: no history is longer
_SEASONS, _STEPS = 20, 2000  # nor is it longer than both, but for the cycles: theta's time grows faster than its steps


@dataclass(frozen=True)
class _Effects:
    """The fitted components; None for one that is left out."""

    season: SeasonalProfile | None
    price: PriceElasticity | None

    def of(self, panel: Panel, length: int, ahead: int = 0) -> np.ndarray:
        """Their product over the last `length` steps and `ahead` after them."""
        result = np.ones((len(panel), length + ahead), dtype=np.float32)
        for part in (self.season, self.price):
            if part is not None:
                result = result * part.effect(panel, length, ahead)
        return result


class AddOns(Explained):
    """A point forecaster with seasons, prices, past errors and look-alikes added on.

    Of what changes from step to step it sees the price, flags of promotion or event, and rivals' prices. Any other
    covariate, such as a temperature known ahead, changes nothing: SQRF and the networks look at those.

    Args:
        horizon: steps to forecast.
        around: the point forecaster: a textbook method by name, or any untrained forecaster of this horizon, of whose
            quantiles the mean is taken.
        levels: quantile levels.
        components: of "season" and "price", those to try, alone and together; kept are those that lowered the error
            at past origins, of which up to two more are looked at for flags that were set in earlier times alone.
        promotions: covariates that are flags of promotion or event; those that are always 0 or 1 when None.
        cross: covariates that are rivals' prices.
        market: statics that series must share to be rivals of each other, see `addons.elasticity.PriceElasticity`.
        category: text static within which price effects are pooled; the coarsest one that series share when None.
        conformal: whether quantiles carry the split-conformal guarantee, see `addons.distribution`.
        origins: past origins whose errors are used.
    """

    def __init__(  # noqa: PLR0913 - each a keyword of its own
        self,
        horizon: int,
        around: str | Forecaster = "theta",
        *,
        levels: Sequence[float] = DECILES,
        components: Sequence[str] = COMPONENTS,
        promotions: Sequence[str] | None = None,
        cross: Sequence[str] = (),
        market: Sequence[str] = (),
        category: str | None = None,
        conformal: bool = False,
        origins: int = 3,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        components = (components,) if isinstance(components, str) else components
        unknown = sorted(set(components) - set(COMPONENTS))
        if unknown:
            msg = f"components must be of {', '.join(COMPONENTS)}, got {unknown[0]!r}"
            raise ArgumentError(msg)
        self._named = around if isinstance(around, str) else None
        self.around = _point_forecaster(around, horizon, seasonal="season" not in components)
        self.components, self.category, self.conformal = tuple(components), category, conformal
        self.promotions = None if promotions is None else tuple(promotions)
        self.cross = (cross,) if isinstance(cross, str) else tuple(cross)
        self.market = (market,) if isinstance(market, str) else tuple(market)
        self.origins = require_positive_integer(origins, "origins")
        self.kept: tuple[str, ...] = ()  # components that were worth it
        self._effects = _Effects(None, None)
        self._engine = DistributionEngine(self.levels, conformal)
        self._lookalikes = LookAlikes(horizon, self.levels)
        self._groups: tuple[str, list[str]] | None = None
        self._whole = False  # whether all demand learned from was of whole numbers
        self._counts = False  # whether none of it was negative
        self._most = 0  # steps of history that are looked at
        self._unit = ""  # of the calendar learned from; empty for none yet

    @property
    def elasticity(self) -> PriceElasticity | None:
        """The fitted price component, if it was kept."""
        return self._effects.price

    def fit(self, panel: Panel) -> "AddOns":
        """Chooses components and learns errors at past origins, then fits all on the whole history.

        Raises:
            ArgumentError: nothing was observed.
        """
        panel.require_observed()
        self._most = _most(panel)
        self._lookalikes = LookAlikes(self.horizon, self.levels).fit(panel)  # a history that is cut begins later
        panel = _recent(panel, self._most)
        self._counts = panel.counts
        if self._named is not None:
            # The seasonal component is multiplicative: where demand falls below zero the method seeks a season as well.
            seasonal = "season" not in self.components or not self._counts
            self.around = _point_forecaster(self._named, self.horizon, seasonal=seasonal)
        shared = {name: values for name, values in shared_statics(panel).items() if len(values) <= _GROUPS}
        self._groups = next(iter(shared.items()), None)
        rows = np.flatnonzero(panel.observations() > 0)
        if len(rows) > _SAMPLE:
            rows = np.sort(np.random.default_rng(0).choice(rows, _SAMPLE, replace=False))
        self._learn_errors(panel.select(rows))
        self._effects = self._fitted(panel, self.kept)
        effect = self._effects.of(panel, longest(panel))
        self.around.fit(adjusted(panel, effect))
        self._whole = panel.whole
        self._unit = panel.frequency.unit
        return self

    def update(self, panel: Panel) -> "AddOns":
        """The same as `fit`: seasons, prices and errors are learned anew in little time, and from all that is known."""
        return self.fit(panel)

    def predict(self, panel: Panel) -> Forecast:
        """Quantiles after each series' history; of those without any, what their look-alikes sold at first."""
        self._require_learned()
        if panel.frequency.unit != self._unit:
            learned = Frequency(self._unit).name
            msg = f"these AddOns learned {learned} demand, but the panel is {panel.frequency.name}"
            raise ArgumentError(msg)
        floor = panel.floors(counts=self._counts)
        panel = _recent(panel, self._most)
        known = panel.observations() > 0
        values = np.zeros((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        if known.any():
            chosen = panel.select(known)
            point, scale = self._point(chosen, self._effects)
            values[known] = self._engine.quantiles(point, scale, floor=np.broadcast_to(floor, len(panel))[known])
        if not known.all():
            values[~known] = self._lookalikes.quantiles(panel.select(~known))
        if self._whole:
            # Of whole numbers quantiles are whole; an error added to a forecast is not. A bound that holds for them
            # holds when rounded: y <= q and y <= floor(q) are then one.
            values = np.round(values)
        return panel.forecast(self.levels, values, floor)

    def save(self, path: str | Path) -> None:
        """Writes everything learned into the folder `path`, and the point forecaster into the folder `around` in it.

        Raises:
            ArgumentError: nothing was learned yet.
            UnsupportedError: the point forecaster is none of this package's, so `load` could not build it.
        """
        kind = ladder.kind_of(self.around)
        if kind is None:
            msg = f"add-ons around a {type(self.around).__name__} cannot be stored; those around a rung can"
            raise UnsupportedError(msg)
        self._require_learned()
        tensors: dict[str, torch.Tensor] = {}
        names = ("components", "promotions", "cross", "market", "category", "conformal", "origins")
        season, price = self._effects.season, self._effects.price
        learned = {
            "season": None if season is None else season.state(),
            "price": None if price is None else price.state(),
            "engine": self._engine.state(),
            "lookalikes": self._lookalikes.state(),
        }
        arguments = {"horizon": self.horizon, "levels": self.levels}
        config = {
            "model": "add-ons",
            "arguments": arguments | {name: getattr(self, name) for name in names},
            "around": kind,
            "named": self._named,
            "kept": self.kept,
            "groups": self._groups,
            "whole": self._whole,
            "counts": self._counts,
            "unit": self._unit,
            "most": self._most,
            "learned": pack(learned, tensors, "learned"),
        }
        storage.write(Path(path), config, tensors, {"around": self.around.save})

    @classmethod
    def load(cls, path: str | Path) -> "AddOns":
        """Reads what `save` wrote."""
        path = storage.standing(Path(path))
        with storage.opened(path, model="add-ons") as (config, tensors):
            around = ladder.class_of(config["around"]).load(path / "around")
            model = cls(**config["arguments"] | {"around": around})
            model._named = config["named"]
            learned = unpack(config["learned"], tensors)
            model.kept = tuple(config["kept"])
            model._groups = None if config["groups"] is None else (config["groups"][0], list(config["groups"][1]))
            model._effects = _Effects(
                None if learned["season"] is None else SeasonalProfile.from_state(learned["season"]),
                None if learned["price"] is None else PriceElasticity.from_state(learned["price"]),
            )
            model._engine = DistributionEngine.from_state(learned["engine"])
            model._lookalikes = LookAlikes.from_state(learned["lookalikes"])
            model._whole, model._counts = config["whole"], config.get("counts", True)
            model._unit = Frequency(config["unit"]).unit
            model._most = int(config.get("most", 2**62))  # folders written before this was learned looked at all
            return model

    def _require_learned(self) -> None:
        if not self._unit:
            msg = "these AddOns have not learned anything yet: call fit(panel) first"
            raise ArgumentError(msg)

    def _fitted(self, panel: Panel, names: Sequence[str]) -> _Effects:
        """Components of these names; price with season first divided out."""
        season = SeasonalProfile().fit(panel) if "season" in names else None
        if "price" not in names:
            return _Effects(season, None)
        category = self.category or next(iter(shared_statics(panel)), None)
        price = PriceElasticity(cross=self.cross, promotions=self._flags(panel), market=self.market, category=category)
        return _Effects(season, price.fit(panel, None if season is None else season.effect(panel, longest(panel))))

    def _flags(self, panel: Panel) -> tuple[str, ...]:
        """The promotions; where none were named, what is known ahead and always 0 or 1, or the value of a text."""
        if self.promotions is not None:
            known = [*panel.future, *panel.past]
            values = {name: [part for part in known if panel.text_of(part) == name] for name in self.promotions}
            return tuple(part for name in self.promotions for part in values[name] or [name])
        flags = []
        for name, column in panel.future.items():
            values = column[np.isfinite(column)]
            flag = panel.text_of(name) is not None or bool(np.isin(values, (0, 1)).all())
            if name != panel.price and len(values) and flag and values.min() < values.max():
                flags.append(name)
        return tuple(flags)

    def _learn_errors(self, panel: Panel) -> None:
        """Keeps the components whose errors at past origins are least; the engine learns from the last ones."""
        cuts, options = _cuts(panel, self.horizon, self.origins), self._options(panel)
        more = self._telling(panel, cuts) if any("price" in names for names in options) else []
        # Before some origins nothing may have been observed.
        cuts, more = ([steps for steps in some if panel.cut(steps).observed.any()] for some in (cuts, more))
        pasts = [panel.cut(steps) for steps in (*cuts, *more)]
        pasts = [past.select(past.observations() > 0) for past in pasts]
        actual = [past.actuals(self.horizon).astype(np.float64) for past in pasts]
        pasts = [past.known() for past in pasts]  # a caller's own forecaster may read past the end of history
        best, least = [], np.inf
        for names in options:
            found = [self._at(past, names) for past in pasts]
            loss = sum(float(np.nansum(np.abs(y - point))) for y, (point, _) in zip(actual, found, strict=True))
            if loss < _WORTH * least:
                best, least, self.kept = found, loss, names
        points, scales = zip((np.zeros((0, self.horizon)), _no_scale(self.horizon)), *best[: len(cuts)], strict=True)
        followed = np.concatenate([points[0], *actual[: len(cuts)]])
        engine = DistributionEngine(self.levels, self.conformal)
        self._engine = engine.fit(followed, np.concatenate(points), _joined(list(scales)))

    def _options(self, panel: Panel) -> list[tuple[str, ...]]:
        """The components to try, alone and together."""
        usable = {
            "season": True,
            # A logarithm knows nothing below zero; a ratio of sums bears some returns among sales.
            "price": self._counts and bool(panel.price is not None or self.cross or self._flags(panel)),
        }
        names = [name for name in COMPONENTS if name in self.components and usable[name] and len(panel)]
        return [(), *[(name,) for name in names], *([tuple(names)] if len(names) > 1 else [])]

    def _telling(self, panel: Panel, cuts: Sequence[int]) -> list[int]:
        """How far back origins lie that are followed by flags which were not set after those of `cuts`: last Easter.

        Before such an origin the flag must have been set as well, or its effect would not be known there.
        """
        length, more = longest(panel), []
        tested = np.zeros(length + self.horizon, dtype=bool)
        for steps in cuts:
            tested[length - steps : length - steps + self.horizon] = True
        for name in self._flags(panel):
            times = np.flatnonzero((panel.tail(panel.covariate(name), length) > 0).any(axis=0))
            if len(times) < 2 or tested[times].any():
                continue
            begin = int(times[-1]) - self.horizon // 2
            if times[0] < begin and begin >= 2 * self.horizon and len(more) < _MORE:
                tested[begin : begin + self.horizon] = True
                more.append(length - begin)
        return more

    def _at(self, past: Panel, names: tuple[str, ...]) -> tuple[Float64[np.ndarray, "series horizon"], Scale]:
        """Point forecasts at an origin with these components, see `_point`."""
        effects = self._fitted(past, names)
        self.around.fit(adjusted(past, effects.of(past, longest(past))))
        return self._point(past, effects)

    def _point(self, panel: Panel, effects: _Effects) -> tuple[Float64[np.ndarray, "series horizon"], Scale]:
        """Point forecasts with all effects put back, and what the engine asks of each series."""
        length = longest(panel)
        effect = effects.of(panel, length, self.horizon)
        cleaned = adjusted(panel, effect[:, :length])
        ahead = effect[:, length:].astype(np.float64)
        point = expectation(self.around.predict(cleaned)) * ahead
        scale = Scale.of(History.of(cleaned).demand, max(4 * self.horizon, 28), self._group(panel))
        return np.nan_to_num(point), replace(scale, effect=ahead)

    def _group(self, panel: Panel) -> Int64[np.ndarray, " series"]:
        if self._groups is None or self._groups[0] not in panel.static:
            return np.zeros(len(panel), dtype=np.int64)
        return codes(panel.static[self._groups[0]], self._groups[1])


def _most(panel: Panel) -> int:
    """Steps of history to look at: farther back lies that of few series, and arrays are as long as the longest."""
    mean = float(panel.history.mean()) if len(panel) else 0.0
    cycles = cycles_of(panel.frequency)
    least, enough = _CYCLES * cycles[-1].steps if cycles else 0, max(_SEASONS * panel.frequency.season, _STEPS)
    return max(least, min(math.ceil(_TIMES * mean), enough))


def _recent(panel: Panel, most: int) -> Panel:
    return panel.recent(most) if longest(panel) > most else panel


def expectation(forecast: Forecast) -> Float64[np.ndarray, "series horizon"]:
    """The mean of piecewise linear quantiles with exponential tails, in closed form; a lone level itself."""
    values, level = forecast.values.astype(np.float64), np.asarray(forecast.levels)
    if len(level) == 1:
        return values[..., 0]
    middle = ((values[..., 1:] + values[..., :-1]) / 2 * np.diff(level)).sum(axis=2)
    low = (values[..., 1] - values[..., 0]) / np.log(level[1] / level[0])
    high = (values[..., -1] - values[..., -2]) / np.log((1 - level[-2]) / (1 - level[-1]))
    first = np.maximum(values[..., 0] - low, np.reshape(forecast.floor, (-1, 1)))
    return middle + first * level[0] + (values[..., -1] + high) * (1 - level[-1])


def _point_forecaster(around: str | Forecaster, horizon: int, *, seasonal: bool) -> Forecaster:
    if isinstance(around, str):
        # The component takes the season out, and a textbook method that looks for one of 52 steps again is slow.
        season = None if seasonal or around == "seasonal-naive" else 1
        return Textbook(horizon, around, levels=DECILES if around in _MEANS else (0.5,), season=season)
    if around.horizon != horizon:
        msg = f"the forecaster inside must have the horizon {horizon}, got {around.horizon}"
        raise ArgumentError(msg)
    return around


def _cuts(panel: Panel, horizon: int, origins: int) -> list[int]:
    """How far back the past origins lie: a horizon apart, closer where history is short."""
    length = int(np.median(panel.history)) if len(panel) else 0
    room = length - 3 * horizon
    if room < 0:
        return [horizon] if length > horizon else []
    stride = max(1, min(horizon, room // origins))
    return [horizon + stride * index for index in range(min(origins, 1 + room // stride))]


def _no_scale(horizon: int) -> Scale:
    whole = np.zeros(0, dtype=np.int64)
    return Scale(np.zeros(0), np.zeros(0), whole, whole, np.zeros((0, horizon)))


def _joined(scales: list[Scale]) -> Scale:
    parts = zip(*[(s.mean, s.variation, s.count, s.group, s.effect) for s in scales], strict=True)
    return Scale(*[np.concatenate(part) for part in parts])
