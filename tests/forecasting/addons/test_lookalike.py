# SPDX-License-Identifier: Apache-2.0
"""New products start from similar ones, at the same age."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting.addons.lookalike import LookAlikes, launch_curves, restored, stored
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES
from sirdar.testing.forecasters import panel_of


def launches(seed: int = 0, count: int = 60) -> Panel:
    """Cups sell 40 at launch and fade, plates sell 5; every product is launched at its own time."""
    rng = np.random.default_rng(seed)
    fade = np.array([40, 30, 20, 10, 10, 10])
    rows = [rng.poisson(fade if i % 2 else 5, 6) for i in range(count)]
    names = [f"red cup {i}" if i % 2 else f"red plate {i}" for i in range(count)]
    panel = panel_of([*rows, [], []], start=[*range(count), count, count])
    return replace(panel, static={"name": np.array([*names, "blue cup", "green plate"], dtype=object)})


def test_a_new_product_has_the_launch_curve_of_its_kind() -> None:
    panel = launches()
    found = LookAlikes(4, DECILES).fit(panel).quantiles(panel.select(np.array([60, 61])))
    np.testing.assert_allclose(found[0, :3, 4], [35, 30, 20], atol=4)  # beside ages are joined
    np.testing.assert_allclose(found[1, :, 4], 5, atol=1.5)
    assert (np.diff(found, axis=2) >= 0).all()


def test_a_product_left_out_is_not_asked_about_itself() -> None:
    """Products of one category are all equally near."""
    panel = launches()
    panel = replace(panel, static={"kind": np.array(["cup"] * 62, dtype=object)})
    model = LookAlikes(4, DECILES, neighbours=1).fit(panel)
    own = np.arange(len(model.curves))
    model.curves = own.astype(np.float32)[:, None].repeat(4, axis=1)
    assert (model._ask(model.features, 1, own)[:, 0, 4] != own).all()


def test_curves_begin_at_the_first_observation() -> None:
    panel = panel_of([[np.nan, 3, 4, np.nan, 5], [1, 2]])
    curves, seen = launch_curves(panel, 3)
    np.testing.assert_array_equal(curves, [[3, 4, np.nan], [1, 2, np.nan]])
    assert seen.tolist() == [True, False]


def test_without_any_launch_the_forecast_is_zero() -> None:
    panel = panel_of([[], []])
    assert (LookAlikes(3, DECILES).fit(panel).quantiles(panel) == 0).all()


def knowing(error: float) -> Callable[[Panel], np.ndarray]:
    """A forecaster that knows what each kind sells at first, but for an error."""

    def answer(new: Panel) -> np.ndarray:
        assert (new.observations() == 0).all()
        assert not np.isfinite(new.target).any()
        cups = np.array(["cup" in str(name) for name in new.static["name"]])
        fade = np.where(cups[:, None], [40, 30, 20, 10], 5)
        return np.repeat(fade[..., None] + error, 9, axis=2).astype(np.float32)

    return answer


def test_another_forecaster_has_the_share_that_was_best_at_launches() -> None:
    panel = launches()
    alike = LookAlikes.beside(panel, 4, DECILES, knowing(60))
    assert alike is not None
    assert alike.share == 0
    values = np.full((len(panel), 4, 9), 7, dtype=np.float32)
    alike.mix_into(values, panel)
    new = panel.observations() == 0
    assert (values[~new] == 7).all()
    np.testing.assert_array_equal(values[new], alike.quantiles(panel.select(new)))


def test_a_forecaster_that_does_best_alone_is_left_alone() -> None:
    """Look-alikes that are asked of another kind's launches, as nothing tells the kinds apart."""
    panel = launches(count=410)
    names, blank = panel.static["name"], np.array(["x"] * len(panel), dtype=object)
    sure = knowing(0)
    alike = LookAlikes.beside(
        replace(panel, static={"kind": blank}),
        4,
        DECILES,
        lambda new: sure(replace(new, static={"name": names[[panel.ids.index(row) for row in new.ids]]})),
    )
    assert alike is None


def test_a_forecaster_is_not_believed_beyond_its_training() -> None:
    """Nor on few launches, which it knows; and what was known stays where a panel shows none."""
    panel = launches()
    alike = LookAlikes.beside(panel, 4, DECILES, knowing(0), most=0.3)
    assert alike is not None
    assert alike.share <= 0.3 * 60 / 400 + 1e-9
    one = panel.select(np.arange(1))
    without = LookAlikes.beside(one, 4, DECILES, knowing(0))
    assert without is not None
    assert without.share == 0
    assert LookAlikes.beside(one, 4, DECILES, knowing(0), before=alike) is alike


def test_where_no_launch_was_seen_the_latest_demand_tells() -> None:
    """Everything began with the table, in January as it were, and has grown since: first steps are no launch."""
    demand = np.repeat(np.arange(1, 101)[None], 10, axis=0)
    found = LookAlikes(4, DECILES).fit(panel_of([*demand, []])).quantiles(panel_of([[]]))
    assert (found >= 96).all()


def test_what_was_stored_is_the_same_again() -> None:
    panel, tensors = launches(), {}
    alike = LookAlikes(4, DECILES, share=0.5).fit(panel)
    config = {"alike": stored(alike, tensors), "arguments": {"horizon": 4, "levels": list(DECILES)}}
    others = [
        config | {"arguments": {"horizon": 5, "levels": DECILES}},
        config | {"arguments": {"horizon": 4, "levels": (0.5,)}},
    ]
    for other in others:
        with pytest.raises(ArgumentError, match="its look-alikes forecast other steps or levels"):
            restored(other, dict(tensors))
    found = restored(config, tensors)
    assert found is not None
    assert found.share == 0.5
    assert not tensors
    np.testing.assert_array_equal(found.quantiles(panel), alike.quantiles(panel))
    dense = alike.state() | {"features": alike.features}  # as earlier versions wrote it
    np.testing.assert_array_equal(LookAlikes.from_state(dense).quantiles(panel), alike.quantiles(panel))
    assert restored({}, {}) is None


def test_a_state_whose_arrays_are_of_other_shapes_is_refused() -> None:
    state = LookAlikes(4, DECILES).fit(launches()).state()
    assert np.array_equal(LookAlikes.from_state(state).curves, state["curves"], equal_nan=True)
    edits = (
        {"words": []},
        {"horizon": 5},
        {"share": -3.0},
        {"share": float("nan")},
        {"asked": 0},
        {"rarity": state["rarity"][:1]},
    )
    for edit in edits:
        with pytest.raises(ArgumentError, match=r"look-alikes need"):
            LookAlikes.from_state(state | edit)
