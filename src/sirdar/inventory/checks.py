# SPDX-License-Identifier: Apache-2.0
"""Numbers refused at the door: one sentence each, naming the argument, the series and the value."""

from typing import Any

import numpy as np

from sirdar.errors import ArgumentError


def require_numbers(value: object, name: str, *, least: float = 0.0) -> float | np.ndarray:
    """A finite number not below `least`, or one per series: a float, or a read-only float64 array [series]."""
    array = _numbers(value, name)
    if array.ndim > 1:
        msg = f"{name} must be a number, or one number per series, got an array of shape {array.shape}"
        raise ArgumentError(msg)
    _refuse(array, ~np.isfinite(array), name, "must be finite")
    _refuse(array, array < least, name, "must not be negative" if least == 0 else f"must be at least {least:g}")
    array.flags.writeable = False
    return array if array.ndim else float(array)


def require_parameter(value: Any, name: str, *, least: float = -np.inf, infinite: bool = False) -> Any:  # noqa: ANN401
    """What a policy orders by, finite unless `infinite`: a float, or a read-only float64 array [*batch, series].

    A torch tensor, which may be trained, is left as it is.
    """
    if hasattr(value, "requires_grad"):
        return value
    array = _numbers(value, name)
    wrong, rule = (np.isnan(array), "must be a number") if infinite else (~np.isfinite(array), "must be finite")
    _refuse(array, wrong, name, rule)
    _refuse(array, array < least, name, "must not be negative")
    array.flags.writeable = False
    return array if array.ndim else float(array)


def _numbers(value: object, name: str) -> np.ndarray:
    try:
        return np.array(value, dtype=np.float64)  # a copy: what is checked must not change afterwards
    except (TypeError, ValueError):
        msg = f"{name} must be a number, or one number per series, got {value!r}"
        raise ArgumentError(msg) from None


def require_integers(value: object, name: str, *, least: int) -> int | np.ndarray:
    """A whole number not below `least`, or one per series: an int, or a read-only int64 array [series]."""
    array = np.asarray(require_numbers(value, name, least=float(least)))
    _refuse(array, array != np.floor(array), name, "must be a whole number of steps")
    if isinstance(value, bool):
        msg = f"{name} must be a whole number of steps, got {value!r}"
        raise ArgumentError(msg)
    whole = array.astype(np.int64)
    whole.flags.writeable = False
    return whole if whole.ndim else int(whole)


def require_bound(value: object, name: str) -> float:
    """A number above 0, infinity allowed: a limit."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        msg = f"{name} must be a number above 0, or math.inf for no limit, got {value!r}"
        raise ArgumentError(msg)
    return float(value)


def require_bounds(value: object, name: str) -> float | np.ndarray:
    """A limit above 0, infinity allowed, or one per series: a float, or a read-only float64 array [series]."""
    array = np.array(value, dtype=np.float64)
    checked = require_numbers(np.where(np.isposinf(array), 1.0, array), name)
    _refuse(np.asarray(checked), np.asarray(checked) <= 0, name, "must be above 0")
    array.flags.writeable = False
    return array if array.ndim else float(array)


def _refuse(array: np.ndarray, wrong: np.ndarray | np.bool_, name: str, rule: str) -> None:
    if not bool(wrong.any()):
        return
    if array.ndim == 0:
        msg = f"{name} {rule}, got {float(array):g}"
        raise ArgumentError(msg)
    first = int(np.flatnonzero(wrong)[0])
    msg = f"{name} {rule}, got {array.flat[first]:g} for series {first % array.shape[-1]}"
    raise ArgumentError(msg)
