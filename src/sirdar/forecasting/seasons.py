# SPDX-License-Identifier: Apache-2.0
"""The season that a panel's history can bear."""

import numpy as np

from sirdar.forecasting.panel import Panel


def season_of(panel: Panel) -> int:
    """Steps in a season, or 1 while the longer half of the series have seen less than two of them."""
    season = panel.frequency.season
    return season if np.median(panel.history) >= 2 * season else 1
