# SPDX-License-Identifier: Apache-2.0
"""What a chart shows is what the panel and the forecast hold."""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest

import sirdar
from sirdar.errors import ArgumentError
from sirdar.predictive import DECILES, Forecast

STEPS = 30


def _panel() -> sirdar.Panel:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=n) for n in range(STEPS)]
    frames = [
        pl.DataFrame({"unique_id": name, "ds": days, "y": [None, *range(place, place + STEPS - 1)]})
        for place, name in enumerate("abcdefgh")
    ]
    return sirdar.Panel.read(pl.concat(frames))


def _forecast(panel: sirdar.Panel, horizon: int = 5) -> Forecast:
    values = np.ones((len(panel), horizon, 1), np.float32) * np.arange(9, dtype=np.float32)
    return panel.forecast(DECILES, values, 0.0)


def _data(chart: dict[str, Any]) -> list[dict[str, Any]]:
    return next(iter(chart["datasets"].values()))


def test_a_chart_holds_demand_and_bands() -> None:
    panel = _panel().cut(5)
    chart = sirdar.plot(panel, _forecast(panel), ids=["b", "h"]).to_dict()
    rows = [row for row in _data(chart) if row["id"] == "h"]
    assert {row["id"] for row in _data(chart)} == {"b", "h"}
    assert [row["y"] for row in rows if "y" in row] == [None, *range(7, 7 + STEPS - 1)]
    (first, *_) = ahead = [row for row in rows if "median" in row]
    assert (len(ahead), first["t"], first["median"]) == (5, "2024-01-26T00:00:00", 4.0)
    bands = [(x["encoding"]["y"]["field"], x["encoding"]["y2"]["field"]) for x in chart["spec"]["layer"][:4]]
    assert bands == [("q0", "q8"), ("q1", "q7"), ("q2", "q6"), ("q3", "q5")]


def test_a_panel_alone_is_drawn_and_unknown_series_are_named() -> None:
    panel = _panel()
    chart = sirdar.plot(panel)
    assert {row["id"] for row in _data(chart.to_dict())} == set("abcdef")
    with pytest.raises(ArgumentError, match="the panel has no series 'z'"):
        sirdar.plot(panel, ids=["z"])
    with pytest.raises(ArgumentError, match="the forecast has no series 'a'"):
        sirdar.plot(panel, _forecast(panel).take(np.array([3])), ids=["a"])
