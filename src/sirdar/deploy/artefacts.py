# SPDX-License-Identifier: Apache-2.0
"""The files to take along, each run and compared with the network before it is handed over, and a lock file.

The lock file names the versions of everything that had a hand in them and the SHA-256 of every file, so that the same
command with the same versions is known to give the same files.
"""

import copy
import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from sirdar.deploy import vendor
from sirdar.deploy.capture import Captured, drawn_alike, evaluating, fresh, quiet, runnable
from sirdar.deploy.carrying import carried, changes_anything
from sirdar.deploy.emulation import relative_error
from sirdar.deploy.int8 import astray, inputs_of, outputs, worst_error
from sirdar.deploy.migrate import Migration
from sirdar.deploy.nodes import changed_buffer, draws, made_by
from sirdar.deploy.onnxrun import run_onnx
from sirdar.deploy.opening import opened
from sirdar.deploy.rewriting import gap_of
from sirdar.errors import UnsupportedError

_TOLERANCE = 1e-5  # of a program in fp32
_ONNX_TOLERANCE = 1e-4  # of onnxruntime, whose kernels add in another order
_AS_EXACT, _BEYOND_DOUBT = 2.0, 1e-2  # times torch's own distance from fp64, and where that no longer says anything
_VERSIONED = ("sirdar", "torch", "numpy", "onnx", "onnxruntime", "onnxscript", "ethos-u-vela", "ai-edge-litert")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # that exporters write for terminals
_NUMPY = (torch.float16, torch.float32, torch.float64)  # floats that numpy has
_SINGLE_FILE_BYTES = 1_900_000_000  # protobuf holds 2 GiB


@dataclass(frozen=True)
class Artefact:
    """A file that was written, or the reason why not.

    Args:
        name: of the file.
        kind: what it is, in a word or two.
        check: how it was compared with the network.
        bytes: its size; 0 where it was not written.
        sha256: of its content; empty where it was not written.
        difference: largest difference of an output, relative to its largest value; None where nothing was compared.
        problem: why it was not written, or should not be used; empty where all is well.
    """

    name: str
    kind: str
    check: str = ""
    bytes: int = 0
    sha256: str = ""
    difference: float | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def write_all(made: Migration, folder: Path) -> tuple[Artefact, ...]:
    """Write everything that a migration can offer into a folder; what fails is reported and leaves no file.

    A network that torch.export could not follow whole leaves a lock file only: the draft of it computes something else.

    Args:
        made: the migration.
        folder: where to; it exists.
    """
    if made.captured is None or made.captured.program is None or made.captured.failures:
        return (_lock(made, folder, ()),)
    jobs: list[tuple[str, str, Callable[[Migration, Path], Artefact]]] = [
        (vendor.PROGRAM, "torch.export program", _program),
        ("network.onnx", "ONNX", _onnx),
    ]
    if made.plan is not None and changes_anything(made.plan.formats):
        jobs.insert(1, (vendor.PLANNED, "program with the casts of the plan", _planned))
    if made.book is not None and made.book.compiler == "vela":
        jobs.append(("network.tflite", "int8 TFLite", _tflite))
        jobs.append(("network_vela.tflite", "Vela-compiled TFLite", _vela))
    if made.book is not None and made.book.compiler == "neuron" and made.runs:
        jobs.append(("compile.py", "compiler script", _script))
    done: list[Artefact] = []
    for name, kind, job in jobs:
        try:
            done.append(job(made, folder / name))
        except Exception as error:  # noqa: BLE001 - exporters and runtimes raise dozens of unrelated types
            (folder / name).unlink(missing_ok=True)
            done.append(Artefact(name, kind, problem=_reason(error).removeprefix(f"{folder / name}: ")))
    return (*done, _lock(made, folder, tuple(done)))


def _reason(error: BaseException) -> str:
    """The first line of an error; of what caused it where that line names a step of torch's exporter alone."""
    first = (_COLOURS.sub("", str(error)).strip().splitlines() or [type(error).__name__])[0]
    return _reason(error.__cause__) if first.endswith("Next steps:") and error.__cause__ is not None else first


def _program(made: Migration, path: Path) -> Artefact:
    captured = made.captured
    assert captured is not None
    assert captured.program is not None
    worst = _worst(outputs(captured), _saved(captured, captured.program, path))
    _require(worst, _TOLERANCE, path.name)
    return _written(path, "torch.export program", "opened again and run on the example", worst)


