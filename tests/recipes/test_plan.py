# SPDX-License-Identifier: Apache-2.0
"""The main job on a small table of seasonal, intermittent and new products."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting import ladder
from sirdar.forecasting.models.ensemble import Ensemble
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.mqtransformer import MQTransformer
from sirdar.forecasting.models.textbook import Textbook
from sirdar.inventory import InventoryProblem, OrderRules
from sirdar.predictive import Forecast, Frequency
from sirdar.recipes import files, migrate
from sirdar.recipes.plan import Plan, Settings, compare_chips, example_network, place_orders, plan
from sirdar.recipes.plan_report import report_of, telling_products
from sirdar.recipes.write import write_plan

WEEKS, PRODUCTS = 60, 24
ROLES = {"price": "price", "static": ["group"]}


def quiet(_text: str, _done: float) -> None:
    pass


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    start = np.datetime64("2024-01-07")
    rows = []
    for product in range(PRODUCTS):
        begin = 0 if product < PRODUCTS - 3 else WEEKS - 6  # three new products
        level = 0.3 if product % 4 == 0 else 5.0 * (product + 1)
        for week in range(begin, WEEKS):
            price = 2.0 if week < WEEKS - 8 or product != 18 else 1.0
            rows.append(
                (f"p{product:02}", (start + 7 * week).item(), float(generator.poisson(level)), price, "ab"[product % 2])
            )
    frame = pl.DataFrame(rows, schema=["unique_id", "ds", "y", "price", "group"], orient="row")
    path = tmp_path_factory.mktemp("table") / "demand.parquet"
    frame.write_parquet(path)
    return path


def settings_of(table: Path, **changes: object) -> Settings:
    arguments: dict = {"source": table, "roles": ROLES, "horizon": 4, "windows": 2, "models": ("seasonal-naive", "tsb")}
    return Settings(**(arguments | changes))


@pytest.fixture(scope="module")
def neural(table: Path) -> Iterator[Plan]:
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(MQCNN, steps=20)  # what is tested is the plan, not the accuracy
        build = ladder.build
        patch.setattr(
            ladder, "build", lambda name, *a, **k: (quick if name == "mq-cnn" else partial(build, name))(*a, **k)
        )
        yield plan(settings_of(table, models=("seasonal-naive", "mq-cnn"), windows=1), quiet)


def test_what_ended_long_ago_is_not_ordered() -> None:
    start = np.array([10, 10, 9, 2, 60], dtype=np.int64) - 60  # before 1970 too
    ids = ["a", "b", "late", "gone", "misdated"]
    forecast = Forecast(ids, start, Frequency("W"), (0.5,), np.full((5, 4, 1), 6.0), floor=0.0)
    orders = place_orders(Settings(horizon=4), forecast)
    assert (orders.plan.quantity > 0).tolist() == [True, True, True, False, True]
    assert "Of the products, 1 ('gone') ended long before the others: nothing is ordered for them." in orders.note
    assert "1 ('late') have no rows in the last steps: their orders rest on forecasts from their last." in orders.note
    assert "Of the products" not in place_orders(Settings(horizon=4), forecast.take(np.array([0, 1]))).note


def test_orders_keep_a_budget_and_the_room_that_there_is(tmp_path: Path) -> None:
    start, values = np.full(2, 10, dtype=np.int64), np.full((2, 4, 1), 6.0)
    forecast = Forecast(["a", "b"], start, Frequency("W"), (0.5,), values, floor=0.0)
    stock = tmp_path / "stock.csv"
    stock.write_text("unique_id,on_hand,price,unit_cost,volume\na,0,9,3,2\nb,0,5,3,1\n")

    def ordered(rules: OrderRules, inventory: Path | None = stock) -> files.Orders:
        return place_orders(Settings(horizon=4, problem=InventoryProblem(rules=rules), inventory=inventory), forecast)

    free = ordered(OrderRules())
    assert "cost more than they earn" not in free.note
    assert free.plan.quantity.tolist() == [6, 6]  # of the third step, before which nothing can arrive
    cheap = ordered(OrderRules(budget=24.0))
    assert cheap.plan.quantity.tolist() == [6, 2]  # a unit of a earns 6, one of b 2
    assert files.order_totals(cheap)["spent"] == 24
    small = ordered(OrderRules(capacity=15.0))
    assert files.order_totals(small)["room_filled"] == 15
    with pytest.raises(ArgumentError, match="a budget needs to know what units cost"):
        ordered(OrderRules(budget=24.0), None)


def test_what_costs_more_than_it_earns_is_told(tmp_path: Path) -> None:
    start, values = np.full(2, 10, dtype=np.int64), np.full((2, 4, 1), 6.0)
    forecast = Forecast(["a", "b"], start, Frequency("W"), (0.5,), values, floor=0.0)
    stock = tmp_path / "stock.csv"
    stock.write_text("unique_id,on_hand,lost_sale_cost,price,unit_cost\na,0,1,9,3\nb,0,1,5,9\n")
    orders = place_orders(Settings(horizon=4, inventory=stock), forecast)
    assert orders.plan.quantity.tolist() == [6, 0]
    assert "1 ('b') cost more than they earn, lost sales included: nothing is ordered for them." in orders.note


def test_returns_that_outnumber_sales_are_no_rise(table: Path) -> None:
    frame = pl.read_parquet(table)
    frame = frame.with_columns(y=pl.when(pl.col("unique_id") == "p23").then(-1.0).otherwise(pl.col("y")))
    frame = frame.with_columns(y=pl.when(pl.col("unique_id") == "p22").then(-2.0).otherwise(pl.col("y")))
    done = plan(settings_of(table, source=_written(frame, table.with_name("returns.parquet"))), quiet)
    rising = [fan.id for fan in telling_products(done) if fan.why == "rising"]
    assert not {"p22", "p23"} & set(rising)


def _written(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_parquet(path)
    return path


def test_fractions_are_ordered_where_packs_are_fractions(table: Path) -> None:
    frame = pl.read_parquet(table).with_columns(y=pl.col("y") * 0.01)
    problem = InventoryProblem(rules=OrderRules(case_pack=0.01))
    source = _written(frame, table.with_name("small.parquet"))
    done = plan(settings_of(table, source=source, problem=problem), quiet)
    assert done.orders.plan.total_fill_rate > 0.8
    assert "Orders are multiples of 0.01." in report_of(done).order_assumptions


def test_every_product_gets_a_forecast_and_an_order(table: Path) -> None:
    done = plan(settings_of(table), quiet)
    assert done.backtest.winner in {"tsb", "seasonal-naive"}
    assert done.forecast.values.shape == (PRODUCTS, 4, 9)
    assert list(done.forecast.ids) == list(done.orders.plan.ids) == [f"p{i:02}" for i in range(PRODUCTS)]
    assert (done.orders.plan.quantity >= 0).all()
    assert done.chips is done.priced is None  # no network took part
    assert set(done.seconds) == {"read", "backtest", "forecast", "order", "chips"}


def test_the_report_of_hourly_demand_tells_its_hours(tmp_path: Path) -> None:
    path, generator = tmp_path / "hourly.parquet", np.random.default_rng(0)
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(96) * np.timedelta64(1, "h")
    rows = [(f"p{i}", time.item(), float(generator.poisson(5))) for i in range(5) for time in times]
    pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row").write_parquet(path)
    done = plan(settings_of(path, roles={}, models=("seasonal-naive",)), quiet)
    report = report_of(done)
    assert report.fans[0].history_dates[-1] == "2024-01-04T23:00"
    assert list(report.fans[0].forecast_dates) == [f"2024-01-05T0{hour}:00" for hour in range(4)]
    assert done.backtest.origins[-1].label == "2024-01-04T19:00"


def test_the_files_are_whole_and_the_same_for_the_same_seed(table: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        with files.output_folder(tmp_path / name) as scratch:
            write_plan(plan(settings_of(table), quiet), scratch, quiet)
    for file in ("forecast.parquet", "orders.parquet"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    run = json.loads((tmp_path / "first" / "run.json").read_text())
    assert run["seed"] == 0
    assert run["peak_memory_bytes"] > 0
    assert run["versions"]["torch"].startswith("2.13")
    assert run["seconds_total"] == pytest.approx(sum(run["seconds"].values()))
    board = json.loads((tmp_path / "first" / "leaderboard.json").read_text())
    assert [row["wql"] for row in board["models"]] == sorted(row["wql"] for row in board["models"])
    again = files.read_forecast(tmp_path / "first" / "forecast.parquet")
    frame = pl.read_parquet(tmp_path / "first" / "forecast.parquet")
    assert frame.height == PRODUCTS * 4
    # The last week seen is 2025-02-23, so the first one forecast ends a week later.
    assert str(frame["ds"].min()) == "2025-03-02"
    np.testing.assert_array_equal(again.values.reshape(-1), frame.select(pl.col("^q0.*$")).to_numpy().reshape(-1))
    assert not list(tmp_path.glob(".*"))  # no scratch folder is left


def test_the_network_is_trained_traced_and_saved(neural: Plan, tmp_path: Path) -> None:
    assert neural.chips is not None
    assert {row.chip for row in neural.chips.options} >= {"inferentia2", "trainium1", "h100", "graviton3", "this-cpu"}
    with files.output_folder(tmp_path / "out") as scratch:
        summary = write_plan(neural, scratch, quiet)
    assert summary["chips"][0]["price_usd"] > 0
    assert summary["chips_for"] == "mq-cnn"
    assert "series with mq-cnn in batches" in (tmp_path / "out" / "report.html").read_text()
    ranking = compare_chips(example_network(tmp_path / "out" / "model"), chips=("t4",), volume=1000, batch=64)
    assert ranking.options[0].chip == "t4"


def test_the_winner_is_what_is_saved_though_a_network_that_lost_is_priced(neural: Plan, tmp_path: Path) -> None:
    theta = ladder.build("theta", 4).fit(neural.panel)
    done = replace(neural, winner=theta, forecast=theta.predict(neural.panel))
    write_plan(done, tmp_path, quiet)
    again = Textbook.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(neural.panel).values, done.forecast.values)
    with pytest.raises(DataError, match="holds a 'textbook' forecaster, which is no network"):
        example_network(tmp_path / "model")


@pytest.mark.parametrize("kind", [FeedForward, MQTransformer])
def test_every_kind_of_network_is_priced_and_found_in_an_ensemble(kind: type, neural: Plan, tmp_path: Path) -> None:
    network = kind(4, steps=1)
    members = {"theta": ladder.build("theta", 4), "network": network}
    Ensemble(members).fit(neural.panel).save(tmp_path / "model")
    found = example_network(tmp_path / "model")
    assert isinstance(found, kind)
    assert compare_chips(found, chips=("t4",), volume=10, batch=2).options[0].latency_s > 0
    assert migrate.open_model(str(tmp_path / "model"))[1] is not None


def test_the_report_tells_the_products_that_tell_something(neural: Plan) -> None:
    report = report_of(neural)
    fans = {fan.why: fan for fan in report.fans}
    assert fans["best seller"].id == "p19"  # 100 a week; p20 sells one in three weeks and those after it are new
    assert fans["new"].id in {"p21", "p22", "p23"}
    assert fans["price change"].id == "p18"
    assert fans["price change"].prices is not None
    assert len(report.leaderboard) == 2
    assert {point.model for point in report.calibration} >= {"seasonal-naive"}


def test_an_order_must_be_covered_by_the_horizon(table: Path) -> None:
    with pytest.raises(ArgumentError, match="lead time \\+ review period is 5 steps, but forecasts reach 4"):
        settings_of(table, problem=InventoryProblem(lead_time=4))


def test_stock_from_a_file_is_used(table: Path, tmp_path: Path) -> None:
    stock = tmp_path / "stock.csv"
    rows = "".join(f"p{i:02},100000,5\n" for i in range(PRODUCTS))
    stock.write_text(f"sku,on_hand,arriving_1\n{rows}")
    named = _written(pl.read_parquet(table).rename({"unique_id": "sku"}), tmp_path / "named.parquet")
    done = plan(settings_of(named, roles=ROLES | {"id": "sku"}, inventory=stock), quiet)
    assert done.orders.plan.quantity.sum() == 0  # everything is there for years
    assert "stock.csv" in done.orders.note


def test_products_may_have_their_own_terms(table: Path, tmp_path: Path) -> None:
    """As `sirdar order` reads them: packs of 24 for all, and one product that nobody minds to lose."""
    stock = tmp_path / "stock.csv"
    rows = "".join(f"p{i:02},0,24,{'0.001' if i == 3 else '2'},{i % 2 + 1}\n" for i in range(PRODUCTS))
    stock.write_text("unique_id,on_hand,case_pack,lost_sale_cost,lead_time\n" + rows)
    done = plan(settings_of(table, inventory=stock), quiet)
    quantity = dict(zip(done.forecast.ids, done.orders.plan.quantity, strict=True))
    assert all(units % 24 == 0 for units in quantity.values())
    assert quantity["p03"] == 0 < quantity["p05"]
    told = " ".join(report_of(done).order_assumptions)
    assert "case_pack, lost_sale_cost, lead_time are those of each product." in told
    assert "a unit of demand without stock 0.001 to 2: the critical ratio is" in told
    assert "Orders take 1 to 2 weeks" in told
    assert "Orders are multiples of 24." in told
    stock.write_text("unique_id,on_hand,lead_time\np00,1,9\n")
    with pytest.raises(
        DataError, match="stock.csv: lead time . review period of 'p00' is 10 steps, but forecasts reach"
    ):
        plan(settings_of(table, inventory=stock), quiet)


def test_a_bad_stock_file_is_refused_before_the_backtest(table: Path, tmp_path: Path) -> None:
    (tmp_path / "stock.csv").write_text("unique_id,on_hand\nelsewhere,5\n")
    steps: list[str] = []
    with pytest.raises(DataError, match="none of its products"):
        plan(settings_of(table, inventory=tmp_path / "stock.csv"), lambda text, _: steps.append(text))
    assert set(steps) == {"read"}
