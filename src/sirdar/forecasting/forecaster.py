# SPDX-License-Identifier: Apache-2.0
"""`Forecaster`: what every rung of the ladder can do."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast

if TYPE_CHECKING:
    from sirdar.forecasting.attribution import Attribution


@runtime_checkable
class Trainable(Protocol):
    """Learns from a panel, forecasts any panel of the same frequency: all that a backtest needs."""

    @property
    def horizon(self) -> int:
        """Steps that it forecasts."""
        ...

    def fit(self, panel: Panel) -> "Trainable":
        """Learns from the panel's history and answers itself."""
        ...

    def predict(self, panel: Panel) -> Forecast:
        """The quantiles of the `horizon` steps after each series' history."""
        ...


@runtime_checkable
class Forecaster(Trainable, Protocol):
    """One that can be kept."""

    def fit(self, panel: Panel) -> "Forecaster":
        """Learns from the panel's history and answers itself."""
        ...

    def save(self, path: str | Path) -> None:
        """Writes everything that `load` needs into the folder `path`, over what it saved there before."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> "Forecaster":
        """Reads what `save` wrote: JSON and safetensors, nothing executable."""
        ...


@runtime_checkable
class Updating(Protocol):
    """A forecaster that can go on from what it has learned."""

    def update(self, panel: Panel) -> "Forecaster":
        """Learns from new data and answers itself."""
        ...


class Explained:
    """What a forecaster without gradients inherits, to explain a forecast."""

    def explain(self: Forecaster, panel: Panel, series: str, *, level: float = 0.5) -> "Attribution":
        """What moved one series' forecast: Shapley values of its inputs, see `attribution.sampled`."""
        from sirdar.forecasting import attribution  # it imports this module, and torch

        return attribution.sampled(self, panel, series, level=level)
