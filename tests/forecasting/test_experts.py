# SPDX-License-Identifier: Apache-2.0
"""What the experts begin as: textbook methods, on demand for which their answers are known."""

import pytest
import torch

from sirdar.forecasting.experts import EXPERTS, Experts, LongRun
from sirdar.forecasting.scaling import Scaled

SEASON, REACH, HORIZON = 4, 20, 6


def answers(recent: torch.Tensor, drift: float = 0.0, season: int = SEASON) -> torch.Tensor:
    """[horizon, expert] for one series seen at one origin."""
    with torch.no_grad():
        return Experts(HORIZON, season, len(recent))(recent[None, None], torch.full((1, 1), drift))[0, 0]


def test_all_but_the_naive_repeat_a_pure_season() -> None:
    season = torch.tensor([1.0, -2.0, 0.5, 0.0])
    recent = season.repeat(REACH // SEASON)
    found = answers(recent)
    expected = season.repeat(2)[:HORIZON]
    for expert in (0, 1, 3, 4, 5):
        torch.testing.assert_close(found[:, expert], expected)
    assert torch.equal(found[:, 2], recent[-1:].expand(HORIZON))


def test_on_a_line_each_says_what_its_method_says() -> None:
    slope = 0.1
    recent = slope * torch.arange(-REACH + 1.0, 1.0)  # ends at 0
    found = answers(recent, drift=slope)
    ahead = torch.arange(1.0, HORIZON + 1)
    torch.testing.assert_close(found[:, 2], torch.zeros(HORIZON))  # naive
    lag = SEASON - (ahead - 1) % SEASON
    torch.testing.assert_close(found[:, 0], slope * (1 - lag))  # seasonal naive
    torch.testing.assert_close(found[:, 3], slope * (1 - lag) + slope * SEASON)  # and last season's change
    drifted = torch.sinh(found[:, 5]) - torch.sinh(found[:, 4])
    torch.testing.assert_close(drifted, slope * ahead)  # in units of demand, not under the link


def test_a_season_longer_than_what_is_seen_leaves_the_naive() -> None:
    recent = torch.randn(10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(answers(recent, season=24), recent[-1:].expand(HORIZON, EXPERTS))


def test_without_a_season_the_profile_is_the_recent_mean() -> None:
    recent = torch.randn(28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(answers(recent, season=1)[0, 1], recent.mean())


PLAIN = Scaled(*(torch.full((1, 1), value) for value in (3.0, 2.0, 1.0, 0.0)), torch.zeros(1, 1, 0))
WEEK = torch.tensor([0.0, 2.0, 4.0, 1.0, 5.0, 9.0, 7.0])


def demand(scaled: torch.Tensor) -> torch.Tensor:
    """Back to units."""
    return torch.sinh(scaled) * PLAIN.spread[0, 0] + PLAIN.location[0, 0]


def test_the_long_run_of_a_week_that_repeats_is_its_mean_and_the_week_itself() -> None:
    long = LongRun(10, 7, 256)  # a level of 14 days: means over 56, 112 and 224, profiles over the last two
    past = WEEK.repeat(32)[None, None]
    found = demand(long.candidates(past, torch.ones_like(past), PLAIN)[0, 0])
    assert found.shape == (10, len(long)) == (10, 5)
    torch.testing.assert_close(found[:, :3], torch.full((10, 3), 4.0))
    torch.testing.assert_close(found[:, 3:], WEEK.repeat(2)[:10, None].expand(-1, 2))


def test_the_long_run_does_not_count_what_was_not_observed() -> None:
    long = LongRun(2, 7, 256)
    past, seen = torch.zeros(1, 1, 224), torch.zeros(1, 1, 224)
    past[..., -14:], seen[..., -14:] = 6.0, 1.0  # a product of two weeks
    torch.testing.assert_close(demand(long.candidates(past, seen, PLAIN)[0, 0]), torch.full((2, 5), 6.0))


@pytest.mark.parametrize(("season", "length"), [(7, 223), (12, 144), (24, 256), (52, 256), (1, 256)])
def test_there_is_no_long_run_without_room_for_it_or_a_short_season(season: int, length: int) -> None:
    assert len(LongRun(6, season, length)) == 0
