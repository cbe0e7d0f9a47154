# SPDX-License-Identifier: Apache-2.0
"""MQ-CNN searched for a chip: the forecaster that is no worse and takes less of the night.

The only place that knows forecasting, search and chips together.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.chips import load
from sirdar.deploy.estimating import has_compiler
from sirdar.errors import ArgumentError, DataError, require_positive_integer
from sirdar.forecasting.convolution import ConvolutionalEncoder, depth_of
from sirdar.forecasting.decoding import Decoder, joined, monotone, steps_of
from sirdar.forecasting.neural import Learned, NeuralForecaster, Setting
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.scaling import DEMAND_CHANNELS, Scaled, scaled
from sirdar.forecasting.training import Training
from sirdar.predictive import DECILES
from sirdar.predictive.forecast import require_levels
from sirdar.recipes.demand import Demand
from sirdar.recipes.saved import BATCH
from sirdar.search.objectives import limit_of
from sirdar.search.pricing import Priced, estimated
from sirdar.search.space import Candidate, SearchSpace
from sirdar.search.spaces import mqcnn
from sirdar.search.study import Options, Study, search
from sirdar.search.task import Report
from sirdar.units import Cost
from sirdar.workload.graph import Graph
from sirdar.workload.trace import trace

HOST = "this-cpu"  # priced by running
TIMED = 1024  # series in such a run; candidates are to be priced in seconds
_FAR = 10  # times below the smallest network's cost no other comes: the largest takes about twice as long


class ShapedNetwork(nn.Module):
    """MQ-CNN with an encoder and a decoder of different widths.

    Args:
        setting: what of a panel shapes a network.
        horizon: steps to forecast.
        levels: number of quantile levels.
        encoder: its width and depth.
        decoder: its width.
    """

    def __init__(self, setting: Setting, horizon: int, levels: int, *, encoder: tuple[int, int], decoder: int) -> None:
        super().__init__()
        self.counts, self.season, self.typical = setting.counts, setting.season, setting.typical
        width, depth = encoder
        self.encoder = ConvolutionalEncoder(setting.channels, width, depth)
        self.narrow = nn.Identity() if width == decoder else nn.Linear(width, decoder)
        season, length = setting.season, setting.length
        self.decoder = Decoder(decoder, setting.channels[1], horizon, levels, season=season, length=length)

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
        hidden = self.narrow(self.encoder(joined(scale.channels, past, known, static))[:, steps_of(origins)])
        here = scale.at(origins)
        raw = self.decoder(hidden, demand, observed, known, here, origins)
        return monotone(raw, here.location / here.spread, counts=self.counts, training=self.training), here


class Core(nn.Module):
    """What of a forecaster a small accelerator runs: all that has weights, for the last origin.

    Scaling before it and the quantiles' link after it are left to the host, as they need operators (asinh, cumulative
    sums) that such chips lack.

    Args:
        network: whose weights it shares.
        known: known covariates.
    """

    def __init__(self, network: ShapedNetwork, known: int) -> None:
        super().__init__()
        self.network, self.known = network, known

    def forward(
        self,
        steps: Float[Tensor, "batch time channel"],
        recent: Float[Tensor, "batch seen"],
        future: Float[Tensor, "batch horizon known"],
        rest: Float[Tensor, "batch horizon rest"],
    ) -> Float[Tensor, "batch horizon answer"]:
        """Raw answers for levels and experts; `rest` is what the last layer sees beside contexts and future."""
        decoder = self.network.decoder
        hidden = self.network.narrow(self.network.encoder(steps)[:, -1])
        wide = functional.gelu(decoder.recent(torch.cat([recent, hidden], dim=1)))
        wide = wide + decoder.block(wide)
        decoded = decoder.contexts(torch.cat([wide, future.flatten(1)], dim=1))
        own, shared = decoded[:, decoder.context :], decoded[:, : decoder.context]
        own = own.reshape(len(steps), decoder.horizon, decoder.context)
        shared = shared.reshape(len(steps), 1, decoder.context)
        shared = torch.cat([shared] * decoder.horizon, dim=1)
        return decoder.quantiles(torch.cat([own, shared, future, rest], dim=2))


@final
class ShapedMQCNN(NeuralForecaster):
    """The MQ-CNN forecaster with the shape of a candidate.

    Args:
        horizon: steps to forecast.
        width: of the encoder.
        depth: of the encoder; what MQ-CNN takes for the window when None.
        decoder: width of the decoder; the encoder's when None.
        levels: quantile levels.
        steps: optimiser steps; what MQ-CNN takes for the panel when None.
        seed: of initial weights, dropout and batches.
        training: batch, learning rate, early stopping, precision and checkpoints.
    """

    MODEL: ClassVar[str] = "mq-cnn-shaped"

    def __init__(
        self,
        horizon: int,
        *,
        width: int = 32,
        depth: int | None = None,
        decoder: int | None = None,
        levels: Sequence[float] = DECILES,
        steps: int | None = 400,
        seed: int = 0,
        training: Training | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        self.steps = None if steps is None else require_positive_integer(steps, "steps")
        self.width = require_positive_integer(width, "width")
        self.depth, self.decoder = depth, decoder
        self.seed, self.progress = seed, None
        self.training = Training() if training is None else training
        self.learned: Learned | None = None

    def build(self, setting: Setting) -> ShapedNetwork:
        """A network of this shape."""
        depth = depth_of(setting.length) if self.depth is None else self.depth
        decoder = self.width if self.decoder is None else self.decoder
        return ShapedNetwork(setting, self.horizon, len(self.levels), encoder=(self.width, depth), decoder=decoder)

    def _arguments(self) -> dict[str, Any]:
        shape = {"depth": self.depth, "decoder": self.decoder}
        return {name: getattr(self, name) for name in ("horizon", "levels", "steps", "width", "seed")} | shape


def shaped(
    candidate: Candidate, horizon: int, steps: int | None = 400, seed: int = 0, training: Training | None = None
) -> ShapedMQCNN:
    """The forecaster of a candidate of `spaces.mqcnn`."""
    width, depth, decoder = (int(candidate[f"{part}"]) for part in ("encoder.width", "encoder.depth", "decoder.width"))
    return ShapedMQCNN(horizon, width=width, depth=depth, decoder=decoder, steps=steps, seed=seed, training=training)


def core_of(forecaster: ShapedMQCNN, setting: Setting, batch: int = 1) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The part of an untrained forecaster's network that has weights, and an example of its input."""
    network, known, horizon = forecaster.build(setting), setting.channels[1], forecaster.horizon
    shapes = [
        (setting.length, DEMAND_CHANNELS + sum(setting.channels)),
        (network.decoder.seen,),
        (horizon, known),
        (horizon, known + 1),
    ]
    generator = torch.Generator().manual_seed(0)
    return Core(network, known).eval(), tuple(torch.rand(batch, *shape, generator=generator) for shape in shapes)


