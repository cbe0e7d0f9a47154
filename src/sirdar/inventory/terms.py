# SPDX-License-Identifier: Apache-2.0
"""What a supplier asks and a warehouse allows: prices, lot sizes, shared limits and uncertain lead times."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from sirdar.errors import ArgumentError, require_seed
from sirdar.inventory.backend import Array, Values, match, precision, round_down, round_up
from sirdar.inventory.checks import require_bound, require_bounds, require_numbers

_ENDLESS = 1e15  # units that no shelf holds: infinity has no multiples


@dataclass(frozen=True, eq=False)
class Trade:
    """Prices, as scalars or one value per series.

    Args:
        price: income per unit sold.
        unit_cost: paid per unit ordered.
        order_cost: paid per order of any size.
    """

    price: Values = 0.0
    unit_cost: Values = 0.0
    order_cost: Values = 0.0

    def __post_init__(self) -> None:
        for name in ("price", "unit_cost", "order_cost"):
            object.__setattr__(self, name, require_numbers(getattr(self, name), name))


@dataclass(frozen=True, eq=False)
class OrderRules:
    """Which quantities may be ordered.

    Args:
        minimum: the least order that is accepted, if anything is ordered (MOQ); a scalar or one value per series.
        case_pack: orders are whole multiples of it: 1 for counted goods, 0 for any quantity; a scalar or per series.
        capacity: room for stock on hand and on order, shared by all series, in units of `volume`; units that customers
            wait for take none.
        budget: money for one round of orders, shared by all series.
        volume: room that one unit takes; a scalar or one value per series.
        shelf: the most units of a series on hand and on order together; a scalar or one value per series.
    """

    minimum: Values = 0.0
    case_pack: Values = 1.0
    capacity: float = math.inf
    budget: float = math.inf
    volume: Values = 1.0
    shelf: Values = math.inf

    def __post_init__(self) -> None:
        for name in ("minimum", "case_pack", "volume"):
            object.__setattr__(self, name, require_numbers(getattr(self, name), name))
        for name in ("capacity", "budget"):
            object.__setattr__(self, name, require_bound(getattr(self, name), name))
        object.__setattr__(self, "shelf", require_bounds(self.shelf, "shelf"))

    @cached_property
    def free(self) -> bool:
        """Whether any quantity that is not negative may be ordered."""
        some = np.any(np.asarray(self.minimum) > 0) or np.any(np.asarray(self.case_pack) > 0)
        return not (some or np.any(np.isfinite(self.shelf)))

    def counted(self, units: Float[np.ndarray, " series"]) -> Float[np.ndarray, " series"]:
        """Units as goods are counted: in ones, or in packs of less than one; just as they are in any quantity."""
        unit = np.minimum(np.asarray(self.case_pack, dtype=np.float64), 1.0)
        return np.where(unit > 0, np.round(units / np.where(unit > 0, unit, 1.0)) * unit, units)

    @property
    def least(self) -> Values:
        """The smallest order there is, apart from none; 0 where any quantity may be ordered."""
        minimum, pack = np.asarray(self.minimum), np.asarray(self.case_pack)
        size = np.where(pack > 0, pack, 1.0)
        return np.where(pack > 0, np.ceil(np.maximum(minimum, pack) / size - 1e-9) * size, minimum)


@dataclass(frozen=True)
class RandomLeadTime:
    """Lead times drawn per order, so that orders may cross.

    Args:
        probabilities: the chance that an order arrives after 0, 1, 2, ... steps; they sum to 1.
    """

    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        chances = np.asarray(self.probabilities, dtype=np.float64)
        if chances.ndim != 1 or not len(chances) or not np.isfinite(chances).all() or (chances < 0).any():
            msg = f"probabilities of lead times must be numbers that are not negative, got {self.probabilities}"
            raise ArgumentError(msg)
        if abs(chances.sum() - 1) > 1e-9:
            msg = f"probabilities of lead times must sum to 1, got {self.probabilities}, which sum to {chances.sum():g}"
            raise ArgumentError(msg)

    @property
    def longest(self) -> int:
        """The longest lead time that can occur, in steps."""
        return int(np.flatnonzero(self.probabilities)[-1])

    @property
    def mean(self) -> float:
        """The expected lead time in steps."""
        return float(np.dot(self.probabilities, np.arange(len(self.probabilities))))

    def remaining(self, age: int) -> Float[np.ndarray, " lead"]:
        """Chances that an order placed `age` steps ago and not here yet arrives in 0, 1, ... more steps."""
        chances = np.asarray(self.probabilities[: self.longest + 1])[age:]
        return chances / chances.sum()

    def draw(self, shape: tuple[int, ...], seed: int) -> np.ndarray:
        """Lead times (int64) of one shape."""
        chances = np.asarray(self.probabilities)
        random = np.random.default_rng(require_seed(seed))
        return random.choice(len(chances), size=shape, p=chances / chances.sum()).astype(np.int64)


def permitted(quantity: Array, rules: OrderRules, position: Array | None = None) -> Array:
    """The least quantity that covers the one asked for and keeps minimum and case pack; zero stays zero.

    Args:
        quantity: numpy array or torch tensor [..., series], not negative.
        rules: limits shared by several series are not looked at here: they need a price, see `sirdar.inventory.limits`.
        position: units on hand and on order. With it, no more than the largest permitted quantity that the shelf holds.
    """
    if rules.free:
        return quantity
    wanted = quantity > 1e-9  # beneath it lies rounding error, not a wish
    minimum, pack = np.asarray(rules.minimum), np.asarray(rules.case_pack)
    packed = match(np.asarray(pack > 0, dtype=np.float64), quantity)
    size = match(np.where(pack > 0, pack, 1.0), quantity)
    raised = quantity + (match(minimum, quantity) - quantity).clip(min=0)
    whole = round_up(raised / size, precision(quantity)) * size
    placed = wanted * (packed * whole + (1 - packed) * raised)
    if position is None or not np.any(np.isfinite(rules.shelf)):
        return placed
    shelf = match(np.minimum(rules.shelf, _ENDLESS), quantity)
    room, precise = (shelf - position).clip(min=0), 4 * precision(quantity)
    # The error of what is left is that of the shelf and of what fills it, which are larger.
    excess = 1e-6 + precise * (abs(position) + shelf) / size
    fits = packed * (round_down(room / size, excess) * size) + (1 - packed) * room
    fits = fits * (fits >= match(np.asarray(rules.least) * (1 - precise) - 1e-6, quantity))
    return placed - (placed - fits).clip(min=0)
