# SPDX-License-Identifier: Apache-2.0
"""The forecaster's search on a panel of a few series; costs by the roofline, trainings of one step."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from sirdar.errors import ArgumentError, DataError
from sirdar.forecasting.experts import EXPERTS
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.recipes import advise, migrate
from sirdar.recipes import forecaster as recipe
from sirdar.recipes.demand import Demand
from sirdar.recipes.forecaster import ForecasterTask, ShapedMQCNN, baseline, deliver_winner, pricing, shaped, wql
from sirdar.recipes.plan import compare_chips, example_network
from sirdar.search.space import Candidate
from sirdar.search.spaces import mqcnn
from sirdar.search.study import Options, search
from sirdar.testing.forecasters import example_panel
from sirdar.testing.search import check_task
from sirdar.units import Cost

SPACE = mqcnn((4, 8, 32), depths=(2, 3, 4, 5, 6), decoders=(8, 16, 32))


@pytest.fixture(scope="module")
def task() -> ForecasterTask:
    return ForecasterTask(example_panel(), 2, steps=1, batch=4)


def test_the_baseline_is_mqcnn(task: ForecasterTask) -> None:
    panel = example_panel()
    plain = MQCNN(2, steps=2, seed=3).fit(panel)
    same = ShapedMQCNN(2, steps=2, seed=3).fit(panel)
    assert np.array_equal(plain.predict(panel).values, same.predict(panel).values)
    start = baseline(SPACE, task.length)
    assert start["decoder.width"] == 32


def test_the_task_keeps_its_promises(task: ForecasterTask) -> None:
    check_task(task, SPACE)


def test_it_is_judged_by_the_last_steps_and_by_none_after_them(task: ForecasterTask) -> None:
    panel = example_panel()
    actual = task.past.actuals(2)
    ends = panel.indptr[:-1] + panel.history  # what lies beyond is the panel's own future
    last = np.stack([panel.target[ends - 2], panel.target[ends - 1]], axis=1)
    seen = np.stack([panel.observed[ends - 2], panel.observed[ends - 1]], axis=1) & np.isfinite(actual)
    assert seen.any()
    assert np.array_equal(actual[seen], last[seen])
    with pytest.raises(DataError, match="has any demand"):
        wql(ShapedMQCNN(2, steps=1, width=4, depth=2).fit(panel), panel, np.full((len(panel), 2), np.nan))


def test_the_core_computes_what_the_network_does(task: ForecasterTask) -> None:
    forecaster = shaped(SPACE.candidate({"encoder.width": 8, "encoder.depth": 2, "decoder.width": 16}), 2)
    core, example = task.core(forecaster, batch=3)
    assert core(*example).shape == (3, 2, len(forecaster.levels) + EXPERTS)


def test_the_usual_limit_can_be_kept() -> None:
    assert recipe.usual_limit(9e-4, 3e-4) == pytest.approx(6e-4)
    assert recipe.usual_limit(5e-4, 4e-4) == pytest.approx(4.5e-4)  # two thirds would be faster than any network is
    assert recipe.usual_limit(4e-4, 5e-4) == 5e-4


def test_narrow_networks_cost_less_and_a_search_keeps_below_its_limit(task: ForecasterTask) -> None:
    cost = pricing(task, "trainium1")
    small, large = cost(SPACE.smallest()), cost(SPACE.largest())
    assert small.latency_s < large.latency_s
    assert small.macs < large.macs
    limit = (small.latency_s + large.latency_s) / 2
    study = search(SPACE, task, limits={"latency_s": limit}, trials=2, options=Options(cost=cost))
    assert all(trial.measures["latency_s"] <= limit for trial in study.trials)
    assert np.isfinite(study.best.measures["wql"])


def test_this_processor_is_measured(task: ForecasterTask) -> None:
    torch.manual_seed(0)
    cost = pricing(task, "this-cpu")(SPACE.smallest())
    assert cost.latency_s > 0
    assert cost.parameter_bytes > 0
    for name in ("energy_j", "peak_bytes", "memory_bytes", "macs"):
        with pytest.raises(ArgumentError, match=f"limit {name} <= .* tell only latency_s, parameter_bytes"):
            search(SPACE, task, limits={name: 1e-9}, options=Options(cost=lambda _candidate: cost))


def test_this_processor_is_not_curated_for() -> None:
    with pytest.raises(ArgumentError, match="this-cpu is timed and never twice the same"):
        recipe.search_product(Demand(), "this-cpu", options=Options(curate=True))


def test_a_panel_without_covariates_is_priced_by_the_compiler(task: ForecasterTask, tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    small, large = (pricing(task, "ethos-u85-512")(candidate) for candidate in (SPACE.smallest(), SPACE.largest()))
    assert 0 < small.latency_s < large.latency_s
    sheet = tmp_path / "mine.toml"
    sheet.write_bytes((files("sirdar.chips") / "catalogue" / "npu" / "ethos-u85-512.toml").read_bytes())
    assert pricing(task, str(sheet))(SPACE.smallest()) == small


def test_wql_is_the_loss_over_the_demand() -> None:
    panel = example_panel()
    forecaster = ShapedMQCNN(2, steps=1, width=8, depth=2).fit(panel)
    forecast = forecaster.predict(panel)
    actual = np.full((len(panel), 2), 7.0)
    actual[0, 0] = np.nan
    levels, total, demand = np.array(forecast.levels), 0.0, 0.0
    for series in range(len(panel)):
        for step in range(2):
            if np.isfinite(actual[series, step]):
                gap = actual[series, step] - forecast.values[series, step]
                total += float(np.where(gap > 0, levels * gap, (levels - 1) * gap).mean())
                demand += 7.0
    assert wql(forecaster, panel, actual) == pytest.approx(2 * total / demand, rel=1e-5)


def test_a_shaped_forecaster_is_saved_and_read(tmp_path: Path) -> None:
    panel = example_panel()
    forecaster = ShapedMQCNN(2, steps=1, width=8, depth=2, decoder=16).fit(panel)
    forecaster.save(tmp_path / "model")
    read = ShapedMQCNN.load(tmp_path / "model")
    assert np.array_equal(read.predict(panel).values, forecaster.predict(panel).values)


def test_a_winner_is_trained_on_all_history_and_read_by_all_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The export itself is tested with the forecasters.
    monkeypatch.setattr(ShapedMQCNN, "export_onnx", lambda _self, path: path.write_bytes(b"onnx"))
    monkeypatch.setattr("sirdar.forecasting.neural._STEPS", 20)
    panel = example_panel()
    monkeypatch.setattr(Panel, "read", lambda *_rest, **_roles: panel)
    wish = mqcnn().candidate({"encoder.width": 8, "encoder.depth": 2, "decoder.width": 16})
    study = search(mqcnn(), Free(), trials=1, options=Options(enqueue=(wish,)))

    def delivered(name: str) -> ShapedMQCNN:
        (tmp_path / name).mkdir()
        deliver_winner(Demand(), study, tmp_path / name, 3, tmp_path / "unfinished")
        return ShapedMQCNN.load(tmp_path / name / "model")

    calls: list[int] = []
    loss = ShapedMQCNN._loss

    def dies(self: ShapedMQCNN, *arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return loss(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(ShapedMQCNN, "_loss", dies)
        with pytest.raises(KeyboardInterrupt):
            delivered("killed")
    assert list((tmp_path / "unfinished").iterdir())
    resumed = delivered("resumed")
    anew = shaped(wish, Demand().horizon, steps=20, seed=3).fit(panel)
    assert np.array_equal(resumed.predict(panel).values, anew.predict(panel).values)
    assert not list((tmp_path / "unfinished").iterdir())
    folder = tmp_path / "resumed" / "model"
    assert (tmp_path / "resumed" / "model.onnx").exists()
    assert len(compare_chips(example_network(folder), chips=("t4",), volume=10, batch=2).to_rows()) == 1
    assert migrate.open_model(str(folder))[1] is not None
    assert advise.network(str(folder), 2).operators


class Free:
    """A task in which any candidate will do."""

    metric, higher_is_better = "wql", False
    graph, length = ForecasterTask.graph, 64

    def evaluate(self, *_: object) -> dict[str, float]:
        return {"wql": 1.0}


def test_what_leaves_no_history_and_a_limit_far_below_all_networks_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = example_panel()
    longest = int(panel.history.max())
    with pytest.raises(ArgumentError, match=f"a horizon of {longest} steps leaves no history .* has {longest}"):
        ForecasterTask(panel, longest)
    asked: list[Candidate] = []

    def latency(candidate: Candidate) -> Cost:
        asked.append(candidate)
        return Cost(latency_s=1e-3)

    monkeypatch.setattr(recipe, "pricing", lambda *_: latency)
    monkeypatch.setattr(recipe, "ForecasterTask", lambda *_, **_named: Free())
    with pytest.raises(ArgumentError, match="no network keeps to latency_s <= 1e-12: the smallest, .*, takes 0.001"):
        recipe.search_product(Demand(), limits={"latency_s": 1e-12})
    assert asked == [mqcnn().smallest()]
