# SPDX-License-Identifier: Apache-2.0
"""How many bytes a network takes while it runs in other formats, and how many the machine has to spare.

A system that runs out of memory ends a program without a word. What is foreseen is said in a sentence instead.
"""

import operator as python_operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import fx

from sirdar.workload.counting import kind_of

_FP32 = 4  # bytes
_MACHINE, _GROUP, _GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_VERSIONS = (  # folder, controller, limit, use, files
    ("", "", "max", "current", "inactive_file"),
    ("memory", "memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
)


def result_bytes(graph: fx.Graph) -> int:
    """Bytes of all that operators make in one run, in fp32: the derivative of the outputs needs no more of them."""
    return sum(_size(node) for node in graph.nodes if node.op == "call_function" and not _is_part(node))


def live_bytes(graph: fx.Graph, ends: Mapping[fx.Node, Sequence[fx.Node]]) -> int:
    """Bytes of the results that are alive at once in one run, at most; views share those of what they view.

    Args:
        graph: of an exported program.
        ends: nodes whose values may be forgotten after a node has run.
    """
    holders: dict[fx.Node, fx.Node] = {}
    readers: Counter[fx.Node] = Counter()
    now = most = 0
    for node in graph.nodes:
        if node.op == "call_function":
            source = node.args[0] if _is_part(node) else node
            holder = holders.get(source, source) if isinstance(source, fx.Node) else node
            holders[node] = holder
            readers[holder] += 1
            now += _size(node) if holder is node else 0
            most = max(most, now)
        for gone in ends.get(node, ()):
            holder = holders.get(gone, gone)
            readers[holder] -= 1
            now -= _size(holder) if not readers[holder] and holder.op == "call_function" else 0
    return most


def shortage(needed_bytes: int, what: str) -> str:
    """A sentence where more bytes are needed than there are to spare; empty where they suffice or nobody knows."""
    spare = spare_bytes()
    if spare is None or needed_bytes <= spare:
        return ""
    return f"{what} needs about {_said(needed_bytes)} of memory, and {_said(spare)} are to spare"


def spare_bytes() -> int | None:
    """Bytes that the machine, or the container around this process, can still give; None where the system is silent."""
    known = [*_of_machine(), *_of_container()]
    return max(0, min(known)) if known else None


def _said(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _is_part(node: fx.Node) -> bool:
    """Whether a node only shows values that another one made."""
    return node.target is python_operator.getitem or kind_of(node) == "view"


def _size(node: fx.Node) -> int:
    """Bytes of a result in fp32; 0 for sizes that are not known."""
    made = node.meta.get("val")
    parts = made if isinstance(made, tuple | list) else (made,)
    counts = [part.numel() for part in parts if isinstance(part, torch.Tensor)]
    return sum(_FP32 * count for count in counts if isinstance(count, int))


def _of_machine() -> Iterator[int]:
    for line in _lines(_MACHINE):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def _of_container() -> Iterator[int]:
    """What the limits of Linux's control groups leave, of either version; files that were read can be forgotten."""
    rows = [line.split(":", 2) for line in _lines(_GROUP) if line.count(":") > 1]
    for root, controller, limit_name, used_name, spared in _VERSIONS:
        for place in {"", *(path.strip("/") for _, kinds, path in rows if controller in kinds.split(","))}:
            folder = _GROUPS / root / place
            limit, used = ("".join(_lines(folder / f"memory.{name}")) for name in (limit_name, used_name))
            facts = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
            if limit.isdigit() and used.isdigit():
                yield int(limit) - int(used) + int(facts.get(spared, 0))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
