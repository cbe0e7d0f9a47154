# SPDX-License-Identifier: Apache-2.0
"""Policies by name, their parameters chosen on the history before the window and never on the window itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from sirdar.errors import ArgumentError, nearest
from sirdar.forecasting import ladder
from sirdar.inventory import (
    BaseStock,
    CappedBaseStock,
    ConstantOrder,
    CriticalFractile,
    Episode,
    FixedLot,
    InventoryProblem,
    LearnedPolicy,
    MinMax,
    NeverOrder,
    OrderRules,
    PerfectForesight,
    Policy,
    ProjectedInventory,
    Rolling,
    Training,
    demand_context,
    direct_backprop,
    simulate,
)
from sirdar.predictive.scores import lag_one_correlation
from sirdar.recipes.simulate_history import History, opening_stock
from sirdar.recipes.simulate_myopic import myopic, myopic_2

Progress = Callable[[str, float], None]
FORESIGHT = "perfect-foresight"
NAMES = (
    "base-stock",
    "capped-base-stock",
    "min-max",
    "fixed-lot",
    "constant",
    "critical-fractile",
    "projected-inventory",
    "myopic",
    "myopic-2",
    "learned",
    "never-order",
    FORESIGHT,
)
_TUNED = NAMES[:5]  # parameters are tried out on the history
_LEVELS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 1.0)
_OWN = "demand as the series' own history has it, independent from step to step"
_AHEAD = 7  # reviews more that are forecast where an order may be meant for several
_STEPS, _BATCH, _HIDDEN = 300, 256, (64, 64)
_CELLS = 20_000_000  # steps simulated at once: 80 MB for each kind of unit


@dataclass(frozen=True, eq=False)
class Choice:
    """A policy and, in words, what was chosen for it."""

    policy: Policy
    words: str


Chooser = Callable[[float], Choice]
"""From a factor on the lost-sale cost to the policy for it: how far the trade-off is followed."""


@dataclass(frozen=True)
class Choosing:
    """What choosing a policy needs.

    Args:
        history: series and their demand.
        problem: costs and times.
        model: the rung whose forecasts are rolled through the window.
        seed: of everything random.
        progress: told what is being done, and how much of it is.
    """

    history: History
    problem: InventoryProblem
    model: str
    seed: int
    progress: Progress


def check_name(name: str) -> None:
    """Refuse a policy that nobody knows."""
    if name not in NAMES:
        msg = f"unknown policy {name!r}; known are {', '.join(NAMES)}.{nearest(name, NAMES)}"
        raise ArgumentError(msg)


def chooser(name: str, given: Choosing) -> Chooser:
    """How a policy is chosen: the costly part is done here, once."""
    check_name(name)
    if name in _TUNED:
        return _tuned(list(_candidates(name, given)), given)
    if name == "myopic-2":
        words = f"the least cost of two steps; {_OWN}"
        return lambda factor: Choice(myopic_2(given.history, given.problem, factor), words)
    choice = _chosen(name, given)
    return lambda _: choice


def _chosen(name: str, given: Choosing) -> Choice:
    """Policies that are told the lost-sale cost when they order, so that one choice serves all factors."""
    if name == "never-order":
        return Choice(NeverOrder(), "nothing is ordered")
    if name == FORESIGHT:
        return Choice(PerfectForesight(given.history.replayed), "all demand is known")
    if name == "learned":
        return _learned(given)
    if name == "myopic":
        policy = myopic(given.history, given.problem, given.seed)
        return Choice(policy, f"the least cost of one review; {_OWN}")
    return _forecasting(name, given)


def _candidates(name: str, given: Choosing) -> Iterator[Choice]:
    """Every parameter worth trying: levels are quantiles of each series' own demand over the protection interval.

    Where holding through a long review costs more than a lost sale, the best level covers the first steps of it alone.
    """
    problem, past = given.problem, given.history.known
    review = int(np.max(problem.review_period))
    mean = np.nanmean(past, axis=1)
    if name == "constant":
        for factor in (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.5):
            yield Choice(ConstantOrder(factor * review * mean), f"{factor:.0%} of mean demand in every review step")
        return
    longest = min(problem.cover, past.shape[1])
    for span in sorted({longest, min(problem.longest_lead_time + 1, longest)}, reverse=True):
        sums = np.lib.stride_tricks.sliding_window_view(past, span, axis=1).sum(axis=-1)
        for level, stock in zip(_LEVELS, np.nanquantile(sums, _LEVELS, axis=1), strict=True):
            up_to = f"the {level:.1%} quantile of demand over {span} steps"
            yield from _around(name, stock, up_to, review * mean, problem.rules)


def _around(name: str, stock: np.ndarray, up_to: str, usual: np.ndarray, rules: OrderRules) -> Iterator[Choice]:
    """Policies about one stock level, with lots of some times the usual demand of a review.

    Lots are at least one unit, or a pack of less, where goods are counted; what has never sold gets none.
    """
    if name == "base-stock":
        yield Choice(BaseStock(stock), f"order up to {up_to}")
    unit = np.minimum(np.asarray(rules.case_pack, dtype=np.float64), 1.0)
    sold = usual > 0
    for factor in (1.0, 2.0, 4.0, 8.0):
        size = np.maximum(factor * usual, unit * sold)
        if name == "capped-base-stock":
            yield Choice(CappedBaseStock(stock, size), f"order up to {up_to}, at most {factor:g} times the mean")
        elif name == "min-max":
            yield Choice(MinMax(stock, stock + size), f"below {up_to} order up to it and {factor:g} times the mean")
        elif name == "fixed-lot":
            whole = np.ceil(size / np.where(unit > 0, unit, 1.0) - 1e-9) * unit
            lot = np.where(sold, np.where(unit > 0, whole, size), 1.0)
            point = np.where(sold, stock, -1.0)
            yield Choice(FixedLot(point, lot), f"below {up_to} order lots of {factor:g} times the mean")


def _tuned(candidates: list[Choice], given: Choosing) -> Chooser:
    """The candidate that would have cost least on the history; equally good ones: the first."""
    rows = given.history.whole
    demand = given.history.past[rows].astype(np.float32)
    problem = given.problem
    stock = opening_stock(demand, problem)
    warm_up = min(problem.longest_lead_time + 1, demand.shape[1] - 1)
    at_once = max(1, _CELLS // demand.size)
    costs: list[tuple[float, float]] = []
    while len(costs) < len(candidates):
        some = candidates[len(costs) : len(costs) + at_once]
        ledger = simulate(
            _together(some, rows),
            problem,
            np.broadcast_to(demand, (len(some), *demand.shape)).copy(),
            stock,
            warm_up=warm_up,
        )
        lost = ledger.lost_sales.sum(-1)
        rest = (ledger.cost - ledger.income).sum(-1) - lost
        costs += list(zip(rest.tolist(), lost.tolist(), strict=True))
        given.progress("choose", len(costs) / len(candidates))
    return lambda factor: candidates[int(np.argmin([rest + factor * lost for rest, lost in costs]))]


def _together(choices: list[Choice], rows: np.ndarray) -> Policy:
    """Policies of one kind as one, whose parameters are [choice, series]: its scenarios are the choices."""
    first = choices[0].policy
    parameters = {name: np.stack([vars(one.policy)[name][rows] for one in choices]) for name in vars(first)}
    return replace(first, **parameters)  # pyright: ignore[reportArgumentType]  # every candidate is a dataclass


def _forecasting(name: str, given: Choosing) -> Choice:
    """Trained on the history once; in every review step it forecasts from all that was seen by then."""
    history, problem = given.history, given.problem
    horizon, window = _horizon(history, problem), history.window
    forecaster = ladder.build(
        given.model, horizon, seed=given.seed, progress=lambda done: given.progress(f"train: {given.model}", done)
    ).fit(history.panel.cut(window))
    # How errors of neighbouring steps go together is seen on the last steps of the history.
    before = history.panel.cut(window + horizon)
    last = forecaster.predict(before)
    correlation = lag_one_correlation(before.actuals(horizon), last.values, last.levels)
    steps = range(0, window, int(np.max(problem.review_period)))
    policies: dict[int, Policy] = {}
    for step in steps:
        forecast = replace(forecaster.predict(history.panel.cut(window - step)), correlation=correlation)
        made = CriticalFractile if name == "critical-fractile" else ProjectedInventory
        policies[step] = made(forecast, seed=given.seed)
        given.progress("forecast", (step + 1) / window)
    target = "its critical quantile" if name == "critical-fractile" else "the least expected cost along its paths"
    return Choice(Rolling(policies), f"order for {target}; forecasts by {given.model}, rolled through the window")


def _horizon(history: History, problem: InventoryProblem) -> int:
    """Steps to forecast: as many as an order may be meant for, and no more than the shortest history allows."""
    if not np.any(problem.trade.order_cost):
        return problem.cover
    most = int(history.panel.history.min()) - history.window - problem.cover
    return max(problem.cover, min(problem.cover + _AHEAD * int(np.max(problem.review_period)), most))


def _learned(given: Choosing) -> Choice:
    """One network for all series, trained on the history at many lost-sale costs at once."""
    history, problem = given.history, given.problem
    season = history.panel.frequency.season
    past = history.past.shape[1]
    season = season if past >= 2 * season and season > 1 else 0
    scale, context = demand_context(history.demand.astype(np.float32), season=season, ahead=problem.cover + 1)
    policy = LearnedPolicy(
        scale[:past], max(1, problem.longest_lead_time), context[:past], _HIDDEN, given.seed, head="level"
    )
    demand = torch.from_numpy(history.past.astype(np.float32))
    # Packs are rounded to once the policy is used. A least order is not: it changes when to order.
    rules = OrderRules(problem.rules.minimum, problem.rules.case_pack if np.any(problem.rules.minimum) else 0.0)
    free = replace(problem, rules=rules)

    def draw(step: int) -> Episode:
        random = np.random.default_rng((given.seed, step))
        rows = random.choice(history.whole.nonzero()[0], min(_BATCH, int(history.whole.sum())), replace=False)
        factor = np.exp(random.uniform(np.log(1 / 8), np.log(16), len(rows)))
        part = free.take(rows)
        episode = replace(part, lost_sale_cost=factor * part.lost_sale_cost)
        weight = torch.from_numpy(1 / (float(scale[:past, rows].mean()) * np.sqrt(factor))).float()
        return Episode(episode, demand[rows], opening_stock(history.past[rows], problem), rows, weight)

    warm_up = min(problem.longest_lead_time + 4, past - 1)
    trained = direct_backprop(
        policy, draw, Training(_STEPS, 0.004, warm_up), lambda step, _: given.progress("train", (step + 1) / _STEPS)
    )
    return Choice(trained.given(scale[past:], context[past:]), f"a network trained on {past} steps of history")
