# SPDX-License-Identifier: Apache-2.0
"""A finished plan, told: the headline, the telling products and the tables of its page."""

import math

import numpy as np

from sirdar.chips import Option
from sirdar.forecasting.backtest import Score
from sirdar.forecasting.ladder import NAIVE
from sirdar.inventory import OrderRules
from sirdar.recipes.files import order_totals
from sirdar.recipes.plan import NIGHTLY_SERIES, Plan
from sirdar.recipes.saved import BATCH
from sirdar.report.amounts import duration, number
from sirdar.report.plan import (
    CalibrationPoint,
    ChipRow,
    Fan,
    LeaderboardRow,
    OrderRow,
    PlanReport,
)
from sirdar.units import kwh

_RECENT = 8  # steps that make a product new, and over which a price change counts
_MOST_ORDERS = 50


def report_of(plan: Plan) -> PlanReport:
    """The page's content."""
    panel, settings = plan.panel, plan.settings
    facts = panel.quality(_RECENT)
    period = panel.frequency.step
    source = "UCI Online Retail" if settings.source is None else settings.source.name
    return PlanReport(
        title="What to order, and where to run it",
        subtitle=(
            f"{source}: {len(panel):,} products, {facts['first period']} to {facts['last period']}, "
            f"{panel.frequency.name}; {settings.horizon} {period}s ahead"
        ),
        headline=_headline(plan),
        leaderboard=_leaderboard(plan),
        leaderboard_note=_leaderboard_note(plan),
        calibration=[
            CalibrationPoint(model, level, share)
            for model in dict.fromkeys([plan.backtest.winner, NAIVE])
            if model in plan.backtest.origins[0].forecasts
            for level, share in plan.backtest.calibration(model)
        ],
        fans=telling_products(plan),
        orders=_orders(plan),
        order_totals=[(name.replace("_", " "), number(value)) for name, value in order_totals(plan.orders).items()],
        order_assumptions=_order_assumptions(plan, period),
        chips=[_chip(row, plan) for row in plan.chips.options] if plan.chips else [],
        chip_assumptions=plan.chips.assumptions if plan.chips else [],
        workload=f"forecasting {NIGHTLY_SERIES:,} series with {plan.priced} in batches of {BATCH:,}",
        quality=[(name, value if isinstance(value, str) else number(value)) for name, value in facts.items()],
        quality_notes=panel.notes,
        run=[(step, duration(seconds)) for step, seconds in plan.seconds.items()] + [("seed", str(settings.seed))],
        period=period,
    )


def _headline(plan: Plan) -> list[tuple[str, str, str]]:
    totals, best = order_totals(plan.orders), plan.backtest.scores[0]
    naive = next((score for score in plan.backtest.scores if score.model == NAIVE), None)
    rows = [
        ("units to order", number(totals["quantity"]), f"of {totals['products_ordered']:,} products"),
        (
            "expected cost",
            number(totals["expected_cost"]),
            "holding, lost sales and placing orders, until the next one",
        ),
        ("fill rate", f"{totals['fill_rate']:.1%}", "of demand served from stock, expected"),
        ("best model", best.model, gain_of(best, naive)),
    ]
    chips = {row.chip: row for row in plan.chips.options} if plan.chips else {}
    if plan.chips and plan.chips.cheapest:
        price = chips[plan.chips.cheapest].price_usd or 0.0
        greenest = f"; greenest: {plan.chips.greenest}" if plan.chips.greenest else ""
        rows.append(("cheapest chip", plan.chips.cheapest, f"${number(price)} per million series{greenest}"))
    return rows


def gain_of(best: Score, naive: Score | None) -> str:
    """What the best model won over the seasonal naive one, or its loss where that is nothing to compare with."""
    if not math.isfinite(best.wql):
        return "nothing was sold that could be scored"
    if naive is None or not naive.wql > 0:  # exact on demand that never changes
        return f"WQL {best.wql:.3f}"
    return f"{1 - best.wql / naive.wql:.0%} less quantile loss than {NAIVE}"


