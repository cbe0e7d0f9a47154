# SPDX-License-Identifier: Apache-2.0
"""Graphs: totals by hand, liveness against a slow reference, and refusal of what makes no sense."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sirdar.errors import ArgumentError, DataError
from sirdar.workload.graph import Graph, Operator, TensorSpec


def spec(name: str, *shape: int, dtype: str = "fp32") -> TensorSpec:
    return TensorSpec(shape, dtype, name)


def chain() -> Graph:
    """x (4 values) -> a (8) -> view of a -> b (2) -> y = b + x (4), with one weight read twice."""
    x, a, seen, b, y = spec("x", 4), spec("a", 8), spec("seen", 4, 2), spec("b", 2), spec("y", 4)
    w = spec("w", 4, 8)
    operators = (
        Operator("first", "matmul", (x,), (a,), (w,), macs=32),
        Operator("look", "view", (a,), (seen,)),
        Operator("second", "matmul", (seen,), (b,), (w,), macs=16),
        Operator("last", "elementwise", (b, x), (y,), flops=4),
    )
    return Graph(operators, (x,), ("y",))


def test_totals_by_hand() -> None:
    graph = chain()
    assert graph.macs == 48
    assert graph.flops == 2 * 48 + 4
    assert graph.parameter_bytes() == 4 * 8 * 4  # the shared weight once
    assert graph.parameter_bytes("bf16") == 4 * 8 * 2
    assert graph.unknown == ()


def test_live_bytes_by_hand() -> None:
    # x lives to the end (16), a until its view was read (32), b 8, y 16.
    assert chain().live_bytes() == (48, 48, 56, 40)
    assert chain().peak_bytes() == 56
    assert chain().peak_bytes("e4m3") == 56 / 4


def test_integers_keep_their_width_in_another_format() -> None:
    assert spec("ids", 3, dtype="int64").bytes("bf16") == 24
    assert spec("x", 3, dtype="fp16").bytes("fp32") == 12
    assert spec("scalar").bytes() == 4


def test_block_formats_store_a_scale_for_every_block() -> None:
    # docs/formats.md: of 33 values two scales of a byte, and 8 or 4 bits for each; integers have neither
    assert [spec("x", 33).bytes(name) for name in ("mxfp8_e4m3", "mxint8", "mxfp4_e2m1")] == [35, 35, 18]
    assert spec("ids", 5, 7, dtype="int64").bytes("mxfp4_e2m1") == 280
    assert chain().parameter_bytes("mxfp8_e4m3") == 4 * 8 + 1


def test_unknown_operators_are_named() -> None:
    x, y = spec("x", 4), spec("y", 4)
    graph = Graph((Operator("sort", "unknown", (x,), (y,), attributes={"target": "aten.sort"}),), (x,), ("y",))
    assert graph.unknown == ("sort (aten.sort)",)


def test_json_round_trip() -> None:
    assert Graph.from_dict(json.loads(json.dumps(chain().to_dict()))) == chain()


@pytest.mark.parametrize("damage", [{"schema": 99}, {"operators": [{"name": "first"}]}, {"inputs": 3}])
def test_damaged_storage_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="stored graph"):
        Graph.from_dict({**chain().to_dict(), **damage})


def test_edges_must_be_made_before_they_are_read() -> None:
    operators = chain().operators
    with pytest.raises(ArgumentError, match="'second' reads 'seen' before it is made"):
        Graph((operators[0], *operators[2:]), chain().inputs, ("y",))


def test_an_edge_is_made_once() -> None:
    first = chain().operators[0]
    with pytest.raises(ArgumentError, match="two operators are called 'first'"):
        Graph((first, first), chain().inputs, ("a",))
    with pytest.raises(ArgumentError, match="'again' makes 'a', which is already there"):
        Graph((first, replace(first, name="again")), chain().inputs, ("a",))


def test_an_edge_has_one_shape() -> None:
    x, y = spec("x", 4), spec("y", 4)
    with pytest.raises(ArgumentError, match=r"reads 'x' as fp32 \(5,\), but it is fp32 \(4,\)"):
        Graph((Operator("copy", "copy", (spec("x", 5),), (y,)),), (x,), ("y",))


def test_outputs_must_exist() -> None:
    with pytest.raises(ArgumentError, match=r"puts out 'sen'.*Did you mean 'seen'\?"):
        replace(chain(), outputs=("sen",))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TensorSpec((2, -1)), r"integers >= 0, got \(2, -1\)"),
        (lambda: TensorSpec((2,), "fp12"), "dtype 'fp12'; known are"),
        (lambda: Operator("a", "convolve"), r"kind 'convolve'.*Did you mean 'conv'\?"),
        (lambda: Operator("a", "conv", macs=-1), "macs of operator 'a' must be an integer >= 0, got -1"),
        (lambda: Operator("a", "conv", (TensorSpec((2,)),)), "a tensor without a name"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        make()


STEPS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans(), st.integers(1, 9)), min_size=1)


def graph_of(steps: list[tuple[int, int, bool, int]], outputs: list[int]) -> Graph:
    """A graph whose step k reads two of the edges made so far and makes another, or a view of the first."""
    made = [spec("x", 5)]
    operators: list[Operator] = []
    for step, (first, second, view, size) in enumerate(steps):
        sources = tuple(dict.fromkeys((made[first % len(made)], made[second % len(made)])))
        out = spec(f"e{step}", sources[0].elements if view else size)
        operators.append(Operator(f"o{step}", "view" if view else "elementwise", sources, (out,)))
        made.append(out)
    return Graph(tuple(operators), (made[0],), tuple({made[place % len(made)].name for place in outputs}))


def slow_live_bytes(graph: Graph) -> tuple[int, ...]:
    """By definition: of every storage, is it made by now and will any edge on it be read from now on?"""
    owner = {one.name: one.name for one in graph.inputs}
    born = {one.name: -1 for one in graph.inputs}
    size = {one.name: one.bytes() for one in graph.inputs}
    for step, operator in enumerate(graph.operators):
        for out in operator.outputs:
            owner[out.name] = owner[operator.inputs[0].name] if operator.kind == "view" else out.name
            born[out.name], size[out.name] = step, out.bytes()
    reads = [{owner[one.name] for one in operator.inputs} for operator in graph.operators]
    reads.append({owner[name] for name in graph.outputs})
    used = set().union(*reads)
    profile = []
    for step in range(len(graph.operators)):
        later = set().union(*reads[step:])
        forever = {one.name for one in graph.inputs} - used
        alive = {name for name in set(owner.values()) if born[name] <= step and name in later}
        alive |= forever | {name for name in set(owner.values()) if born[name] == step}
        profile.append(sum(size[name] for name in alive))
    return tuple(profile)


@given(STEPS, st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_live_bytes_are_those_of_the_definition(steps: list[tuple[int, int, bool, int]], outputs: list[int]) -> None:
    graph = graph_of(steps, outputs)
    assert graph.live_bytes() == slow_live_bytes(graph)


def test_the_module_is_stored_and_makes_no_operator_another() -> None:
    (first, *rest), graph = chain().operators, chain()
    told = replace(graph, operators=(replace(first, module="body.0"), *rest))
    assert told == graph
    again = Graph.from_dict(json.loads(json.dumps(told.to_dict())))
    assert [operator.module for operator in again.operators] == ["body.0", "", "", ""]
    stored = graph.to_dict()
    for row in stored["operators"]:
        del row["module"]  # as before there was any
    assert Graph.from_dict(stored) == graph
