# SPDX-License-Identifier: Apache-2.0
"""The simulator as gymnasium environments, for model-free rivals of the learned policy.

An episode is one series of a demand table over a window of steps; an action in [0, 1] is the share of the largest order
to place; the reward is the profit of the step: minus the cost where nothing is earned. `info` splits it into income,
holding, lost sales, purchase and ordering, and has the fill rate, cycle service level and turns since the episode
began. gymnasium is an optional package: importing this module asks for it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float

from sirdar.errors import ArgumentError, UnsupportedError, require_positive_integer
from sirdar.inventory.demand import paths
from sirdar.inventory.limits import shared
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import permitted

try:
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    msg = "environments need gymnasium: pip install gymnasium"
    raise UnsupportedError(msg) from error

Observation = Float[np.ndarray, "envs channel"]
Each = Float[np.ndarray, " envs"]
_NOTHING = 1e-9  # fewer units late are rounding error
_UNTOUCHED = {"fill_rate": 1.0, "cycle_service_level": 1.0, "turns": math.inf}  # of an episode before its first step


@final
class Shelves:
    """Several episodes side by side, in numpy: what both environments are made of.

    Args:
        problem: known lead times, review period 1.
        demand: [series, time].
        length: steps of an episode; all of `demand` without it.
        most: the largest order; twice the largest demand of a step without it.
        count: episodes at once.
    """

    def __init__(
        self,
        problem: InventoryProblem,
        demand: Float[np.ndarray, "series time"] | Sequence[Any],
        length: int | None,
        most: float | None,
        count: int,
    ) -> None:
        self.demand = np.asarray(paths(demand, 1, 0), dtype=np.float64)
        problem.require_series(len(self.demand))
        length = require_positive_integer(self.demand.shape[1] if length is None else length, "length")
        if length > self.demand.shape[1]:
            msg = f"length must not exceed the {self.demand.shape[1]} steps of demand, got {length}"
            raise ArgumentError(msg)
        if not isinstance(problem.lead_time, int | np.ndarray) or np.any(np.asarray(problem.review_period) != 1):
            msg = f"environments need a known lead_time and review_period 1, got {problem}"
            raise UnsupportedError(msg)
        if shared(problem):
            msg = (
                "an episode is one series, which cannot keep a capacity or budget that series share: leave them out, "
                "or give each series its shelf"
            )
            raise UnsupportedError(msg)
        if most is not None and not (math.isfinite(most) and most > 0):
            msg = f"most must be a number above 0, got {most!r}"
            raise ArgumentError(msg)
        self.problem, self.length, self.count = problem, length, count
        self.most = max(1.0, 2.0 * float(self.demand.max())) if most is None else float(most)
        self.lead = np.broadcast_to(problem.lead_time, len(self.demand))
        self.width = problem.longest_lead_time
        self.series, self.start, self.step = (np.zeros(count, dtype=np.int64) for _ in range(3))
        self.on_hand, self.lanes = np.zeros(count), np.zeros((count, self.width + 1))
        self.tally = dict.fromkeys(("wanted", "late", "sold", "stock", "short"), np.zeros(count))

    @property
    def space(self) -> gymnasium.spaces.Box:
        """Of an observation: stock, orders under way, holding and lost-sale cost, lead time, share of time passed."""
        # Bounds that can be reached only by ordering the most, or selling nothing, all the time.
        largest = float(np.max(permitted(np.full(len(self.demand), self.most), self.problem.rules)))
        costs = [np.max(self.problem.holding_cost), np.max(self.problem.lost_sale_cost), max(self.width, 1), 1.0]
        high = np.array([largest * self.length, *[largest] * self.width, *costs], dtype=np.float32)
        low = np.zeros_like(high)
        low[0] = -self.demand.max() * self.length if self.problem.backlog else 0.0
        return gymnasium.spaces.Box(low, high, dtype=np.float32)

    def reset(self, which: Bool[np.ndarray, " envs"], random: np.random.Generator) -> None:
        """Begin new episodes with empty shelves, each with a series and a window drawn at random."""
        self.series[which] = random.integers(0, len(self.demand), int(which.sum()))
        self.start[which] = random.integers(0, self.demand.shape[1] - self.length + 1, int(which.sum()))
        self.step[which], self.on_hand[which], self.lanes[which] = 0, 0.0, 0.0
        self.tally = {name: np.where(which, 0.0, total) for name, total in self.tally.items()}

    def observe(self) -> Observation:
        """What an agent sees."""
        costs = [self._of(self.problem.holding_cost), self._of(self.problem.lost_sale_cost), self.lead[self.series]]
        columns = [self.on_hand, *self.lanes[:, : self.width].T, *costs, self.step / self.length]
        return np.stack(columns, axis=1).astype(np.float32)

    def order(self, actions: np.ndarray) -> tuple[Each, dict[str, np.ndarray]]:
        """One step of all episodes: rewards, and the cost split, units sold and late, and service since they began."""
        share = np.asarray(actions, dtype=np.float64).reshape(-1)
        if len(share) != self.count:
            msg = (
                f"there must be one action for each of {self.count} episodes, got an array of shape {np.shape(actions)}"
            )
            raise ArgumentError(msg)
        wrong = np.flatnonzero(~((share >= 0) & (share <= 1)))  # a negative order would be paid for
        if len(wrong):
            msg = f"an action must lie in [0, 1], got {share[wrong[0]]:g} for episode {wrong[0]}"
            raise ArgumentError(msg)
        quantity = share * self.most
        rules = self.problem.take(self.series).rules if self.problem.series is not None else self.problem.rules
        placed = permitted(quantity, rules, self.on_hand + self.lanes.sum(axis=1))
        self.lanes[np.arange(self.count), self.lead[self.series]] += placed
        # An episode that is over takes one step more before it begins anew: its last demand serves.
        wanted = self.demand[self.series, self.start + np.minimum(self.step, self.length - 1)]
        stock = self.on_hand + self.lanes[:, 0]
        after = stock - wanted
        late = wanted - np.clip(stock, 0.0, wanted)
        left = after if self.problem.backlog else np.maximum(after, 0.0)
        # What was shipped is what the shelf lost: those who had waited are served first.
        sold = np.maximum(self.on_hand, 0.0) + self.lanes[:, 0] - np.maximum(left, 0.0)
        self.on_hand = left
        self.lanes = np.concatenate([self.lanes[:, 1:], np.zeros((self.count, 1))], axis=1)
        self.step += 1
        done = {"wanted": wanted, "late": late, "sold": sold, "stock": np.maximum(left, 0.0), "short": late > _NOTHING}
        self.tally = {name: total + done[name] for name, total in self.tally.items()}
        return self._account(placed, sold, late)

    @property
    def over(self) -> Bool[np.ndarray, " envs"]:
        """Which episodes have come to their end."""
        return self.step >= self.length

    def _account(self, placed: Each, sold: Each, late: Each) -> tuple[Each, dict[str, np.ndarray]]:
        trade, backlog = self.problem.trade, self.problem.backlog
        short = np.maximum(-self.on_hand, 0.0) if backlog else late
        info = {
            "holding": self._of(self.problem.holding_cost) * np.maximum(self.on_hand, 0.0),
            "lost_sales": self._of(self.problem.lost_sale_cost) * short,
            "purchase": self._of(trade.unit_cost) * placed,
            "ordering": self._of(trade.order_cost) * (placed > 0),
            "income": self._of(trade.price) * sold,
        }
        reward = info["income"] - sum(info[name] for name in ("holding", "lost_sales", "purchase", "ordering"))
        return reward, info | {"ordered": placed, "sold": sold, "late": late} | self._service()

    def _service(self) -> dict[str, np.ndarray]:
        """Since each episode began, as in `Ledger`: units served at once, steps without a shortage, turns of stock."""
        wanted, stock = (np.where(self.tally[name] > 0, self.tally[name], np.nan) for name in ("wanted", "stock"))
        turns = self.tally["sold"] * self.step / stock
        return {
            "fill_rate": np.where(np.isnan(wanted), 1.0, 1.0 - self.tally["late"] / wanted),
            "cycle_service_level": 1.0 - self.tally["short"] / self.step,
            "turns": np.where(np.isnan(stock), np.inf, turns),
        }

    def _of(self, value: Any) -> Each:  # noqa: ANN401
        return np.broadcast_to(value, len(self.demand))[self.series].astype(np.float64)


@final
class InventoryEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One episode at a time.

    Args:
        problem: known lead times, review period 1; values per series follow the rows of `demand`.
        demand: [series, time], from which series and windows are drawn.
        length: steps of an episode; all of `demand` without it.
        most: the largest order; twice the largest demand of a step without it.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's own name)

    def __init__(
        self,
        problem: InventoryProblem,
        demand: np.ndarray | Sequence[Any],
        length: int | None = None,
        most: float | None = None,
    ) -> None:
        self._shelves = Shelves(problem, demand, length, most, count=1)
        self.observation_space = self._shelves.space
        self.action_space = _actions()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new episode."""
        super().reset(seed=seed, options=options)
        self._shelves.reset(np.ones(1, dtype=bool), self.np_random)
        return self._shelves.observe()[0], {"series": int(self._shelves.series[0])}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Order, receive, sell. An episode is cut off at its end; it never fails."""
        reward, info = self._shelves.order(action)
        plain = {name: float(values[0]) for name, values in info.items()}
        return self._shelves.observe()[0], float(reward[0]), False, bool(self._shelves.over[0]), plain


@final
class InventoryVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many episodes at a time, as arrays. A finished episode begins anew with the next step, whose action is ignored.

    In that step `info` has the series of all episodes, as after a reset, and for those that begin anew neither units
    nor money.

    Args:
        problem: as for `InventoryEnv`.
        demand: as for `InventoryEnv`.
        count: episodes side by side.
        length: steps of an episode.
        most: the largest order.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        problem: InventoryProblem,
        demand: np.ndarray | Sequence[Any],
        count: int,
        length: int | None = None,
        most: float | None = None,
    ) -> None:
        self.num_envs = require_positive_integer(count, "count")
        self._shelves = Shelves(problem, demand, length, most, count)
        self.single_observation_space = self._shelves.space
        self.single_action_space = _actions()
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._ended = np.zeros(count, dtype=bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New episodes everywhere."""
        if isinstance(seed, list):
            seed = seed[0]  # the episodes share one stream of random numbers
        super().reset(seed=seed, options=dict(options or {}))
        self._shelves.reset(np.ones(self.num_envs, dtype=bool), self.np_random)
        self._ended[:] = False
        return self._shelves.observe(), {"series": self._shelves.series.copy()}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all episodes that are under way; the others begin anew."""
        fresh = self._ended.copy()
        reward, info = self._shelves.order(actions)
        if fresh.any():
            self._shelves.reset(fresh, self.np_random)
            reward = np.where(fresh, 0.0, reward)
            info = {name: np.where(fresh, _UNTOUCHED.get(name, 0.0), values) for name, values in info.items()}
            info["series"] = self._shelves.series.copy()
        self._ended = self._shelves.over
        return self._shelves.observe(), reward, np.zeros(self.num_envs, dtype=bool), self._ended.copy(), info


def _actions() -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0.0, 1.0, shape=(1,), dtype=np.float32)
