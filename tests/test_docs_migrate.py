# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/migrate.md are run, and print what the page says."""

import re
import sys
from pathlib import Path

import pytest

from sirdar.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "migrate.md"
BLOCK = re.compile(r"```(python|sh|text)\n(.*?)```", re.DOTALL)
CODES = {"encoder:small": 0, "camera:people": 0, "ranking:first": 1, "ranking:second": 0}


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def write_files(folder: Path) -> None:
    for _, text in blocks():
        named = re.match(r"# (\w+\.(?:py|txt))\n", text)
        if named:
            (folder / named[1]).write_text(text)


def expected(command: str) -> list[str]:
    """The lines of the text block after a command, up to the next command."""
    rows = blocks()
    place = next(index for index, (kind, text) in enumerate(rows) if kind == "sh" and command in text)
    for kind, text in rows[place + 1 :]:
        if kind == "text" and not text.startswith("#"):
            return [line for line in text.splitlines() if line.strip()]
    return []


def test_every_command_is_here() -> None:
    commands = [text.split()[2] for kind, text in blocks() if kind == "sh"]
    assert commands == list(CODES)


@pytest.mark.slow
@pytest.mark.parametrize("model", list(CODES))
def test_a_command_does_what_the_page_says(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    (command,) = [text for kind, text in blocks() if kind == "sh" and model in text]
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert int(ended.value.code or 0) == CODES[model]
    printed = capsys.readouterr().out
    for line in expected(command):
        assert line.strip() in printed, printed
