# SPDX-License-Identifier: Apache-2.0
"""Replay a policy on history: what it would have cost, beside perfect foresight and simple rivals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sirdar.errors import require_positive_integer
from sirdar.forecasting import ladder
from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES
from sirdar.forecasting.panel import Panel
from sirdar.inventory import InventoryProblem, Ledger, NeverOrder, Policy, State, Trajectory, simulate
from sirdar.recipes.simulate_choice import FORESIGHT, Choice, Chooser, Choosing, check_name, chooser
from sirdar.recipes.simulate_history import History, opening_stock, part

Progress = Callable[[str, float], None]
RIVALS = ("base-stock", "constant", "never-order", FORESIGHT)
FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # on the lost-sale cost, for the curve of cost against service


@dataclass(frozen=True)
class Settings:
    """What to replay, and how.

    Args:
        policy: its name.
        source: a table or folder; the bundled panel when None.
        roles: arguments of `Panel.read`.
        window: last steps of the table, which are replayed; chosen when None.
        problem: costs, times and rules.
        model: the rung that forecasts for policies that need it.
        seed: of everything random.
    """

    policy: str
    source: Path | None = None
    roles: dict[str, Any] = field(default_factory=dict)
    window: int | None = None
    problem: InventoryProblem = field(default_factory=InventoryProblem)
    model: str = "mq-cnn"
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.policy)
        ladder.check_names([self.model])
        if self.window is not None:
            require_positive_integer(self.window, "steps of the window")


@dataclass(frozen=True, eq=False)
class Replay:
    """One policy on the window.

    Args:
        name: of the policy.
        words: what was chosen for it.
        ledger: its units and costs.
    """

    name: str
    words: str
    ledger: Ledger

    @property
    def lost_margin(self) -> float:
        """What demand without stock cost: the lost-sale cost and, where there is a price, the income that it was."""
        ledger, problem = self.ledger, self.ledger.problem
        if np.any(problem.trade.price) and not problem.backlog:
            dear = replace(problem, lost_sale_cost=problem.lost_sale_cost + problem.trade.price)
            ledger = Ledger(ledger.trajectory, dear, ledger.warm_up)
        return max(0.0, float(ledger.lost_sales.sum()))  # demand less sales may be a rounding error below nothing

    @property
    def total(self) -> float:
        """All costs, so that what costs less earns more: without income forgone, buying nothing would look cheap."""
        return float((self.ledger.cost - self.ledger.lost_sales).sum()) + self.lost_margin

    @property
    def earned(self) -> float:
        """Profit where there is a price; otherwise the margin kept (lost-sale cost times units served) less costs."""
        if np.any(self.ledger.problem.trade.price):
            return float(self.ledger.profit.sum())
        wanted = self.ledger.trajectory.demand[..., self.ledger.warm_up :].sum(-1)
        worth = np.asarray(self.ledger.problem.lost_sale_cost)
        return float((np.asarray(wanted) * worth).sum()) - float(self.ledger.cost.sum())


@dataclass(frozen=True)
class Point:
    """One point of the curve of cost against service."""

    policy: str
    factor: float
    fill_rate: float
    cost: float


@dataclass(frozen=True, eq=False)
class Simulation:
    """Everything that a replay found; the policy asked for comes first."""

    settings: Settings
    history: History
    replays: Sequence[Replay]
    curve: Sequence[Point]

    @property
    def foresight(self) -> Replay:
        """What perfect foresight would have done."""
        return next(replay for replay in self.replays if replay.name == FORESIGHT)

    @property
    def warm_up(self) -> int:
        """First steps of the window that no order could reach, and that do not count."""
        return self.settings.problem.longest_lead_time

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions, as sentences."""
        problem = self.settings.problem
        opening = (
            "Every policy opens with the mean demand of a review period of the history on hand, "
            "and with that of a step in each step of the pipeline"
        )
        counted = f"; the first {self.warm_up} steps, which no order can reach, do not count." if self.warm_up else "."
        seen = "Forecasts and features see demand as the table has it, whatever a policy would have sold."
        kept = "the margin kept (lost-sale cost times units served, less costs)"
        paid = ("Paid for are the orders that arrive up to the last step, by every policy.",) * _trades(problem)
        share = f"The share is that of perfect foresight: of {'profit' if np.any(problem.trade.price) else kept}."
        income = ("The lost margin counts the price of the units lost.",) * bool(np.any(problem.trade.price))
        mark = (
            "With least orders, or packs that demand does not fill, perfect foresight is a strong mark but no bound.",
        ) * _lumpy(problem, self.history)
        return (*self.history.notes, opening + counted, *paid, seen, share, *income, *mark)