def _leaderboard(plan: Plan) -> list[LeaderboardRow]:
    return [
        LeaderboardRow(
            score.model,
            score.wql,
            score.mase,
            score.coverage_80,
            score.crossing_rate,
            score.seconds,
            winner=score.model == plan.backtest.winner,
            note=f"closed interval covers {score.closed_coverage_80:.0%}",
        )
        for score in plan.backtest.scores
    ]


def _leaderboard_note(plan: Plan) -> str:
    evaluation = plan.backtest
    origins = ", ".join(origin.label for origin in evaluation.origins)
    season = "the last value" if evaluation.season == 1 else f"a season of {evaluation.season} steps"
    return (
        f"Every model was trained anew at each of {len(evaluation.origins)} origins (last period seen: {origins}) and "
        f"scored on the {evaluation.horizon} steps that followed. Naive and MASE refer to {season}. Coverage counts an "
        "atom of probability at zero by the share of it inside the interval, so that 80 % is right for products that "
        "often sell nothing; the closed interval counts it whole."
    )


def telling_products(plan: Plan) -> list[Fan]:
    """A best seller, an intermittent product, a new one, a price change: one fan chart each."""
    panel = plan.panel
    recent = np.nan_to_num(panel.tail(panel.target, 4 * _RECENT))
    sold, zeros = recent.sum(axis=1), (recent == 0).mean(axis=1)
    old, new = panel.history > 2 * _RECENT, panel.history <= 2 * _RECENT
    busy, change = sold >= np.quantile(sold, 0.8), _price_change(plan)
    part = recent[:, -_RECENT:], recent[:, :-_RECENT]
    late, early = (np.maximum(steps.mean(axis=1), 0.0) for steps in part)  # returns may outnumber sales
    wanted = [
        ("best seller", sold.copy()),
        ("intermittent", np.where(old & (zeros >= 0.5) & (zeros <= 0.8), (recent > 0).sum(axis=1), -1)),
        ("new", np.where(new & (panel.history >= 3), sold, -1)),
        ("price change", np.where(old & (zeros < 0.2) & busy, change, -1)),
        ("rising", np.where(old & busy, (late + 1) / (early + 1) - 1, -1)),
        ("fading", np.where(old & busy & (late > 0), (early + 1) / (late + 1) - 1, -1)),
    ]
    fans, chosen = [], set[int]()
    for why, merit in wanted:
        merit[list(chosen)] = -1  # each product once
        row = int(np.argmax(merit))
        if merit[row] > 0:
            chosen.add(row)
            fans.append(_fan(plan, row, why))
    return fans


def _price_change(plan: Plan) -> np.ndarray:
    """The size of each product's latest lasting change of price, in logarithms; -1 where there is none."""
    panel = plan.panel
    prices = {**panel.past, **panel.future}.get(panel.price or "")
    if prices is None:
        return np.full(len(panel), -1.0)
    path = panel.tail(prices, 4 * _RECENT)
    path = np.log(np.where(path > 0, path, np.nan))
    late, early = path[:, -_RECENT:], path[:, -3 * _RECENT : -_RECENT]
    known = np.isfinite(late).all(axis=1) & np.isfinite(early).all(axis=1)
    change = np.abs(np.median(late[known], axis=1) - np.median(early[known], axis=1))
    steady = late[known].std(axis=1) < 0.2  # a lasting change, not the noise of a price computed from sales
    result = np.full(len(panel), -1.0)
    result[known] = np.where(steady, change, -1.0)
    return result


