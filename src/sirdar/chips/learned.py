# SPDX-License-Identifier: Apache-2.0
"""A regression over operators that answers for any other estimator, in microseconds.

A network is cut into groups of operators (`learned_features`). The time of a group is an ideal time, linear in its work
and traffic with weights fitted to the data (non-negative least squares), times a factor that gradient-boosted trees
learn from the group's sizes and surroundings. The network takes the sum. Trees are grown on the error of the sum,

    sum over networks of (log sum_g exp(s_g) - log T)^2,

and, where times of operators are known, on theirs as well, each weighed by its share of the network. So the same method
learns from a compiler that lists operators and from a device that says one number.

Uncertainty: the ratio of true to predicted time on networks that were held out gives an interval that holds for new
networks of the same kind with a stated probability (split conformal prediction; Vovk, Gammerman and Shafer 2005).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sirdar.chips.analytic import OperatorCost
from sirdar.chips.chip import Chip
from sirdar.chips.energy import energy
from sirdar.chips.learned_features import NAMES, Groups, groups_of
from sirdar.errors import ArgumentError, DataError
from sirdar.units import Cost
from sirdar.workload.graph import Graph

if TYPE_CHECKING:
    import lightgbm

_LINEAR = ("macs", "read", "made", "weights")  # and one for the group itself, for each type of group
_LEAST_S = 1e-12  # a group that costs nothing is taken to cost this
_TREES, _LEAVES, _RATE = 300, 31, 0.06
_HELD_OUT = 0.15
_SCHEMA = 1


@dataclass(frozen=True)
class Measured:
    """A network and what it took.

    Args:
        graph: the network.
        latency_s: of one run.
        operators: seconds by operator, where they are known.
    """

    graph: Graph
    latency_s: float
    operators: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Predicted:
    """Predictions for several networks.

    Args:
        latency_s: [network].
        low_s: [network], lower end of the interval.
        high_s: [network], upper end.
        probability: with which the interval holds the true time of a network like those learned from.
    """

    latency_s: np.ndarray
    low_s: np.ndarray
    high_s: np.ndarray
    probability: float


@dataclass(frozen=True)
class Learned:
    """The learned estimator of one chip and number format.

    Args:
        chip: name of the chip it was learned on.
        dtype: number format it was learned in.
        linear: [type of group, part] seconds per unit, of the ideal time.
        booster: trees for the logarithm of the factor.
        bounds: lower and upper ratio of true to predicted time.
        probability: with which the ratio lies between them.
    """

    chip: str
    dtype: str
    linear: np.ndarray
    booster: "lightgbm.Booster"
    bounds: tuple[float, float]
    probability: float = 0.9

    def predict(self, graphs: Sequence[Graph]) -> Predicted:
        """Latencies of many networks at once.

        Args:
            graphs: the networks.
        """
        parts = [groups_of(graph) for graph in graphs]
        times = self._times(np.vstack([part.rows for part in parts])) if parts else np.zeros(0)
        ends = np.cumsum([len(part.members) for part in parts])
        sums = np.diff(np.concatenate([[0.0], np.cumsum(times)])[np.concatenate([[0], ends]).astype(int)])
        return Predicted(sums, sums * self.bounds[0], sums * self.bounds[1], self.probability)

    def estimate(self, graph: Graph, chip: Chip, dtype: str) -> Cost:
        """The cost of running the graph once.

        Args:
            graph: the network.
            chip: that it was learned on; its power times the latency is the energy.
            dtype: that it was learned in.

        Raises:
            ArgumentError: chip or format are others.
        """
        rows = self.breakdown(graph, chip, dtype)
        total = sum((row.cost for row in rows), Cost())
        return replace(
            total,
            peak_bytes=float(graph.peak_bytes(dtype)),
            parameter_bytes=float(graph.parameter_bytes(dtype)),
            macs=float(graph.macs),
        )

    def breakdown(self, graph: Graph, chip: Chip, dtype: str) -> tuple[OperatorCost, ...]:
        """The same by operator, in order; a group's time stands at its first operator."""
        self._check(chip, dtype)
        groups = groups_of(graph)
        times = dict(zip((members[0] for members in groups.members), self._times(groups.rows).tolist(), strict=True))
        rows = []
        for operator in graph.operators:
            seconds = times.get(operator.name, 0.0)
            cost = Cost(latency_s=seconds, energy_j=energy(chip, seconds).mid_j, macs=float(operator.macs))
            bound = "compute" if seconds else "nothing"
            rows.append(OperatorCost(operator.name, operator.kind, dtype, cost, seconds, 0.0, 0.0, bound))
        return tuple(rows)

    def save(self, path: str | Path) -> None:
        """Writes it as JSON, under a temporary name that is renamed."""
        content = {
            "schema": _SCHEMA,
            "chip": self.chip,
            "dtype": self.dtype,
            "linear": self.linear.tolist(),
            "bounds": list(self.bounds),
            "probability": self.probability,
            "trees": self.booster.model_to_string(),
        }
        target = Path(path)
        part = target.with_name(f".{target.name}.part")
        part.write_text(json.dumps(content))
        part.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> "Learned":
        """Reads what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or of another schema.
        """
        import lightgbm

        try:
            content = json.loads(Path(path).read_text())
            if content["schema"] != _SCHEMA:
                msg = f"{path}: a learned estimator must have schema {_SCHEMA}, got {content['schema']!r}"
                raise DataError(msg)
            if "end of trees" not in content["trees"]:  # LightGBM would end the whole process over half a tree
                msg = "its trees are cut off"
                raise ValueError(msg)
            booster = lightgbm.Booster(model_str=content["trees"])
            bounds = (float(content["bounds"][0]), float(content["bounds"][1]))
            linear = np.asarray(content["linear"], dtype=float)
            return cls(content["chip"], content["dtype"], linear, booster, bounds, content["probability"])
        except (OSError, KeyError, ValueError, TypeError, IndexError, lightgbm.basic.LightGBMError) as error:
            msg = f"{path}: a learned estimator cannot be read: {error}"
            raise DataError(msg) from error

    def _times(self, rows: np.ndarray) -> np.ndarray:
        """Seconds of each group."""
        if not len(rows):
            return np.zeros(0)
        factor = np.asarray(self.booster.predict(rows, raw_score=True, num_threads=1))
        return _ideal(rows, self.linear) * np.exp(factor)

    def _check(self, chip: Chip, dtype: str) -> None:
        if (chip.name, dtype) != (self.chip, self.dtype):
            asked, known = f"{chip.name} in {dtype}", f"{self.chip} in {self.dtype}"
            msg = f"this estimator was learned on {known} and says nothing of {asked}"
            raise ArgumentError(msg)


