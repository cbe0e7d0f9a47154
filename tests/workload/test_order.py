# SPDX-License-Identifier: Apache-2.0
"""Orders of a network: against every order there is, and on networks whose best order is known."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sirdar.errors import ArgumentError
from sirdar.workload.graph import Graph, Operator, TensorSpec
from sirdar.workload.order import scheduled
from sirdar.workload.trace import trace

STEP = st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans(), st.integers(1, 9))


def value(name: str, size: int) -> TensorSpec:
    return TensorSpec((size,), "int8", name)


def branches(count: int) -> Graph:
    """Wide values, all made before any is narrowed, then summed."""
    x, wide = value("x", 1), [value(f"wide{n}", 100) for n in range(count)]
    narrow, y = [value(f"narrow{n}", 1) for n in range(count)], value("y", 1)
    steps = [Operator(f"widen{n}", "elementwise", (x,), (w,)) for n, w in enumerate(wide)]
    steps += [Operator(f"sum{n}", "reduction", (w,), (narrow[n],)) for n, w in enumerate(wide)]
    return Graph((*steps, Operator("join", "elementwise", tuple(narrow), (y,))), (x,), ("y",))


def random_graph(steps: list[tuple[int, int, bool, int]], outputs: list[int]) -> Graph:
    """Step k reads two of the values made so far and makes another, or a view of the first."""
    made, operators = [value("x", 5)], []
    for step, (first, second, view, size) in enumerate(steps):
        sources = tuple(dict.fromkeys((made[first % len(made)], made[second % len(made)])))
        out = value(f"e{step}", sources[0].elements if view else size)
        operators.append(Operator(f"o{step}", "view" if view else "elementwise", sources, (out,)))
        made.append(out)
    return Graph(tuple(operators), (made[0],), tuple({made[place % len(made)].name for place in outputs}))


def every_order(graph: Graph) -> Iterator[Graph]:
    """By definition: each operator in turn first, where all that it reads is there."""

    def rest(ran: tuple[Operator, ...], left: tuple[Operator, ...], there: set[str]) -> Iterator[tuple[Operator, ...]]:
        if not left:
            yield ran
        for place, row in enumerate(left):
            if {spec.name for spec in row.inputs} <= there:
                others = left[:place] + left[place + 1 :]
                yield from rest((*ran, row), others, there | {spec.name for spec in row.outputs})

    for order in rest((), graph.operators, {spec.name for spec in graph.inputs}):
        yield replace(graph, operators=order)


@given(st.lists(STEP, min_size=1, max_size=6), st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_no_order_needs_less(steps: list[tuple[int, int, bool, int]], outputs: list[int]) -> None:
    graph = random_graph(steps, outputs)
    found = scheduled(graph)
    assert found.peak_bytes() == min(order.peak_bytes() for order in every_order(graph))
    assert sorted(row.name for row in found.operators) == sorted(row.name for row in graph.operators)


@given(st.lists(STEP, min_size=1, max_size=40), st.integers(1, 3))
def test_a_narrow_beam_is_never_worse_than_the_order_given(steps: list[tuple[int, int, bool, int]], beam: int) -> None:
    graph = random_graph(steps, [0])
    assert scheduled(graph, beam=beam).peak_bytes() <= graph.peak_bytes()


@pytest.mark.parametrize("count", [2, 10, 60])
def test_wide_branches_run_one_after_another(count: int) -> None:
    graph = branches(count)
    assert graph.peak_bytes() == 1 + 100 * count  # the input, and every wide value
    assert scheduled(graph).peak_bytes() == 100 + count  # one wide value, the others narrow, the input or the last sum


def test_the_format_decides_what_is_wide() -> None:
    graph = trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.zeros(4, 8))
    assert scheduled(graph, "bf16").peak_bytes("bf16") == graph.peak_bytes("bf16") == graph.peak_bytes() // 2
    assert scheduled(graph) is graph  # a chain has one order


def test_a_traced_network_with_branches_needs_less() -> None:
    class Towers(nn.Module):
        """Views of one picture at four scales, each brought down to a number."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            towers = [torch.relu(x * scale) for scale in (1.0, 2.0, 3.0, 4.0)]
            return torch.stack([tower.sum() for tower in towers])

    graph = trace(Towers(), torch.zeros(1000))
    found = scheduled(graph)
    assert found.peak_bytes() < 0.7 * graph.peak_bytes()
    assert found.macs == graph.macs
    assert found.flops == graph.flops


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="beam must be a positive integer, got 0"):
        scheduled(branches(2), beam=0)
