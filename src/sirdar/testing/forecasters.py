# SPDX-License-Identifier: Apache-2.0
"""Conformance suite for a forecaster of one's own, and the null member that it is calibrated on.

Derive a class whose name starts with "Test", build an untrained forecaster, and let pytest find it:

    class TestMyForecaster(ForecasterChecks):
        def forecaster(self) -> Forecaster:
            return MyForecaster(horizon=3, seed=0)
"""

import copy
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from sirdar.errors import DataError, require_positive_integer
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, Forecast, Frequency


def panel_of(
    rows: Iterable[ArrayLike],
    *,
    start: Sequence[int] | None = None,
    history: Sequence[int] | None = None,
    unit: str = "W",
) -> Panel:
    """A panel from one list of demand per series, oldest first.

    Args:
        rows: demand; NaN where it was not observed.
        start: period number of each first step; 0 when None.
        history: steps that are history, the rest being the future; all when None.
        unit: of the calendar, see `Frequency`.
    """
    arrays = [np.asarray(row, dtype=np.float32) for row in rows]
    lengths = np.array([len(row) for row in arrays], dtype=np.int64)
    return Panel(
        ids=[f"product {i}" for i in range(len(arrays))],
        frequency=Frequency(unit),
        start=np.zeros(len(arrays), dtype=np.int64) if start is None else np.array(start, dtype=np.int64),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history=lengths if history is None else np.array(history, dtype=np.int64),
        target=np.concatenate([np.zeros(0, dtype=np.float32), *arrays]),
    )


def example_panel(series: int = 6, length: int = 40, seed: int = 0, *, spare: int = 8) -> Panel:
    """Weekly counts of several characters: steady, intermittent, short, gappy, never sold, without history.

    Args:
        series: how many, at least 6.
        length: steps of history of the longest.
        seed: of the demand.
        spare: steps after each history whose demand is stored, but is the future.
    """
    rng = np.random.default_rng(seed)
    history = np.full(series, length, dtype=np.int64)
    history[2], history[5] = 5, 0
    rates = np.linspace(3, 40, series)
    rates[1], rates[4] = 0.4, 0.0
    rows = [rng.poisson(rate, steps + spare).astype(np.float32) for rate, steps in zip(rates, history, strict=True)]
    rows[3][3:9] = np.nan  # a gap in the midst of history
    rows[3][length - 2 : length] = np.nan  # and one at its end
    starts = 2700 + length - history + np.arange(series) % 2
    return panel_of(rows, start=starts.tolist(), history=history.tolist())


def changed_future(panel: Panel) -> Panel:
    """The panel with other demand after the end of each history."""
    offset = np.arange(len(panel.target)) - panel.indptr[:-1][panel.step_series]
    future = offset >= panel.history[panel.step_series]
    return replace(panel, target=np.where(future, panel.target * 7 + 1000, panel.target).astype(np.float32))


def hidden_steps(panel: Panel) -> Bool[np.ndarray, " steps"]:
    """Steps for a check to hide: the last three and some before of every history of twenty steps or more."""
    owner = panel.step_series
    left = panel.end[owner] - panel.start[owner] - (np.arange(len(panel.target)) - panel.indptr[:-1][owner])
    return (((left >= 1) & (left <= 3)) | ((left >= 9) & (left <= 12))) & (panel.history[owner] >= 20)


def _with_target(panel: Panel, steps: np.ndarray, demand: float | int) -> Panel:
    return replace(panel, target=np.where(steps, np.float32(demand), panel.target))


def _same_for_all(forecast: Forecast) -> bool:
    """Whether every series has one forecast, as from a member that looks at no demand, such as the null one."""
    return bool((forecast.values == forecast.values[:1]).all())


