# SPDX-License-Identifier: Apache-2.0
"""An exported program (.pt2) from a file, opened safely and with the source lines that its exporter left in it.

`archive.checked` drops every trace of the source, since torch reads it as more than text. Here the traces are read as
plain text from the same file and put back beside the nodes, where nothing ever runs them.
"""

import json
import operator
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from sirdar.deploy.archive import LARGEST_TEXT_BYTES, checked
from sirdar.deploy.capture import quiet
from sirdar.errors import DataError

_MODEL = re.compile(r"[^/]+/models/[\w-]+\.json")


def opened(path: Path) -> ExportedProgram:
    """The program in a file that `torch.export.save` wrote.

    Args:
        path: of the file.

    Raises:
        DataError: the file is missing, wrong, or could run code; the sentence names it.
    """
    archive = checked(path)
    try:
        with quiet():
            program = torch.export.load(archive)
    except Exception as error:  # torch.export.load raises a dozen unrelated types
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        msg = f"{path}: torch cannot open it as an exported program: {reason}"
        raise DataError(msg) from error
    traces = source_traces(path)
    for node in program.graph.nodes:
        if node.name in traces:
            node.meta["stack_trace"] = traces[node.name]
            if node.target is operator.getitem:  # an operator of several results is described by these
                node.args[0].meta["stack_trace"] = traces[node.name]
    return program


def source_traces(path: Path) -> dict[str, str]:
    """The Python frames that made each node, by its name; text that nothing runs, empty where there is none.

    Raises:
        DataError: the file cannot be read.
    """
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if _MODEL.fullmatch(entry.filename) and entry.file_size <= LARGEST_TEXT_BYTES:
                    _collect(json.loads(archive.read(entry)), found)
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError) as error:
        msg = f"{path}: its source lines cannot be read ({error})"
        raise DataError(msg) from error
    return found


def _collect(value: Any, found: dict[str, str]) -> None:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, list):
        for item in value:
            _collect(item, found)
    if not isinstance(value, dict):
        return
    metadata = value.get("metadata")
    trace = metadata.get("stack_trace") if isinstance(metadata, dict) else None
    if isinstance(trace, str) and "target" in value:
        for output in value.get("outputs", ()):
            for name in _names(output):
                found[name] = trace[:4000]
    for item in value.values():
        _collect(item, found)


def _names(output: Any) -> list[str]:  # noqa: ANN401
    """Names of the tensors that a node puts out."""
    if isinstance(output, list):
        return [name for item in output for name in _names(item)]
    if not isinstance(output, dict):
        return []
    name = output.get("name")
    return [name] if isinstance(name, str) else [found for item in output.values() for found in _names(item)]
