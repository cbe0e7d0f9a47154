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
from numbers import Integral


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
    """The value as a plain int, be it numpy's or Python's, or an `ArgumentError` that names it."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value <= 0:
        msg = f"{name} must be a positive integer, got {value!r}"
        raise ArgumentError(msg)
    return int(value)


def require_seed(seed: object) -> int:
    """The seed as a plain int, or an `ArgumentError` that names it: numpy and torch take others, but not all alike."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**64:
        msg = f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}"
        raise ArgumentError(msg)
    return int(seed)
