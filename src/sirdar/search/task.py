# SPDX-License-Identifier: Apache-2.0
"""What a search asks of a task, a chip and a person: protocols, and the plain records that pass between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from sirdar.search.space import Candidate
from sirdar.units import Cost
from sirdar.workload.graph import Graph

Report = Callable[[int, float], None]
"""Called with a step and the metric there while a candidate trains; raises `Stopped` when it is not worth going on."""
Pricing = Callable[[Candidate], Cost]
"""What a candidate costs on the chip."""
State = Literal["complete", "stopped", "failed"]


class Stopped(Exception):  # noqa: N818 - a signal, no error: it passes through the task and the search ends the trial
    """The learning curve says that a candidate will not be among the best.

    A task that uses accelerators may put the seconds of them that were spent into `gpu_s` as it passes.
    """

    gpu_s: float = 0.0


@runtime_checkable
class Task(Protocol):
    """What is to be done well.

    Args:
        metric: name of what `evaluate` measures first.
        higher_is_better: of that metric.
    """

    metric: str
    higher_is_better: bool

    def graph(self, candidate: Candidate) -> Graph:
        """The operators of a candidate's network, untrained."""
        ...

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Mapping[str, float]:
        """Trains a candidate and judges it on validation data: the metric, and what else was measured, by name.

        What bears the name of a cost, such as a latency_s measured on a board, takes the place of the estimate. Where
        it is beyond a limit the trial fails as it ends; it counts as one of those wanted, since it was trained.
        """
        ...


@dataclass(frozen=True)
class Trial:
    """One candidate that was trained and judged.

    Args:
        number: in the order of the study, from 0.
        candidate: what was trained.
        measures: the metric, what else the task measured, and the parts of the cost by name.
        state: "complete"; "stopped" by its learning curve; "failed" with an error, or beyond the limits.
        origin: the strategy that proposed it, or "enqueued" by a person.
        curve: (step, metric) pairs as it trained.
        seconds: from start to end.
        note: why a failed one failed.
    """

    number: int
    candidate: Candidate
    measures: Mapping[str, float] = field(hash=False)
    state: State = "complete"
    origin: str = ""
    curve: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    note: str = ""

    @property
    def usable(self) -> bool:
        """Whether it was judged to the end."""
        return self.state == "complete"
