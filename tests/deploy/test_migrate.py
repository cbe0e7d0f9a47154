# SPDX-License-Identifier: Apache-2.0
"""The whole answer: what it holds, what it refuses, and that nothing ends in a traceback."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.chips import Tiled, load
from sirdar.chips import names as chip_names
from sirdar.deploy.artefacts import write_all
from sirdar.deploy.compiled import Vela
from sirdar.deploy.emulation import Formats
from sirdar.deploy.migrate import migrate
from sirdar.errors import ArgumentError
from sirdar.workload.trace import trace


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(), nn.Linear(32, 8))


X = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("chip", [*chip_names(), "ethos-u55-128", "ethos-u65-512", "ethos-u85-256"])
def test_a_plain_network_goes_everywhere(chip: str) -> None:
    made = migrate(perceptron(), X, chip=chip, tolerance=0.05)
    assert made.runs, made.changes
    assert not made.notes
    assert made.plan is not None
    assert made.plan.met
    assert made.fit is not None
    assert made.fit.cores == 1
    eight = any(layer.format.startswith(("e4m3", "e5m2", "e3m4")) for layer in made.plan.layers)
    assert len(made.prices) == 3 + eight  # casts do not carry 8-bit floats, and the program with casts has its own row
    assert all(row.latency_s > 0 and row.energy_low_j <= row.energy_j <= row.energy_high_j for row in made.prices)
    json.dumps(made.to_dict())


def test_a_network_is_left_as_it_was() -> None:
    module = perceptron().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    migrate(module, X, chip="trainium1")
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_the_same_question_has_the_same_answer() -> None:
    one, two = (migrate(perceptron(), X, chip="inferentia1").to_dict() for _ in range(2))
    assert one == two


def test_training_mode_is_noted_and_mended() -> None:
    made = migrate(perceptron().train(), X, chip="trainium1")
    (note,) = [row for row in made.findings if row.rule == "in-training"]
    assert note.rewritten
    assert made.runs
    assert not [row for row in migrate(perceptron().eval(), X, chip="trainium1").findings if row.rule == "in-training"]


def test_inferentia_1_casts_by_itself() -> None:
    made = migrate(perceptron().eval(), X, chip="inferentia1")
    assert [row.rule for row in made.findings] == ["fp32-cast"]
    assert made.reference is not None
    assert made.reference.formats == Formats(default="bf16", storage="bf16")  # as the rule says, and not fp16
    assert 0 < made.reference.error < 0.02


def test_the_price_of_today_is_that_of_the_network_before_it_is_rewritten() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).eval()
    x = torch.zeros(1, 3, 32, 32)
    made = migrate(module, x, chip="trainium1")
    assert [row.name for row in made.rewrites] == ["fold-batch-norm"]
    estimate = Tiled().estimate(trace(module, x), load("this-cpu"), "fp32")
    assert made.prices[0].latency_s == pytest.approx(estimate.latency_s)


def test_the_price_is_that_of_an_estimate() -> None:
    module = perceptron().eval()
    made = migrate(module, X, chip="trainium1")
    estimate = Tiled().estimate(trace(module, (X,)), load("trainium1"), "fp32")
    assert made.prices[1].latency_s == pytest.approx(estimate.latency_s)


def test_the_price_on_an_ethos_u_is_that_of_its_compiler() -> None:
    pytest.importorskip("ethosu.vela")
    made = migrate(perceptron(), X, chip="ethos-u85-256", tolerance=0.05)
    assert made.int8 is not None
    assert made.int8.file is not None
    cost = Vela().estimate(made.int8.file, made.chip)
    assert [row.compiled for row in made.prices] == [False, True, True]
    assert {(row.latency_s, row.energy_j) for row in made.prices[1:]} == {(cost.latency_s, cost.energy_j)}


def test_the_file_decides_whether_the_tolerance_is_met() -> None:
    """The emulation knows nothing of the scales of a file."""
    pytest.importorskip("ai_edge_litert")
    made = migrate(perceptron(), X, chip="ethos-u85-256", tolerance=0.05)
    assert made.plan is not None
    assert made.int8 is not None
    assert made.plan.file_error == made.int8.error
    assert made.plan.judged == made.int8.error != made.plan.error
    strict = replace(made.plan, tolerance=(made.plan.error + made.plan.judged) / 2)
    assert strict.met == (made.plan.judged < made.plan.error)


def test_a_file_that_ends_its_runtime_is_refused_and_ends_nobody_else() -> None:
    """A scale of 1e36 makes LiteRT 2.3 abort the process that it is in."""
    pytest.importorskip("ai_edge_litert")

    class Sunk(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + torch.full((16,), torch.finfo(torch.float32).min))

    made = migrate(Sunk(), X, chip="ethos-u85-256")
    assert made.int8 is not None
    assert made.int8.file is None
    assert made.int8.reason == "LiteRT cannot run the int8 file: it ends by signal 6"
    assert not made.runs


def test_doubles_in_modules_of_torch_are_mended() -> None:
    """Where no line of the caller's is known, the cast back at the end is not taken for what was mended."""
    module = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2)).double().eval()
    assert migrate(module, X.double(), chip="trainium1").runs


