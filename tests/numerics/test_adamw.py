# SPDX-License-Identifier: Apache-2.0
"""AdamW against torch's own, and what stochastic rounding saves."""

import copy

import pytest
import torch
from torch import nn

from sirdar.errors import ArgumentError, UnsupportedError
from sirdar.numerics.adamw import AdamW


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("maximize", [False, True])
def test_in_fp32_it_is_torch_s(*, maximize: bool) -> None:
    ours = nn.Parameter(normal(50))
    theirs = nn.Parameter(ours.detach().clone())
    places, options = (0.01, (0.8, 0.95), 1e-8, 0.1), {"maximize": maximize}
    mine, other = AdamW([ours], *places, **options), torch.optim.AdamW([theirs], *places, **options)
    for step in range(20):
        ours.grad = normal(50, seed=step)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_updates_add_up_only_when_rounded_stochastically(dtype: torch.dtype) -> None:
    # 200 updates of 1e-4 from 1.0: half a step of bf16 there is 2e-3 and of fp16 2.4e-4, so nearest never leaves
    ends = {}
    for rounding in ("nearest", "stochastic"):
        weight = nn.Parameter(torch.ones(10_000, dtype=dtype))
        optimiser = AdamW([weight], lr=1e-4, weight_decay=0.0, rounding=rounding, seed=1)
        for _ in range(200):
            weight.grad = torch.ones_like(weight)
            optimiser.step()
        ends[rounding] = weight.detach().float().mean().item()
    assert ends["nearest"] == 1.0
    # one weight deviates by less than sqrt(200 * 1e-4 * step) after 200 draws, the mean of 10,000 by a hundredth of it
    step = torch.finfo(dtype).eps
    assert ends["stochastic"] == pytest.approx(1 - 200e-4, abs=4 * (200e-4 * step) ** 0.5 / 100)


def test_there_is_no_fp32_copy_of_the_weights() -> None:
    weight = nn.Parameter(normal(1000).bfloat16())
    optimiser = AdamW([weight])
    weight.grad = torch.ones_like(weight)
    optimiser.step()
    state = optimiser.state[weight]
    assert {name for name, value in state.items() if isinstance(value, torch.Tensor)} == {"first", "second"}
    assert weight.dtype == torch.bfloat16


def test_a_saved_run_goes_on_as_if_it_had_not_stopped() -> None:
    weight = nn.Parameter(normal(100).bfloat16())
    optimiser = AdamW([weight], lr=0.01, seed=3)
    twin_weight, twin = None, None
    for step in range(10):
        if step == 5:
            twin_weight = nn.Parameter(weight.detach().clone())
            twin = AdamW([twin_weight], lr=0.5)
            twin.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        for one, owner in ((weight, optimiser), (twin_weight, twin)):
            if owner is not None:
                one.grad = normal(100, seed=step).bfloat16()
                owner.step()
    assert torch.equal(weight, twin_weight)
    assert twin.state[twin_weight]["first"].dtype == torch.float32


def test_closures_and_weights_without_gradient() -> None:
    weight, idle = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimiser = AdamW([{"params": [weight]}, {"params": [idle], "lr": 1.0}])

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = (weight**2).sum()
        value.backward()
        return value

    assert optimiser.step(loss) == 3.0
    assert torch.equal(idle, torch.ones(3))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lr": -1.0}, "lr must be a finite number >= 0, got -1.0"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers from 0 to below 1, got \(0.9, 1.0\)"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_what_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        AdamW([nn.Parameter(torch.ones(3))], **options)


def test_weights_of_another_type_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"got torch.float64"):
        AdamW([nn.Parameter(torch.ones(3, dtype=torch.float64))])


def test_groups_added_later_are_checked_as_the_first_ones() -> None:
    optimiser = AdamW([nn.Parameter(torch.ones(3))])
    for wrong, sentence in (
        ({"params": [nn.Parameter(torch.ones(3, dtype=torch.float64))]}, "got torch.float64"),
        ({"params": [nn.Parameter(torch.ones(3))], "lr": -1.0}, "lr must be a finite number >= 0, got -1.0"),
        ({"params": [nn.Parameter(torch.ones(3))], "rounding": "up"}, "'nearest' or 'stochastic', got 'up'"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            optimiser.add_param_group(wrong)
    assert len(optimiser.param_groups) == 1


def test_sparse_gradients_are_refused_before_any_weight_moves() -> None:
    table, other = nn.Embedding(10, 4, sparse=True), nn.Parameter(torch.ones(4))
    optimiser = AdamW([other, *table.parameters()])
    (table(torch.tensor([1, 2])) * other).sum().backward()
    with pytest.raises(UnsupportedError, match=r"sparse_coo for a weight of shape \(10, 4\): embeddings need sparse"):
        optimiser.step()
    assert torch.equal(other, torch.ones(4))


def test_the_state_of_another_optimiser_is_refused() -> None:
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    torchs = torch.optim.AdamW([weight])
    torchs.step()
    with pytest.raises(ArgumentError, match="step, first and second for each weight, got step, exp_avg, exp_avg_sq"):
        AdamW([weight]).load_state_dict(torchs.state_dict())


def test_an_empty_state_of_another_optimiser_is_refused_too() -> None:
    weight = nn.Parameter(torch.ones(3))
    ours = AdamW([weight])
    for other, lacking in ((torch.optim.SGD, "betas, eps, rounding, seed"), (torch.optim.AdamW, "rounding, seed")):
        with pytest.raises(ArgumentError, match=f"that of another optimiser: a group of its weights has no {lacking}"):
            ours.load_state_dict(other([weight], lr=0.1).state_dict())
    ours.load_state_dict(AdamW([weight], lr=0.5).state_dict())
    weight.grad = torch.ones(3)
    ours.step()
    assert ours.param_groups[0]["lr"] == 0.5


def test_a_state_from_before_there_was_maximize_descends() -> None:
    weight = nn.Parameter(torch.ones(3))
    ours = AdamW([weight])
    stored = AdamW([weight]).state_dict()
    del stored["param_groups"][0]["maximize"]
    ours.load_state_dict(stored)
    assert ours.param_groups[0]["maximize"] is False
