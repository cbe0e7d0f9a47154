# SPDX-License-Identifier: Apache-2.0
"""Intervals hold every value: checked against what networks of integers really compute."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sirdar.deploy.capture import capture
from sirdar.deploy.conditions import constants_of, scene
from sirdar.deploy.emulation import filled
from sirdar.deploy.nodes import made_by


class Arithmetic(nn.Module):
    """Many integer operators on two bounded inputs."""

    def __init__(self, start: int, step: int) -> None:
        super().__init__()
        self.start, self.step = start, step

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = x.clamp(-7, 11), y.clamp(1, 5)
        c = torch.arange(self.start, self.start + 6 * self.step, self.step)
        parts = (a + b, a - b, a * b, -a, a.abs(), a // b, a.abs() % b, a.abs() & b, a.abs() >> 1, a.abs() ** 2)
        moved = torch.cat([part + c for part in parts])
        return (
            moved,
            moved.cumsum(0),
            moved.sum(),
            torch.where(a > 0, a, c),
            torch.maximum(a, c),
            a.argmax(),
            moved.amax(),
            torch.add(a, b, alpha=50),
            torch.sub(a, b, alpha=-50),
            torch.rsub(a, 3, alpha=7),
            b.clamp(min=20),
            b.clamp(max=-20),
            b.clamp(9, -9),
            b.clamp(torch.tensor(30), torch.tensor(40)),
            a.index_put((torch.tensor([0, 0]),), torch.tensor([500, -500])),
            a.index_put((torch.tensor([0, 0]),), torch.tensor([500, 500]), accumulate=True),
        )


@settings(max_examples=15)
@given(st.integers(-5, 9), st.integers(1, 4), st.integers(0, 2**31))
def test_every_value_lies_within(start: int, step: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randint(-100, 100, (6,), generator=generator) for _ in range(2))
    captured = capture(Arithmetic(start, step).eval(), (x, y))
    assert captured.program is not None
    view = scene(captured.program)
    values, constants = {}, constants_of(captured.program)
    given_inputs = iter((x, y))
    checked = 0
    for node in captured.program.graph.nodes:
        if node.op == "placeholder":
            values[node] = constants[node.name] if node.name in constants else next(given_inputs)
        if node.op != "call_function":
            continue
        values[node] = node.target(*filled(node.args, values), **filled(node.kwargs, values))
        span = view.ranges[node]
        if span.known and made_by(node):
            checked += 1
            assert span.low <= int(values[node].min()), node
            assert int(values[node].max()) <= span.high, node
    assert checked >= 20


def test_a_column_that_looks_up_a_table_bounds_no_other_column() -> None:
    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 3)

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            whole = ids[:, :]
            return self.table(ids[:, 0]), ids[:, 1] * 100_003, whole + 1

    captured = capture(Columns().eval(), torch.zeros(2, 2, dtype=torch.long))
    assert captured.program is not None
    view = scene(captured.program)
    products = [view.ranges[node] for node in captured.program.graph.nodes if node.name.startswith(("mul", "add"))]
    assert len(products) == 2
    assert not any(span.known for span in products)


def test_inputs_that_look_up_a_table_are_within_it() -> None:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(50, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.table(ids)

    captured = capture(Lookup().eval(), (torch.zeros(2, 4, dtype=torch.int64),))
    assert captured.program is not None
    (span,) = [span for node, span in scene(captured.program).ranges.items() if node.name == "ids"]
    assert (span.low, span.high, span.known) == (0, 49, True)


def test_what_may_wrap_round_is_not_known() -> None:
    class Wraps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.clamp(0, 2**30).to(torch.int32) * 4) + 1

    captured = capture(Wraps().eval(), (torch.zeros(3, dtype=torch.int64),))
    assert captured.program is not None
    ranges = {node.name: span for node, span in scene(captured.program).ranges.items()}
    assert not ranges["mul"].known
    assert not ranges["add"].known
