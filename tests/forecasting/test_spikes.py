# SPDX-License-Identifier: Apache-2.0
"""One huge number in a history: no rung's forecast is carried away by it. The truth is Poisson demand of mean 20."""

import numpy as np
import pytest

from sirdar.forecasting import ladder
from sirdar.forecasting.spikes import without_spikes
from sirdar.testing.forecasters import panel_of


@pytest.mark.parametrize(("rung", "at"), [("sqrf", 100), ("feed-forward", 115), ("mq-cnn", 100), ("mq-cnn", 115)])
def test_a_spike_moves_no_forecast_far(rung: str, at: int) -> None:
    demand = np.random.default_rng(0).poisson(20, (30, 120)).astype(float)
    demand[0, at] = 4000
    panel = panel_of(demand)
    median = ladder.build(rung, 4).fit(panel).predict(panel).median()
    assert 5 < median[0].mean() < 45
    assert np.abs(median[1:].mean() - 20) < 2


def test_what_is_usual_stays() -> None:
    demand = np.array([[0, 5, np.nan, 7, 3, 40, 6], [1, 0, 0, 90, 0, 0, 2], [-5, 4, -6, 5, -4, 6, -900]], dtype=float)
    found = without_spikes(demand)
    np.testing.assert_array_equal(found[:2], demand[:2])  # none ten times the others, or too few to tell
    assert found[2, -1] == -50
