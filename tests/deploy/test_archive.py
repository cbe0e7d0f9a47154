# SPDX-License-Identifier: Apache-2.0
"""Exported programs that could run code are refused before torch sees them.

The attacks are those that the code of torch 2.13's own reader admits; each is built here from a good archive.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sirdar.deploy import archive
from sirdar.deploy.archive import checked
from sirdar.errors import DataError

MODEL = "models/model.json"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "m.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(4, 3), (torch.zeros(2, 4),)), path)
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {entry.filename.partition("/")[2]: opened.read(entry) for entry in opened.infolist()}


def written(content: dict[str, bytes], path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in content.items():
            made.writestr(f"m/{name}", data)
    return path


def changed(good: Path, tmp_path: Path, name: str, change: Callable[[Any], None]) -> Path:
    content = members(good)
    table = json.loads(content[name])
    change(table)
    return written(content | {name: json.dumps(table).encode()}, tmp_path / "bad.pt2")


def test_good_archive_runs(good: Path) -> None:
    program = torch.export.load(checked(good))
    assert program.module()(torch.ones(2, 4)).shape == (2, 3)


def node(table: dict[str, Any]) -> dict[str, Any]:
    return table["graph_module"]["graph"]["nodes"][0]


def foreign_spec(table: dict[str, Any]) -> None:
    spec = [1, {"type": "collections.defaultdict", "context": '{"default_factory_module": "os"}', "children_spec": []}]
    table["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)


def enum_spec(table: dict[str, Any]) -> None:
    spec = [1, {"type": "builtins.dict", "context": '[{"__enum__": 1, "fqn": "os:x"}]', "children_spec": []}]
    table["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(spec)


def call(target: str) -> Callable[[Any], None]:
    return lambda table: node(table).update(target=target)


def size(text: str) -> Callable[[Any], None]:
    expression = {"as_expr": {"expr_str": text, "hint": None}}
    return lambda table: table["graph_module"]["graph"]["tensor_values"]["linear"].update(sizes=[expression])


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (MODEL, call("torch.os.system"), "calls 'torch.os.system', which is no operator of ATen"),
        (MODEL, call("torch.ops.aten.x.__class__;import os"), "no operator of ATen"),
        (MODEL, call("_operator.methodcaller"), "no operator of ATen"),
        (MODEL, size("__import__('os').system('true')"), "no plain arithmetic"),
        (MODEL, size("Symbol('s0').__class__"), "no plain arithmetic"),
        (MODEL, foreign_spec, "not built of tuples"),
        (MODEL, enum_spec, "not built of tuples"),
        (MODEL, lambda table: node(table).update(name="a; import os"), "which is none"),
        (
            "data/weights/model_weights_config.json",
            lambda table: table["config"]["weight"].update(use_pickle=True),
            "stored as pickles",
        ),
        (
            "data/weights/model_weights_config.json",
            lambda table: table["config"]["weight"].update(path_name="../../model"),
            "which is no weight",
        ),
        (
            "data/constants/model_constants_config.json",
            lambda table: table["config"].update(x={"path_name": "custom_obj_0", "use_pickle": False}),
            "which is no weight",
        ),
    ],
)
def test_what_could_run_code_is_refused(
    good: Path, tmp_path: Path, name: str, change: Callable[[Any], None], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        checked(changed(good, tmp_path, name, change))


def test_guards_never_reach_torch(good: Path, tmp_path: Path) -> None:
    bad = changed(good, tmp_path, MODEL, lambda table: table.update(guards_code=["__import__('os').abort()"]))
    with zipfile.ZipFile(checked(bad)) as rebuilt:
        assert json.loads(rebuilt.read(f"network/{MODEL}"))["guards_code"] == []


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/tmp/never-made-by-sirdar").touch, ())


def test_pickled_example_inputs_are_refused(good: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    for content in (buffer.getvalue(), pickle.dumps(Evil())):
        bad = written(members(good) | {"data/sample_inputs/model.pt": content}, tmp_path / "bad.pt2")
        with pytest.raises(DataError, match="more than tensors"):
            checked(bad)
    assert not Path("/tmp/never-made-by-sirdar").exists()


@pytest.mark.parametrize("name", ["data/aotinductor/m/a.so", "extra/run.py", "../escape", "data/weights/../../x"])
def test_foreign_members_are_refused(good: Path, tmp_path: Path, name: str) -> None:
    bad = written(members(good) | {name: b"x"}, tmp_path / "bad.pt2")
    with pytest.raises(DataError, match="no part of an exported network"):
        checked(bad)


def test_compressed_archives_are_refused(good: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is compressed"):
        checked(written(members(good), tmp_path / "bad.pt2", zipfile.ZIP_DEFLATED))


def test_large_archives_are_refused(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST_BYTES", 1000)
    with pytest.raises(DataError, match="more than the 1000 allowed"):
        checked(good)


def test_members_named_twice_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt2"
    with zipfile.ZipFile(bad, "w") as made:
        made.writestr(f"m/{MODEL}", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr(f"m/{MODEL}", b"{}")
    with pytest.raises(DataError, match="twice"):
        checked(bad)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        checked(tmp_path / "none.pt2")
    path = tmp_path / "text.pt2"
    path.write_text("x")
    with pytest.raises(DataError, match="cannot be read as an exported program"):
        checked(path)
