# SPDX-License-Identifier: Apache-2.0
"""The price-elasticity component: log demand on log own price, log rival prices and promotion flags, partially pooled.

    log E[y_it] = level_i(t) + season_it + e_i log p_it + sum_j c_ij log r_ijt + sum_k f_ik flag_ikt

An elasticity is the percentage by which demand changes per percent of price. The level is a broken line with a knot
every half year, so neither trend nor the product's life is taken for an effect of price; what the seasonal component
found is divided out first. Each product's coefficients are shrunk to its category's and these to the mean of all, see
`addons.pooling`. Steps without demand, or limited by stock, are left out; zeros are demand.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting.addons.history import History, as_text, codes, held, known_column, periods
from sirdar.forecasting.addons.pooling import Pooled, fit_pooled
from sirdar.forecasting.panel import Panel
from sirdar.predictive.native import answered

_FAR = 1.5  # log price relative to the usual one beyond which nothing is extrapolated
_MOST_KNOTS = 8
RIVALS = "rivals"


@dataclass(frozen=True)
class Learned:
    """What `fit` leaves behind: names by row and column of the coefficients, and each product's usual log prices."""

    ids: list[str]
    categories: list[str]
    group: np.ndarray  # of each series
    variables: tuple[str, ...]
    centre: Float64[np.ndarray, "series variable"]
    pooled: Pooled
    changes: np.ndarray  # observed steps at which the own price differed from the one before, [series]


