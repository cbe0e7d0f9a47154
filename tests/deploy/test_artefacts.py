# SPDX-License-Identifier: Apache-2.0
"""Files are run and compared before they are handed over, and the same command gives the same files."""

import ast
import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from sirdar.deploy import vendor
from sirdar.deploy.artefacts import write_all
from sirdar.deploy.migrate import Migration, migrate
from sirdar.deploy.opening import opened
from sirdar.errors import UnsupportedError


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


X = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def made() -> Migration:
    return migrate(Image().eval(), X, chip="trainium1")


def test_the_same_files_twice(made: Migration, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    first, second = write_all(made, one), write_all(migrate(Image().eval(), X, chip="trainium1"), two)
    assert [row.problem for row in first] == [""] * 5
    assert {row.name: row.sha256 for row in first} == {row.name: row.sha256 for row in second}
    lock = json.loads((one / "sirdar.lock.json").read_text())
    assert lock["files"]["network.pt2"]["sha256"] == first[0].sha256
    assert lock["versions"]["torch"] == torch.__version__


def test_the_program_opens_and_computes_the_same(made: Migration, tmp_path: Path) -> None:
    write_all(made, tmp_path)
    program = opened(tmp_path / "network.pt2")
    torch.testing.assert_close(program.module()(X), Image().eval()(X))
    traced = [node.meta.get("stack_trace", "") for node in program.graph.nodes if node.op == "call_function"]
    assert all("test_artefacts.py" in trace for trace in traced if trace)
    assert any(traced)


def test_an_onnx_file_as_exact_as_torch_is_kept_and_a_wrong_one_is_not(
    made: Migration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the fixed bound a file is compared in fp64, where it may be no further off than torch's own fp32."""
    from sirdar.deploy import artefacts

    run = artefacts.run_onnx
    monkeypatch.setattr(artefacts, "_ONNX_TOLERANCE", 0.0)
    monkeypatch.setattr(artefacts, "_AS_EXACT", 20.0)  # of two tiny errors either may be the larger
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert "from the network in fp64" in files["network.onnx"].check
    monkeypatch.setattr(artefacts, "run_onnx", lambda *given: [item * 1.001 for item in run(*given)])
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert "differs from the network by" in files["network.onnx"].problem


def test_onnx_files_of_halves_and_of_complex_outputs_are_compared_as_what_they_are(tmp_path: Path) -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(8, 8).half()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.half()).float()

    class Complex(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.view_as_complex(x.reshape(2, 4, 2) * 2)

    for module in (Halves(), Complex()):
        x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
        files = {row.name: row for row in write_all(migrate(module.eval(), x, chip="h100"), tmp_path)}
        assert not files["network.onnx"].problem
        assert files["network.onnx"].difference is not None


def test_no_script_compiles_a_program_that_is_not_there(tmp_path: Path) -> None:
    with torch.device("meta"):
        made = migrate(nn.Sequential(nn.Linear(8, 8)), torch.zeros(2, 8, device="meta"), chip="trainium1")
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert files["network.pt2"].problem
    assert files["compile.py"].problem == "there is no network.pt2 for it to compile"
    assert not (tmp_path / "compile.py").exists()


def test_a_broken_exporter_leaves_no_file(made: Migration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sirdar.deploy import artefacts

    def wrong(captured, path):  # noqa: ANN001, ANN202, ARG001
        path.write_text("half")
        raise KeyError("nothing")

    monkeypatch.setattr(artefacts, "_onnx_of", wrong)
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert "nothing" in files["network.onnx"].problem
    assert not (tmp_path / "network.onnx").exists()
    assert files["network.pt2"].sha256


def test_an_onnx_file_holds_the_tensors_of_an_answer(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, object]:
            return {"y": x * 2, "count": 3, "none": None}

    files = {row.name: row for row in write_all(migrate(Odd(), X, chip="trainium1"), tmp_path)}
    assert files["network.onnx"].problem == ""
    assert files["network.onnx"].difference == 0


def test_a_network_that_draws_is_told_why_it_has_no_onnx_file(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

    files = {row.name: row for row in write_all(migrate(Noisy(), X, chip="trainium1"), tmp_path)}
    assert "draws random numbers" in files["network.onnx"].problem


def test_a_network_that_keeps_a_state_has_no_onnx_file_that_would_forget_it(tmp_path: Path) -> None:
    class Streaming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last.copy_(self.last * 0.5 + x)
            return self.last * 2

    files = {row.name: row for row in write_all(migrate(Streaming(), torch.ones(2, 4), chip="h100"), tmp_path)}
    assert files["network.onnx"].problem.startswith("the network changes its own buffer 'last' as it runs")
    assert not (tmp_path / "network.onnx").exists()
    assert not files["network.pt2"].problem


def test_what_onnxruntime_refuses_in_core_operators_goes_as_it_was_written(tmp_path: Path) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            y[:, 0] = 0
            x += 1
            return y

    files = {row.name: row for row in write_all(migrate(Writing(), torch.rand(2, 4), chip="h100"), tmp_path)}
    assert not files["network.onnx"].problem
    assert "before it was reduced to core ATen operators" in files["network.onnx"].check
    assert files["network.onnx"].check.endswith("unlike the network it leaves x as given")


def test_flags_follow_the_plan(made: Migration) -> None:
    assert made.plan is not None
    flags = vendor.flags(made)
    assert "--target=trn1" in flags
    exact = migrate(Image().eval(), X, chip="trainium1", tolerance=1e-9)
    assert "--auto-cast=none" in vendor.flags(exact)
    assert "--auto-cast=none" in flags  # the planned program has its casts
    alone = vendor.flags(made, planned=False)
    assert any(flag.startswith("--auto-cast-type=") for flag in alone)


def test_the_first_inferentia_has_a_compiler_of_its_own(tmp_path: Path) -> None:
    made = migrate(Image().eval(), X, chip="inferentia1")
    write_all(made, tmp_path)
    text = (tmp_path / "compile.py").read_text()
    assert "torch.neuron.trace" in text
    assert "--target" not in text
    assert vendor.flags(made)[0] == "--fast-math"


def test_the_script_is_python_with_both_forms(made: Migration) -> None:
    text = vendor.script(made)
    names = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert {"trace", "native", "network"} <= names
    assert "torch_neuronx.trace" in text
    assert 'backend="neuron"' in text


def test_a_processor_needs_no_script() -> None:
    with pytest.raises(UnsupportedError, match="graviton3"):
        vendor.script(migrate(Image().eval(), X, chip="graviton3"))


class Pair(NamedTuple):
    first: torch.Tensor
    others: tuple[torch.Tensor, ...]


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, Pair]:
        return {"pair": Pair(self.layer(x), (x + 1,))}


def test_a_file_holds_named_tuples_as_plain_ones(tmp_path: Path) -> None:
    """torch.export.save refuses a class of the user's own."""
    files = {row.name: row for row in write_all(migrate(Named().eval(), torch.rand(2, 4), chip="trainium1"), tmp_path)}
    assert not files["network.pt2"].problem
    found = opened(tmp_path / "network.pt2").module()(torch.rand(2, 4))
    assert type(found["pair"]) is tuple
    assert type(found["pair"][1]) is tuple


@pytest.mark.slow
def test_an_int8_file_for_an_ethos_u(tmp_path: Path) -> None:
    files = {row.name: row for row in write_all(migrate(Image().eval(), X, chip="ethos-u85-256"), tmp_path)}
    assert not files["network.tflite"].problem
    assert files["network.tflite"].difference is not None
    assert files["network.tflite"].difference < 0.1
    assert not files["network_vela.tflite"].problem
    assert "cycles" in files["network_vela.tflite"].check


def test_an_int8_file_that_computes_something_else_is_no_file_and_the_network_does_not_run(tmp_path: Path) -> None:
    """A softmax over many classes lies beneath the smallest step that TFLite prescribes for it."""
    pytest.importorskip("ai_edge_litert")
    torch.manual_seed(0)
    made = migrate(nn.Sequential(nn.Linear(8, 2000), nn.Softmax(-1)), torch.randn(1, 8), chip="ethos-u85-256")
    assert made.int8 is not None
    assert made.int8.error is not None
    assert made.int8.error > 0.5
    (row,) = [row for row in made.findings if row.rule == "int8-error"]
    assert not made.runs
    assert "far beyond the tolerance of 0.01" in row.detail
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert "far beyond the tolerance of 0.01" in files["network.tflite"].problem
    assert not (tmp_path / "network.tflite").exists()


@pytest.mark.parametrize("chip", ["trainium1", "l4"])
def test_the_named_tuples_of_torch_are_saved_as_plain_ones(chip: str, tmp_path: Path) -> None:
    class Largest(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return x.max(1), [torch.topk(x, 2)]

    x = torch.randn(3, 9)
    files = {row.name: row for row in write_all(migrate(Largest(), x, chip=chip), tmp_path)}
    assert files["network.pt2"].problem == ""
    (values, places), [(most, _)] = opened(tmp_path / "network.pt2").module()(x)
    assert torch.equal(values, x.max(1).values)
    assert torch.equal(places, x.max(1).indices)
    assert torch.equal(most, torch.topk(x, 2).values)


def test_inputs_that_onnxruntime_cannot_be_given_are_named(tmp_path: Path) -> None:
    x = torch.randn(3, 4, dtype=torch.bfloat16)
    made = migrate(nn.Linear(4, 4, dtype=torch.bfloat16), x, chip="trainium1")
    files = {row.name: row for row in write_all(made, tmp_path)}
    assert "inputs of torch.bfloat16, which numpy" in files["network.onnx"].problem
    assert files["network.pt2"].problem == ""


class Answer(NamedTuple):
    mean: torch.Tensor
    heads: dict[str, torch.Tensor]


@pytest.mark.parametrize("kind", ["named tuple", "tuple", "one twice"])
def test_an_onnx_file_has_the_names_that_the_network_gives_its_outputs(kind: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    class Answers(nn.Module):
        def forward(self, x: torch.Tensor) -> Answer | tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
            y = x + 1
            if kind == "one twice":  # one tensor has one name
                return {"a": y, "b": y}
            return Answer(y, {"boxes": x * 2, "scores": x * 3}) if kind == "named tuple" else (y, x * 2)

    files = {row.name: row for row in write_all(migrate(Answers(), X, chip="trainium1"), tmp_path)}
    assert not files["network.onnx"].problem
    names = [row.name for row in onnx.load(tmp_path / "network.onnx").graph.output]
    wanted = ["mean", "heads.boxes", "heads.scores"]
    assert (names == wanted) if kind == "named tuple" else not set(names) & {"0", "1", "a", "b"}
