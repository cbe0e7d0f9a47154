# SPDX-License-Identifier: Apache-2.0
"""The learned estimator on a device whose law is known: the roofline of the T4 in the catalogue.

Networks are chains of convolutions of random widths; the roofline says what each takes, operator by operator, and the
regression has to find that again on chains it has not seen.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sirdar.chips import learned as learning
from sirdar.chips.analytic import Estimator, Roofline
from sirdar.chips.chip import Chip
from sirdar.chips.learned import Learned, Measured, learn
from sirdar.chips.reading import load
from sirdar.errors import ArgumentError, DataError
from sirdar.testing.chips import EstimatorChecks, example_graph
from sirdar.workload.graph import Graph, Operator, TensorSpec


def chain(seed: int) -> Graph:
    """Three to six convolutions with rectifiers."""
    rng = np.random.default_rng(seed)
    size, x = int(rng.choice((16, 32, 64))), None
    operators: list[Operator] = []
    for place in range(int(rng.integers(3, 7))):
        x = x or TensorSpec((1, 8, size, size), "fp32", "image")
        kernel, out = int(rng.choice((1, 3))), int(rng.choice((8, 16, 32, 64)))
        y = TensorSpec((1, out, size, size), "fp32", f"y{place}")
        weight = TensorSpec((out, x.shape[1], kernel, kernel), "fp32", f"w{place}")
        macs = y.elements * x.shape[1] * kernel**2
        attributes = {"kernel": [kernel] * 2, "stride": [1, 1], "groups": 1}
        operators.append(Operator(f"conv{place}", "conv", (x,), (y,), (weight,), macs=macs, attributes=attributes))
        x = TensorSpec(y.shape, "fp32", f"z{place}")
        operators.append(Operator(f"relu{place}", "elementwise", (y,), (x,), flops=y.elements))
    assert x is not None
    return Graph(tuple(operators), (operators[0].inputs[0],), (x.name,))


@pytest.fixture(scope="module")
def chip() -> Chip:
    return load("t4")


def measured(seed: int, chip: Chip, *, listed: bool) -> Measured:
    graph = chain(seed)
    rows = Roofline().breakdown(graph, chip, "int8")
    total = sum(row.cost.latency_s for row in rows)
    return Measured(graph, total, {row.name: row.cost.latency_s for row in rows} if listed else None)


@pytest.fixture(scope="module", params=[True, False], ids=["operators known", "totals alone"])
def learned(request: pytest.FixtureRequest, chip: Chip) -> Learned:
    return learn((measured(seed, chip, listed=request.param) for seed in range(120)), chip="t4")


def test_it_finds_the_law_again(learned: Learned, chip: Chip) -> None:
    unseen = [measured(seed, chip, listed=False) for seed in range(1000, 1060)]
    found = learned.predict([row.graph for row in unseen])
    truth = np.array([row.latency_s for row in unseen])
    error = np.abs(found.latency_s / truth - 1)
    assert np.median(error) < 0.03
    assert np.corrcoef(np.argsort(np.argsort(truth)), np.argsort(np.argsort(found.latency_s)))[0, 1] > 0.98
    assert (found.low_s <= found.latency_s).all()
    assert (found.latency_s <= found.high_s).all()
    # An interval that holds for nine of ten holds for at least seven of ten here, but for one chance in 10^5.
    assert ((truth >= found.low_s) & (truth <= found.high_s)).mean() > 0.7


def test_it_is_an_estimator_of_what_it_was_learned_on(learned: Learned, chip: Chip) -> None:
    graph = chain(7)
    assert isinstance(learned, Estimator)
    rows = learned.breakdown(graph, chip, "int8")
    whole = learned.estimate(graph, chip, "int8")
    assert [row.name for row in rows] == [operator.name for operator in graph.operators]
    assert sum(row.cost.latency_s for row in rows) == pytest.approx(whole.latency_s, rel=1e-9)
    assert whole.latency_s == pytest.approx(float(learned.predict([graph]).latency_s[0]), rel=1e-9)
    assert whole.macs == graph.macs
    with pytest.raises(ArgumentError, match="learned on t4 in int8 and says nothing of t4 in fp16"):
        learned.estimate(graph, chip, "fp16")


class TestLearned(EstimatorChecks):
    """More work takes no less time for what it was learned on: chains that widen."""

    @pytest.fixture(autouse=True)
    def _learned(self, learned: Learned) -> None:
        self.learned = learned

    def estimator(self) -> Estimator:
        return self.learned

    def chip(self) -> Chip:
        return load("t4")

    def dtypes(self) -> tuple[str, ...]:
        return ("int8",)


def test_it_says_the_same_after_it_was_stored(learned: Learned, tmp_path: Path) -> None:
    learned.save(tmp_path / "t4.json")
    graphs = [chain(seed) for seed in range(5)]
    again = Learned.load(tmp_path / "t4.json").predict(graphs)
    assert np.array_equal(again.latency_s, learned.predict(graphs).latency_s)
    assert np.array_equal(again.high_s, learned.predict(graphs).high_s)
    assert [path.name for path in tmp_path.iterdir()] == ["t4.json"]


def test_learning_twice_is_learning_the_same(chip: Chip) -> None:
    samples = [measured(seed, chip, listed=True) for seed in range(30)]
    first, second = (learn(samples, chip="t4").predict([chain(99)]).latency_s for _ in range(2))
    assert first == second


def test_what_cannot_be_learned_from_is_refused(chip: Chip, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="needs at least 20 networks, got 3"):
        learn([measured(seed, chip, listed=True) for seed in range(3)], chip="t4")
    with pytest.raises(ArgumentError, match="finite and above zero, got 0.0"):
        learn([Measured(example_graph(), 0.0)] * 20, chip="t4")
    (tmp_path / "bad.json").write_text('{"schema": 9}')
    with pytest.raises(DataError, match="must have schema 1, got 9"):
        Learned.load(tmp_path / "bad.json")
    with pytest.raises(DataError, match=r"none.json: a learned estimator cannot be read"):
        Learned.load(tmp_path / "none.json")


@pytest.mark.parametrize(("probability", "count", "held"), [(0.9, 24, 9), (0.9, 100, 15), (0.95, 40, 19), (0.5, 24, 4)])
def test_as_many_networks_are_held_out_as_the_interval_needs(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, probability: float, count: int, held: int
) -> None:
    # The greatest of n errors is not exceeded by the next with a probability of n / (n + 1): 9 / 10 and 19 / 20.
    seen: list[int] = []

    def counted(samples: Sequence[Measured], *rest: str) -> Learned:
        seen.append(len(samples))
        return fit(samples[:4], *rest)

    fit = learning._fit
    monkeypatch.setattr(learning, "_fit", counted)
    learn([measured(seed, chip, listed=False) for seed in range(count)], chip="t4", probability=probability)
    assert seen == [count - held, count]


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.5, 90.0, float("nan")])
def test_an_interval_that_no_share_describes_is_refused(chip: Chip, probability: float) -> None:
    with pytest.raises(ArgumentError, match="probability must lie between 0 and 1, got"):
        learn([measured(0, chip, listed=True)] * 20, chip="t4", probability=probability)


def test_too_few_networks_for_a_wide_interval_are_refused(chip: Chip) -> None:
    with pytest.raises(ArgumentError, match=r"probability 0.99 needs at least 198 networks, got 30"):
        learn([measured(0, chip, listed=True)] * 30, chip="t4", probability=0.99)


def test_damaged_trees_are_refused(learned: Learned, tmp_path: Path) -> None:
    learned.save(tmp_path / "t4.json")
    content = json.loads((tmp_path / "t4.json").read_text())
    whole = content["trees"]
    for trees in ("", "end of trees", whole[: len(whole) // 2]):
        (tmp_path / "bad.json").write_text(json.dumps({**content, "trees": trees}))
        with pytest.raises(DataError, match=r"bad.json: a learned estimator cannot be read"):
            Learned.load(tmp_path / "bad.json")


def test_nothing_asked_is_nothing_said(learned: Learned) -> None:
    assert learned.predict([]).latency_s.shape == (0,)
