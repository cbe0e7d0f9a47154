# SPDX-License-Identifier: Apache-2.0
"""Tensors come back bit for bit with their facts; a file is whole or not there, and errors name it."""

from pathlib import Path

import pytest
import torch

from sirdar.errors import DataError, OutputError
from sirdar.tensors import read_tensors, write_tensors


def test_tensors_and_facts_come_back(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    path, given = tmp_path / "new" / "file", {"turned": whole.T, "shared": whole, "count": torch.tensor(7)}
    write_tensors(path, given, {"step": 3, "loss": float("inf")})
    found, facts = read_tensors(path)
    assert facts == {"step": 3, "loss": float("inf")}
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()  # in the way of the file, as a full disk is
    with pytest.raises(OutputError, match=r"file: cannot be written \(.*directory"):
        write_tensors(tmp_path / "file", {}, {})
    (tmp_path / "torn").write_bytes(b"12345")
    for name in ("torn", "absent"):
        with pytest.raises(DataError, match=f"{name}: not a file of weights and facts"):
            read_tensors(tmp_path / name)
