# SPDX-License-Identifier: Apache-2.0
"""The page of formats is that of the rows, and `import sirdar.numerics` stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

from sirdar.numerics.document import markdown

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), f"run: python -m sirdar.numerics.document {PAGE}"


@pytest.mark.parametrize("heavy", ["torch", "numba", "triton", "polars"])
def test_importing_formats_and_rounding_loads_nothing_heavy(heavy: str) -> None:
    program = f"import sys, sirdar.numerics; sys.exit('{heavy}' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
