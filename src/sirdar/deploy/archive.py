# SPDX-License-Identifier: Apache-2.0
"""Exported programs (.pt2) from files nobody vouches for: checked and rebuilt before torch reads them.

`torch.export.load` can run code from a crafted file in several ways: pickled weights, constants and example inputs;
compiled libraries inside the archive; guards, which are Python source; symbolic sizes, which sympy evaluates; operators
named by any path below `torch`; and containers whose description names a module to import. So the archive is read with
Python's own zip reader, every part is checked against the little that an exported network needs, guards and
traces of the source are dropped, and what remains is written to a new archive in memory. Only that reaches torch.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from sirdar.errors import DataError

LARGEST_BYTES = 4 * 2**30  # of all members together; what a 1-billion-parameter network takes in fp32
LARGEST_TEXT_BYTES = 256 * 2**20  # of the graph's description

_MEMBER = re.compile(
    r"models/[\w-]+\.json|data/(weights|constants)/[\w-]+|data/(weights|constants)/[\w-]+\.json"
    r"|data/sample_inputs/[\w-]+\.pt|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_TARGET = re.compile(
    r"torch\.ops\.aten(\.\w+)+|_operator\.(getitem|add|sub|mul|floordiv|mod|eq|ge|gt|le|lt|ne|neg|pow)"
)
# Sympy's own notation of sizes: symbols such as s0 or u1, whole numbers, and what they are joined by.
_TOKEN = re.compile(
    r"\s+|Symbol\('[su]\d+'|(positive|integer|nonnegative|negative)=(True|False)|-?\d+|[-+*/(),<>=]"
    r"|(Integer|Rational|Add|Mul|Pow|FloorDiv|CeilDiv|CleanDiv|PythonMod|ModularIndexing|Mod|Max|Min|Eq|Ne)\("
    r"|(Equality|Unequality|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan)\("
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")


def checked(path: Path) -> io.BytesIO:
    """The archive as torch may read it.

    Args:
        path: of a file that `torch.export.save` wrote.

    Returns:
        A new archive in memory.

    Raises:
        DataError: the file is missing, is no such archive, is too large, or holds something that could run code; the
            sentence names the member.
    """
    members = _members(path)
    for name in [name for name in members if name.endswith(".json")]:
        members[name] = _json(path, name, members[name])
    for name, content in members.items():
        if name.startswith("data/sample_inputs/") and content:
            _require_plain_tensors(path, name, content)
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(rebuilt, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"network/{name}", content)
    rebuilt.seek(0)
    return rebuilt


def _members(path: Path) -> dict[str, bytes]:
    """The parts of the archive by name, without the folder that holds them all."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _require_small(path, entries)
            return {_inner(path, entry): archive.read(entry) for entry in entries if not entry.is_dir()}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path}: cannot be read as an exported program ({reason})"
        raise DataError(msg) from error


