# SPDX-License-Identifier: Apache-2.0
"""What a network takes on this machine: by LiteRT from an int8 file, by torch from a module, on a CUDA GPU if there is.

Threads are pinned to as many cores as they are, the network warms up first, and runs go on until the median is known
well or the time is up; the spread is reported with it. On a machine that others use as well, the clock of the process
("cpu") leaves out the time in which it was not running; the clock on the wall is what a user waits.
"""

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sirdar.chips.analytic import OperatorCost, Roofline
from sirdar.chips.chip import Chip
from sirdar.chips.energy import energy
from sirdar.deploy.tflite.graph import from_graph
from sirdar.errors import ArgumentError, UnsupportedError, require_positive_integer
from sirdar.units import Cost
from sirdar.workload.graph import Graph
from sirdar.workload.trace import evaluating

Clock = Literal["wall", "cpu"]

_LEAST_RUNS = 11
_MOST_RUNS = 2000
_GOOD = 0.005  # relative standard error of the median that is good enough
_CLOCKS: dict[str, Callable[[], int]] = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}


@dataclass(frozen=True)
class Timing:
    """How long a run takes.

    Args:
        median_s: of all runs.
        least_s: the fastest.
        spread: distance of the quartiles over the median: the noise of a single run.
        runs: how many.
        clock: "wall" or "cpu".
    """

    median_s: float
    least_s: float
    spread: float
    runs: int
    clock: Clock = "wall"

    @property
    def error(self) -> float:
        """Relative standard error of the median, for normal noise (1.25 standard deviations over the root of n)."""
        return 1.2533 * self.spread / 1.349 / math.sqrt(self.runs)