@pytest.mark.parametrize("chip", ["h100", "ethos-u85-256"])
def test_a_step_in_doubles_has_a_plan(chip: str) -> None:
    class Precise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(16, 4).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.double())

    made = migrate(Precise(), X, chip=chip, tolerance=0.05)
    assert not made.notes
    assert made.plan is not None
    assert 0 < made.plan.error < 0.05


def test_states_and_switches_among_the_inputs_have_an_int8_file() -> None:
    pytest.importorskip("ai_edge_litert")

    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = nn.LSTMCell(8, 8)

        def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor], *, more: bool) -> torch.Tensor:
            hidden, memory = self.cell(x, state)
            return torch.cat([hidden, memory], 1) if more else hidden

    x, hidden, memory = X.reshape(-1, 8)[:3].unsqueeze(1)
    example = {"x": x, "state": (hidden.tanh(), memory), "more": True}
    made = migrate(Stateful(), example, chip="ethos-u85-256", tolerance=0.05)
    assert made.int8 is not None
    assert made.int8.error is not None, made.int8.reason
    assert made.int8.error < 0.05


def test_formats_that_the_chip_lacks_are_not_stored_in() -> None:
    made = migrate(perceptron().eval(), X, chip="t4", tolerance=0.02)
    assert made.plan is not None
    assert made.plan.formats.storage in {"fp16", "fp32"}


def test_a_moving_batch_gets_buckets() -> None:
    shapes = [(size, 16) for size in (1, 1, 2, 3, 8, 8, 8, 15, 16)]
    program = torch.export.export(perceptron().eval(), (X,), dynamic_shapes={"input": {0: torch.export.Dim.DYNAMIC}})
    made = migrate(program, (X,), chip="inferentia2", shapes=shapes, limit=3)
    assert made.runs
    assert made.buckets is not None
    assert len(made.buckets.shapes) == 3
    assert made.buckets.waste < made.buckets.single_waste
    (found,) = [row for row in made.findings if row.rule == "dynamic-input"]
    assert "3 buckets" in found.rewritten


def test_keyword_arguments_and_no_tensors() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, *, factor: float = 1.0, mask: torch.Tensor | None = None) -> dict:
            return {"y": x * factor if mask is None else x * mask}

    made = migrate(Scaled(), {"x": X, "factor": 2.0, "mask": None}, chip="trainium1")
    assert made.runs
    assert not made.notes


