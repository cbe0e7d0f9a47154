# SPDX-License-Identifier: Apache-2.0
"""The VN2 rules on cases worked by hand, and the organiser's policy against its published script."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sirdar.errors import ArgumentError, DataError
from sirdar.inventory import Stock
from sirdar.recipes.vn2_rules import Benchmark, History, opening_stock, play, published_stock, seasonal_moving_average


def history(sales: np.ndarray, in_stock: np.ndarray | None = None) -> History:
    sales = np.atleast_2d(sales).astype(float)
    ids = [f"0_{row}" for row in range(len(sales))]
    weeks = np.datetime64("2021-04-12") + 7 * np.arange(sales.shape[1])
    groups = {name: np.arange(len(sales)) % 2 for name in ("Store", "Product", "ProductGroup", "Department")}
    return History(ids, weeks, sales, np.ones(sales.shape, bool) if in_stock is None else in_stock, groups)


def random_history(series: int = 6, time: int = 90, seed: int = 0) -> History:
    random = np.random.default_rng(seed)
    sales = random.poisson(random.gamma(1.0, 4.0, (series, 1)), (series, time))
    in_stock = random.uniform(size=sales.shape) > 0.1
    return history(np.where(in_stock, sales, 0), in_stock)


@dataclass
class Fixed:
    """Orders what it is told, and writes down what it sees."""

    orders: list[float]
    seen: list[tuple[int, list[float], list[list[float]]]] = field(default_factory=list)

    def order(self, history: History, on_hand: np.ndarray, arriving: np.ndarray) -> np.ndarray:
        self.seen.append((history.time, on_hand.tolist(), arriving.tolist()))
        return np.full(len(on_hand), float(self.orders[len(self.seen) - 1]))


def test_an_order_meets_the_demand_of_the_third_week() -> None:
    sales = np.concatenate([np.full(52, 1.0), [4, 1, 5, 2, 2, 2, 2, 2]])
    player = Fixed([3, 0, 6, 0, 0, 0])
    ledger = play(player, history(sales), 52, Stock([2.0], [[1.0, 2.0]]))
    steps = {name: np.asarray(getattr(ledger.trajectory, name))[0] for name in ("received", "sold", "on_hand")}
    # Week 1: 2 + 1 against 4. Week 2: 0 + 2 against 1. Week 3: 1 + 3 against 5. Week 5: 6 against 2, then 4, 2, 0 left.
    assert steps["received"].tolist() == [1, 2, 3, 0, 6, 0, 0, 0]
    assert steps["sold"].tolist() == [3, 1, 4, 0, 2, 2, 2, 0]
    assert steps["on_hand"].tolist() == [0, 1, 0, 0, 4, 2, 0, 0]
    # Weeks 3 to 8 only: lost 1 + 2 + 2, held 4 + 2; week 1's lost sale and week 2's unit are not counted.
    assert float(ledger.cost.sum()) == pytest.approx(5 + 0.2 * 6)
    # Before week w the player knows w - 1 weeks more than at first, what is left, what arrives in weeks w and w + 1.
    assert player.seen[:3] == [(52, [2], [[1, 2]]), (53, [0], [[2, 3]]), (54, [1], [[3, 0]])]
    assert len(player.seen) == 6


def test_the_first_two_weeks_cost_everyone_the_same_and_no_unit_is_lost_on_the_way() -> None:
    past = random_history(time=70)
    stock = opening_stock(past.until(60))
    costs = []
    for size in (0.0, 9.0):
        done = play(Fixed([size] * 6), past, 60).trajectory
        costs.append(np.asarray(done.on_hand)[:, :2] * 0.2 + np.asarray(done.late)[:, :2])
        start = stock.on_hand.sum() + stock.pipeline.sum()
        left_over = float(done.orders[:, 6:].sum())
        assert left_over == 0
        assert start + 6 * 6 * size == pytest.approx(float(done.sold.sum()) + float(done.on_hand[:, -1].sum()))
    assert (costs[0] == costs[1]).all()


def test_the_opening_stock_is_last_years_mean_rounded_up() -> None:
    stock = opening_stock(history(np.stack([np.r_[99, np.full(52, 2.0)], np.r_[99, 53, np.zeros(51)], np.zeros(53)])))
    assert stock.on_hand.tolist() == [2, 2, 0]
    assert stock.pipeline.tolist() == [[0, 1], [0, 1], [0, 0]]


def organisers(past: History, stock: Stock) -> np.ndarray:
    """The steps of the organiser's published script (Official_Benchmark.py), in pandas as there."""
    columns = pd.DatetimeIndex(past.weeks)
    sales = pd.DataFrame(past.observed, columns=columns)
    week = columns.isocalendar().week
    season = pd.Series(sales.mean(axis=0)).groupby(week.to_numpy()).mean()
    season = season.div(season.to_numpy().mean())
    level = (sales / season.loc[week.to_numpy()].to_numpy()).iloc[:, -13:].mean(axis=1)
    ahead = pd.date_range(columns[-1], periods=10, inclusive="neither", freq="W-MON").isocalendar().week
    forecast = level.to_numpy()[:, None] * season.loc[ahead.to_numpy()].to_numpy()
    net = stock.on_hand + stock.pipeline.sum(axis=1)
    return np.clip(forecast[:, :4].sum(axis=1) - net, 0, None).round(0)


