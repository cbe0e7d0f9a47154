# SPDX-License-Identifier: Apache-2.0
"""The suite for forecasters must refuse members that are wrong in one way each."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, Forecast
from sirdar.testing.forecasters import ForecasterChecks

STEPS = np.linspace(-1.3, 1.3, 9)  # deviations of the deciles, about


class Mean:
    """The mean of the last eight observed steps: a right member, which the wrong ones below spoil in one place."""

    horizon = 3
    base = 0.0

    def seen(self, panel: Panel, row: int) -> np.ndarray:
        steps = slice(panel.indptr[row], panel.indptr[row] + panel.history[row])
        return panel.target[steps][panel.observed[steps]][-8:]

    def means(self, panel: Panel) -> np.ndarray:
        seen = [self.seen(panel, row) for row in range(len(panel))]
        return np.array([rows.mean() if len(rows) else np.nan for rows in seen], np.float64)

    def fit(self, panel: Panel) -> "Mean":
        self.base = float(np.nanmean(self.means(panel)))
        return self

    def predict(self, panel: Panel) -> Forecast:
        return self.around(panel, self.means(panel))

    def around(self, panel: Panel, means: np.ndarray, start: np.ndarray | None = None) -> Forecast:
        middle = np.where(np.isnan(means), self.base, means)[:, None]
        values = np.maximum(middle + np.sqrt(middle) * STEPS, 0).astype(np.float32)
        values = np.repeat(values[:, None], self.horizon, axis=1)
        return Forecast(panel.ids, panel.end if start is None else start, panel.frequency, DECILES, values, floor=0.0)

    def save(self, path: str | Path) -> None:
        Path(path).mkdir(exist_ok=True)
        (Path(path) / "config.json").write_text(json.dumps(vars(self)))

    @classmethod
    def load(cls, path: str | Path) -> "Mean":
        loaded = cls()
        vars(loaded).update(json.loads((Path(path) / "config.json").read_text()))
        return loaded


class Sorted(Mean):
    def predict(self, panel: Panel) -> Forecast:
        return self.around(panel, self.means(panel)[np.argsort(panel.ids)])


class Stale(Mean):
    def fit(self, panel: Panel) -> "Mean":
        self.known = dict(zip(panel.ids, self.means(panel).tolist(), strict=True))
        return super().fit(panel)

    def predict(self, panel: Panel) -> Forecast:
        return self.around(panel, np.array([self.known[name] for name in panel.ids], np.float64))


class StaleStart(Mean):
    def fit(self, panel: Panel) -> "Mean":
        self.ends = dict(zip(panel.ids, panel.end.tolist(), strict=True))
        return super().fit(panel)

    def predict(self, panel: Panel) -> Forecast:
        return self.around(panel, self.means(panel), np.array([self.ends[name] for name in panel.ids], np.int64))


class Stockless(Mean):
    def seen(self, panel: Panel, row: int) -> np.ndarray:
        demand = panel.target[panel.indptr[row] : panel.indptr[row] + panel.history[row]]
        return demand[np.isfinite(demand)][-8:]


class Zeros(Mean):
    def seen(self, panel: Panel, row: int) -> np.ndarray:
        steps = slice(panel.indptr[row], panel.indptr[row] + panel.history[row])
        return np.where(panel.observed[steps], panel.target[steps], 0)[-8:]


class Sociable(Mean):
    def predict(self, panel: Panel) -> Forecast:
        means = self.means(panel)
        return self.around(panel, (means + np.nanmean(np.append(means, self.base))) / 2)


class Restless(Mean):
    asked = 0

    def predict(self, panel: Panel) -> Forecast:
        self.asked += 1
        return self.around(panel, self.means(panel) * self.asked)


class Lasting(Mean):
    def fit(self, panel: Panel) -> "Mean":
        before = self.base
        super().fit(panel)
        self.base += before
        return self


class Seeding(Mean):
    def fit(self, panel: Panel) -> "Mean":
        random.seed(0)
        return super().fit(panel)


class Rooted(Mean):
    def save(self, path: str | Path) -> None:
        super().save(path)
        (Path(path) / "where").write_text(str(Path(path).resolve()))

    @classmethod
    def load(cls, path: str | Path) -> "Mean":
        return super().load((Path(path) / "where").read_text())


def checks_of(kind: type[Mean]) -> ForecasterChecks:
    class Checks(ForecasterChecks):
        def forecaster(self) -> Mean:
            return kind()

    return Checks()


class TestMean(ForecasterChecks):
    def forecaster(self) -> Mean:
        return Mean()


@pytest.mark.parametrize(
    ("kind", "check", "sentence"),
    [
        (Sorted, "a_series_has_the_same_forecast_in_any_company", "rows are not in the panel's order"),
        (Sociable, "a_series_has_the_same_forecast_in_any_company", "depends on which series it is shown with"),
        (Stale, "it_forecasts_the_panel_that_it_is_shown", "still that of fit"),
        (StaleStart, "it_forecasts_the_panel_that_it_is_shown", "not of that fitted"),
        (Stockless, "what_is_out_of_stock_is_not_seen", "panel.observed alone"),
        (Zeros, "what_is_hidden_is_not_taken_for_nothing_sold", "taken for one of zero demand"),
        (Restless, "the_same_seed_gives_the_same_forecast", "asked twice"),
        (Lasting, "fitted_anew_it_has_forgotten", "must not depend on the first"),
        (Seeding, "global_random_state_is_left_alone", "Python's global random was seeded"),
    ],
)
def test_a_wrong_member_is_refused(kind: type[Mean], check: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        getattr(checks_of(kind), f"test_{check}")()


def test_a_folder_must_not_say_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checks_of(Rooted).test_saved_and_loaded_it_forecasts_the_same(tmp_path)
