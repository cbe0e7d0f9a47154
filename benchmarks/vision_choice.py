# SPDX-License-Identifier: Apache-2.0
"""Which networks of a search get the last word: by validation scores alone, written as jobs of the final phase.

    python benchmarks/vision_choice.py --results search/results.jsonl --out jobs.json

Of each evolution the candidate with the best validation score among those trained longer is taken. Segmentation hands
on five, A to E, along the front of validation score and compiled latency. Baselines, the blanket rule (every block
fused) and the expert's rules join without having been chosen.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import vision_training as vt

from sirdar.recipes import classification, detection, segmentation
from sirdar.search.objectives import undominated

SEEDS = {"detection": 5, "classification": 3, "segmentation": 3}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Trainings that went well."""
    return [row for row in map(json.loads, path.read_text().splitlines()) if not row["note"]]


def best_of(rows: list[dict[str, Any]], arm: str, metric: str) -> dict[str, Any]:
    """The values of an evolution's best candidate: by its longer training, else by its short one."""
    longer = [row for row in rows if row["job"]["arm"] == f"{arm}-longer"]
    judged = longer or [row for row in rows if row["job"]["arm"] == arm]
    return max(judged, key=lambda row: row["measures"][metric])["job"]["values"]


def _key(row: dict[str, Any]) -> str:
    return json.dumps(row["job"]["values"], sort_keys=True)


def front_of(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Up to `count` segmenters along the front of validation score and latency, fastest last.

    Longer trainings are compared with longer ones; where fewer than `count` are on their front, short ones fill up.
    """
    quick = best_of(rows, "fast", "miou")  # the best under the hard limit is always among them
    found = {
        _key(row): row for row in rows if row["job"]["values"] == quick and row["job"]["product"] == "segmentation"
    }
    for longer in (True, False):
        pool = [
            row
            for row in rows
            if row["job"]["product"] == "segmentation"
            and (row["job"]["longer"] > 1) == longer
            and not row["job"]["arm"].startswith("baseline")
        ]
        losses = np.array([[-r["measures"]["miou"], r["job"]["measures"]["latency_s"]] for r in pool]).reshape(-1, 2)
        front = [pool[place] for place in np.flatnonzero(undominated(losses))]
        front.sort(key=lambda row: -row["measures"]["miou"])
        free = count - len(found)
        places = np.unique(np.linspace(0, len(front) - 1, min(free, len(front))).round().astype(int))
        for place in places if free > 0 else ():
            found.setdefault(_key(front[place]), front[place])
    chosen = sorted(found.values(), key=lambda row: -row["job"]["measures"]["latency_s"])
    return [row["job"]["values"] for row in chosen]


def chosen_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The networks of the final phase: product to role to values."""
    front = dict(zip("ABCDE", front_of(rows, 5), strict=False))
    return {
        "detection": {
            "baseline": detection.BASELINE.as_dict(),
            "V3": best_of(rows, "V3", "map"),
            "V1": best_of(rows, "V1", "map"),
            "V2": best_of(rows, "V2", "map"),
            "fused": detection.FUSED.as_dict(),
        },
        "classification": {
            "baseline": classification.BASELINE.as_dict(),
            "searched": best_of(rows, "budget", "top1"),
            "rules": classification.by_rules(classification.BASELINE).as_dict(),
        },
        "segmentation": {"baseline": segmentation.BASELINE.as_dict(), **front},
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    chosen = chosen_of(rows_of(given.results))
    jobs = [
        vt.Job(role, product, values, seed, vt.LONGER[product], "final")
        for seed in range(max(SEEDS.values()))
        for product, roles in chosen.items()
        for role, values in roles.items()
        if seed < SEEDS[product]
    ]
    part = given.out.with_suffix(".part")
    part.write_text(json.dumps([asdict(job) for job in jobs], indent=1))
    part.replace(given.out)
    print(f"{len(jobs)} trainings of {sum(map(len, chosen.values()))} networks")


if __name__ == "__main__":
    main()
