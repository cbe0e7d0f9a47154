# SPDX-License-Identifier: Apache-2.0
"""A product without history starts from its look-alikes: the first steps of similar products since their own launch.

Likeness joins the words of text statics (weighted by their rarity; a category is a single word), numeric statics and
the price at launch. The quantiles are those of the nearest products' demand at the same age and the ages beside it;
how many neighbours to ask is chosen by leaving products out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.forecasting.addons.history import as_text, held, known_column, longest
from sirdar.forecasting.panel import Panel
from sirdar.predictive.forecast import require_levels
from sirdar.predictive.scores import pinball

_NEIGHBOURS = (8, 16, 32, 64, 128, 256, 512)
_FEWEST = 8  # launches seen below which the first steps of all products are used
_TRIED = 400  # products left out in turn
_MOST = 4000  # products remembered
_WORDS = 2000
_STATE = ("horizon", "levels", "neighbours", "words", "numbers", "rarity", "features", "curves", "asked")
_NUMBER_WEIGHT = 0.5  # of one deviation of a number, against a word shared or not


@dataclass
class LookAlikes:
    """Launch curves of known products, found by likeness.

    Args:
        horizon: first steps of a new product to forecast.
        levels: rising quantile levels.
        neighbours: products asked; chosen when None.
    """

    horizon: int
    levels: Sequence[float]
    neighbours: int | None = None
    words: list[str] = field(default_factory=list)
    numbers: dict[str, tuple[float, float]] = field(default_factory=dict)
    rarity: Float32[np.ndarray, " word"] = field(default_factory=lambda: np.zeros(0, np.float32))
    features: Float32[np.ndarray, "product feature"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    curves: Float32[np.ndarray, "product horizon"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    asked: int = 1

    def __post_init__(self) -> None:
        require_positive_integer(self.horizon, "horizon")
        self.levels = require_levels(self.levels)
        if self.neighbours is not None:
            require_positive_integer(self.neighbours, "neighbours")

    def fit(self, panel: Panel) -> "LookAlikes":
        """Remembers how products were launched."""
        panel = panel.select(panel.observations() > 0)
        curves, seen = launch_curves(panel, self.horizon)
        usable = np.isfinite(curves).any(axis=1)
        chosen = np.flatnonzero(usable & seen if (usable & seen).sum() >= _FEWEST else usable)
        if len(chosen) > _MOST:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, _MOST, replace=False))
        products = panel.select(chosen)
        self.curves = curves[chosen]
        self._learn_words(products)
        numbers = _numbers(products)
        self.numbers = {name: _moments(column) for name, column in numbers.items()}
        self.features = self._describe(products)
        self.asked = self.neighbours or self._choose()
        return self

    def quantiles(self, panel: Panel) -> Float32[np.ndarray, "series horizon level"]:
        """Quantiles of the first steps of every series of the panel; zero when no product was ever launched."""
        shape = (len(panel), self.horizon, len(self.levels))
        if not len(self.curves) or not len(panel):
            return np.zeros(shape, dtype=np.float32)
        features = self._describe(panel)
        blocks = [self._ask(features[at : at + 1000], self.asked) for at in range(0, len(panel), 1000)]
        return np.concatenate(blocks)

    def state(self) -> dict[str, Any]:
        """Everything learned, for `from_state`."""
        return {name: getattr(self, name) for name in _STATE}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "LookAlikes":
        """The look-alikes whose `state` this is; raises ArgumentError where its arrays are of other shapes."""
        numbers = {name: (float(centre), float(spread)) for name, (centre, spread) in state["numbers"].items()}
        fields: dict[str, Any] = state | {"numbers": numbers}
        alike = cls(**fields)
        features, curves = alike.features.shape, alike.curves.shape
        wanted = (len(alike.curves), len(alike.words) + len(alike.numbers))
        if features != wanted or (wanted[0] and curves[1] != alike.horizon):
            msg = f"look-alikes need features {wanted} and {alike.horizon} steps, got {features} and curves {curves}"
            raise ArgumentError(msg)
        return alike

    def _ask(
        self, features: np.ndarray, asked: int, own: Int64[np.ndarray, " series"] | None = None
    ) -> Float32[np.ndarray, "series horizon level"]:
        """Quantiles of the nearest products' curves, those of `own` left out of each."""
        square = (self.features**2).sum(axis=1)
        distance = square[None] - 2 * features @ self.features.T
        if own is not None:
            distance[np.arange(len(own)), own] = np.inf
        order = np.argsort(distance, axis=1, kind="stable")[:, :asked]
        near = self.curves[order]
        padded = np.pad(near, ((0, 0), (0, 0), (1, 1)), constant_values=np.nan)
        width = self.horizon
        three = np.concatenate([padded[..., :width], padded[..., 1:-1], padded[..., 2:]], axis=1)
        return _quantiles(three, self.levels, self.curves)

    def _choose(self) -> int:
        """The number of neighbours of the least pinball loss on products left out."""
        count = len(self.curves)
        if count <= _FEWEST:
            return max(count, 1)
        tried = np.arange(count)
        if count > _TRIED:
            tried = np.sort(np.random.default_rng(1).choice(count, _TRIED, replace=False))
        options = [number for number in _NEIGHBOURS if number < count - 1] + [count - 1]
        losses = []
        for number in options:
            found = self._ask(self.features[tried], number, tried)
            losses.append(float(np.nanmean(pinball(self.curves[tried], found, self.levels))))
        return options[int(np.argmin(losses))]

    def _learn_words(self, panel: Panel) -> None:
        """The words that at least two products share, and how rare they are."""
        said = _words(panel)
        counts: dict[str, int] = {}
        for words in said:
            for word in words:
                counts[word] = counts.get(word, 0) + 1
        shared = sorted((word for word, count in counts.items() if count > 1), key=lambda w: (-counts[w], w))[:_WORDS]
        self.words = shared
        self.rarity = np.array([np.log((1 + len(said)) / (1 + counts[word])) for word in shared], dtype=np.float32)

    def _describe(self, panel: Panel) -> Float32[np.ndarray, "series feature"]:
        """Words as rarity-weighted unit vectors, numbers as deviations; what is not known is the mean."""
        place = {word: index for index, word in enumerate(self.words)}
        text = np.zeros((len(panel), len(self.words)), dtype=np.float32)
        for row, words in enumerate(_words(panel)):
            known = [place[word] for word in words if word in place]
            text[row, known] = self.rarity[known]
        text /= np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-9)
        found = _numbers(panel)
        columns = [
            np.nan_to_num((found[name] - centre) / spread)[:, None] if name in found else np.zeros((len(panel), 1))
            for name, (centre, spread) in self.numbers.items()
        ]
        scaled = np.clip(np.concatenate([np.zeros((len(panel), 0)), *columns], axis=1), -4, 4) * _NUMBER_WEIGHT
        return np.concatenate([text, scaled], axis=1).astype(np.float32)


