# SPDX-License-Identifier: Apache-2.0
"""Rolling-origin evaluation: every model is trained anew at each origin and scored on what followed."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from sirdar.errors import ArgumentError, DataError, nearest, require_positive_integer
from sirdar.forecasting.cluster import Cluster
from sirdar.forecasting.forecaster import Trainable
from sirdar.forecasting.ladder import ENSEMBLE, LADDER, NAIVE
from sirdar.forecasting.meter import Meter
from sirdar.forecasting.models.ensemble import average
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.seasons import scale_of, season_of
from sirdar.predictive import Forecast, msis, scores


@dataclass(frozen=True)
class Score:
    """One row of the leaderboard; shares are in 0 ... 1.

    `coverage_80` counts ties at the ends of the interval by their share, see `predictive.scores.coverage`;
    `closed_coverage_80` counts them whole. `sql` and `msis_80` (of the interval from 0.1 to 0.9) are scaled as `mase`.
    `cpu_seconds` and `peak_memory_bytes` are explained in `meter.Meter`.
    """

    model: str
    wql: float
    mase: float
    coverage_80: float
    closed_coverage_80: float
    crossing_rate: float
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    sql: float
    msis_80: float
    wql_by_origin: tuple[float, ...]


@dataclass(frozen=True)
class Origin:
    """One origin: the forecasts made there, and what followed."""

    label: str  # the last period seen
    ids: list[str]
    actual: Float32[np.ndarray, "series horizon"]
    scale: np.ndarray  # of MASE, [series]
    forecasts: dict[str, Forecast]


@dataclass(frozen=True)
class Backtest:
    """What a backtest found; `scores` stand best first, and `why` holds what a ladder says of its choice at the end."""

    scores: list[Score]
    origins: list[Origin]
    season: int
    horizon: int
    why: dict[str, str] = field(default_factory=dict)

    @property
    def winner(self) -> str:
        """The model of the least weighted quantile loss."""
        return self.scores[0].model

    @property
    def counts(self) -> bool:
        """Whether all demand was whole numbers, none negative."""
        actual = np.concatenate([origin.actual.ravel() for origin in self.origins])
        return bool((~np.isfinite(actual) | ((actual >= 0) & (actual == np.floor(actual)))).all())

    def correlation(self, model: str) -> float:
        """Lag-one correlation of a model's errors, for `Forecast.correlation`."""
        actual, values, levels = self._pooled(model)
        return scores.lag_one_correlation(actual, values, levels)

    def calibration(self, model: str) -> list[tuple[float, float]]:
        """(level, observed share) of a model: equal when it is right."""
        actual, values, levels = self._pooled(model)
        shares = scores.observed_share(actual, values, levels, counts=self.counts and len(levels) > 1)
        return [(float(level), float(share)) for level, share in zip(levels, shares, strict=True)]

    def _pooled(self, model: str) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        if model not in self.origins[0].forecasts:
            known = self.origins[0].forecasts
            msg = f"no model {model!r} was backtested; there are {', '.join(known)}.{nearest(model, known)}"
            raise ArgumentError(msg)
        forecasts = [origin.forecasts[model] for origin in self.origins]
        if len(levels := {forecast.levels for forecast in forecasts}) > 1:
            msg = f"model {model!r} must forecast the same levels at all origins, got {sorted(levels)}"
            raise ArgumentError(msg)
        return (
            np.concatenate([origin.actual for origin in self.origins]),
            np.concatenate([forecast.values for forecast in forecasts]),
            forecasts[0].levels,
        )


