# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end: demand in; forecasts, orders and the chip to run on out."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sirdar.chips import Ranking, advise, load
from sirdar.errors import ArgumentError, DataError, require_positive_integer
from sirdar.forecasting import ladder
from sirdar.forecasting.backtest import Backtest, backtest
from sirdar.forecasting.covariates import unknown_ahead
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.ensemble import Ensemble
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.inventory import InventoryProblem, OrderPlan, ProjectedInventory, Stock
from sirdar.predictive import DECILES, Forecast
from sirdar.predictive.forecast import require_levels
from sirdar.recipes.demand import Demand
from sirdar.recipes.saved import BATCH, Network, network_in, saved_network
from sirdar.recipes.stock import assumed_stock, own_terms, read_stock
from sirdar.workload.trace import trace

Progress = Callable[[str, float], None]
NIGHTLY_SERIES = 1_000_000
_ENDED = 8  # steps without a row after which a product is taken for ended, at least


@dataclass(frozen=True)
class Settings:
    """What to plan, and how.

    Args:
        source: a table or folder; the bundled panel when None.
        roles: arguments of `Panel.read`.
        horizon: steps to forecast.
        windows: origins of the backtest.
        models: names of rungs.
        problem: costs and times of ordering.
        inventory: table of stock; assumed when None.
        seed: of everything random.
        levels: quantile levels of the forecasts.
    """

    source: Path | None = None
    roles: dict[str, Any] = field(default_factory=dict)
    horizon: int = 6
    windows: int = 3
    models: tuple[str, ...] = ladder.DEFAULTS
    problem: InventoryProblem = field(default_factory=InventoryProblem)
    inventory: Path | None = None
    seed: int = 0
    levels: tuple[float, ...] = DECILES

    def __post_init__(self) -> None:
        require_levels(self.levels)
        require_positive_integer(self.horizon, "horizon")
        require_positive_integer(self.windows, "windows")
        ladder.check_names(self.models)
        if self.problem.cover > self.horizon:
            msg = (
                f"lead time + review period is {self.problem.cover} steps, but forecasts reach {self.horizon}; "
                f"forecast with a horizon of at least {self.problem.cover}"
            )
            raise ArgumentError(msg)

    @property
    def key(self) -> str:
        """The column that names the series."""
        return self.roles.get("id", "unique_id")


@dataclass(frozen=True)
class Orders:
    """Orders with what they start from."""

    plan: OrderPlan
    stock: Stock
    problem: InventoryProblem
    note: str


@dataclass(frozen=True)
class Plan:
    """Everything that a run found."""

    settings: Settings
    panel: Panel
    backtest: Backtest
    forecast: Forecast
    orders: Orders
    chips: Ranking | None  # None when no network took part
    priced: str | None  # the rung whose network the chips are compared for
    winner: Forecaster  # trained on all history
    seconds: dict[str, float]


def read(settings: Settings) -> Panel:
    """The panel of the settings."""
    return Demand(settings.source, settings.horizon, settings.roles).read()


def read_ahead(settings: Settings) -> Panel:
    """The same, with notes on what of the steps to forecast it does not tell."""
    panel = read(settings)
    return replace(panel, notes=(*panel.notes, *unknown_ahead(panel, settings.horizon)))


def evaluate(settings: Settings, panel: Panel, progress: Progress, cluster: str | None = None) -> Backtest:
    """The backtest of the models named, in this process or on a Ray cluster, which tells no shares of a training."""
    place = ("", 0.0)

    def tell(text: str, done: float) -> None:
        nonlocal place
        place = (text, done)
        progress(text, done)

    def within(done: float) -> None:  # a rung's own share, behind what the backtest told last
        progress(f"{place[0]}, {done:.0%}", place[1])

    def build(name: str) -> Forecaster:
        shown = within if cluster is None else None
        return ladder.build(name, settings.horizon, levels=settings.levels, seed=settings.seed, progress=shown)

    models = {name: build(name) for name in settings.models}
    return backtest(models, panel, windows=settings.windows, progress=tell, cluster=cluster)


def train(settings: Settings, winner: str, panel: Panel, progress: Progress) -> Forecaster:
    """The winner, trained on all history."""

    def build(name: str) -> Forecaster:
        def tell(done: float) -> None:
            progress(name, done)

        return ladder.build(name, settings.horizon, levels=settings.levels, seed=settings.seed, progress=tell)

    apart = {ladder.NAIVE, ladder.LADDER}
    if winner == ladder.ENSEMBLE:
        forecaster = Ensemble({name: build(name) for name in settings.models if name not in apart})
    else:
        forecaster = build(winner)
    return forecaster.fit(panel)