@pytest.mark.parametrize("seed", range(3))
def test_the_benchmark_is_the_organisers(seed: int) -> None:
    past = random_history(series=20, time=120, seed=seed)
    stock = opening_stock(past)
    found = Benchmark().order(past, stock.on_hand, stock.pipeline)
    assert (found == organisers(past, stock)).all()
    assert found.sum() > 0


def test_the_seasonal_average_by_hand() -> None:
    # Two units a week, four in the first of the 52: its season is 4 / (106 / 52), that of the others 2 / (106 / 52).
    past = history(np.r_[4.0, np.full(51, 2.0)])
    assert seasonal_moving_average(past, 2)[0] == pytest.approx([4.0, 2.0])
    out = past.in_stock.copy()
    out[:, -13:] = False
    two = history(np.vstack([past.sales, past.sales]), np.vstack([out, past.in_stock]))
    assert seasonal_moving_average(two, 1)[0] == 0
    with pytest.raises(ArgumentError, match="the season of calendar week .* is unknown"):
        seasonal_moving_average(past.until(40), 1)


def test_windows_must_fit_into_the_history() -> None:
    with pytest.raises(ArgumentError, match="origin must lie between 52 and 62 for 70 weeks, got 63"):
        play(Benchmark(), random_history(time=70), 63)
    with pytest.raises(ArgumentError, match="the history has 70 weeks, so it cannot be cut to 71"):
        random_history(time=70).until(71)


def write(folder: Path) -> None:
    names = {"Store": [0, 1], "Product": [7, 8]}
    state = names | {"End Inventory": [3, 1], "In Transit W+1": [0, 2], "In Transit W+2": [1, 0]}
    pl.DataFrame(state).write_parquet(folder / "initial_state.parquet")
    pl.DataFrame(names | {"ProductGroup": [5, 6], "Department": [1, 1]}).reverse().write_parquet(
        folder / "master.parquet"
    )
    rows = [(0, 7, "2021-04-12", 1.0, True), (1, 8, "2021-04-12", 2.0, True)]
    rows += [(1, 8, "2021-04-19", 0.0, False), (0, 7, "2021-04-19", 4.0, True)]
    columns = ["Store", "Product", "ds", "y", "in_stock"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(folder / "sales_weekly.parquet")


def test_the_tables_are_read_in_the_order_of_the_initial_state(tmp_path: Path) -> None:
    write(tmp_path)
    found = History.read(tmp_path)
    assert found.ids == ["0_7", "1_8"]
    assert found.sales.tolist() == [[1, 4], [2, 0]]
    assert found.in_stock.tolist() == [[True, True], [True, False]]
    assert found.groups["ProductGroup"].tolist() == [5, 6]
    assert str(found.monday(2)) == "2021-04-26"
    assert published_stock(tmp_path).pipeline.tolist() == [[0, 1], [2, 0]]


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give the folder of the VN2 data"):
        History.read(tmp_path)
    write(tmp_path)
    sales = pl.read_parquet(tmp_path / "sales_weekly.parquet")
    sales[:3].write_parquet(tmp_path / "sales_weekly.parquet")
    with pytest.raises(DataError, match="every series needs a row for every week"):
        History.read(tmp_path)
    sales.drop("in_stock").write_parquet(tmp_path / "sales_weekly.parquet")
    with pytest.raises(DataError, match="no column 'in_stock'"):
        History.read(tmp_path)