def backtest(
    models: Mapping[str, Trainable | Callable[[], Trainable]],
    panel: Panel,
    *,
    windows: int = 3,
    stride: int | None = None,
    ensemble: bool = True,
    season: int | None = None,
    progress: Callable[[str, float], None] | None = None,
    cluster: str | None = None,
) -> Backtest:
    """Scores models on the last `windows` origins of a panel.

    At each origin a series takes part that has been observed at least once before it. Models are given what was known
    there: of the steps after it only the covariates that are known ahead.

    Args:
        models: forecasters by name, or functions without arguments that build a fresh one; `save` and `load` are not
            needed.
        panel: the history.
        windows: number of origins.
        stride: steps between origins; the horizon when None, so that no step is scored twice.
        ensemble: also score the average of all models but the seasonal naive and the ladder, when there are at least
            two.
        season: steps in a season, for the scale of MASE; when None that of the calendar, or 1 while the longer half of
            the series have seen less than two of them.
        progress: called with a text and the share of work done.
        cluster: where models train: None for this process, one after the other; "local" for all cores of this machine,
            or the address of a Ray cluster, see `cluster.Cluster`. Forecasts are the same; there panels cannot be
            written to.

    Raises:
        ArgumentError: there is no model, their horizons differ, one has the ensemble's name, or answers anything but a
            forecast of the horizon for the series and from the steps that it was shown.
        DataError: the history is too short; says how short, and for which series.
    """
    require_positive_integer(windows, "windows")
    built = _build_all(models)
    members = [name for name in built if name not in {NAIVE, LADDER}]
    ensemble = ensemble and len(members) > 1
    horizon = _shared_horizon(built, ensemble=ensemble)
    stride = horizon if stride is None else require_positive_integer(stride, "stride")
    _refuse_short(panel, horizon, windows, stride)
    season = season_of(panel) if season is None else require_positive_integer(season, "season")
    meters = {name: Meter() for name in ([*built, ENSEMBLE] if ensemble else built)}
    origins, why = [], {}
    with Cluster(cluster) as machines:
        pasts = (_past(panel, horizon + (windows - 1 - window) * stride, window, windows) for window in range(windows))
        begun = ((past, machines.map(_answer, past.known(), built.items())) for past in pasts)
        for window, (past, answers) in enumerate(begun if cluster is None else list(begun)):
            forecasts = {}
            for index, name in enumerate(built):
                if progress is not None:
                    progress(f"origin {window + 1}/{windows}: {name}", (window + index / len(built)) / windows)
                answer = next(answers)
                forecasts[name] = answer.forecast
                meters[name].add(answer.meter)
                why |= answer.why
            if ensemble:
                with meters[ENSEMBLE].running():
                    forecasts[ENSEMBLE] = average([forecasts[name] for name in members])
            origins.append(_origin(past, horizon, season, forecasts))
    if ensemble:
        for name in members:
            meters[ENSEMBLE].add(meters[name])
    if progress is not None:
        progress("scores", 1.0)
    result = Backtest([], origins, season, horizon, why)
    rows = [_score(name, result, meter) for name, meter in meters.items()]
    return replace(result, scores=sorted(rows, key=lambda row: (np.isnan(row.wql), row.wql)))


class _Answer(NamedTuple):
    """What one model made of one origin."""

    forecast: Forecast
    meter: Meter
    why: dict[str, str]


def _answer(shown: Panel, job: tuple[str, Trainable]) -> _Answer:
    name, model = job
    meter = Meter()
    with meter.running():
        fitted: object = model.fit(shown)
        if not isinstance(fitted, Trainable):
            msg = f"model {name!r}: fit must answer the forecaster itself, got {type(fitted).__name__}"
            raise ArgumentError(msg)
        forecast = fitted.predict(shown)
    _refuse_other(name, forecast, shown, model.horizon)
    return _Answer(forecast, meter, {name: model.why()} if isinstance(model, Ladder) else {})


def _refuse_other(name: str, forecast: object, shown: Panel, horizon: int) -> None:
    """An answer that is no forecast of the panel shown would be scored on other series or dates."""
    wrong = ""
    if not isinstance(forecast, Forecast):
        wrong = f"answer a Forecast, such as `panel.forecast` makes, got {type(forecast).__name__}"
    elif list(forecast.ids) != shown.ids:
        got = f"got {len(forecast.ids)}: {_listed(forecast.ids)}"
        wrong = f"forecast the {len(shown)} series of the panel in its order, {got}"
    elif forecast.frequency != shown.frequency or not np.array_equal(forecast.start, shown.end):
        wrong = "forecast from the step after each series' history on, which is `panel.end`"
    elif forecast.horizon != horizon:
        wrong = f"forecast {horizon} steps, its horizon, got {forecast.horizon}"
    if wrong:
        msg = f"model {name!r}: predict must {wrong}"
        raise ArgumentError(msg)


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _past(panel: Panel, steps: int, window: int, windows: int) -> Panel:
    """The series that were observed before an origin, as they stood there."""
    past = panel.cut(steps)
    past = past.select(past.observations() > 0)
    if not len(past):
        msg = f"nothing was observed before origin {window + 1} of {windows}; lower the number of windows"
        raise DataError(msg)
    return past  # shown to models as `known`, since a caller's own may read past the end of history


def _build_all(models: object) -> dict[str, Trainable]:
    """The forecasters by name, built where functions were given.

    Raises:
        ArgumentError: something else was given; says what.
    """
    if not isinstance(models, Mapping):
        msg = f"models must be forecasters by name, such as {{'mine': model}}, got {type(models).__name__}"
        raise ArgumentError(msg)
    return {name: _built(name, model) for name, model in models.items()}


