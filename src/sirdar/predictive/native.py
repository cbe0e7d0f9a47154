# SPDX-License-Identifier: Apache-2.0
"""Answers in the caller's own frame: its library, and the types of its ids and times, so that both can be joined."""

import re
from datetime import UTC, date, datetime, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

if TYPE_CHECKING:
    import narwhals as nw

_WHOLE = re.compile(r"-?\d+")
_OFFSET = re.compile(r"(UTC)?[+-]\d\d:?\d\d")  # a zone that is no place's


class Native(NamedTuple):
    """What a frame was like.

    Args:
        backend: its library, as narwhals names it.
        ids: each of its ids once, as a panel writes it, and as a column of the library; None where both are text.
        times: type of its times, that of narwhals or for pandas its own; `datetime.date` or `str` (YYYY-MM-DD) for
            objects; None for timestamps in the unit of the library.
        zone: of its times, if they have one.
    """

    backend: Any
    ids: tuple[list[str], Any] | None = None
    times: Any = None
    zone: str | None = None


def native_of(frame: "nw.DataFrame[Any]", time: str, ids: tuple[list[str], Any] | None, kind: Any = None) -> Native:  # noqa: ANN401
    """Of a frame whose column `time` dates the steps.

    Args:
        frame: the caller's.
        time: the column.
        ids: as for `Native`.
        kind: `Native.times`, where the frame's own type does not tell.
    """
    times = frame.schema.get(time)
    zone, dated = getattr(times, "time_zone", None), type(times).__name__ in {"Date", "Datetime"}
    if frame.implementation.is_pandas_like():  # where all timestamps of its own join
        own = getattr(frame.to_native().dtypes, "get", {}.get)(time)
        zone = getattr(own, "tz", zone)  # narwhals knows no America/New_York there
        kind = own if kind is None and dated and hasattr(own, "pyarrow_dtype") else kind
    elif kind is None and dated:
        kind = times
    return Native(frame.implementation, ids, kind, _named(zone))


def _named(zone: tzinfo | str | None) -> str | None:
    """A zone's name, None for one without."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    return name if name in available_timezones() or _OFFSET.fullmatch(name) else None


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
    changes: list[Any] = []
    if like.ids is not None:
        own = nw.from_native(like.ids[1], series_only=True)
        place = {text: row for row, text in enumerate(like.ids[0])}
        if place.keys() >= set(columns[key]):
            changes.append(own[[place[text] for text in columns[key]]].alias(key))
        elif own.dtype.is_integer() and all(map(_WHOLE.fullmatch, columns[key])):  # joined with those of another table
            changes.append(nw.col(key).cast(own.dtype))
    if time is not None:
        stamp = nw.col(time)
        if like.zone is not None:
            columns = columns | {time: _instants(columns[time], _zone(like.zone))}
            stamp = stamp.dt.replace_time_zone("UTC").dt.convert_time_zone(like.zone)
        if like.times is str:
            stamp = stamp.dt.to_string("%Y-%m-%d")
        changes.append(stamp.cast(like.times) if isinstance(like.times, nw.dtypes.DType) else stamp)
    made = nw.from_dict(columns, backend=like.backend).with_columns(*changes).to_native()
    return made if time is None else _retyped(made, time, like.times)


def _retyped(frame: Any, time: str, kind: Any) -> Any:  # noqa: ANN401 - pandas may be absent
    """A pandas frame whose timestamps are periods, dates or those of Arrow; another as it is."""
    if kind is date:
        return frame.assign(**{time: frame[time].dt.date})
    if hasattr(kind, "freq"):
        return frame.assign(**{time: frame[time].dt.to_period(kind.freq)})
    return frame.assign(**{time: frame[time].astype(kind)}) if hasattr(kind, "pyarrow_dtype") else frame


def _zone(name: str) -> tzinfo:
    if not _OFFSET.fullmatch(name):
        return ZoneInfo(name)
    zone = datetime.strptime(name.removeprefix("UTC"), "%z").tzinfo
    assert zone is not None
    return zone


def _instants(local: np.ndarray, zone: tzinfo) -> np.ndarray:
    """What a zone's clocks show as UTC; where they show it twice the first, where never that much after the change."""
    distinct, place = np.unique(local, return_inverse=True)
    instants = [time.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None) for time in distinct.tolist()]
    return np.array(instants, dtype="datetime64[us]")[place]
