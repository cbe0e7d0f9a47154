# SPDX-License-Identifier: Apache-2.0
"""A killed training ends as an unbroken one; the schedule by its definition; averages by a loop."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sirdar.errors import ArgumentError, DataError, OutputError
from sirdar.tensors import read_tensors
from sirdar.vision.checkpoint import load_network, save_network
from sirdar.vision.training import Optimiser, Precision, Schedule, seeded, share_of_peak, train


@dataclass(frozen=True)
class Line:
    """A task that a 1 x 1 convolution can solve."""

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        images = torch.rand(size, 3, 4, 4, generator=generator) * 2 - 1
        return images, images.sum(1, keepdim=True)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()


def _network() -> nn.Module:
    with seeded(3):
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


SHORT = Schedule(steps=30, batch=8, learning_rate=0.02, weight_decay=0.0, average=0.9)


@pytest.mark.parametrize(("optimiser", "precision"), [("sgd", "fp32"), ("adamw", "fp32"), ("adamw", "bf16-sr")])
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, optimiser: Optimiser, precision: Precision
) -> None:
    schedule = replace(SHORT, optimiser=optimiser, precision=precision)
    whole = train(_network(), Line(), schedule, watch_every=10)
    path = tmp_path / "run.safetensors"

    def killed(step: int, _network: nn.Module) -> bool:
        if step == 20:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        train(_network(), Line(), schedule, checkpoint=path, watch=killed, watch_every=10)
    assert path.exists()
    seen: list[int] = []
    resumed = train(
        _network(), Line(), schedule, checkpoint=path, watch=lambda s, _n: bool(seen.append(s)), watch_every=5
    )
    assert seen == [25]
    assert not path.exists()
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "value"), [("seed", 9), ("optimiser", "adamw"), ("steps", 8)])
def test_the_checkpoint_of_another_schedule_is_refused(tmp_path: Path, name: str, value: object) -> None:
    path, schedule = tmp_path / "run.safetensors", replace(SHORT, optimiser="sgd")

    def killed(_step: int, _network: nn.Module) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(_network(), Line(), schedule, checkpoint=path, watch=killed, watch_every=10)
    other: Schedule = replace(schedule, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"a training with {name} {getattr(schedule, name)!r}, not {value!r}"):
        train(_network(), Line(), other, checkpoint=path)
    assert path.exists()


def test_training_learns_stops_on_demand_and_leaves_evaluation_mode() -> None:
    network = _network()
    images, targets = Line().batch(torch.Generator().manual_seed(0), 64)
    before = Line().loss(network(images), targets).item()
    train(network, Line(), Schedule(steps=150, batch=16, learning_rate=0.05, weight_decay=0.0, average=0.9))
    assert Line().loss(network(images), targets).item() < before / 5
    assert not network.training
    stopped: list[int] = []
    train(_network(), Line(), SHORT, watch=lambda s, _n: stopped.append(s) or s == 10, watch_every=5)
    assert stopped == [5, 10]


def test_stochastic_rounding_learns_in_steps_that_nearest_rounding_loses() -> None:
    # Weights of about a half move in bf16 by 2^-9 at least, a hundred times the learning rate.
    steps = Schedule(steps=400, batch=16, learning_rate=2e-5, weight_decay=0.0, average=0.0)
    start = _network().state_dict()["0.weight"].to(torch.bfloat16).float()
    moved = {}
    for precision in ("fp32", "bf16-sr", "bf16-nearest"):
        weight = train(_network(), Line(), replace(steps, precision=precision)).state_dict()["0.weight"]
        moved[precision] = (weight - start).abs().mean().item()
        if precision != "fp32":
            assert torch.equal(weight, weight.to(torch.bfloat16).float())
    assert moved["bf16-nearest"] < 0.2 * moved["fp32"] < moved["bf16-sr"]


def test_weights_in_bf16_alone_need_adamw() -> None:
    with pytest.raises(ArgumentError, match="'bf16-sr' needs the optimiser adamw, got 'sgd'"):
        Schedule(optimiser="sgd", precision="bf16-sr")


@pytest.mark.parametrize("precision", ["fp32", "bf16-sr"])
def test_watching_changes_nothing(precision: Precision) -> None:
    schedule = replace(SHORT, precision=precision)
    plain = train(_network(), Line(), schedule)
    watched = train(
        _network(), Line(), schedule, watch=lambda _s, n: bool(n(torch.ones(1, 3, 4, 4)).sum() > 1e9), watch_every=7
    )
    for one, other in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    shares = [share_of_peak(step / 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.01)
    assert max(shares) == shares[5] == pytest.approx(1)
    assert shares[-1] == pytest.approx(0)
    assert shares[5:] == sorted(shares[5:], reverse=True)


def test_weights_come_back_with_their_facts(tmp_path: Path) -> None:
    network, path = _network(), tmp_path / "net.safetensors"
    save_network(path, network, {"kind": "line"})
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    assert load_network(path, other) == {"kind": "line"}
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    save_network(path, network, {}, half=True)
    assert read_tensors(path)[0]["0.weight"].dtype == torch.float16
    with pytest.raises(DataError, match="weights of another network"):
        load_network(path, nn.Conv2d(3, 4, 1))
    (tmp_path / "torn").write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="torn: not a file of weights and facts"):
        read_tensors(tmp_path / "torn")


def test_weights_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").mkdir()  # in the way of the file, as a full disk is
    with pytest.raises(OutputError, match=r"net\.safetensors: cannot be written \(.*directory"):
        save_network(tmp_path / "net.safetensors", _network(), {})


def test_errors_name_the_value() -> None:
    with pytest.raises(ArgumentError, match="got 0"):
        Schedule(steps=0)
    with pytest.raises(ArgumentError, match=r"got -1\.0, 0\.05, 0\.998"):
        Schedule(learning_rate=-1.0)
