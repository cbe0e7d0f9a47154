# SPDX-License-Identifier: Apache-2.0
"""Shared weights on a regression whose best width is known, with a latency term and a limit."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sirdar.errors import ArgumentError
from sirdar.search.hybrid import Hybrid, ZeroShot
from sirdar.search.multishot import Strategy, View
from sirdar.search.objectives import Objective, Objectives
from sirdar.search.pricing import Priced
from sirdar.search.scores import SCORES
from sirdar.search.sharing import Shared, WeightBank, recalibrate
from sirdar.search.singleshot import SingleShot, Supernet, _distance
from sirdar.search.space import Candidate, Choice, SearchSpace
from sirdar.search.strategies import MAKERS, named
from sirdar.search.study import Options, search
from sirdar.search.surrogate import GaussianProcess, expected_improvement
from sirdar.search.task import Report, Trial
from sirdar.units import Cost
from sirdar.workload.graph import Graph

SPACE = SearchSpace(
    "perceptrons", (Choice("width", (2, 4, 8, 16)), Choice("kind", ("relu", "tanh")), Choice("depth", (1, 2)))
)


class Perceptron(nn.Module):
    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        width = int(candidate["width"])
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.more = nn.ModuleList(nn.Linear(width, width) for _ in range(int(candidate["depth"]) - 1))
        self.last = nn.Linear(width, 1)
        self.act = nn.ReLU() if candidate["kind"] == "relu" else nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(x)))
        for layer in self.more:
            x = self.act(layer(x))
        return self.last(x)


class Regression:
    """|x| summed: rectifiers can, and wider ones better."""

    metric, higher_is_better = "quality", True

    def network(self, candidate: Candidate) -> nn.Module:
        return Perceptron(candidate)

    def example(self, candidate: Candidate, batch: int, seed: int) -> Tensor:
        del candidate
        return torch.randn(batch, 4, generator=torch.Generator().manual_seed(seed))

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(64, 4, generator=generator)
            yield x, x.abs().sum(dim=1, keepdim=True)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, targets)

    def score(self, network: nn.Module) -> float:
        x = torch.randn(256, 4, generator=torch.Generator().manual_seed(99))
        return -float(functional.mse_loss(network(x), x.abs().sum(dim=1, keepdim=True)))

    def graph(self, candidate: Candidate) -> Graph:
        raise NotImplementedError

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        del seed, report
        return {"quality": float(candidate["width"]) + (candidate["kind"] == "relu")}  # type: ignore[arg-type]


def cost(candidate: Candidate) -> Cost:
    return Cost(latency_s=float(candidate["width"]) * 1e-3)


def view(limit: float = 1.0, seed: int = 0) -> View:
    def feasible(candidate: Candidate) -> bool:
        return cost(candidate).latency_s <= limit

    wanted = Objectives((Objective("quality", "maximise"),), (("latency_s", limit),))
    return View(SPACE, wanted, (), feasible, seed, SPACE.smallest())


def test_smaller_networks_use_the_leading_part_of_the_largest() -> None:
    task, bank = Regression(), WeightBank()
    assert isinstance(task, Shared)
    wide = SPACE.candidate({"width": 16, "kind": "relu", "depth": 1})
    narrow = SPACE.candidate({"width": 4, "kind": "tanh", "depth": 1})
    first = bank.lend(bank.network(task, narrow))
    whole = bank.lend(bank.network(task, wide))
    again = bank.lend(bank.network(task, narrow))
    assert torch.equal(first["first.weight"], again["first.weight"])  # growing keeps what was there
    assert torch.equal(whole["first.weight"][:4], again["first.weight"])
    again["first.weight"].sum().backward()
    gradient = bank.weights["first.weight", 2].grad
    assert gradient is not None
    assert gradient[:4].eq(1).all()
    assert gradient[4:].eq(0).all()


def test_kernels_share_their_centre() -> None:
    class Convolutions(Regression):
        def network(self, candidate: Candidate) -> nn.Module:
            return nn.Conv2d(2, 2, int(candidate["kernel"]))

    space = SearchSpace("kernels", (Choice("kernel", (3, 5)),))
    bank, task = WeightBank(), Convolutions()
    large = bank.lend(bank.network(task, space.largest()))["weight"]  # type: ignore[arg-type]
    small = bank.lend(bank.network(task, space.smallest()))["weight"]  # type: ignore[arg-type]
    assert torch.equal(large[:, :, 1:4, 1:4], small)


def test_batch_norms_are_measured_anew() -> None:
    task = Regression()
    network = task.network(SPACE.largest())
    recalibrate(network, task, batches=32)
    assert isinstance(network, Perceptron)
    x = torch.cat([batch for batch, _ in (next(task.batches(0)) for _ in range(1))])
    assert not network.training
    expected = network.first(x).detach().mean(dim=0)
    assert network.norm.running_mean is not None
    assert torch.allclose(network.norm.running_mean, expected, atol=0.25)
    assert network.norm.momentum == pytest.approx(0.1)


def test_shared_weights_learn_and_rank_the_wide_rectifiers_first() -> None:
    shot = SingleShot(Regression(), Supernet(steps=250, rate=0.02), pool=24)
    seen = view()
    scores = shot.scores(seen, [SPACE.candidate({"width": w, "kind": "relu", "depth": 1}) for w in (2, 16)])
    assert scores[1] > scores[0]
    assert scores[1] > -2.0  # a mean would leave 1.45, what is untrained about 11
    assert shot.propose(seen)["width"] in (8, 16)


def test_the_limit_holds_and_the_latency_term_pulls_to_its_target() -> None:
    limited = SingleShot(Regression(), Supernet(steps=30), pool=16)
    assert limited.propose(view(0.004))["width"] in (2, 4)
    term = Supernet(steps=160, rate=0.02, latency_weight=20.0, target_s=0.004, policy_rate=0.3)
    _, policy = SingleShot(Regression(), term, priced=Priced(cost)).train(view())
    assert SPACE["width"].options[int(policy.logits["width"].argmax())] == 4


class Told(nn.Module):
    """Answers with a loss that is known."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss, self.weight = loss, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.loss + 0 * self.weight * x


