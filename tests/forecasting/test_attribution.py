# SPDX-License-Identifier: Apache-2.0
"""Integrated gradients by their axioms: completeness, and nothing for an input that does not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.scaling import DEMAND_CHANNELS
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
    found = model.explain(panel, "product 3")
    assert model.learned is not None  # what is explained is the forecast before it becomes whole units
    model.learned = replace(model.learned, setting=replace(model.learned.setting, whole=False))
    expected = model.predict(panel).values[3, :, 4].sum()
    assert found.total == pytest.approx(expected, rel=1e-4)
    shares = sum(share for _, _, share in found.parts)
    assert shares == pytest.approx(found.total - found.baseline, rel=0.03)
    assert set(found.by_input()) == {"demand", "orders", "price", "kind"}
    assert sum(found.by_input().values()) == pytest.approx(shares)
    frame = found.to_frame()
    assert frame.columns == ["input", "period", "units"]
    assert frame.filter(frame["input"] == "kind")["period"].is_null().all()
    label = str(panel.frequency.labels(panel.end[3:4] + 1)[0].astype("datetime64[s]"))
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