class PriceElasticity:
    """Own-price, cross-price and promotion effects of every product.

    Args:
        price: covariate that is the own price; the panel's price when None.
        cross: covariates that are rivals' prices. One that equals the own price of a product is left out for it.
        promotions: covariates that are flags (or shares) of promotion, display, feature or events.
        market: statics whose values must agree for two series to be rivals; then the mean log price of a series'
            rivals in the same period, itself left out, is a variable called "rivals".
        category: text static whose values share a prior; all series are one category when None.
    """

    def __init__(
        self,
        *,
        price: str | None = None,
        cross: Sequence[str] = (),
        promotions: Sequence[str] = (),
        market: Sequence[str] = (),
        category: str | None = None,
    ) -> None:
        self.price, self.cross, self.promotions = price, tuple(cross), tuple(promotions)
        self.market, self.category = tuple(market), category
        self.learned: Learned | None = None

    def fit(self, panel: Panel, season: Float32[np.ndarray, "series time"] | None = None) -> "PriceElasticity":
        """Estimates the effects.

        Args:
            panel: the history.
            season: seasonal factors to divide out first, over all history.

        Raises:
            ArgumentError: there is neither a price nor a promotion, or a column is absent.
            DataError: demand is negative.
        """
        if not panel.counts:
            msg = "price effects are multiplicative and need demand that is never negative, but this panel has some"
            raise DataError(msg)
        for name in self.promotions:
            panel.require_covariate(name)  # a value of a text that a later panel never takes is 0 there
        history = History.of(panel)
        demand = history.demand.astype(np.float64)
        demand = demand if season is None else demand / np.maximum(season, 0.05)
        length = demand.shape[1]
        own = self.price or panel.price
        raw = self._variables(panel, own, length, 0)
        known = np.isfinite(demand)
        centre = _centres(raw, known)
        categories, group = self._groups(panel)
        level = _level_basis(length, panel.frequency.per_year)
        columns = _relative(raw, centre)

        def design(rows: np.ndarray) -> np.ndarray:
            hats = np.broadcast_to(level, (len(rows), *level.shape))
            return np.concatenate([hats, columns[rows]], axis=2)

        demand[~(known.sum(axis=1) >= 2)] = np.nan
        pooled = fit_pooled(demand, design, (level.shape[1], columns.shape[2]), group)
        self.learned = Learned(
            list(panel.ids), categories, group, self._names(own), centre, pooled, _changes(raw, known)
        )
        return self

    def effect(self, panel: Panel, length: int, ahead: int = 0) -> Float32[np.ndarray, "series time"]:
        """Factors by which price and promotion move demand from its usual level, 1 at the product's usual price.

        Over the last `length` steps of history and `ahead` after it. A future price that is not known is the last one.
        A product that was not learned from has the coefficients of its category.

        Raises:
            ArgumentError: the panel lacks a price or promotion that was learned from.
        """
        learned = self._require()
        raw = self._variables(panel, self._own_price(panel), length, ahead)
        row = codes_of(panel.ids, learned.ids)
        centre = np.where((row >= 0)[:, None], learned.centre[row], np.nan)
        fresh = _centres(raw[:, :length], np.ones(raw[:, :length].shape[:2], dtype=bool))
        centre = np.where(np.isfinite(centre), centre, np.where(np.isfinite(fresh), fresh, 0.0))
        relative = _relative(raw, centre)
        return np.exp(np.clip(np.einsum("itv,iv->it", relative, self._coefficients(panel, row)), -4, 4)).astype(
            np.float32
        )

    def elasticities(self, level: str = "series", native: Any = None) -> Any:  # noqa: ANN401 - the caller's frame type
        """Coefficients with standard errors as a frame.

        Args:
            level: "series", "category" or "all".
            native: frame library of the answer, as `Panel.native`; polars when None.

        Returns:
            Columns name, category, variable, elasticity, standard_error; for series also price_changes.
        """
        learned, pooled = self._require(), self._require().pooled
        table = {
            "series": (learned.ids, pooled.own, pooled.own_error, [learned.categories[g] for g in learned.group]),
            "category": (learned.categories, pooled.group, pooled.group_error, learned.categories),
            "all": (["all"], pooled.top, pooled.top_error, [""]),
        }
        if level not in table:
            msg = f"level must be one of {', '.join(table)}, got {level!r}"
            raise ArgumentError(msg)
        names, values, errors, category = table[level]
        count = len(learned.variables)
        columns: dict[str, Any] = {
            "name": np.repeat(np.array(names, dtype=object), count).tolist(),
            "category": np.repeat(np.array(category, dtype=object), count).tolist(),
            "variable": list(learned.variables) * len(names),
            "elasticity": values.reshape(-1),
            "standard_error": errors.reshape(-1),
        }
        if level == "series":
            columns["price_changes"] = np.repeat(learned.changes, count)
        return answered(columns, native if level == "series" else getattr(native, "backend", native), "name")

    def state(self) -> dict[str, Any]:
        """Arguments and everything learned, for `from_state`."""
        arguments = {name: getattr(self, name) for name in ("price", "cross", "promotions", "market", "category")}
        return {"arguments": arguments, "learned": None if self.learned is None else asdict(self.learned)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "PriceElasticity":
        """The component whose `state` this is."""
        component, learned = cls(**state["arguments"]), state["learned"]
        if learned is not None:
            parts = {"pooled": Pooled(**learned["pooled"]), "variables": tuple(learned["variables"])}
            component.learned = Learned(**(learned | parts))
        return component

    def _require(self) -> Learned:
        if self.learned is None:
            msg = "the price elasticities have not been fitted yet; call fit(panel) first"
            raise ArgumentError(msg)
        return self.learned

    def _names(self, own: str | None) -> tuple[str, ...]:
        rivals = (RIVALS,) if self.market else ()
        return (*((own,) if own else ()), *self.cross, *rivals, *self.promotions)

    def _own_price(self, panel: Panel) -> str | None:
        """The panel's covariate that is the own price learned from, under whatever name; None where none was."""
        variables = self._require().variables
        if len(variables) == len(self._names(None)):
            return None
        own = self.price or panel.price or variables[0]
        if own not in panel.future and own not in panel.past:
            msg = f"what was learned needs the price {own!r}, which this panel does not have"
            raise ArgumentError(msg)
        return own

    def _variables(
        self, panel: Panel, own: str | None, length: int, ahead: int
    ) -> Float64[np.ndarray, "series time variable"]:
        """Log prices, the own one first, and flags; prices are held where they are not known."""
        columns, prices = [], None
        if own:
            prices = _log_price(panel, own, length, ahead)
            columns.append(prices)
        for name in self.cross:
            rival = _log_price(panel, name, length, ahead)
            if prices is not None:
                rival = np.where(_same(prices, rival)[:, None], np.nan, rival)
            columns.append(rival)
        if self.market:
            if prices is None:
                msg = "rivals' prices need an own price; give the panel a price"
                raise ArgumentError(msg)
            columns.append(self._rivals(panel, prices, length, ahead))
        columns += [np.nan_to_num(known_column(panel, name, length, ahead)) for name in self.promotions]
        if not columns:
            msg = "there is neither a price nor a promotion to learn from; give the panel a price or name promotions"
            raise ArgumentError(msg)
        return np.stack(columns, axis=2).astype(np.float64)

    def _rivals(self, panel: Panel, prices: np.ndarray, length: int, ahead: int) -> np.ndarray:
        """Mean log price of the other series of the same market and period, each against its own mean."""
        for name in self.market:
            if name not in panel.static:
                msg = f"the panel has no static {name!r}; it has {', '.join(panel.static) or 'none'}"
                raise ArgumentError(msg)
        keys = [as_text(panel.static[name]) for name in self.market]
        _, market = np.unique(np.stack(keys), axis=1, return_inverse=True)
        when = periods(panel, length, ahead)
        when = when - when.min(initial=0)
        known = np.isfinite(prices)
        mean = np.where(known, prices, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        apart = np.where(known, prices - mean[:, None], 0)
        cell = market.reshape(-1)[:, None] * (int(when.max(initial=0)) + 1) + when
        size = int(cell.max(initial=-1)) + 1
        total = np.bincount(cell.ravel(), apart.ravel(), size)[cell] - apart
        count = np.bincount(cell.ravel(), known.ravel().astype(np.float64), size)[cell] - known
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def _groups(self, panel: Panel) -> tuple[list[str], np.ndarray]:
        if self.category is None:
            return ["all"], np.zeros(len(panel), dtype=np.int64)
        if self.category not in panel.static:
            msg = f"the panel has no static {self.category!r}; it has {', '.join(panel.static) or 'none'}"
            raise ArgumentError(msg)
        values, group = np.unique(as_text(panel.static[self.category]), return_inverse=True)
        return [str(value) for value in values], group.reshape(-1).astype(np.int64)

    def _coefficients(self, panel: Panel, row: np.ndarray) -> np.ndarray:
        """Those of the series, of its category, or of all."""
        learned = self._require()
        pooled = learned.pooled
        if self.category is None or self.category not in panel.static:
            group = np.zeros(len(panel), dtype=np.int64) if self.category is None else np.full(len(panel), -1)
        else:
            group = codes(panel.static[self.category], learned.categories)
        shared = np.where((group >= 0)[:, None], pooled.group[group], pooled.top)
        return np.where((row >= 0)[:, None], pooled.own[row], shared) if len(learned.ids) else shared


def codes_of(ids: Sequence[str], known: list[str]) -> np.ndarray:
    """The row of each id among the known ones, -1 for a new one."""
    place = {name: index for index, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in ids], dtype=np.int64)


def _log_price(panel: Panel, name: str, length: int, ahead: int) -> np.ndarray:
    """A price as a logarithm, gaps held; one that is not positive is not known."""
    values = known_column(panel, name, length, ahead)
    with np.errstate(divide="ignore", invalid="ignore"):
        return held(np.where(values > 0, np.log(values), np.nan).astype(np.float32)).astype(np.float64)


def _same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Series in which two prices never differ."""
    both = np.isfinite(first) & np.isfinite(second)
    return (np.where(both, np.abs(first - second), 0).max(axis=1, initial=0) < 1e-5) & both.any(axis=1)


def _centres(raw: np.ndarray, known: np.ndarray) -> Float64[np.ndarray, "series variable"]:
    """The usual value of each variable, its mean where demand was observed; NaN for none. Flags are usually 0."""
    use = known[..., None] & np.isfinite(raw)
    count = use.sum(axis=1)
    mean = np.where(use, raw, 0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _relative(raw: np.ndarray, centre: np.ndarray) -> Float64[np.ndarray, "series time variable"]:
    """Variables about their usual value; 0 where not known."""
    return np.clip(np.nan_to_num(raw - centre[:, None]), -_FAR, _FAR)


def _level_basis(length: int, per_year: float) -> Float64[np.ndarray, "time control"]:
    """Hat functions over time, a knot about every half year, that add up to one."""
    pieces = int(np.clip(round(2 * length / per_year), 1, _MOST_KNOTS - 1)) if length > 1 else 1
    if length < 8:  # too short for a trend
        return np.ones((length, 1))
    place = np.linspace(0, pieces, length)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(pieces + 1)))


def _changes(raw: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Observed steps at which the first variable differs from the step before."""
    moved = np.abs(np.diff(raw[:, :, 0], axis=1)) > 1e-6
    return (moved & known[:, 1:]).sum(axis=1)