def _planned(made: Migration, path: Path) -> Artefact:
    """The network with the casts of its plan, opened again and run: its error is measured, not emulated."""
    captured, plan = made.captured, made.plan
    assert captured is not None
    assert plan is not None
    found = carried(captured, plan.formats)
    pairs = zip(outputs(captured), _saved(captured, found.program, path), strict=True)
    error = relative_error(
        [(exact, made_of.float() if exact.is_floating_point() else made_of) for exact, made_of in pairs]
    )
    if plan.error <= plan.tolerance < error:
        msg = (
            f"run by torch it differs by {error:.2g}, more than {plan.tolerance:g}, though emulated by {plan.error:.2g}"
        )
        raise UnsupportedError(msg)
    note = f"run by torch on the example, error {error:.2g} as root mean square, {plan.error:.2g} when emulated"
    kinds = sorted({f"{plan.formats.of(name)} run in {wider}" for name, wider in found.wider.items()})
    if kinds:
        note += f"; {len(found.wider)} layers planned in {' and '.join(kinds)}, as torch has no cast with a scale"
    return _written(path, "program with the casts of the plan", note, error)


def _saved(captured: Captured, program: ExportedProgram, path: Path) -> list[Tensor]:
    """Save a program, open it again, and what that puts out for the example."""
    for node in program.graph.nodes:
        node.meta.pop("from_node", None)  # holds addresses in memory, which differ from run to run
    with quiet():
        with _plainly(program):
            torch.export.save(program, path)
        again = opened(path)
        with torch.no_grad(), drawn_alike():
            arguments, keywords = fresh((captured.arguments, captured.keywords))
            found = again.module(check_guards=False)(*arguments, **keywords)
    return [item for item in pytree.tree_leaves(found) if isinstance(item, Tensor)]


@contextmanager
def _plainly(program: ExportedProgram) -> Iterator[None]:
    """The program with plain tuples for named ones; its names are given back, since an ONNX file has them."""
    signature = program.module_call_graph[0].signature
    named = None if signature is None else signature.out_spec
    if signature is not None and named is not None:
        signature.out_spec = _plain_tuples(named)
    try:
        yield
    finally:
        if signature is not None and named is not None:
            signature.out_spec = named


def _plain_tuples(spec: pytree.TreeSpec) -> pytree.TreeSpec:
    """The structure with plain tuples for named ones: a file cannot hold a class of the user's own, or of torch's."""
    if spec.is_leaf():
        return spec
    inner = list(map(_plain_tuples, spec.children()))
    named = spec.type is namedtuple or getattr(spec.type, "__module__", "") == "torch.return_types"
    return pytree.TreeSpec(tuple, None, inner) if named else pytree.TreeSpec(spec.type, spec.context, inner)


def _onnx(made: Migration, path: Path) -> Artefact:
    missing = next((name for name in ("onnxruntime", "onnxscript") if find_spec(name) is None), None)
    if missing is not None:  # torch's exporter needs the second
        msg = f"ONNX export needs {missing}: pip install 'sirdar[onnx]'"
        raise UnsupportedError(msg)
    assert made.captured is not None
    assert made.captured.program is not None
    _require_comparable(made.captured)
    kept = made.captured.program.graph_signature.user_inputs_to_mutate
    note = f"; unlike the network it leaves {', '.join(kept.values())} as given" if kept else ""
    failed: list[Exception] = []
    for form, clause in _forms(made, made.captured):
        try:
            found = _onnx_of(form(), path)
        except Exception as error:  # noqa: BLE001 - exporters and runtimes raise dozens of unrelated types
            failed.append(error)
        else:
            return replace(found, check=found.check + clause + note)
    raise failed[-2]  # of operators that the report speaks of


def _forms(made: Migration, captured: Captured) -> list[tuple[Callable[[], Captured], str]]:
    """The same function as rewritten and as it was before: ONNX may lack a kernel for what was changed."""
    before = "; of the network before it was "
    forms: list[tuple[Callable[[], Captured], str]] = [(lambda: captured, "")]
    original = made.original
    if original is not None and original.program is not None and made.rewrites:
        forms.append((lambda: original, f"{before}rewritten"))
    return [*forms, (lambda: _undecomposed(captured), f"{before}reduced to core ATen operators")]


def _undecomposed(captured: Captured) -> Captured:
    """The network as its author wrote it."""
    assert captured.module is not None
    with evaluating(captured.module), quiet():
        program = torch.export.export(captured.module, captured.arguments, captured.keywords, strict=False)
    return replace(captured, program=program)


