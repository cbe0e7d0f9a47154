# SPDX-License-Identifier: Apache-2.0
"""Answers in the caller's own frame: its library, and the types of its ids and times, so that both can be joined."""

import re
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

if TYPE_CHECKING:
    import narwhals as nw

_WHOLE = re.compile(r"-?\d+")


class Native(NamedTuple):
    """What a frame was like.

    Args:
        backend: its library, as narwhals names it.
        ids: narwhals type of its ids; None for text.
        times: narwhals type of its times; None for timestamps in the unit of the library.
        zone: of its times, if they have one.
    """

    backend: Any
    ids: Any = None
    times: Any = None
    zone: str | None = None


def native_of(frame: "nw.DataFrame[Any]", key: str, time: str) -> Native:
    """Of a frame whose columns `key` and `time` name the series and date the steps."""
    ids, times = frame.schema.get(key), frame.schema.get(time)
    known = ids is not None and (ids.is_integer() or type(ids).__name__ in {"Categorical", "Enum"})
    if frame.implementation.is_pandas_like():  # where all timestamps join, and no other type holds dates
        kind = getattr(frame.to_native().dtypes, "get", {}.get)(time)
        return Native(frame.implementation, ids if known else None, zone=_named(getattr(kind, "tz", None)))
    dated = times is not None and type(times).__name__ in {"Date", "Datetime"}
    zone = getattr(times, "time_zone", None)
    return Native(frame.implementation, ids if known else None, times if dated else None, zone)


def _named(zone: tzinfo | None) -> str | None:
    """A zone's name, None for one without."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    return name if name in available_timezones() else None


def answered(columns: dict[str, Any], native: Any, key: str, time: str | None = None) -> Any:  # noqa: ANN401 - any frame
    """Columns as a frame of the caller's kind.

    Args:
        columns: texts or numbers by name; times are datetime64[us].
        native: a `Native`, or only a narwhals backend; None for polars.
        key: the column of ids.
        time: the column of times, if any.
    """
    import narwhals as nw  # here, not above: decisions need no frames

    like = native if isinstance(native, Native) else Native(native or "polars")
    whole = like.ids is not None and like.ids.is_integer()
    changes = []
    if like.ids is not None and (not whole or all(map(_WHOLE.fullmatch, columns[key]))):
        changes.append(nw.col(key).cast(like.ids))
    if time is not None:
        stamp = nw.col(time)
        if like.zone is not None:
            columns = columns | {time: _instants(columns[time], ZoneInfo(like.zone))}
            stamp = stamp.dt.replace_time_zone("UTC").dt.convert_time_zone(like.zone)
        changes.append(stamp if like.times is None else stamp.cast(like.times))
    return nw.from_dict(columns, backend=like.backend).with_columns(*changes).to_native()


def _instants(local: np.ndarray, zone: ZoneInfo) -> np.ndarray:
    """What a zone's clocks show as UTC; where they show it twice the first, where never that much after the change."""
    distinct, place = np.unique(local, return_inverse=True)
    instants = [time.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None) for time in distinct.tolist()]
    return np.array(instants, dtype="datetime64[us]")[place]
