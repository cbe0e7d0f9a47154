# SPDX-License-Identifier: Apache-2.0
"""The rungs by name."""

import subprocess
import sys

import pytest

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.forecasting import ladder
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.testing.forecasters import NullForecaster


@pytest.mark.parametrize("name", ladder.RUNGS)
def test_every_rung_can_be_built(name: str) -> None:
    forecaster = ladder.build(name, 5, seed=3, levels=(0.2, 0.5))
    assert isinstance(forecaster, Forecaster)
    assert forecaster.horizon == 5
    if isinstance(forecaster, Textbook):
        assert (forecaster.method, forecaster.levels) == (name, (0.2, 0.5))
    if isinstance(forecaster, MQCNN):
        assert forecaster.seed == 3
    if isinstance(forecaster, Textbook | MQCNN):
        assert isinstance(forecaster, ladder.class_of(ladder.kind_of(forecaster) or ""))


def test_a_rung_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ladder._KINDS, "add-ons", ("nowhere", "Nothing"))
    with pytest.raises(UnsupportedError, match="'add-ons' is not available here"):
        ladder.build("add-ons", 3)
    with pytest.raises(UnsupportedError, match="there is no forecaster of kind 'os'; known are textbook"):
        ladder.class_of("os")
    assert ladder.kind_of(NullForecaster(2)) is None


def test_the_registry_loads_nothing_heavy() -> None:
    heavy = ("torch", "statsforecast", "lightgbm")
    code = f"import sys, sirdar.forecasting.ladder; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_kept_once_and_in_order() -> None:
    assert ladder.check_names(["theta", "mq-cnn", "theta"]) == ["theta", "mq-cnn"]
    assert ladder.NAIVE in ladder.RUNGS
    assert ladder.ENSEMBLE not in ladder.RUNGS
    assert ladder.check_names(ladder.DEFAULTS) == list(ladder.DEFAULTS)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ArgumentError, match=r"unknown model 'mqcnn'; known are .*mq-transformer, ladder\. Did you mean 'mq-cnn'"
    ):
        ladder.build("mqcnn", 5)
    with pytest.raises(ArgumentError, match="no model was named; known are seasonal-naive"):
        ladder.check_names([])


@pytest.mark.parametrize("name", ["theta", "mq-cnn"])
def test_a_horizon_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="horizon must be a positive integer, got 0"):
        ladder.build(name, 0)
