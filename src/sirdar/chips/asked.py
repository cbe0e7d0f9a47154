# SPDX-License-Identifier: Apache-2.0
"""Number formats as people ask for them, and what to ask for where the name is one of a family, such as fp8."""

import re
from collections.abc import Iterable

from sirdar.errors import ArgumentError
from sirdar.numerics.formats import FORMATS, Format, element_named, names

_FAMILY = re.compile(r"(?:fp|float|f)_?([0-9]+)")


def element_asked(dtype: str, had: Iterable[str], owner: str) -> Format:
    """What single values of a format are stored as; `sirdar.numerics.formats.element_named` in an asker's words.

    Args:
        dtype: the name that was asked for.
        had: names of the formats that the chip computes in.
        owner: what the sentence calls the chip.

    Raises:
        ArgumentError: no format is called so; of a family of floats, the sentence names those that the chip has.
    """
    family = _FAMILY.fullmatch(dtype.lower())
    bits = family[1] if family else ""
    rows = [row.name for row in FORMATS if row.floating and str(row.bits) == bits]
    if dtype in names() or not rows:
        return element_named(dtype)
    able = [name for name in had if name in rows]
    hint = f"computes in {_either(able)}" if able else "computes in none of them"
    msg = f"no number format is called {dtype!r}; floats of {bits} bits are {_either(rows)}, and {owner} {hint}"
    raise ArgumentError(msg)


def _either(known: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