@final
class ForecasterTask:
    """MQ-CNN as a search sees it: trained on all but the last steps of a panel, judged on these.

    Args:
        panel: its last `horizon` steps are the validation data.
        horizon: steps to forecast.
        steps: optimiser steps of a training.
        batch: series in one run of the network, for its cost.

    Raises:
        ArgumentError: the horizon leaves no history.
    """

    metric = "wql"
    higher_is_better = False

    def __init__(self, panel: Panel, horizon: int, steps: int = 400, batch: int = BATCH) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.steps, self.batch = require_positive_integer(steps, "steps"), require_positive_integer(batch, "batch")
        longest = int(panel.history.max(initial=0))
        if 0 < longest <= self.horizon:
            msg = (
                f"a horizon of {self.horizon} steps leaves no history to learn from: the last of it are held out, and "
                f"the longest series has {longest}"
            )
            raise ArgumentError(msg)
        self.past = panel.cut(self.horizon)
        learned = ShapedMQCNN(self.horizon, width=4, depth=2, steps=1).fit(self.past).learned
        assert learned is not None  # by fit
        self._shape = learned

    @property
    def length(self) -> int:
        """Steps of history that a network sees."""
        return self._shape.length

    def graph(self, candidate: Candidate) -> Graph:
        """The operators of the network as it runs every night."""
        return self.graph_of(shaped(candidate, self.horizon))

    def graph_of(self, forecaster: ShapedMQCNN) -> Graph:
        """The operators of a forecaster's network, for the task's panel."""
        return trace(*self.inference(forecaster))

    def core(self, forecaster: ShapedMQCNN, batch: int = 1) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """See `core_of`."""
        return core_of(forecaster, self._shape.setting, batch)

    def inference(self, forecaster: ShapedMQCNN) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """An untrained forecaster's network as it runs every night, and an example of its input."""
        known = self._shape
        network = forecaster.build(known.setting)
        forecaster.learned = Learned(network, known.encoding, known.frequency, known.setting)
        return forecaster.inference(self.batch)

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        """The weighted quantile loss of the last steps, by a forecaster that has not seen them."""
        del report  # the forecasters' training has no curve to show
        forecaster = shaped(candidate, self.horizon, self.steps, seed).fit(self.past)
        return {"wql": wql(forecaster, self.past, self.past.actuals(self.horizon))}