def _require_comparable(captured: Captured) -> None:
    """Refuse a network of which no ONNX file computes the same in every run, or can be run."""
    assert captured.program is not None
    changed = changed_buffer(captured.program)
    if changed:  # a single run would not show it
        msg = f"the network changes its own buffer {changed!r} as it runs, which no ONNX file keeps"
        raise UnsupportedError(msg)
    if any(draws(node) for node in captured.program.graph.nodes):
        msg = "the network draws random numbers, which no other runtime draws alike, so its file cannot be checked"
        raise UnsupportedError(msg)
    strange = next((x.dtype for x in inputs_of(captured) if x.is_floating_point() and x.dtype not in _NUMPY), None)
    if strange is not None:
        msg = f"the network takes inputs of {strange}, which numpy, and so onnxruntime, cannot be given: use float32"
        raise UnsupportedError(msg)


def _onnx_of(captured: Captured, path: Path) -> Artefact:
    assert captured.program is not None
    sizes = (value.numel() * value.element_size() for value in captured.program.state_dict.values())
    large = sum(sizes) > _SINGLE_FILE_BYTES
    with quiet():
        torch.onnx.export(
            _of_tensors(captured),
            (),
            str(path),
            output_names=_output_names(captured.program),
            dynamo=True,
            external_data=large,
            verbose=False,
            optimize=False,
        )
    found = run_onnx(path, [item.detach().numpy() for item in inputs_of(captured)])
    made = [torch.from_numpy(item) for item in found]
    exact = [torch.view_as_real(item) if item.is_complex() else item for item in outputs(captured)]  # as ONNX has them
    worst, note = _worst(exact, made), "run by onnxruntime on the example"
    bound = max(_ONNX_TOLERANCE, 2 * _step(captured.program))
    close = _as_exact(captured, exact, made) if worst > bound else ""
    if not close:
        _require(worst, bound, path.name)
    return _written(path, "ONNX", note + close, worst)


def _step(program: ExportedProgram) -> float:
    """Relative step of the narrowest floats that a program computes with, where they are narrower than fp32."""
    made = (item for node in program.graph.nodes for item in made_by(node))
    kinds = {item.dtype for item in made if item.dtype in (torch.float16, torch.bfloat16)}
    return max((torch.finfo(kind).eps for kind in kinds), default=0.0)


def _as_exact(captured: Captured, exact: list[Tensor], made: list[Tensor]) -> str:
    """A clause where a file is at most twice as far from the network in fp64 as torch's own fp32; otherwise nothing.

    A deep network may magnify the last bit of a sum until two orders of adding differ by more than any fixed bound.
    """
    if captured.module is None:
        return ""
    try:
        with torch.no_grad(), quiet(), drawn_alike():
            module = copy.deepcopy(captured.module).eval().double()
            arguments, keywords = pytree.tree_map(_doubled, (captured.arguments, captured.keywords))
            leaves = pytree.tree_leaves(module(*arguments, **keywords))
    except Exception:  # noqa: BLE001 - types written into the network's code
        return ""
    truth = [item for item in leaves if isinstance(item, Tensor)]
    own, other = _worst(truth, exact), _worst(truth, made)
    if not other <= _AS_EXACT * own < _BEYOND_DOUBT:
        return ""
    return f", where it is {other:.2g} from the network in fp64 and torch's own fp32 {own:.2g}"


def _doubled(item: Any) -> Any:  # noqa: ANN401
    return item.double() if isinstance(item, Tensor) and item.is_floating_point() else item


def _of_tensors(captured: Captured) -> ExportedProgram:
    """The program without what it puts out besides tensors, for which ONNX has no place."""
    program = captured.program
    assert program is not None
    if all(isinstance(name, str) for name in program.graph_signature.user_outputs):
        return program
    with torch.no_grad():
        return torch.export.export(Tensors(runnable(program)), captured.arguments, captured.keywords, strict=False)


def _output_names(program: ExportedProgram) -> list[str] | None:
    """The names that a network gives its outputs by dictionaries and named tuples; None where it gives none."""
    spec, made = program.call_spec.out_spec, program.graph_signature.user_outputs
    if spec is None or spec.num_leaves != len(made) or len(set(made)) < len(made):
        return None
    paths = [path for path, _ in pytree.tree_leaves_with_path(pytree.tree_unflatten(range(len(made)), spec))]
    named = any(not isinstance(key, pytree.SequenceKey) for path in paths for key in path)
    names = [_joined(path) for path, value in zip(paths, made, strict=True) if isinstance(value, str)]
    taken = {*names, *map(str, program.graph_signature.user_inputs)}
    return names if named and len(taken) == len(names) + len(program.graph_signature.user_inputs) else None


