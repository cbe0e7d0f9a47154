# SPDX-License-Identifier: Apache-2.0
"""Blocks against the layer tables of their papers and counts worked out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.errors import ArgumentError
from sirdar.vision.blocks import (
    KINDS,
    Backbone,
    Block,
    BlockLayers,
    deepened,
    parameter_count,
)


def test_parameters_are_those_of_the_papers_layer_tables() -> None:
    def count(kind: str) -> int:
        return parameter_count(BlockLayers(Block(kind=kind, channels=24, expansion=6), 16))

    # Weights of each convolution, and one bias for each of its output channels.
    assert count("ibn") == (16 * 96 + 96) + (9 * 96 + 96) + (96 * 24 + 24)
    assert count("fused") == (9 * 16 * 96 + 96) + (96 * 24 + 24)
    assert count("depthwise") == (9 * 16 + 16) + (16 * 24 + 24)
    assert count("standard") == 9 * 16 * 24 + 24


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 2])
def test_shapes_and_where_a_block_adds_its_input(kind: str, stride: int) -> None:
    for before, after in ((8, 8), (8, 16)):
        layers = BlockLayers(Block(kind=kind, channels=after, stride=stride), before).eval()
        y = layers(torch.zeros(2, before, 12, 10))
        assert y.shape == (2, after, 12 // stride, 10 // stride)
        assert layers.adds == (stride == 1 and before == after)


def test_an_added_input_passes_through_a_block_of_zero_weights() -> None:
    layers = BlockLayers(Block(channels=8), 8).eval()
    for parameter in layers.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layers(x), x)


def test_a_backbone_hands_out_the_last_features_of_every_resolution() -> None:
    network = Backbone(8, [[Block(channels=16, stride=2)], [Block(channels=24, stride=2), Block(channels=24)]]).eval()
    features = network(torch.zeros(1, 3, 32, 48))
    assert network.channels == {4: 16, 8: 24}
    assert {stride: tuple(x.shape) for stride, x in features.items()} == {4: (1, 16, 8, 12), 8: (1, 24, 4, 6)}


@given(st.integers(1, 512), st.floats(0.1, 2), st.sampled_from([2, 8, 16]))
@settings(max_examples=60)
def test_a_depth_multiplier_rounds_to_the_granule_and_never_loses_a_tenth(
    channels: int, multiplier: float, granule: int
) -> None:
    found = deepened(channels, multiplier, granule)
    assert found % granule == 0
    assert found >= max(granule, 0.9 * channels * multiplier)
    assert found <= channels * multiplier + granule


def test_errors_name_the_value() -> None:
    with pytest.raises(ArgumentError, match="kind must be one of ibn, fused, depthwise, standard, got 'round'"):
        Block(kind="round")
    with pytest.raises(ArgumentError, match="got kernel 4 and stride 1"):
        Block(kernel=4)
    with pytest.raises(ArgumentError, match="got kernel 3 and stride 3"):
        Block(stride=3)
    with pytest.raises(ArgumentError, match=r"multiplier must be above zero, got 0\.0"):
        deepened(8, 0.0)
