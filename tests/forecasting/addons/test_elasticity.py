# SPDX-License-Identifier: Apache-2.0
"""Elasticities of simulated demand, whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting.addons.elasticity import PriceElasticity
from sirdar.forecasting.panel import Panel
from sirdar.testing.forecasters import panel_of

TRUTH = {"a": -2.0, "b": -4.0}


def simulated(seed: int, *, noise: float = 0.3, rate: float = 30, moved: float = 0.3) -> tuple[Panel, np.ndarray]:
    """Forty products in two categories, own elasticities spread by 0.4 about the category's, a promotion worth 0.5."""
    rng = np.random.default_rng(seed)
    kind = np.array(["a", "b"] * 20, dtype=object)
    own = np.array([TRUTH[k] for k in kind]) + rng.normal(0, 0.4, 40)
    price = np.where(rng.random((40, 110)) < moved, rng.uniform(0.7, 1.0, (40, 110)), 1.0)
    flag = (rng.random((40, 110)) < 0.1).astype(float)
    trend = np.linspace(0, rng.normal(0, 0.5, 40), 110, axis=1)
    log = np.log(rate) + trend + own[:, None] * np.log(price) + 0.5 * flag + rng.normal(0, noise, (40, 110))
    panel = panel_of(rng.poisson(np.exp(log)))
    columns = {"price": price.astype(np.float32).ravel(), "flag": flag.astype(np.float32).ravel()}
    return replace(panel, future=columns, price="price", static={"kind": kind}), own


@pytest.mark.parametrize("rate", [2, 30, 3000])
def test_known_elasticities_are_recovered_within_their_standard_errors(rate: float) -> None:
    inside, gaps = [], []
    for seed in range(6):
        panel, own = simulated(seed, rate=rate)
        table = PriceElasticity(promotions=["flag"], category="kind").fit(panel).elasticities()
        rows = table.filter(variable="price")
        gap = rows["elasticity"].to_numpy() - own
        inside.append(np.abs(gap) < 1.96 * rows["standard_error"].to_numpy())
        gaps.append(gap)
        flag = table.filter(variable="flag")["elasticity"].mean()
        assert flag == pytest.approx(0.5, abs=0.1)
    assert 0.90 < np.mean(inside) < 0.985
    assert abs(np.mean(gaps)) < 0.1


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_errors_are_right_where_prices_stay_and_levels_wander(step: float) -> None:
    """Prices that stay for some seven weeks, levels that walk at random: neighbouring residuals are alike."""
    inside = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        own, moves = rng.normal(-2, 0.3, 20), rng.random((20, 104)) < 0.15
        last = np.maximum.accumulate(np.where(moves, np.arange(104), 0), axis=1)
        price = np.take_along_axis(rng.normal(0, 0.2, (20, 104)), last, axis=1)
        level = np.log(30) + np.cumsum(step * rng.normal(size=(20, 104)), axis=1)
        panel = panel_of(rng.poisson(np.exp(level + own[:, None] * price)))
        panel = replace(panel, future={"price": np.exp(price).astype(np.float32).ravel()}, price="price")
        table = PriceElasticity().fit(panel).elasticities()
        inside.append(np.abs(table["elasticity"].to_numpy() - own) < 1.645 * table["standard_error"].to_numpy())
    assert 0.77 < np.mean(inside) < 0.97  # of 90 %; residuals taken for independent held .74 where levels wander


def test_a_product_whose_price_never_moved_has_its_category_s_elasticity() -> None:
    panel, _ = simulated(0)
    price = panel.future["price"].copy()
    price[:110] = 1.0
    fitted = PriceElasticity(category="kind").fit(replace(panel, future={"price": price}))
    own = fitted.elasticities().filter(variable="price")
    category = fitted.elasticities("category").filter(variable="price", name="a")
    assert own["elasticity"][0] == pytest.approx(category["elasticity"][0], abs=1e-6)
    assert own["standard_error"][0] > 1.1 * own["standard_error"][2]


def test_out_of_stock_weeks_say_nothing() -> None:
    panel, _ = simulated(1)
    stock = np.ones(len(panel.target), dtype=bool)
    stock[::7] = False
    spoilt = np.where(stock, panel.target, 0).astype(np.float32)
    first, second = (
        PriceElasticity(category="kind").fit(replace(panel, in_stock=stock, target=target)).elasticities()
        for target in (panel.target, spoilt)
    )
    assert first["elasticity"].to_list() == second["elasticity"].to_list()


def test_a_new_product_has_its_category_s_effect() -> None:
    panel, _ = simulated(2)
    fitted = PriceElasticity(category="kind").fit(panel.select(np.arange(1, 40)))
    effect = fitted.effect(panel.select(np.array([0])), 110)[0]
    expected = fitted.elasticities("category").filter(name="a")["elasticity"][0]
    log = np.log(panel.future["price"][:110])
    np.testing.assert_allclose(np.diff(np.log(effect)), expected * np.diff(log), atol=1e-4)


def test_a_rival_that_is_the_product_itself_is_left_out() -> None:
    panel, _ = simulated(3)
    columns = panel.future | {"same": panel.future["price"]}
    fitted = PriceElasticity(cross=["same"]).fit(replace(panel, future=columns))
    assert np.abs(fitted.elasticities().filter(variable="same")["elasticity"].to_numpy()).max() < 1e-6


def test_without_a_price_there_is_nothing_to_learn() -> None:
    with pytest.raises(ArgumentError, match="neither a price nor a promotion"):
        PriceElasticity().fit(panel_of([[1, 2, 3]]))
    with pytest.raises(ArgumentError, match=r"call fit\(panel\) first"):
        PriceElasticity().elasticities()
