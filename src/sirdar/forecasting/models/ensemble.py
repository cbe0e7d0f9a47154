# SPDX-License-Identifier: Apache-2.0
"""A plain ensemble: the mean of the members' quantiles, level by level (Vincent averaging)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sirdar.errors import ArgumentError, DataError, UnsupportedError
from sirdar.forecasting import storage
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast

_KINDS: dict[str, type] = {"mq-cnn": MQCNN, "textbook": Textbook}


def average(forecasts: list[Forecast]) -> Forecast:
    """The mean of quantiles; a mean of rising rows rises, so nothing can cross.

    Raises:
        ArgumentError: there is none, or they differ in levels, horizon or series.
    """
    if not forecasts:
        msg = "there is no forecast to average"
        raise ArgumentError(msg)
    first = forecasts[0]
    for other in forecasts[1:]:
        _refuse_different(first, other)
    stacked = np.stack([forecast.values for forecast in forecasts])
    values = np.asarray(stacked.mean(axis=0, dtype=np.float64), dtype=np.float32)
    floor = min(forecast.floor for forecast in forecasts)
    return Forecast(first.ids, first.start, first.frequency, first.levels, values, floor, native=first.native)


def _refuse_different(first: Forecast, other: Forecast) -> None:
    if tuple(first.levels) != tuple(other.levels):
        msg = f"forecasts to average must share their levels, got {first.levels} and {other.levels}"
        raise ArgumentError(msg)
    if first.horizon != other.horizon:
        msg = f"forecasts to average must share one horizon, got {first.horizon} and {other.horizon}"
        raise ArgumentError(msg)
    if list(first.ids) != list(other.ids) or not np.array_equal(first.start, other.start):
        msg = "forecasts to average must be of the same series from the same periods on"
        raise ArgumentError(msg)


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

    def fit(self, panel: Panel) -> "Ensemble":
        """Fits every member."""
        for member in self.members.values():
            member.fit(panel)
        return self

    def predict(self, panel: Panel) -> Forecast:
        """The average of the members' quantiles."""
        return average([member.predict(panel) for member in self.members.values()])

    def save(self, path: str | Path) -> None:
        """Writes one folder per member under `path`, numbered, since a member's name need not be a file's.

        Raises:
            UnsupportedError: a member is of a kind that `load` could not build.
        """
        kinds = [[name, _kind(name, member)] for name, member in self.members.items()]
        storage.write(Path(path), {"model": "ensemble", "members": kinds}, {})
        for number, member in enumerate(self.members.values()):
            member.save(Path(path) / f"member-{number}")

    @classmethod
    def load(cls, path: str | Path) -> "Ensemble":
        """Reads what `save` wrote."""
        config, _ = storage.read(Path(path), model="ensemble")
        members = {}
        for number, (name, kind) in enumerate(config["members"]):
            if kind not in _KINDS:
                msg = f"{path}: holds a member of unknown kind {kind!r}; known are {', '.join(_KINDS)}"
                raise DataError(msg)
            members[name] = _KINDS[kind].load(Path(path) / f"member-{number}")
        return cls(members)


_KINDS["ensemble"] = Ensemble


def _kind(name: str, member: Forecaster) -> str:
    for kind, build in _KINDS.items():
        if isinstance(member, build):
            return kind
    msg = f"member {name!r} is a {type(member).__name__}, which an ensemble cannot store; known are {', '.join(_KINDS)}"
    raise UnsupportedError(msg)
