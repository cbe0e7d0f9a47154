# SPDX-License-Identifier: Apache-2.0
"""A browser for pages."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Browse = Callable[[str, Path, int], tuple[dict, list[str]]]
_HARNESS = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="f" src="{url}" style="border:0;width:{width}px;height:1600px;display:block"></iframe>
<pre id="result"></pre>
<script>
setTimeout(() => {{
  const inside = document.getElementById("f").contentDocument, plots = [...inside.querySelectorAll(".plot")];
  const outside = [...inside.querySelectorAll("main *, header, nav, dl, footer")].filter(
    (e) => !e.closest(".tablebox > *") && !e.closest("svg") && e.getBoundingClientRect().right > {width} + 0.5);
  document.getElementById("result").textContent = JSON.stringify({{
    scroll: inside.documentElement.scrollWidth, plots: plots.length,
    marks: plots.map((p) => p.querySelectorAll("svg .role-mark path, svg .role-mark text, svg .role-mark line").length),
    widths: plots.map((p) => p.querySelector("svg")?.getBoundingClientRect().width ?? 0),
    injected: inside.querySelectorAll("img, main script").length,
    outside: outside.map((e) => e.outerHTML.slice(0, 80)),
    spilt: [...inside.querySelectorAll("figure svg text")].filter((t) =>
      t.getBoundingClientRect().right > t.closest("figure").getBoundingClientRect().right - 4).length,
  }});
}}, 5000);
</script>"""


@pytest.fixture
def browse() -> Browse:
    """Opens a page in a frame of some width (a window cannot be as narrow as a phone): its measures, its console."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here: the page was not opened in a browser")

    def opened(page: str, folder: Path, width: int) -> tuple[dict, list[str]]:
        (folder / "report.html").write_text(page, encoding="utf-8")
        frame = _HARNESS.format(url=(folder / "report.html").as_uri(), width=width)
        (folder / "frame.html").write_text(frame, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'p'}"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--allow-file-access-from-files"]
        flags += [f"--window-size={width + 40},1700", "--virtual-time-budget=20000", "--dump-dom"]
        run = subprocess.run(
            [browser, *flags, (folder / "frame.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        result = re.search(r'<pre id="result">(.*?)</pre>', run.stdout, flags=re.DOTALL)
        assert result, run.stderr[-2000:]
        return json.loads(html.unescape(result[1])), [line for line in run.stderr.splitlines() if "CONSOLE" in line]

    return opened