def time_tflite(file: bytes, *, threads: int = 1, seconds: float = 2.0, clock: Clock = "wall") -> Timing:
    """Times an int8 TFLite file under LiteRT (XNNPACK kernels) on this CPU.

    Args:
        file: the bytes of the file.
        threads: to compute with, each on a core of its own.
        seconds: to spend at most, warm-up aside.
        clock: "wall", or "cpu" for the process's own.

    Raises:
        ArgumentError: the file is none, or an option is out of range.
        UnsupportedError: ai-edge-litert is not installed.
    """
    _check(threads, seconds, clock)
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        msg = f"measuring TFLite files needs {error.name}: pip install 'sirdar[npu]'"
        raise UnsupportedError(msg) from error
    with _pinned(threads):
        try:
            interpreter = Interpreter(model_content=file, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            msg = f"LiteRT cannot load the file of {len(file)} bytes: {reason}"
            raise ArgumentError(msg) from error
        rng = np.random.default_rng(0)
        for detail in interpreter.get_input_details():
            numbers = rng.integers(-128 if detail["dtype"] == np.int8 else 0, 2, size=detail["shape"])
            interpreter.set_tensor(detail["index"], numbers.astype(detail["dtype"]))
        return _repeat(interpreter.invoke, seconds, clock)


def time_module(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    *,
    device: str = "cpu",
    threads: int = 1,
    seconds: float = 2.0,
    clock: Clock = "wall",
) -> Timing:
    """Times a torch module in evaluation mode; the module is left as and where it was.

    Args:
        module: any module.
        example: one tensor or a tuple of them; its first axis is the batch.
        device: "cpu", or "cuda" for a GPU, which is waited for after each run.
        threads: of torch on the CPU, each on a core of its own.
        seconds: to spend at most, warm-up aside.
        clock: "wall", or "cpu" for the process's own.

    Raises:
        ArgumentError: an option is out of range.
        UnsupportedError: there is no CUDA device.
    """
    _check(threads, seconds, clock)
    if device == "cpu":
        with _pinned(threads), _torch_threads(threads), evaluating(module), torch.inference_mode():
            given = example if isinstance(example, tuple) else (example,)
            return _repeat(lambda: module(*given), seconds, clock)
    if not device.startswith("cuda") or not torch.cuda.is_available():
        msg = f"device must be cpu, or cuda on a machine that has one, got {device!r}"
        raise UnsupportedError(msg)
    given = tuple(part.to(device) for part in (example if isinstance(example, tuple) else (example,)))
    home = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        with evaluating(module), torch.inference_mode():
            moved = module.to(device)

            def run() -> None:
                moved(*given)
                torch.cuda.synchronize(device)

            return _repeat(run, seconds, clock)
    finally:
        module.to(home)


class LiteRT:
    """The measured estimator: a graph as an int8 file with made-up weights, run on this CPU.

    Args:
        threads: to compute with.
        seconds: for each network.
        clock: "wall" or "cpu".
    """

    def __init__(self, threads: int = 1, seconds: float = 1.0, clock: Clock = "wall") -> None:
        _check(threads, seconds, clock)
        self.threads = threads
        self.seconds = seconds
        self.clock: Clock = clock

    def estimate(self, graph: Graph | bytes, chip: Chip, dtype: str = "int8") -> Cost:
        """The cost of one run, measured anew.

        Args:
            graph: a network, or an int8 TFLite file.
            chip: the sheet of this CPU, for power.
            dtype: "int8".

        Raises:
            ArgumentError: the chip is no CPU, or the format another.
            UnsupportedError: TFLite has nothing for an operator.
        """
        if chip.kind != "cpu" or dtype != "int8":
            msg = f"LiteRT measures int8 networks on this CPU, got {dtype!r} on {chip.name} ({chip.kind})"
            raise ArgumentError(msg)
        file = from_graph(graph) if isinstance(graph, Graph) else graph
        found = time_tflite(file, threads=self.threads, seconds=self.seconds, clock=self.clock)
        cost = Cost(latency_s=found.median_s, energy_j=energy(chip, found.median_s).mid_j)
        if isinstance(graph, bytes):
            return cost
        return Cost(
            latency_s=cost.latency_s,
            energy_j=cost.energy_j,
            peak_bytes=float(graph.peak_bytes(dtype)),
            parameter_bytes=float(graph.parameter_bytes(dtype)),
            macs=float(graph.macs),
        )

    def breakdown(self, graph: Graph, chip: Chip, dtype: str = "int8") -> tuple[OperatorCost, ...]:
        """One measurement of the whole, shared out among operators in proportion to their rooflines.

        Args:
            graph: a network.
            chip: the sheet of this CPU.
            dtype: "int8".
        """
        whole = self.estimate(graph, chip, dtype)
        rows = Roofline().breakdown(graph, chip, dtype)
        ideal = sum(row.cost.latency_s for row in rows)
        shares = [row.cost.latency_s / ideal if ideal else 1 / len(rows) for row in rows]
        found = []
        for row, share in zip(rows, shares, strict=True):
            cost = Cost(latency_s=share * whole.latency_s, energy_j=share * whole.energy_j, macs=row.cost.macs)
            found.append(OperatorCost(row.name, row.kind, dtype, cost, cost.latency_s, 0.0, 0.0, row.bound))
        return tuple(found)


def _repeat(run: Callable[[], object], seconds: float, clock: Clock) -> Timing:
    """Warm up, then run until the median is known or the time is up."""
    read = _CLOCKS[clock]
    began = time.perf_counter()
    for _ in range(3):
        run()
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < _MOST_RUNS:
        start = read()
        run()
        times.append(read() - start)
        if time.perf_counter() >= end and (len(times) >= _LEAST_RUNS or time.perf_counter() - began > 10 * seconds):
            break
        if len(times) >= 5 * _LEAST_RUNS and len(times) % _LEAST_RUNS == 0 and _timing(times, clock).error < _GOOD:
            break
    return _timing(times, clock)


def _timing(times: list[int], clock: Clock) -> Timing:
    median = statistics.median(times)
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [median, median, median]
    return Timing(
        median_s=median / 1e9,
        least_s=min(times) / 1e9,
        spread=float((quartiles[2] - quartiles[0]) / max(median, 1)),
        runs=len(times),
        clock=clock,
    )


def _check(threads: int, seconds: float, clock: str) -> None:
    require_positive_integer(threads, "threads")
    if not 0 < seconds < math.inf:
        msg = f"seconds must be finite and above zero, got {seconds!r}"
        raise ArgumentError(msg)
    if clock not in _CLOCKS:
        msg = f"clock must be one of {', '.join(_CLOCKS)}, got {clock!r}"
        raise ArgumentError(msg)


@contextlib.contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """As many cores as threads, where the system can pin; all of them again afterwards."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-threads:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
