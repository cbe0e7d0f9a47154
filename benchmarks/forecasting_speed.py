# SPDX-License-Identifier: Apache-2.0
"""Claim: M5 loads in 15 seconds, MQ-CNN forecasts all of it in a minute, and a million series in well under an hour.

A panel of M5's shape (30,490 series, 447 days, price known ahead, four statics, horizon 28, nine quantiles) with
made-up demand: speed does not depend on the values. The network of default width is trained for a few steps only. Then
`predict` is timed on 30,490 and on 100,000 series, the panel being in memory. With --data, the folder that holds `m5/`,
the real panel is read from its tables (sales joined with prices, calendar and statics), the median of three times.
Writes `results/forecasting/speed.json`.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import m5
import numpy as np
import torch
from store import bar, store

from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.testing.forecasters import panel_of

DAYS, HORIZON, SERIES, MANY = 447, 28, 30_490, 100_000


def main() -> None:
    """Train briefly, time, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder that holds m5/; without it loading is not timed")
    asked = parser.parse_args()
    if asked.data is not None and not (asked.data / "m5").is_dir():
        print(f"skipped: {asked.data} holds no m5/")
        return
    threads = asked.threads
    torch.set_num_threads(threads)
    loading = [] if asked.data is None else [loaded(asked.data / "m5") for _ in range(3)]
    model = MQCNN(HORIZON, steps=20).fit(made_up(2_000))
    seconds = {}
    for count in (SERIES, MANY):
        panel = made_up(count)
        began = time.perf_counter()
        forecast = model.predict(panel)
        seconds[count] = time.perf_counter() - began
        assert forecast.values.shape == (count, HORIZON, 9)
        print(f"{count} series: {seconds[count]:.1f} s", flush=True)
    minutes = seconds[MANY] / MANY * 1e6 / 60
    measured = {
        "seconds": {str(count): value for count, value in seconds.items()},
        "threads": threads,
        "loading_s": loading,
    }
    bars = [
        bar("30,490 series, 28 days, 9 quantiles: seconds", seconds[SERIES], 60.0),
        bar("a million series, extrapolated from 100,000: minutes", minutes, 40.0),
    ]
    if loading:
        bars.append(bar("the M5 panel loads: seconds", float(np.median(loading)), 15.0))
    claim = "MQ-CNN forecasts all of M5 in a minute and a million series in 40 minutes on two cores"
    store("forecasting/speed", claim, "python benchmarks/forecasting_speed.py --data DIR", measured, bars)


def loaded(folder: Path) -> float:
    """Seconds from the tables on disk to a panel in memory."""
    began = time.perf_counter()
    panel = m5.read(folder)
    seconds = time.perf_counter() - began
    assert len(panel) == SERIES
    print(f"M5 read: {seconds:.1f} s", flush=True)
    return seconds


def made_up(count: int) -> Panel:
    """Poisson demand and a price that changes now and then."""
    rng = np.random.default_rng(count)
    demand = rng.poisson(rng.lognormal(0.0, 1.0, (count, 1)), (count, DAYS)).astype(np.float32)
    panel = panel_of([[0.0]] * count, unit="D")
    known = DAYS + HORIZON
    target = np.concatenate([demand, np.full((count, HORIZON), np.nan, dtype=np.float32)], axis=1).ravel()
    price = np.repeat(rng.lognormal(1.0, 0.5, (count, known // 25)).astype(np.float32), 25, axis=1)
    return replace(
        panel,
        indptr=np.arange(count + 1, dtype=np.int64) * known,
        history=np.full(count, DAYS, dtype=np.int64),
        target=target,
        future={"price": price.ravel()},
        static={f"kind{k}": np.array([f"{k}-{x}" for x in rng.integers(0, 5, count)], dtype=object) for k in range(4)},
    )


if __name__ == "__main__":
    main()