def _fan(plan: Plan, row: int, why: str) -> Fan:
    panel, forecast = plan.panel, plan.forecast
    labels, demand = panel.series(row)
    prices = {**panel.past, **panel.future}.get(panel.price or "")
    ahead = forecast.frequency.labels(forecast.start[row] + np.arange(forecast.horizon))
    shown = prices[panel.indptr[row] : panel.indptr[row] + len(demand)] if prices is not None else None
    return Fan(
        id=panel.ids[row],
        description=_description(plan, row),
        why=why,
        history_dates=panel.frequency.written(labels),
        history_values=_plain(demand),
        forecast_dates=forecast.frequency.written(ahead),
        levels=list(forecast.levels),
        quantiles=[[float(value) for value in step] for step in forecast.values[row]],
        prices=_plain(shown) if shown is not None and why == "price change" else None,
    )


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _description(plan: Plan, row: int) -> str:
    column = plan.panel.static.get("description")
    return str(column[row]).capitalize() if column is not None and column[row] is not None else ""


def _orders(plan: Plan) -> list[OrderRow]:
    orders = plan.orders
    position = orders.stock.on_hand + orders.stock.pipeline.sum(axis=1)
    largest = np.argsort(-orders.plan.expected_cost, kind="stable")[:_MOST_ORDERS]
    return [
        OrderRow(
            plan.panel.ids[row],
            _description(plan, row),
            float(position[row]),
            float(orders.plan.expected_demand[row]),
            float(position[row] + orders.plan.quantity[row]),
            float(orders.plan.quantity[row]),
            float(orders.plan.expected_cost[row]),
            float(orders.plan.fill_rate[row]),
        )
        for row in map(int, largest)
    ]


def _order_assumptions(plan: Plan, period: str) -> list[str]:
    problem = plan.orders.problem
    margin = ", its margin included" if np.any(problem.trade.price) else ""
    order = f" An order costs {_span(problem.trade.order_cost)}." if np.any(problem.trade.order_cost) else ""
    return [
        plan.orders.note,
        f"A unit left costs {_span(problem.holding_cost)} per {period}, a unit of demand without stock "
        f"{_span(problem.shortage_cost)}{margin}: the critical ratio is {_span(problem.critical_ratio)}.{order}",
        f"Orders take {_span(problem.lead_time)} {period}s, and one may order every {problem.review_period}.",
        "Costs are per unit, in the currency of the two costs given; demand that finds no stock is lost.",
        _lots(problem.rules) + _limits(problem.rules),
        f"The {_MOST_ORDERS} products with the greatest expected cost are shown; orders.parquet has them all.",
    ]


def _span(values: object) -> str:
    """One number, or the least and the greatest of those of each product."""
    known = np.asarray(values, dtype=np.float64)
    low, high = (f"{round(float(part), 3):g}" for part in (known.min(), known.max()))
    return low if low == high else f"{low} to {high}"


def _lots(rules: OrderRules) -> str:
    sizes = f"multiples of {_span(rules.case_pack)}" if np.max(rules.case_pack) > 0 else "of any quantity"
    more = bool(np.any(np.greater(rules.least, rules.case_pack)))
    return f"Orders are {sizes}{f', of {_span(rules.least)} at least' if more else ''}."


def _limits(rules: OrderRules) -> str:
    """Sentences on what all products share."""
    money = f" All orders of a review may cost {rules.budget:g}." if math.isfinite(rules.budget) else ""
    room = f" Stock on hand and under way may take {rules.capacity:g} of room." if math.isfinite(rules.capacity) else ""
    return money + room + (" Orders are cut where they save the least." if money or room else "")


def _chip(option: Option, plan: Plan) -> ChipRow:
    assert plan.chips is not None
    return ChipRow(
        option.chip,
        option.instance or "–",
        option.dtype,
        option.latency_s,
        option.seconds,
        (kwh(option.energy_low_j), kwh(option.energy_j), kwh(option.energy_high_j)),
        option.price_usd,
        option.grams_co2,
        fits=option.fits,
        note=" ".join(option.notes),
        cheapest=option.chip == plan.chips.cheapest,
        greenest=option.chip == plan.chips.greenest,
    )
