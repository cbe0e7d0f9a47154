# SPDX-License-Identifier: Apache-2.0
"""A product without history starts from its look-alikes: the first steps of similar products since their own launch.

Likeness joins the words of text statics (weighted by their rarity; a category is a single word), numeric statics and
the price at launch. The quantiles are those of the nearest products' demand at the same age and the ages beside it;
how many neighbours to ask is chosen by leaving products out. Where hardly any launch was seen they are those of the
nearest products' latest demand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from scipy import sparse

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.forecasting.addons.history import as_text, held, known_column, longest
from sirdar.forecasting.addons.state import pack, unpack
from sirdar.forecasting.panel import Panel
from sirdar.predictive.forecast import require_levels
from sirdar.predictive.scores import pinball

_NEIGHBOURS = (8, 16, 32, 64, 128, 256, 512)
_CELLS = 1 << 22  # distances, and values of neighbours, that are sorted at a time: bounds memory
_FEWEST = 8  # launches seen below which the latest demand of all products is used
_TRIED = 400  # products left out in turn
_MOST = 4000  # products remembered
_WORDS = 2000
_STATE = ("horizon", "levels", "neighbours", "share", "words", "numbers", "rarity", "features", "curves", "asked")
_NUMBER_WEIGHT = 0.5  # of one deviation of a number, against a word shared or not
_NAME = "alike"  # in front of the names of their arrays beside a network's weights
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the most that another forecaster may have
_ENOUGH = 400  # launches below which it may have less: it knows them, and the fewer the better


@dataclass
class LookAlikes:
    """Launch curves of known products, found by likeness.

    Args:
        horizon: first steps of a new product to forecast.
        levels: rising quantile levels.
        neighbours: products asked; chosen when None.
        share: of another forecaster's quantiles in those of `mix_into`.
    """

    horizon: int
    levels: Sequence[float]
    neighbours: int | None = None
    share: float = 0.0
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
        panel = _slim(panel)
        chosen, self.curves, _ = _launched(panel, self.horizon)
        products = panel.select(chosen)
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
        return self._ask(self._describe(panel), self.asked)

    @classmethod
    def beside(
        cls,
        panel: Panel,
        horizon: int,
        levels: Sequence[float],
        answer: Callable[[Panel], np.ndarray],
        most: float = 1.0,
        before: "LookAlikes | None" = None,
    ) -> "LookAlikes | None":
        """Look-alikes to mix with the quantiles of a forecaster, as was best at past launches.

        Args:
            panel: what the forecaster learned from.
            horizon: first steps of a new product to forecast.
            levels: rising quantile levels.
            answer: its quantiles [series, horizon, level] of products as they were before their first demand.
            most: share that it may have at most.
            before: look-alikes of an earlier panel, which are kept where this one shows hardly any launch.

        Returns:
            None where it does best alone.
        """
        if before is not None and not _launched(_slim(panel), horizon)[2]:
            return before
        alike = cls(horizon, levels).fit(panel)
        alike.share = alike._share(panel, answer, most)
        return alike if alike.share < 1 else None

    def mix_into(self, values: Float32[np.ndarray, "series horizon level"], panel: Panel) -> None:
        """Draws another forecaster's quantiles of products without history to these, in place, but for `share`."""
        new = np.flatnonzero(panel.observations() == 0)
        if len(new):
            known = self.quantiles(panel.select(new))
            values[new] = known + np.float32(self.share) * (values[new] - known)

    def state(self) -> dict[str, Any]:
        """Everything learned, for `from_state`."""
        words = sparse.csr_matrix(self.features)  # of thousands of words each product has a few
        parts = {"data": words.data, "indices": words.indices, "indptr": words.indptr}
        return {name: getattr(self, name) for name in _STATE} | {"features": parts}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "LookAlikes":
        """The look-alikes whose `state` this is; raises ArgumentError where its arrays are of other shapes."""
        numbers = {name: (float(centre), float(spread)) for name, (centre, spread) in state["numbers"].items()}
        wanted = (len(state["curves"]), len(state["words"]) + len(numbers))
        fields: dict[str, Any] = state | {"numbers": numbers, "features": _dense(state["features"], wanted)}
        alike = cls(**fields)
        features, curves = alike.features.shape, alike.curves.shape
        if not (0 <= alike.share <= 1 and alike.asked >= 1 and alike.rarity.shape == (len(alike.words),)):
            msg = f"look-alikes need a share up to 1, someone to ask and the rarity of {len(alike.words)} words"
            raise ArgumentError(msg)
        if features != wanted or (wanted[0] and curves[1] != alike.horizon):
            msg = f"look-alikes need features {wanted} and {alike.horizon} steps, got {features} and curves {curves}"
            raise ArgumentError(msg)
        return alike

    def _ask(
        self, features: np.ndarray, asked: int, own: Int64[np.ndarray, " series"] | None = None
    ) -> Float32[np.ndarray, "series horizon level"]:
        """Quantiles of the nearest products' curves, those of `own` left out of each."""
        rows = max(1, _CELLS // max(3 * self.horizon * asked, len(self.curves)))
        blocks = [
            self._ask_some(features[at : at + rows], asked, None if own is None else own[at : at + rows])
            for at in range(0, len(features), rows)
        ]
        return np.concatenate(blocks)

    def _ask_some(
        self, features: np.ndarray, asked: int, own: Int64[np.ndarray, " series"] | None
    ) -> Float32[np.ndarray, "series horizon level"]:
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
        if count <= _FEWEST or not self.features.shape[1]:
            return min(max(count, 1), _NEIGHBOURS[-1])
        tried = self._tried()
        options = [number for number in (*_NEIGHBOURS, count - 1) if number <= min(count - 1, _NEIGHBOURS[-1])]
        losses = []
        for number in options:
            found = self._ask(self.features[tried], number, tried)
            losses.append(float(np.nanmean(pinball(self.curves[tried], found, self.levels))))
        return options[int(np.argmin(losses))]

    def _share(self, panel: Panel, answer: Callable[[Panel], np.ndarray], most: float) -> float:
        """That of the least pinball loss, each launch being forecast here by the others."""
        rows, _, begun = _launched(_slim(panel), self.horizon)
        if not begun:
            return 0.0
        tried = self._tried()
        products = panel.select(rows[tried])
        said = answer(replace(products, history=products.unseen()).known())
        alike = self._ask(self.features[tried], min(self.asked, len(rows) - 1), tried)
        shares = [min(1.0, len(rows) / _ENOUGH) * most * share for share in _SHARES]
        mixed = [alike + np.float32(share) * (said - alike) for share in shares]
        losses = [float(np.nanmean(pinball(self.curves[tried], values, self.levels))) for values in mixed]
        return shares[int(np.argmin(losses))]

    def _tried(self) -> Int64[np.ndarray, " tried"]:
        """Which products are left out in turn."""
        count = len(self.curves)
        if count <= _TRIED:
            return np.arange(count)
        return np.sort(np.random.default_rng(1).choice(count, _TRIED, replace=False))

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


def stored(alike: LookAlikes | None, tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401 - any plain value
    """What of them stands in the config of a forecaster that has them beside it; their arrays move into `tensors`."""
    return None if alike is None else pack(alike.state(), tensors, _NAME)


def restored(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> LookAlikes | None:
    """Those of a config and its tensors, of which theirs are taken; None where there are none."""
    own = {name: tensors.pop(name) for name in list(tensors) if name.split(".")[0] == _NAME}
    state = config.get("alike")  # not in folders of earlier versions, which had their share beside them
    if state is None:
        return None
    alike, told = LookAlikes.from_state({"share": config.get("trained", 1.0)} | unpack(state, own)), config["arguments"]
    if (alike.horizon, list(alike.levels)) != (told["horizon"], list(told["levels"])):
        msg = "its look-alikes forecast other steps or levels than it does"
        raise ArgumentError(msg)
    return alike


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


def _slim(panel: Panel) -> Panel:
    """The panel with no covariates but the price: selecting series copies all that they have."""
    past, future = ({k: v for k, v in role.items() if k == panel.price} for role in (panel.past, panel.future))
    return replace(panel, past=past, future=future)


def _launched(
    panel: Panel, horizon: int
) -> tuple[Int64[np.ndarray, " product"], Float32[np.ndarray, "product horizon"], bool]:
    """The products to be remembered, as rows of the panel, their launch curves, and whether launches were seen.

    Where hardly any was, a series' first steps are no launch but some time in its life: the last ones tell more.
    """
    rows = np.flatnonzero(panel.observations() > 0)
    curves, seen = launch_curves(panel.select(rows), horizon)
    seen &= np.isfinite(curves).any(axis=1)
    begun = int(seen.sum()) >= _FEWEST
    if not begun:
        curves = panel.tail(np.where(panel.observed, panel.target, np.float32(np.nan)), horizon)[rows]
        seen = np.isfinite(curves).any(axis=1)
    chosen = np.flatnonzero(seen)
    if len(chosen) > _MOST:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, _MOST, replace=False))
    return rows[chosen], curves[chosen], begun


def _dense(features: Any, shape: tuple[int, int]) -> np.ndarray:  # noqa: ANN401 - earlier versions wrote them dense
    """The features of a `state`."""
    if isinstance(features, np.ndarray):
        return features
    try:
        found = sparse.csr_matrix((features["data"], features["indices"], features["indptr"]), shape=shape)
        found.check_format(full_check=True)
    except ValueError as error:
        msg = f"look-alikes need features {shape}: {error}"
        raise ArgumentError(msg) from error
    return found.toarray()


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
