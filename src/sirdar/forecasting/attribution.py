# SPDX-License-Identifier: Apache-2.0
"""What moved a forecast: integrated gradients from "no demand, average covariates" to what the network saw."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sirdar.errors import ArgumentError, nearest
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Inputs, Windows

if TYPE_CHECKING:
    from sirdar.forecasting.neural import NeuralForecaster

_STEPS = 64  # of the midpoint rule


@dataclass(frozen=True)
class Attribution:
    """The forecast total of one series, shared out among its inputs.

    Args:
        series: its id.
        level: the quantile level.
        total: forecast units over the whole horizon.
        baseline: what the network forecasts when no demand was seen and all covariates are average.
        parts: (input, period, share in units); the period is None for a static. Shares add up to total - baseline, but
            for the error of integration.
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
    if series not in panel.ids:
        msg = f"the panel has no series {series!r}.{nearest(series, panel.ids)}"
        raise ArgumentError(msg)
    if level not in forecaster.levels:
        msg = f"level must be one of the forecaster's, {', '.join(f'{q:g}' for q in forecaster.levels)}, got {level!r}"
        raise ArgumentError(msg)
    module, _ = forecaster.inference()
    windows = forecaster._windows(panel)
    seen = windows.inputs(np.array([panel.ids.index(series)]))
    blank = Inputs(*(torch.zeros_like(part) for part in seen))._replace(observed=seen.observed)
    at = forecaster.levels.index(level)

    def total(inputs: Inputs) -> Tensor:
        return module(*inputs)[..., at].sum(dim=1)

    gradients = _mean_gradients(total, seen, blank)
    parts = [((a - b) * g)[0].numpy() for a, b, g in zip(seen, blank, gradients, strict=True)]
    shares = dict(zip(Inputs._fields, parts, strict=True))
    with torch.no_grad():
        ends = total(seen).item(), total(blank).item()
    return Attribution(series, level, *ends, _named(shares, windows, panel, series))


def _mean_gradients(total: Any, seen: Inputs, blank: Inputs) -> list[Tensor]:  # noqa: ANN401
    """Gradients along the straight path, all points of it in one batch."""
    along = (torch.arange(_STEPS) + 0.5) / _STEPS
    path = []
    for there, here in zip(seen, blank, strict=True):
        share = along.view(-1, *[1] * (there.ndim - 1))
        path.append((here + share * (there - here)).requires_grad_())
    gradients = torch.autograd.grad(total(Inputs(*path)).sum(), path, allow_unused=True)
    return [torch.zeros_like(x).mean(0) if g is None else g.mean(0) for g, x in zip(gradients, path, strict=True)]


def _named(
    shares: dict[str, np.ndarray], windows: Windows, panel: Panel, series: str
) -> list[tuple[str, str | None, float]]:
    """Each share with its input and period; zeros are left out."""
    encoding, length = windows.encoding, windows.length
    end = int(panel.end[panel.ids.index(series)])
    labels = panel.frequency.labels(np.arange(end - length, end + windows.horizon)).astype("datetime64[s]").astype(str)
    waves = shares["known"].shape[1] - len(encoding.holidays) - len(encoding.known)
    parts: list[tuple[str, str | None, float]] = [
        ("demand", label, float(x)) for label, x in zip(labels, shares["demand"], strict=False)
    ]
    for column, (name, *_) in enumerate(encoding.past):
        parts += [(name, label, float(x)) for label, x in zip(labels, shares["past"][:, column], strict=False)]
    known = ["calendar"] * waves + [*encoding.holidays, *(name for name, *_ in encoding.known)]
    for column, name in enumerate(known):
        parts += [(name, label, float(x)) for label, x in zip(labels, shares["known"][:, column], strict=True)]
    statics = [name for name, *_ in encoding.static] + [name for name, values in encoding.categories for _ in values]
    parts += [(name, None, float(x)) for name, x in zip(statics, shares["static"], strict=True)]
    return [part for part in parts if part[2] != 0]