class Counting(nn.Module):
    """Changes its buffer and its input when it runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(16, 4)
        self.register_buffer("calls", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x.add_(1)
        return self.layer(x) + self.calls


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_network_that_changes_itself_is_compared_from_the_same_start(tmp_path: Path, *, rewritten: bool) -> None:
    module, x = Counting(), X.clone()
    if rewritten:
        module.layer = nn.Sequential(nn.Unflatten(1, (1, 16)), nn.Conv1d(1, 4, 16), nn.BatchNorm1d(4), nn.Flatten())
        module.eval()
    made = migrate(module, x, chip="trainium1", tolerance=0.05)
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert [row.name for row in made.rewrites] == ["fold-batch-norm"] * rewritten
    assert made.difference == pytest.approx(0, abs=1e-6)
    assert files["network.pt2"].difference == 0
    assert "changes what it stores" in files["network_planned.pt2"].problem
    assert torch.equal(module.calls, torch.zeros(4))
    assert torch.equal(x, X)


def test_a_network_that_draws_is_compared_on_the_same_draws(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    files = {row.name: row for row in write_all(migrate(Noisy(), X, chip="trainium1"), tmp_path)}
    assert files["network.pt2"].difference == 0


class Enlarged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(nn.functional.max_pool2d(self.conv(x), 2))
        return nn.functional.interpolate(y, size=(31, 31), mode="bilinear", align_corners=True)


def test_what_arms_compiler_leaves_to_the_host_is_named_and_nothing_else() -> None:
    """Vela takes factors that are powers of two alone; pooling (with indices) and layer norms run on the NPU."""
    pytest.importorskip("ethosu.vela")
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = migrate(Enlarged(), image, chip="ethos-u55-256", tolerance=0.2)
    assert made.runs
    (found,) = [row for row in made.findings if row.severity == "warning"]
    assert found.rule == "host-operator"
    assert "left to the host: " in found.detail
    assert found.location is not None
    assert "interpolate" in found.location.code
    assert made.notes[-1].startswith(
        "ethos-u55-256 is priced by its sheet: Vela leaves 1 operators to the host processor"
    )
    assert not any(row.compiled for row in made.prices)


def test_shapes_of_another_rank_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"shapes must have 2 sizes, as the first input has, got \(3,\)"):
        migrate(perceptron(), X, chip="t4", shapes=[(3,)])


def test_a_sparse_input_is_refused_by_its_line() -> None:
    class Sparse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sparse.mm(x, torch.ones(4, 2))

    made = migrate(Sparse(), torch.eye(4).to_sparse(), chip="trainium1")
    (found,) = made.blocking
    assert found.rule == "sparse"
    assert found.location is not None
    assert "torch.sparse.mm" in found.location.code


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"no {x.ndim} axes")


class Prints(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + float(x.sum().item())


class Empty(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Numpy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)


class Loops(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while x.norm() > 1:
            x = x / 2
        return x


@pytest.mark.parametrize("build", [Raises, Prints, Empty, Numpy, Loops])
def test_whatever_happens_there_is_an_answer(build: Callable[[], nn.Module]) -> None:
    made = migrate(build(), X, chip="trainium1")
    json.dumps(made.to_dict())
    assert made.runs == (build in (Prints, Empty)) or made.changes


def test_branches_are_checked_and_what_is_not_counted_is_said() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda x: x.double().cumsum(-1).float(), lambda x: x.relu(), (x,))

    made = migrate(Branches(), X, chip="trainium1")
    assert [row.rule for row in made.blocking] == ["strange-type"]
    assert made.blocking[0].location is not None
    assert "the work of cond (cond) is not counted" in made.notes


def test_a_loop_on_data_is_named_by_its_line() -> None:
    made = migrate(Loops(), X, chip="inferentia2")
    assert not made.runs
    assert made.blocking[0].location is not None
    assert made.blocking[0].location.code == "while x.norm() > 1:"


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1.0, float("nan")])
def test_a_tolerance_out_of_range_is_refused(tolerance: float) -> None:
    with pytest.raises(ArgumentError, match="tolerance"):
        migrate(perceptron(), X, chip="t4", tolerance=tolerance)


def test_an_unknown_chip_is_refused() -> None:
    with pytest.raises(ArgumentError, match="trainium1"):
        migrate(perceptron(), X, chip="trainum1")
    with pytest.raises(ArgumentError, match=r"is a TOML file, whose name ends in .toml, got 'mine.json'"):
        migrate(perceptron(), X, chip="mine.json")
