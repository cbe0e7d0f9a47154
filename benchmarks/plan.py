# SPDX-License-Identifier: Apache-2.0
"""Claim: `sirdar plan` on the bundled demand is fast, and MQ-CNN beats every textbook rung in its backtest.

Runs the command in a process of its own with the default arguments, twice for the byte comparison, and reads what it
wrote.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from store import bar, store

TEXTBOOK = ("auto-ets", "theta", "tsb", "croston")


def main() -> None:
    """Run, compare, store."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = run(Path(folder) / "first"), run(Path(folder) / "second")
        same = all(
            (first / name).read_bytes() == (second / name).read_bytes()
            for name in ("forecast.parquet", "orders.parquet")
        )
        facts = json.loads((first / "run.json").read_text())
        board = json.loads((first / "leaderboard.json").read_text())
        quantiles = pl.read_parquet(first / "forecast.parquet").select(pl.col("^q0.*$")).to_numpy()
    models = {row["model"]: row for row in board["models"]}
    best = min(TEXTBOOK, key=lambda name: models[name]["wql"])
    ours, naive = models["mq-cnn"], models["seasonal-naive"]
    crossing = float((np.diff(quantiles, axis=1) < 0).mean()) + sum(row["crossing_rate"] for row in models.values())
    # The children's memory adds to the parent's while they run: an upper bound for two workers.
    memory = facts["peak_memory_bytes"] + 2 * facts["peak_memory_of_largest_child_bytes"]
    bars = [
        bar("MQ-CNN's WQL below (seasonal) naive's, share", 1 - ours["wql"] / naive["wql"], 0.25, better="higher"),
        bar(f"MQ-CNN's WQL over that of the best textbook rung ({best})", ours["wql"] / models[best]["wql"], 1.0),
        bar("80 % coverage of MQ-CNN, least", ours["coverage_80"], 0.75, better="higher"),
        bar("80 % coverage of MQ-CNN, most", ours["coverage_80"], 0.85),
        bar("80 % coverage of MQ-CNN, ties at the ends counted whole, most", ours["closed_coverage_80"], 0.85),
        bar("crossing quantiles, share", crossing, 0.0),
        bar("origins", float(len(board["origins"])), 3.0, better="higher"),
        bar("seconds, all steps", facts["seconds_total"], 240.0),
        bar("peak memory, bytes", float(memory), 3e9),
        bar("forecasts and orders of two runs equal byte for byte", float(same), 1.0, better="higher"),
    ]
    measured = {
        "leaderboard": board,
        "seconds": facts["seconds"],
        "peak_memory_bytes": facts["peak_memory_bytes"],
        "peak_memory_of_largest_child_bytes": facts["peak_memory_of_largest_child_bytes"],
        "data": facts["data"],
        "order_totals": facts["order_totals"],
        "versions": facts["versions"],
    }
    claim = "sirdar plan on real retail demand in minutes; MQ-CNN beats naive and every textbook rung"
    store("plan/plan", claim, "python benchmarks/plan.py", measured, bars)


def run(out: Path) -> Path:
    """The command with its default arguments."""
    subprocess.run(
        [str(Path(sys.executable).parent / "sirdar"), "plan", "--out", str(out), "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return out


if __name__ == "__main__":
    main()
