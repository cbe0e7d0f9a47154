# SPDX-License-Identifier: Apache-2.0
"""The first rung: one textbook model per series, by statsforecast, all with quantiles.

Seasonal naive, AutoETS (Hyndman et al. 2008), the dynamic optimised theta model (Fiorucci et al. 2016), complex
exponential smoothing (Svetunkov, Kourentzes & Ord 2022), AutoARIMA (Hyndman & Khandakar 2008) and, for intermittent
demand, TSB (Teunter, Syntetos & Babai 2011), Croston in Syntetos & Boylan's form (2005) and ADIDA (Nikolopoulos et al.
2011).
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float32

from sirdar.errors import ArgumentError, nearest, require_positive_integer
from sirdar.forecasting import gaps, storage
from sirdar.forecasting.addons import lookalike
from sirdar.forecasting.addons.lookalike import LookAlikes
from sirdar.forecasting.forecaster import Explained
from sirdar.forecasting.models.newcomers import SHORTEST, Sequel, sequels, spread
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.seasons import season_of
from sirdar.forecasting.spikes import without_spikes
from sirdar.predictive import DECILES, Forecast
from sirdar.predictive.forecast import require_levels

METHODS = {
    "seasonal-naive": "the value one season ago, or the last one where history is too short for that",
    "auto-ets": "exponential smoothing, chosen by AICc",
    "theta": "dynamic optimised theta",
    "ces": "complex exponential smoothing, chosen by AICc",
    "auto-arima": "ARIMA, chosen by AICc; slow, the more so with a long season",
    "tsb": "Teunter-Syntetos-Babai for intermittent demand",
    "croston": "Croston's method in Syntetos and Boylan's form",
    "adida": "intermittent demand aggregated to its mean interval, smoothed, disaggregated",
}
_INTERMITTENT = {"tsb", "croston", "adida"}
_SALES_ONLY = {"tsb", "croston"}  # for demand that falls below zero they are ADIDA
_RECENT = 52
_FARTHEST = 5.0  # ranges of a series' history beyond it: what lies farther is an explosion, not a forecast


class Learned(NamedTuple):
    """What all series share, so that the forecast of one does not depend on which others are asked for with it."""

    unit: str  # of the calendar
    season: int
    counts: bool  # demand was never negative
    sequels: Sequence[Sequel] = ()  # of few observations; older folders have none
    alike: LookAlikes | None = None  # what products without history are forecast by; likewise

    @classmethod
    def of(cls, panel: Panel, horizon: int, levels: Sequence[float]) -> "Learned":
        """That of a panel; the season is the one that histories long enough for a model can bear."""
        modelled = panel.select(panel.observations() >= SHORTEST)
        season = season_of(modelled) if len(modelled) else 1
        alike = LookAlikes(horizon, levels).fit(panel)
        return cls(panel.frequency.unit, season, panel.counts, sequels(panel, horizon, levels), alike)


class Textbook(Explained):
    """One statsforecast model per series.

    Args:
        horizon: steps to forecast.
        method: one of `METHODS`.
        levels: quantile levels.
        season: steps in a season; when None, that of the calendar of the panel fitted, once its histories can bear it.
        workers: processes; all cores when None.
    """

    def __init__(
        self,
        horizon: int,
        method: str = "auto-ets",
        *,
        levels: Sequence[float] = DECILES,
        season: int | None = None,
        workers: int | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        if method not in METHODS:
            msg = f"unknown textbook method {method!r}; known are {', '.join(METHODS)}.{nearest(method, METHODS)}"
            raise ArgumentError(msg)
        self.method, self.levels = method, require_levels(levels)
        self.season = None if season is None else require_positive_integer(season, "season")
        self.workers = None if workers is None else require_positive_integer(workers, "workers")
        self.learned: Learned | None = None

    def fit(self, panel: Panel) -> "Textbook":
        """Learns the season that the histories can bear, whether demand falls below zero, and how products began.

        Each series is fitted when it is forecast.
        """
        self.learned = Learned.of(panel, self.horizon, self.levels)
        return self

    def update(self, panel: Panel) -> "Textbook":
        """The same as `fit`: there is nothing to go on from."""
        return self.fit(panel)

    def predict(self, panel: Panel) -> Forecast:
        """Quantiles after each series' history.

        Series with fewer than eight observations get what longer ones of the panel fitted went on to sell after as few
        of about their mean, mixed with the spread of their own past; where there are not eight such, that spread,
        widened. Those with none get what their look-alikes among them sold at first, zero if there are none. Croston
        and TSB know sales alone: where demand falls below zero ADIDA stands in for them. These models know no missing
        values: intermittent methods skip gaps, which for the others are filled from both sides, the spread being
        widened by the root of the share that was filled; from a gap at the end they forecast on.
        """
        count, shared = panel.observations(), self._shared(panel)
        values = np.zeros((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        short = np.flatnonzero((count > 0) & (count < SHORTEST))
        if len(short):
            values[short] = spread(_recent(panel.select(short)), self.levels, shared.sequels)[:, None]
        rows = np.flatnonzero(count >= SHORTEST)
        if len(rows):
            chosen = panel.select(rows)
            point, bounds = self._statsforecast(chosen, self.season or shared.season)
            values[rows] = self._around(chosen, point) if bounds is None else bounds
        if (count == 0).any():
            alike = shared.alike or LookAlikes(self.horizon, self.levels).fit(panel)
            alike.mix_into(values, panel)
        values = np.maximum.accumulate(values, axis=2)
        return panel.forecast(self.levels, values, panel.floors(counts=shared.counts))

    def save(self, path: str | Path) -> None:
        """Writes config.json into the folder `path`, and what look-alikes are known by as weights.safetensors."""
        names = ("horizon", "method", "levels", "season", "workers")
        arguments = {name: getattr(self, name) for name in names}
        learned, tensors = self.learned, {}
        alike = lookalike.stored(None if learned is None else learned.alike, tensors)
        told = None if learned is None else learned[:-1]
        storage.write(
            Path(path), {"model": "textbook", "arguments": arguments, "learned": told, "alike": alike}, tensors
        )

    @classmethod
    def load(cls, path: str | Path) -> "Textbook":
        """Reads what `save` wrote."""
        with storage.opened(Path(path), model="textbook") as (config, tensors):
            forecaster, learned = cls(**config["arguments"]), config.get("learned")  # older folders have none
            if learned is not None:
                unit, season, counts, *more = learned
                known = [Sequel(*sequel) for sequel in more[0]] if more else []
                forecaster.learned = Learned(unit, season, counts, known, lookalike.restored(config, tensors))
            return forecaster

    def _shared(self, panel: Panel) -> Learned:
        """What was learned; the panel's own where nothing was, or of another calendar."""
        learned = self.learned
        if learned is None or learned.unit != panel.frequency.unit:
            return Learned.of(panel, self.horizon, self.levels)
        return learned

    def _statsforecast(self, panel: Panel, season: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Point forecasts [series, horizon] and, where the model states intervals, quantiles."""
        bands = None if self.method in _INTERMITTENT else _bands(self.levels)
        whole = gaps.skipped(panel) if bands is None else gaps.filled(panel, season, max(season, self.horizon))
        point, quantiles = self._run(whole, bands, self._model(self.method, season))
        if self.method in _SALES_ONLY:  # what it takes for no demand is left out of its mean: returns
            net = np.flatnonzero(_least(panel) < 0)
            if len(net):
                point[net], _ = self._run(whole.of(net), bands, self._model("adida", season))
        failed = np.flatnonzero(
            ~np.isfinite(point).all(axis=1) | _exploded(panel, point if quantiles is None else quantiles)
        )
        if len(failed):  # less history than a season, for one; the last value stands in
            point[failed], repaired = self._run(whole.of(failed), bands, _naive())
            if quantiles is not None and repaired is not None:
                quantiles[failed] = repaired
        if quantiles is None:
            return point, None
        # A model that has a point forecast but no spread: the point then stands for all levels.
        return point, np.where(np.isfinite(quantiles), quantiles, point[..., None])

    def _run(self, whole: gaps.Whole, bands: list[float] | None, model: object) -> tuple[np.ndarray, np.ndarray | None]:
        """One statsforecast model on every series; whatever overflows float32 is NaN."""
        from statsforecast import StatsForecast  # a second to import: only when a textbook model runs

        # n_jobs starts processes, which costs more than it saves on a small panel.
        workers = 1 if len(whole.after) < 500 else self.workers or os.cpu_count() or 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "too few residuals" and the like, once per series
            engine = StatsForecast(models=[model], freq=1, n_jobs=workers, fallback_model=_naive())
            reach = self.horizon + int(whole.after.max())
            answer: Any = engine.forecast(df=whole.frame, h=reach, level=cast("Any", bands))
        answer = answer.sort("unique_id", "ds")
        rows, steps = np.arange(len(whole.after))[:, None], whole.after[:, None] + np.arange(self.horizon)

        def column(name: str) -> np.ndarray:
            return _bounded(answer[name].to_numpy().reshape(-1, reach)[rows, steps])

        point = column("model")
        if bands is None:
            return point, None
        quantiles = np.stack([column(_column(level)) for level in self.levels], axis=-1)
        if self.method == "ces":  # a constant series has its bands in another order there, under the others' names
            quantiles.sort(axis=-1)
        middle, share = point[..., None], whole.share[:, None, None]
        wider = middle + (quantiles - middle) / np.sqrt(share)
        return point, np.where(share < 1, wider, quantiles)  # what was filled in fits too well

    @staticmethod
    def _model(method: str, season: int) -> object:
        from statsforecast import models

        table: dict[str, Any] = {
            "seasonal-naive": lambda: models.SeasonalNaive(season, alias="model") if season > 1 else _naive(),
            "auto-ets": lambda: models.AutoETS(season_length=season, alias="model"),
            "theta": lambda: models.DynamicOptimizedTheta(season_length=season, alias="model"),
            "ces": lambda: models.AutoCES(season_length=season, alias="model"),
            "auto-arima": lambda: models.AutoARIMA(season_length=season, approximation=True, alias="model"),
            "tsb": lambda: models.TSB(alpha_d=0.2, alpha_p=0.2, alias="model"),
            "croston": lambda: models.CrostonSBA(alias="model"),
            "adida": lambda: models.ADIDA(alias="model"),
        }
        return table[method]()

    def _around(self, panel: Panel, point: np.ndarray) -> np.ndarray:
        """Quantiles for a model that states only a mean: the shape of recent demand, moved to that mean."""
        recent = _recent(panel)
        mean = np.nanmean(without_spikes(recent), axis=1)[:, None]
        spread = _tailed(recent, self.levels)[:, None, :]
        scaled = (mean > 0) & (np.nanmin(recent, axis=1) >= 0)[:, None]
        ratio = np.maximum(point / np.where(scaled, mean, 1), 0)
        # Where returns take sales away the mean says nothing of their size: there the shape is moved instead.
        return np.where(scaled[..., None], spread * ratio[..., None], spread + (point - mean)[..., None])


def _naive() -> object:
    from statsforecast import models

    return models.Naive(alias="model")


def _bounded(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < np.finfo(np.float32).max, values, np.nan)


def _exploded(panel: Panel, values: np.ndarray) -> np.ndarray:
    """Series of which a quantile, or a point, lies many times the range of their history away from it."""
    low, high = _least(panel), -_least(replace(panel, target=-panel.target))
    reach = _FARTHEST * np.maximum(high - low, np.abs(high))
    flat = values.reshape(len(values), -1)
    return np.any((flat > (high + reach)[:, None]) | (flat < (low - reach)[:, None]), axis=1)


def _least(panel: Panel) -> Float32[np.ndarray, " series"]:
    """The least demand observed of each series, all of which were."""
    rows, seen = panel.step_series[panel.observed], panel.target[panel.observed]
    return np.minimum.reduceat(seen, np.searchsorted(rows, np.arange(len(panel))))


def _seen(panel: Panel) -> Float32[np.ndarray, " steps"]:
    return np.where(panel.observed, panel.target, np.float32(np.nan))


def _recent(panel: Panel) -> Float32[np.ndarray, "series time"]:
    """The last 52 steps; of a series that was not observed in them, those up to its last observation."""
    seen = _seen(panel)
    tail = panel.tail(seen, _RECENT)
    lost = np.logical_not(np.isfinite(tail).any(axis=1))
    if lost.any():
        tail = np.where(lost[:, None], replace(panel, history=panel.seen_to()).tail(seen, _RECENT), tail)
    return tail


def _tailed(recent: Float32[np.ndarray, "series time"], levels: Sequence[float]) -> Float32[np.ndarray, "series level"]:
    """Quantiles of each series' demand, with exponential tails beyond the levels that its observations can show.

    The most and the least of n observations stand for the levels 1 - 1/2n and 1/2n. Tails go on from there, at the
    rate from the outer deciles to them.
    """
    found = np.nanquantile(recent, [*levels, 0, 0.1, 0.9, 1], axis=1).T
    values, least, low, high, most = np.split(found, len(levels) + np.arange(4), axis=1)
    shown = 0.5 / np.maximum(np.isfinite(recent).sum(axis=1), SHORTEST)[:, None]
    below, above = np.asarray(levels), 1 - np.asarray(levels)
    scale = np.log(0.1 / shown)
    values = np.where(below < shown, least - (low - least) / scale * np.log(shown / below), values)
    return np.where(above < shown, most + (most - high) / scale * np.log(shown / above), values).astype(np.float32)


def _bands(levels: Sequence[float]) -> list[float]:
    return sorted({_band(level) for level in levels if level != 0.5}) or [80.0]


def _band(level: float) -> float:
    return round(abs(2 * level - 1) * 100, 6)


def _column(level: float) -> str:
    if level == 0.5:
        return "model"
    band = _band(level)
    return f"model-{'lo' if level < 0.5 else 'hi'}-{band}"
