# SPDX-License-Identifier: Apache-2.0
"""Forecasters that were saved, whatever their rung, and the network in one."""

from dataclasses import replace
from pathlib import Path

from sirdar.errors import ArgumentError, DataError, UnsupportedError
from sirdar.forecasting import ladder, storage
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.ensemble import Ensemble
from sirdar.forecasting.models.feedforward import FeedForward
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.neural import NeuralForecaster
from sirdar.workload.graph import Graph
from sirdar.workload.trace import trace

BATCH = 4096  # series in one run of a network, where none is asked for
Network = NeuralForecaster | FeedForward


def saved_forecaster(folder: Path, otherwise: str = "") -> Forecaster:
    """The forecaster that a folder holds, trained.

    Args:
        folder: as `save` wrote it.
        otherwise: what else could have been given, for the sentence about a folder without a forecaster.

    Raises:
        ArgumentError: the folder holds no forecaster.
        DataError: a file of it is missing or wrong.
        UnsupportedError: its kind is not known.
    """
    from sirdar.recipes.forecaster import ShapedMQCNN  # it imports the search, which no plan needs

    kind = storage.model_of(folder)
    if not isinstance(kind, str):
        msg = f"{folder}: is no folder of a saved forecaster{otherwise}"
        raise ArgumentError(msg)
    rung = ShapedMQCNN if kind == ShapedMQCNN.MODEL else ladder.class_of(kind)
    return rung.load(folder)  # pyright: ignore[reportAttributeAccessIssue] - every rung's


def network_in(forecaster: Forecaster) -> Network | None:
    """The forecaster if it is a network, or the first network that it averages."""
    ensemble = forecaster.ensemble if isinstance(forecaster, Ladder) else forecaster
    members = ensemble.members.values() if isinstance(ensemble, Ensemble) else ()
    return next((model for model in (forecaster, *members) if isinstance(model, Network)), None)


def saved_network(folder: Path, otherwise: str = "") -> Network:
    """The network in a saved forecaster; its `inference` gives the module and an example of its input.

    Raises:
        DataError: there is none in it; other errors are those of `saved_forecaster`, as are the arguments.
    """
    found = network_in(saved_forecaster(folder, otherwise))
    if found is None:
        msg = f"{folder}: holds a {storage.model_of(folder)!r} forecaster, which is no network"
        raise DataError(msg)
    return found


def saved_core(folder: Path, batch: int = 1) -> Graph:
    """What an Ethos-U runs of a saved MQ-CNN, as the search prices it: `recipes.forecaster.Core`.

    Raises:
        UnsupportedError: it is another network, of which no such part is known; other errors as of `saved_network`.
    """
    from sirdar.recipes.forecaster import ShapedMQCNN, core_of  # it imports the search, which no plan needs

    network = saved_network(folder)
    members = getattr(network, "members", 1)
    if isinstance(network, MQCNN) and members == 1:
        shaped = ShapedMQCNN(network.horizon, width=network.width, levels=network.levels)
    elif isinstance(network, ShapedMQCNN):
        shaped = network
    else:
        held = f"{members} networks" if members > 1 else "a network"
        msg = (
            f"{folder}: holds {held} of kind {ladder.kind_of(network)!r}; of forecasters an Ethos-U runs the core of a "
            "single MQ-CNN alone"
        )
        raise UnsupportedError(msg)
    assert network.learned is not None  # as it was saved
    return replace(trace(*core_of(shaped, network.learned.setting, batch)), name=folder.name)
