# SPDX-License-Identifier: Apache-2.0
"""What a piece of work cost this process: wall seconds, CPU seconds and peak memory."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Meter:
    """Sums over all pieces of one kind of work.

    Args:
        seconds: on the clock.
        cpu_seconds: of all threads, and of child processes that have ended.
        peak_bytes: the most memory that the process held meanwhile, everything else in it included. On Linux the mark
            is reset before each piece; elsewhere it is the most since the process began.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts what is done within."""
        _reset_peak()
        begin, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.seconds += time.perf_counter() - begin
        self.cpu_seconds += _cpu_seconds() - cpu
        self.peak_bytes = max(self.peak_bytes, _peak_bytes())

    def add(self, other: "Meter") -> None:
        """Counts another's work as one's own."""
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _reset_peak() -> None:
    with suppress(OSError):
        _CLEAR.write_text("5")  # proc(5): resets the peak resident set size


def _peak_bytes() -> int:
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
