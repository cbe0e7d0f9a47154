# SPDX-License-Identifier: Apache-2.0
"""What past demand tells a learned policy: a scale per step and series, and features counted in it.

All of it is known before the demand of the step: row t uses the demand of steps 0 .. t-1 alone, so that a policy that
sees it can be replayed on history without looking ahead.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sirdar.errors import require_positive_integer

Context = Float[np.ndarray, "time series channel"]
MOST = 6.0  # larger ratios are cut: one freak week must not saturate a network


def demand_context(
    demand: Float[np.ndarray, "series time"],
    *,
    lags: int = 16,
    season: int = 0,
    ahead: int = 8,
    groups: Sequence[Int[np.ndarray, " series"]] = (),
) -> tuple[Float[np.ndarray, "time series"], Context]:
    """Scale and features of every step.

    Args:
        demand: units, not negative.
        lags: latest steps shown one by one; their mean is the scale.
        season: steps in a season; with it, the demand of one season ago is shown, from the step of the order on. 0 for
            none.
        ahead: steps of the season before that are shown: lead time + review period, or a little more.
        groups: labels of series (shops, products) whose total demand is shown too: it is less noisy than their own.

    Returns:
        Scale [time, series], above 0, and context [time, series, channel], float32.
    """
    require_positive_integer(lags, "lags")
    require_positive_integer(ahead, "ahead")
    wanted = np.asarray(demand, dtype=np.float32)
    time = wanted.shape[1]
    overall = 0.1 * _mean_before(wanted, time) + 0.1
    scale = _mean_before(wanted, lags) + overall  # above 0 for what has not sold lately
    parts = [_latest(wanted, scale, lags), _levels(wanted, scale)]
    if season:
        parts.append(_season_ago(wanted, scale, season, ahead, lags))
    for labels in groups:
        _, index = np.unique(labels, return_inverse=True)
        total = np.zeros((int(index.max()) + 1, time), dtype=np.float32)
        np.add.at(total, index, wanted)
        total_scale = _mean_before(total, lags) + 0.1
        pooled = [_latest(total, total_scale, 4)]
        if season:
            pooled.append(_season_ago(total, total_scale, season, ahead, lags))
        parts.append(np.concatenate(pooled, axis=-1)[:, index])
    context = np.concatenate(parts, axis=-1)
    return np.ascontiguousarray(scale.T), np.minimum(context, MOST)


def _mean_before(demand: np.ndarray, window: int) -> np.ndarray:
    """Mean of up to `window` steps before each step; 0 before the first."""
    total = np.concatenate([np.zeros((len(demand), 1)), np.cumsum(demand, axis=1, dtype=np.float64)], axis=1)
    ends = np.arange(demand.shape[1])
    starts = np.maximum(ends - window, 0)
    return ((total[:, ends] - total[:, starts]) / np.maximum(ends - starts, 1)).astype(np.float32)


def _latest(demand: np.ndarray, scale: np.ndarray, lags: int) -> np.ndarray:
    """The latest steps, newest first: [time, series, lag]."""
    padded = np.pad(demand, ((0, 0), (lags, 0)))
    planes = [padded[:, lags - lag : lags - lag + demand.shape[1]] / scale for lag in range(1, lags + 1)]
    return np.stack([plane.T for plane in planes], axis=-1)


def _levels(demand: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Means over several windows, spread, share of empty steps, and the size itself."""
    windows = [_mean_before(demand, window) / scale for window in (4, 8, 26, 52)]
    second = _mean_before(demand**2, 16) - _mean_before(demand, 16) ** 2
    spread = np.sqrt(np.maximum(second, 0.0)) / scale
    empty = _mean_before((demand == 0).astype(np.float32), 16)
    size = np.log1p(scale) / 5
    known = np.broadcast_to(np.minimum(np.arange(demand.shape[1]) / 52, 1.0).astype(np.float32), demand.shape)
    return np.stack([plane.T for plane in (*windows, spread, empty, size, known)], axis=-1)


def _season_ago(demand: np.ndarray, scale: np.ndarray, season: int, ahead: int, lags: int) -> np.ndarray:
    """One season ago, relative to the level of that time; 1 where there was none yet: [time, series, ahead + 1]."""
    time = demand.shape[1]
    padded = np.concatenate([np.zeros((len(demand), season)), demand], axis=1).astype(np.float32)
    level = np.concatenate([np.zeros((len(demand), season)), scale], axis=1)[:, :time].astype(np.float32)
    known = (np.arange(time) >= season + lags // 2) & np.ones((len(demand), 1), dtype=bool)
    planes = []
    for more in range(-1, min(ahead, season)):
        then = padded[:, more : more + time] if more >= 0 else np.pad(padded, ((0, 0), (1, 0)))[:, :time]
        planes.append(np.where(known, then / np.where(known, level, 1.0), 1.0).T)
    return np.stack(planes, axis=-1).astype(np.float32)
