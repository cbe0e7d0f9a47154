# SPDX-License-Identifier: Apache-2.0
"""What moved a forecast: integrated gradients where there are gradients, sampled Shapley values where there are none.

A network's shares lead from "zero was sold, average covariates" to what it saw; those of other forecasters from "always
its own mean, usual covariates".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from torch import Tensor

from sirdar.errors import ArgumentError, nearest
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Inputs, Windows

if TYPE_CHECKING:
    from sirdar.forecasting.neural import NeuralForecaster

_STEPS = 64  # of the midpoint rule
_PAIRS = 3  # orders drawn, each with its reverse
_ALONE = 8  # latest steps of demand, each with a share of its own; older ones share by blocks that double
_DEMAND = "demand"
_ROUNDING = 1e-12  # of a forecast: what is less is no share
BASELINE = "baseline"


@dataclass(frozen=True)
class Attribution:
    """The forecast total of one series, shared out among its inputs.

    Args:
        series: its id.
        level: the quantile level.
        total: forecast units over the whole horizon.
        baseline: what is forecast when zero was sold at every observed step and all covariates are average; of
            feed-forward, when all features are average; of `sampled`, when all demand was the series' mean and all
            covariates are usual.
        parts: (input, period, share in units); the period is None for a static, and "first/last" for several steps.
            Shares add up to total - baseline: of feed-forward, and of a network whose window shows no sale, but for
            the error of integration, else exactly.
    """

    series: str
    level: float
    total: float
    baseline: float
    parts: list[tuple[str, str | None, float]]

    def by_input(self) -> dict[str, float]:
        """Units by input, over all periods; the largest first."""
        sums: dict[str, float] = {}
        for name, _, share in self.parts:
            sums[name] = sums.get(name, 0.0) + share
        return dict(sorted(sums.items(), key=lambda item: -abs(item[1])))

    def to_frame(self) -> pl.DataFrame:
        """Columns input, period, units."""
        return pl.DataFrame(
            self.parts, schema={"input": pl.String, "period": pl.String, "units": pl.Float64}, orient="row"
        )


def explain(forecaster: "NeuralForecaster", panel: Panel, series: str, *, level: float) -> Attribution:
    """Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365, equation 1) of a forecast's total.

    Args:
        forecaster: a trained network.
        panel: what it forecasts.
        series: the id to explain.
        level: which of the forecaster's quantile levels.

    Raises:
        ArgumentError: the panel has no such series, or the forecaster no such level.
    """
    row, at = row_of(panel, series), place_of(level, forecaster.levels)
    module, _ = forecaster.inference()
    windows = forecaster._windows(panel)
    seen = windows.inputs(np.array([row]))
    blank = Inputs(*(torch.zeros_like(part) for part in seen))._replace(observed=seen.observed)

    def total(inputs: Inputs) -> Tensor:
        return module(*inputs)[..., at].sum(dim=1)

    gradients = _mean_gradients(total, seen, blank)
    parts = [((a - b) * g)[0].numpy() for a, b, g in zip(seen, blank, gradients, strict=True)]
    shares = dict(zip(Inputs._fields, parts, strict=True))
    with torch.no_grad():
        ends = total(seen).item(), total(blank).item()
    shares["demand"] = _with_the_first_sale(shares, ends[0] - ends[1])
    return Attribution(series, level, *ends, _named(shares, windows, panel, series))


def row_of(panel: Panel, series: str) -> int:
    """Where the series stands in the panel; an ArgumentError when it does not."""
    if series not in panel.ids:
        msg = f"the panel has no series {series!r}.{nearest(series, panel.ids)}"
        raise ArgumentError(msg)
    return panel.ids.index(series)


def place_of(level: float, levels: Sequence[float]) -> int:
    """Which of the levels it is; an ArgumentError when it is none."""
    level = round(level, 9)  # as `require_levels` has them
    if level not in levels:
        msg = f"level must be one of the forecaster's, {', '.join(f'{q:g}' for q in levels)}, got {level!r}"
        raise ArgumentError(msg)
    return list(levels).index(level)


def sampled(forecaster: Forecaster, panel: Panel, series: str, *, level: float) -> Attribution:
    """Shapley values of a forecast's total by sampling (Castro, Gomez and Tejada 2009), for any forecaster.

    Inputs turn from usual to seen one after the other, in a few orders and their reverses, and each is given the change
    that its turn made. Usual are the series' mean demand, its median of each covariate, the panel's median of a numeric
    static and no value of a text one. The calendar is no input: it is part of the baseline. A covariate that changes
    no step, neither beside all others nor alone, has no share.

    Args:
        forecaster: a fitted one.
        panel: what it forecasts.
        series: the id to explain.
        level: which of the forecaster's quantile levels.

    Raises:
        ArgumentError: the panel has no such series, or the forecaster no such level.
    """
    row, shown = row_of(panel, series), panel.known()
    # A series without history is forecast like others of the panel: they have to be in it.
    others = np.arange(0 if shown.observations()[row] else len(panel))

    def forecasts(inputs: list[_Input], seen: np.ndarray) -> np.ndarray:
        """Every step of versions of the series [version, input]; one that several are alike is forecast once."""
        packed, place = np.unique(np.packbits(seen, axis=1), axis=0, return_inverse=True)
        distinct = np.unpackbits(packed, axis=1, count=len(inputs)).astype(bool)
        versions = shown.select(np.concatenate([np.full(len(distinct), row), others]))
        _hide(versions, inputs, ~distinct)
        forecast = forecaster.predict(versions)
        return forecast.values[: len(distinct), :, place_of(level, forecast.levels)][place.reshape(-1)]

    inputs = _telling(_inputs(shown.select(np.array([row])), shown, forecaster.horizon), forecasts)
    generator = np.random.default_rng(0)
    orders = [generator.permutation(len(inputs)) for _ in range(_PAIRS)]
    orders += [order[::-1] for order in orders]
    turns = np.stack([np.argsort(order) for order in orders])  # [order, input]: when its turn comes
    seen = turns[:, None, :] < np.arange(len(inputs) + 1)[:, None]  # [order, turns taken, input]
    reached = forecasts(inputs, np.concatenate(list(seen))).sum(axis=1, dtype=np.float64).reshape(seen.shape[:2])
    shares = np.take_along_axis(np.diff(reached, axis=1), turns, axis=1).mean(axis=0)
    parts = [
        (_called(part), part.period, float(share))
        for part, share in zip(inputs, shares, strict=True)
        if abs(share) > _ROUNDING * abs(reached).max()
    ]
    return Attribution(series, level, float(reached[0, -1]), float(reached[0, 0]), parts)


class _Input(NamedTuple):
    """Something that a forecaster sees of a series, and what it would see usually."""

    name: str
    period: str | None
    role: str  # a field of `Panel`
    steps: slice  # of the series
    usual: Any


def _inputs(alone: Panel, panel: Panel, horizon: int) -> list[_Input]:
    """Those of a panel of one series that are not what they usually are."""
    history, steps = int(alone.history[0]), len(alone.target)
    labels = alone.frequency.written(alone.frequency.labels(alone.start[0] + np.arange(steps)))

    def period(begin: int, end: int) -> str:
        return labels[begin] if end - begin == 1 else f"{labels[begin]}/{labels[end - 1]}"

    found = []
    demand = np.where(alone.observed, alone.target, np.float32(np.nan))
    end = history
    while end > 0:
        begin = max(0, end - max(1, (history - end) // 2) if history - end >= _ALONE else end - 1)
        found.append(_Input(_DEMAND, period(begin, end), "target", slice(begin, end), _mean(demand)))
        end = begin
    ahead = [slice(step, step + 1) for step in range(history, min(steps, history + horizon))]
    for role, columns in (("past", alone.past), ("future", alone.future)):
        for name, column in columns.items():
            usual = np.nanmedian(column) if np.isfinite(column).any() else np.nan
            for part in [slice(0, history), *(ahead if role == "future" else [])]:
                if part.stop > part.start:
                    found.append(_Input(name, period(part.start, part.stop), role, part, usual))
    for name, column in panel.static.items():
        text = column.dtype == object
        usual = None if text else np.nanmedian(column) if np.isfinite(column).any() else np.nan
        found.append(_Input(name, None, "static", slice(0, 1), usual))
    return [part for part in found if _differs(_column(alone, part)[part.steps], part.usual)]


def _telling(inputs: list[_Input], forecasts: Callable[[list[_Input], np.ndarray], np.ndarray]) -> list[_Input]:
    """The inputs but for those of covariates that change no step, beside all others or alone.

    Of whole units a total may be by chance what it was, and so may every step: demand is always kept.
    """
    columns = [(part.role, part.name) for part in inputs]
    names = list(dict.fromkeys(columns))
    groups = np.array([a == b for a in names for b in columns]).reshape(len(names), len(inputs))
    groups = groups.astype(bool)  # of nothing it is an array of numbers
    whole = np.ones((1, len(inputs)), dtype=bool)
    found = forecasts(inputs, np.concatenate([whole, ~whole, ~groups, groups]))
    without, alone = np.split(found[2:], 2)
    told = np.any(groups[((without != found[0]) | (alone != found[1])).any(axis=1)], axis=0)
    return [part for part, tells in zip(inputs, told, strict=True) if tells or part.role == "target"]


def _called(part: _Input) -> str:
    return part.name if part.role == "target" else named(part.name)


def named(column: str) -> str:
    """What a covariate is called beside demand and the baseline."""
    return f"{column} (covariate)" if column in (_DEMAND, BASELINE) else column


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _differs(values: np.ndarray, usual: Any) -> bool:  # noqa: ANN401
    if usual is None:
        return values[0] is not None
    return bool((np.isfinite(values) & (values != np.float32(usual))).any())


def _column(alone: Panel, part: _Input) -> np.ndarray:
    return alone.target if part.role == "target" else getattr(alone, part.role)[part.name]


def _hide(versions: Panel, inputs: list[_Input], hidden: Bool[np.ndarray, "version input"]) -> None:
    """Makes inputs usual in the first series of a panel, which are versions of one series."""
    count = len(hidden)
    for number, part in enumerate(inputs):
        stop = count if part.role == "static" else int(versions.indptr[count])
        window = _column(versions, part)[:stop].reshape(count, -1)[:, part.steps]  # a view: writing changes the panel
        known = np.isfinite(window) if part.usual is not None else True  # what is not known stays so
        window[np.broadcast_to(hidden[:, number, None], window.shape) & known] = part.usual


def _mean_gradients(total: Any, seen: Inputs, blank: Inputs) -> list[Tensor]:  # noqa: ANN401
    """Gradients along the straight path, all points of it in one batch."""
    along = (torch.arange(_STEPS) + 0.5) / _STEPS
    path = []
    for there, here in zip(seen, blank, strict=True):
        share = along.view(-1, *[1] * (there.ndim - 1))
        path.append((here + share * (there - here)).requires_grad_())
    gradients = torch.autograd.grad(total(Inputs(*path)).sum(), path, allow_unused=True)
    return [torch.zeros_like(x).mean(0) if g is None else g.mean(0) for g, x in zip(gradients, path, strict=True)]


def _with_the_first_sale(shares: dict[str, np.ndarray], gained: float) -> np.ndarray:
    """Shares of demand, by their sizes given what all lack of the gain.

    A network sees demand in units of its own size: from zero to the least sale a forecast jumps, before any point of
    the path.
    """
    demand, lacking = shares["demand"], gained - sum(float(part.sum()) for part in shares.values())
    size = np.abs(demand)
    return demand + lacking * size / size.sum() if size.any() else demand


def _named(
    shares: dict[str, np.ndarray], windows: Windows, panel: Panel, series: str
) -> list[tuple[str, str | None, float]]:
    """Each share with its input and period; zeros are left out."""
    encoding, length = windows.encoding, windows.length
    end = int(panel.end[panel.ids.index(series)])
    labels = panel.frequency.written(panel.frequency.labels(np.arange(end - length, end + windows.horizon)))
    past, known = (
        [named(name) for name, *_ in own] + [f"{name} against usual" for name, _ in encoding.usual if name in role]
        for own, role in ((encoding.past, panel.past), (encoding.known, panel.future))
    )
    waves = shares["known"].shape[1] - len(encoding.holidays) - len(known)
    parts: list[tuple[str, str | None, float]] = [
        (_DEMAND, label, float(x)) for label, x in zip(labels, shares["demand"], strict=False)
    ]
    for column, name in enumerate(past):
        parts += [(name, label, float(x)) for label, x in zip(labels, shares["past"][:, column], strict=False)]
    for column, name in enumerate(["calendar"] * waves + [*encoding.holidays, *known]):
        parts += [(name, label, float(x)) for label, x in zip(labels, shares["known"][:, column], strict=True)]
    statics = [name for name, *_ in encoding.static] + [name for name, values in encoding.categories for _ in values]
    statics = [named(name) for name in statics]
    parts += [(name, None, float(x)) for name, x in zip(statics, shares["static"], strict=True)]
    return [part for part in parts if part[2] != 0]
