# SPDX-License-Identifier: Apache-2.0
"""Sirdar trains models judged by what they cost: what it costs to be wrong, and what it costs to run.

Public names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sirdar.chips import advise as advise
    from sirdar.deploy.estimating import estimate as estimate
    from sirdar.deploy.migrate import migrate as migrate
    from sirdar.errors import SirdarError as SirdarError
    from sirdar.forecasting.backtest import backtest as backtest
    from sirdar.forecasting.models.addons import AddOns as AddOns
    from sirdar.forecasting.models.ensemble import Ensemble as Ensemble
    from sirdar.forecasting.models.feedforward import FeedForward as FeedForward
    from sirdar.forecasting.models.ladder import Ladder as Ladder
    from sirdar.forecasting.models.mqcnn import MQCNN as MQCNN
    from sirdar.forecasting.models.mqrnn import MQRNN as MQRNN
    from sirdar.forecasting.models.mqtransformer import MQTransformer as MQTransformer
    from sirdar.forecasting.models.sqrf import SparseQuantileForest as SparseQuantileForest
    from sirdar.forecasting.models.textbook import Textbook as Textbook
    from sirdar.forecasting.panel import Panel as Panel
    from sirdar.inventory import BaseStock as BaseStock
    from sirdar.inventory import CappedBaseStock as CappedBaseStock
    from sirdar.inventory import InventoryProblem as InventoryProblem
    from sirdar.inventory import LearnedPolicy as LearnedPolicy
    from sirdar.inventory import ProjectedInventory as ProjectedInventory
    from sirdar.inventory import Stock as Stock
    from sirdar.inventory import simulate as simulate
    from sirdar.numerics import quantise as quantise
    from sirdar.predictive import Forecast as Forecast
    from sirdar.report.draw import plot as plot
    from sirdar.search.study import search as search
    from sirdar.units import Cost as Cost
    from sirdar.workload.trace import trace as trace

_HOME = {
    "AddOns": "sirdar.forecasting.models.addons",
    "BaseStock": "sirdar.inventory",
    "CappedBaseStock": "sirdar.inventory",
    "Cost": "sirdar.units",
    "Ensemble": "sirdar.forecasting.models.ensemble",
    "FeedForward": "sirdar.forecasting.models.feedforward",
    "Forecast": "sirdar.predictive",
    "InventoryProblem": "sirdar.inventory",
    "Ladder": "sirdar.forecasting.models.ladder",
    "LearnedPolicy": "sirdar.inventory",
    "MQCNN": "sirdar.forecasting.models.mqcnn",
    "MQRNN": "sirdar.forecasting.models.mqrnn",
    "MQTransformer": "sirdar.forecasting.models.mqtransformer",
    "Panel": "sirdar.forecasting.panel",
    "ProjectedInventory": "sirdar.inventory",
    "SirdarError": "sirdar.errors",
    "SparseQuantileForest": "sirdar.forecasting.models.sqrf",
    "Stock": "sirdar.inventory",
    "Textbook": "sirdar.forecasting.models.textbook",
    "advise": "sirdar.chips",
    "backtest": "sirdar.forecasting.backtest",
    "estimate": "sirdar.deploy.estimating",
    "migrate": "sirdar.deploy.migrate",
    "plot": "sirdar.report.draw",
    "quantise": "sirdar.numerics",
    "search": "sirdar.search",
    "simulate": "sirdar.inventory",
    "trace": "sirdar.workload.trace",
}

__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    msg = f"module 'sirdar' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
