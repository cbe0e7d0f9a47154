# SPDX-License-Identifier: Apache-2.0
"""The rungs by name, lowest first, and how each is built. A rung's module is imported when it is built, not before."""

import importlib
import inspect
from collections.abc import Callable, Sequence

from sirdar.errors import ArgumentError, UnsupportedError, nearest
from sirdar.forecasting.forecaster import Forecaster
from sirdar.predictive import DECILES

ENSEMBLE = "ensemble"
LADDER = "ladder"
NAIVE = "seasonal-naive"
_TEXTBOOK = ("seasonal-naive", "auto-ets", "theta", "ces", "auto-arima", "tsb", "croston", "adida")
# kind: (module in `models`, class); a kind is what a saved folder calls itself
_KINDS = {
    "textbook": ("textbook", "Textbook"),
    "add-ons": ("addons", "AddOns"),
    "sqrf": ("sqrf", "SparseQuantileForest"),
    "feed-forward": ("feedforward", "FeedForward"),
    "mq-rnn": ("mqrnn", "MQRNN"),
    "mq-cnn": ("mqcnn", "MQCNN"),
    "mq-transformer": ("mqtransformer", "MQTransformer"),
    LADDER: ("ladder", "Ladder"),
    ENSEMBLE: ("ensemble", "Ensemble"),
}
RUNGS = (*_TEXTBOOK, *(kind for kind in _KINDS if kind not in {"textbook", ENSEMBLE}))
# What a backtest runs unless told otherwise: minutes, not hours.
DEFAULTS = ("seasonal-naive", "auto-ets", "theta", "tsb", "croston", "mq-cnn")


def check_names(names: Sequence[str]) -> list[str]:
    """The names without repeats, or an ArgumentError that lists the known ones; a single name may stand alone."""
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in RUNGS:
            msg = f"unknown model {name!r}; known are {', '.join(RUNGS)}.{nearest(name, RUNGS)}"
            raise ArgumentError(msg)
    if not names:
        msg = f"no model was named; known are {', '.join(RUNGS)}"
        raise ArgumentError(msg)
    return list(dict.fromkeys(names))


def build(
    name: str,
    horizon: int,
    *,
    levels: Sequence[float] = DECILES,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Forecaster:
    """A fresh, untrained forecaster.

    Raises:
        ArgumentError: the name is unknown, or an argument is out of its range.
        UnsupportedError: the rung, or a package that it needs, is not installed.
    """
    check_names([name])
    kind = class_of("textbook" if name in _TEXTBOOK else name)
    offered = {"method": name, "levels": levels, "seed": seed, "progress": progress}
    taken = inspect.signature(kind).parameters  # not every rung is random, or long enough to tell its progress
    return kind(horizon, **{argument: value for argument, value in offered.items() if argument in taken})


def class_of(kind: str) -> type:
    """The class of a kind of forecaster.

    Raises:
        UnsupportedError: there is no such kind, or its module cannot be imported.
    """
    if kind not in _KINDS:
        msg = f"there is no forecaster of kind {kind!r}; known are {', '.join(_KINDS)}"
        raise UnsupportedError(msg)
    module, name = _KINDS[kind]
    try:
        return getattr(importlib.import_module(f"sirdar.forecasting.models.{module}"), name)
    except (ImportError, AttributeError) as error:
        msg = f"{kind!r} is not available here ({error})"
        raise UnsupportedError(msg) from error


def kind_of(forecaster: Forecaster) -> str | None:
    """The kind under which `class_of` finds the forecaster's class again; None when it is nobody's of ours."""
    name = type(forecaster).__name__
    ours = type(forecaster).__module__.startswith("sirdar.forecasting.models.")
    return next((kind for kind, (_, known) in _KINDS.items() if ours and known == name), None)
