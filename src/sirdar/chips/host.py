# SPDX-License-Identifier: Apache-2.0
"""The chip this program runs on: documented figures of one core, scaled by what the machine says of itself.

A sheet with a ``[per_core]`` table states memory, bandwidth, caches and power of one core, a clock to assume, and in
``[[per_core.vectors]]`` how many operations of a number format a core finishes per cycle when the kernel reports a
flag. Cores are counted and flags read from /proc/cpuinfo; so is the clock, on x86, from the rate of the time-stamp
counter, which does not change with load (the kernel prints twice that rate, in MHz, as bogomips). Memory is what the
system call sysconf says. Where the machine does not say, the sheet's assumption stands. Nothing is looked up before
such a sheet is loaded.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sirdar.errors import DataError, nearest

CPUINFO = Path("/proc/cpuinfo")
_PER_CORE = ("memory_bytes", "bandwidth_bytes_per_s", "sram_bytes", "power_w")
_KEYS = (*_PER_CORE, "clock_hz", "vector_share", "vectors")
_PARTS = ("value", "low", "high")


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself.

    Args:
        cores: physical cores.
        flags: instruction sets, as the kernel spells them.
        clock_hz: None where it does not say.
        memory_bytes: None where it does not say.
    """

    cores: int
    flags: frozenset[str]
    clock_hz: float | None
    memory_bytes: float | None = None


def machine(cpuinfo: Path = CPUINFO) -> Machine:
    """This machine, read once from the kernel's description of it."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    blocks = [_fields(block) for block in text.strip().split("\n\n")]
    cores = {(block["physical id"], block["core id"]) for block in blocks if {"physical id", "core id"} <= block.keys()}
    first = blocks[0]
    threads = os.cpu_count() or 1
    return Machine(
        cores=min(len(cores) or threads, threads),
        flags=frozenset((first.get("flags") or first.get("Features") or "").split()),
        clock_hz=_clock_hz(first),
        memory_bytes=_memory_bytes(),
    )


def scaled(table: Mapping[str, Any], title: str, here: Machine | None = None) -> dict[str, Any]:
    """The sheet of a whole chip, from one with a ``[per_core]`` table."""
    here = here or machine()
    unknown = [key for key in table["per_core"] if key not in _KEYS]
    if unknown:
        hint = nearest(unknown[0], _KEYS)
        msg = f"{title}: key 'per_core.{unknown[0]}' is not known; known are {', '.join(_KEYS)}.{hint}"
        raise DataError(msg)
    try:
        return _scaled(table, here)
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{title}: key 'per_core' is incomplete or not made of numbers with a source: {error}"
        raise DataError(msg) from error


def _scaled(table: Mapping[str, Any], here: Machine) -> dict[str, Any]:
    core = table["per_core"]
    clock_hz = core["clock_hz"]["value"] if here.clock_hz is None else here.clock_hz
    clock_said = "assumed" if here.clock_hz is None else "as the kernel reports"
    size = f"x {here.cores} cores"
    speed = f"{size} x {clock_hz / 1e9:.2f} GHz ({clock_said})"
    whole = {key: value for key, value in table.items() if key != "per_core"}
    whole |= {key: _times(core[key], here.cores, size) for key in _PER_CORE}
    whole["flops_per_s"] = {
        dtype: _times(row, here.cores * clock_hz, speed) for dtype, row in _per_cycle(core["vectors"], here).items()
    }
    if here.memory_bytes is not None:
        said = {"value": here.memory_bytes, "source": "as the machine reports (sysconf)"}
        whole["memory_bytes"] = {**said, "date": core["memory_bytes"]["date"]}
    fp32 = whole["flops_per_s"]["fp32"]
    whole["vector_flops_per_s"] = _times(core["vector_share"], fp32["value"], f"x fp32 peak, {speed}")
    return whole


def _per_cycle(rows: list[Mapping[str, Any]], here: Machine) -> dict[str, Mapping[str, Any]]:
    """Of every format, the most that the machine's flags allow; an empty flag is met by all machines."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        met = set(row["flags"]) <= here.flags
        better = row["dtype"] not in best or row["flops_per_cycle"]["value"] > best[row["dtype"]]["value"]
        if met and better:
            best[row["dtype"]] = row["flops_per_cycle"]
    return best


def _times(number: Mapping[str, Any], factor: float | int, how: str) -> dict[str, Any]:
    parts = {part: number[part] * factor for part in _PARTS if part in number}
    return {**parts, "source": f"{number['source']} {how}", "date": number["date"]}


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _clock_hz(first: Mapping[str, str]) -> float | None:
    """Half the bogomips in MHz, to 10 MHz, on x86; elsewhere they count something else."""
    if "flags" not in first or "bogomips" not in first:
        return None
    try:
        return round(float(first["bogomips"]) / 2, -1) * 1e6
    except ValueError:
        return None


def _memory_bytes() -> float | None:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not every system has sysconf, or these names in it
        return None
