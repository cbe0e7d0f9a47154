# SPDX-License-Identifier: Apache-2.0
"""Words for settings: plain data alone, the same in every process."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sirdar.chips import Roofline, Tiled
from sirdar.chips.calibration import Calibration
from sirdar.search.multishot import RegularisedEvolution
from sirdar.search.settings import settings_of
from sirdar.search.stopping import CurveStopping


@dataclass(frozen=True)
class Held:
    path: Path
    share: float
    made: object


@dataclass
class Counting:
    calls: int = 0


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (RegularisedEvolution(4), "population=4, tournament=5, changes=1"),
        (CurveStopping(100), "until=100, least=4, slack=0.5"),
        (Held(Path("a/b"), np.float64(0.5), {"x": (1, None)}), "path='a/b', share=0.5, made=(('x', (1, None)))"),
        (Held(Path("a"), 1.0, lambda: 0), "path='a', share=1.0"),
        (Tiled(), "calibration=None"),
        (Counting(3), ""),
        (Roofline(), ""),
        (object(), ""),
    ],
)
def test_settings_are_plain_data(thing: object, told: str) -> None:
    assert settings_of(thing) == told


def test_settings_of_settings_are_told() -> None:
    assert settings_of(Tiled(Calibration(array=2.0))).startswith("calibration=Calibration(array=2.0, vector=1.0")
