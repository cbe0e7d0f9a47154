# SPDX-License-Identifier: Apache-2.0
"""Files appear whole, or not at all."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from sirdar import placing
from sirdar.errors import OutputError
from sirdar.placing import KEPT, MARK, abandoned, placed, scratch


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    usual = path.stat().st_mode
    with placed(path, ".txt") as part:
        assert part.name.endswith(".part.txt")
        part.write_text("after")
        part.chmod(0o600)  # as safetensors does
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert path.stat().st_mode == usual
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with suppress(KeyboardInterrupt), placed(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"none/file: cannot be written \(No such file"),
        placed(tmp_path / "none" / "file"),
    ):
        pass
    (tmp_path / "plain").write_text("no folder")
    with (
        pytest.raises(OutputError, match=r"plain/file: cannot be written \(Not a directory"),
        placed(tmp_path / "plain" / "file"),
    ):
        pass
    (tmp_path / "plain").unlink()
    longest = tmp_path / ("n" * 250)
    with placed(longest, ".onnx") as part:
        part.write_text("as long as a name may be")
    longest.unlink()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"folder: cannot be written \(.*directory"), placed(tmp_path / "folder"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "touch", killed)
        patch.setattr(placing, "_remove", killed)
        with placed(tmp_path / "file"):
            pass
    (tmp_path / f"{MARK}mine").mkdir()
    assert len(list(tmp_path.iterdir())) == 2
    with scratch(tmp_path, "other"):  # of another name, it is nobody's business
        assert len(list(tmp_path.iterdir())) == 3
    with placed(tmp_path / "file"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{MARK}mine", "file"]


def test_what_is_in_use_or_kept_is_not_removed(tmp_path: Path) -> None:
    with scratch(tmp_path, "x") as first, scratch(tmp_path, "x") as second:
        assert first.is_dir()
        (second / KEPT).mkdir()
    assert list(tmp_path.iterdir()) == [second]
    for left in abandoned(tmp_path, "x"):
        (left / KEPT).rmdir()
    assert not list(tmp_path.iterdir())


def test_nothing_is_swept_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a folder is in use cannot be told there."""

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with scratch(tmp_path, "x") as first, scratch(tmp_path, "x") as second:
        assert first.is_dir()
        assert second.is_dir()
    assert not list(tmp_path.iterdir())
