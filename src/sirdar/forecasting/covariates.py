# SPDX-License-Identifier: Apache-2.0
"""What a network is told beside past demand: the calendar, and the caller's covariates brought to one scale."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from sirdar.errors import ArgumentError
from sirdar.forecasting.holidays import holiday_features, holiday_names
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Frequency

# A yearly pattern cannot be told from a trend before it was seen twice: on one year of history a network given the
# calendar extrapolates nonsense into dates that it never saw.
SEASONS_BEFORE_CALENDAR = 2.0
FARTHEST = 5.0
_HELD = "the forecast holds its last value, where a backtest knows the true one"


def calendar_features(frequency: Frequency, periods: np.ndarray, *, yearly: bool) -> Float32[np.ndarray, "... channel"]:
    """Sines and cosines of the step's place in the day, the week and (when `yearly`) the year."""
    cycles: list[tuple[float, int]] = []
    if frequency.intraday:
        cycles += [(float(frequency.season), 3), (float(frequency.week), 2)]
    if frequency.unit == "D":
        cycles += [(7.0, 3)]
    if frequency.unit == "B":
        cycles += [(5.0, 2)]
    if yearly and frequency.per_year > 1:
        cycles += [(frequency.per_year, 2 if frequency.unit in {"M", "Q"} else 3)]
    waves = []
    for length, harmonics in cycles:
        for k in range(1, harmonics + 1):
            angle = 2 * np.pi * k * periods / length
            waves += [np.sin(angle), np.cos(angle)]
    if not waves:
        return np.zeros((*periods.shape, 0), dtype=np.float32)
    return np.stack(waves, axis=-1).astype(np.float32)


def held(values: np.ndarray) -> np.ndarray:
    """Unknown steps take the last known value of their row: a plan holds until it is changed."""
    index = np.where(np.isfinite(values), np.arange(values.shape[1]), 0)
    return np.take_along_axis(values, np.maximum.accumulate(index, axis=1), axis=1)


def carried(panel: Panel, name: str, values: np.ndarray) -> np.ndarray:
    """Steps of a covariate known ahead, each row its own: `held`, but an event that no row tells of is none."""
    return held(values) if panel.text_of(name) is None else np.nan_to_num(values)


def unknown_ahead(panel: Panel, horizon: int) -> tuple[str, ...]:
    """Notes on the covariates that a panel does not tell of all `horizon` steps to forecast.

    A backtest is told of all its steps, so that a forecast may be worse than its scores. What never varies is passed
    over.
    """
    lacking: dict[str, tuple[int, str]] = {}
    flags = _flags(panel)
    for name, column in panel.future.items():
        if _varies(column):
            text = panel.text_of(name)
            unknown = ~np.isfinite(panel.tail(column, 0, ahead=horizon)).all(axis=1)
            stand_in = "taken as off where it is not" if text or name in flags else _HELD
            lacking[text or name] = int(unknown.sum()), stand_in
    return tuple(
        f"covariate {name!r} is not known for the whole horizon of {count} of {len(panel)} series; {stand_in}"
        for name, (count, stand_in) in lacking.items()
        if count
    )


