# SPDX-License-Identifier: Apache-2.0
"""Claim: on VN2, eight rolling windows before the competition, orders cost at least 13 % less than the benchmark's.

Both players start each window from the same stock, `vn2_rules.opening_stock`, and see the same weeks. Everything was
chosen on earlier windows, none of whose weeks is scored here: their figures stand beside. If the data reach beyond the
initial state, the competition itself is played as well, once. About two minutes of one core. `--data` is the folder
that holds `vn2/`. Writes `results/inventory/vn2.json`.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from store import bar, store

from sirdar.recipes.vn2 import DEVELOPMENT, MARGIN, SCORING, Window, interval, reduction, windows
from sirdar.recipes.vn2_rules import WEEKS, Benchmark, History, published_stock

ORIGIN = 157  # weeks of history when the competition began
WINNER = 0.13
PUBLISHED = 4334.0  # the benchmark's cost in the competition


def main() -> None:
    """Play, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data / "vn2"
    if not folder.is_dir():
        print(f"skipped: there is no folder {folder}")
        return
    history, stock = History.read(folder), published_stock(folder)
    began = time.perf_counter()
    scored = [announced(window) for window in windows(history, SCORING)]
    scoring_s = time.perf_counter() - began
    measured: dict[str, Any] = {"scoring": summary(scored), "scoring_s": round(scoring_s, 1), "margin": MARGIN}
    measured["development"] = summary(list(windows(history, DEVELOPMENT)))
    first = Benchmark().order(history.until(ORIGIN), stock.on_hand, stock.pipeline)
    measured["first order of the benchmark in the competition, units"] = float(first.sum())
    bars = [
        bar("mean cost below the benchmark's, share", reduction(scored), WINNER, better="higher"),
        bar("windows scored", len(scored), 8, better="higher"),
    ]
    if history.time >= ORIGIN + WEEKS:
        competition = next(iter(windows(history, [ORIGIN], stock)))
        measured["competition"] = asdict(competition)
        bars.append(
            bar("benchmark of the competition, distance to published", abs(competition.benchmark - PUBLISHED), 0.05)
        )
    else:
        measured["competition"] = "not played: the data end where it began"
    claim = "VN2: orders cost at least 13 % less than the organiser's benchmark on 8 windows before the competition"
    store("inventory/vn2", claim, "python benchmarks/inventory_vn2.py --data DIR", measured, bars)


def announced(window: Window) -> Window:
    """Prints a window as soon as it is played."""
    print(f"{window.first_week}: {window.cost:.1f} against {window.benchmark:.1f}, {window.change:+.1%}", flush=True)
    return window


def summary(played: list[Window]) -> dict[str, Any]:
    """All windows, their paired differences and intervals."""

    def mean_of_shares(some: Any) -> float:  # noqa: ANN401
        return -float(np.mean([x.change for x in some]))

    return {
        "windows": [asdict(x) | {"change": round(x.change, 4)} for x in played],
        "paired differences": [round(x.cost - x.benchmark, 1) for x in played],
        "mean cost lower by, share": reduction(played),
        "95 % interval": interval(played),
        "mean of the windows' reductions, share": mean_of_shares(played),
        "95 % interval of that": interval(played, mean_of_shares),
    }


if __name__ == "__main__":
    main()
