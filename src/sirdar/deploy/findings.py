# SPDX-License-Identifier: Apache-2.0
"""What stands between a network and a chip: findings, each with the line of the user's own code that it comes from.

torch.export keeps the Python frames that made every node (its ``stack_trace``). The line to change stands in the frame
nearest to the operator that is no part of torch, nor of a library that the layer's own code calls.
"""

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import fx

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_LIBRARY = re.compile(r"/(?:site|dist)-packages/([^/]+)")
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)(?:\n[ \t]+([^\n]*))?')


@dataclass(frozen=True)
class Location:
    """A line of source code.

    Args:
        file: its path, relative to the working directory where it lies beneath it.
        line: counted from 1.
        function: the function that it stands in.
        code: the text of the line.
        module: path of the layer within the network, such as "encoder.layer.0"; empty where it is not known.
    """

    file: str
    line: int
    function: str = ""
    code: str = ""
    module: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """One thing that a chip will not do, or will do otherwise than the user expects.

    Args:
        rule: name of the rule that found it.
        severity: "error" (will not compile, or computes something else), "warning" (runs, but slowly, elsewhere or
            less precisely) or "note".
        title: what it is, in a few words.
        why: what the chip lacks.
        fix: what to change.
        codes: of the vendor's compiler, such as "NCC_EVRF035".
        operator: the node of the exported graph; empty for what concerns the whole network.
        detail: the values that made the rule hold.
        location: where the user's code asks for it; None where that is not known.
        source: the document that the rule rests on.
        rewritten: how it was mended; empty where it was not.
        count: in how many operators of the same line it was found.
    """

    rule: str
    severity: Severity
    title: str
    why: str
    fix: str
    codes: tuple[str, ...] = ()
    operator: str = ""
    detail: str = ""
    location: Location | None = None
    source: str = ""
    rewritten: str = ""
    count: int = 1

    @property
    def blocking(self) -> bool:
        """Whether the network cannot go as it is."""
        return self.severity == "error" and not self.rewritten


def location_of(node: fx.Node) -> Location | None:
    """The line of the user's code that a node of an exported graph comes from."""
    found = _nearest(_FRAME.findall(node.meta.get("stack_trace") or ""))
    if found is None:
        return None
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return replace(found, module="" if path.startswith("L[") else path)


def location_of_error(error: BaseException) -> Location | None:
    """The line of the user's code in which an exception arose."""
    frames = [
        (frame.filename, str(frame.lineno or 0), frame.name, frame.line or "")
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return _nearest(frames)


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings of the same rule on the same line as one, with their number; errors first."""
    kept: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        place = None if finding.location is None else (finding.location.file, finding.location.line)
        key = (finding.rule, finding.severity, place, finding.rewritten, "" if place else finding.operator)
        known = kept.get(key)
        kept[key] = finding if known is None else replace(known, count=known.count + finding.count)
    return tuple(sorted(kept.values(), key=lambda row: SEVERITIES.index(row.severity)))


def _nearest(frames: list[tuple[str, str, str, str]]) -> Location | None:
    """The innermost frame outside torch, outside what this package runs it with, and outside the layer's libraries."""
    own = str(Path(__file__).resolve().parent)
    rows = [row for row in frames if not row[0].startswith((_torch(), own, "<")) and "/contextlib.py" not in row[0]]
    if not rows:
        return None
    layer = next((place for place in reversed(range(len(rows))) if rows[place][2] == "forward"), len(rows) - 1)
    theirs = _library(rows[layer][0])
    file, line, function, code = next(row for row in reversed(rows[layer:]) if _library(row[0]) in ("", theirs))
    return Location(_short(file), int(line), function, code.strip())


def _library(file: str) -> str:
    """The installed package that a file belongs to; empty for the user's own."""
    found = _LIBRARY.search(file)
    return "" if found is None else found.group(1)


@lru_cache(maxsize=1)
def _torch() -> str:
    return str(Path(torch.__file__).resolve().parent)


def _short(file: str) -> str:
    path = Path(file)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return file