def learn(
    samples: Iterable[Measured], *, chip: str, dtype: str = "int8", probability: float = 0.9, seed: int = 0
) -> Learned:
    """Fits the learned estimator.

    Args:
        samples: networks with their times, at least 20; more for an interval of more than 90 %.
        chip: name of the chip they were measured on.
        dtype: number format they were measured in.
        probability: of the interval.
        seed: of the split into those learned from and those held out for the interval.

    Raises:
        ArgumentError: there are too few networks, a time is not above zero, or the probability is not between 0 and 1.
    """
    kept = list(samples)
    if not 0 < probability < 1:
        msg = f"probability must lie between 0 and 1, got {probability!r}"
        raise ArgumentError(msg)
    # Of n networks held out the widest error holds with a probability of n / (n + 1), and no wider one is known.
    least = max(4, math.ceil(probability / (1 - probability) - 1e-9))
    needed = max(20, 2 * least)
    if len(kept) < needed:
        msg = f"learning with probability {probability!r} needs at least {needed} networks, got {len(kept)}"
        raise ArgumentError(msg)
    bad = [sample.latency_s for sample in kept if not 0 < sample.latency_s < math.inf]
    if bad:
        msg = f"latencies must be finite and above zero, got {bad[0]!r}"
        raise ArgumentError(msg)
    order = np.random.default_rng(seed).permutation(len(kept))
    held = [kept[place] for place in order[: max(least, int(_HELD_OUT * len(kept)))]]
    learned = _fit([kept[place] for place in order[len(held) :]], chip, dtype)
    ratios = np.log([sample.latency_s for sample in held]) - np.log(
        learned.predict([sample.graph for sample in held]).latency_s
    )
    # The rank of split conformal prediction: one place is taken by the network to come.
    level = min(1.0, math.ceil((len(held) + 1) * probability) / len(held))
    spread = float(np.quantile(np.abs(ratios), level, method="higher"))
    full = _fit(kept, chip, dtype)
    return replace(full, bounds=(math.exp(-spread), math.exp(spread)), probability=probability)


