# SPDX-License-Identifier: Apache-2.0
"""Cells on devices whose law is known, and prunings against reachability by hand."""

from itertools import product

import numpy as np
import pytest

from sirdar.chips.learned_cells import EDGES, CellPrior, fit_cells, pruned
from sirdar.errors import ArgumentError

EVERY = np.array(list(product(range(5), repeat=6)))
COST = np.array([0.0, 0.1, 2.0, 9.0, 1.0])


def chosen(count: int, seed: int = 0) -> np.ndarray:
    return EVERY[np.random.default_rng(seed).choice(len(EVERY), count, replace=False)]


def reached(cell: np.ndarray, *, backwards: bool) -> set[int]:
    """Nodes on a path from the input (to the output), by walking until nothing changes."""
    found = {3} if backwards else {0}
    for _ in range(4):
        for (source, target), operation in zip(EDGES, cell, strict=True):
            if operation and (target if backwards else source) in found:
                found.add(source if backwards else target)
    return found


@pytest.mark.parametrize("pruning", ["run", "used", "fed", "both"])
def test_prunings_keep_the_edges_that_a_walk_reaches(pruning: str) -> None:
    cells = chosen(400)
    for cell, found in zip(cells, pruned(cells, pruning), strict=True):
        fed, used = reached(cell, backwards=False), reached(cell, backwards=True)
        for place, (source, target) in enumerate(EDGES):
            kept = (pruning in ("run", "used") or source in fed) and (pruning in ("run", "fed") or target in used)
            assert found[place] == (cell[place] if kept else 0)


@pytest.mark.parametrize("pruning", ["run", "used", "fed", "both"])
def test_a_device_is_found_again_with_its_pruning(pruning: str) -> None:
    def law(cells: np.ndarray) -> np.ndarray:
        return 3.0 + COST[pruned(cells, pruning)].sum(1)

    cells = chosen(200)
    model = fit_cells(cells, law(cells))
    assert model.pruning == pruning
    assert np.abs(model.predict(EVERY) / law(EVERY) - 1).max() < 0.05


def test_other_devices_help_where_measurements_are_few() -> None:
    def device(seed: int, cells: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.uniform(1, 9) + (COST * rng.uniform(0.5, 1.5, 5))[cells].sum(1) * rng.uniform(0.1, 10)

    known = chosen(300)
    prior = CellPrior.fit({str(seed): (known, device(seed, known)) for seed in range(8)})
    cells, unseen = chosen(10, seed=1), chosen(2000, seed=2)
    truth = device(99, unseen)
    ranks = [
        np.corrcoef(np.argsort(np.argsort(truth)), np.argsort(np.argsort(found)))[0, 1]
        for found in (
            prior.adapt(cells, device(99, cells)).predict(unseen),
            fit_cells(cells, device(99, cells)).predict(unseen),
        )
    ]
    assert ranks[0] > 0.98
    assert ranks[0] > ranks[1]


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ArgumentError, match="operations from 0 to 4, got shape \\(2, 5\\)"):
        pruned(np.zeros((2, 5), dtype=int), "run")
    with pytest.raises(ArgumentError, match="pruning must be one of run, used, fed, both, got 'dead'"):
        pruned(EVERY[:2], "dead")
    with pytest.raises(ArgumentError, match="one finite time for each"):
        fit_cells(EVERY[:3], np.ones(2))
    with pytest.raises(ArgumentError, match="at least one other device, got none"):
        CellPrior.fit({})
