# SPDX-License-Identifier: Apache-2.0
"""The rungs by name."""

import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting import ladder
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook


@pytest.mark.parametrize("name", ladder.RUNGS)
def test_every_rung_can_be_built(name: str) -> None:
    forecaster = ladder.build(name, 5, seed=3)
    assert isinstance(forecaster, Forecaster)
    assert forecaster.horizon == 5
    if isinstance(forecaster, Textbook):
        assert forecaster.method == name
    if isinstance(forecaster, MQCNN):
        assert forecaster.seed == 3


def test_names_are_kept_once_and_in_order() -> None:
    assert ladder.check_names(["theta", "mq-cnn", "theta"]) == ["theta", "mq-cnn"]
    assert ladder.NAIVE in ladder.RUNGS
    assert ladder.ENSEMBLE not in ladder.RUNGS


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ArgumentError, match=r"unknown model 'mqcnn'; known are .*croston, mq-cnn\. Did you mean 'mq-cnn'"
    ):
        ladder.build("mqcnn", 5)
    with pytest.raises(ArgumentError, match="no model was named; known are seasonal-naive"):
        ladder.check_names([])


@pytest.mark.parametrize("name", ["theta", "mq-cnn"])
def test_a_horizon_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="horizon must be a positive integer, got 0"):
        ladder.build(name, 0)