@dataclass(frozen=True)
class Encoding:
    """How a panel's covariates become channels; fitted once, stored with the network as JSON.

    Args:
        yearly: whether the calendar includes the year.
        past: (name, centre, spread) of each past covariate, after log1p where `logged`. One that never varied in
            history has the spread 0 and tells nothing, whatever it becomes later: no weight has learned of it.
        known: likewise for covariates known ahead.
        static: likewise for numeric statics.
        categories: the values of each text static that more than one series shares.
        logged: names that are taken as logarithms, being positive and skewed.
        flags: names of covariates known ahead that mark single steps (`is_flag`), such as a promotion: a price holds
            until it is changed, but an event that is not planned is none.
        country: whose holidays the calendar includes; empty for none.
        holidays: those that fell into some periods of the history.
        usual: (name, spread) of the price, if it is also told as `against_usual`: a tenth off is then the same for
            every product.
    """

    yearly: bool
    past: tuple[tuple[str, float, float], ...] = ()
    known: tuple[tuple[str, float, float], ...] = ()
    static: tuple[tuple[str, float, float], ...] = ()
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    logged: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    country: str = ""
    holidays: tuple[str, ...] = ()
    usual: tuple[tuple[str, float], ...] = ()

    @classmethod
    def fit(cls, panel: Panel, *, usual: bool = False) -> "Encoding":
        """Centres and spreads over the panel's history, and with `usual` of the price against the usual one."""
        # Of a panel that was cut, past covariates after the cut are not known yet.
        past = {name: np.where(panel.in_history, column, np.float32(np.nan)) for name, column in panel.past.items()}
        past, future = ({name: c for name, c in role.items() if _told(panel, name, c)} for role in (past, panel.future))
        columns = {**past, **future}
        numeric = {name: column for name, column in panel.static.items() if column.dtype != object}
        logged = tuple(name for name, column in {**columns, **numeric}.items() if _skewed(column))
        longest = int(panel.history.max())
        span = int(panel.start.min()), int(panel.end.max()) - 1
        return cls(
            yearly=longest >= SEASONS_BEFORE_CALENDAR * panel.frequency.per_year,
            past=tuple(_moments(name, column, name in logged) for name, column in past.items()),
            known=tuple(
                _moments(name, column if _varies(column[panel.in_history]) else column[:0], name in logged)
                for name, column in future.items()
            ),
            static=tuple(_moments(name, column, name in logged) for name, column in numeric.items()),
            categories=tuple(
                _shared(name, c) for name, c in panel.static.items() if c.dtype == object and _shared(name, c)[1]
            ),
            logged=logged,
            flags=_flags(panel),
            country=panel.holidays or "",
            holidays=holiday_names(panel.frequency, *span, panel.holidays) if panel.holidays else (),
            usual=_usual(panel) if usual else (),
        )

    def calendar(self, frequency: Frequency, periods: np.ndarray) -> Float32[np.ndarray, "... channel"]:
        """`calendar_features`, then the holidays."""
        waves = calendar_features(frequency, periods, yearly=self.yearly)
        return np.concatenate([waves, holiday_features(frequency, periods, self.country, self.holidays)], axis=-1)

    def require(self, panel: Panel) -> None:
        """Raises ArgumentError when a covariate that was learned from is absent, or has another role."""
        roles = {
            "past": (self.past, panel.past),
            "future": (self.known, panel.future),
            "static": ((*self.static, *self.categories), panel.static),
        }
        for role, (learned, columns) in roles.items():
            for name, *_ in learned:
                text = panel.text_of(name)
                # A text that never takes the value has others in this role, or, without any value, itself.
                others = [other for other in columns if text is not None and text in {other, panel.text_of(other)}]
                if name not in columns and not others:
                    _refuse_role(panel, role, name)
                    msg = f"what was learned needs the {role} covariate {name!r}, which this panel does not have"
                    raise ArgumentError(msg)

    def ended(self, name: str, values: np.ndarray, beyond: np.ndarray) -> np.ndarray:
        """A covariate known ahead, not known in the steps `beyond` the panel's last: there a flag is off."""
        return np.where(beyond, np.float32(0), values) if name in self.flags else values

    def scaled(self, name: str, values: np.ndarray, centre: float, spread: float) -> np.ndarray:
        """One covariate as a channel: about zero mean and unit spread, 0 where unknown or without a spread."""
        if not spread:
            return np.zeros(values.shape)
        values = np.log1p(np.maximum(values, 0)) if name in self.logged else values
        return np.clip(np.nan_to_num((values - centre) / spread), -FARTHEST, FARTHEST)

    def static_channels(self, panel: Panel) -> Float32[np.ndarray, "series channel"]:
        """Numeric statics, and one-hot categories; a value never seen is all zeros."""
        channels = [
            self.scaled(name, panel.static[name], centre, spread)[:, None] for name, centre, spread in self.static
        ]
        for name, values in self.categories:
            channels.append((panel.static[name][:, None] == np.asarray(values, dtype=object)[None]).astype(np.float32))
        return np.concatenate([np.zeros((len(panel), 0)), *channels], axis=1).astype(np.float32)


