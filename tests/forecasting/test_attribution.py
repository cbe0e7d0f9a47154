# SPDX-License-Identifier: Apache-2.0
"""Attributions by their axioms: completeness, nothing for an input that does not matter, a sum's terms as they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError
from sirdar.forecasting.attribution import sampled
from sirdar.forecasting.models.addons import AddOns
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.sqrf import SparseQuantileForest
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.scaling import DEMAND_CHANNELS
from sirdar.predictive import Forecast
from sirdar.testing.forecasters import example_panel


def panel_with_covariates() -> Panel:
    panel = example_panel()
    rng = np.random.default_rng(4)
    count = len(panel.target)
    return replace(
        panel,
        past={"orders": rng.gamma(2, 3, count).astype(np.float32)},
        future={"price": rng.gamma(9, 1, count).astype(np.float32)},
        static={"kind": np.array(["a", "b", "a", "b", "a", "b"], dtype=object)},
    )


def test_shares_add_up_to_what_the_forecast_gained() -> None:
    panel = panel_with_covariates()
    model = MQCNN(4, steps=30, width=8).fit(panel)
    found = model.explain(panel, "product 3", level=0.9)
    assert model.learned is not None  # what is explained is the forecast before it becomes whole units
    model.learned = replace(model.learned, setting=replace(model.learned.setting, whole=False))
    expected = model.predict(panel).values[3, :, 8].sum()
    assert found.total == pytest.approx(expected, rel=1e-4)
    shares = sum(share for _, _, share in found.parts)
    assert found.baseline > 0  # from which a forecast jumps to that of the least sale
    assert shares == pytest.approx(found.total - found.baseline, rel=1e-5)
    assert set(found.by_input()) == {"demand", "orders", "price", "kind"}
    assert sum(found.by_input().values()) == pytest.approx(shares)
    frame = found.to_frame()
    assert frame.columns == ["input", "period", "units"]
    assert frame.filter(frame["input"] == "kind")["period"].is_null().all()
    (label,) = panel.frequency.written(panel.frequency.labels(panel.end[3:4] + 1))
    assert label in frame.filter(frame["input"] == "price")["period"].to_list()  # the plan ahead tells too


def test_an_input_without_weight_has_no_share() -> None:
    panel = panel_with_covariates()
    model = MQCNN(4, steps=3, width=8).fit(panel)
    assert model.learned is not None
    with torch.no_grad():  # channel of "orders": after those of demand
        model.learned.network.encoder.embed.weight[:, DEMAND_CHANNELS] = 0
    assert "orders" not in model.explain(panel, "product 0", level=0.9).by_input()


def test_wrong_use_is_refused_in_a_sentence() -> None:
    panel = example_panel()
    model = MQCNN(2, steps=1, width=8).fit(panel)
    with pytest.raises(ArgumentError, match="the panel has no series 'product 9'. Did you mean"):
        model.explain(panel, "product 9")
    with pytest.raises(ArgumentError, match="level must be one of the forecaster's, 0.1, .*, got 0.55"):
        model.explain(panel, "product 1", level=0.55)


@dataclass
class Sum:
    """A forecaster whose total is a sum of terms: each term is the share of its input, in any order of turns."""

    horizon: int = 2

    def fit(self, panel: Panel) -> "Sum":
        del panel
        return self

    def predict(self, panel: Panel) -> Forecast:
        demand = panel.tail(panel.target, 3)
        ahead = panel.tail(panel.future["price"], 0, ahead=self.horizon)
        old = np.nansum(panel.tail(panel.past["orders"], 5), axis=1)
        kind = np.array([0.0 if value is None else 4.0 for value in panel.static["kind"]])
        each = (10 * demand[:, 2] + demand[:, 0] + old + kind)[:, None] / 2 + 3 * ahead
        values = np.repeat(each[..., None], 3, axis=2).astype(np.float32)
        return Forecast(panel.ids, panel.end, panel.frequency, (0.1, 0.5, 0.9), values)

    def save(self, path: str | Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path) -> "Sum":
        raise NotImplementedError


def test_terms_of_a_sum_are_the_shares() -> None:
    panel = panel_with_covariates().cut(2)
    panel = replace(panel, target=np.nan_to_num(panel.target, nan=1.0))
    found = sampled(Sum(), panel, "product 3", level=0.9)
    begin, end = int(panel.indptr[3]), int(panel.indptr[3] + panel.history[3])
    demand, price, orders = panel.target[begin:end], panel.future["price"], panel.past["orders"]
    labels = panel.frequency.written(panel.frequency.labels(panel.end[3] + np.arange(-3, 2)))
    own = slice(begin, int(panel.indptr[4]))
    seen = np.concatenate([price[begin:end], price[end : own.stop]])
    shares = {(name, period): share for name, period, share in found.parts}
    assert shares["demand", labels[2]] == pytest.approx(10 * (demand[-1] - demand.mean()), rel=1e-3)
    assert shares["demand", labels[0]] == pytest.approx(demand[-3] - demand.mean(), rel=1e-3, abs=1e-3)
    assert shares["price", labels[3]] == pytest.approx(3 * (price[end] - np.median(seen)), rel=1e-3, abs=1e-3)
    assert shares["kind", None] == pytest.approx(4, rel=1e-3)
    usual = 5 * float(np.median(orders[begin:end]))
    assert found.by_input()["orders"] == pytest.approx(orders[end - 5 : end].sum() - usual, rel=1e-3, abs=1e-3)
    assert ("demand", labels[1]) not in shares  # it has no weight
    assert sum(shares.values()) == pytest.approx(found.total - found.baseline)


def test_changes_that_cancel_each_other_are_told() -> None:
    """Demand of weights 10 and 1, and prices ahead: each moves its step, but all together not the total."""
    panel = panel_with_covariates().cut(2)
    begin, end = int(panel.indptr[3]), int(panel.indptr[3] + panel.history[3])
    target, price = panel.target.copy(), panel.future["price"].copy()
    target[begin:end], price[begin : panel.indptr[4]] = 20, 2
    target[end - 4 : end] = [29, 10, 20, 21]  # of mean 20
    price[end : end + 2] = [1, 3]
    panel = replace(panel, target=target, future={"price": price})
    found = sampled(Sum(), panel, "product 3", level=0.9)
    shares = [share for name, _, share in found.parts if name == "demand"]
    assert shares == pytest.approx([10, -10], rel=1e-3)
    assert [share for name, _, share in found.parts if name == "price"] == pytest.approx([-3, 3], rel=1e-3)


def test_a_covariate_is_not_taken_for_demand_or_the_baseline() -> None:
    panel = panel_with_covariates().cut(4)
    panel = replace(panel, future={"demand": panel.future["price"]}, past={"baseline": panel.past["orders"]})
    for model in (SparseQuantileForest(4, trees=30), MQCNN(4, steps=3, width=8)):
        names = set(model.fit(panel).explain(panel, "product 3", level=0.9).by_input())
        assert (
            {"demand", "demand (covariate)"}
            <= names
            <= {"demand", "demand (covariate)", "baseline (covariate)", "kind"}
        )


@pytest.mark.parametrize(
    "build",
    [
        lambda: Textbook(4, "theta"),
        lambda: AddOns(4),
        lambda: SparseQuantileForest(4, trees=8),
        lambda: Ladder(4, ["seasonal-naive", "theta"]),
    ],
)
def test_every_rung_explains_itself(build: Callable[[], Textbook | AddOns | SparseQuantileForest | Ladder]) -> None:
    panel = panel_with_covariates().cut(4)
    model = build().fit(panel)
    found = model.explain(panel, "product 3", level=0.9)
    assert found.total == pytest.approx(model.predict(panel).values[3, :, 8].sum(), rel=1e-5)
    assert sum(share for *_, share in found.parts) == pytest.approx(found.total - found.baseline, abs=1e-4)
    assert "demand" in found.by_input()
    with pytest.raises(ArgumentError, match="level must be one of the forecaster's, 0.1, .*, got 0.55"):
        model.explain(panel, "product 3", level=0.55)
    future = replace(panel, target=np.where(panel.in_history, panel.target, np.float32(1e6)))
    assert model.explain(future, "product 3", level=0.9) == found  # nothing after history is looked at


def test_a_product_without_history_is_explained_beside_those_that_it_is_like() -> None:
    panel = example_panel()
    row = int(np.flatnonzero(panel.observations() == 0)[0])
    found = Textbook(4, "theta").fit(panel).explain(panel, panel.ids[row])
    assert found.total == pytest.approx(Textbook(4, "theta").fit(panel).predict(panel).values[row, :, 4].sum())
    assert found.total > 0
