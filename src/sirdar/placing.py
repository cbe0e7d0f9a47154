# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: written beside their place, and moved into it at the end."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sirdar.errors import OutputError


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
    part = path.absolute().with_name(f".{uuid4().hex[:12]}.part{suffix}")
    try:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        part.replace(path)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error})"
        raise OutputError(msg) from error
    finally:
        with suppress(OSError):  # where it could not be written there is none
            part.unlink(missing_ok=True)
