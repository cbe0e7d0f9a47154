# SPDX-License-Identifier: Apache-2.0
"""Bytes of a run against what its tensors hold, and what Linux says is left."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.deploy import room
from sirdar.deploy.capture import capture
from sirdar.deploy.emulation import network


class Branches(nn.Module):
    """Two results of ten values are alive beside a view of one of them and the sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = x.exp()
        first, second = one.view(2, 5).split(1)
        other = x.sin()
        return other.view(2, 5) + first + second


def test_views_take_no_bytes_and_hold_those_of_what_they_view() -> None:
    net = network(capture(Branches().eval(), (torch.randn(10),)))
    graph = net.program.graph
    assert room.result_bytes(graph) == 4 * 4 * 10  # exp, sin and two sums
    assert room.live_bytes(graph, net.ends) == 4 * 3 * 10


def test_a_chain_holds_two_results_at_a_time() -> None:
    layers = [nn.ReLU() for _ in range(10)]
    net = network(capture(nn.Sequential(*layers).eval(), (torch.randn(100),)))
    assert room.live_bytes(net.program.graph, net.ends) == 4 * 2 * 100
    assert room.result_bytes(net.program.graph) == 4 * 10 * 100


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_machine_and_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    folder = tmp_path / ("groups/memory/box" if version == 1 else "groups/box")
    folder.mkdir(parents=True)
    files = {
        "memory.limit_in_bytes": "9000",
        "memory.usage_in_bytes": "5000",
        "memory.stat": "total_inactive_file 1000",
    }
    if version == 2:
        files = {"memory.max": "9000", "memory.current": "5000", "memory.stat": "anon 1\ninactive_file 1000"}
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text("5:cpu:/elsewhere\n4:memory:/box\n" if version == 1 else "0::/box\n")
    (tmp_path / "machine").write_text("MemTotal: 100 kB\nMemAvailable: 6 kB\n")
    monkeypatch.setattr(room, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(room, "_GROUP", tmp_path / "own")
    monkeypatch.setattr(room, "_MACHINE", tmp_path / "machine")
    assert room.spare_bytes() == 5000
    (tmp_path / "machine").write_text("MemTotal: 100 kB\nMemAvailable: 2 kB\n")
    assert room.spare_bytes() == 2048
    assert room.shortage(2049, "it") == "it needs about 0.00 MB of memory, and 0.00 MB are to spare"
    assert room.shortage(2048, "it") == ""


def test_a_silent_system_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_GROUPS", "_GROUP", "_MACHINE"):
        monkeypatch.setattr(room, name, tmp_path / "none")
    assert room.spare_bytes() is None
    assert room.shortage(1 << 60, "it") == ""
