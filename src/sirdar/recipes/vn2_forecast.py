# SPDX-License-Identifier: Apache-2.0
"""Mean demand of the next three weeks, by boosted trees pooled over all store-products.

A tree model corrects the recent level of a series by a factor: its loss is Tweedie's on the count, with the level as
offset, Zhou, Qian and Yang (2022), Journal of Business & Economic Statistics 40(2). Features are ratios to that level,
so that large and small series teach each other: recent means, the same weeks a year ago, how product, store, group and
department move, and the calendar. Weeks out of stock are unobserved demand in all features.
"""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from jaxtyping import Float

from sirdar.recipes.vn2_rules import YEAR, History

AHEAD = 3
FIRST = 26  # weeks of history before the first lesson
ROUNDS = 200
SETTINGS = {
    "objective": "tweedie",
    "tweedie_variance_power": 1.3,
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "verbose": -1,
}

Levels = Float[np.ndarray, " series"]
Rows = Float[np.ndarray, "series feature"]


@dataclass(frozen=True, eq=False)
class TreeForecast:
    """A trained model."""

    booster: lgb.Booster

    @classmethod
    def fit(cls, history: History, seed: int = 0) -> "TreeForecast":
        """Learns from every week of a history what followed it.

        Lessons are the weeks in stock, and those out of stock of a series that was so before: replayed, these count as
        weeks without demand.
        """
        inputs, levels, targets = [], [], []
        for known in range(FIRST, history.time):
            past = history.until(known)
            for ahead in range(1, min(AHEAD, history.time - known) + 1):
                week = known + ahead - 1
                use = history.in_stock[:, week] | ~past.in_stock[:, -1]
                level, rows = features(past, ahead)
                inputs.append(rows[use])
                levels.append(level[use])
                targets.append(history.sales[use, week])
        data = lgb.Dataset(
            np.concatenate(inputs).astype(np.float32),
            label=np.concatenate(targets),
            init_score=np.log(np.concatenate(levels)),
        )
        return cls(lgb.train(SETTINGS | {"seed": seed, "deterministic": True}, data, ROUNDS))

    def predict(self, history: History) -> Float[np.ndarray, "series ahead"]:
        """Mean demand of the next three weeks."""
        columns = []
        for ahead in range(1, AHEAD + 1):
            level, rows = features(history, ahead)
            columns.append(level * np.exp(np.asarray(self.booster.predict(rows.astype(np.float32), raw_score=True))))
        return np.stack(columns, axis=1)


def features(history: History, ahead: int) -> tuple[Levels, Rows]:
    """The level of each series, and what may change it in the week `ahead` (1 is the next)."""
    demand, week = history.observed, history.time + ahead - 1
    means = {span: _mean(demand[:, -span:]) for span in (1, 2, 4, 8, 13, 26, YEAR)}
    slow, weight = _smooth(demand, 0.1)
    quick, _ = _smooth(demand, 0.25)
    level = np.maximum((slow * weight + 0.5) / (weight + 1.0), 0.03)  # towards half a unit a week where little is seen
    last_year = [_around(demand, week - YEAR, reach) for reach in (0, 1, 3)]
    before = _mean(demand[:, max(history.time - YEAR - 13, 0) : max(history.time - YEAR, 0)])
    recent = demand[:, -13:]
    spread = np.sqrt(_mean((demand[:, -26:] - means[26][:, None]) ** 2))
    ratios = [*means.values(), slow, quick, *demand[:, -1:-5:-1].T, *last_year, before, _top(recent), spread]
    sold = history.sales > 0
    since = np.where(sold.any(axis=1), np.argmax(sold[:, ::-1], axis=1), 200)
    state = [
        _mean(np.where(np.isfinite(recent), recent == 0, np.nan)),
        (~history.in_stock[:, -8:]).mean(axis=1),
        ~history.in_stock[:, -1],
        since,
        history.time - np.argmax(history.in_stock, axis=1),
    ]
    columns = [np.log(level), *(one / level for one in ratios), *state]
    for name in ("Product", "Store", "ProductGroup", "Department"):
        member = np.unique(history.groups[name], return_inverse=True)[1]
        base = np.maximum(_group_mean(level, member), 0.03)
        columns += [_group_mean(means[span], member) / base for span in (1, 4)]
        columns.append(_group_mean(last_year[1], member) / np.maximum(_group_mean(before, member), 0.03))
    columns += [np.full(len(level), value) for value in _shared(history, week, ahead)]
    return level, np.column_stack(columns).astype(np.float64)


def _shared(history: History, week: int, ahead: int) -> list[float]:
    """What all series have in common: the movement of the total, and the calendar."""
    total = _mean(history.observed.T)
    base = total[-13:].mean()
    year_ago, before = (
        total[max(week - YEAR - 1, 0) : week - YEAR + 2],
        total[max(len(total) - 65, 0) : len(total) - 52],
    )
    growth = year_ago.mean() / before.mean() if len(total) >= 65 else float("nan")
    monday = history.monday(week)
    year = int(str(monday)[:4])
    season = ((monday - np.datetime64(f"{year}-01-01")).astype(int)) / 7
    found = [ahead, total[-1] / base, total[-4:].mean() / base, growth, season, *_holidays(monday, year)]
    return [float(one) for one in found]


def _holidays(monday: np.datetime64, year: int) -> list[float]:
    """Weeks to the nearest Christmas, and to the nearest Black Friday: the day after November's fourth Thursday."""
    christmas, friday = [], []
    for near in (year - 1, year, year + 1):
        first = np.datetime64(f"{near}-11-01")
        thursday = (3 - (first.astype(int) + 3)) % 7  # day 0 of numpy's calendar was a Thursday
        christmas.append(np.datetime64(f"{near}-12-24"))
        friday.append(first + np.timedelta64(int(thursday) + 22, "D"))
    return [min(((day - monday).astype(int) / 7 for day in days), key=abs) for days in (christmas, friday)]


def _mean(values: np.ndarray) -> np.ndarray:
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    return np.where(count, np.where(seen, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _top(values: np.ndarray) -> np.ndarray:
    top = np.where(np.isfinite(values), values, -1.0).max(axis=1)
    return np.where(top < 0, np.nan, top)


def _around(demand: np.ndarray, week: int, reach: int) -> np.ndarray:
    """Mean demand of the weeks around one, NaN where not all of them are known."""
    first, end = week - reach, week + reach + 1
    return _mean(demand[:, first:end]) if first >= 0 and end <= demand.shape[1] else np.full(len(demand), np.nan)


def _smooth(demand: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Exponentially weighted mean of what was observed in the last 60 weeks, and the weight behind it."""
    recent = demand[:, -60:]
    weights = (1 - rate) ** np.arange(recent.shape[1])[::-1] * np.isfinite(recent)
    total = weights.sum(axis=1)
    return np.nansum(recent * weights, axis=1) / np.maximum(total, 1e-9), total


def _group_mean(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The mean of its group, for each series; 0 where nothing is known of any member."""
    seen = np.isfinite(values)
    count = np.bincount(member, seen)
    return (np.bincount(member, np.where(seen, values, 0.0)) / np.maximum(count, 1e-9))[member]
