# SPDX-License-Identifier: Apache-2.0
"""The season that a panel can bear: two of it in at least half of the series."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.forecasting.seasons import scale_of, season_of
from sirdar.predictive import seasonal_scale
from sirdar.testing.forecasters import panel_of


@pytest.mark.parametrize(
    ("lengths", "unit", "season"),
    [
        ([104, 104], "W", 52),
        ([104, 103], "W", 1),  # a median of 103.5
        ([14, 14, 1], "D", 7),
        ([14, 1, 1], "D", 1),
        ([48], "h", 24),
        ([24], "M", 12),
        ([8], "Q", 4),
        ([9], "Y", 1),
    ],
)
def test_the_median_history_decides(lengths: list[int], unit: str, season: int) -> None:
    assert season_of(panel_of([np.ones(length) for length in lengths], unit=unit)) == season


def test_steps_after_history_do_not_count() -> None:
    assert season_of(panel_of([np.ones(104)]).cut(1)) == 1


@given(
    st.lists(
        st.lists(st.one_of(st.just(np.nan), st.floats(-1e3, 1e3)), min_size=1, max_size=12), min_size=1, max_size=5
    ),
    st.integers(1, 5),
)
def test_the_scale_is_that_of_the_scores(demand: list[list[float]], season: int) -> None:
    panel = panel_of(demand).cut(1)
    table = panel.tail(np.where(panel.in_history, panel.target, np.float32(np.nan)), 12)
    assert scale_of(panel, season) == pytest.approx(seasonal_scale(table, season), rel=1e-5, nan_ok=True)
