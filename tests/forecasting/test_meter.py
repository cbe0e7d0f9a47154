# SPDX-License-Identifier: Apache-2.0
"""The meter sees work, sleep and memory for what they are."""

import time

import numpy as np

from sirdar.forecasting.meter import Meter


def test_sleep_costs_time_but_no_cpu() -> None:
    meter = Meter()
    with meter.running():
        time.sleep(0.2)
    assert meter.seconds >= 0.2
    assert meter.cpu_seconds < 0.15


def test_work_costs_cpu_and_pieces_add_up() -> None:
    meter = Meter()
    for _ in range(2):
        with meter.running():
            begin = time.process_time()
            while time.process_time() - begin < 0.1:
                pass
    assert 0.19 < meter.cpu_seconds < 1
    total = Meter(1.0, 2.0, 10)
    total.add(meter)
    assert total.seconds == 1 + meter.seconds
    assert total.cpu_seconds == 2 + meter.cpu_seconds
    assert total.peak_bytes == meter.peak_bytes


def test_memory_that_was_freed_still_counts_within_its_piece() -> None:
    large, small = Meter(), Meter()
    with large.running():
        np.ones(40_000_000).sum()  # 320 MB
    with small.running():
        pass
    never_falls = small.peak_bytes >= large.peak_bytes  # where the system does not let a process reset the mark
    assert large.peak_bytes - small.peak_bytes > 200_000_000 or never_falls