def wql(forecaster: NeuralForecaster, panel: Panel, actual: np.ndarray) -> float:
    """Weighted quantile loss: pinball loss over levels, series and steps, over the demand in them.

    Args:
        forecaster: trained.
        panel: whose future is told.
        actual: that future, [series, horizon]; not a number where it was not observed.

    Raises:
        DataError: nothing of it was observed, or nothing was wanted.
    """
    demand = float(np.nansum(np.abs(actual)))
    if not demand:
        msg = f"none of the {actual.size} steps to judge a forecast by has any demand"
        raise DataError(msg)
    forecast = forecaster.predict(panel)
    levels = np.array(forecast.levels)
    gap = actual[..., None] - forecast.values
    known = np.isfinite(gap)
    loss = np.where(known, np.maximum(levels * gap, (levels - 1) * gap), 0.0)
    return float(2 * loss.sum() / len(levels) / demand)


def baseline(space: SearchSpace, length: int) -> Candidate:
    """MQ-CNN as it comes: 32 channels everywhere, as deep as the window asks for."""
    return space.candidate({"encoder.width": 32, "encoder.depth": depth_of(length), "decoder.width": 32})


def pricing(task: ForecasterTask, chip: str) -> Callable[[Candidate], Cost]:
    """Costs on a chip: compiled for Ethos-U (of `Core`, one series), measured for "this-cpu", else estimated."""
    if chip == HOST:
        return lambda candidate: _measured(*task.inference(shaped(candidate, task.horizon)))
    target = load(chip)
    if has_compiler(target):
        from sirdar.deploy.compiled import Vela

        vela = Vela(memory_mode="Shared_Sram")
        return lambda candidate: vela.estimate(trace(*task.core(shaped(candidate, task.horizon))), target, "int8")
    return estimated(task, chip)


def usual_limit(usual_s: float, least_s: float) -> float:
    """Two thirds of MQ-CNN's latency, or half the way down to the smallest network's where that is more.

    Args:
        usual_s: latency of MQ-CNN as it comes.
        least_s: latency of the smallest network; much of it is what no width changes, such as the start of a run.
    """
    return max(usual_s * 2 / 3, (usual_s + least_s) / 2, least_s)


def _measured(network: nn.Module, example: tuple[Tensor, ...], runs: int = 7) -> Cost:
    """Processor seconds of one run on this machine, the least of several: what else runs here does not count.

    Of the rest only the parameters are known.
    """
    parameters = float(sum(4 * parameter.numel() for parameter in network.parameters()))
    seconds = []
    with torch.inference_mode():
        for _ in range(runs + 1):  # the first run warms up
            begin = time.process_time()
            network(*example)
            seconds.append(time.process_time() - begin)
    unknown = math.nan
    return Cost(min(seconds[1:]), energy_j=unknown, peak_bytes=unknown, parameter_bytes=parameters, macs=unknown)


