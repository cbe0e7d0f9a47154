# SPDX-License-Identifier: Apache-2.0
"""How every benchmark stores its result: one JSON with the claim, the command, what was measured and the bars."""

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def bar(name: str, value: float, target: float, *, better: str = "lower") -> dict[str, Any]:
    """One bar: `value` must not be worse than `target`."""
    met = value <= target if better == "lower" else value >= target
    return {"name": name, "value": round(value, 6), "target": target, "better": better, "met": bool(met)}


def store(name: str, claim: str, command: str, measured: dict[str, Any], bars: list[dict[str, Any]]) -> None:
    """Writes ``results/<name>.json`` (name as "topic/claim") and prints the bars."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "claim": claim,
        "command": command,
        "commit": commit,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "measured": measured,
        "bars": bars,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
    for row in bars:
        print(f"{row['name']}: {row['value']:g} (target {row['target']:g}, {'met' if row['met'] else 'MISSED'})")
