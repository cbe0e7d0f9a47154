# SPDX-License-Identifier: Apache-2.0
"""Files of a user's folder of images, and the names that they go by."""

import unicodedata
from pathlib import Path

from sirdar.errors import DataError


def listed(folder: Path) -> list[Path]:
    """What a folder shows, by name: not `.ipynb_checkpoints`, `._a.jpg` and the like.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        msg = f"{folder}: cannot be read ({error.strerror})"
        raise DataError(msg) from error


def content(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise DataError(msg) from error


def text(path: Path) -> str:
    """A file's text, without the mark that Windows writes first."""
    return content(path).decode("utf-8-sig", "replace")


def composed(name: str) -> str:
    """A file's name with accents on their letters; macOS writes them as letters of their own."""
    return unicodedata.normalize("NFC", name)
