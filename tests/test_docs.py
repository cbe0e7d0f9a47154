# SPDX-License-Identifier: Apache-2.0
"""Documents are run or generated, so that they stay true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_generated_pages_are_fresh() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"^make ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert named <= targets
    assert named


def test_the_options_that_the_readme_names_exist() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text()
    for option in set(re.findall(r"(--[a-z-]+)", (ROOT / "README.md").read_text())):
        assert option in reference, option


def test_the_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import polars as pl

    import sirdar
    from sirdar.forecasting.models import mqcnn

    days = pl.date_range(pl.date(2023, 1, 1), pl.date(2023, 9, 17), "1w", eager=True)
    frames = [
        pl.DataFrame(
            {"unique_id": name, "ds": days, "y": np.arange(len(days)) % 5 * 1.0, "price": 2.0, "category": "a"}
        )
        for name in ("x", "y", "z")
    ]
    pl.concat(frames).write_parquet(tmp_path / "demand.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mqcnn.MQCNN, "fit", _short_fit(mqcnn.MQCNN.fit))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope = {"sirdar": sirdar, "on_hand": np.array([1.0, 2.0, 3.0])}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["orders"].quantity.shape == (3,)


def _short_fit(fit):  # noqa: ANN001, ANN202 - wraps a method for one test
    def short(self, panel):  # noqa: ANN001, ANN202
        self.steps = 3
        return fit(self, panel)

    return short


@pytest.mark.parametrize(
    ("name", "count", "said"), [("forecast_and_order", 20, "units"), ("own_search", 4, "4 networks trained")]
)
def test_examples_run(name: str, count: int, said: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), str(count), "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_every_example_is_run() -> None:
    found = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert found == {"forecast_and_order", "own_search"}
