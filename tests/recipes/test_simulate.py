# SPDX-License-Identifier: Apache-2.0
"""Replaying policies on a small table: what is chosen where, and what is said about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sirdar.errors import ArgumentError, DataError, UnsupportedError
from sirdar.inventory import InventoryProblem, Ledger, OrderRules, Trade, Trajectory
from sirdar.recipes import files, simulate, simulate_choice
from sirdar.recipes.simulate import Replay, Settings, Simulation, run
from sirdar.recipes.simulate_choice import NAMES
from sirdar.recipes.simulate_history import opening_stock
from sirdar.recipes.simulate_write import report_of, summary, write

WEEKS, WINDOW = 60, 12
DAYS = [(np.datetime64("2023-01-01") + 7 * week).item() for week in range(WEEKS)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tables this small are slower with more threads, much slower where others use the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet(_text: str, _done: float) -> None:
    pass


def frame(*, change: float = 1.0) -> pl.DataFrame:
    """Eight products of steady Poisson demand, one of which is new; the window's demand may be changed."""
    random = np.random.default_rng(0)
    first = np.datetime64("2023-01-01")
    rows = []
    for product in range(9):
        demand = random.poisson(3.0 + product, WEEKS).astype(np.float64)
        demand[-WINDOW:] *= change
        weeks = range(WEEKS - 10 if product == 8 else 0, WEEKS)
        rows += [(f"p{product}", (first + 7 * week).item(), demand[week], week % 10 != 3) for week in weeks]
    return pl.DataFrame(rows, schema=["unique_id", "ds", "y", "stocked"], orient="row")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "demand.parquet"
    frame().write_parquet(path)
    return path


@pytest.mark.parametrize("policy", ["min-max", "fixed-lot", "never-order"])
def test_a_change_of_unit_changes_costs_by_as_much(policy: str, tmp_path: Path) -> None:
    """Demand in fours of units, ordered in quarters: all costs are a quarter."""
    table = frame()
    totals = []
    for size in (1.0, 0.25):  # exact in binary: rounding does not decide which side of a level stock is on
        table.with_columns(y=pl.col("y") * size).write_parquet(tmp_path / f"{size}.parquet")
        problem = InventoryProblem(rules=OrderRules(case_pack=size))
        found = simulated(policy, tmp_path / f"{size}.parquet", problem=problem)
        totals.append(found.replays[0].total / size)
    assert totals[1] == pytest.approx(totals[0], rel=1e-5)


def simulated(policy: str, source: Path, **changes: Any) -> Simulation:  # noqa: ANN401
    arguments: dict[str, Any] = {"source": source, "window": WINDOW, "model": "seasonal-naive"}
    return run(Settings(policy, **(arguments | changes)), quiet)


@pytest.fixture
def short_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """One point for the curve of cost against service, which costs more time than all the rest."""
    monkeypatch.setattr(simulate, "FACTORS", (1.0,))


@pytest.mark.usefixtures("short_curve")
@pytest.mark.parametrize("name", NAMES)
def test_every_policy_is_replayed(name: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_choice, "_STEPS", 5)  # what is tested is the replay, not the policy
    made = simulated(name, table)
    content = summary(made)
    assert content["policies"][0]["policy"] == name
    assert content["series"] == 8
    rows = {row["policy"]: row for row in content["policies"]}
    assert set(rows) >= {"base-stock", "constant", "never-order", "perfect-foresight"}
    for row in rows.values():
        parts = row["holding"] + row["lost_margin"] + row["purchase"] + row["ordering"]
        assert row["total"] == pytest.approx(parts)
        assert row["total"] >= rows["perfect-foresight"]["total"] - 1e-9
        assert 0 <= row["share_of_foresight"] <= 1 + 1e-9
    assert rows["perfect-foresight"]["lost_margin"] == 0.0


