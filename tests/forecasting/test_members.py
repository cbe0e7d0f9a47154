# SPDX-License-Identifier: Apache-2.0
"""Several networks as one: what they answer together, and that each learns by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError
from sirdar.forecasting.members import Members
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from tests.forecasting.test_neural import panel_of


def panel() -> Panel:
    return panel_of(np.random.default_rng(0).poisson(6, (8, 30)).astype(float))


def test_together_they_answer_the_mean_of_their_quantiles() -> None:
    model = MQCNN(3, steps=2, width=8, members=3).fit(panel())
    assert model.learned is not None
    network = model.learned.network
    assert isinstance(network, Members)
    inputs = model._windows(panel()).inputs(np.arange(8))
    with torch.inference_mode():
        alone = [one(*inputs)[0] for one in network.networks]
        together = network(*inputs)[0]
    torch.testing.assert_close(together, torch.stack(alone).mean(0))
    assert not torch.allclose(alone[0], alone[1])


def test_saved_and_loaded_and_resumed_they_are_the_same(tmp_path: Path) -> None:
    model = MQCNN(3, steps=3, width=8, members=2).fit(panel())
    model.save(tmp_path)
    again = MQCNN.load(tmp_path)
    assert again.members == 2
    assert np.array_equal(again.predict(panel()).values, model.predict(panel()).values)
    assert np.array_equal(
        MQCNN(3, steps=3, width=8, members=2).fit(panel()).predict(panel()).values, model.predict(panel()).values
    )


def test_each_member_takes_as_many_steps_as_one_alone_on_average() -> None:
    told: list[float] = []
    MQCNN(3, steps=4, width=8, members=3, progress=told.append).fit(panel())
    assert len(told) == 12


def test_no_member_is_refused() -> None:
    with pytest.raises(ArgumentError, match="members must be a positive integer, got 0"):
        MQCNN(3, members=0)
