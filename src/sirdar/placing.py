# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: written beside their place, and moved into it at the end."""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sirdar.errors import OutputError

MARK = ".sirdar-"  # what the names of scratch folders begin with; nothing else is ever removed
KEPT = "kept"  # as long as a scratch folder holds something of this name, it is not removed either


@contextmanager
def placed(path: Path, suffix: str = "") -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place when the block ends well and vanishes when it does not.

    Whoever may read what this process writes may read it, also where a library makes its files private.

    Args:
        path: of the file.
        suffix: the end of the temporary name, for libraries that ask for one.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with scratch(path.absolute().parent, path.name) as folder:
            part = folder / f"file.part{suffix}"
            part.touch()
            mode = part.stat().st_mode
            yield part
            part.chmod(mode)
            part.replace(path)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error})"
        raise OutputError(msg) from error


@contextmanager
def scratch(home: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `home` to write `name` in, gone after the block unless it holds `KEPT`.

    What processes that were killed while they wrote the same name left behind goes first.
    """
    sweep(home, name)
    folder = home / f"{_prefix(name)}{uuid4().hex[:12]}"
    folder.mkdir()
    try:
        with locked(folder):
            yield folder
    finally:
        with suppress(OSError):
            _remove(folder)


def sweep(home: Path, name: str) -> None:
    """Removes what processes that were killed while they wrote `name` in `home` left."""
    for _ in abandoned(home, name):
        pass


def abandoned(home: Path, name: str) -> Iterator[Path]:
    """The scratch folders in `home` that processes killed while they wrote `name` left.

    Each is removed after its turn, unless it still holds `KEPT` or cannot be.
    """
    for left in sorted(home.glob(f"{_prefix(name)}*")):
        with suppress(OSError), locked(left, wait=False):  # a folder that is locked is in use
            yield left
            _remove(left)


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """No other process holds the folder while the block runs, where the system has locks; they end with the process.

    Raises:
        OSError: another process holds it, or may where the file system has no locks, and this one would not wait.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl  # not on Windows

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:  # some file systems have no locks
            if not wait:
                raise
        yield
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    if not (folder / KEPT).exists():
        shutil.rmtree(folder)


def _prefix(name: str) -> str:
    """Short and of plain letters, whatever the name is, and no other name's."""
    return f"{MARK}{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}-"