@pytest.mark.usefixtures("short_curve")
def test_all_pay_for_what_they_can_sell(tmp_path: Path) -> None:
    """Demand is 10 a week, 12 weeks less a lead time of 5 count: 70 units sell, 10 of them from the first stock."""
    table = pl.DataFrame({"unique_id": ["p"] * WEEKS, "ds": DAYS, "y": [10.0] * WEEKS})
    table.write_csv(tmp_path / "steady.csv")
    problem = InventoryProblem(0.3, 0.5, 5, trade=Trade(3.0, 1.0, 2.0))  # carrying costs more than an order
    made = simulated("base-stock", tmp_path / "steady.csv", problem=problem)
    rows = {row["policy"]: row for row in summary(made)["policies"]}
    for name in ("base-stock", "perfect-foresight"):
        assert (rows[name]["purchase"], rows[name]["ordering"]) == (60.0, 12.0)
        assert rows[name]["share_of_foresight"] == 1.0
    assert rows["never-order"]["purchase"] == rows["never-order"]["ordering"] == 0.0
    assert str(rows["base-stock"]["lost_margin"]) == "0.0"  # not -0.0
    assert "Paid for are the orders that arrive" in " ".join(made.notes)


@pytest.mark.usefixtures("short_curve")
def test_parameters_do_not_depend_on_the_window(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    frame(change=5.0).write_parquet(other)
    for name in ("base-stock", "capped-base-stock", "min-max", "fixed-lot", "constant"):
        first, second = (simulated(name, source).replays[0] for source in (table, other))
        assert first.words == second.words
        assert first.ledger.fill_rate > second.ledger.fill_rate  # five times as much is wanted as before


def test_a_policy_that_is_chosen_beats_those_that_are_not(table: Path) -> None:
    rows = {row["policy"]: row for row in summary(simulated("base-stock", table))["policies"]}
    assert rows["base-stock"]["total"] < rows["constant"]["total"] < rows["never-order"]["total"]
    # Poisson demand is known but for its noise: most of the margin is there to be earned.
    assert rows["base-stock"]["share_of_foresight"] > 0.7


@pytest.mark.usefixtures("short_curve")
def test_a_level_covers_no_more_steps_than_holding_pays_for(table: Path) -> None:
    # A unit that waits three steps costs more than the sale that it saves, and reviews are six steps apart.
    problem = InventoryProblem(0.4, 1.0, lead_time=0, review_period=6)
    rows = {row["policy"]: row for row in summary(simulated("base-stock", table, problem=problem))["policies"]}
    assert rows["base-stock"]["total"] < rows["never-order"]["total"]


def test_the_curve_trades_cost_against_service(table: Path) -> None:
    curve = [point for point in simulated("base-stock", table).curve if point.policy == "base-stock"]
    assert [point.factor for point in curve] == sorted(point.factor for point in curve)
    fills = [point.fill_rate for point in curve]
    assert fills == sorted(fills)
    assert fills[-1] > fills[0] + 0.1
    true = next(point for point in curve if point.factor == 1)
    assert true.cost <= 1.2 * min(point.cost for point in curve)  # chosen on the history, it is near the best


def test_prices_and_rules_count(table: Path) -> None:
    problem = InventoryProblem(
        0.2, 1.0, 1, 2, trade=Trade(4.0, 1.0, 3.0), rules=OrderRules(minimum=10.0, case_pack=6.0)
    )
    made = simulated("min-max", table, problem=problem)
    row = summary(made)["policies"][0]
    orders = made.replays[0].ledger.trajectory.orders.numpy()
    assert (orders % 6 == 0).all()
    assert set(np.unique(orders[orders > 0])) <= set(range(12, 1000, 6))
    assert (orders[:, 1::2] == 0).all()
    assert row["purchase"] == orders[:, :-1].sum()  # the last ones arrive after the end
    assert "perfect foresight is a strong mark but no bound" in " ".join(made.notes)
    assert row["ordering"] == 3.0 * (orders[:, :-1] > 0).sum()
    assert report_of(made).earned == "profit"


@pytest.mark.usefixtures("short_curve")
@pytest.mark.parametrize(("case_pack", "said"), [(0.0, False), (1.0, False), (12.0, True)])
def test_packs_that_demand_does_not_fill_leave_foresight_no_bound(table: Path, case_pack: float, *, said: bool) -> None:
    made = simulated("never-order", table, problem=InventoryProblem(1.0, 1.0, rules=OrderRules(case_pack=case_pack)))
    assert ("no bound" in " ".join(made.notes)) == said
    assert made.foresight.total == min(replay.total for replay in made.replays)


def test_rounding_error_is_no_negative_margin() -> None:
    ledger = Ledger(
        Trajectory(np.ones((1, 2)), {}, backlog=False), InventoryProblem(), 0, {"short": np.array([-2e-14])}
    )
    assert str(Replay("perfect-foresight", "", ledger).lost_margin) == "0.0"


@pytest.mark.usefixtures("short_curve")
@pytest.mark.parametrize(
    ("trade", "rules"),
    [
        (Trade(order_cost=30.0), OrderRules()),
        (Trade(), OrderRules(case_pack=60.0)),
        (Trade(order_cost=9.0), OrderRules(40.0)),
    ],
)
def test_foresight_weighs_what_comes_in_lumps(table: Path, trade: Trade, rules: OrderRules) -> None:
    """It would cost more than no orders if it ordered for every week, or whole packs for a few units."""
    made = simulated("min-max", table, problem=InventoryProblem(trade=trade, rules=rules))
    assert made.replays[0].total > made.foresight.total
    costs = {one.name: np.asarray(one.ledger.cost) for one in made.replays}
    assert (costs["perfect-foresight"] <= costs["never-order"] + 1e-9).all()
    assert ("no bound" in " ".join(made.notes)) == (rules.least > 1)


@pytest.mark.usefixtures("short_curve")
def test_with_a_price_what_costs_less_earns_more(table: Path) -> None:
    made = simulated("base-stock", table, problem=InventoryProblem(0.2, 1.0, 1, trade=Trade(10.0, 6.0)))
    rows = summary(made)["policies"]
    profits = [float(replay.ledger.profit.sum()) for replay in made.replays]
    # All demand sold would have earned the same under every policy; what each did not earn of that is its cost.
    worth = 10.0 * float(made.replays[0].ledger.trajectory.demand[:, 1:].sum())
    assert [row["total"] for row in rows] == pytest.approx([worth - profit for profit in profits])
    assert made.curve[0].cost == pytest.approx(rows[0]["total"])
    assert max(rows, key=lambda row: row["total"])["policy"] == "never-order"
    assert "The lost margin counts the price of the units lost." in made.notes


def test_files_say_what_is_printed(table: Path, tmp_path: Path) -> None:
    made = simulated("base-stock", table)
    with files.output_folder(tmp_path / "out") as scratch:
        write(made, scratch)
    assert "of the margin kept of one who knows all demand" in (tmp_path / "out" / "report.html").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "simulation.json", "steps.parquet"}
    steps = pl.read_parquet(tmp_path / "out" / "steps.parquet")
    assert steps.columns == ["unique_id", "ds", "demand", "orders", "received", "sold", "on_hand"]
    assert steps.height == 8 * WINDOW
    actual = frame().filter(pl.col("unique_id") == "p3")["y"][-WINDOW:].to_list()
    assert steps.filter(pl.col("unique_id") == "p3")["demand"].to_list() == actual
    assert str(steps["ds"].max())[:10] == str(frame()["ds"].max())


