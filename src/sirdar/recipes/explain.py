# SPDX-License-Identifier: Apache-2.0
"""Forecasts of single products taken apart, as a table."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import polars as pl

from sirdar.errors import UnsupportedError
from sirdar.forecasting.attribution import BASELINE, Attribution
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.panel import Panel


@runtime_checkable
class _Explaining(Protocol):
    def explain(self, panel: Panel, series: str, *, level: float) -> Attribution: ...


def explained(forecaster: Forecaster, panel: Panel, series: str, levels: Sequence[float]) -> Attribution:
    """What moved a product's median, or the level next to it."""
    if not isinstance(forecaster, _Explaining):
        msg = f"a {type(forecaster).__name__} cannot explain its forecasts"
        raise UnsupportedError(msg)
    return forecaster.explain(panel, series, level=min(levels, key=lambda level: abs(level - 0.5)))


def explanations_frame(found: Sequence[Attribution]) -> pl.DataFrame:
    """One row per product, input and period, first the baseline: units of a product add up to its forecast."""
    rows = [(one.series, one.level, *part) for one in found for part in [(BASELINE, None, one.baseline), *one.parts]]
    columns = {"unique_id": pl.String, "level": pl.Float64, "input": pl.String, "period": pl.String}
    return pl.DataFrame(rows, schema=columns | {"units": pl.Float64}, orient="row")
