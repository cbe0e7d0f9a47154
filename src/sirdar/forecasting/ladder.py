# SPDX-License-Identifier: Apache-2.0
"""The rungs by name, lowest first, and how each is built."""

from collections.abc import Callable, Sequence

from sirdar.errors import ArgumentError, nearest
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import METHODS, Textbook

ENSEMBLE = "ensemble"
NAIVE = "seasonal-naive"
RUNGS = (*METHODS, "mq-cnn")


def check_names(names: Sequence[str]) -> list[str]:
    """The names without repeats, or an ArgumentError that lists the known ones."""
    for name in names:
        if name not in RUNGS:
            msg = f"unknown model {name!r}; known are {', '.join(RUNGS)}.{nearest(name, RUNGS)}"
            raise ArgumentError(msg)
    if not names:
        msg = f"no model was named; known are {', '.join(RUNGS)}"
        raise ArgumentError(msg)
    return list(dict.fromkeys(names))


def build(name: str, horizon: int, *, seed: int = 0, progress: Callable[[float], None] | None = None) -> Forecaster:
    """A fresh, untrained forecaster."""
    check_names([name])
    if name == "mq-cnn":
        return MQCNN(horizon, seed=seed, progress=progress)
    return Textbook(horizon, name)
