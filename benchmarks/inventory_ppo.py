# SPDX-License-Identifier: Apache-2.0
"""Claim: on the same lost-sales problem and simulator, DirectBackprop comes closer to the optimum than model-free PPO.

Poisson(5) demand, h = 1, p = 9, L = 2. Both policies get the same CPU seconds of one core: stable-baselines3's PPO on
`InventoryEnv` (16 environments side by side, observations and rewards normalised, its own default settings otherwise),
and `LearnedPolicy` through the simulator. Then the whole-unit orders of both in every state are evaluated by dynamic
programming against the exact optimum. About ten minutes. Writes `results/inventory/ppo.json`; with --seconds below the
default, prints only.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from store import bar, store

from sirdar.inventory import (
    Episode,
    InventoryProblem,
    LearnedPolicy,
    OrderRules,
    Policy,
    State,
    Stock,
    Training,
    direct_backprop,
    exact,
)
from sirdar.inventory.distributions import poisson
from sirdar.inventory.env import InventoryEnv

MEAN, LEAD, COST, MOST, SECONDS = 5.0, 2, 9.0, 15.0, 300.0
PROBLEM = InventoryProblem(1.0, COST, LEAD)
FREE = InventoryProblem(1.0, COST, LEAD, rules=OrderRules(case_pack=0.0))
ENVS, LENGTH, PATHS, TIME = 16, 50, 128, 36


def main() -> None:
    """Train both, evaluate, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of training, each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optimum = exact.optimal(PROBLEM, poisson(MEAN)).cost
    made: dict[str, tuple[Policy, int]] = {
        "PPO": train_ppo(arguments.seconds, arguments.seed),
        "DirectBackprop": train_ours(arguments.seconds, arguments.seed, optimum),
    }
    found = {name: gap(policy, optimum) | {"product_steps": steps} for name, (policy, steps) in made.items()}
    for name, numbers in found.items():
        print(name, numbers, flush=True)
    if arguments.seconds < SECONDS:
        return
    ratio = found["DirectBackprop"]["gap_percent"] / found["PPO"]["gap_percent"]
    claim = "Backpropagation through the simulator against model-free PPO at equal time on one lost-sales problem"
    measured = {"optimal": optimum, "training_s": arguments.seconds, "threads": 1, **found}
    bars = [bar("gap to the optimum over PPO's", ratio, 1.0)]
    store("inventory/ppo", claim, "python benchmarks/inventory_ppo.py", measured, bars)


@dataclass
class Agent:
    """PPO's network as a policy."""

    model: PPO
    seen: VecNormalize

    def order(self, state: State) -> np.ndarray:
        """The mean of its action, in units, rounded by whoever places it."""
        units = np.concatenate([state.on_hand[..., None], state.pipeline], axis=-1)
        rows = units.reshape(-1, units.shape[-1])
        constants = np.broadcast_to([1.0, COST, LEAD, 0.5], (len(rows), 4))  # half-way through an episode
        scaled = self.seen.normalize_obs(np.concatenate([rows, constants], axis=1).astype(np.float32))
        action, _ = self.model.predict(scaled, deterministic=True)
        share = (np.clip(action[:, 0], -1.0, 1.0) + 1.0) / 2.0
        return np.round(share * MOST).astype(np.float64).reshape(state.on_hand.shape)


def train_ppo(seconds: float, seed: int) -> tuple[Policy, int]:
    """PPO until the time is over."""
    demand = np.random.default_rng(seed).poisson(MEAN, (4096, LENGTH)).astype(np.float64)
    rescaled = [lambda: RescaleAction(InventoryEnv(PROBLEM, demand, most=MOST), np.float32(-1), np.float32(1))]
    seen = VecNormalize(DummyVecEnv(rescaled * ENVS), gamma=0.99)
    model = PPO("MlpPolicy", seen, seed=seed, device="cpu", n_steps=256)
    model.learn(10**9, callback=_Until(time.process_time() + seconds))
    seen.training = False
    return Agent(model, seen), model.num_timesteps


class _Until(BaseCallback):
    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end

    def _on_step(self) -> bool:
        return time.process_time() < self.end


def train_ours(seconds: float, seed: int, optimum: float) -> tuple[Policy, int]:
    """DirectBackprop in as many steps as the time allows, counted by a trial of twenty."""

    def draw(step: int) -> Episode:
        random = torch.Generator().manual_seed(seed * 1_000_003 + step)
        demand = torch.poisson(torch.full((TIME, PATHS, 1), MEAN), generator=random).movedim(0, -1)
        return Episode(FREE, demand, start(np.random.default_rng((seed, step))), weight=torch.tensor([1.0 / optimum]))

    def train(steps: int) -> LearnedPolicy:
        policy = LearnedPolicy(MEAN, width=LEAD, hidden=(32, 32), seed=seed)
        return direct_backprop(policy, draw, Training(steps, learning_rate=0.01))

    train(3)
    began = time.process_time()
    train(20)
    each = (time.process_time() - began) / 20
    steps = max(20, int(seconds / each))
    return train(steps), steps * PATHS * TIME


def start(random: np.random.Generator) -> Stock:
    """Stock and orders under way from few to many: from an empty shelf alone, the network would not see the others."""
    units = random.integers(0, 9, 1 + LEAD).astype(np.float64)
    return Stock(units[:1], units[None, 1:])


def gap(policy: Policy, optimum: float) -> dict[str, float]:
    """How far above the optimum, in per cent: its orders in every state, evaluated by dynamic programming."""
    demand = poisson(MEAN)
    cost = exact.evaluate(PROBLEM, exact.tabulate(policy, PROBLEM, demand)).cost
    return {"cost": round(cost, 4), "gap_percent": round(100 * (cost / optimum - 1), 4)}


if __name__ == "__main__":
    main()
