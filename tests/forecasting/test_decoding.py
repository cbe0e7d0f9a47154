# SPDX-License-Identifier: Apache-2.0
"""Quantiles that cannot cross, and how far they reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.forecasting.decoding import monotone


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e3), st.booleans())
@settings(deadline=None, max_examples=50)
def test_quantiles_do_not_cross(seed: int, level: float, counts: bool) -> None:  # noqa: FBT001
    raw = 10 * torch.randn(4, 1, 3, 9, generator=torch.Generator().manual_seed(seed))
    found = monotone(raw, torch.full((4, 1), level), counts=counts, training=False)
    assert (found.diff(dim=-1) >= -1e-3 * (1 + level)).all()  # single precision
    assert (found >= 0).all() or not counts


@pytest.mark.parametrize(("level", "farthest"), [(0.0, 16.5), (1.0, 17.5), (50.0, 550.0)])
def test_they_reach_ten_levels_of_a_steady_product_and_17_spreads_of_any(level: float, farthest: float) -> None:
    """By hand: sinh(3.5) is 16.5. What a promotion of a steady product sells is far outside its spread."""
    raw = torch.zeros(1, 1, 1, 3)
    raw[..., 0] = 1e3
    found = monotone(raw, torch.full((1, 1), level), counts=True, training=False)
    assert found[0, 0, 0, 1].item() == pytest.approx(farthest, rel=0.01)
