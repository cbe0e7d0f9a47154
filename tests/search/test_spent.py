# SPDX-License-Identifier: Apache-2.0
"""The bill of a search, known and unknown."""

import pytest

from sirdar.chips import load
from sirdar.search.spent import bill


def test_an_hour_of_a_named_accelerator_is_its_power() -> None:
    assert bill(0.0, 3600.0, "h200").kwh == pytest.approx(load("h200").power_w.value / 1000)


def test_seconds_of_an_accelerator_without_a_name_make_the_energy_unknown() -> None:
    spent = bill(10.0, 3600.0, region="us-east-1")
    assert (spent.gpu_hours, spent.kwh, spent.grams_co2) == (1.0, None, None)
    assert bill(10.0, 0.0, region="us-east-1").grams_co2
