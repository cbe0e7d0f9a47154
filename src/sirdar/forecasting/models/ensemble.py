# SPDX-License-Identifier: Apache-2.0
"""A plain ensemble: the mean of the members' quantiles, level by level (Vincent averaging)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from sirdar.errors import ArgumentError
from sirdar.forecasting import storage
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast

_KINDS: dict[str, type] = {"mq-cnn": MQCNN, "textbook": Textbook}


def average(forecasts: list[Forecast]) -> Forecast:
    """The mean of quantiles; a mean of rising rows rises, so nothing can cross."""
    first = forecasts[0]
    values = np.mean([forecast.values for forecast in forecasts], axis=0, dtype=np.float64).astype(np.float32)
    return Forecast(first.ids, first.start, first.frequency, first.levels, values, first.floor, native=first.native)


class Ensemble:
    """Several forecasters, trained on the same panel and averaged.

    Args:
        members: at least one forecaster by name, all of one horizon and the same levels.
    """

    def __init__(self, members: Mapping[str, Forecaster]) -> None:
        if not members:
            msg = "an ensemble needs at least one member"
            raise ArgumentError(msg)
        horizons = {name: member.horizon for name, member in members.items()}
        if len(set(horizons.values())) > 1:
            msg = f"the members of an ensemble must share one horizon, got {horizons}"
            raise ArgumentError(msg)
        self.members = dict(members)
        self.horizon = next(iter(horizons.values()))

    def fit(self, panel: Panel) -> Self:
        """Fits every member."""
        for member in self.members.values():
            member.fit(panel)
        return self

    def predict(self, panel: Panel) -> Forecast:
        """The average of the members' quantiles."""
        return average([member.predict(panel) for member in self.members.values()])

    def save(self, path: str | Path) -> None:
        """Writes one folder per member under `path`."""
        kinds = {name: "mq-cnn" if isinstance(member, MQCNN) else "textbook" for name, member in self.members.items()}
        storage.write(Path(path), {"model": "ensemble", "members": kinds}, {})
        for name, member in self.members.items():
            member.save(Path(path) / name)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote."""
        config, _ = storage.read(Path(path), model="ensemble")
        return cls({name: _KINDS[kind].load(Path(path) / name) for name, kind in config["members"].items()})