class Telling(Regression):
    def network(self, candidate: Candidate) -> nn.Module:
        wrong = [candidate[name] != option for name, option in (("width", 16), ("kind", "relu"), ("depth", 1))]
        return Told(float(np.dot(wrong, [2.0, 0.3, 0.3])))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        del targets
        return outputs.mean()


def test_the_distribution_learns_each_choice_though_the_smallest_is_bad_for_one() -> None:
    # The smallest, which trains in every step, is right in kind and depth and wrong in width.
    for seed in range(3):
        _, policy = SingleShot(Telling(), Supernet(steps=200, policy_rate=0.2)).train(view(seed=seed))
        likeliest = {name: SPACE[name].options[int(row.argmax())] for name, row in policy.logits.items()}
        assert likeliest == {"width": 16, "kind": "relu", "depth": 1}


def test_shared_weights_follow_the_seed_where_a_network_drops_out() -> None:
    class Dropping(Regression):
        def network(self, candidate: Candidate) -> nn.Module:
            return nn.Sequential(nn.Dropout(0.5), super().network(candidate), nn.Dropout(0.5))

    found = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        found.append(SingleShot(Dropping(), Supernet(steps=3)).scores(view(), [SPACE.smallest(), SPACE.largest()]))
    assert found[0].tolist() == found[1].tolist()


def test_a_latency_term_needs_costs_and_a_target() -> None:
    with pytest.raises(ArgumentError, match="give priced"):
        SingleShot(Regression(), Supernet(latency_weight=1.0, target_s=1.0))
    with pytest.raises(ArgumentError, match="target_s > 0, got 1.0 and 0.0"):
        Supernet(latency_weight=1.0)


@pytest.mark.parametrize("name", ["zero-shot", "single-shot", "hybrid"])
def test_by_name_within_a_limit(name: str) -> None:
    options = Options(cost=cost)
    study = search(SPACE, Regression(), limits={"latency_s": 0.008}, strategy=name, trials=8, options=options)
    assert all(trial.measures["latency_s"] <= 0.008 for trial in study.trials)
    assert study.best.measures["quality"] == 9.0
    assert len(study.trials) == 8


