# SPDX-License-Identifier: Apache-2.0
"""A built wheel works in an empty environment, from any folder."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_built_wheel_plans_from_any_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "sirdar/py.typed" in zipfile.ZipFile(wheel).namelist()
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [str(tmp_path / "env" / "bin" / "sirdar"), "plan", "--json", "--models", "seasonal-naive,tsb,mq-cnn"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["data"]["series"] == 3796
    assert (elsewhere / "plan" / "report.html").stat().st_size > 100_000
    timing = [str(python), "-X", "importtime", "-c", "import sirdar"]
    last = subprocess.run(timing, capture_output=True, text=True, check=True).stderr.splitlines()[-1]
    assert int(last.split("|")[1]) < 300_000  # microseconds: `import sirdar` takes less than 0.3 s
