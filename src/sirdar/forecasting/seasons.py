# SPDX-License-Identifier: Apache-2.0
"""The season that a panel's history can bear, and what a step of it usually changes."""

import numpy as np
from jaxtyping import Float64

from sirdar.forecasting.panel import Panel


def season_of(panel: Panel) -> int:
    """Steps in a season, or 1 while the longer half of the series have seen less than two of them."""
    season = panel.frequency.season
    return season if np.median(panel.history) >= 2 * season else 1


def scale_of(panel: Panel, season: int) -> Float64[np.ndarray, " series"]:
    """`predictive.scores.seasonal_scale` of the observed history of each series, however long the others' are."""
    owner, seen = panel.step_series, np.where(panel.observed, panel.target, np.float32(np.nan))
    change = np.abs(seen[season:] - seen[:-season])
    rows = owner[season:][known := np.isfinite(change) & (owner[season:] == owner[:-season])]
    count = np.bincount(rows, minlength=len(panel))
    total = np.bincount(rows, change[known], len(panel))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
