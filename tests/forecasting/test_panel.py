# SPDX-License-Identifier: Apache-2.0
"""Cutting, choosing and aligning ragged histories; the expectations are slices of the same lists made by hand."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sirdar.forecasting.panel import Panel
from sirdar.predictive import Frequency

VALUES = st.one_of(st.integers(-3, 9).map(float), st.just(float("nan")))
HISTORIES = st.lists(st.lists(VALUES, min_size=1, max_size=8), min_size=1, max_size=5)


def panel_of(histories: list[list[float]]) -> Panel:
    """Series 0, 1, ... with a covariate and a static that name series and step."""
    lengths = np.array([len(history) for history in histories])
    owner = np.repeat(np.arange(len(histories)), lengths)
    offset = np.concatenate([np.arange(length) for length in lengths])
    return Panel(
        ids=[f"s{row}" for row in range(len(histories))],
        frequency=Frequency("D"),
        start=np.arange(len(histories), dtype=np.int64),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history=lengths.astype(np.int64),
        target=np.concatenate(histories).astype(np.float32),
        static={"row": np.arange(len(histories), dtype=np.float32)},
        past={"place": (100 * owner + offset).astype(np.float32)},
        in_stock=offset % 4 != 3,
    )


@given(histories=HISTORIES, length=st.integers(1, 10), ahead=st.integers(0, 3))
def test_a_tail_is_aligned_to_the_right(histories: list[list[float]], length: int, ahead: int) -> None:
    panel = panel_of(histories)
    tail = panel.tail(panel.target, length, ahead=ahead)
    assert tail.shape == (len(histories), length + ahead)
    for row, history in zip(tail, histories, strict=True):
        expected = ([np.nan] * length + history)[-length:] + [np.nan] * ahead
        np.testing.assert_array_equal(row, np.array(expected, dtype=np.float32))


@given(histories=HISTORIES, data=st.data())
def test_chosen_series_keep_their_data(histories: list[list[float]], data: st.DataObject) -> None:
    panel = panel_of(histories)
    rows = np.array(data.draw(st.lists(st.integers(0, len(histories) - 1), max_size=6, unique=True)), dtype=np.int64)
    chosen = panel.select(rows)
    assert chosen.ids == [f"s{row}" for row in rows]
    for place, row in enumerate(rows):
        labels, demand = chosen.series(place)
        np.testing.assert_array_equal(demand, np.array(histories[row], dtype=np.float32))
        np.testing.assert_array_equal(labels, panel.series(int(row))[0])
        steps = slice(chosen.indptr[place], chosen.indptr[place + 1])
        np.testing.assert_array_equal(chosen.past["place"][steps], 100 * row + np.arange(len(histories[row])))
        assert chosen.static["row"][place] == row
    flags = np.isin(np.arange(len(histories)), rows)
    assert panel.select(flags).ids == [f"s{row}" for row in sorted(rows)]


@given(histories=HISTORIES, length=st.integers(1, 10), ahead=st.integers(0, 2))
def test_what_is_recent_ends_as_all_does(histories: list[list[float]], length: int, ahead: int) -> None:
    panel = panel_of(histories).cut(ahead)
    recent = panel.recent(length)
    np.testing.assert_array_equal(recent.history, np.minimum(panel.history, length))
    np.testing.assert_array_equal(recent.end, panel.end)
    np.testing.assert_array_equal(recent.actuals(2), panel.actuals(2))
    for values, kept in ((panel.target, recent.target), (panel.past["place"], recent.past["place"])):
        np.testing.assert_array_equal(recent.tail(kept, length, ahead=2), panel.tail(values, length, ahead=2))


@given(histories=HISTORIES, steps=st.integers(1, 10), horizon=st.integers(1, 4))
def test_what_a_cut_hides_are_the_actuals(histories: list[list[float]], steps: int, horizon: int) -> None:
    cut = panel_of(histories).cut(steps)
    actual = cut.actuals(horizon)
    for row, history in enumerate(histories):
        begin = max(len(history) - steps, 0)
        in_stock = [value if place % 4 != 3 else np.nan for place, value in enumerate(history)]
        expected = (in_stock[begin:] + [np.nan] * horizon)[:horizon]
        np.testing.assert_array_equal(actual[row], np.array(expected, dtype=np.float32))
        np.testing.assert_array_equal(cut.series(row)[1], np.array(history[:begin], dtype=np.float32))
        assert cut.observations()[row] == np.isfinite(in_stock[:begin]).sum()
    assert (cut.end == cut.start + cut.history).all()


@given(histories=HISTORIES, steps=st.integers(1, 10))
def test_what_is_known_of_a_cut_panel_is_its_history_and_its_plans(histories: list[list[float]], steps: int) -> None:
    cut = panel_of(histories).cut(steps)
    known = cut.known()
    assert np.isnan(known.target[~cut.in_history]).all()
    assert np.isnan(known.past["place"][~cut.in_history]).all()
    assert np.isnan(known.actuals(steps)).all()
    np.testing.assert_array_equal(known.target[cut.in_history], cut.target[cut.in_history])
    np.testing.assert_array_equal(known.observed, cut.observed)


def test_quality_says_what_a_planner_asks() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 20), eager=True)
    rows = [("steady", day, 2.0) for day in days]
    rows += [("dead", day, 3.0 if place < 5 else 0.0) for place, day in enumerate(days)]
    rows += [("new", day, -1.0 if place == 3 else 1.0) for place, day in enumerate(days[-4:])]
    rows += [("never", day, None if place == 0 else 0.0) for place, day in enumerate(days)]
    quality = Panel.read(pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row")).quality()
    assert quality == {
        "series": 4,
        "frequency": "daily",
        "first period": "2024-01-01",
        "last period": "2024-01-20",
        "periods": 20,
        "median history": 20.0,
        "total demand": 40.0 + 15.0 + 2.0,
        "share of zeros": (15 + 19) / (20 + 20 + 4 + 19),
        "steps below zero": 1,
        "steps not observed": 1,
        "new products": 1,
        "dead products": 2,  # "dead" and "never"
        "never sold": 1,
    }


def test_a_first_period_that_is_not_whole_counts_nowhere() -> None:
    days = pl.date_range(pl.date(2024, 1, 5), pl.date(2024, 2, 4), eager=True)  # Friday to Sunday, four weeks later
    quality = Panel.read(pl.DataFrame({"unique_id": "a", "ds": days, "y": 1.0}), freq="W").quality()
    assert (quality["periods"], quality["median history"], quality["first period"]) == (4, 4.0, "2024-01-14")


def test_demand_that_is_never_negative_is_counted() -> None:
    assert panel_of([[0.0, 1.0]]).counts
    assert not panel_of([[0.0, -1.0]]).counts
    assert panel_of([[0.0, 1.0, 2.0, -1.0]]).counts  # its fourth step is out of stock, so not observed


def test_the_floor_of_a_series_is_that_of_what_was_observed_of_it() -> None:
    panel = panel_of([[0.0, -1.0], [0.0, 1.0, 2.0, -1.0], [np.nan], [-1.0, 2.0]])
    np.testing.assert_array_equal(panel.floors(counts=False), [-np.inf, 0, -np.inf, -np.inf])
    np.testing.assert_array_equal(panel.cut(1).floors(counts=False), [0, 0, -np.inf, -np.inf])
    assert panel.floors(counts=True) == 0


def test_a_panel_is_shown_in_one_line() -> None:
    assert repr(panel_of([[1.0, 2.0], [3.0]])).startswith("Panel(2 series, 3 steps of history, frequency=Frequency(")
    assert repr(panel_of([[1.0]])).endswith("static=['row'], past=['place'])")
