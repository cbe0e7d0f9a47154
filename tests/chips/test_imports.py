# SPDX-License-Identifier: Apache-2.0
"""Hardware models are plain Python: a chip can be chosen without loading torch."""

import subprocess
import sys

PLAIN = (
    "sirdar.chips",
    "sirdar.workload",
    "sirdar.workload.graph",
    "sirdar.numerics.formats",
    "sirdar.units",
    "sirdar.errors",
)
HEAVY = ("torch", "polars", "narwhals", "statsforecast")


def test_no_torch_is_loaded() -> None:
    imports = "; ".join(f"import {name}" for name in PLAIN)
    check = f"import sys; {imports}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
