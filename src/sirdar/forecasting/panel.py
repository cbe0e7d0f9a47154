# SPDX-License-Identifier: Apache-2.0
"""`Panel`: many demand series, short and long, in ragged contiguous arrays (as in a CSR matrix)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sirdar.errors import ArgumentError, nearest
from sirdar.forecasting.holidays import require_country
from sirdar.predictive import Forecast, Frequency


class Roles(TypedDict, total=False):
    """Which columns of a table are covariates, and of which kind."""

    price: str  # known ahead when the table has rows after the last demand, else seen only afterwards
    promotion: str  # likewise
    in_stock: str  # 0 or false: sales of that step were limited by stock, so they are masked
    static: Sequence[str]  # one value per series, text or number
    past: Sequence[str]  # seen only afterwards; number or text
    future: Sequence[str]  # known ahead: plans, holidays; number or text


@dataclass(frozen=True, repr=False)
class Panel:
    """Demand histories with covariates by role.

    The steps of series i stand in ``[indptr[i], indptr[i + 1])`` of every per-step array. The first `history[i]` of
    them are history; the rest, if any, are future steps of which only `future` covariates are known.

    Args:
        ids: series names, each once.
        frequency: the calendar of the steps.
        start: period number of each series' first step.
        indptr: where each series begins.
        history: steps of history of each series.
        target: demand; NaN where it was not observed.
        static: one value per series, float32 or text.
        past: per-step covariates that are seen only afterwards.
        future: per-step covariates that are known ahead.
        price: the name of the covariate that is the price, if any.
        in_stock: false where sales were limited by stock; None when always in stock.
        texts: covariates that were text; each of their values is a covariate of 0 and 1, "event=Easter".
        holidays: country whose public holidays are a part of the calendar, such as "US" or "DE-BY"; None for none.
        notes: what reading did to the table, as sentences.
        native: what the caller's frame was like, a `predictive.native.Native`; None for files.
    """

    ids: list[str]
    frequency: Frequency
    start: Int64[np.ndarray, " series"]
    indptr: Int64[np.ndarray, " series+1"]
    history: Int64[np.ndarray, " series"]
    target: Float32[np.ndarray, " steps"]
    static: dict[str, np.ndarray] = field(default_factory=dict)
    past: dict[str, np.ndarray] = field(default_factory=dict)
    future: dict[str, np.ndarray] = field(default_factory=dict)
    price: str | None = None
    in_stock: Bool[np.ndarray, " steps"] | None = None
    texts: tuple[str, ...] = ()
    holidays: str | None = None
    notes: tuple[str, ...] = ()
    native: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def read(
        cls,
        source: str | Path | Any,  # noqa: ANN401 - any frame
        *,
        id: str = "unique_id",  # noqa: A002 - the field's word
        time: str = "ds",
        target: str = "y",
        freq: str | None = None,
        gaps: str = "missing",
        holidays: str | None = None,
        **roles: Unpack[Roles],
    ) -> "Panel":
        """Reads a long table: one row per series and time.

        Args:
            source: a Parquet or CSV file (.csv.gz too), a folder of them or of folders NAME=VALUE, or a frame (polars,
                pandas, Arrow, ...).
            id: column that names the series.
            time: column of dates, timestamps, ISO weeks, quarters, months or years.
            target: column of demand; null and NaN mean "not observed".
            freq: "5min", "10min", "15min", "30min", "h", "D", "B" (business days), "W", "M", "Q" or "Y", also as pandas
                and polars write them ("MS", "1d", "W-SUN"); inferred when None. Coarser than the table's own steps: the
                table is aggregated (target and past covariates summed, price averaged by units, other covariates
                averaged), by "W" into weeks that end on the last row's weekday, by "W-SUN" on Sundays, by "1w" into
                those that begin on Mondays. Rows at times of day within its periods may share one, as the lines of a
                till do; so may rows by date, where a twentieth does, and not as copies of each other alone.
            gaps: what a step without a row means: "missing" (not observed) or "zero" (nothing sold; for tables that
                list sales only). A period in which no series has a row is not observed either way, but with "zero"
                nothing is sold on weekdays, or at times of the week, at which no series ever has one, and all series
                run to the panel's last period.
            holidays: code of a country, or of a part of one ("US", "DE-BY"), whose public holidays the networks and
                SQRF are told, past and future. Weeks that are dated by a Monday begin on it, by another day end on it.
            **roles: covariate columns, see `Roles`. A promotion, past or future column of which no value reads as a
                number is text: each of its values becomes a covariate of its own, 1 where the column holds it.

        Raises:
            DataError: names the file, column, row or value and what to do.
        """
        from sirdar.forecasting.reading import read_panel  # reading builds panels, so it imports this module

        country = require_country(holidays)
        names = id, time, target
        fields = read_panel(source, names, freq=freq, gaps=gaps, roles=roles, holidays=country)
        return cls(**fields, holidays=country)

    def save(self, path: str | Path) -> None:
        """Writes the panel into the folder `path`: arrays in a safetensors file, all else in JSON.

        The caller's frame type is not kept: forecasts of a panel that was loaded come back as polars frames.

        Raises:
            OutputError: `path` holds something that Sirdar did not save, or cannot be written.
        """
        from sirdar.forecasting.mapped import write_panel  # it builds panels, and imports torch

        write_panel(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "Panel":
        """Maps what `save` wrote into memory: at once, and of its steps only those used are ever read.

        A panel larger than memory is forecast in parts, see `cluster.predict_in_parts`.

        Raises:
            DataError: there is no panel.
        """
        from sirdar.forecasting.mapped import mapped_panel

        return mapped_panel(Path(path))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        roles = {"static": self.static, "past": self.past, "future": self.future}
        named = [f"{role}={list(columns)}" for role, columns in roles.items() if columns]
        steps = f"{len(self)} series, {int(self.history.sum())} steps of history"
        return f"Panel({', '.join([steps, f'frequency={self.frequency}', *named])})"

    @property
    def end(self) -> Int64[np.ndarray, " series"]:
        """Period number of the step after each series' history: the first one to forecast."""
        return self.start + self.history

    @property
    def step_series(self) -> Int64[np.ndarray, " steps"]:
        """The series that each step belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    @property
    def in_history(self) -> Bool[np.ndarray, " steps"]:
        """Steps that are history."""
        after = np.diff(self.indptr) - self.history
        return np.repeat(np.tile([True, False], len(self)), np.stack([self.history, after], axis=1).ravel())

    @property
    def observed(self) -> Bool[np.ndarray, " steps"]:
        """Steps whose demand may be learned from: observed, in stock, and history."""
        seen = np.isfinite(self.target) & self.in_history
        return seen if self.in_stock is None else seen & self.in_stock

    @property
    def counts(self) -> bool:
        """Whether no demand observed is negative: then neither are its forecasts."""
        return not bool((self.target[self.observed] < 0).any())

    @property
    def whole(self) -> bool:
        """Whether all observed demand is in whole units: then so are its quantiles."""
        known = self.target[self.observed]
        return bool((known == np.round(known)).all())

    def require_observed(self) -> None:
        """Raises ArgumentError when there is nothing to learn from."""
        if not self.observed.any():
            msg = "the panel has no observed step of history to learn from"
            raise ArgumentError(msg)

    def require_counts(self) -> None:
        """Raises ArgumentError when demand falls below zero, for a network that learned that it never does."""
        if not self.counts:
            msg = "the network learned that demand is never negative, but in this panel it is; fit it anew"
            raise ArgumentError(msg)

    def text_of(self, name: str) -> str | None:
        """The covariate of text of which this may be a value: "event" for "event=Easter"."""
        return next((text for text in self.texts if name.startswith(f"{text}=")), None)

    def covariate(self, name: str) -> np.ndarray:
        """A past or future covariate; 0 throughout for a value that a text of this panel never takes.

        Raises:
            ArgumentError: the panel has no such covariate.
        """
        if self.text_of(name) is None:
            self.require_covariate(name)
        columns = self.future if name in self.future else self.past
        return columns[name] if name in columns else np.zeros(len(self.target), dtype=np.float32)

    def require_covariate(self, name: str) -> None:
        """Raises ArgumentError when the panel has no such past or future covariate."""
        known = [*self.future, *self.past]
        if name not in known:
            msg = f"the panel has no covariate {name!r}; it has {', '.join(known) or 'none'}.{nearest(name, known)}"
            raise ArgumentError(msg)

    def cut(self, steps: int) -> "Panel":
        """The panel as it stood `steps` earlier: those targets turn into the future, known covariates stay."""
        return replace(self, history=np.maximum(self.history - steps, 0))

    def known(self) -> "Panel":
        """The panel as known at its end: demand, past covariates and stock after history are gone, plans stay."""
        past = self.in_history

        def seen(values: np.ndarray) -> np.ndarray:
            return np.where(past, values, np.float32(np.nan)).astype(np.float32)

        return replace(
            self,
            target=seen(self.target),
            past={name: seen(column) for name, column in self.past.items()},
            in_stock=None if self.in_stock is None else self.in_stock | ~past,
        )

    def recent(self, length: int) -> "Panel":
        """No more than the last `length` steps of each history, and all that follows it."""
        drop = np.maximum(self.history - length, 0)
        indptr = np.concatenate([[0], np.cumsum(np.diff(self.indptr) - drop)]).astype(np.int64)
        keep = np.arange(len(self.target)) - self.indptr[:-1][self.step_series] >= drop[self.step_series]
        return replace(
            self,
            start=self.start + drop,
            indptr=indptr,
            history=self.history - drop,
            target=self.target[keep],
            past={name: column[keep] for name, column in self.past.items()},
            future={name: column[keep] for name, column in self.future.items()},
            in_stock=None if self.in_stock is None else self.in_stock[keep],
        )

    def select(self, rows: np.ndarray) -> "Panel":
        """Some of the series."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows)
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        steps = np.repeat(self.indptr[:-1][rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            start=self.start[rows],
            indptr=indptr,
            history=self.history[rows],
            target=self.target[steps],
            static={name: column[rows] for name, column in self.static.items()},
            past={name: column[steps] for name, column in self.past.items()},
            future={name: column[steps] for name, column in self.future.items()},
            in_stock=None if self.in_stock is None else self.in_stock[steps],
        )

    def observations(self) -> Int64[np.ndarray, " series"]:
        """Observed steps of history of each series."""
        return np.add.reduceat(np.append(self.observed, False), self.indptr[:-1]) * (np.diff(self.indptr) > 0)

    def floors(self, *, counts: bool) -> float | Float32[np.ndarray, " series"]:
        """The least that each series' demand can be: 0 where none observed is negative, else minus infinity.

        One number where it is the same for all.

        Args:
            counts: whether no demand learned from is negative; then it is 0 for all. What holds for all holds for a
                series of which nothing was observed.
        """
        if counts:
            return 0.0
        negative = self.observed & (self.target < 0)
        falls = np.bincount(self.step_series[negative], minlength=len(self)) > 0
        free = falls | (self.observations() == 0)
        if free.all() or not free.any():
            return -np.inf if free.all() else 0.0
        return np.where(free, -np.inf, 0).astype(np.float32)

    def forecast(
        self,
        levels: Sequence[float],
        values: Float32[np.ndarray, "series horizon level"],
        floor: float | Float32[np.ndarray, " series"],
    ) -> Forecast:
        """Quantiles of what follows each series' history, raised to the floor of all or of each."""
        least = np.asarray(floor, np.float32).reshape(-1, 1, 1)
        raised = np.maximum(values, least)
        return Forecast(self.ids, self.end, self.frequency, tuple(levels), raised, floor, native=self.native)

    def unseen(self) -> Int64[np.ndarray, " series"]:
        """Steps of history before the first observed one of each series; all of it where none was."""
        steps = np.flatnonzero(self.observed)
        first = np.append(steps, len(self.target))[np.searchsorted(steps, self.indptr[:-1])]
        return np.minimum(first - self.indptr[:-1], self.history)

    def seen_to(self) -> Int64[np.ndarray, " series"]:
        """Steps of history to the last observed one of each series, it included; all of it where none was."""
        place = np.arange(len(self.target)) - self.indptr[:-1][self.step_series]
        seen = np.append(np.where(self.observed, place + 1, 0), 0)
        last = np.maximum.reduceat(seen, self.indptr[:-1]) * (np.diff(self.indptr) > 0)
        return np.where(last > 0, last, self.history)

    def tail(self, values: np.ndarray, length: int, *, ahead: int = 0) -> Float32[np.ndarray, "series time"]:
        """The last `length` steps of history (and `ahead` after it) of a per-step array, right-aligned, NaN-padded."""
        offset = np.arange(-length, ahead)
        steps = (self.indptr[:-1] + self.history)[:, None] + offset
        inside = (steps >= self.indptr[:-1, None]) & (steps < self.indptr[1:, None])
        padded = np.append(values.astype(np.float32), np.float32(np.nan))
        return padded[np.where(inside, steps, len(values))]

    def actuals(self, horizon: int) -> Float32[np.ndarray, "series horizon"]:
        """Demand after the history of a `cut` panel; NaN where unknown or out of stock."""
        target = self.target if self.in_stock is None else np.where(self.in_stock, self.target, np.float32(np.nan))
        return self.tail(target, 0, ahead=horizon)

    def series(self, row: int) -> tuple[np.ndarray, Float32[np.ndarray, " time"]]:
        """Labels (datetime64[s]) and demand of one series' history."""
        begin, count = int(self.indptr[row]), int(self.history[row])
        labels = self.frequency.labels(self.start[row] + np.arange(count))
        return labels, self.target[begin : begin + count]

    def quality(self, recent: int = 8) -> dict[str, int | float | str]:
        """What a planner asks of a table first.

        A product with at most `recent` steps of history is new; one that sold nothing in them is dead.
        """
        observed, owner = self.observed, self.step_series
        total = np.bincount(owner[observed], self.target[observed], len(self))
        last = self.tail(np.where(observed, self.target, np.nan), recent)
        seen = (np.arange(len(self.target)) - self.indptr[:-1][owner] + self.start[owner])[observed]
        begin = int(seen.min()) if len(seen) else int(self.start.min())
        first, end = self.frequency.written(self.frequency.labels(np.array([begin, self.end.max() - 1])))
        return {
            "series": len(self),
            "frequency": self.frequency.name,
            "first period": first,
            "last period": end,
            "periods": int(self.end.max() - begin),
            "median history": float(np.median(np.clip(self.end - begin, 0, self.history))),
            "total demand": float(total.sum()),
            "share of zeros": float((self.target[observed] == 0).mean()) if observed.any() else 0.0,
            "steps below zero": int((self.target[observed] < 0).sum()),
            "steps not observed": int(self.history.sum() - observed.sum()),
            "new products": int((self.history <= recent).sum()),
            "dead products": int(((np.nan_to_num(last) == 0).all(axis=1) & (self.history > recent)).sum()),
            "never sold": int((total == 0).sum()),
        }
