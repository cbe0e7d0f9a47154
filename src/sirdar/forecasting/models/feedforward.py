# SPDX-License-Identifier: Apache-2.0
"""Feed-forward quantiles of all steps ahead, from the features of the sparse forest: the rung that beat it.

A network without memory sees what `features.Features` tells of a series at an origin, and of each step ahead of it, and
gives quantiles of all these steps at once, trained on the sum of their quantile losses (the loss of Wen et al. 2017,
section 3.2, arXiv:1711.11053, before its encoders). Where the forest splits, it interpolates: a trend, a price or a
level between those that were seen moves its answer. Demand is told about the series' own recent level and in units of
its recent spread, so that products that differ by 10^6 share the weights and a smooth series shows its small movements
(`scaling.py` does so for the other networks). Its quantiles are a running sum of positive increments under a
hyperbolic-sine link, as theirs are: they cannot cross.
"""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError, require_positive_integer, require_seed
from sirdar.forecasting import storage, training
from sirdar.forecasting.addons import lookalike
from sirdar.forecasting.addons.lookalike import LookAlikes
from sirdar.forecasting.decoding import monotone
from sirdar.forecasting.features import Features, Pairs, Source, as_features
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.training import Run, Training
from sirdar.predictive import DECILES, Forecast
from sirdar.predictive.forecast import require_levels

if TYPE_CHECKING:
    from sirdar.forecasting.attribution import Attribution

_STEPS = 1000  # of a training on little data
_FEW, _LEAST = 40_000, 200  # observations of which fewer are trained on in fewer steps, and how few steps
_CHUNK = 1024  # series forecast at a time: bounds memory
_TRIED = 4096  # pairs that say how far each feature spreads
_FRESH = 0.03  # of all pairs: a series that is about to begin
_PATH = 64  # points from average features to those of a series
_CLIP = 4.0  # spreads of a feature from its mean
_LEAST_SPREAD, _FLATTEST = 0.02, 0.5  # of the level: the spread at least, and what one observation more would add to it


