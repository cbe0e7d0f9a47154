# SPDX-License-Identifier: Apache-2.0
"""Scales of demand whose level, spread, error and drift are known."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sirdar.forecasting.scaling import DEMAND_CHANNELS, scaled

TIME, SEASON = 72, 12


def seen(demand: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(demand)


def test_a_pure_season_has_no_error_of_the_seasonal_naive() -> None:
    season = 100 + 10 * torch.sin(torch.arange(TIME) * 2 * torch.pi / SEASON)
    scale = scaled(season[None], seen(season[None]), SEASON, 1.0)
    torch.testing.assert_close(scale.location[0, -1], torch.tensor(100.0))
    # A tenth of the spread is the least error, and the mean of |sin| is 2 / pi.
    assert 0.9 * 20 / torch.pi < scale.spread[0, -1] < 1.2 * 20 / torch.pi
    torch.testing.assert_close(scale.error[0, -1], 0.1 * scale.spread[0, -1])
    assert abs(scale.drift[0, -1]) < 1e-3


def test_a_line_drifts_by_its_slope() -> None:
    line = 50 + 2.0 * torch.arange(TIME, dtype=torch.float32)[None]
    scale = scaled(line, seen(line), SEASON, 1.0)
    # Shrunk towards none by half a season: about 25 faded steps against 6.
    assert 1.4 < scale.drift[0, -1] < 2.0


def test_noise_does_not_drift_and_errs_by_more_than_it_spreads() -> None:
    noise = 100 + 10 * torch.randn(200, TIME, generator=torch.Generator().manual_seed(0))
    scale = scaled(noise, seen(noise), SEASON, 1.0)
    assert abs(scale.drift[:, -1].mean()) < 0.5
    ratio = (scale.error / scale.spread)[:, -1].mean()
    assert 1.2 < ratio < 1.45  # two draws differ by sqrt(2) of what one is from the mean


@settings(max_examples=30)
@given(st.floats(1e-9, 1e3), st.integers(0, 1000))
def test_demand_scales_with_its_unit(factor: float, seed: int) -> None:
    demand = 1e6 + 1e5 * torch.randn(2, TIME, generator=torch.Generator().manual_seed(seed))
    one, other = (scaled(unit * demand, seen(demand), SEASON, unit * 1e6) for unit in (1.0, factor))
    for name in ("location", "spread", "error"):
        small, large = (getattr(scale, name)[:, SEASON:] for scale in (other, one))
        torch.testing.assert_close(small, factor * large, rtol=1e-2, atol=0)
    assert one.channels.shape == (2, TIME, DEMAND_CHANNELS)


def test_fractions_of_a_unit_scale_even_where_most_steps_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    tonnes = torch.poisson(torch.full((8, TIME), 0.3), generator=generator) * 1e-4
    one, other = (
        scaled(demand, seen(tonnes), SEASON, typical) for demand, typical in ((tonnes, 3e-5), (1e-3 * tonnes, 3e-8))
    )
    for name in ("location", "spread", "error", "drift"):
        torch.testing.assert_close(getattr(other, name), 1e-3 * getattr(one, name), rtol=1e-4, atol=0)
    same = torch.arange(DEMAND_CHANNELS) != 3  # the level itself is told by one of them
    torch.testing.assert_close(other.channels[..., same], one.channels[..., same], rtol=1e-3, atol=1e-4)


def test_a_series_without_history_has_the_typical_scale_and_no_drift() -> None:
    none = torch.zeros(1, TIME)
    scale = scaled(none, none, SEASON, 7.0)
    torch.testing.assert_close(scale.spread, torch.full((1, TIME), 7.0))
    torch.testing.assert_close(scale.error, torch.full((1, TIME), 7.0))
    assert torch.equal(scale.drift, torch.zeros(1, TIME))


def test_a_level_holds_while_nothing_is_observed() -> None:
    demand = 100 + 10 * torch.randn(3, TIME, generator=torch.Generator().manual_seed(0))
    observed = (torch.arange(TIME) < 40).float().expand(3, -1).clone()
    observed[1, :20] = 0  # not seen at first either
    observed[2] = 0
    scale = scaled(demand, observed, SEASON, 7.0)
    held = range(40 + SEASON - 1, TIME)  # the last step of which a level's span still held something, and later ones
    level = scale.location[:2, held.start :]
    torch.testing.assert_close(level, level[:, :1].expand_as(level))
    spread = scale.spread[:2, held.start :]  # but for a prior that counts more and more
    torch.testing.assert_close(spread, spread[:, :1].expand_as(spread), rtol=0.2, atol=0)
    assert (abs(scale.location[:2, -1] - 100) < 15).all()
    assert (scale.location[2] == 0).all()  # one that was never seen has no level
    torch.testing.assert_close(scale.spread[2], torch.full((TIME,), 7.0))
