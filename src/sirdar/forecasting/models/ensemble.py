# SPDX-License-Identifier: Apache-2.0
"""An ensemble: the mean of the members' quantiles, level by level (Vincent averaging), plain or weighted."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import reduce
from pathlib import Path

import numpy as np

from sirdar.errors import ArgumentError, DataError, UnsupportedError
from sirdar.forecasting import ladder, storage
from sirdar.forecasting.forecaster import Explained, Forecaster, Updating
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast


def average(forecasts: list[Forecast], weights: Sequence[float] | None = None) -> Forecast:
    """The mean of quantiles; a mean of rising rows rises, so nothing can cross.

    Args:
        forecasts: of the same series, steps and levels.
        weights: one per forecast, none negative; all equal when None.

    Raises:
        ArgumentError: there is none, they differ in levels, horizon or series, or the weights do not fit.
    """
    if not forecasts:
        msg = "there is no forecast to average"
        raise ArgumentError(msg)
    first = forecasts[0]
    for other in forecasts[1:]:
        _refuse_different(first, other)
    total = np.zeros(first.values.shape)
    for share, forecast in zip(_shares(weights, len(forecasts)), forecasts, strict=True):
        total += share * forecast.values
    values = np.maximum.accumulate(total, axis=2).astype(np.float32)  # monotone but for rounding
    floor = reduce(np.minimum, [forecast.floor for forecast in forecasts])
    return Forecast(first.ids, first.start, first.frequency, first.levels, values, floor, native=first.native)


def _shares(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """The weights, summing to one."""
    given = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != (count,) or not bool((given >= 0).all()) or not 0 < given.sum() < np.inf:
        msg = f"weights must be {count} numbers, none negative and not all zero, got {weights}"
        raise ArgumentError(msg)
    return given / given.sum()


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


class Ensemble(Explained):
    """Several forecasters, trained on the same panel and averaged.

    Args:
        members: at least one forecaster by name, all of one horizon and the same levels.
        weights: one per member, none negative; all equal when None.
    """

    def __init__(self, members: Mapping[str, Forecaster], weights: Sequence[float] | None = None) -> None:
        if not members:
            msg = "an ensemble needs at least one member"
            raise ArgumentError(msg)
        horizons = {name: member.horizon for name, member in members.items()}
        if len(set(horizons.values())) > 1:
            msg = f"the members of an ensemble must share one horizon, got {horizons}"
            raise ArgumentError(msg)
        self.members = dict(members)
        self.weights = tuple(_shares(weights, len(members)).tolist())
        self.horizon = next(iter(horizons.values()))

    def fit(self, panel: Panel) -> "Ensemble":
        """Fits every member."""
        for member in self.members.values():
            member.fit(panel)
        return self

    def update(self, panel: Panel) -> "Ensemble":
        """Brings every member up to new data: networks go on, what has no `update` is fitted anew.

        Whatever ends it early, the ensemble then has its members as they were.
        """
        before = deepcopy(self.members)
        try:
            for member in self.members.values():
                (member.update if isinstance(member, Updating) else member.fit)(panel)
        except BaseException:
            self.members = before
            raise
        return self

    def predict(self, panel: Panel) -> Forecast:
        """The average of the members' quantiles."""
        return average([member.predict(panel) for member in self.members.values()], self.weights)

    def save(self, path: str | Path) -> None:
        """Writes one folder per member under `path`, numbered, since a member's name need not be a file's.

        Raises:
            UnsupportedError: a member is of a kind that `load` could not build.
        """
        kinds = [[name, _kind(name, member)] for name, member in self.members.items()]
        within = {f"member-{number}": member.save for number, member in enumerate(self.members.values())}
        storage.write(Path(path), {"model": "ensemble", "members": kinds, "weights": self.weights}, {}, within)

    @classmethod
    def load(cls, path: str | Path) -> "Ensemble":
        """Reads what `save` wrote."""
        path = storage.standing(Path(path))
        with storage.opened(path, model="ensemble") as (config, _):
            members = {}
            for number, (name, kind) in enumerate(config["members"]):
                try:
                    members[name] = ladder.class_of(kind).load(path / f"member-{number}")
                except UnsupportedError as error:
                    msg = f"{path}: holds a member of unknown kind {kind!r}: {error}"
                    raise DataError(msg) from error
            return cls(members, config.get("weights"))


def _kind(name: str, member: Forecaster) -> str:
    kind = ladder.kind_of(member)
    if kind is None:
        msg = f"member {name!r} is a {type(member).__name__}, which an ensemble cannot store"
        raise UnsupportedError(msg)
    return kind