def test_what_stands_for_demand_is_said(table: Path) -> None:
    notes = " ".join(simulated("constant", table).notes)
    assert "1 of 9 series have too short a history and are left out." in notes
    assert "Sales are taken for demand" in notes
    assert "the first 2 steps, which no order can reach, do not count" in notes
    stocked = " ".join(simulated("constant", table, roles={"in_stock": "stocked"}).notes)
    assert "48 of 480 steps were out of stock or not observed: their demand is estimated" in stocked


def test_lost_demand_is_put_back(tmp_path: Path) -> None:
    # Demand is 6.5 a week on average; where the shelf was empty, nothing was sold. Unmended it would seem to be 5.2.
    empty = pl.int_range(pl.len()) % 5 == 0
    mended = frame().with_columns(stocked=~empty, y=pl.when(empty).then(0).otherwise(pl.col("y")))
    mended.write_parquet(tmp_path / "empty.parquet")
    history = simulated("constant", tmp_path / "empty.parquet", roles={"in_stock": "stocked"}).history
    assert np.nanmean(history.known) == pytest.approx(6.5, rel=0.05)
    assert history.replayed.mean() == pytest.approx(6.5, rel=0.05)


def test_the_history_knows_nothing_of_the_window(tmp_path: Path) -> None:
    known = []
    for factor in (1, 7):
        late = pl.col("ds").is_in(DAYS[-WINDOW:])
        table = frame().with_columns(
            stocked=pl.int_range(pl.len()) % 3 > 0, y=pl.when(late).then(pl.col("y") * factor).otherwise(pl.col("y"))
        )
        table.write_parquet(tmp_path / f"{factor}.parquet")
        known.append(simulated("constant", tmp_path / f"{factor}.parquet", roles={"in_stock": "stocked"}).history.known)
    np.testing.assert_array_equal(*known)