def _require_small(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > LARGEST_BYTES:
        msg = f"{path}: holds {total} bytes, more than the {LARGEST_BYTES} allowed"
        raise DataError(msg)
    names = [entry.filename for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        msg = f"{path}: holds {twice!r} twice"
        raise DataError(msg)
    packed = next((entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        msg = f"{path}: {packed.filename!r} is compressed, which exported programs are not"
        raise DataError(msg)


def _inner(path: Path, entry: zipfile.ZipInfo) -> str:
    name = entry.filename.partition("/")[2]
    if not _MEMBER.fullmatch(name):
        msg = f"{path}: holds {entry.filename!r}, which is no part of an exported network and is not opened"
        raise DataError(msg)
    if name.endswith(".json") and entry.file_size > LARGEST_TEXT_BYTES:
        msg = f"{path}: {entry.filename!r} has {entry.file_size} bytes, more than the {LARGEST_TEXT_BYTES} allowed"
        raise DataError(msg)
    return name


def _json(path: Path, name: str, content: bytes) -> bytes:
    try:
        table = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        msg = f"{path}: {name!r} is no JSON ({error})"
        raise DataError(msg) from error
    if not isinstance(table, dict):
        msg = f"{path}: {name!r} must hold a table, got {type(table).__name__}"
        raise DataError(msg)
    if name.startswith("models/"):
        table["guards_code"] = []
    try:
        complaint = next(_complaints(table), None)
    except RecursionError:
        complaint = "is nested too deeply"
    if complaint is not None:
        msg = f"{path}: {name!r} {complaint}"
        raise DataError(msg)
    return json.dumps(table).encode()


def _complaints(value: object) -> Iterator[str]:
    """What in a table, or in a table within it, could run code. Traces of the source are dropped on the way."""
    if isinstance(value, list):
        for item in value:
            yield from _complaints(item)
    if not isinstance(value, dict):
        return
    if "target" in value and "metadata" in value:
        value["metadata"] = {}
    for key, item in value.items():
        if key in ("in_spec", "out_spec") and item:
            value[key] = _plain_spec(item)
            if value[key] is None:
                yield f"takes or returns {item!r}, which is not built of tuples, lists and dictionaries"
        complaint = _complaint(key, item)
        if complaint:
            yield complaint
        yield from _complaints(item)


def _complaint(key: str, item: object) -> str | None:
    rule = _RULES.get(key)
    if rule is None:
        return None
    holds, sentence = rule
    return None if holds(item) else sentence.format(item)


def _texts(item: object) -> list[str]:
    items = item if isinstance(item, list) else [item]
    return [text for text in items if isinstance(text, str) and text]


def _plain_spec(text: object) -> str | None:
    """A description of nested containers that torch needs no import to build; None where there is no such."""
    try:
        version, spec = json.loads(str(text))
        return json.dumps([version, _plain_containers(spec)])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _plain_containers(spec: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON can hold
    """The same with dictionaries in place of classes with named fields, such as the outputs of `transformers`."""
    kind, context, children = spec["type"], spec["context"], spec["children_spec"]
    keys: Any = [] if context is None else json.loads(context)
    if kind is not None and kind not in _CONTAINERS:
        names, absent = keys if len(keys) == 2 and isinstance(keys[0], list) else (keys, [])
        if absent or len(names) != len(children):
            raise ValueError(kind)
        kind, keys, context = "builtins.dict", names, json.dumps(names)
    if keys is not None and not all(isinstance(key, str | int) for key in keys):
        raise ValueError(context)
    return {"type": kind, "context": context, "children_spec": [_plain_containers(child) for child in children]}


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "use_pickle": (lambda item: item is False, "has weights stored as pickles, which can run code"),
    "custom_obj_values": (lambda item: not item, "holds objects of custom classes, which can run code"),
    "as_custom_obj": (lambda item: not item, "holds objects of custom classes, which can run code"),
    "name": (lambda item: all(map(_NAME.fullmatch, _texts(item))), "has the name {!r}, which is none"),
    "forward_arg_names": (lambda item: all(map(_NAME.fullmatch, _texts(item))), "has names {!r}, which are none"),
    "path_name": (lambda item: bool(_PAYLOAD.fullmatch(str(item))), "points to {!r}, which is no weight"),
    "target": (lambda item: all(map(_TARGET.fullmatch, _texts(item))), "calls {!r}, which is no operator of ATen"),
    "as_operator": (lambda item: all(map(_TARGET.fullmatch, _texts(item))), "calls {!r}, which is no operator of ATen"),
    "expr_str": (
        lambda item: isinstance(item, str) and not _TOKEN.sub("", item),
        "has the size {!r}, which is no plain arithmetic",
    ),
}


def _require_plain_tensors(path: Path, name: str, content: bytes) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises a dozen unrelated types
        msg = f"{path}: {name!r} holds more than tensors, so it is not opened"
        raise DataError(msg) from error
