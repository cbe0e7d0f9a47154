# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of this machine's cores answers what this process does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sirdar.errors import ArgumentError
from sirdar.forecasting.backtest import backtest
from sirdar.forecasting.cluster import Cluster, predict_in_parts
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.testing.forecasters import NullForecaster, panel_of


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    """A Ray that the caller has started: it is used, and left running."""
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture(scope="module")
def panel() -> Panel:
    generator = np.random.default_rng(0)
    return panel_of([generator.poisson(level, 40).astype(float) for level in (1, 3, 10, 30, 100)])


def test_no_cluster_is_a_sentence() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ArgumentError, match="no Ray cluster answers at 'nowhere'"):
        Cluster("nowhere")


def test_jobs_of_this_process_begin_when_asked_for() -> None:
    begun = []
    with Cluster() as here:
        results = here.map(lambda shared, job: begun.append(job) or shared + job, 10, [1, 2])
        assert next(results) == 11
        assert begun == [1]


@pytest.mark.usefixtures("machines")
def test_a_backtest_is_the_same_on_a_cluster(panel: Panel) -> None:
    models = {"seasonal-naive": NullForecaster(4), "mq-cnn": MQCNN(4, steps=3, width=8)}
    here = backtest(models, panel, windows=2)
    there = backtest(models, panel, windows=2, cluster="local")
    assert [score.model for score in here.scores] == [score.model for score in there.scores]
    for one, other in zip(here.origins, there.origins, strict=True):
        for name, forecast in one.forecasts.items():
            np.testing.assert_allclose(forecast.values, other.forecasts[name].values, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("machines")
def test_an_error_of_a_machine_is_the_one_of_here(panel: Panel) -> None:
    with pytest.raises(ArgumentError, match="has not learned anything"):
        predict_in_parts(MQCNN(4), panel, cluster="local")


@pytest.mark.usefixtures("machines")
def test_parts_of_a_panel_on_disk_are_forecast_as_the_whole(panel: Panel, tmp_path: Path) -> None:
    network = MQCNN(4, steps=3, width=8).fit(panel)
    panel.save(tmp_path / "kept")
    whole = network.predict(panel)
    for found in (
        predict_in_parts(network, panel, series=2),
        predict_in_parts(network, tmp_path / "kept", series=3, cluster="local"),
    ):
        assert found.ids == whole.ids
        assert found.floor == whole.floor
        np.testing.assert_array_equal(found.start, whole.start)
        np.testing.assert_allclose(found.values, whole.values, rtol=1e-5, atol=1e-5)
