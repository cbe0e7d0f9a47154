# SPDX-License-Identifier: Apache-2.0
"""In which order to run a network so that it needs the least memory for activations.

A traced graph has its operators in the order of the program. Where it branches, any order that makes values before
they are read computes the same, and the peak of memory can differ much: four wide branches that each end narrow need
one wide value at a time, or four. Finding the best order is NP-hard (Sethi, "Complete register allocation problems",
SIAM J. Comput. 4(3), 1975); `scheduled` searches over sets of operators that have run, since what is alive depends on
the set and not on how it came about (Ahn et al., "Ordering chaos", MLSys 2020), and keeps the best few of each size.
"""

from dataclasses import dataclass, replace

from sirdar.errors import require_positive_integer
from sirdar.workload.graph import Graph

_BEAM = 64


@dataclass(frozen=True)
class _State:
    """Operators that have run, as bits, with those that could be next.

    Args:
        done: operators that have run.
        ready: operators whose inputs are made.
        alive: bytes that are still needed.
        peak: most bytes so far.
        last: the operator that ran last; -1 for none.
        before: the state before it.
    """

    done: int
    ready: int
    alive: int
    peak: int
    last: int = -1
    before: "_State | None" = None

    def order(self) -> list[int]:
        """Places of the operators in the order they ran."""
        places: list[int] = []
        state: _State | None = self
        while state is not None and state.last >= 0:
            places.append(state.last)
            state = state.before
        return places[::-1]


class _Problem:
    """What the search needs of a graph: who waits for whom, what is made, and who reads it last."""

    def __init__(self, graph: Graph, dtype: str | None) -> None:
        storage = graph.storage()
        maker = {spec.name: place for place, row in enumerate(graph.operators) for spec in row.outputs}
        size = {spec.name: spec.bytes(dtype) for spec in graph.inputs}
        size |= {spec.name: spec.bytes(dtype) for row in graph.operators for spec in row.outputs}
        count = len(graph.operators)
        self.waits = [0] * count
        self.follow: list[list[int]] = [[] for _ in range(count)]
        readers: dict[str, set[int]] = {name: set() for name, owner in storage.items() if name == owner}
        for place, row in enumerate(graph.operators):
            for source in {maker[spec.name] for spec in row.inputs if spec.name in maker}:
                self.waits[place] |= 1 << source
                self.follow[source].append(place)
            for spec in row.inputs:
                readers[storage[spec.name]].add(place)
        kept = {storage[name] for name in graph.outputs if name in storage}
        kept |= {spec.name for spec in graph.inputs if not readers[spec.name]}
        self.made = [0] * count  # bytes that an operator adds
        self.unread = [0] * count  # of them, those that nobody reads
        self.ends: list[list[tuple[int, int]]] = [[] for _ in range(count)]  # of what it reads: all readers, and bytes
        for name, who in readers.items():
            if name in maker:
                self.made[maker[name]] += size[name]
                self.unread[maker[name]] += 0 if who or name in kept else size[name]
            for place in () if name in kept else who:
                self.ends[place].append((_bits(who), size[name]))
        first = _bits({place for place in range(count) if not self.waits[place]})
        passed = sum(size[spec.name] for spec in graph.inputs)
        self.start = _State(0, first, passed, passed)

    def after(self, state: _State, place: int) -> _State:
        """The state once one more operator has run."""
        done = state.done | 1 << place
        during = state.alive + self.made[place]
        freed = self.unread[place] + sum(size for who, size in self.ends[place] if not who & ~done)
        opened = _bits({row for row in self.follow[place] if not self.waits[row] & ~done})
        ready = (state.ready & ~(1 << place)) | opened
        return _State(done, ready, during - freed, max(state.peak, during), place, state)

    def next(self, state: _State) -> list[_State]:
        """Every state that is one operator further; one alone where an operator costs nothing to run at once."""
        found: list[_State] = []
        ready = state.ready
        while ready:
            place = (ready & -ready).bit_length() - 1
            ready &= ready - 1
            further = self.after(state, place)
            if further.alive <= state.alive and further.peak == state.peak:
                return [further]
            found.append(further)
        return found


def _bits(places: set[int]) -> int:
    return sum(1 << place for place in places)


def scheduled(graph: Graph, dtype: str | None = None, *, beam: int = _BEAM) -> Graph:
    """The same network in the order with the least peak of activations that was found, never a worse one than given.

    Args:
        graph: the network.
        dtype: number format of its floating-point tensors; as traced where None.
        beam: how many sets of operators of each size to keep; the answer is the best there is where there are no more.

    Raises:
        ArgumentError: the beam is not a positive integer, or the format is unknown.
    """
    require_positive_integer(beam, "beam")
    problem = _Problem(graph, dtype)
    states = [problem.start]
    for _ in graph.operators:
        best: dict[int, _State] = {}
        for state in states:
            for further in problem.next(state):
                if further.done not in best or further.peak < best[further.done].peak:
                    best[further.done] = further
        states = sorted(best.values(), key=lambda state: (state.peak, state.alive))[:beam]
    found = replace(graph, operators=tuple(graph.operators[place] for place in states[0].order()))
    return found if found.peak_bytes(dtype) < graph.peak_bytes(dtype) else graph
