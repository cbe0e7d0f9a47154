# SPDX-License-Identifier: Apache-2.0
"""Chips, estimators and the like in words that are the same in every process: a storage tells when they change."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from sirdar.chips import Chip


def digest_of(sheet: Chip) -> str:
    """Sixteen hexadecimal digits of the numbers on a chip's sheet, whatever their sources."""
    facts: dict[str, Any] = {name: float(number.value) for name, number in sheet.numbers()}
    facts |= {"kind": sheet.kind, "activations": sheet.activations}
    parts = {} if sheet.blocks is None else sheet.blocks.parts
    facts |= {f"blocks.{kind}": [part.stationary, part.hidden_load] for kind, part in parts.items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def settings_of(thing: object) -> str:
    """What its class was called with, as far as that is plain data, such as "warm_up=5, share=0.5"; else empty.

    What may change while it is used, a dataclass that is not frozen, tells nothing.
    """
    if is_dataclass(thing) and not _frozen(thing):
        return ""
    return ", ".join(f"{name}={word}" for name, word in _words(thing))


def _words(thing: object) -> Iterator[tuple[str, str]]:
    try:
        names = list(signature(type(thing)).parameters)
    except (TypeError, ValueError):  # of a class that is not written in Python
        return
    for name in names:
        word = _word(getattr(thing, name, _word))
        if word is not None:
            yield name, word


def _word(value: object) -> str | None:
    """Plain data as text; None of what has no text of its own, such as a function."""
    if isinstance(value, str | Path):
        return repr(str(value))
    if isinstance(value, float):
        return repr(float(value))  # numpy's too
    if value is None or isinstance(value, int):
        return repr(value)
    if isinstance(value, Mapping):
        return _word(sorted(value.items(), key=repr))
    if isinstance(value, tuple | list):
        words = [_word(item) for item in value]
        return None if None in words else f"({', '.join(map(str, words))})"
    return f"{type(value).__name__}({settings_of(value)})" if _frozen(value) else None


def _frozen(thing: object) -> bool:
    return is_dataclass(thing) and bool(thing.__dataclass_params__.frozen)  # pyright: ignore[reportAttributeAccessIssue]
