# SPDX-License-Identifier: Apache-2.0
"""What the experts begin as: textbook methods, on demand for which their answers are known."""

import torch

from sirdar.forecasting.experts import EXPERTS, Experts

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