def widest_first(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    return [dict.fromkeys(SCORES, float(candidate["width"])) for candidate in candidates]


@pytest.mark.parametrize(
    "made",
    [
        lambda: SingleShot(Regression(), Supernet(steps=2)),
        lambda: ZeroShot(widest_first),
        lambda: Hybrid(widest_first, start=2),
    ],
)
def test_a_strategy_that_served_one_search_proposes_for_another_what_a_fresh_one_does(
    made: Callable[[], Strategy],
) -> None:
    used = made()
    for limit in (0.016, 0.004):
        first, fresh = (
            search(SPACE, Regression(), limits={"latency_s": limit}, strategy=one, trials=3, options=Options(cost=cost))
            for one in (used, made())
        )
        assert first.trials[0].candidate == fresh.trials[0].candidate
        assert all(trial.usable for trial in first.trials)


def test_a_task_without_networks_is_refused() -> None:
    class Plain:
        metric, higher_is_better = "quality", True
        graph, evaluate = Regression().graph, Regression().evaluate

    for name in ("zero-shot", "single-shot", "hybrid"):
        with pytest.raises(ArgumentError, match="Plain lacks one"):
            named(name, SPACE, Plain(), 8, 0)
    assert set(MAKERS) >= {"random", "evolution", "nsga-ii", "tpe", "reinforce"}


def test_the_hybrid_spreads_and_then_follows_the_process() -> None:
    space = SearchSpace("grid", tuple(Choice(f"x{n}", tuple(range(8))) for n in range(3)))

    def scoring(candidates: list[Candidate]) -> list[dict[str, float]]:
        return [dict.fromkeys(SCORES, float(candidate["x0"])) for candidate in candidates]  # type: ignore[arg-type]

    def quality(candidate: Candidate) -> float:
        return -sum((float(v) - 5.0) ** 2 for _, v in candidate.values)  # type: ignore[arg-type]

    class Grid(Regression):
        def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
            del seed, report
            return {"quality": quality(candidate)}

    study = search(space, Grid(), strategy=Hybrid(scoring, pool=512, keep=300, start=8), trials=24)  # type: ignore[arg-type]
    assert study.best.measures["quality"] >= -1.0
    told: list[str] = []
    options = Options(progress=lambda _, word: told.append(word))
    first = search(space, Grid(), strategy=ZeroShot(scoring, pool=512), trials=3, options=options)  # type: ignore[arg-type]
    assert all(trial.candidate["x0"] == 7 for trial in first.trials)
    assert told[1:3] == [f"{done} of 512 untrained networks scored" for done in (0, 25)]


def test_a_candidate_whose_shared_weights_give_no_number_is_believed_to_be_the_worst() -> None:
    def ranking(_: View, candidates: Sequence[Candidate]) -> np.ndarray:
        return np.array([np.nan if candidate["width"] == 16 else 1.0 for candidate in candidates])

    hybrid = Hybrid(lambda rows: [dict.fromkeys(SCORES, 1.0)] * len(rows), ranking, start=2)
    study = search(SPACE, Regression(), strategy=hybrid, trials=5, options=Options(cost=cost))
    assert all(trial.usable for trial in study.trials)
    assert study.trials[0].candidate["width"] != 16


def test_what_was_tried_twice_leaves_the_rest_of_a_hybrid_s_pool() -> None:
    hybrid = Hybrid(widest_first, keep=4, start=1)
    first = view()
    trials: list[Trial] = []
    for number in range(4):
        candidate = hybrid.propose(replace(first, trials=trials))
        assert candidate["width"] == 16
        assert candidate not in {trial.candidate for trial in trials}
        trials.append(Trial(number, candidate, {"quality": 1.0}))
        if number < 2:  # a person wishes for it again
            trials.append(replace(trials[-1], origin="enqueued"))
    assert hybrid.propose(replace(first, trials=trials))["width"] != 16


def test_a_hybrid_that_goes_on_proposes_what_one_that_never_stopped_does() -> None:
    # After 40 trainings the process's shape is that of the first tens; 57 and 60 lie within and at the end of one.
    space = SearchSpace("grid", tuple(Choice(f"x{n}", tuple(range(5))) for n in range(3)))
    wanted = Objectives((Objective("quality", "maximise"),))

    def fresh() -> Hybrid:
        score = dict.fromkeys(SCORES, 1.0)
        return Hybrid(lambda candidates: [score] * len(candidates), pool=125, keep=125, start=8)

    whole, trials, proposed = fresh(), [], {}
    for number in range(62):
        view = View(space, wanted, tuple(trials), lambda _: True, 0, space.sample(np.random.default_rng(0)))
        candidate = proposed[number] = whole.propose(view)
        if number in {57, 60}:
            assert fresh().propose(view) == candidate
        quality = -sum((float(value) - 3.0) ** 2 for _, value in candidate.values)  # type: ignore[arg-type]
        trials.append(Trial(number, candidate, {"quality": quality}))
    assert len(set(proposed.values())) == 62
    shape = GaussianProcess(np.eye(3), np.zeros(3), np.arange(3.0), (1.0, 0.1, 0.0))
    assert shape.likely == (1.0, 0.1, 0.0)


@pytest.mark.parametrize(("pool", "kept"), [(500, 20), (1000, 20), (15625, 312)])
def test_the_hybrid_keeps_a_fiftieth_but_at_least_20(pool: int, kept: int) -> None:
    assert Hybrid(lambda _: [], pool=pool).keep == kept


def test_the_process_passes_through_what_it_knows() -> None:
    x = np.linspace(0, 1, 8)[:, None]
    y = np.sin(6 * x[:, 0])
    mean, deviation = GaussianProcess(x, np.zeros(8), y).predict(x, np.zeros(8))
    assert np.allclose(mean, y, atol=0.05)
    far = GaussianProcess(x, np.zeros(8), y).predict(np.array([[50.0]]), np.zeros(1))[1]
    assert far[0] > 3 * deviation.max()
    assert expected_improvement(np.array([1.0]), np.array([1.0]), 1.0)[0] == pytest.approx(1 / np.sqrt(2 * np.pi))


def test_no_weight_is_left_without_a_beginning() -> None:
    """Wide, then deep, then both: the corner that neither had comes from the one that has it."""
    bank = WeightBank()
    for shape in ((96, 16), (64, 32)):
        bank.lend(nn.Linear(shape[1], shape[0], bias=False))
    before = bank.weights["weight", 2].detach().clone()
    lent = bank.lend(nn.Linear(32, 96, bias=False))["weight"]
    assert lent[64:, 16:].ne(0).all()
    assert torch.equal(lent[:64], before[:64])
    assert torch.equal(lent[:, :16], before[:, :16])


def test_shared_weights_that_diverge_end_the_search_in_a_sentence() -> None:
    class Wild(Regression):
        def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
            return ((1e4 * x, 1e4 * y) for x, y in super().batches(seed))

    strategy = SingleShot(Wild(), Supernet(steps=60, rate=1.0))
    told = r"diverged in step \d+ even at a rate of 0.125; give a lower rate or distil=0: .*SingleShot\(task, Supernet"
    with pytest.warns(RuntimeWarning, match="diverged") as warned, pytest.raises(ArgumentError, match=told):
        strategy.propose(view())
    assert len(warned) == 3


def test_shared_weights_that_diverge_start_again_at_half_the_rate() -> None:
    wild, calm = (SingleShot(Regression(), Supernet(steps=20, rate=rate)) for rate in (0.5, 0.25))
    with pytest.warns(RuntimeWarning, match="diverged in step 10 at a rate of 0.5, and start again at half of it"):
        found = wild.scores(view(), [SPACE.largest()])
    assert found[0] == calm.scores(view(), [SPACE.largest()])[0]


def test_a_latency_term_takes_what_cannot_be_priced_and_refuses_costs_without_latency() -> None:
    def some(candidate: Candidate) -> Cost:
        if candidate["width"] == 8:
            msg = "unsupported width"
            raise ValueError(msg)
        return cost(candidate)

    term = Supernet(steps=20, latency_weight=1.0, target_s=0.004)
    unlimited = replace(view(), feasible=lambda _: True)
    assert SingleShot(Regression(), term, priced=Priced(some)).propose(unlimited) in SPACE
    with pytest.raises(ArgumentError, match="needs costs that tell latency_s, those of width=.* do not"):
        SingleShot(Regression(), term, priced=Priced(lambda _: Cost(latency_s=math.nan))).propose(unlimited)


class Classes(Regression):
    """Which of four inputs is the largest."""

    def network(self, candidate: Candidate) -> nn.Module:
        network = Perceptron(candidate)
        network.last = nn.Linear(int(candidate["width"]), 4)
        return network

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        return ((x, x.argmax(dim=1)) for x, _ in super().batches(seed))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def score(self, network: nn.Module) -> float:
        x = torch.randn(256, 4, generator=torch.Generator().manual_seed(99))
        return float((network(x).argmax(dim=1) == x.argmax(dim=1)).float().mean())


def test_classes_are_taught_by_probabilities_and_numbers_by_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, teacher, numbers = torch.randn(3, 5, 3, generator=generator) * torch.tensor([1, 0.5, 3])[:, None, None]
    soft = -(teacher.softmax(1) * outputs.log_softmax(1)).sum(dim=1).mean()
    assert torch.allclose(_distance(outputs, teacher, torch.tensor([0, 1, 2, 0, 1])), soft)
    assert torch.equal(_distance(outputs, teacher, numbers), functional.mse_loss(outputs, teacher))
    counts = _distance(outputs[:, :1], teacher[:, :1], torch.tensor([0, 1, 2, 0, 1]))  # no classes: one number each
    assert torch.equal(counts, functional.mse_loss(outputs[:, :1], teacher[:, :1]))
    runaway = _distance(1e6 * outputs, 1e9 * teacher, numbers)  # as logits of what is labelled by floats may
    assert runaway < 100


@pytest.mark.parametrize("seed", [0, 1])
def test_a_supernet_of_classes_ranks_the_wide_first(seed: int) -> None:
    candidates = [SPACE.candidate({"width": width, "kind": "relu", "depth": 1}) for width in (2, 4, 8, 16)]
    scores = SingleShot(Classes(), Supernet(steps=60, rate=0.2)).scores(view(seed=seed), candidates).tolist()
    assert scores == sorted(scores)
    assert scores[-1] > 0.88  # with the squared distance of logits 0.83 and 0.86


def test_weights_that_explode_while_losses_stay_finite_are_told() -> None:
    class Endless(Regression):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            del targets
            return -1e10 * outputs.mean()

    told = r"the shared weights diverged, up to .* in size, even at a rate of 0.00625"
    with pytest.warns(RuntimeWarning, match="start again"), pytest.raises(ArgumentError, match=told):
        SingleShot(Endless(), Supernet(steps=1)).scores(view(), [SPACE.largest()])


def test_equal_scores_of_all_are_told() -> None:
    class Blind(Regression):
        def score(self, network: nn.Module) -> float:
            del network
            return 0.25

    with pytest.warns(RuntimeWarning, match="tell nothing of 16 candidates, which all score 0.25; give another rate"):
        SingleShot(Blind(), Supernet(steps=2)).scores(view(), list(SPACE))


@pytest.mark.parametrize("trials", [30, 50])
def test_the_hybrid_by_name_uses_its_process_to_the_end(trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    promised: list[int] = []

    def promise(_: Hybrid, _view: View, known: Any, rows: np.ndarray, _judged: Sequence[Trial]) -> np.ndarray:  # noqa: ANN401
        promised.append(len(rows))
        return np.zeros(len(known.candidates))

    monkeypatch.setattr(Hybrid, "_promise", promise)
    monkeypatch.setattr("sirdar.search.strategies._scoring", lambda *_: widest_first)
    space = SearchSpace("wide", (Choice("width", tuple(range(1, 101))), Choice("depth", (1, 2))))
    view_of = partial(View, space, view().objectives, feasible=lambda _: True, seed=0, fallback=space.smallest())
    strategy, past = named("hybrid", space, Unshared(), trials, 0), list[Trial]()
    for number in range(trials):
        candidate = strategy.propose(view_of(trials=tuple(past)))
        past.append(Trial(number, candidate, {"quality": 1.0}))
    assert promised == list(range(trials * 2 // 3, trials))


class Unshared:
    metric, higher_is_better = "quality", True
    graph, evaluate = Regression().graph, Regression().evaluate


def test_a_hybrid_goes_on_down_its_scores() -> None:
    strategy, past = Hybrid(widest_first, keep=4, start=4), list[Trial]()
    for number in range(SPACE.size):
        candidate = strategy.propose(replace(view(), trials=tuple(past)))
        past.append(Trial(number, candidate, {"quality": 1.0}))
    assert [int(trial.candidate["width"]) for trial in past] == [16] * 4 + [8] * 4 + [4] * 4 + [2] * 4