class ForecasterChecks(ABC):
    """What must hold for any forecaster that is given counts."""

    stores = True  # set to False for a forecaster that has nothing to save

    @abstractmethod
    def forecaster(self) -> Forecaster:
        """A fresh, untrained forecaster; the same at every call, seed included."""

    def panel(self) -> Panel:
        """The panel to learn from and to forecast; its ids are in no order that sorting keeps."""
        panel = example_panel()
        return replace(panel, ids=panel.ids[::-1])

    def forecast(self, panel: Panel | None = None) -> Forecast:
        """The forecast of a fresh forecaster, trained on the panel."""
        panel = self.panel() if panel is None else panel
        return self.forecaster().fit(panel).predict(panel)

    def test_it_follows_the_protocol(self) -> None:
        """Horizon, fit, predict, save, load; fit answers the forecaster itself."""
        forecaster = self.forecaster()
        assert isinstance(forecaster, Forecaster)
        assert forecaster.horizon > 0
        assert forecaster.fit(self.panel()) is forecaster

    def test_shape_ids_and_start_are_those_of_the_panel(self) -> None:
        """One row per series in the panel's order, beginning at the step after its history."""
        panel = self.panel()
        forecaster = self.forecaster()
        forecast = forecaster.fit(panel).predict(panel)
        assert forecast.values.shape == (len(panel), forecaster.horizon, len(forecast.levels))
        assert list(forecast.ids) == panel.ids
        assert np.array_equal(forecast.start, panel.end), "a forecast must begin at the end of each series' history"
        assert forecast.frequency == panel.frequency

    def test_it_forecasts_the_panel_that_it_is_shown(self) -> None:
        """Not the one that it was trained on: its series may have gone on since, or be others."""
        panel = self.panel()
        forecaster = self.forecaster().fit(panel)
        forecast, shown = forecaster.predict(panel), panel.cut(2)
        begun = forecaster.predict(shown).start
        assert np.array_equal(begun, shown.end), (
            "a forecast must begin at the end of the panel shown, not of that fitted"
        )
        more = forecaster.predict(replace(panel, target=panel.target * 3 + 10))
        moved = not np.array_equal(forecast.values, more.values)
        assert moved or _same_for_all(forecast), "of other demand under the same ids the forecast is still that of fit"

    def test_a_series_has_the_same_forecast_in_any_company(self) -> None:
        """Some with history, in another order: each has the row that it has among all. New ones may go by others."""
        panel = self.panel()
        forecaster = self.forecaster().fit(panel)
        rows = np.flatnonzero(panel.observations())[::-2]
        among_all, alone = forecaster.predict(panel).values[rows], forecaster.predict(panel.select(rows)).values
        kept = np.allclose(among_all, alone, rtol=1e-3, atol=1e-3)
        assert kept, "a series' forecast depends on which series it is shown with, or rows are not in the panel's order"

    def test_quantiles_are_finite_and_do_not_cross(self) -> None:
        """Gaps in history and series without any change nothing in this."""
        values = self.forecast().values
        assert np.isfinite(values).all()
        assert (np.diff(values, axis=2) >= 0).all()

    def test_counts_are_not_negative(self) -> None:
        """Neither the stored quantiles nor those of the far tails."""
        forecast = self.forecast()
        assert forecast.floor == 0
        assert forecast.values.min() >= 0
        assert forecast.quantile(1e-6).min() >= 0

    def test_a_series_without_history_has_a_forecast(self) -> None:
        """That of a new product: alone and among others."""
        panel = self.panel()
        forecaster = self.forecaster().fit(panel)
        lone = forecaster.predict(panel.select(np.flatnonzero(panel.history == 0)))
        assert np.isfinite(lone.values).all()
        assert len(lone.ids) == (panel.history == 0).sum() > 0

    def test_no_series_at_all_has_an_empty_forecast(self) -> None:
        """A caller's filter may leave nothing."""
        forecaster = self.forecaster().fit(self.panel())
        empty = forecaster.predict(self.panel().select(np.array([], dtype=np.int64)))
        assert empty.values.shape[:2] == (0, forecaster.horizon)

    def test_the_future_is_not_seen(self) -> None:
        """Demand after a series' history, where the panel stores it, changes neither training nor forecast."""
        panel = self.panel()
        assert np.array_equal(self.forecast(panel).values, self.forecast(changed_future(panel)).values)

    def test_what_is_out_of_stock_is_not_seen(self) -> None:
        """Sales that stock limited count as not observed, whatever they were."""
        panel = self.panel()
        hidden = hidden_steps(panel)
        masked = replace(panel, in_stock=~hidden)
        first, second = self.forecast(masked), self.forecast(_with_target(masked, hidden, 5000))
        unseen = np.array_equal(first.values, second.values)
        assert unseen, "sales of steps with in_stock=False change the forecast: learn from panel.observed alone"

    def test_what_is_hidden_is_not_taken_for_nothing_sold(self) -> None:
        """Neither a missing step nor one out of stock is a step of zero demand."""
        panel = self.panel()
        hidden, forecaster = hidden_steps(panel), self.forecaster().fit(panel)
        zeros = _with_target(panel, hidden, 0)
        unsold = forecaster.predict(zeros)
        ways = {"missing": _with_target(panel, hidden, np.nan), "out of stock": replace(zeros, in_stock=~hidden)}
        for name, shown in ways.items():
            told_apart = not np.array_equal(forecaster.predict(shown).values, unsold.values)
            assert told_apart or _same_for_all(unsold), f"a step that is {name} is taken for one of zero demand"

    def test_the_same_seed_gives_the_same_forecast(self) -> None:
        """Twice, bit for bit; and so does asking twice."""
        panel = self.panel()
        forecaster = self.forecaster().fit(panel)
        first, second = forecaster.predict(panel).values, forecaster.predict(panel).values
        assert np.array_equal(first, second), "predict must answer the same when it is asked twice"
        assert np.array_equal(first, self.forecast(panel).values), "the same seed must give the same forecast"

    def test_fitted_anew_it_has_forgotten(self) -> None:
        """What it learned before changes nothing: going on from it is `update`'s business."""
        panel = self.panel()
        again = self.forecaster().fit(panel.cut(2)).fit(panel).predict(panel)
        assert np.array_equal(again.values, self.forecast(panel).values), "a second fit must not depend on the first"

    def test_the_panel_is_left_alone(self) -> None:
        """Neither fit nor predict writes into the caller's arrays."""
        panel = self.panel()
        kept = copy.deepcopy(panel)
        self.forecast(panel)
        assert np.array_equal(panel.target, kept.target, equal_nan=True)
        assert np.array_equal(panel.history, kept.history)
        assert panel.ids == kept.ids

    def test_global_random_state_is_left_alone(self) -> None:
        """Randomness is a seed argument, never global state."""
        import torch

        np.random.random(), torch.rand(1)  # noqa: NPY002 - so that a seed and as many draws as last time show
        before, torch_before = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002 - the state to guard
        with mock.patch.object(random, "seed") as seed:
            self.forecast()
        after = np.random.get_state()  # noqa: NPY002
        assert not seed.called, "Python's global random was seeded: use a random.Random of your own"
        assert str(before) == str(after), "numpy's global random state was changed: use np.random.default_rng(seed)"
        kept = torch.equal(torch_before, torch.random.get_rng_state())
        assert kept, "torch's global random state was changed: use a torch.Generator, or torch.random.fork_rng()"

    def test_saved_and_loaded_it_forecasts_the_same(self, tmp_path: Path) -> None:
        """Bit for bit, on a panel it was not trained on as well; it can be saved over itself, and moved elsewhere."""
        if not self.stores:
            return
        panel = self.panel()
        forecaster = self.forecaster().fit(panel)
        for _ in range(2):
            forecaster.save(tmp_path / "model")
        (tmp_path / "model").rename(tmp_path / "moved")
        loaded = type(forecaster).load(tmp_path / "moved")
        assert loaded.horizon == forecaster.horizon
        for shown in (panel, panel.cut(2)):
            first, second = forecaster.predict(shown), loaded.predict(shown)
            assert np.array_equal(first.values, second.values), "loaded again it must forecast the same, bit for bit"
            assert first.levels == second.levels
            assert np.array_equal(first.floor, second.floor)
        assert [path.name for path in tmp_path.iterdir()] == ["moved"], "save must write into the folder given alone"


class NullForecaster:
    """The null member: nothing will ever be sold.

    Args:
        horizon: steps to forecast.
        levels: quantile levels.
    """

    def __init__(self, horizon: int = 1, *, levels: tuple[float, ...] = DECILES) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = levels

    def fit(self, panel: Panel) -> "NullForecaster":  # noqa: ARG002 - the protocol's shape
        """Learns nothing."""
        return self

    def predict(self, panel: Panel) -> Forecast:
        """Zeros."""
        values = np.zeros((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        return Forecast(panel.ids, panel.end, panel.frequency, self.levels, values, floor=0.0, native=panel.native)

    def save(self, path: str | Path) -> None:
        """Writes one small JSON file into the folder `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        stored = {"model": "null", "horizon": self.horizon, "levels": self.levels}
        (Path(path) / "config.json").write_text(json.dumps(stored) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "NullForecaster":
        """Reads what `save` wrote."""
        try:
            stored = json.loads((Path(path) / "config.json").read_text())
            return cls(stored["horizon"], levels=tuple(stored["levels"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{path}: not a saved NullForecaster ({error})"
            raise DataError(msg) from error
