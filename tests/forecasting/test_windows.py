# SPDX-License-Identifier: Apache-2.0
"""Windows over ragged panels, against hand-made ones and a loop over every step."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Windows
from sirdar.predictive import Frequency
from sirdar.testing.forecasters import panel_of

NAN = np.nan


def test_inputs_by_hand() -> None:
    panel = panel_of([[1, 2, NAN, 4, 50, 60], [7, 70]], history=[4, 1])
    inputs = Windows(panel, Encoding.fit(panel), 3, 2).inputs(np.array([0, 1]))
    assert inputs.demand.tolist() == [[2, 0, 4], [0, 0, 7]]
    assert inputs.observed.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert (inputs.past.shape, inputs.known.shape, inputs.static.shape) == ((2, 3, 0), (2, 5, 0), (2, 0))
    earlier = Windows(panel, Encoding.fit(panel), 3, 2).inputs(np.array([0, 1]), np.array([2, 1]))
    assert earlier.demand.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert earlier.observed.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_targets_by_hand() -> None:
    panel = panel_of([[1, 2, NAN, 4, 50, 60], [7, 70]], history=[4, 1])
    targets = Windows(panel, Encoding.fit(panel), 3, 2).targets(np.array([0, 1]))
    # Windows of (2, NaN, 4) and (-, -, 7); what follows is unknown where history ends, though the panel stores it.
    expected = [[[NAN, 4], [4, NAN], [NAN, NAN]], [[NAN, 7], [7, NAN], [NAN, NAN]]]
    np.testing.assert_array_equal(targets.numpy(), np.array(expected, dtype=np.float32))


def test_covariates_known_ahead_reach_over_the_horizon_and_hold() -> None:
    panel = panel_of([[1, 2, 3, 0, 0]], history=[3])
    plan = np.array([NAN, -1, NAN, 2, NAN], dtype=np.float32)
    panel = replace(panel, future={"plan": plan}, past={"visits": np.array([-3, -2, -1, 99, 99], dtype=np.float32)})
    encoding = Encoding(yearly=False, past=(("visits", 0.0, 1.0),), known=(("plan", 0.0, 1.0),))
    inputs = Windows(panel, encoding, 4, 3).inputs(np.array([0]))
    # Unknown before the first plan: 0; then a plan holds until it changes; the last step lies beyond the panel.
    assert inputs.known[0, :, 0].tolist() == [0, 0, -1, -1, 2, 2, 2]
    assert inputs.past[0, :, 0].tolist() == [0, -3, -2, -1]


def test_the_calendar_moves_with_the_window() -> None:
    panel = replace(panel_of([np.ones(10), np.ones(8)], start=[3, 5]), frequency=Frequency("D"))
    windows = Windows(panel, Encoding.fit(panel), 7, 7)
    first, second = windows.inputs(np.array([0, 1])).known
    np.testing.assert_allclose(first[:7], first[7:], atol=1e-5)  # a week later, the same weekdays
    np.testing.assert_array_equal(first, second)  # both end at period 13
    back = windows.inputs(np.array([0]), 2).known[0]
    np.testing.assert_allclose(back[2:], first[:-2], atol=1e-6)


def test_what_is_out_of_stock_is_not_observed() -> None:
    panel = replace(panel_of([[1, 2, 3]]), in_stock=np.array([True, False, True]))
    windows = Windows(panel, Encoding.fit(panel), 3, 1)
    assert windows.inputs(np.array([0])).demand.tolist() == [[1, 0, 3]]
    np.testing.assert_array_equal(windows.targets(np.array([0]))[0, :, 0], [NAN, 3, NAN])


def test_a_panel_without_any_step_has_empty_windows() -> None:
    panel = panel_of([[], []])
    inputs = Windows(panel, Encoding(yearly=False), 3, 2).inputs(np.array([0, 1]))
    assert inputs.observed.sum() == 0


demand = st.one_of(st.just(NAN), st.integers(-5, 9).map(float))
series = st.lists(st.tuples(st.lists(demand, max_size=9), st.integers(0, 9)), min_size=1, max_size=4)


@settings(max_examples=60)
@given(series, st.integers(1, 6), st.integers(1, 4), st.data())
def test_windows_agree_with_a_loop(rows: list, length: int, horizon: int, data: st.DataObject) -> None:
    history = [min(count, len(row)) for row, count in rows]
    panel = panel_of([row for row, _ in rows], history=history)
    back = np.array([data.draw(st.integers(0, count), label="back") for count in history], dtype=np.int64)
    windows = Windows(panel, Encoding(yearly=False), length, horizon)
    chosen = np.arange(len(rows))
    inputs, targets = windows.inputs(chosen, back), windows.targets(chosen, back)
    for row, (values, _) in enumerate(rows):
        for step in range(length):
            place = history[row] - back[row] - length + step
            seen = looked_up(values, place, history[row])
            assert inputs.demand[row, step] == (0 if np.isnan(seen) else seen)
            assert inputs.observed[row, step] == (not np.isnan(seen))
            for ahead in range(horizon):
                np.testing.assert_equal(
                    float(targets[row, step, ahead]), looked_up(values, place + 1 + ahead, history[row])
                )


def looked_up(values: list[float], place: int, history: int) -> float:
    return values[place] if 0 <= place < history else NAN


def test_a_cut_panel_has_the_windows_of_a_shorter_one() -> None:
    rows = [[1.0, 2, 3, 4, 5, 6], [2.0, 3, 4]]

    def shown(panel: Panel) -> list:
        windows = Windows(panel, Encoding(yearly=False), 4, 2)
        rows = np.arange(2)
        return [*(part.numpy() for part in windows.inputs(rows)), windows.targets(rows).numpy()]

    for found, expected in zip(shown(panel_of(rows).cut(2)), shown(panel_of([rows[0][:4], [2.0]])), strict=True):
        np.testing.assert_array_equal(found, expected)