def search_product(
    data: Demand,
    chip: str | None = None,
    limits: Mapping[str, float] | None = None,
    *,
    strategy: str = "evolution",
    trials: int = 12,
    seed: int = 0,
    options: Options | None = None,
) -> Study:
    """Searches MQ-CNN for a chip on a user's own panel, or on the bundled one.

    Args:
        data: the table, and how far to forecast it.
        chip: a name of the catalogue, "this-cpu" or "ethos-u85-512" and the like; Trainium 1 when None.
        limits: greatest costs; `usual_limit` of the latency when None.
        strategy: see `sirdar.search.study.search`; all but "zero-shot", "single-shot" and "hybrid".
        trials: candidates to train.
        seed: of proposals and trainings.
        options: storage, region and progress; the cost, the name and the conditions are the product's.

    Raises:
        ArgumentError: no candidate keeps to the limits, the horizon leaves no history, or "this-cpu" is to be curated
            for.
    """
    chip = chip or "trainium1"
    if chip == HOST and options is not None and options.curate:
        msg = f"{HOST} is timed and never twice the same: curation needs a chip that an estimator prices"
        raise ArgumentError(msg)
    batch = TIMED if chip == HOST else BATCH
    task, space = ForecasterTask(data.read(), data.horizon, batch=batch), mqcnn()
    priced = Priced(pricing(task, chip))
    cost = priced.cost
    _require_near(space, priced, limits or {})
    start = baseline(space, task.length)
    bounds = dict(limits or {"latency_s": usual_limit(cost(start).latency_s, cost(space.smallest()).latency_s)})
    conditions = {"chip": chip, "horizon": str(data.horizon), "data": data.digest()}
    if not limits:  # on this machine it is measured, and never twice the same
        conditions["limits"] = "the usual part of MQ-CNN's latency"
    rest = replace(options or Options(), cost=cost, name=f"mq-cnn {chip}", conditions=conditions)
    study = search(space, task, limits=bounds, strategy=strategy, trials=trials, seed=seed, options=rest)
    return replace(study, chip=chip)


def _require_near(space: SearchSpace, priced: Priced, limits: Mapping[str, float]) -> None:
    """Refuses at once a limit that the smallest network is far beyond: to price all others takes many minutes."""
    for name, limit in limits.items():
        least, most = priced.measures(space.smallest()).get(name, 0.0), limit_of(name, limit)
        if 0 < _FAR * most < least:
            msg = f"no network keeps to {name} <= {most:g}: the smallest, {space.smallest()}, takes {least:.4g}"
            raise ArgumentError(msg)


def deliver_winner(
    data: Demand, study: Study, folder: Path, seed: int = 0, unfinished: Path | None = None
) -> dict[str, int]:
    """Trains the best candidate of a search on all history, as MQ-CNN is trained, and writes it.

    Args:
        data: that it was searched on.
        study: what was found.
        folder: gets the trained forecaster as `model`, which `ShapedMQCNN.load` reads, and its network as `model.onnx`.
        seed: of the search.
        unfinished: a folder from which a training that was killed goes on, to the same forecaster.

    Returns:
        The numbers of series and of observations that it was trained on.

    Raises:
        OutputError: a file cannot be written.
        UnsupportedError: a package is missing, or the ONNX file does not compute what torch does.
    """
    panel = data.read()
    training = Training(checkpoint=unfinished)
    forecaster = shaped(study.best.candidate, data.horizon, steps=None, seed=seed, training=training).fit(panel)
    forecaster.save(folder / "model")
    forecaster.export_onnx(folder / "model.onnx")
    return {"series": len(panel), "observations": int(panel.observed.sum())}
