# SPDX-License-Identifier: Apache-2.0
"""Findings name the user's own line, and say the same thing once."""

from dataclasses import replace

import torch
from torch import fx, nn

from sirdar.deploy.capture import capture
from sirdar.deploy.findings import Finding, Location, location_of, location_of_error, merged


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(3, 3), nn.Sequential(Inner(), nn.LSTM(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.first(x))[0]


def test_the_line_is_the_users_and_not_torchs() -> None:
    captured = capture(Outer().eval(), torch.randn(2, 2, 3))
    assert captured.program is not None
    places = {}
    for node in captured.program.graph.nodes:
        if node.op == "call_function":
            found = location_of(node)
            assert found is not None, node
            assert "torch/nn" not in found.file
            places.setdefault(found.code, found)
    assert set(places) == {"return torch.tanh(x)", "return self.rest(self.first(x))[0]"}
    assert places["return torch.tanh(x)"].module == "rest.0"
    assert places["return torch.tanh(x)"].function == "forward"


def squashed(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x)


class Helped(nn.Module):
    def doubled(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        return squashed(y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.doubled(x)


def test_the_line_may_stand_in_a_function_that_forward_calls() -> None:
    captured = capture(Helped().eval(), torch.randn(2, 3))
    assert captured.program is not None
    places = [location_of(node) for node in captured.program.graph.nodes if node.op == "call_function"]
    assert [(place.code, place.function) for place in places if place is not None] == [
        ("y = x * 2", "doubled"),
        ("return torch.tanh(x)", "squashed"),
    ]


def test_a_library_that_the_users_layer_calls_is_not_named() -> None:
    mine = '  File "/home/me/net.py", line 3, in forward\n    y = pack(x)\n'
    packed = '  File "/env/lib/python3.11/site-packages/packing/ops.py", line 9, in pack\n    return x.view(1)\n'
    node = fx.Graph().placeholder("x")
    node.meta["stack_trace"] = mine + packed
    found = location_of(node)
    assert found is not None
    assert (found.file, found.line) == ("/home/me/net.py", 3)
    layer = packed.replace("in pack", "in forward") + packed.replace("line 9, in pack", "line 20, in helper")
    node.meta["stack_trace"] = mine + layer  # a layer of the library itself is named by the line in it
    found = location_of(node)
    assert found is not None
    assert (found.line, found.function) == (20, "helper")


def test_an_error_names_the_line_it_came_from() -> None:
    try:
        nn.Linear(3, 4)(torch.randn(2, 5))
    except RuntimeError as error:
        found = location_of_error(error)
    assert found is not None
    assert found.code == "nn.Linear(3, 4)(torch.randn(2, 5))"


def test_the_same_on_the_same_line_is_said_once() -> None:
    place = Location("a.py", 3)
    note = Finding("rule", "note", "t", "w", "f", operator="x", location=place)
    error = replace(note, rule="other", severity="error", operator="z")
    rows = merged([note, replace(note, operator="y"), error, replace(note, location=Location("a.py", 4))])
    assert [(row.rule, row.count) for row in rows] == [("other", 1), ("rule", 2), ("rule", 1)]


def test_only_what_is_not_mended_blocks() -> None:
    error = Finding("rule", "error", "t", "w", "f")
    assert error.blocking
    assert not replace(error, rewritten="done").blocking
    assert not replace(error, severity="warning").blocking
