# SPDX-License-Identifier: Apache-2.0
"""The VN2 inventory challenge (2025): its rules, its data, and the organiser's benchmark policy.

599 store-products are ordered for weekly, six times. What is ordered after week X arrives ahead of week X + 3, so that
the first order meets the demand of week 3, and weeks 1 and 2 cost everyone the same. Every unit left at the end of a
week costs 0.2, every sale lost costs 1; weeks 3 to 8 are scored. True demand of each week is revealed after it. The
game is played from any week of the history, by replaying what was sold.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from sirdar.errors import ArgumentError, DataError
from sirdar.inventory import InventoryProblem, Ledger, State, Stock, simulate

RULES = InventoryProblem(holding_cost=0.2, lost_sale_cost=1.0, lead_time=2)
ORDERS = 6
WEEKS = 8
UNAVOIDABLE = 2  # weeks before the first order arrives
YEAR = 52

Units = Float[np.ndarray, " series"]


@dataclass(frozen=True, eq=False)
class History:
    """Weekly sales of all store-products, as far as they are known.

    Args:
        ids: names of the series.
        weeks: Mondays, one per week, without gaps; they may go on after the sales, for the calendar is known.
        sales: units sold, [series, time].
        in_stock: false where a series was out of stock, [series, time].
        groups: numbers of the store, product, ... that a series belongs to, by name.
    """

    ids: list[str]
    weeks: np.ndarray
    sales: Float[np.ndarray, "series time"]
    in_stock: Bool[np.ndarray, "series time"]
    groups: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "History":
        """From `sales_weekly.parquet` and `master.parquet`, in the order of `initial_state.parquet`."""
        table = _load(folder / "sales_weekly.parquet", ("Store", "Product", "ds", "y", "in_stock"))
        master = _load(folder / "master.parquet", ("Store", "Product", "ProductGroup", "Department"))
        table = table.with_columns(name=_name()).sort("ds")
        ids = _load(folder / "initial_state.parquet", ("Store", "Product")).select(_name())["name"].to_list()
        by_week = {what: table.pivot("ds", index="name", values=what) for what in ("y", "in_stock")}
        weeks = np.array(by_week["y"].columns[1:], dtype="datetime64[D]")
        order = pl.DataFrame({"name": ids})
        sales, in_stock = (order.join(by_week[x], on="name", how="left").drop("name") for x in ("y", "in_stock"))
        if sum(sales.null_count().row(0)) or sum(in_stock.null_count().row(0)):
            msg = f"{folder / 'sales_weekly.parquet'}: every series needs a row for every week, but some are missing"
            raise DataError(msg)
        if (np.diff(weeks).astype(int) != 7).any():
            msg = f"{folder / 'sales_weekly.parquet'}: weeks must follow one another without gaps"
            raise DataError(msg)
        rows = order.join(master.with_columns(name=_name()), on="name", how="left")
        groups = {x: rows[x].to_numpy() for x in ("Store", "Product", "ProductGroup", "Department")}
        return cls(ids, weeks, sales.to_numpy().astype(np.float64), in_stock.to_numpy().astype(bool), groups)

    @property
    def time(self) -> int:
        """Weeks whose sales are known."""
        return self.sales.shape[1]

    @property
    def observed(self) -> Float[np.ndarray, "series time"]:
        """Sales, NaN where out of stock: then nothing is known of demand."""
        return np.where(self.in_stock, self.sales, np.nan)

    def until(self, weeks: int) -> "History":
        """What was known after so many weeks."""
        if not 1 <= weeks <= self.time:
            msg = f"the history has {self.time} weeks, so it cannot be cut to {weeks}"
            raise ArgumentError(msg)
        return replace(self, weeks=self.weeks[:weeks], sales=self.sales[:, :weeks], in_stock=self.in_stock[:, :weeks])

    def monday(self, week: int) -> np.datetime64:
        """The Monday of a week, known or still to come."""
        return self.weeks[0] + np.timedelta64(7 * week, "D")


@runtime_checkable
class Player(Protocol):
    """Who orders."""

    def order(self, history: History, on_hand: Units, arriving: Float[np.ndarray, "series lead"]) -> Units:
        """Whole units to order, given all sales so far, what is left and what arrives in the next two weeks."""
        ...


@dataclass(frozen=True)
class _Seat:
    """A player as a policy of the simulator: it is handed the past and nothing else."""

    player: Player
    history: History
    origin: int

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """Six orders; later ones would arrive after the end."""
        on_hand, arriving = (np.asarray(x, dtype=np.float64) for x in (state.on_hand, state.pipeline))
        if state.step >= ORDERS:
            return np.zeros_like(on_hand)
        return self.player.order(self.history.until(self.origin + state.step), on_hand, arriving)


def play(player: Player, history: History, origin: int, stock: Stock | None = None) -> Ledger:
    """Plays the eight weeks that follow the first `origin` weeks of a history; costs are those of weeks 3 to 8.

    Args:
        player: asked six times.
        history: must hold the eight weeks; the player never sees them ahead of time.
        origin: weeks known before the first order.
        stock: at the start; that of `opening_stock` when None.

    Raises:
        ArgumentError: the history is too short on either side.
    """
    if not YEAR <= origin <= history.time - WEEKS:
        msg = f"origin must lie between {YEAR} and {history.time - WEEKS} for {history.time} weeks, got {origin}"
        raise ArgumentError(msg)
    start = opening_stock(history.until(origin)) if stock is None else stock
    demand = history.sales[:, origin : origin + WEEKS]
    return simulate(_Seat(player, history, origin), RULES, demand, start, warm_up=UNAVOIDABLE)


def opening_stock(history: History) -> Stock:
    """The stock that the organisers would have started from.

    On hand is the mean weekly sales of the last 52 weeks, rounded up: so it stands for all 599 series of the published
    initial state. Nothing arrives in week 1. In week 2 arrives what is on hand less 0, 1 or 2 units, at random there
    and 1 here.
    """
    on_hand = np.ceil(history.sales[:, -YEAR:].mean(axis=1))
    return Stock(on_hand, np.stack([np.zeros_like(on_hand), np.maximum(on_hand - 1, 0)], axis=1))


def published_stock(folder: Path) -> Stock:
    """The initial state of the competition."""
    names = ("End Inventory", "In Transit W+1", "In Transit W+2")
    state = _load(folder / "initial_state.parquet", names)
    on_hand, *arriving = (state[name].to_numpy() for name in names)
    return Stock(on_hand, np.stack(arriving, axis=1))


def seasonal_moving_average(history: History, ahead: int) -> Float[np.ndarray, "series ahead"]:
    """The organiser's forecast: 13-week moving average without season, times the season of the weeks ahead.

    The season of a calendar week is the mean over the years of mean sales over series in stock. A series that was out
    of stock for all 13 weeks is forecast at 0.
    """
    observed = history.observed
    calendar = np.array([_calendar_week(history.monday(week)) for week in range(history.time + ahead)])
    overall = _mean(observed, axis=0)
    seen = np.isfinite(overall)
    overall, known = overall[seen], calendar[: history.time][seen]
    missing = sorted(set(calendar) - set(known))
    if missing:
        known_weeks = f"the history must span a year, got {history.time} weeks"
        msg = f"the season of calendar week {missing[0]} is unknown: {known_weeks}"
        raise ArgumentError(msg)
    season = {week: overall[known == week].mean() for week in set(known)}
    factor = np.array([season[week] for week in calendar]) / np.mean(list(season.values()))
    level = np.nan_to_num(_mean(observed[:, -13:] / factor[history.time - 13 : history.time], axis=1))
    return level[:, None] * factor[history.time :]


@dataclass(frozen=True)
class Benchmark:
    """The organiser's policy: order up to four weeks of forecast."""

    cover: int = 4

    def order(self, history: History, on_hand: Units, arriving: Float[np.ndarray, "series lead"]) -> Units:
        """What is missing to the forecast of the next weeks, in whole units."""
        level = seasonal_moving_average(history, self.cover).sum(axis=1)
        return np.round(np.maximum(level - on_hand - arriving.sum(axis=1), 0.0))


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is left."""
    seen = np.isfinite(values)
    count = seen.sum(axis=axis)
    return np.where(count, np.where(seen, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def _calendar_week(monday: np.datetime64) -> int:
    return date.fromisoformat(str(monday)).isocalendar().week


def _name() -> pl.Expr:
    return pl.format("{}_{}", "Store", "Product").alias("name")


def _load(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    if not path.is_file():
        msg = f"{path}: no such file; give the folder of the VN2 data"
        raise DataError(msg)
    table = pl.read_parquet(path)
    for name in columns:
        if name not in table.columns:
            msg = f"{path}: no column {name!r}; the columns are {', '.join(table.columns)}"
            raise DataError(msg)
    return table