def place_orders(settings: Settings, forecast: Forecast) -> Orders:
    """Orders by the projected-inventory policy, from the stock given or assumed.

    Costs, times and packs of single products stand in the stock's table, see `own_terms`.

    Nothing is ordered for products whose history ended a horizon, and eight steps, before the panel's: the latest end
    but for a tenth of the products, whose dates may be wrong.
    """
    problem = _own(settings, list(forecast.ids))
    present = np.quantile(forecast.start, 0.9, method="lower") if len(forecast.ids) else 0
    late = present - forecast.start
    ended = late >= max(forecast.horizon, _ENDED)
    forecast = replace(forecast, values=np.where(ended[:, None, None], np.float32(0), forecast.values))
    if settings.inventory is None:
        stock, note = assumed_stock(forecast, problem)
    else:
        stock, note = read_stock(settings.inventory, list(forecast.ids), problem, settings.key)
    note += _told(forecast, ended, "ended long before the others: nothing is ordered for them.")
    behind = (late > 0) & ~ended
    note += _told(forecast, behind, "have no rows in the last steps: their orders rest on forecasts from their last.")
    worthless = np.broadcast_to(problem.shortage_cost, len(forecast.ids)) <= 0
    note += _told(forecast, worthless, "cost more than they earn, lost sales included: nothing is ordered for them.")
    plan = ProjectedInventory(forecast, seed=settings.seed).plan(problem, stock)
    return Orders(plan, stock, problem, note)


def _own(settings: Settings, ids: list[str]) -> InventoryProblem:
    """The problem with what the stock's table says of single products."""
    shared, path = settings.problem, settings.inventory
    problem = shared if path is None else own_terms(path, ids, shared, settings.key)
    if math.isfinite(shared.rules.budget) and not np.any(problem.trade.unit_cost):
        msg = (
            "a budget needs to know what units cost: give unit_cost and price, or columns of these names with the stock"
        )
        raise ArgumentError(msg)
    if isinstance(problem.lead_time, np.ndarray) and problem.cover > settings.horizon:
        row = int(problem.lead_time.argmax())
        msg = (
            f"{settings.inventory}: lead time + review period of {ids[row]!r} is {problem.cover} steps, but forecasts "
            f"reach {settings.horizon}"
        )
        raise DataError(msg)
    return problem


def _told(forecast: Forecast, which: np.ndarray, what: str) -> str:
    """A sentence that names how many products, and the first; none where there is none."""
    rows = np.flatnonzero(which)
    if not len(rows):
        return ""
    return f" Of the products, {len(rows)} ({forecast.ids[rows[0]]!r}{', ...' if len(rows) > 1 else ''}) {what}"


def compare_chips(
    network: Network,
    *,
    chips: tuple[str, ...] | None = None,
    volume: int = NIGHTLY_SERIES,
    batch: int = BATCH,
    dtype: str | None = None,
) -> Ranking:
    """What forecasting `volume` series with the network costs on each chip."""
    require_positive_integer(volume, "volume")
    require_positive_integer(batch, "batch")
    for chip in chips or ():
        load(chip)  # an unknown name is refused before the network is traced
    module, example = network.inference(batch)
    return advise(trace(module, example), per_day=volume, batch=batch, chips=chips, dtype=dtype)


def plan(settings: Settings, progress: Progress) -> Plan:
    """Reads, backtests, forecasts, orders and chooses the chip."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        progress(step, 0.0)
        begin = time.perf_counter()
        yield
        seconds[step] = time.perf_counter() - begin
        progress(step, 1.0)

    def within(step: str) -> Progress:
        return lambda text, done: progress(f"{step}: {text}", done)

    with timed("read"):
        panel = read_ahead(settings)
        problem = _own(settings, panel.ids)  # what is wrong is refused before the long work
        if settings.inventory is not None:
            read_stock(settings.inventory, panel.ids, problem, settings.key)
    with timed("backtest"):
        evaluation = evaluate(settings, panel, within("backtest"))
    with timed("forecast"):
        winner = train(settings, evaluation.winner, panel, within("forecast"))
        forecast = winner.predict(panel)
        forecast = replace(forecast, correlation=evaluation.correlation(evaluation.winner))
    with timed("order"):
        orders = place_orders(settings, forecast)
    with timed("chips"):
        network = _network(settings, winner, panel)
        chips = compare_chips(network) if network is not None else None
    priced = ladder.kind_of(network) if network is not None else None
    return Plan(settings, panel, evaluation, forecast, orders, chips, priced, winner, seconds)


def _network(settings: Settings, winner: Forecaster, panel: Panel) -> Network | None:
    """The network that was trained, or else, where the backtest had an MQ-CNN, one of its shape."""
    found = network_in(winner)
    if found is None and "mq-cnn" in settings.models:
        return _untrained(settings.horizon, settings.seed, panel)
    return found


def example_network(folder: Path | None) -> Network:
    """The network in a saved forecaster, or an MQ-CNN of default size for the bundled panel."""
    return _untrained(Settings.horizon, 0, read(Settings())) if folder is None else saved_network(folder)


def _untrained(horizon: int, seed: int, panel: Panel) -> MQCNN:
    """What a network costs to run does not depend on its weights, so one step of training is enough."""
    longest = np.argsort(-panel.history, kind="stable")[:64]
    return MQCNN(horizon, steps=1, seed=seed).fit(panel.select(longest))
