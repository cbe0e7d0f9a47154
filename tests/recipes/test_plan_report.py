# SPDX-License-Identifier: Apache-2.0
"""The page's headline where there is little to tell."""

from dataclasses import replace

import pytest

from sirdar.forecasting.backtest import Score
from sirdar.recipes.plan_report import gain_of

NAIVE = Score("seasonal-naive", 0.4, 1.0, 0.8, 0.8, 0.0, 1.0, 1.0, 1, 1.0, 1.0, (0.4,))


@pytest.mark.parametrize(
    ("best", "naive", "words"),
    [
        (0.3, 0.4, "25% less quantile loss than seasonal-naive"),
        (0.3, None, "WQL 0.300"),
        (0.0, 0.0, "WQL 0.000"),  # demand that never changes
        (float("nan"), float("nan"), "nothing was sold that could be scored"),
    ],
)
def test_the_gain_is_told_where_there_is_one(best: float, naive: float | None, words: str) -> None:
    rival = None if naive is None else replace(NAIVE, wql=naive)
    assert gain_of(replace(NAIVE, wql=best), rival) == words