def _joined(path: tuple[Any, ...]) -> str:
    """The keys and places that lead to an output, such as "heads.0"."""
    steps = (next(getattr(key, what) for what in ("key", "idx", "name") if hasattr(key, what)) for key in path)
    return ".".join(map(str, steps)) or "output"


class Tensors(torch.nn.Module):
    """A network that puts out its tensors in a row, and nothing else."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *arguments: Any, **keywords: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 - whatever it takes
        """All tensors of the answer."""
        found = pytree.tree_leaves(self.inner(*arguments, **keywords))
        return tuple(item for item in found if isinstance(item, Tensor))


def _tflite(made: Migration, path: Path) -> Artefact:
    from sirdar.deploy import tflite

    captured, int8 = made.captured, made.int8
    assert captured is not None
    if int8 is None or int8.file is None:
        raise UnsupportedError("the network cannot go yet" if int8 is None else int8.reason)
    problem = astray(int8.error, made.plan)
    if problem:
        raise UnsupportedError(problem)
    gap = worst_error(zip(outputs(captured), tflite.predict(int8.file, *inputs_of(captured)), strict=True))
    tflite.save(int8.file, path)
    note = "run by LiteRT on the example; difference as root mean square"
    if made.plan is not None and gap > made.plan.tolerance:
        note += f", beyond the tolerance of {made.plan.tolerance:g}"
    return _written(path, "int8 TFLite", note, gap)


def _vela(made: Migration, path: Path) -> Artefact:
    """The file that Vela writes, with what it says of cycles and of operators left to the host."""
    from sirdar.deploy.compiled import compile_tflite

    source = path.with_name("network.tflite")
    if not source.exists():
        msg = "there is no int8 file to compile"
        raise UnsupportedError(msg)
    command = [sys.executable, "-m", "ethosu.vela", source.name, "--accelerator-config", made.chip.name]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--output-dir", folder],
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        made_file = Path(folder) / "network_vela.tflite"
        if done.returncode or not made_file.exists():
            said = (done.stderr or done.stdout).strip().splitlines() or ["it wrote no file"]
            msg = f"Vela refuses the file: {said[-1]}"
            raise UnsupportedError(msg)
        part = path.with_suffix(".part")
        part.write_bytes(made_file.read_bytes())
        part.replace(path)
    found = compile_tflite(source.read_bytes(), made.chip.name)
    note = f"{found.cycles:,} cycles, {found.latency_s * 1e3:.3g} ms; {found.host_operators} operators left to the host"
    return _written(path, "Vela-compiled TFLite", note, None)


def _script(made: Migration, path: Path) -> Artefact:
    planned = path.with_name(vendor.PLANNED).exists()
    if (
        not planned
        and made.book is not None
        and made.book.target != "inf1"
        and not path.with_name(vendor.PROGRAM).exists()
    ):
        msg = f"there is no {vendor.PROGRAM} for it to compile"
        raise UnsupportedError(msg)
    text = vendor.script(made, planned=planned)
    compile(text, path.name, "exec")  # a syntax error would surface on another machine, hours later
    path.write_text(text, encoding="utf-8")
    return _written(path, "compiler script", "parsed; it runs where the vendor's SDK is installed", None)


def _lock(made: Migration, folder: Path, files: tuple[Artefact, ...]) -> Artefact:
    content = {
        "schema": 1,
        "model": made.title,
        "chip": made.chip.name,
        "rules": "" if made.book is None else made.book.name,
        "tolerance": None if made.plan is None else made.plan.tolerance,
        "flags": list(vendor.flags(made, planned=any(row.name == vendor.PLANNED and row.sha256 for row in files))),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONED}},
        "files": {row.name: {"sha256": row.sha256, "bytes": row.bytes} for row in files if row.sha256},
    }
    path = folder / "sirdar.lock.json"
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return _written(path, "lock file", "versions, and the hash of every file", None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _worst(expected: list[Tensor], found: list[Tensor]) -> float:
    if len(expected) != len(found):
        return float("inf")
    return max((gap_of(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)


def _require(worst: float, tolerance: float, name: str) -> None:
    if not worst <= tolerance:
        msg = f"{name} differs from the network by {worst:.2g} of its largest output, more than {tolerance:g}"
        raise UnsupportedError(msg)


def _written(path: Path, kind: str, check: str, worst: float | None) -> Artefact:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return Artefact(path.name, kind, check, path.stat().st_size, digest.hexdigest(), worst)
