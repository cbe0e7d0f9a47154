# SPDX-License-Identifier: Apache-2.0
"""MQ-CNN: dilated causal convolutions, forking sequences, multi-horizon quantiles (Wen et al. 2017, arXiv:1711.11053).

One pass over a window can forecast from every step of it, so each window trains many forecasts at once.
Differences from the paper, each for a reason: demand is seen about its recent level and in units of its spread, so that
products that differ by 10^6 in level share the weights; the middle quantile begins from a mixture of textbook forecasts
(`experts.py`); the others follow by positive increments, so that they cannot cross; a hyperbolic-sine link lets these
grow with the level, as the spread of demand does; and training takes origins that lie apart, not all.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor, nn

from sirdar.errors import require_positive_integer, require_seed
from sirdar.forecasting.convolution import ConvolutionalEncoder, depth_of
from sirdar.forecasting.decoding import Decoder, joined, monotone, steps_of
from sirdar.forecasting.neural import Learned, NeuralForecaster, Setting
from sirdar.forecasting.scaling import Scaled, scaled
from sirdar.forecasting.training import Training
from sirdar.predictive import DECILES
from sirdar.predictive.forecast import require_levels


class MQCNNNetwork(nn.Module):
    """From windows to quantiles.

    Args:
        channels: of past, known and static covariates.
        horizon: steps to forecast.
        levels: number of quantile levels.
        width: channels of the encoder.
        counts: demand is never negative, and neither are the quantiles.
        season: steps of the season; 1 for none.
        length: steps of a window.
        typical: units of demand of a typical series, the scale of one that has no history.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        horizon: int,
        levels: int,
        *,
        width: int,
        counts: bool,
        season: int,
        length: int,
        typical: float,
    ) -> None:
        super().__init__()
        self.counts, self.season, self.typical = counts, season, typical
        self.encoder = ConvolutionalEncoder(channels, width, depth_of(length))
        self.decoder = Decoder(width, channels[1], horizon, levels, season=season, length=length)

    def forward(
        self,
        demand: Float[Tensor, "batch time"],
        observed: Float[Tensor, "batch time"],
        past: Float[Tensor, "batch time past"],
        known: Float[Tensor, "batch reach known"],
        static: Float[Tensor, "batch static"],
        origins: range | None = None,
    ) -> tuple[Float[Tensor, "batch origin horizon level"], Scaled]:
        """Quantiles in units of the spread from the steps `origins` of the window, all when None, and their scale."""
        origins = range(demand.shape[1]) if origins is None else origins
        scale = scaled(demand, observed, self.season, self.typical)
        hidden = self.encoder(joined(scale.channels, past, known, static))[:, steps_of(origins)]
        here = scale.at(origins)
        raw = self.decoder(hidden, demand, observed, known, here, origins)
        return monotone(raw, here.location / here.spread, counts=self.counts, training=self.training), here


@final
class MQCNN(NeuralForecaster):
    """The MQ-CNN forecaster.

    Args:
        horizon: steps to forecast.
        levels: quantile levels.
        steps: optimiser steps of each member; when None 400, fewer for less than some 20,000 observations and
            more for over 400,000.
        width: channels of the encoder.
        seed: of initial weights, dropout and batches; the same seed gives the same forecast on as many threads, and on
            more or fewer one that differs as sums round: in the last bits, which training may carry further.
        members: networks whose quantiles are averaged.
        training: batch, learning rate, early stopping, precision and checkpoints.
        progress: called with the share of training done.
    """

    MODEL: ClassVar[str] = "mq-cnn"

    def __init__(
        self,
        horizon: int,
        *,
        levels: Sequence[float] = DECILES,
        steps: int | None = None,
        width: int = 32,
        seed: int = 0,
        members: int = 1,
        training: Training | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        self.steps = None if steps is None else require_positive_integer(steps, "steps")
        self.width = require_positive_integer(width, "width")
        self.members = require_positive_integer(members, "members")
        self.seed, self.progress = require_seed(seed), progress
        self.training = Training() if training is None else training
        self.learned: Learned | None = None

    def build(self, setting: Setting) -> MQCNNNetwork:
        """A network of this width."""
        return MQCNNNetwork(
            setting.channels,
            self.horizon,
            len(self.levels),
            width=self.width,
            counts=setting.counts,
            season=setting.season,
            length=setting.length,
            typical=setting.typical,
        )