def _refuse_role(panel: Panel, role: str, name: str) -> None:
    """Prices and promotions are known ahead where rows follow the last demand, and else they are past."""
    if role == "past" and name in panel.future:
        msg = (
            f"what was learned knew {name!r} for the past alone, but this panel tells it ahead: train anew with such "
            "rows, or leave out those after the last demand"
        )
        raise ArgumentError(msg)
    if role == "future" and name in panel.past:
        msg = (
            f"what was learned was told {name!r} ahead, but this panel knows it for the past alone: give rows after "
            "the last demand, or train anew without"
        )
        raise ArgumentError(msg)


def _told(panel: Panel, name: str, column: np.ndarray) -> bool:
    """Whether it is no text's, or a value that history holds more than once: of others nothing is learned."""
    if name in panel.texts:
        return False  # without any value
    return panel.text_of(name) is None or bool(np.count_nonzero(column[panel.in_history] > 0) > 1)


def _flags(panel: Panel) -> tuple[str, ...]:
    """Covariates known ahead that mark single steps; no price is one."""
    return tuple(name for name, column in panel.future.items() if name != panel.price and is_flag(column))


def is_flag(column: np.ndarray) -> bool:
    """Whether it is always 0 or 1, and 1 less often than not: what is on most of the time holds as numbers do."""
    known = column[np.isfinite(column)]
    return len(known) > 0 and bool(((known == 0) | (known == 1)).all() and known.mean() <= 0.5)


def against_usual(panel: Panel, name: str) -> Float32[np.ndarray, " steps"]:
    """Logarithm of each step's price, less its series' mean up to there; NaN where there is no price above zero."""
    price = panel.covariate(name)
    known = price > 0  # NaN is not
    logs = np.log(np.where(known, price, 1.0).astype(np.float64))
    total, count = (np.concatenate([[0.0], np.cumsum(part)]) for part in (logs, known))
    begin = np.repeat(panel.indptr[:-1], np.diff(panel.indptr))
    mean = (total[1:] - total[begin]) / np.maximum(count[1:] - count[begin], 1)
    # Rounding takes away what is left of long sums: a price that never moved is at its usual one.
    return np.where(known, np.round(logs - mean, 6), np.nan).astype(np.float32)


def _usual(panel: Panel) -> tuple[tuple[str, float], ...]:
    """The price and how far it strays from the usual one; none where it never does."""
    if panel.price is None:
        return ()
    name, _, spread = _moments(panel.price, against_usual(panel, panel.price)[panel.in_history], logged=False)
    return ((name, spread),) if spread else ()


def _skewed(column: np.ndarray) -> bool:
    known = column[np.isfinite(column)]
    if not len(known) or known.min() < 0:
        return False
    return bool(known.max() > 4 * max(float(np.median(known)), 1e-6)) and len(np.unique(known[:10_000])) > 2


def _varies(column: np.ndarray) -> bool:
    known = column[np.isfinite(column)]
    return bool(len(known)) and bool(known.min() < known.max())


def _moments(name: str, column: np.ndarray, logged: bool) -> tuple[str, float, float]:  # noqa: FBT001
    known = column[np.isfinite(column)].astype(np.float64)
    known = np.log1p(known) if logged else known
    if not _varies(known):
        return name, 0.0, 0.0
    return name, float(known.mean()), max(float(known.std()), 1e-6)


def _shared(name: str, column: np.ndarray, most: int = 64) -> tuple[str, tuple[str, ...]]:
    """The commonest values that at least two series share; a text that names each series alone tells nothing."""
    values, counts = np.unique([str(value) for value in column if value is not None], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    kept = tuple(str(values[i]) for i in order if counts[i] > 1)
    return name, kept if counts.sum() and counts[order].sum() >= 0.5 * counts.sum() else ()