def run(settings: Settings, progress: Progress) -> Simulation:
    """Reads, chooses parameters on the history, replays the window.

    Raises:
        ArgumentError, DataError: the policy is unknown, or the table too short for the window.
    """
    progress("read", 0.0)
    if settings.source is None:
        panel = Panel.read(ONLINE_RETAIL, **(ROLES | settings.roles))
    else:
        panel = Panel.read(settings.source, **settings.roles)
    history = part(panel, settings.problem, settings.window)
    progress("read", 1.0)
    names = dict.fromkeys((settings.policy, *RIVALS))
    replays: list[Replay] = []
    curve: list[Point] = []
    for name in names:
        given = Choosing(history, settings.problem, settings.model, settings.seed, _within(progress, name))
        choose = chooser(name, given)
        replays.append(_replay(name, choose(1.0), history, settings.problem))
        if name in (settings.policy, RIVALS[0]):
            curve += _curve(replays[-1], choose, history, settings.problem)
        progress(name, 1.0)
    return Simulation(settings, history, replays, curve)


def _within(progress: Progress, name: str) -> Progress:
    return lambda text, done: progress(f"{name}: {text}", done)


def _replay(name: str, choice: Choice, history: History, problem: InventoryProblem, factor: float = 1.0) -> Replay:
    """Decided at a multiple of the lost-sale cost, paid for at the true one."""
    believed, policy = replace(problem, lost_sale_cost=factor * problem.lost_sale_cost), choice.policy
    if name == FORESIGHT and _lumpy(problem, history):
        policy = _best_known(policy, believed, history)
    return Replay(name, choice.words, _ledger(policy, history, believed, problem))


def _ledger(policy: Policy, history: History, believed: InventoryProblem, problem: InventoryProblem) -> Ledger:
    """What a policy does that believes in one problem, paid for as another has it."""
    stock, warm_up = opening_stock(history.known, problem), problem.longest_lead_time
    done = simulate(policy, believed, history.replayed, stock, warm_up=warm_up).trajectory
    return Ledger(done, problem, warm_up, _paid(done, warm_up) if _trades(problem) else None)


def _lumpy(problem: InventoryProblem, history: History) -> bool:
    """Whether orders must be larger than demand asks for."""
    pack = np.maximum(problem.rules.case_pack, 1e-9)  # 0 is any quantity
    packed = np.abs(np.round(history.replayed / pack) * pack - history.replayed) > 1e-6
    return bool(np.any(problem.rules.minimum) or np.any(packed))


@dataclass(frozen=True, eq=False)
class _Listed:
    """Orders from a list, [series, time]."""

    orders: np.ndarray

    def order(self, state: State) -> np.ndarray:
        """Those of the step."""
        return self.orders[:, state.step]


def _best_known(foresight: Policy, problem: InventoryProblem, history: History) -> Policy:
    """For each series the best of foresight, foresight that does not mind what an order costs, and no orders.

    Foresight does not weigh what is left of a pack or a least order, which may cost more than it serves.
    """
    cheap = replace(problem, trade=replace(problem.trade, order_cost=0.0))
    ways = [(foresight, problem), (foresight, cheap), (NeverOrder(), problem)]
    ledgers = [_ledger(policy, history, believed, problem) for policy, believed in ways]
    best = np.argmax([np.asarray(ledger.profit) for ledger in ledgers], axis=0)
    orders = np.stack([np.asarray(ledger.trajectory.orders) for ledger in ledgers])
    return _Listed(orders[best, np.arange(len(best))])


def _trades(problem: InventoryProblem) -> bool:
    """Whether orders cost anything."""
    return bool(np.any(problem.trade.unit_cost) or np.any(problem.trade.order_cost))


def _paid(done: Trajectory, lead_time: int) -> dict[str, Any]:
    """Units and orders that arrive in the steps that count, where what can be sold of them is.

    By the step in which they are placed, perfect foresight would be given what it sells first, and others would pay for
    what comes after the end.
    """
    served = done.orders[..., : done.demand.shape[-1] - lead_time]
    return {"ordered": served.sum(-1), "placed": 1.0 * (served > 0).sum(-1)}


def _curve(usual: Replay, choose: Chooser, history: History, problem: InventoryProblem) -> list[Point]:
    name, made = usual.name, {1.0: usual}
    for factor in FACTORS:
        if factor not in made:
            made[factor] = _replay(name, choose(factor), history, problem, factor)
    return [Point(name, factor, made[factor].ledger.fill_rate, made[factor].total) for factor in FACTORS]
