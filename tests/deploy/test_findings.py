# SPDX-License-Identifier: Apache-2.0
"""Findings name the user's own line, and say the same thing once."""

from dataclasses import replace

import torch
from torch import nn

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