@dataclass(frozen=True)
class _Table:
    """All groups of all networks: rows, the network of each, its time where known, and the networks' times."""

    rows: np.ndarray
    network: np.ndarray
    seconds: np.ndarray
    totals: np.ndarray


def _fit(samples: Sequence[Measured], chip: str, dtype: str) -> Learned:
    import lightgbm

    table = _table(samples)
    linear = _fit_linear(table)
    ideal = np.log(_ideal(table.rows, linear))
    data = lightgbm.Dataset(table.rows, np.zeros(len(table.rows)), init_score=np.zeros(len(table.rows)))
    options = {
        "objective": _objective(table, ideal),
        "learning_rate": _RATE,
        "num_leaves": _LEAVES,
        "min_data_in_leaf": 5,
        "min_sum_hessian_in_leaf": 0.0,
        "lambda_l2": 1e-4,
        "feature_fraction": 0.7,
        "seed": 0,
        "deterministic": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    booster = lightgbm.train(options, data, num_boost_round=_TREES)
    return Learned(chip, dtype, linear, booster, (1.0, 1.0))


def _table(samples: Sequence[Measured]) -> _Table:
    parts: list[Groups] = [groups_of(sample.graph) for sample in samples]
    seconds: list[float] = []
    for part, sample in zip(parts, samples, strict=True):
        known = sample.operators
        for members in part.members:
            seconds.append(math.nan if known is None else sum(known.get(name, 0.0) for name in members))
    counts = [len(part.members) for part in parts]
    return _Table(
        np.vstack([part.rows for part in parts]),
        np.repeat(np.arange(len(parts)), counts),
        np.asarray(seconds),
        np.asarray([sample.latency_s for sample in samples]),
    )


def _design(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Type of each group, and its work, traffic and one."""
    kinds = rows[:, NAMES.index("type")].astype(int)
    parts = rows[:, [NAMES.index(name) for name in _LINEAR]]
    return kinds, np.hstack([parts, np.ones((len(rows), 1))])


def _ideal(rows: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Seconds that are linear in work and traffic."""
    kinds, parts = _design(rows)
    return np.maximum((parts * linear[kinds]).sum(1), _LEAST_S)


def _fit_linear(table: _Table) -> np.ndarray:
    """Seconds per unit that fit the networks' times best, relatively, and none below zero."""
    from scipy.optimize import nnls

    kinds, parts = _design(table.rows)
    width = parts.shape[1]
    types = int(max(kinds.max() + 1, 10))
    design = np.zeros((len(table.totals), types * width))
    for place in range(width):
        np.add.at(design, (table.network, kinds * width + place), parts[:, place])
    design /= table.totals[:, None]
    scale = np.maximum(design.max(0), 1e-30)
    # A little of every part, so that no type of group is free where the data leave it open.
    ridge = 1e-3 * np.eye(design.shape[1])
    found, _ = nnls(np.vstack([design / scale, ridge]), np.concatenate([np.ones(len(design)), ridge.sum(1)]))
    return (np.maximum(found, 1e-6) / scale).reshape(types, width)


def _objective(table: _Table, ideal: np.ndarray) -> Callable[[np.ndarray, object], tuple[np.ndarray, np.ndarray]]:
    """Gradient and curvature of the error of sums, and of operators where they are known."""
    wanted = np.log(table.totals)
    known = np.isfinite(table.seconds)
    goal = np.log(np.maximum(np.where(known, table.seconds, 1.0), _LEAST_S))
    weight = np.where(known & (table.seconds > _LEAST_S), table.seconds / table.totals[table.network], 0.0)

    def gradient(scores: np.ndarray, _: object) -> tuple[np.ndarray, np.ndarray]:
        times = np.exp(ideal + scores)
        sums = np.bincount(table.network, times, minlength=len(wanted))
        share = times / sums[table.network]
        error = (np.log(sums) - wanted)[table.network]
        own = weight * (ideal + scores - goal)
        return 2 * (error * share + own), 2 * (share * share + weight) + 1e-6

    return gradient
