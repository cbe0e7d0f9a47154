# SPDX-License-Identifier: Apache-2.0
"""MQ-CNN: dilated causal convolutions, forking sequences, multi-horizon quantiles (Wen et al. 2017, arXiv:1711.11053).

One pass over a window gives a forecast from every step of it, so each window trains as many forecasts as it has steps.
Differences from the paper, each for a reason: demand is scaled by a causal moving average at every step, so that
products that differ by 10^6 in level share the weights; quantiles are a running sum of positive increments, so that
they cannot cross; and a hyperbolic-sine link lets the increments grow with the level, as the spread of demand does.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.forecasting import storage, training
from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.windows import Windows
from sirdar.predictive import DECILES, Forecast, Frequency
from sirdar.predictive.forecast import require_levels

_DECAY = 0.9  # of the moving average that scales demand: a memory of about ten steps
# Bound on the link's argument. sinh(3.5) is 17 times the recent level: by Markov's inequality the 0.9 quantile
# of steady demand is at most 10 times its mean, and without a bound a product that takes off would explode.
_STEEPEST = 3.5
_LONGEST_WINDOW = 256
_CHUNK = 1024
_OLD = 12.0  # steps: beyond this, age would only tell the date, which one year of history cannot teach


class MQCNNNetwork(nn.Module):
    """From windows to quantiles.

    Args:
        channels: of past, known and static covariates.
        horizon: steps to forecast.
        levels: number of quantile levels.
        width: channels of the encoder.
        depth: convolutions, with dilations 1, 2, 4, ...: a receptive field of 2^depth steps.
        counts: demand is never negative, and neither are the quantiles.
    """

    def __init__(
        self, channels: tuple[int, int, int], horizon: int, levels: int, *, width: int, depth: int, counts: bool
    ) -> None:
        super().__init__()
        past, known, static = self.channels = channels
        self.horizon, self.counts, self.context = horizon, counts, width // 2
        self.embed = nn.Linear(_DEMAND_CHANNELS + past + known + static, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**layer) for layer in range(depth))
        self.dropout = nn.Dropout1d(0.1)  # whole channels: neighbouring steps tell the same
        self.global_decoder = nn.Sequential(
            nn.Linear(width + horizon * known, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, (horizon + 1) * self.context),
        )
        self.local_decoder = nn.Sequential(
            nn.Linear(2 * self.context + 2 * known + 1, width), nn.GELU(), nn.Linear(width, levels)
        )

    def forward(
        self,
        demand: Float[Tensor, "batch time"],
        observed: Float[Tensor, "batch time"],
        past: Float[Tensor, "batch time past"],
        known: Float[Tensor, "batch reach known"],
        static: Float[Tensor, "batch static"],
        last_only: bool = False,  # noqa: FBT001 - exported graphs take positional arguments
    ) -> tuple[Float[Tensor, "batch origin horizon level"], Float[Tensor, "batch origin"]]:
        """Quantiles in units of the scale, from every step of the window (or only the last), and that scale."""
        time = demand.shape[1]
        level, features = _demand_features(demand, observed)
        wide = static[:, None].expand(-1, time, -1)
        hidden = functional.gelu(self.embed(torch.cat([features, past, known[:, :time], wide], dim=-1))).transpose(1, 2)
        for layer, convolution in enumerate(self.convolutions):
            hidden = hidden + self.dropout(functional.gelu(convolution(functional.pad(hidden, (2**layer, 0)))))
        hidden = hidden.transpose(1, 2)
        now = known[:, :time]
        ahead = torch.stack([known[:, 1 + step : 1 + step + time] for step in range(self.horizon)], dim=2)
        if last_only:
            hidden, ahead, now, level = hidden[:, -1:], ahead[:, -1:], now[:, -1:], level[:, -1:]
        return self._decode(hidden, ahead, now), level

    def _decode(
        self,
        hidden: Float[Tensor, "batch origin width"],
        ahead: Float[Tensor, "batch origin horizon known"],
        now: Float[Tensor, "batch origin known"],
    ) -> Float[Tensor, "batch origin horizon level"]:
        """The global decoder (one context for all steps, one for each) and the local one (quantiles of each step)."""
        batch, origins = hidden.shape[:2]
        decoded = self.global_decoder(torch.cat([hidden, ahead.flatten(2)], dim=-1))
        contexts = decoded.view(batch, origins, self.horizon + 1, self.context)
        shared = contexts[:, :, :1].expand(-1, -1, self.horizon, -1)
        step = torch.linspace(0, 1, self.horizon).view(1, 1, -1, 1).expand(batch, origins, -1, 1)
        local = torch.cat([contexts[:, :, 1:], shared, ahead, ahead - now[:, :, None], step.to(hidden)], dim=-1)
        raw = self.local_decoder(local)
        rises = functional.softplus(raw[..., 1:] - 1.0)
        quantiles = torch.cat([raw[..., :1], raw[..., :1] + torch.cumsum(rises, dim=-1)], dim=-1)
        quantiles = torch.sinh(_STEEPEST * torch.tanh(quantiles / _STEEPEST))
        if not self.counts:
            return quantiles
        # In training a small slope below zero keeps the gradient of a quantile that should rise again.
        return functional.leaky_relu(quantiles, 0.01) if self.training else functional.relu(quantiles)


_DEMAND_CHANNELS = 6


def _demand_features(
    demand: Float[Tensor, "batch time"], observed: Float[Tensor, "batch time"]
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time channel"]]:
    """The causal scale at every step, and demand as the encoder sees it: free of scale, and zero where not observed."""
    time = demand.shape[1]
    lag = torch.arange(time, device=demand.device)
    age = (lag[None, :] - lag[:, None]).to(demand.dtype)
    decay = torch.where(age >= 0, _DECAY ** age.clamp(min=0), torch.zeros_like(age))
    size = demand.abs() * observed
    # The additions keep the scale above zero: a product that has not sold for long is scaled by about one unit.
    recent = (size @ decay + 0.05) / (observed @ decay + 0.05)
    level = recent.clamp(min=0.1)
    seen = torch.cumsum(observed, dim=1)
    average = (torch.cumsum(size, dim=1) + 1) / (seen + 1)
    features = [
        torch.asinh(demand / level) * observed,
        (torch.asinh(demand) - torch.asinh(average)) * observed,
        observed,
        torch.log(level) / 3,
        torch.log1p(seen.clamp(max=_OLD)) / 2 - 0.5,
        (seen > 0).to(demand.dtype),
    ]
    return level, torch.stack(features, dim=-1)


class MQCNN:
    """The MQ-CNN forecaster.

    Args:
        horizon: steps to forecast.
        levels: quantile levels.
        steps: optimiser steps.
        width: channels of the encoder.
        seed: of initial weights, dropout and batches; the same seed gives the same forecast.
        progress: called with the share of training done.
    """

    def __init__(
        self,
        horizon: int,
        *,
        levels: Sequence[float] = DECILES,
        steps: int = 400,
        width: int = 32,
        seed: int = 0,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        self.steps = require_positive_integer(steps, "steps")
        self.width = require_positive_integer(width, "width")
        self.seed, self.progress = seed, progress
        self.network: MQCNNNetwork | None = None
        self.encoding = Encoding(yearly=False)
        self.frequency: Frequency | None = None
        self.length = 0

    def fit(self, panel: Panel) -> "MQCNN":
        """Trains on every step of every series at once; raises ArgumentError when nothing was observed."""
        rows = np.flatnonzero(panel.observations() > 0)
        if not len(rows):
            msg = "the panel has no observed step of history to learn from"
            raise ArgumentError(msg)
        self.frequency, self.encoding = panel.frequency, Encoding.fit(panel)
        self.length = int(min(panel.history.max(), _LONGEST_WINDOW))
        windows = Windows(panel, self.encoding, self.length, self.horizon)
        sample = windows.inputs(rows[:1])
        channels = (sample.past.shape[-1], sample.known.shape[-1], sample.static.shape[-1])
        with training.seeded(self.seed):
            self.network = self._build(channels, counts=panel.counts)
            training.train(
                self.network,
                lambda generator: self._loss(windows, panel, rows, generator),
                steps=self.steps,
                seed=self.seed,
                progress=self.progress,
            )
        return self

    def predict(self, panel: Panel) -> Forecast:
        """Quantiles after each series' history; a series without history gets the forecast of a new product."""
        network, frequency = self._fitted()
        if panel.frequency.unit != frequency.unit:
            msg = f"the network learned {frequency.name} demand, but the panel is {panel.frequency.name}"
            raise ArgumentError(msg)
        windows = Windows(panel, self.encoding, self.length, self.horizon)
        network.eval()
        values = np.empty((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        with torch.inference_mode():
            for begin in range(0, len(panel), _CHUNK):
                rows = np.arange(begin, min(begin + _CHUNK, len(panel)))
                quantiles, scale = network(*windows.inputs(rows), last_only=True)
                values[rows] = (quantiles[:, 0] * scale[:, 0, None, None]).numpy()
        values = np.maximum.accumulate(values, axis=2)  # tanh and sinh are monotone only up to rounding
        floor = 0.0 if network.counts else -math.inf
        return Forecast(panel.ids, panel.end, panel.frequency, self.levels, values, floor, native=panel.native)

    def inference(self, batch: int = 1) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network as it runs every night, and an example of its input: for tracing, timing and export."""
        network, _ = self._fitted()
        past, known, static = network.channels
        shapes = [(self.length,), (self.length,), (self.length, past), (self.length + self.horizon, known), (static,)]
        generator = torch.Generator().manual_seed(0)
        example = tuple(torch.rand(batch, *shape, generator=generator) for shape in shapes)
        return Inference(network).eval(), example

    def save(self, path: str | Path) -> None:
        """Writes config.json and weights.safetensors into the folder `path`."""
        network, frequency = self._fitted()
        config = {
            "model": "mq-cnn",
            "arguments": {
                "horizon": self.horizon,
                "levels": self.levels,
                "steps": self.steps,
                "width": self.width,
                "seed": self.seed,
            },
            "frequency": frequency,
            "encoding": self.encoding,
            "length": self.length,
            "counts": network.counts,
            "channels": network.channels,
        }
        storage.write(Path(path), config, network.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> "MQCNN":
        """Reads what `save` wrote."""
        config, weights = storage.read(Path(path), model="mq-cnn")
        forecaster = cls(**config["arguments"])
        forecaster.frequency = Frequency(**config["frequency"])
        forecaster.encoding = storage.as_encoding(config["encoding"])
        forecaster.length = config["length"]
        past, known, static = config["channels"]
        with training.seeded(forecaster.seed):  # the initial weights are overwritten, the caller's random state is not
            forecaster.network = forecaster._build((past, known, static), counts=config["counts"])
        forecaster.network.load_state_dict(weights)
        return forecaster

    def _build(self, channels: tuple[int, int, int], *, counts: bool) -> MQCNNNetwork:
        depth = max(2, math.ceil(math.log2(min(self.length, 64))))
        return MQCNNNetwork(channels, self.horizon, len(self.levels), width=self.width, depth=depth, counts=counts)

    def _fitted(self) -> tuple[MQCNNNetwork, Frequency]:
        if self.network is None or self.frequency is None:
            msg = "this MQCNN has not learned anything yet: call fit(panel) first"
            raise ArgumentError(msg)
        return self.network, self.frequency

    def _loss(self, windows: Windows, panel: Panel, rows: np.ndarray, generator: np.random.Generator) -> Tensor:
        """Quantile loss of a batch of windows, over all origins, horizons and levels."""
        chosen = generator.choice(rows, size=min(training.BATCH, len(rows)), replace=False)
        # Longer histories than a window: a random end, so that all of them are seen.
        slack = np.maximum(panel.history[chosen] - self.length, 0)
        back = generator.integers(0, slack + 1)
        inputs, targets = windows.inputs(chosen, back), windows.targets(chosen, back)
        assert self.network is not None
        quantiles, scale = self.network(*inputs)
        return training.quantile_loss(quantiles, scale, targets, torch.cumsum(inputs.observed, dim=1) > 0, self.levels)


class Inference(nn.Module):
    """A trained network as it runs every night: the last origin alone, in units of demand."""

    def __init__(self, network: MQCNNNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, demand: Tensor, observed: Tensor, past: Tensor, known: Tensor, static: Tensor) -> Tensor:
        """Quantiles [batch, horizon, level]."""
        quantiles, scale = self.network(demand, observed, past, known, static, True)
        return quantiles[:, 0] * scale[:, 0, None, None]
