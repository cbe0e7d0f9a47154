# SPDX-License-Identifier: Apache-2.0
"""Latency of cell networks (NAS-Bench-201) on a device from a few measurements, alone or with other devices as prior.

A cell has four nodes and an operation on each of its six edges (Dong & Yang 2020). A network's time is a sum over
edges, but runtimes differ in which edges they run at all: an eager one runs every edge, a compiler drops those whose
result is never used, or folds those that only see zeros. So each way of pruning is an encoding of its own, and the data
choose: by leave-one-out error where there are many measurements, by evidence where there are few.

With other devices as prior (`CellPrior`), each of them is a predictor, also under the other prunings; the new device is
taken to be a mixture of them, close to their mean, plus a free term for each operation: a Gaussian process whose kernel
is the covariance of devices (Bonilla, Chai and Williams 2008, "Multi-task Gaussian Process Prediction").
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sirdar.errors import ArgumentError

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
PRUNINGS = ("run", "used", "fed", "both")  # every edge; whose result is used; that see the input; both
_RIDGES = (0.1, 0.5, 2.0)
_SHAPES = ("edges", "counts", "edges and counts")
_COUNT_WEIGHT = 0.7  # of counts beside edges: operations cost much the same on whichever edge
# Prior variances, in those of the new device's times; chosen with each of six other devices in its place.
_MIXTURE, _FREE, _MEAN = 0.1, 0.005, 4.0
_NOISES = (0.003, 0.01, 0.03, 0.1)


def pruned(cells: np.ndarray, pruning: str) -> np.ndarray:
    """Cells with the edges that a runtime leaves out set to "none".

    Args:
        cells: [network, edge] operations by their place in `OPERATIONS`, edges in the order of `EDGES`.
        pruning: one of `PRUNINGS`.

    Raises:
        ArgumentError: the cells have another form, or the pruning is unknown.
    """
    found = np.array(cells, dtype=int)
    if found.ndim != 2 or found.shape[1] != len(EDGES) or found.min() < 0 or found.max() >= len(OPERATIONS):
        msg = f"cells must be [network, 6] with operations from 0 to 4, got shape {found.shape}"
        raise ArgumentError(msg)
    if pruning not in PRUNINGS:
        msg = f"pruning must be one of {', '.join(PRUNINGS)}, got {pruning!r}"
        raise ArgumentError(msg)
    alive = found > 0
    fed_1 = alive[:, 0]
    fed_2 = alive[:, 1] | (alive[:, 2] & fed_1)
    used_2 = alive[:, 5]
    used_1 = alive[:, 4] | (alive[:, 2] & used_2)
    if pruning in ("fed", "both"):
        found[:, [2, 4]] *= fed_1[:, None]
        found[:, 5] *= fed_2
    if pruning in ("used", "both"):
        found[:, 0] *= used_1
        found[:, [1, 2]] *= used_2[:, None]
    return found


@dataclass(frozen=True)
class CellModel:
    """A device's time as a sum over edges.

    Args:
        pruning: which edges it runs.
        shape: which numbers describe a cell.
        weights: of those numbers, the constant last.
    """

    pruning: str
    shape: str
    weights: np.ndarray

    def predict(self, cells: np.ndarray, pruning: str | None = None) -> np.ndarray:
        """Times of cells, in the unit learned from; under another pruning where one is given."""
        return _numbers(pruned(cells, pruning or self.pruning), self.shape) @ self.weights


def fit_cells(cells: np.ndarray, latency: np.ndarray) -> CellModel:
    """The model of a device alone; pruning, description and ridge by least leave-one-out error.

    Args:
        cells: [network, edge].
        latency: [network], in any unit.

    Raises:
        ArgumentError: numbers of cells and times differ.
    """
    latency = _checked(cells, latency)
    mean, spread = latency.mean(), max(float(latency.std()), 1e-12)
    goal = (latency - mean) / spread
    best: tuple[float, CellModel] | None = None
    for pruning in PRUNINGS:
        kept = pruned(cells, pruning)
        for shape in _SHAPES:
            numbers = _numbers(kept, shape)
            for ridge in _RIDGES:
                gram = numbers.T @ numbers + ridge * np.diag([*[1.0] * (numbers.shape[1] - 1), 1e-6])
                weights = np.linalg.solve(gram, numbers.T @ goal)
                leverage = np.einsum("ij,ji->i", numbers, np.linalg.solve(gram, numbers.T))
                error = float((((goal - numbers @ weights) / np.maximum(1 - leverage, 1e-3)) ** 2).mean())
                if best is None or error < best[0]:
                    scaled = weights * spread
                    scaled[-1] += mean
                    best = error, CellModel(pruning, shape, scaled)
    assert best is not None  # there is at least one pruning
    return best[1]


@dataclass(frozen=True)
class CellMixture:
    """A device learned from few measurements with others as prior.

    Args:
        prior: the other devices.
        cells: [measurement, edge].
        mean: of the measured times.
        spread: of the measured times.
        parts: for each pruning its share and the weights of the measurements.
    """

    prior: "CellPrior"
    cells: np.ndarray
    mean: float
    spread: float
    parts: Mapping[str, tuple[float, np.ndarray]]

    def predict(self, cells: np.ndarray) -> np.ndarray:
        """Times of cells, in the unit learned from."""
        total = np.zeros(len(cells))
        for pruning, (share, weights) in self.parts.items():
            total += share * (self.prior.kernel(cells, self.cells, pruning) @ weights)
        return self.mean + self.spread * total


@dataclass(frozen=True)
class CellPrior:
    """Other devices, as prior knowledge.

    Args:
        models: of the devices.
        centre: [pruning, device] mean prediction over the networks learned from.
        spread: [pruning, device] its standard deviation.
    """

    models: tuple[CellModel, ...]
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, devices: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> "CellPrior":
        """Learns every device alone.

        Args:
            devices: cells [network, edge] and times [network] by name.

        Raises:
            ArgumentError: there is no device.
        """
        if not devices:
            msg = "a prior needs at least one other device, got none"
            raise ArgumentError(msg)
        models = tuple(fit_cells(cells, latency) for cells, latency in devices.values())
        pool = np.vstack([cells for cells, _ in devices.values()])
        found = np.array([[model.predict(pool, pruning) for model in models] for pruning in PRUNINGS])
        return cls(models, found.mean(2), np.maximum(found.std(2), 1e-12))

    def adapt(self, cells: np.ndarray, latency: np.ndarray) -> CellMixture:
        """The new device from its measurements, ten or so.

        Args:
            cells: [measurement, edge].
            latency: [measurement], in any unit.

        Raises:
            ArgumentError: numbers of cells and times differ.
        """
        latency = _checked(cells, latency)
        mean, spread = float(latency.mean()), max(float(latency.std()), 1e-12)
        goal = (latency - mean) / spread
        evidence, weights = {}, {}
        for pruning in PRUNINGS:
            kernel = self.kernel(cells, cells, pruning)
            evidence[pruning], weights[pruning] = max(
                (_evidence(kernel, goal, noise) for noise in _NOISES), key=lambda found: found[0]
            )
        top = max(evidence.values())
        shares = {pruning: float(np.exp(value - top)) for pruning, value in evidence.items()}
        whole = sum(shares.values())
        parts = {pruning: (share / whole, weights[pruning]) for pruning, share in shares.items()}
        return CellMixture(self, np.array(cells), mean, spread, parts)

    def kernel(self, first: np.ndarray, second: np.ndarray, pruning: str) -> np.ndarray:
        """Covariance of the times of two sets of cells on a device that is not known yet."""
        left, right = self._standard(first, pruning), self._standard(second, pruning)
        means = _MEAN * np.outer(left.mean(1), right.mean(1))
        apart = (left - left.mean(1, keepdims=True)) @ (right - right.mean(1, keepdims=True)).T
        free = _numbers(pruned(first, pruning), "edges") @ _numbers(pruned(second, pruning), "edges").T
        return 1.0 + means + _MIXTURE * apart + _FREE * free

    def _standard(self, cells: np.ndarray, pruning: str) -> np.ndarray:
        """[cell, device] what each device would take, in its own standard deviations."""
        place = PRUNINGS.index(pruning)
        found = np.stack([model.predict(cells, pruning) for model in self.models], 1)
        return (found - self.centre[place]) / self.spread[place]


def _evidence(kernel: np.ndarray, goal: np.ndarray, noise: float) -> tuple[float, np.ndarray]:
    """Logarithm of the marginal likelihood (up to a constant), and the weights of the measurements."""
    lower = np.linalg.cholesky(kernel + noise * np.eye(len(goal)))
    weights = np.linalg.solve(lower.T, np.linalg.solve(lower, goal))
    return float(-0.5 * goal @ weights - np.log(np.diag(lower)).sum()), weights


def _numbers(cells: np.ndarray, shape: str) -> np.ndarray:
    """What describes cells: operation by edge, how often each stands, or both; and a one."""
    table = cells[:, :, None] == np.arange(1, len(OPERATIONS))
    edges, counts = table.reshape(len(cells), -1).astype(float), table.sum(1).astype(float)
    parts = {"edges": [edges], "counts": [counts], "edges and counts": [edges, _COUNT_WEIGHT * counts]}[shape]
    return np.hstack([*parts, np.ones((len(cells), 1))])


def _checked(cells: np.ndarray, latency: np.ndarray) -> np.ndarray:
    found = np.asarray(latency, dtype=float)
    if found.shape != (len(cells),) or len(cells) < 2 or not np.isfinite(found).all():
        msg = f"there must be one finite time for each of at least two cells, got {len(cells)} and {found.shape}"
        raise ArgumentError(msg)
    return found
