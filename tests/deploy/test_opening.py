# SPDX-License-Identifier: Apache-2.0
"""Files of strangers: source lines come back as text, and nothing that could run code is opened."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.deploy.migrate import migrate
from sirdar.deploy.opening import opened, source_traces
from sirdar.errors import DataError


class Sorts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sort(x)[1]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "network.pt2"
    torch.export.save(torch.export.export(Sorts(), (torch.randn(5),)), path)
    return path


def altered(path: Path, change) -> Path:  # noqa: ANN001
    target = path.with_name("altered.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as result:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("models/model.json"):
                content = json.dumps(change(json.loads(content))).encode()
            result.writestr(entry.filename, content)
    return target


def test_findings_in_a_file_name_the_line(saved: Path) -> None:
    made = migrate(opened(saved), chip="trainium1")
    (found,) = made.blocking
    assert found.rule == "sort"
    assert found.location is not None
    assert found.location.code == "return torch.sort(x)[1]"


def test_a_trace_is_only_text(saved: Path) -> None:
    evil = 'File "/etc/passwd", line 1, in forward\n    __import__("os").system("false")'

    def change(table: dict) -> dict:
        for node in table["graph_module"]["graph"]["nodes"]:
            node["metadata"]["stack_trace"] = evil
        return table

    path = altered(saved, change)
    assert set(source_traces(path).values()) == {evil}
    made = migrate(opened(path), chip="trainium1")
    assert made.blocking[0].location is not None
    assert "system" in made.blocking[0].location.code


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"a": 1}), b"\x00" * 100])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.pt2"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"network\.pt2"):
        opened(path)


def test_a_strange_member_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("network/data/aotinductor/model.so", b"code")
    with pytest.raises(DataError, match="model.so"):
        opened(saved)


def test_an_operator_that_is_none_is_refused(saved: Path) -> None:
    def change(table: dict) -> dict:
        table["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.os.system"
        return table

    with pytest.raises(DataError, match="no operator"):
        opened(altered(saved, change))
