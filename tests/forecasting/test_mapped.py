# SPDX-License-Identifier: Apache-2.0
"""A panel that was saved is the panel that is loaded, and is read no further than it is used."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sirdar.errors import DataError, OutputError
from sirdar.forecasting.models.textbook import Textbook
from sirdar.forecasting.panel import Panel
from sirdar.testing.forecasters import panel_of


@pytest.fixture
def panel() -> Panel:
    rows = {
        "unique_id": ["a"] * 4 + ["b"] * 3,
        "ds": ["2024-01-01", "2024-01-08", "2024-01-15", "2024-01-22", "2024-01-08", "2024-01-15", "2024-01-22"],
        "y": [1.0, None, 3.0, None, 5.5, 0.0, None],
        "price": [2.0, 2.0, 1.5, 1.5, 4.0, 4.0, 4.0],
        "event": ["", "Easter", "", "", "Easter", "", ""],
        "stock": [1, 1, 0, 1, 1, 1, 1],
        "shop": ["north", "north", "north", "north", "süd", "süd", "süd"],
        "size": [3.0] * 4 + [7.0] * 3,
        "views": [1.0] * 7,
    }
    roles = {"price": "price", "in_stock": "stock", "static": ["shop", "size"], "past": ["views"], "future": ["event"]}
    return Panel.read(pl.DataFrame(rows), freq="W", holidays="DE", **roles)


def test_what_was_saved_is_loaded(panel: Panel, tmp_path: Path) -> None:
    panel.save(tmp_path / "kept")
    found = Panel.load(tmp_path / "kept")
    for field in fields(Panel):
        given, kept = getattr(panel, field.name), getattr(found, field.name)
        if field.name == "native":
            assert kept is None
        elif isinstance(given, dict):
            assert list(given) == list(kept)
            for name, column in given.items():
                assert column.dtype == kept[name].dtype
                np.testing.assert_array_equal(column, kept[name])
        else:
            np.testing.assert_array_equal(given, kept)


def test_steps_that_nobody_asks_for_stay_on_disk(tmp_path: Path) -> None:
    steps = 4_000_000
    panel_of([np.zeros(steps), np.ones(steps)]).save(tmp_path / "kept")
    before = _resident_bytes()
    found = Panel.load(tmp_path / "kept")
    assert found.target[steps : steps + 3].tolist() == [1, 1, 1]
    assert _resident_bytes() - before < steps  # a quarter of one series


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_a_panel_in_use_is_not_changed_by_a_save_over_it(tmp_path: Path) -> None:
    panel_of([np.zeros(50_000)]).save(tmp_path / "kept")
    found = Panel.load(tmp_path / "kept")
    panel_of([np.ones(50_000)]).save(tmp_path / "kept")
    assert not found.target.any()
    assert Panel.load(tmp_path / "kept").target.all()


def test_a_panel_replaces_no_forecaster_nor_the_reverse(panel: Panel, tmp_path: Path) -> None:
    forecaster = Textbook(2, "theta")
    forecaster.save(tmp_path / "model")
    panel.save(tmp_path / "kept")
    with pytest.raises(OutputError, match="model: holds a 'textbook', which a 'panel' does not replace"):
        panel.save(tmp_path / "model")
    with pytest.raises(OutputError, match="kept: holds a 'panel', which a 'textbook' does not replace"):
        forecaster.save(tmp_path / "kept")


def test_other_folders_are_told_apart(panel: Panel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        Panel.load(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="nothing that Sirdar saved"):
        panel.save(tmp_path)