def test_a_series_is_measured_by_its_own_time(tmp_path: Path) -> None:
    late = frame().filter((pl.col("unique_id") != "p8") & ~((pl.col("unique_id") == "p7") & (pl.col("ds") < DAYS[30])))
    late.write_parquet(tmp_path / "late.parquet")
    history = simulated("base-stock", tmp_path / "late.parquet").history
    row = history.panel.ids.index("p7")
    assert np.isnan(history.known[row, :30]).all()
    assert not history.whole[row]
    assert history.whole.sum() == 7
    # Poisson demand of 10 a week, were the weeks before its first not left out, would seem to be 4.
    assert opening_stock(history.known, InventoryProblem()).on_hand[row] == pytest.approx(10, abs=2)


def test_what_cannot_be_replayed_is_refused(table: Path) -> None:
    with pytest.raises(ArgumentError, match=r"unknown policy 'basestock'; known are .* Did you mean 'base-stock'\?"):
        Settings("basestock")
    with pytest.raises(ArgumentError, match="unknown model 'prophet'"):
        Settings("base-stock", model="prophet")
    with pytest.raises(ArgumentError, match="steps of the window must be a positive integer, got 0"):
        Settings("base-stock", window=0)
    with pytest.raises(ArgumentError, match="the window of 3 steps is too short: lead time \\+ review period is 3"):
        simulated("base-stock", table, window=3)
    with pytest.raises(DataError, match="no series has the 66 steps .* the longest has 60; give a smaller --steps"):
        simulated("base-stock", table, window=60)
    with pytest.raises(UnsupportedError, match="myopic-2 has no table for 'p0': exact solutions are for lost sales"):
        simulated("myopic-2", table, problem=InventoryProblem(backlog=True))


def test_myopic_policies_order_by_the_history_of_each_series(table: Path) -> None:
    # Demand is independent Poisson: what the myopic rules take for granted. They know its distribution from 48 steps.
    rows = {name: summary(simulated(name, table))["policies"][0] for name in ("myopic", "myopic-2", "base-stock")}
    for name in ("myopic", "myopic-2"):
        assert rows[name]["total"] < 1.1 * rows["base-stock"]["total"]
        assert "own history" in rows[name]["words"]
    assert rows["myopic-2"]["total"] < 1.05 * rows["myopic"]["total"]


@pytest.mark.usefixtures("short_curve")
@pytest.mark.parametrize("name", ["min-max", "fixed-lot"])
def test_the_unit_of_demand_changes_nothing_else(name: str, table: Path, tmp_path: Path) -> None:
    path, rules = tmp_path / "tonnes.parquet", OrderRules(case_pack=0.0)
    frame().with_columns(pl.col("y") / 1024).write_parquet(path)
    pieces = simulated(name, table, problem=InventoryProblem(0.2, 1.0, rules=rules))
    tonnes = simulated(name, path, problem=InventoryProblem(0.2 * 1024, 1024.0, rules=rules))
    for one, other in zip(pieces.replays, tonnes.replays, strict=True):
        assert other.total == pytest.approx(one.total, rel=1e-4)
    with pytest.raises(UnsupportedError, match="counts whole units, but demand has a mean of 0.00"):
        simulated("myopic-2", path, problem=InventoryProblem(rules=rules))


@pytest.mark.usefixtures("short_curve")
@pytest.mark.parametrize("name", ["min-max", "fixed-lot"])
def test_what_never_sold_gets_no_lot(name: str, tmp_path: Path) -> None:
    frame().with_columns(y=0.0).write_parquet(tmp_path / "none.parquet")
    assert simulated(name, tmp_path / "none.parquet").replays[0].total == 0.0


def test_a_fixed_order_cost_makes_forecast_orders_rarer(table: Path) -> None:
    ledgers = [
        simulated("projected-inventory", table, model="tsb", problem=InventoryProblem(trade=Trade(order_cost=cost)))
        .replays[0]
        .ledger
        for cost in (0.0, 5.0)
    ]
    often, rarely = (float((one.trajectory.orders > 0).sum()) for one in ledgers)
    assert rarely < 0.7 * often
    # It orders less often than one who does not count what an order costs, and pays less in all.
    assert float(ledgers[1].cost.sum()) < float(ledgers[0].cost.sum()) + 5.0 * often
