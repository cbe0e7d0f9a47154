# SPDX-License-Identifier: Apache-2.0
"""What the network rungs share: from panel to trained network to forecast, on disk, to ONNX, and explained.

`NeuralForecaster` is an interface with mixin methods, as those of `collections.abc`: it holds no state of its own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sirdar.errors import ArgumentError, DataError, require_positive_integer
from sirdar.forecasting import storage, training
from sirdar.forecasting.addons import lookalike
from sirdar.forecasting.addons.lookalike import LookAlikes
from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.decoding import begin_at, steps_of
from sirdar.forecasting.members import Members
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.seasons import season_of
from sirdar.forecasting.training import Run, Training
from sirdar.forecasting.windows import Windows
from sirdar.predictive import Forecast, Frequency

if TYPE_CHECKING:
    from sirdar.forecasting.attribution import Attribution

_BEGINNINGS = 0.25  # of a batch: where no series begins later than others, their beginnings are learned from
_WEIGHT = 0.03  # of what these lose: the others must not suffer
_LONGEST_WINDOW = 256
_STEPS = 400  # of a training on little data
_FEW, _LEAST = 20_000, 25  # observations of which fewer are trained on in fewer steps, and how few steps
_CHUNK = 128  # series forecast at a time: more no longer fit the caches, and take twice as long


@dataclass(frozen=True)
class Setting:
    """What of a panel shapes a network; stored beside its weights.

    Args:
        channels: of past, known and static covariates.
        length: steps of history in a window.
        season: steps of the season; 1 for none.
        counts: demand was never negative.
        typical: units of demand of a typical series, the scale of one that has no history.
        whole: demand was in whole units, and so are its quantiles.
    """

    channels: tuple[int, int, int]
    length: int
    season: int
    counts: bool
    typical: float
    whole: bool = False


@dataclass(frozen=True)
class Learned:
    """What training leaves behind.

    Args:
        network: takes the parts of `Inputs` and a range of origins, gives quantiles and their `Scaled`.
        encoding: how covariates become channels.
        frequency: of the panel learned from.
        setting: what shaped the network.
        alike: what products without history are also forecast by; None where the network does better alone.
    """

    network: nn.Module
    encoding: Encoding
    frequency: Frequency
    setting: Setting
    alike: LookAlikes | None = None

    @property
    def length(self) -> int:
        """Steps of history in a window."""
        return self.setting.length


Rung = TypeVar("Rung", bound="NeuralForecaster")


class NeuralForecaster(ABC):
    """A network that gives quantiles of all horizons from every step of a window."""

    MODEL: ClassVar[str]  # its name on disk and in the ladder
    FORKS: ClassVar[int] = 16  # origins of a window that train at once

    horizon: int
    levels: tuple[float, ...]
    steps: int | None
    width: int
    seed: int
    members: int = 1  # networks whose quantiles are averaged
    training: Training
    progress: Callable[[float], None] | None
    learned: Learned | None

    @abstractmethod
    def build(self, setting: Setting) -> nn.Module:
        """A fresh network."""

    def origins(self, length: int, generator: np.random.Generator) -> range:
        """Steps to train at once, evenly spread: neighbours tell nearly the same, and decoding is the larger cost."""
        step = max(1, length // self.FORKS)
        return range(int(generator.integers(0, step)), length, step)

    def fit(self: Rung, panel: Panel) -> Rung:
        """Trains on every step of every series at once; raises ArgumentError when nothing was observed."""
        panel.require_observed()
        encoding = Encoding.fit(panel, usual=True)
        length = int(min(panel.history.max(), _LONGEST_WINDOW))
        channels = Windows(panel, encoding, length, self.horizon).channels()
        setting = Setting(channels, length, season_of(panel), panel.counts, _typical(panel), panel.whole)
        steps = training.steps_for(self.steps, panel.observations(), _STEPS, _FEW, _LEAST)
        fresh = Learned(self._network(setting), encoding, panel.frequency, setting)
        self.learned = self._beside(self._trained(fresh, panel, steps), panel)
        return self

    def update(self: Rung, panel: Panel, steps: int | None = None) -> Rung:
        """Goes on from the present weights on new data: a warm start, in place of training anew.

        Args:
            panel: of the same frequency, with the covariates learned from; its series may be others.
            steps: optimiser steps of each member; a quarter of `fit`'s when None.

        Raises:
            ArgumentError: nothing was learned yet, nothing was observed, or the panel does not fit: demand that falls
                below zero does not where it never did.
        """
        learned = self._require_frequency(panel)
        panel.require_observed()
        if learned.setting.counts:
            panel.require_counts()
        setting = replace(learned.setting, whole=learned.setting.whole and panel.whole)
        begun = replace(learned, setting=setting, network=deepcopy(learned.network))
        usual = max(1, training.steps_for(self.steps, panel.observations(), _STEPS, _FEW, _LEAST) // 4)
        steps = usual if steps is None else require_positive_integer(steps, "steps")
        self.learned = self._beside(self._trained(begun, panel, steps), panel)
        return self

    def predict(self, panel: Panel) -> Forecast:
        """Quantiles after each series' history; a series without history gets the forecast of a new product.

        A new product's quantiles are mixed with those of its look-alikes, as was best at past launches. Which series
        are asked for together changes no more than the last bits.
        """
        learned = self._require_frequency(panel)
        values = self._answers(learned, panel)
        if learned.alike is not None:
            learned.alike.mix_into(values, panel)
        values = np.maximum.accumulate(values, axis=2)  # tanh and sinh are monotone only up to rounding
        if learned.setting.whole:
            values = np.floor(values + np.float32(0.5))
        return panel.forecast(self.levels, values, panel.floors(counts=learned.setting.counts))

    def explain(self, panel: Panel, series: str, *, level: float = 0.5) -> "Attribution":
        """What moved one series' forecast: integrated gradients, see `attribution.explain`.

        Of a product without history what the network says, without its look-alikes.
        """
        from sirdar.forecasting import attribution  # it knows this module

        return attribution.explain(self, panel, series, level=level)

    def inference(self, batch: int = 1) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network as it runs every night, and an example of its input: for tracing, timing and export.

        `predict` is the same, but for whole units and the look-alikes of new products.
        """
        learned = self._fitted()
        (past, known, static), length = learned.setting.channels, learned.length
        shapes = [(length,), (length,), (length, past), (length + self.horizon, known), (static,)]
        generator = torch.Generator().manual_seed(0)
        example = tuple(torch.rand(batch, *shape, generator=generator) for shape in shapes)
        return Inference(learned.network, length).eval(), example

    def export_onnx(self, path: str | Path) -> None:
        """Writes `inference()` as an ONNX file that takes any batch, see `export.write_onnx`."""
        from sirdar.forecasting.export import write_onnx  # onnx is an optional dependency

        write_onnx(*self.inference(batch=2), Path(path))

    def save(self, path: str | Path) -> None:
        """Writes config.json and weights.safetensors into the folder `path`."""
        learned = self._fitted()
        tensors: dict[str, Tensor] = {}
        config = {
            "model": self.MODEL,
            "arguments": self._arguments(),
            "training": asdict(replace(self.training, checkpoint=None)),
            "frequency": learned.frequency,
            "encoding": learned.encoding,
            "setting": learned.setting,
            "alike": lookalike.stored(learned.alike, tensors),
        }
        weights = learned.network.state_dict()
        if self.training.precision in {"bf16-sr", "bf16-nearest"}:
            weights = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}  # which they are already
        storage.write(Path(path), config, weights | tensors)

    @classmethod
    def load(cls: type[Rung], path: str | Path) -> Rung:
        """Reads what `save` wrote."""
        with storage.opened(Path(path), model=cls.MODEL) as (config, weights):
            options = Training(**config["training"])
            forecaster = cls(**config["arguments"], training=options)  # pyright: ignore[reportCallIssue] - every rung's
            encoding, frequency = storage.as_encoding(config["encoding"]), Frequency(**config["frequency"])
            setting = Setting(**config["setting"] | {"channels": tuple(config["setting"]["channels"])})
            _require_fitting(setting, encoding, frequency, Path(path))
            network = forecaster._network(setting)
            alike = lookalike.restored(config, weights)
            storage.fill(network, weights, Path(path))
            forecaster.learned = Learned(network.eval(), encoding, frequency, setting, alike)
            return forecaster

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("horizon", "levels", "steps", "width", "seed", "members")}

    def _network(self, setting: Setting) -> nn.Module:
        """Fresh members; the caller's random state is as before."""
        with training.seeded(self.seed):
            middle = self.levels[len(self.levels) // 2]
            networks = [begin_at(self.build(setting), middle) for _ in range(self.members)]
        return networks[0] if len(networks) == 1 else Members(networks)

    def _fitted(self) -> Learned:
        if self.learned is None:
            msg = f"this {type(self).__name__} has not learned anything yet: call fit(panel) first"
            raise ArgumentError(msg)
        return self.learned

    def _require_frequency(self, panel: Panel) -> Learned:
        learned = self._fitted()
        if panel.frequency.unit != learned.frequency.unit:
            msg = f"the network learned {learned.frequency.name} demand, but the panel is {panel.frequency.name}"
            raise ArgumentError(msg)
        return learned

    def _windows(self, panel: Panel) -> Windows:
        learned = self._fitted()
        return Windows(panel, learned.encoding, learned.length, self.horizon)

    def _answers(self, learned: Learned, panel: Panel) -> np.ndarray:
        """The network's quantiles [series, horizon, level] in units of demand."""
        windows = Windows(panel, learned.encoding, learned.length, self.horizon)
        values = np.empty((len(panel), self.horizon, len(self.levels)), dtype=np.float32)
        network = Inference(learned.network.eval(), learned.length)
        with torch.inference_mode():
            for begin in range(0, len(panel), _CHUNK):
                rows = np.arange(begin, min(begin + _CHUNK, len(panel)))
                values[rows] = network(*windows.inputs(rows)).numpy()
        return values

    def _beside(self, learned: Learned, panel: Panel) -> Learned:
        """With the look-alikes of new products: in few steps a network hardly learns what a category sells."""
        steps = training.steps_for(self.steps, panel.observations(), _STEPS, _FEW, _LEAST)
        given = (panel, self.horizon, self.levels, lambda new: self._answers(learned, new), min(1.0, steps / _STEPS))
        return replace(learned, alike=LookAlikes.beside(*given, before=learned.alike))

    def _trained(self, learned: Learned, panel: Panel, steps: int) -> Learned:
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
            rows = np.flatnonzero((seen.observations() > 0) & np.isfinite(seen.actuals(self.horizon)).any(axis=1))
            if not len(rows):
                msg = f"patience needs series with more than {self.horizon} steps of history, to hold the last ones out"
                raise ArgumentError(msg)
            validate = _held_out(learned, self._windows(seen), seen.actuals(self.horizon)[rows], rows, self.levels)
        windows, rows = self._windows(seen), np.flatnonzero(seen.observations() > 0)
        run = Run(
            lambda generator: self._loss(windows, rows, generator),
            steps * self.members,
            self.seed,
            validate,
            self.progress,
            key="" if options.checkpoint is None else self._key(seen, steps),
        )
        training.train(learned.network, run, options)

    def _loss(self, windows: Windows, rows: np.ndarray, generator: np.random.Generator) -> Tensor:
        """Quantile loss of a batch of windows, over its origins and all horizons and levels."""
        learned = self._fitted()
        chosen, back = windows.draw(rows, self.training.batch, generator)
        origins = self.origins(learned.length, generator)
        loss = self._loss_of(windows, chosen, back, origins)
        if windows.begin_together:
            few = chosen[: math.ceil(_BEGINNINGS * len(chosen))]
            last = range(learned.length - 1, learned.length)
            loss = loss + _WEIGHT * self._loss_of(windows, few, windows.panel.history[few], last)
        return loss

    def _loss_of(self, windows: Windows, chosen: np.ndarray, back: np.ndarray, origins: range) -> Tensor:
        """Of windows that end `back` steps before the end of history, over some of their steps as origins."""
        learned = self._fitted()
        inputs, targets = windows.inputs(chosen, back), windows.targets(chosen, back)
        begun = (torch.cumsum(inputs.observed, dim=1) > 0) | windows.launches(chosen, back)
        quantiles, scale = learned.network(*inputs, origins)
        at = steps_of(origins)
        return training.quantile_loss(quantiles, scale.spread, targets[:, at], begun[:, at], self.levels, scale.error)

    def _key(self, panel: Panel, steps: int) -> str:
        """Names a training by its data and arguments, and by the weights it begins with."""
        learned = self._fitted()
        told = asdict(learned.encoding)
        facts = [self.MODEL, self._arguments(), asdict(replace(self.training, checkpoint=None)), told, steps]
        columns = [*panel.past.values(), *panel.future.values(), *panel.static.values()]
        demand = np.where(panel.observed, panel.target, np.float32(np.nan))
        held = [] if self.training.patience is None else [panel.actuals(self.horizon)]
        steady = [panel.indptr, panel.history, panel.start, demand]
        return training.key_of(self.MODEL, facts, [*steady, *columns, *held], learned.network)


class Inference(nn.Module):
    """A trained network as it runs every night: the last origin alone, in units of demand."""

    def __init__(self, network: nn.Module, length: int) -> None:
        super().__init__()
        self.network, self.length = network, length

    def forward(self, demand: Tensor, observed: Tensor, past: Tensor, known: Tensor, static: Tensor) -> Tensor:
        """Quantiles [batch, horizon, level]."""
        quantiles, scale = self.network(demand, observed, past, known, static, range(self.length - 1, self.length))
        return quantiles[:, 0] * scale.spread[:, 0, None, None]


def _require_fitting(setting: Setting, encoding: Encoding, frequency: Frequency, path: Path) -> None:
    """Raises DataError where the setting stored at `path` is none of a network that sees what the encoding tells."""
    roles = [{name for name, *_ in role} for role in (encoding.past, encoding.known)]
    past, known = (len(role) + sum(name in role for name, _ in encoding.usual) for role in roles)
    calendar = encoding.calendar(frequency, np.zeros(1, dtype=np.int64)).shape[-1]
    static = len(encoding.static) + sum(len(values) for _, values in encoding.categories)
    told = past, calendar + known, static
    if setting.channels != told:
        msg = f"{path}: its network sees {setting.channels} channels, but its covariates are {told}; train it again"
        raise DataError(msg)
    require_positive_integer(setting.season, "season")
    if require_positive_integer(setting.length, "length") > _LONGEST_WINDOW:
        msg = f"{path}: its windows are of at most {_LONGEST_WINDOW} steps, got {setting.length}; train it again"
        raise DataError(msg)
    if not 0 < setting.typical < math.inf:
        msg = f"{path}: its typical demand must be a number above zero, got {setting.typical}; train it again"
        raise DataError(msg)


def _typical(panel: Panel) -> float:
    """The median over series of their mean demand."""
    observed, owner = panel.observed, panel.step_series
    total = np.bincount(owner[observed], np.abs(panel.target[observed]), len(panel))
    mean = total / np.maximum(np.bincount(owner[observed], minlength=len(panel)), 1)
    if not (mean > 0).any():
        return 1.0
    sold = np.abs(panel.target[observed & (panel.target != 0)])
    return max(float(np.median(mean[mean > 0])), 0.1 * min(1.0, float(sold.mean())))


def _held_out(
    learned: Learned, windows: Windows, actual: np.ndarray, rows: np.ndarray, levels: Sequence[float]
) -> Callable[[], float]:
    """The quantile loss of the last origin, weighed as in training."""
    targets = torch.from_numpy(actual)[:, None]
    begun = torch.ones(len(rows), 1, dtype=torch.bool)

    def validate() -> float:
        quantiles, spread, error = [], [], []
        for part in np.array_split(rows, math.ceil(len(rows) / _CHUNK)):
            answer, scale = learned.network(*windows.inputs(part), range(learned.length - 1, learned.length))
            quantiles.append(answer)
            spread.append(scale.spread)
            error.append(scale.error)
        answers, spreads, errors = (torch.cat(parts) for parts in (quantiles, spread, error))
        return training.quantile_loss(answers, spreads, targets, begun, levels, errors).item()

    return validate
