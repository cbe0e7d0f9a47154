# SPDX-License-Identifier: Apache-2.0
"""A single wrong or unheard-of number: what forecasters make of it when they ask how much a product usually sells.

It would otherwise be the level for a season, and the spread for a year. As demand to be forecast it counts whole.
"""

import numpy as np
from jaxtyping import Float

SPIKE, SOLD = 10.0, 4  # times the mean of the other steps that sold: most that one counts for, if there are so many


def without_spikes(demand: Float[np.ndarray, "series time"]) -> Float[np.ndarray, "series time"]:
    """Demand of at most `SPIKE` times the mean of the series' other steps that had any; NaN where not observed."""
    size = np.nan_to_num(np.abs(demand))
    others = (size > 0).sum(axis=1, keepdims=True) - 1
    most = SPIKE * (size.sum(axis=1, keepdims=True) - size) / np.maximum(others, 1)
    return np.where((others >= SOLD) & (size > most), np.sign(demand) * most, demand)
