# SPDX-License-Identifier: Apache-2.0
"""The plain ensemble: means by hand, and members that are kept as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.forecasting.models.ensemble import Ensemble, average
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.sqrf import SparseQuantileForest
from sirdar.forecasting.models.textbook import Textbook
from sirdar.predictive import Forecast, Frequency
from sirdar.testing.forecasters import NullForecaster, example_panel


def forecast_of(values: list[float], floor: float = 0.0) -> Forecast:
    levels = (0.1, 0.5, 0.9)
    return Forecast(["a"], np.zeros(1, dtype=np.int64), Frequency("W"), levels, np.float32([[values]]), floor)


def test_the_average_is_level_by_level() -> None:
    found = average([forecast_of([0, 1, 2]), forecast_of([4, 6, 8]), forecast_of([2, 2, 5])])
    assert found.values.tolist() == [[[2, 3, 5]]]
    assert found.values.dtype == np.float32


def test_the_lowest_floor_holds() -> None:
    assert average([forecast_of([0, 1, 2]), forecast_of([-4, 0, 1], -np.inf)]).floor == -np.inf
    of_each = replace(forecast_of([-4, 0, 1]), floor=np.array([-np.inf]))
    assert average([forecast_of([0, 1, 2]), of_each]).floor == np.array([-np.inf])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"levels": (0.2, 0.5, 0.8)}, r"levels, got \(0.1, 0.5, 0.9\) and"),
        ({"values": np.zeros((1, 2, 3), dtype=np.float32)}, "horizon, got 1 and 2"),
        ({"ids": ["b"]}, "same series"),
        ({"start": np.ones(1, dtype=np.int64)}, "same periods"),
    ],
)
def test_forecasts_of_different_things_are_not_averaged(change: dict, word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        average([forecast_of([0, 1, 2]), replace(forecast_of([0, 1, 2]), **change)])
    with pytest.raises(ArgumentError, match="no forecast to average"):
        average([])


def test_weights_are_shares() -> None:
    parts = [forecast_of([0, 1, 2]), forecast_of([4, 6, 8])]
    assert average(parts, [3.0, 1.0]).values.tolist() == [[[1, 2.25, 3.5]]]
    assert Ensemble({"a": NullForecaster(2), "b": NullForecaster(2)}, [1.0, 3.0]).weights == (0.25, 0.75)
    for wrong in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan]):
        with pytest.raises(ArgumentError, match="weights must be 2 numbers, none negative and not all zero"):
            average(parts, wrong)


def test_it_is_the_mean_of_its_members() -> None:
    panel = example_panel()
    members = {"null": NullForecaster(3), "naive": Textbook(3, "seasonal-naive"), "network": MQCNN(3, steps=2, width=8)}
    found = Ensemble(members).fit(panel).predict(panel)
    alone = [member.fit(panel).predict(panel).values for member in members.values()]
    np.testing.assert_allclose(found.values, np.mean(alone, axis=0), rtol=1e-6)


def test_ensembles_nest_and_are_stored_under_any_name(tmp_path: Path) -> None:
    panel = example_panel()
    inner = Ensemble({"/": Textbook(2, "theta"), "config.json": Textbook(2, "tsb")})
    outer = Ensemble({"..": inner, "network": MQCNN(2, steps=2, width=8)}).fit(panel)
    outer.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    loaded = Ensemble.load(tmp_path / "saved")
    assert list(loaded.members) == ["..", "network"]
    assert np.array_equal(loaded.predict(panel).values, outer.predict(panel).values)


def test_a_member_that_could_not_be_loaded_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="member 'null' is a NullForecaster, which an ensemble cannot store"):
        Ensemble({"null": NullForecaster(2)}).save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_an_update_brings_every_member_up_to_new_data() -> None:
    panel = example_panel()
    network, trees = MQCNN(3, steps=2, width=8), SparseQuantileForest(3)
    model = Ensemble({"network": network, "forest": trees, "theta": Textbook(3, "theta"), "null": NullForecaster(3)})
    model.fit(panel.cut(4))
    assert network.learned is not None
    before, forest = [weight.detach().clone() for weight in network.learned.network.parameters()], trees.forest.arrays
    assert model.update(panel) is model
    moved = [
        (new.detach() - old).abs().max().item()
        for new, old in zip(network.learned.network.parameters(), before, strict=True)
    ]
    assert 0 < max(moved) < 0.1  # goes on from where it was
    fresh = SparseQuantileForest(3).fit(panel)
    assert all(np.array_equal(trees.forest.arrays[name], array) for name, array in fresh.forest.arrays.items())
    assert any(not np.array_equal(trees.forest.arrays[name], array) for name, array in forest.items())


def test_an_update_that_ends_early_leaves_all_members_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = example_panel()
    model = Ensemble(
        {"network": MQCNN(3, steps=2, width=8), "forest": SparseQuantileForest(3), "last": NullForecaster(3)}
    )
    expected = model.fit(panel.cut(4)).predict(panel).values

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NullForecaster, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.update(panel)
    np.testing.assert_array_equal(model.predict(panel).values, expected)


def test_members_must_agree() -> None:
    with pytest.raises(ArgumentError, match=r"must share one horizon, got \{'a': 2, 'b': 3\}"):
        Ensemble({"a": NullForecaster(2), "b": NullForecaster(3)})
    with pytest.raises(ArgumentError, match="at least one member"):
        Ensemble({})
