# SPDX-License-Identifier: Apache-2.0
"""Claim: one learned policy, conditioned on lead time and lost-sale cost, is near-optimal in all 16 Poisson cells.

Trains a single network by DirectBackprop on Poisson(5) demand with h = 1, L = 1..4, p = 4, 9, 19, 39 at once. Then the
orders of every cell, rounded to whole units, are tabulated and evaluated exactly by dynamic programming against the
exact optimum and the best capped base-stock policy; a simulation gives 95 % confidence intervals as a check. About ten
minutes of one core. Writes `results/inventory/learned.json`; with --steps below the default, prints only.
"""

import argparse
import time

import numpy as np
import torch
from store import bar, store

from sirdar.inventory import (
    Episode,
    InventoryProblem,
    LearnedPolicy,
    OrderRules,
    Stock,
    Training,
    direct_backprop,
    exact,
    simulate,
)
from sirdar.inventory.distributions import poisson

CELLS = [(lead, cost) for lead in (1, 2, 3, 4) for cost in (4.0, 9.0, 19.0, 39.0)]
MEAN = 5.0
STEPS = 12_000
PATHS, TIME = 96, 36


def main() -> None:
    """Train, evaluate, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="updates of the weights")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # networks this small gain nothing from more
    optima = [exact.optimal(cell_problem(*cell), poisson(MEAN)).cost for cell in CELLS]
    began = time.perf_counter()
    policy = train(arguments.steps, arguments.seed, np.array(optima))
    training_s = time.perf_counter() - began
    cells = [evaluate(policy, *cell, optimum) for cell, optimum in zip(CELLS, optima, strict=True)]
    report(cells, training_s, arguments.steps)


def cell_problem(lead: int, cost: float) -> InventoryProblem:
    """One of the 16 problems."""
    return InventoryProblem(1.0, cost, lead)


def train(steps: int, seed: int, optima: np.ndarray) -> LearnedPolicy:
    """One network for all cells, each cell being a series; fractions may be ordered while it trains."""
    leads, costs = (np.array(column) for column in zip(*CELLS, strict=True))
    problem = InventoryProblem(1.0, costs, leads, rules=OrderRules(case_pack=0.0))
    weight = torch.from_numpy(1.0 / optima).float()  # so that a per cent counts the same in every cell

    def draw(step: int) -> Episode:
        random = torch.Generator().manual_seed(seed * 1_000_003 + step)
        demand = torch.poisson(torch.full((TIME, PATHS, len(CELLS)), MEAN), generator=random).movedim(0, -1)
        return Episode(problem, demand, start(leads, np.random.default_rng((seed, step))), weight=weight)

    def progress(step: int, loss: float) -> None:
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}/{steps}: {loss:.4f} of the optimum", flush=True)

    policy = LearnedPolicy(MEAN, width=4, hidden=(32, 32), seed=seed)
    return direct_backprop(policy, draw, Training(steps, learning_rate=0.01), progress)


def start(leads: np.ndarray, random: np.random.Generator) -> Stock:
    """Stock and orders under way from many to none, so that the policy also learns what it seldom sees later."""
    units = random.integers(0, 9, (len(leads), 1 + max(leads))) * (
        random.random((len(leads), 1 + max(leads))) < random.random((len(leads), 1))
    )
    return Stock(units[:, 0], units[:, 1:] * (np.arange(max(leads)) < leads[:, None]))


def evaluate(policy: LearnedPolicy, lead: int, cost: float, optimum: float) -> dict[str, float]:
    """Exact and simulated gaps of one cell, in per cent of the optimum."""
    problem, demand = cell_problem(lead, cost), poisson(MEAN)
    learned = exact.evaluate(problem, exact.tabulate(policy, problem, demand))
    capped = exact.best_capped_base_stock(problem, demand)[2]
    paths = np.random.default_rng(lead * 100 + int(cost)).poisson(MEAN, (2000, 1, 600)).astype(np.float32)
    simulated = simulate(policy, problem, torch.from_numpy(paths), warm_up=100)
    means = simulated.cost[:, 0].double().numpy() / simulated.steps
    error = 1.96 * means.std(ddof=1) / np.sqrt(len(means))
    return {
        "L": lead,
        "p": cost,
        "optimal": round(optimum, 4),
        "learned": round(learned.cost, 4),
        "gap_percent": round(100 * (learned.cost / optimum - 1), 4),
        "capped_base_stock_gap_percent": round(100 * (capped.cost / optimum - 1), 4),
        "simulated": round(float(means.mean()), 4),
        "simulated_95_low": round(float(means.mean() - error), 4),
        "simulated_95_high": round(float(means.mean() + error), 4),
    }


def report(cells: list[dict[str, float]], training_s: float, steps: int) -> None:
    """Store the bars and the cells; a shortened run is only printed."""
    gaps = [cell["gap_percent"] for cell in cells]
    beaten = sum(cell["gap_percent"] < cell["capped_base_stock_gap_percent"] for cell in cells)
    bars = [
        bar("mean gap to the optimum over 16 cells, per cent", sum(gaps) / len(gaps), 0.15),
        bar("worst gap to the optimum, per cent", max(gaps), 0.5),
        bar(
            "cells in which it costs less than the best capped base-stock policy", float(beaten), 16.0, better="higher"
        ),
        bar("training, seconds", training_s, 1200.0),
    ]
    if steps < STEPS:
        print(bars)
        return
    measured = {
        "training_s": round(training_s, 1),
        "steps": steps,
        "product_steps": steps * PATHS * TIME * len(CELLS),
        "threads": 1,
        "cells": cells,
    }
    claim = "One learned policy within 0.15 % of the exact optimum on 16 lost-sales problems, whole orders"
    store("inventory/learned", claim, "python benchmarks/inventory_learned.py", measured, bars)


if __name__ == "__main__":
    main()
