# SPDX-License-Identifier: Apache-2.0
"""Every error that Sirdar raises on purpose, each a sentence with the offending value in it.

SirdarError
├── DataError            a file, column, row or value of the input is wrong
├── ArgumentError        an argument is out of its range, or names something unknown (also a ValueError)
├── OutputError          a result cannot be written where it was asked for
└── UnsupportedError     a network or chip does something that is not covered
"""

import difflib
from collections.abc import Iterable


class SirdarError(Exception):
    """Root of the tree: whatever the caller can mend."""


class DataError(SirdarError):
    """A file, column, row or value of the input is wrong."""


class ArgumentError(SirdarError, ValueError):
    """An argument is out of its range, or names something unknown."""


class OutputError(SirdarError):
    """A result cannot be written where it was asked for."""


class UnsupportedError(SirdarError):
    """A network or chip does something that is not covered."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion to end an error sentence with: ``" Did you mean 'price'?"``, or nothing when none is near."""
    close = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    if not close:
        return ""
    match = next(k for k in known if k.lower() == close[0])
    return f" Did you mean {match!r}?"


def require_positive_integer(value: object, name: str) -> int:
    """The value itself, or an `ArgumentError` that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        msg = f"{name} must be a positive integer, got {value!r}"
        raise ArgumentError(msg)
    return value
