# SPDX-License-Identifier: Apache-2.0
"""A buying policy that is a network: trained on the cost itself, by back-propagation through the simulator.

Madeka et al. (2022), "Deep Inventory Management", arXiv:2210.03137 (DirectBackprop). One network serves all series: it
sees the stock and the orders under way in units of each series' own demand, what a unit too many and too few costs, the
lead time, and whatever else is known of the series (forecast quantiles, price, calendar) as a context.
"""

from collections.abc import Callable
from copy import copy
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sirdar.errors import ArgumentError, DataError, require_positive_integer
from sirdar.inventory.backend import round_nearest
from sirdar.inventory.limits import shadow_prices, shared, within_limits
from sirdar.inventory.policy import State
from sirdar.inventory.problem import InventoryProblem
from sirdar.inventory.terms import RandomLeadTime, permitted
from sirdar.tensors import read_tensors, write_tensors

_LEAST_RATIO = 1e-3  # beneath it a price leaves nothing to order for


@final
class LearnedPolicy(nn.Module):
    """A multilayer perceptron from the state of a series to its order.

    It keeps the problem's rules at every step: the nearest quantity that minimum, case pack and shelf permit; capacity
    and budget that series share by a price, which the network sees as a lower critical ratio. What no price divides is
    shared out among those who want it, but not while the network trains. Then gradients pass the rounding unchanged; a
    problem that allows fractions is rounded nowhere.

    Args:
        scale: units of demand in a usual step of each series: stock and orders are counted in it. A number, one per
            series, or one per step and series [time, series].
        width: longest lead time that the network is made for, in steps.
        context: more about each series, already scaled to a size of about 1: [series, channel], or with one row per
            step [time, series, channel].
        hidden: widths of the hidden layers.
        head: what the network says: the "order" itself, or the "level" up to which stock on hand and under way is
            raised, which takes less training where demand is steady.
        seed: of the first weights.
    """

    def __init__(
        self,
        scale: float | np.ndarray,
        width: int,
        context: Float[np.ndarray, "*time series channel"] | None = None,
        hidden: tuple[int, ...] = (64, 64),
        seed: int = 0,
        head: str = "order",
    ) -> None:
        super().__init__()
        require_positive_integer(width, "width")
        if head not in ("order", "level"):
            msg = f"head must be 'order' or 'level', got {head!r}"
            raise ArgumentError(msg)
        self.head = head
        self.width = width
        self.hidden = hidden
        self.scale = _checked(scale)
        self.context = None if context is None else torch.as_tensor(context, dtype=torch.float32)
        steady = 3 + width + 1
        passing = 0 if self.context is None else self.context.shape[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # The first layer in two parts: what changes from step to step, and what does not.
            self.moving = nn.Linear(max(1, width) + passing, hidden[0], bias=False)
            self.steady = nn.Linear(steady, hidden[0])
            self.rest = _perceptron(hidden)
        self._offset: tuple[InventoryProblem, int, Tensor] | None = None

    def order(self, state: State) -> Float[Any, "*batch series"]:
        """The network's answer within the problem's rules and limits, as the kind of array in which the state came."""
        limited = shared(state.problem)
        prices = self._found(state, shadow_prices).float() if limited and self.training else None
        quantity = self._found(state, within_limits) if limited and not self.training else self(state, prices)
        if not self.training:
            quantity = _permitted(quantity.detach(), state)
        elif not state.problem.rules.free:  # what is placed is counted; gradients pass as if nothing had been rounded
            quantity = quantity + (_permitted(quantity, state) - quantity).detach()
        if isinstance(state.on_hand, np.ndarray):
            return quantity.detach().numpy().astype(state.on_hand.dtype)
        return quantity.to(state.on_hand.dtype)

    def forward(
        self, state: State, unit_price: Float[Tensor, "*batch series"] | None = None
    ) -> Float[Tensor, "*batch series"]:
        """Quantities, not rounded; with a price on units, those that are wanted at it: it lowers the critical ratio."""
        described = self._described(state) if unit_price is None else self._describe(state.problem, unit_price)
        first = self.moving(self._seen(state)) + described
        units = nn.functional.softplus(self.rest(first)[..., 0] + 1.0) * self._scale(state.step)
        if self.head == "level":
            units = (units - torch.as_tensor(state.carried, dtype=torch.float32)).relu()
        if unit_price is None:
            return units
        dearest = torch.tensor(state.problem.shortage_cost, dtype=torch.float32)
        return units * (unit_price < dearest)

    @torch.no_grad()
    def _found(self, state: State, find: Callable[..., np.ndarray]) -> Float[Tensor, "*batch series"]:
        """What the limits that series share make of the orders of each scenario: `shadow_prices` or `within_limits`."""
        shape, problem = state.on_hand.shape, state.problem
        on_hand, position = (
            torch.as_tensor(x).detach().reshape(-1, shape[-1]) for x in (state.on_hand, state.position)
        )
        pipeline = torch.as_tensor(state.pipeline).detach().reshape(len(on_hand), shape[-1], -1)
        found = []
        for stock, lanes, total in zip(on_hand, pipeline, position, strict=True):
            one = State(stock, lanes, problem, state.step, position=total)

            def solve(price: np.ndarray, one: State = one) -> np.ndarray:
                wanted = self(one, torch.as_tensor(price, dtype=torch.float32))
                return _permitted(wanted, one).numpy().astype(np.float64)

            found.append(torch.from_numpy(find(solve, problem, total.numpy().astype(np.float64))))
        return torch.stack(found).reshape(shape)

    def _seen(self, state: State) -> Float[Tensor, "*batch series channel"]:
        """Stock, orders under way and the context of the step."""
        on_hand = torch.as_tensor(state.on_hand, dtype=torch.float32)
        lanes = torch.as_tensor(state.pipeline, dtype=torch.float32).unbind(-1)
        if len(lanes) > self.width:
            msg = f"this network was made for lead times up to {self.width}, got {len(lanes)}"
            raise ArgumentError(msg)
        # What arrives now meets the coming demand together with what is there.
        units = [on_hand + lanes[0], *lanes[1:]] if lanes else [on_hand]
        units += [torch.zeros_like(on_hand)] * (max(1, self.width) - len(units))
        seen = torch.stack(units, dim=-1) / self._scale(state.step).unsqueeze(-1)
        if self.context is None:
            return seen
        context = self.context if self.context.ndim == 2 else _row(self.context, state.step, "context")
        return torch.cat([seen, context.expand(*seen.shape[:-1], -1)], dim=-1)

    def _described(self, state: State) -> Float[Tensor, "*series channel"]:
        """What the first layer makes of costs and times: the same in all steps of one simulation."""
        version = self.steady.weight._version  # counts the updates of the weights
        known = self._offset
        if state.step == 0 or known is None or known[0] is not state.problem or known[1] != version:
            known = self._offset = (state.problem, version, self._describe(state.problem, None))
        return known[2]

    def _describe(self, problem: InventoryProblem, unit_price: Tensor | None) -> Float[Tensor, "*series channel"]:
        ratio = np.asarray(np.maximum(problem.critical_ratio, _LEAST_RATIO))  # 0 where units sell at a loss
        if unit_price is not None:
            ratio = ratio - unit_price.numpy() / problem.critical_cost
            ratio = np.clip(ratio, _LEAST_RATIO, 1 - _LEAST_RATIO)
        return self.steady(torch.as_tensor(_description(problem, self.width, ratio), dtype=torch.float32))

    def _scale(self, step: int) -> Tensor:
        return _row(self.scale, step, "scale") if self.scale.ndim == 2 else self.scale

    def given(
        self, scale: float | np.ndarray, context: Float[np.ndarray, "*time series channel"] | None = None
    ) -> "LearnedPolicy":
        """The same network, its weights shared, for other series or another time."""
        other = copy(self)
        other.scale = _checked(scale)
        other.context = None if context is None else torch.as_tensor(context, dtype=torch.float32)
        other._offset = None
        return other

    def take(self, rows: np.ndarray) -> "LearnedPolicy":
        """The same network, its weights shared, for some of the series."""
        part = copy(self)
        index = torch.as_tensor(rows)
        part.scale = self.scale[..., index] if self.scale.ndim else self.scale
        part.context = None if self.context is None else self.context.index_select(-2, index)
        part._offset = None
        return part

    def save(self, path: str | Path) -> None:
        """Write the weights (safetensors) and what was built for them, whole or not at all.

        Scale and context are data, and are given anew.

        Raises:
            OutputError: the file cannot be written.
        """
        write_tensors(Path(path), self.state_dict(), self._built())

    def load(self, path: str | Path) -> "LearnedPolicy":
        """Read weights that a network of the same head, width and hidden layers has saved.

        Raises:
            DataError: the file cannot be read, or holds the weights of another network.
        """
        weights, facts = read_tensors(Path(path))
        for name, own in self._built().items():
            if facts.get(name, own) != own:  # weights of earlier versions come without
                msg = f"{path}: not the weights of this policy (its {name} is {own!r}, theirs {facts[name]!r})"
                raise DataError(msg)
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            msg = f"{path}: not the weights of this policy ({' '.join(str(error).split())})"
            raise DataError(msg) from error
        return self.eval()

    def _built(self) -> dict[str, Any]:
        """What a network must have in common with another to take its weights, as JSON holds it."""
        return {"head": self.head, "width": self.width, "hidden": list(self.hidden)}


def _row(values: Tensor, step: int, name: str) -> Tensor:
    if step >= len(values):
        msg = f"the {name} has rows for {len(values)} steps, but step {step} is simulated: give a longer one by `given`"
        raise ArgumentError(msg)
    return values[step]


def _checked(scale: float | np.ndarray) -> Tensor:
    if not bool((np.asarray(scale) > 0).all()) or not bool(np.isfinite(scale).all()):
        msg = f"scale must be above 0 for every series, got {np.min(scale):g}"
        raise ArgumentError(msg)
    return torch.as_tensor(scale, dtype=torch.float32)


def _description(
    problem: InventoryProblem, width: int, ratio: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*series channel"]:
    """Costs and times as numbers of a size of about 1: the normal score of the critical ratio, and the lead time."""
    score = np.vectorize(NormalDist().inv_cdf)(ratio)
    # A random lead time is described by its distribution, a known one by a certainty.
    if isinstance(problem.lead_time, RandomLeadTime):
        chances = np.pad(problem.lead_time.probabilities, (0, width + 1))[: width + 1]
    else:
        chances = np.asarray(np.asarray(problem.lead_time)[..., None] == np.arange(width + 1), dtype=np.float64)
    review = np.log(np.asarray(problem.review_period, dtype=np.float64))
    shape = np.broadcast_shapes(score.shape, chances.shape[:-1], review.shape)
    parts = [np.broadcast_to(x, shape)[..., None] for x in (score, score**2, review)]
    return np.concatenate([*parts, np.broadcast_to(chances, (*shape, width + 1))], axis=-1)


def _permitted(quantity: Tensor, state: State) -> Tensor:
    """The nearest permitted quantity: rounding up, as the problem's rules would, orders half a pack too much."""
    rules = state.problem.rules
    pack, least = (torch.tensor(x, dtype=quantity.dtype) for x in (rules.case_pack, rules.least))
    size = torch.where(pack > 0, pack, torch.ones_like(pack))
    nearest = torch.where(pack > 0, round_nearest(quantity / size) * size, quantity)
    none = torch.zeros_like(quantity)
    nearest = torch.where(nearest < least, torch.where(quantity >= least / 2, least, none), nearest)
    if not np.any(np.isfinite(rules.shelf)):
        return nearest
    return permitted(nearest, rules, torch.as_tensor(state.position, dtype=nearest.dtype).detach())


def _perceptron(hidden: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.SiLU()]
    for before, after in pairwise(hidden):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