def launch_curves(
    panel: Panel, horizon: int
) -> tuple[Float32[np.ndarray, "series horizon"], Bool[np.ndarray, " series"]]:
    """Demand of the first `horizon` steps since the first observed one, NaN where not observed.

    Also whether the launch was seen: whether the series began after the panel did.
    """
    begin = panel.indptr[:-1] + panel.unseen()
    steps = begin[:, None] + np.arange(horizon)
    inside = steps < (panel.indptr[:-1] + panel.history)[:, None]
    seen = np.append(np.where(panel.observed, panel.target, np.float32(np.nan)), np.float32(np.nan))
    curves = seen[np.where(inside, steps, len(panel.target))].astype(np.float32)
    period = panel.start + begin - panel.indptr[:-1]
    return curves, period > period.min(initial=np.iinfo(np.int64).max)


def _words(panel: Panel) -> list[set[str]]:
    """The words of each series' text statics, marked by the static they stand in."""
    said: list[set[str]] = [set() for _ in panel.ids]
    for name, column in panel.static.items():
        if column.dtype == object:
            for row, text in enumerate(as_text(column)):
                said[row].update(f"{name}:{word}" for word in text.lower().split())
    return said


def _numbers(panel: Panel) -> dict[str, np.ndarray]:
    """Numeric statics, and the logarithm of the first price known."""
    found = {f"static:{n}": c.astype(np.float64) for n, c in panel.static.items() if c.dtype != object}
    if panel.price is not None and len(panel):
        prices = known_column(panel, panel.price, longest(panel), 1)
        first = held(np.where(prices > 0, prices, np.float32(np.nan)))[:, 0].astype(np.float64)
        found["price"] = np.log(first)
    return found


def _moments(column: np.ndarray) -> tuple[float, float]:
    known = column[np.isfinite(column)]
    return (float(known.mean()), max(float(known.std()), 1e-6)) if len(known) else (0.0, 1.0)


def _quantiles(
    near: np.ndarray, levels: Sequence[float], everything: np.ndarray
) -> Float32[np.ndarray, "series horizon level"]:
    """Quantiles over axis 1, NaN left out, by sorting; an age that no neighbour reached has those of all products."""
    ordered = np.sort(near, axis=1)
    count = np.isfinite(near).sum(axis=1)
    result = np.empty((near.shape[0], near.shape[2], len(levels)), dtype=np.float32)
    known = everything[np.isfinite(everything)]
    for index, level in enumerate(levels):
        place = level * np.maximum(count - 1, 0)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        first, second = (np.take_along_axis(ordered, at[:, None], axis=1)[:, 0] for at in (low, high))
        usual = np.quantile(known, level) if len(known) else 0.0
        result[..., index] = np.where(count > 0, first + (second - first) * (place - low), usual)
    return np.maximum.accumulate(result, axis=2)
