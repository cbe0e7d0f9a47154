# SPDX-License-Identifier: Apache-2.0
"""What the int8 writer takes for an input: batches and none, pixels, and what the network would change; as torch."""

import pytest
import torch
from torch import Tensor, nn

from sirdar.deploy.tflite import predict, write
from sirdar.errors import ArgumentError, UnsupportedError

pytest.importorskip("ai_edge_litert")


def test_an_empty_batch_is_refused() -> None:
    module, x = nn.Linear(4, 2), torch.randn(1, 4)
    with pytest.raises(ArgumentError, match=r"must hold at least one, got a tensor of shape \(0, 4\)"):
        write(module, x[:0], [x[:0]])
    with pytest.raises(ArgumentError, match=r"must be shaped like the example, \(1, 4\).*got \(0, 4\)"):
        write(module, x, [x[:0]])


def test_an_input_that_the_module_changes_stays_as_it_was() -> None:
    class Changing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2) + 1

    x = torch.ones(1, 4)
    with pytest.raises(UnsupportedError, match="copy_"):
        write(Changing(), x, [x])
    assert torch.equal(x, torch.ones(1, 4))


def test_a_convolution_of_one_without_a_batch() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8)  # takes the first axis for the batch: it is not to be folded into the convolution
    norm.running_mean.normal_()
    cases = (
        (nn.Sequential(nn.Conv1d(4, 8, 5), nn.ReLU(), nn.Conv1d(8, 8, 4), norm), (4, 15)),
        (nn.Sequential(nn.Conv2d(3, 6, 3, padding="same"), nn.ConvTranspose2d(6, 4, 2, 2)), (3, 5, 7)),
    )
    for module, shape in cases:
        x = torch.randn(shape)
        found = predict(write(module, x, [x]), x)[0]
        with torch.no_grad():
            expected = module.eval()(x)
        assert found.shape == expected.shape
        assert (found - expected).norm() < 0.03 * expected.norm()


def test_pixels_become_floats_by_arithmetic_too() -> None:
    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x / 255, x * (1 / 127.5) - 1

    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    for found, expected in zip(predict(write(Pixels(), x, [x]), x), Pixels()(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
