# SPDX-License-Identifier: Apache-2.0
"""Conformance suite for a forecaster of one's own, and the null member that it is calibrated on.

Derive a class whose name starts with "Test", build an untrained forecaster, and let pytest find it:

    class TestMyForecaster(ForecasterChecks):
        def forecaster(self) -> Forecaster:
            return MyForecaster(horizon=3, seed=0)
"""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
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


class ForecasterChecks(ABC):
    """What must hold for any forecaster that is given counts."""

    stores = True  # set to False for a forecaster that has nothing to save

    @abstractmethod
    def forecaster(self) -> Forecaster:
        """A fresh, untrained forecaster; the same at every call, seed included."""

    def panel(self) -> Panel:
        """The panel to learn from and to forecast."""
        return example_panel()

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
        assert np.array_equal(forecast.start, panel.end)
        assert forecast.frequency == panel.frequency

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
        stock = np.ones(len(panel.target), dtype=bool)
        stock[4:8] = False
        target = panel.target.copy()
        target[4:8] = 5000
        masked = self.forecast(replace(panel, in_stock=stock))
        assert np.array_equal(masked.values, self.forecast(replace(panel, in_stock=stock, target=target)).values)

    def test_the_same_seed_gives_the_same_forecast(self) -> None:
        """Twice, bit for bit."""
        assert np.array_equal(self.forecast().values, self.forecast().values)

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

        before, torch_before = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002 - the state to guard
        self.forecast()
        after = np.random.get_state()  # noqa: NPY002
        assert str(before) == str(after)
        assert torch.equal(torch_before, torch.random.get_rng_state())

    def test_saved_and_loaded_it_forecasts_the_same(self, tmp_path: Path) -> None:
        """Bit for bit, on a panel that it was not trained on as well; and it can be saved over itself."""
        if not self.stores:
            return
        panel = self.panel()
        forecaster = self.forecaster().fit(panel)
        for _ in range(2):
            forecaster.save(tmp_path / "model")
        loaded = type(forecaster).load(tmp_path / "model")
        assert loaded.horizon == forecaster.horizon
        for shown in (panel, panel.cut(2)):
            first, second = forecaster.predict(shown), loaded.predict(shown)
            assert np.array_equal(first.values, second.values)
            assert (first.levels, first.floor) == (second.levels, second.floor)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


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
