# SPDX-License-Identifier: Apache-2.0
"""Claim: the differentiable simulator is fast, and several times as fast as the best-known open one.

A trainable base-stock policy orders for many products with lead time 4 over 50 steps; product-steps per second are
those of the best of several runs, forward alone and forward with backward. The bars are judged at 131,072 products (say
1,024 products on 128 sample paths each); smaller sizes, where fixed costs weigh more, are stored beside. Two paths of
`simulate` are measured. "ours" is the one that the policy takes by itself: it orders up to a level, so that the whole
run is one compiled operation (`inventory/rollout.py`). "by step" is that of any policy, a network say: it is asked in
every step; here the same policy goes that way, since what it is has been hidden. The bars of speed are of the first;
how both stand to the rival is stored.
With --rival DIR (a checkout of github.com/MatiasAlvo/Neural_inventory_control, MIT, the code of arXiv:2306.11246) its
simulator runs on the same demand with the same policy, turn by turn in the same process, and both must find the same
cost. Writes `results/inventory/simulator.json`.
"""

import argparse
import copy
import importlib.util
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from store import bar, store

from sirdar.inventory import BaseStock, InventoryProblem, OrderRules, Policy, State, simulate

LEAD, TIME, LEVEL = 4, 50, 28.0
SIZES = (4_096, 32_768, 131_072)  # products; the last is judged


def main() -> None:
    """Time both, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rival", type=Path, help="checkout of Neural_inventory_control")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    rival = None if arguments.rival is None else load_rival(arguments.rival)
    if rival is None:
        print("without --rival DIR the comparison is skipped")
    speeds: dict[int, Speeds] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        speeds[threads] = {size: measure(contestants(size, rival), size, arguments.runs) for size in SIZES}
    report(speeds)


Speeds = dict[int, dict[str, float]]
Contestants = dict[str, Callable[[torch.Tensor], torch.Tensor]]


def contestants(products: int, rival: Any) -> Contestants:  # noqa: ANN401
    """Both simulators on the same demand, as functions of the level."""
    demand = torch.poisson(torch.full((TIME, products), 5.0), generator=torch.Generator().manual_seed(0))
    found: Contestants = {"ours": lambda level: ours(BaseStock(level), demand)}
    found["by step"] = lambda level: ours(ByStep(level), demand)
    if rival is not None:
        found["rival"] = lambda level: theirs(level, demand, rival)
    return found


@dataclass(frozen=True)
class ByStep:
    """Base stock that nobody knows to be one."""

    level: torch.Tensor

    def order(self, state: State) -> torch.Tensor:
        """What is missing to the level."""
        return BaseStock(self.level).order(state)


def ours(policy: Policy, demand: torch.Tensor) -> torch.Tensor:
    """Mean cost per product and step."""
    problem = InventoryProblem(1.0, 9.0, LEAD, rules=OrderRules(case_pack=0.0))
    ledger = simulate(policy, problem, demand.movedim(0, -1))
    in_one_go = "ordered" in (ledger.sums or {})
    if in_one_go != isinstance(policy, BaseStock):
        sys.exit(f"{policy} was simulated on the other path: has numba gone?")
    return ledger.cost.mean() / ledger.steps


def theirs(level: torch.Tensor, demand: torch.Tensor, simulator: Any) -> torch.Tensor:  # noqa: ANN401
    """The same with the rival's environment, one store per product."""
    products = demand.shape[1]
    ones = torch.ones(products, 1)
    data = {
        "initial_inventories": torch.zeros(products, 1, LEAD),
        "demands": demand.T[:, None, :],
        "holding_costs": ones,
        "underage_costs": 9.0 * ones,
        "lead_times": torch.full((products, 1, 1), LEAD),
    }
    static = dict.fromkeys(("holding_costs", "underage_costs", "lead_times"), True)
    seen = {
        "demand": {"past_periods": 0, "period_shift": 0},
        "time_features": None,
        "sample_features": None,
        "include_warehouse_inventory": False,
        "include_static_features": static,
    }
    kind = {"n_warehouses": 0, "n_extra_echelons": 0, "n_stores": 1, "lost_demand": True, "maximize_profit": False}
    observation, _ = simulator.reset(TIME, kind, data, seen)
    total = torch.zeros(())
    for _ in range(TIME):
        position = observation["store_inventories"].sum(dim=2)
        action = {"stores": (level - position).clip(min=0)[..., None]}
        observation, reward, *_ = simulator.step(action)
        total = total + reward.sum()
    return total / (products * TIME)


def load_rival(folder: Path) -> Any:  # noqa: ANN401
    """Its environment alone: the modules that it star-imports for plots and networks stay out."""
    names = {"torch": torch, "np": np, "copy": copy, "DefaultDict": defaultdict}
    for name in ("shared_imports", "data_handling", "neural_networks"):
        stub = ModuleType(name)
        vars(stub).update(names)
        sys.modules[name] = stub
    spec = importlib.util.spec_from_file_location("rival_environment", folder / "environment.py")
    if spec is None or spec.loader is None or not (folder / "environment.py").exists():
        sys.exit(f"{folder} holds no environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Simulator()


def measure(contestants: Contestants, products: int, runs: int) -> dict[str, float]:
    """Product-steps per second of each, forward and with backward, the best of runs taken in turn."""
    best: dict[str, float] = {}
    costs = {}
    for _ in range(runs):
        for name, run in contestants.items():
            began = time.perf_counter()
            with torch.no_grad():
                costs[name] = run(torch.tensor(LEVEL)).item()
            forward = time.perf_counter() - began
            level = torch.tensor(LEVEL, requires_grad=True)
            began = time.perf_counter()
            run(level).backward()
            both = time.perf_counter() - began
            for kind, seconds in ((f"{name}, forward", forward), (f"{name}, forward and backward", both)):
                best[kind] = max(best.get(kind, 0.0), products * TIME / seconds)
    if max(costs.values()) - min(costs.values()) > 1e-3:
        sys.exit(f"the simulators disagree on the cost: {costs}")
    return best


def report(speeds: dict[int, Speeds]) -> None:
    """Store speeds on one and two threads, and ratios where the rival ran."""
    kinds = {"forward": 1e7, "forward and backward": 4e6}
    measured: dict[str, Any] = {}
    ratios = []
    for threads, sizes in speeds.items():
        for size, found in sizes.items():
            row = measured[f"{size} products, threads: {threads}"] = {name: round(x) for name, x in found.items()}
            for path, kind in product(("ours", "by step"), kinds if "rival, forward" in found else ()):
                ratio = found[f"{path}, {kind}"] / found[f"rival, {kind}"]
                row[f"ratio of {path}, {kind}"] = round(ratio, 2)
                if size == SIZES[-1]:
                    way = "" if path == "ours" else ", any policy (step by step)"
                    name = f"times as fast as the rival, {kind}, threads: {threads}{way}"
                    ratios.append(bar(name, ratio, 8.0, better="higher"))
    judged = speeds[2][SIZES[-1]]
    bars = [bar(f"{kind}, product-steps/s", judged[f"ours, {kind}"], x, better="higher") for kind, x in kinds.items()]
    claim = "The differentiable simulator runs 10 million product-steps/s forward, 4 million with backward"
    command = "python benchmarks/inventory_simulator.py --rival DIR"
    store("inventory/simulator", claim, command, measured, bars + ratios)


if __name__ == "__main__":
    main()
