# SPDX-License-Identifier: Apache-2.0
"""Jobs that need nothing of each other: in this process, or on the machines of a Ray cluster, by the same code."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from sirdar.errors import ArgumentError, SirdarError, UnsupportedError, require_positive_integer
from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Forecast

LOCAL = "local"
_PART = 65_536  # series

Shared = TypeVar("Shared")
Job = TypeVar("Job")
Result = TypeVar("Result")


class Cluster(AbstractContextManager["Cluster"]):
    """Where jobs run.

    Args:
        address: None for this process; "local" for a process on each core of this machine; "auto" for the cluster that
            this machine is a part of, or its address, "host:6379". All machines must have the same Sirdar. A Ray that
            the caller has started is used as it is.

    Raises:
        UnsupportedError: Ray is not installed.
        ArgumentError: no cluster answers at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        self._ray = None if address is None else _ray()
        self._begun: list[Any] = []
        self._ours = self._ray is not None and not self._ray.is_initialized()
        if self._ray is not None and self._ours and address is not None:
            _connect(self._ray, address)

    def __exit__(self, *_: object) -> None:
        """Leaves the cluster; what still runs is stopped."""
        if self._ray is None:
            return
        for job in self._begun:
            self._ray.cancel(job, force=True)
        if self._ours:
            self._ray.shutdown()

    def map(self, work: Callable[[Shared, Job], Result], shared: Shared, jobs: Iterable[Job]) -> Iterator[Result]:
        """The result of each job, in the order of the jobs.

        In this process a job begins when its result is asked for; on a cluster all begin at once.

        Args:
            work: a function of a module.
            shared: what all jobs need; sent to each machine once.
            jobs: what they differ in.
        """
        if self._ray is None:
            return (work(shared, job) for job in jobs)
        try:
            held, task = self._ray.put(shared), self._ray.remote(work)
            begun = [task.remote(held, job) for job in jobs]
        except TypeError as error:
            msg = f"what runs on a cluster must be picklable ({str(error).splitlines()[0]})"
            raise ArgumentError(msg) from error
        self._begun += begun
        return map(self._result, begun)

    def _result(self, pending: Any) -> Any:  # noqa: ANN401 - what the job answers
        assert self._ray is not None
        try:
            return self._ray.get(pending)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from error  # as it would have been raised here
            raise
        except self._ray.exceptions.RayError as error:
            msg = f"a machine of the cluster lost the job ({str(error).splitlines()[0]})"
            raise SirdarError(msg) from error


def predict_in_parts(
    forecaster: Forecaster, panel: Panel | str | Path, *, series: int = _PART, cluster: str | None = None
) -> Forecast:
    """What `forecaster.predict` answers, but for some series at a time, so that a panel may be larger than memory.

    For networks and SQRF, which look at one series at a time; a textbook rung would see other look-alikes.

    Args:
        forecaster: trained.
        panel: a panel, or the folder of one that was saved, which each machine then maps for itself.
        series: in a part.
        cluster: where, see `Cluster`.
    """
    require_positive_integer(series, "series")
    panel = panel if isinstance(panel, Panel) else Path(panel).absolute()  # a machine has a folder of its own
    count = len(_panel(panel))
    parts = [np.arange(begin, min(begin + series, count)) for begin in range(0, max(count, 1), series)]
    with Cluster(cluster) as machines:
        return Forecast.joined(list(machines.map(_predicted, (forecaster, panel), parts)))


def _predicted(shared: tuple[Forecaster, Panel | str | Path], rows: np.ndarray) -> Forecast:
    forecaster, panel = shared
    return forecaster.predict(_panel(panel).select(rows))


def _panel(panel: Panel | str | Path) -> Panel:
    return panel if isinstance(panel, Panel) else Panel.load(panel)


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        msg = "a cluster needs Ray, which is not installed: pip install 'sirdar[cluster]'"
        raise UnsupportedError(msg) from error
    return ray


def _connect(ray: ModuleType, address: str) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    shown = False if address == LOCAL else None
    try:
        ray.init(address, include_dashboard=shown, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        msg = f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]})"
        raise ArgumentError(msg) from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray sets its own
            signal.signal(number, handler)