class Places(NamedTuple):
    """Which columns of `Pairs` tell of demand, in units of the level.

    Args:
        mean: of the last `steps`, shared; the deviation likewise.
        deviation: standard deviation.
        age: the logarithm of one and the steps seen.
        steps: over which both are taken.
        shared: all of demand itself.
        own: likewise of each step ahead.
    """

    mean: int
    deviation: int
    age: int
    steps: int
    shared: tuple[int, ...]
    own: tuple[int, ...]

    @classmethod
    def of(cls, features: Features) -> "Places":
        """Found by the columns' names."""
        names, own = features.pair_names
        windows = features.shape[1]
        steps = windows[len(windows) // 2]
        demand = tuple(i for i, name in enumerate(names) if name.startswith(("lag ", "mean of ", "quantile ")))
        cycles = tuple(i for i, name in enumerate(own) if name.startswith(("last of ", "mean of ")))
        mean, deviation, age = (names.index(name) for name in (f"mean of {steps}", f"deviation of {steps}", "age"))
        return cls(mean, deviation, age, steps, demand, cycles)


class Seen(NamedTuple):
    """What the network is given."""

    shared: Float[Tensor, "batch shared"]  # may be not-a-number
    ahead: Float[Tensor, "batch horizon own"]  # likewise
    location: Float[Tensor, " batch"]  # units of demand: the recent level
    spread: Float[Tensor, " batch"]  # units of demand: the recent standard deviation


def about_level(pairs: Pairs, places: Places) -> Seen:
    """Demand among the features about the recent level, in units of the recent spread; both as logarithms before.

    A deviation of few observations is drawn to half the level, as one observation more would; a series without any is
    measured from zero, in units of a typical level.
    """
    mean, deviation = pairs.shared[:, places.mean], pairs.shared[:, places.deviation]
    known = np.isfinite(mean)
    count = np.minimum(np.expm1(pairs.shared[:, places.age]), places.steps)
    location, size = np.where(known, mean, 0), np.where(known, np.abs(mean), 1)
    square = (count * np.where(known, deviation, 0) ** 2 + (_FLATTEST * size) ** 2) / (count + 1)
    spread = np.where(known, np.maximum(np.sqrt(square), _LEAST_SPREAD), 1).astype(np.float32)
    shared, ahead = pairs.shared.copy(), pairs.ahead.copy()
    shared[:, places.shared] = (shared[:, places.shared] - location[:, None]) / spread[:, None]
    ahead[..., places.own] = (ahead[..., places.own] - location[:, None, None]) / spread[:, None, None]
    shared[:, places.mean] = np.log(spread)
    units = [torch.from_numpy((part * pairs.scale).astype(np.float32)) for part in (location, spread)]
    return Seen(torch.from_numpy(shared), torch.from_numpy(ahead), *units)


class FeedForwardNetwork(nn.Module):
    """From features to quantiles.

    Args:
        shared: features that all steps of an origin share.
        own: features of each step.
        levels: number of quantile levels.
        width: of the layers over each step; those over what is shared are twice as wide.
        counts: demand is never negative, and neither are the quantiles.
        cycles: which of the features of each step tell demand of its season.
    """

    shared_mean: Tensor
    shared_spread: Tensor
    own_mean: Tensor
    own_spread: Tensor

    def __init__(
        self, shared: int, own: int, levels: int, *, width: int, counts: bool, cycles: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.counts, self.cycles = counts, cycles
        for name, size in (("shared", shared), ("own", own)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_spread", torch.ones(size))
        wide = 2 * width
        self.enter = nn.Linear(shared, wide)
        self.series = nn.Sequential(nn.GELU(), nn.Linear(wide, wide), nn.GELU(), nn.Dropout(0.1))
        self.context = nn.Linear(wide, width)
        self.step = nn.Linear(own, width)
        self.steps = nn.Sequential(nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))
        self.quantiles = nn.Linear(width, levels)
        # What is linear in a feature need not be learned by the layers.
        self.straight = nn.Linear(shared, 1, bias=False)
        self.straight_step = nn.Linear(own, 1, bias=False)
        for layer in (self.straight, self.straight_step):
            nn.init.zeros_(layer.weight)

    def measure(self, seen: Seen) -> None:
        """Takes the means and spreads of the features from examples."""
        for name, values in (("shared", seen.shared.numpy()), ("own", seen.ahead.numpy())):
            flat = np.arcsinh(values.reshape(-1, values.shape[-1]).astype(np.float64))
            known = np.isfinite(flat)
            count = np.maximum(known.sum(axis=0), 1)
            mean = np.where(known, flat, 0).sum(axis=0) / count
            spread = np.sqrt((np.where(known, flat - mean, 0) ** 2).sum(axis=0) / count)
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
            # A word that few products have would stand far out. A constant is no feature, whatever it becomes later.
            spread = np.where(spread < 1e-6, np.inf, np.maximum(spread, 0.1))
            getattr(self, f"{name}_spread").copy_(torch.from_numpy(spread))

    def forward(
        self,
        shared: Float[Tensor, "batch shared"],
        ahead: Float[Tensor, "batch horizon own"],
        level: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch horizon level"]:
        """Quantiles in units of the spread, of which the recent level has `level`; features may be not-a-number."""
        season = torch.nan_to_num(ahead[..., self.cycles]).abs().amax(dim=-1)[:, None] if self.cycles else None
        shared = _standard(shared, self.shared_mean, self.shared_spread)
        ahead = _standard(ahead, self.own_mean, self.own_spread)
        wide = self.enter(shared)
        wide = functional.gelu(wide + self.series(wide))
        step = functional.gelu(self.context(wide)[:, None] + self.step(ahead))
        raw = self.quantiles(functional.gelu(step + self.steps(step)))
        middle = raw[..., :1] + self.straight(shared)[:, None] + self.straight_step(ahead)
        raw = torch.cat([middle, raw[..., 1:]], dim=-1)[:, None]
        return monotone(raw, level[:, None], counts=self.counts, training=self.training, season=season)[:, 0]


def _standard(values: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """About zero mean and unit spread, the mean where not known; what is far above the level is drawn in."""
    drawn = (torch.asinh(values) - mean) / spread
    return torch.where(torch.isnan(drawn), torch.zeros_like(drawn), drawn).clamp(-_CLIP, _CLIP)


@dataclass(frozen=True)
class _Learned:
    """What training leaves behind."""

    network: FeedForwardNetwork
    features: Features
    places: Places
    counts: bool
    whole: bool
    alike: LookAlikes | None = None  # what products without history are also forecast by


@final
class FeedForward:
    """The feed-forward forecaster.

    Args:
        horizon: steps to forecast.
        levels: quantile levels.
        steps: optimiser steps; when None 1,000, fewer for less than some 10,000 observations and more for over 400,000.
        width: of the layers over each step.
        seed: of initial weights, dropout and batches; the same seed gives the same forecast on as many threads, and on
            more or fewer one that differs as sums round: in the last bits, which training may carry further.
        training: batch, learning rate, early stopping, precision and checkpoints.
        progress: called with the share of training done.
    """

    def __init__(
        self,
        horizon: int,
        *,
        levels: Sequence[float] = DECILES,
        steps: int | None = None,
        width: int = 64,
        seed: int = 0,
        training: Training | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.horizon = require_positive_integer(horizon, "horizon")
        self.levels = require_levels(levels)
        self.steps = None if steps is None else require_positive_integer(steps, "steps")
        self.width = require_positive_integer(width, "width")
        self.seed, self.progress = require_seed(seed), progress
        self.training = Training() if training is None else training
        self.learned: _Learned | None = None

    def fit(self, panel: Panel) -> "FeedForward":
        """Trains on random origins of all series; raises ArgumentError when nothing was observed."""
        panel.require_observed()
        features = Features.fit(panel)
        source = features.on(panel)
        examples = self._drawn(source, _usable(panel), _TRIED, np.random.default_rng(self.seed))
        sizes, places = (examples.shared.shape[-1], examples.ahead.shape[-1]), Places.of(features)
        network = self._network(*sizes, counts=panel.counts, cycles=places.own)
        network.measure(about_level(examples, places))
        steps = training.steps_for(self.steps, panel.observations(), _STEPS, _FEW, _LEAST)
        fresh = _Learned(network, features, places, panel.counts, panel.whole)
        self.learned = self._beside(self._trained(fresh, panel, steps), panel)
        return self

    def update(self, panel: Panel, steps: int | None = None) -> "FeedForward":
        """Goes on from the present weights on new data: a warm start, in place of training anew.

        Args:
            panel: of the same frequency, with the covariates learned from; its series may be others.
            steps: optimiser steps; a quarter of `fit`'s when None.

        Raises:
            ArgumentError: nothing was learned yet, nothing was observed, or the panel does not fit: demand that falls
                below zero does not where it never did.
        """
        learned = self._fitted()
        learned.features.require(panel)
        panel.require_observed()
        if learned.counts:
            panel.require_counts()
        begun = replace(learned, whole=learned.whole and panel.whole, network=deepcopy(learned.network))
        usual = max(1, training.steps_for(self.steps, panel.observations(), _STEPS, _FEW, _LEAST) // 4)
        steps = usual if steps is None else require_positive_integer(steps, "steps")
        self.learned = self._beside(self._trained(begun, panel, steps), panel)
        return self

    def predict(self, panel: Panel) -> Forecast:
        """Quantiles after each series' history; a series without history gets the forecast of a new product.

        A new product's quantiles are mixed with those of its look-alikes, as was best at past launches. Whole numbers
        where the demand that was learned from was whole: between two of them a network only hedges. Which series are
        asked for together changes no more than the last bits.
        """
        learned = self._fitted()
        values = self._answers(learned, panel)
        if learned.alike is not None:
            learned.alike.mix_into(values, panel)
        values = np.maximum.accumulate(values, axis=2)  # tanh and sinh are monotone only up to rounding
        if learned.whole:
            values = np.floor(values + np.float32(0.5))
        return panel.forecast(self.levels, values, panel.floors(counts=learned.counts))

    def inference(self, batch: int = 1) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network as it runs every night, from features, and an example of its input: for tracing and timing."""
        network = self._fitted().network
        sizes = network.shared_mean.shape[0], network.own_mean.shape[0]
        generator = torch.Generator().manual_seed(0)
        shapes = [(batch, sizes[0]), (batch, self.horizon, sizes[1]), (batch,), (batch,)]
        return Inference(network).eval(), tuple(torch.rand(*shape, generator=generator) for shape in shapes)

    def export_onnx(self, path: str | Path) -> None:
        """Writes `inference()` as an ONNX file that takes any batch, see `export.write_onnx`."""
        from sirdar.forecasting.export import write_onnx  # onnx is an optional dependency

        write_onnx(*self.inference(batch=2), Path(path), names=Seen._fields)

    def explain(self, panel: Panel, series: str, *, level: float = 0.5) -> "Attribution":
        """What moved one series' forecast: integrated gradients from average features to those that it has.

        Args:
            panel: what is forecast.
            series: the id to explain.
            level: which of the quantile levels.

        Returns:
            Shares by feature; those of a single step ahead with its period. They are those of the network, whose
            quantiles are not whole yet, and before look-alikes are mixed in where there is no history.

        Raises:
            ArgumentError: the panel has no such series, or the forecaster no such level.
        """
        from sirdar.forecasting.attribution import Attribution, place_of, row_of  # it loads polars

        learned = self._fitted()
        row, at = row_of(panel, series), place_of(level, self.levels)
        seen = self._seen(self._latest(learned.features.on(panel), np.array([row])))
        network = Inference(learned.network.eval())
        total, blank, shares = _gradients(lambda *inputs: network(*inputs)[..., at].sum(dim=1), seen, learned.network)
        begin = int(panel.end[row])
        labels = panel.frequency.written(panel.frequency.labels(np.arange(begin, begin + self.horizon)))
        names, own = learned.features.pair_names
        parts = [(name, None, float(x)) for name, x in zip(names, shares[0], strict=True)]
        for step, label in enumerate(labels):
            parts += [(name, label, float(x)) for name, x in zip(own, shares[1][step], strict=True)]
        return Attribution(series, level, total, blank, [part for part in parts if part[2] != 0])

    def save(self, path: str | Path) -> None:
        """Writes config.json and weights.safetensors into the folder `path`."""
        learned = self._fitted()
        tensors: dict[str, Tensor] = {}
        config = {
            "model": "feed-forward",
            "arguments": self._arguments(),
            "training": asdict(replace(self.training, checkpoint=None)),
            "features": asdict(learned.features),
            "sizes": [learned.network.shared_mean.shape[0], learned.network.own_mean.shape[0]],
            "demand": "about the level",
            "counts": learned.counts,
            "whole": learned.whole,
            "alike": lookalike.stored(learned.alike, tensors),
        }
        storage.write(Path(path), config, learned.network.state_dict() | tensors)

    @classmethod
    def load(cls, path: str | Path) -> "FeedForward":
        """Reads what `save` wrote."""
        with storage.opened(Path(path), model="feed-forward") as (config, weights):
            forecaster = cls(**config["arguments"], training=Training(**config["training"]))
            features = as_features(config["features"], storage.as_encoding(config["features"]["encoding"]))
            places = Places.of(features)
            network = forecaster._network(*config["sizes"], counts=config["counts"], cycles=places.own)
            alike = lookalike.restored(config, weights)
            storage.fill(network, weights, Path(path))
            _ = config["demand"]  # that of earlier versions worked in other units, and does not say so
            forecaster.learned = _Learned(network.eval(), features, places, config["counts"], config["whole"], alike)
            return forecaster

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("horizon", "levels", "steps", "width", "seed")}

    def _fitted(self) -> _Learned:
        if self.learned is None:
            msg = "this FeedForward has not learned anything yet: call fit(panel) first"
            raise ArgumentError(msg)
        return self.learned

    def _network(self, shared: int, own: int, *, counts: bool, cycles: tuple[int, ...]) -> FeedForwardNetwork:
        with training.seeded(self.seed):
            return FeedForwardNetwork(shared, own, len(self.levels), width=self.width, counts=counts, cycles=cycles)

    def _beside(self, learned: _Learned, panel: Panel) -> _Learned:
        """With the look-alikes of new products."""
        given = (panel, self.horizon, self.levels, lambda new: self._answers(learned, new))
        return replace(learned, alike=LookAlikes.beside(*given, before=learned.alike))

    def _trained(self, learned: _Learned, panel: Panel, steps: int) -> _Learned:
        """What training makes of it; until that is over this forecaster is as it was, whatever ends it early."""
        trainee = copy(self)
        trainee.learned = learned
        trainee._train(panel, steps)
        return learned

    def _train(self, panel: Panel, steps: int) -> None:
        learned, options = self._fitted(), self.training
        seen, validate = panel, None
        if options.patience is not None:
            seen = panel.cut(self.horizon)
            validate = self._held_out(seen)
        source, rows = learned.features.on(seen), _usable(seen)

        def loss(generator: np.random.Generator) -> Tensor:
            return self._loss(self._drawn(source, rows, options.batch, generator))

        key = "" if options.checkpoint is None else self._key(source, steps)
        training.train(learned.network, Run(loss, steps, self.seed, validate, self.progress, key), options)

    def _drawn(self, source: Source, rows: np.ndarray, count: int, generator: np.random.Generator) -> Pairs:
        """Pairs of random series and origins before the end of history; a few of new products that begin."""
        panel = source.panel
        series = generator.choice(rows, size=count, replace=count > len(rows))
        origin = generator.integers(0, panel.history[series])
        late = panel.start[series] > panel.start.min()  # those that were there from the first are not new
        origin[(late | (panel.start == panel.start.min()).all()) & (generator.random(count) < _FRESH)] = 0
        return self._pairs(source, series, origin)

    def _pairs(self, source: Source, series: np.ndarray, origin: np.ndarray) -> Pairs:
        return source.pairs(
            series, origin, np.broadcast_to(np.arange(1, self.horizon + 1), (len(series), self.horizon))
        )

    def _answers(self, learned: _Learned, panel: Panel) -> np.ndarray:
        """The network's quantiles [series, horizon, level] in units of demand."""
        source, network = learned.features.on(panel), Inference(learned.network.eval())
        values = np.empty((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        with torch.inference_mode():
            for begin in range(0, len(panel), _CHUNK):
                series = np.arange(begin, min(begin + _CHUNK, len(panel)))
                seen = about_level(self._latest(source, series), learned.places)
                values[series] = network(*seen).numpy()
        return values

    def _latest(self, source: Source, series: np.ndarray) -> Pairs:
        """What follows each series' history, as told by its last observed step: a gap at the end is forecast over."""
        origin = source.panel.seen_to()[series]
        step = (source.panel.history[series] - origin)[:, None] + np.arange(1, self.horizon + 1)
        pairs = source.pairs(series, origin, step)
        pairs.ahead[..., 0] = np.minimum(step, self.horizon)  # of steps farther ahead nothing was learned
        return pairs

    def _loss(self, pairs: Pairs) -> Tensor:
        seen, target = self._seen(pairs), torch.from_numpy(pairs.target)[:, None]
        scale, spread = torch.from_numpy(pairs.scale)[:, None], seen.spread[:, None]
        quantiles = self._fitted().network(seen.shared, seen.ahead, seen.location / seen.spread)[:, None]
        quantiles = quantiles * (spread / scale)[..., None, None]
        begun = torch.ones(target.shape[:2], dtype=torch.bool)
        return training.quantile_loss(quantiles, scale, target, begun, self.levels, spread)

    def _seen(self, pairs: Pairs) -> Seen:
        return about_level(pairs, self._fitted().places)

    def _held_out(self, seen: Panel) -> Callable[[], float]:
        """The quantile loss of the steps that `seen` was cut by, weighed as in training."""
        actual = seen.actuals(self.horizon)
        rows = np.flatnonzero((seen.observations() > 0) & np.isfinite(actual).any(axis=1))
        if not len(rows):
            msg = f"patience needs series with more than {self.horizon} steps of history, to hold the last ones out"
            raise ArgumentError(msg)
        pairs = self._latest(self._fitted().features.on(seen), rows)
        known = pairs._replace(target=actual[rows])
        return lambda: self._loss(known).item()

    def _key(self, source: Source, steps: int) -> str:
        """Names a training by its data and arguments, and by the weights it begins with."""
        panel, network = source.panel, self._fitted().network
        facts = [self._arguments(), asdict(replace(self.training, checkpoint=None)), asdict(source.features), steps]
        columns = [*panel.past.values(), *panel.future.values(), *panel.static.values()]
        steady = [panel.indptr, panel.history, panel.start, np.nan_to_num(source.demand, nan=-1)]
        return training.key_of("feed-forward", facts, [*steady, *columns], network)


@final
class Inference(nn.Module):
    """A trained network as it runs every night: in units of demand."""

    def __init__(self, network: FeedForwardNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        shared: Float[Tensor, "batch shared"],
        ahead: Float[Tensor, "batch horizon own"],
        location: Float[Tensor, " batch"],
        spread: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch horizon level"]:
        """Quantiles."""
        return self.network(shared, ahead, location / spread) * spread[:, None, None]


def _gradients(
    total: Callable[..., Tensor], seen: Seen, network: FeedForwardNetwork
) -> tuple[float, float, tuple[np.ndarray, np.ndarray]]:
    """The total, that of average features, and the shares of each (Sundararajan et al. 2017, arXiv:1703.01365)."""
    means = torch.sinh(network.shared_mean)[None], torch.sinh(network.own_mean)[None, None].expand(seen[1].shape)
    ends = [torch.where(torch.isnan(there), mean, there) for there, mean in zip(seen, means, strict=False)]
    along = (torch.arange(_PATH) + 0.5) / _PATH  # the midpoint rule, all points of it in one batch
    path = [
        (mean + along.view(-1, *[1] * (mean.ndim - 1)) * (end - mean)).requires_grad_()
        for end, mean in zip(ends, means, strict=True)
    ]
    gradients = torch.autograd.grad(total(*path, *(part.expand(_PATH) for part in seen[2:])).sum(), path)
    shares = [((end - mean) * g.mean(0))[0].numpy() for end, mean, g in zip(ends, means, gradients, strict=True)]
    with torch.no_grad():
        return total(*seen).item(), total(*means, *seen[2:]).item(), (shares[0], shares[1])


def _usable(panel: Panel) -> np.ndarray:
    return np.flatnonzero(panel.observations() > 0)
