# SPDX-License-Identifier: Apache-2.0
"""The Sparse Quantile Random Forest: one forest over the rows of all products, on sparse features.

The rung between models of one series each and networks. Demand is divided by each series' recent level, so that all
products teach the same trees, and the horizon is a feature, so that one forest forecasts every step. Splits are chosen
on the rank of scaled demand rather than on demand: intermittent demand has few large values, and a mean follows them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.forecasting import storage
from sirdar.forecasting.addons import lookalike
from sirdar.forecasting.addons.lookalike import LookAlikes
from sirdar.forecasting.features import Features, as_features
from sirdar.forecasting.forecaster import Explained
from sirdar.forecasting.forest import QuantileForest
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.training import steps_for
from sirdar.predictive import DECILES, Forecast
from sirdar.predictive.forecast import require_levels

_CHUNK = 1024  # series forecast at a time: bounds memory
_LEAF_ROWS = 50
_ROWS, _MOST_ROWS = 200_000, 1_000_000
_LEAVES = 512


class SparseQuantileForest(Explained):
    """The SQRF forecaster.

    Args:
        horizon: steps to forecast.
        levels: quantile levels; the same forest answers any.
        rows: most rows to learn from, drawn from rolling origins of all series: bounds memory and time. When None
            200,000, and more for a panel of many observations, up to a million.
        trees: of the forest.
        leaves: most leaves of a tree; when None 512, and more as the rows, up to those of a million.
        seed: of the draws; the same seed gives the same forecast on any number of threads.
        threads: see `forest.QuantileForest`.
        progress: called with the share of training done.
    """

    def __init__(
        self,
        horizon: int,
        *,
        levels: Sequence[float] = DECILES,
        rows: int | None = None,
        trees: int = 100,
        leaves: int | None = None,
        seed: int = 0,
        threads: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        self.rows = None if rows is None else require_positive_integer(rows, "rows")
        self.leaves = leaves
        self.seed, self.progress = require_seed(seed), progress
        self.forest = QuantileForest(
            trees=trees, leaves=_LEAVES if leaves is None else leaves, leaf_rows=_LEAF_ROWS, seed=seed, threads=threads
        )
        self.features: Features | None = None
        self.alike: LookAlikes | None = None
        self.counts = self.whole = False

    def fit(self, panel: Panel) -> "SparseQuantileForest":
        """Learns from rows of all series; raises ArgumentError when nothing was observed."""
        panel.require_observed()
        self.counts, self.whole = panel.counts, panel.whole
        self.features = Features.fit(panel)
        drawn = self.rows or min(steps_for(None, panel.observations(), _ROWS), _MOST_ROWS)
        if self.leaves is None:
            self.forest.leaves = max(_LEAVES, _LEAVES * min(drawn, _MOST_ROWS) // _ROWS)
        rows = self.features.rows(panel, *self._sampled(panel, drawn))
        scaled = rows.target / rows.scale
        self.forest.fit(rows.matrix, scaled, guide=ranks(scaled), progress=self.progress)
        self.alike = LookAlikes.beside(panel, self.horizon, self.levels, self._answers)
        return self

    def update(self, panel: Panel) -> "SparseQuantileForest":
        """The same as `fit`: trees are grown anew, which takes seconds, since new rows would move their splits."""
        return self.fit(panel)

    def predict(self, panel: Panel) -> Forecast:
        """Quantiles after each series' history; a series without history gets the forecast of a new product.

        A new product's quantiles are mixed with those of its look-alikes, as was best at past launches. Whole numbers
        where the demand that was learned from was whole.
        """
        self._fitted().require(panel)
        values = self._answers(panel)
        if self.alike is not None:
            self.alike.mix_into(values, panel)
        if self.whole:
            values = np.floor(values + np.float32(0.5))
        return panel.forecast(self.levels, values, panel.floors(counts=self.counts))

    def save(self, path: str | Path) -> None:
        """Writes config.json and weights.safetensors into the folder `path`."""
        features, forest = self._fitted(), self.forest
        tensors: dict[str, torch.Tensor] = {}
        config = {
            "model": "sqrf",
            "arguments": {
                "horizon": self.horizon,
                "levels": self.levels,
                "rows": self.rows,
                "trees": forest.trees,
                "leaves": self.leaves,
                "seed": self.seed,
            },
            "features": asdict(features),
            "width": forest.features,
            "counts": self.counts,
            "whole": self.whole,
            "alike": lookalike.stored(self.alike, tensors),
        }
        weights = {name: torch.from_numpy(array) for name, array in forest.arrays.items()}
        storage.write(Path(path), config, weights | tensors)

    @classmethod
    def load(cls, path: str | Path) -> "SparseQuantileForest":
        """Reads what `save` wrote."""
        with storage.opened(Path(path), model="sqrf") as (config, weights):
            forecaster = cls(**config["arguments"])
            forecaster.features = as_features(config["features"], storage.as_encoding(config["features"]["encoding"]))
            forecaster.alike = lookalike.restored(config, weights)
            forecaster.forest.restore({name: tensor.numpy() for name, tensor in weights.items()}, config["width"])
            forecaster.counts, forecaster.whole = config["counts"], config["whole"]
            return forecaster

    def _sampled(self, panel: Panel, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert self.features is not None
        return self.features.sample(panel, self.horizon, rows, np.random.default_rng(self.seed))

    def _answers(self, panel: Panel) -> np.ndarray:
        """The forest's quantiles [series, horizon, level] in units of demand."""
        features = self._fitted()
        values = np.empty((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        for begin in range(0, len(panel), _CHUNK):
            series = np.arange(begin, min(begin + _CHUNK, len(panel)))
            ahead = np.broadcast_to(np.arange(1, self.horizon + 1), (len(series), self.horizon))
            rows = features.rows(panel, series, panel.history[series], ahead)
            quantiles = self.forest.quantiles(rows.matrix, self.levels) * rows.scale[:, None]
            values[series] = quantiles.reshape(len(series), self.horizon, len(self.levels))
        return values

    def _fitted(self) -> Features:
        if self.features is None:
            msg = "this SparseQuantileForest has not learned anything yet: call fit(panel) first"
            raise ArgumentError(msg)
        return self.features


def ranks(values: Float32[np.ndarray, " row"]) -> Float32[np.ndarray, " row"]:
    """The share of values below each, equal ones sharing the middle of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(count) - count / 2) / len(values))[place].astype(np.float32)