def _built(name: str, model: object) -> Trainable:
    # A class whose horizon is a property looks like a forecaster itself.
    if isinstance(model, Trainable) and not isinstance(model, type):
        return model
    wanted = f"model {name!r} must be a forecaster, with horizon, fit and predict, or a function that builds one"
    if not callable(model):
        msg = f"{wanted}, got {model!r}"
        raise ArgumentError(msg)
    if needed := _needed(model):
        msg = f"{wanted} without arguments, got one that needs {', '.join(needed)}"
        raise ArgumentError(msg)
    made = model()
    if not isinstance(made, Trainable):
        msg = f"{wanted}, got one of {type(made).__name__}"
        raise ArgumentError(msg)
    return made


def _needed(function: Callable[..., object]) -> list[str]:
    """The arguments that a function cannot be called without."""
    try:
        given = inspect.signature(function).parameters.values()
    except ValueError:  # written in C
        return []
    return [
        one.name for one in given if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]


def _shared_horizon(models: Mapping[str, Trainable], *, ensemble: bool) -> int:
    if not models:
        msg = "there is no model to backtest"
        raise ArgumentError(msg)
    if ensemble and ENSEMBLE in models:
        msg = f"no model may be called {ENSEMBLE!r}, the name of the average of all; rename it or pass ensemble=False"
        raise ArgumentError(msg)
    horizons = {name: model.horizon for name, model in models.items()}
    if len(set(horizons.values())) > 1:
        msg = f"models to compare must share one horizon, got {horizons}"
        raise ArgumentError(msg)
    return next(iter(horizons.values()))


def _refuse_short(panel: Panel, horizon: int, windows: int, stride: int) -> None:
    """The first origin must leave at least twice the horizon of history in some series."""
    if not len(panel):
        msg = "the panel has no series to backtest on"
        raise DataError(msg)
    needed = 3 * horizon + (windows - 1) * stride
    longest = int(np.argmax(panel.history))
    if panel.history[longest] < needed:
        steps = int(panel.history[longest])
        msg = (
            f"the history is too short for the backtest: {windows} origins of horizon {horizon} need {needed} steps, "
            f"but the longest series, {panel.ids[longest]!r}, has {steps}; lower the horizon or the number of windows"
        )
        raise DataError(msg)
    if not np.isfinite(panel.cut(horizon).actuals(horizon)).any():
        msg = f"nothing was observed in the last {horizon} steps of any series, so no forecast can be scored"
        raise DataError(msg)


def _origin(past: Panel, horizon: int, season: int, forecasts: dict[str, Forecast]) -> Origin:
    last = past.frequency.written(past.frequency.labels(np.array([int(past.end.max()) - 1])))[0]
    return Origin(last, past.ids, past.actuals(horizon), scale_of(past, season), forecasts)


def _score(model: str, result: Backtest, meter: Meter) -> Score:
    actual, values, levels = result._pooled(model)
    scale = np.concatenate([origin.scale for origin in result.origins])
    forecasts = [origin.forecasts[model] for origin in result.origins]
    median = np.concatenate([np.full_like(f.values[..., 0], np.nan) if f.lone else f.median() for f in forecasts])
    by_origin = [scores.wql(origin.actual, origin.forecasts[model].values, levels) for origin in result.origins]
    return Score(
        model,
        wql=scores.wql(actual, values, levels),
        mase=scores.mase(actual, median, scale),
        coverage_80=_between(actual, values, levels, partial(scores.coverage, counts=result.counts)),
        closed_coverage_80=_between(
            actual, values, levels, lambda y, q, _: scores.closed_coverage(y, q[..., 0], q[..., -1])
        ),
        crossing_rate=scores.crossing_rate(values),
        seconds=meter.seconds,
        cpu_seconds=meter.cpu_seconds,
        peak_memory_bytes=meter.peak_bytes,
        sql=scores.sql(actual, values, levels, scale),
        msis_80=_between(actual, values, levels, lambda y, q, _: msis(y, q[..., 0], q[..., -1], scale, alpha=0.2)),
        wql_by_origin=tuple(by_origin),
    )


def _between(actual: np.ndarray, values: np.ndarray, levels: tuple[float, ...], measure: Callable[..., float]) -> float:
    """The measure on the levels from 0.1 to 0.9; NaN when these are not forecast."""
    inside = [index for index, level in enumerate(levels) if 0.1 <= level <= 0.9]
    if not inside or levels[inside[0]] != 0.1 or levels[inside[-1]] != 0.9:
        return float("nan")
    return measure(actual, values[..., inside], [levels[index] for index in inside])
