# SPDX-License-Identifier: Apache-2.0
"""What every verb does with bad input and with Ctrl-C: one sentence, exit code 2 or 130, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import sirdar
from sirdar import cli

FIRST = np.datetime64("2024-01-07")
ROWS = [f"{place:03},{FIRST + 7 * week}," for place in range(3) for week in range(48)]


def table(folder: Path, rows: list[str] | None = None, header: str = "unique_id,ds,y") -> Path:
    path = folder / "demand.csv"
    rows = [f"{row}{place % 5}" for place, row in enumerate(ROWS)] if rows is None else rows
    path.write_text("\n".join([header, *rows, ""]))
    return path


def refused(arguments: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which the command line refuses."""
    monkeypatch.setattr(sys, "argv", ["sirdar", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    *steps, sentence = captured.err.splitlines()
    assert all(step.endswith(" ...") for step in steps)  # progress
    assert sentence.startswith("sirdar: ")
    return sentence.removeprefix("sirdar: ")


@pytest.mark.parametrize("verb", ["plan", "backtest", "forecast"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"header": "id,ds,y"}, "demand.csv: no column 'unique_id'; the columns are id, ds, y."),
        ({"rows": ["a,2024-01-01,1", "a,2024-01-01,2"]}, "demand.csv: series 'a' has 2 rows for 2024-01-01"),
        ({"rows": ["a,2024-01-01,1", "a,soon,2"]}, "demand.csv: column 'ds', row 2: 'soon' is not a date"),
        ({"rows": ["a,2024-01-01,1", "a,2024-01-02,inf"]}, "demand.csv: column 'y', row 2: inf is infinite"),
        ({"rows": []}, "demand.csv: the table has no rows"),
    ],
)
def test_a_bad_table_is_refused_by_every_verb(
    verb: str,
    change: dict,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = table(tmp_path, **change)
    assert sentence in refused([verb, path, "--out", tmp_path / "out"], monkeypatch, capsys)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["backtest", "--horizon", "0"], "horizon must be a positive integer, got 0"),
        (["forecast", "--horizon=-3"], "horizon must be a positive integer, got -3"),
        (["backtest", "--windows", "0"], "windows must be a positive integer, got 0"),
        (["backtest", "--horizon", "abc"], "Invalid value for '--horizon': .*, got 'abc'; see --help"),
        (
            ["backtest", "--models", "theta,arima"],
            "unknown model 'arima'; known are seasonal-naive, auto-ets, theta, ces,",
        ),
        (["backtest", "--models", ","], "no model was named; known are"),
        (["forecast", "--model", "thet"], "unknown model 'thet'; .* Did you mean 'theta'\\?"),
        (["plan", "--lead-time", "0"], "lead time must be a positive integer, got 0"),
        (["plan", "--lead-time=-1"], "lead time must be a positive integer, got -1"),
        (
            ["plan", "--lead-time", "9"],
            "lead time \\+ review period is 10 steps, but forecasts reach 6; forecast with a horizon of",
        ),
        (["plan", "--holding-cost=-1"], "holding_cost must not be negative, got -1"),
        (["plan", "--lost-sale-cost", "nan"], "lost_sale_cost must be finite, got nan"),
        (["plan", "--holding-cost", "0"], "the critical ratio must lie in \\(0, 1\\), got 1"),
        (["plan", "--review-period", "0"], "review_period must be at least 1, got 0"),
        (["plan", "--column", "prize=p"], "--column must be ROLE=NAME with a role of id, .* got 'prize=p'"),
        (["plan", "--column", "price=a", "--column", "price=b"], "--column gives role price to 'a' and to 'b'"),
        (["backtest", "--gaps", "none"], "gaps must be 'missing' or 'zero', got 'none'"),
        (["backtest", "--freq", "w"], "freq must be one of 5min, 10min, 15min, 30min, h, D, B, W, M, Q, Y, got 'w'"),
        (["forecast", "--update"], "--update goes on from a model that was kept; name it with --trained"),
        (["forecast", "--levels", "0.5,0.1"], "levels must rise within \\(0, 1\\), got \\(0.5, 0.1\\)"),
        (["backtest", "--levels", "0.1,half"], "--levels must be numbers, comma-separated, got '0.1,half'"),
        (["forecast", "--seed=-1"], "seed must be an integer from 0 to 2\\*\\*64 - 1, got -1"),
        (["simulate", "base-stock", "--seed", str(2**64)], "seed must be .*, got 18446744073709551616"),
        (["sell"], "No such command 'sell'"),
        (["plan", "--colour", "red"], "No such option: --colour"),
        (["simulate", "base-stock", "--weeks", "13"], "No such option: --weeks"),
        (["chips", "--seed", "1"], "No such option: --seed"),
    ],
)
def test_a_bad_argument_is_refused_before_any_work(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # plan and forecast would write here
    assert re.search(sentence, refused(arguments, monkeypatch, capsys))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["plan", "backtest", "forecast"])
def test_a_folder_that_cannot_be_written_is_refused(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path)
    for out in (path, path / "below" / "it"):
        assert "choose another --out" in refused([verb, path, "--out", out], monkeypatch, capsys)
    assert list(tmp_path.iterdir()) == [path]


def test_a_storage_of_searches_is_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.db").write_bytes(b"SQLite format 3\0\xfb")
    said = refused(["rules", tmp_path / "s.db"], monkeypatch, capsys)
    assert said.endswith("s.db is a storage of searches, not a study; give the study.json in the --out of a search")


def test_the_version_and_completion_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, shown in (["--version"], f"sirdar {sirdar.__version__}\n"), (["--help"], "--install-completion"):
        monkeypatch.setattr(sys, "argv", ["sirdar", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        assert shown in capsys.readouterr().out


def test_no_verb_shows_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sirdar"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("plan", "backtest", "forecast", "order", "chips"))


@pytest.mark.parametrize(
    ("failure", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted; no result was written"),
        (OSError(28, "No space left on device", "out/x"), 2, "out/x: No space left on device"),
        (MemoryError(), 2, "the memory does not suffice; give a smaller table"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence_too(
    failure: BaseException,
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("sirdar.recipes.plan.read", fail)
    monkeypatch.setattr(sys, "argv", ["sirdar", "backtest", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == code
    assert f"sirdar: {sentence}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_repeated_until_it_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deaf(*_: object) -> None:
        with suppress(KeyboardInterrupt):  # as Python is in `__del__` and in the callbacks of weak references
            signal.raise_signal(signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("sirdar.recipes.plan.read", deaf)
    monkeypatch.setattr(cli, "_AGAIN", 0.05)
    monkeypatch.setattr(sys, "argv", ["sirdar", "backtest", "--out", str(tmp_path / "out")])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err.endswith("sirdar: interrupted; no result was written\n")
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_batch_system_end_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    path = table(tmp_path)
    command = [sys.executable, "-m", "sirdar", "backtest", str(path), "--horizon", "3"]
    command += ["--windows", "10", "--models", "auto-ets,theta,tsb,croston,mq-cnn", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    assert process.stderr.readline() == "backtest ...\n"
    time.sleep(0.5)  # into the first model
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert (out, err) == ("", "sirdar: interrupted; no result was written\n")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_share_the_work_end_with_it(number: signal.Signals) -> None:
    """A batch system tells the first alone, a terminal all of them."""
    script = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from sirdar import cli
from sirdar.recipes import plan

def shared(*_):
    with ProcessPoolExecutor(2) as pool:  # as statsforecast has one; at its end it waits for what is under way
        jobs = [pool.submit(time.sleep, 600) for _ in range(3)]
        time.sleep(0.2)
        print("begun", flush=True)
        jobs[0].result()

plan.read = shared
cli.main()
"""
    words = [sys.executable, "-c", script, "backtest"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    try:
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (130, "sirdar: interrupted; no result was written\n")
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # none is left
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "")]
)
def test_idle_threads_soon_sleep_unless_told_otherwise(given: dict[str, str], spins: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    script = "import atexit, os; atexit.register(lambda: print('spins', os.environ.get('GOMP_SPINCOUNT', '')))\n"
    script += "from sirdar.cli import main; main()"
    words = [sys.executable, "-c", script, "chips", "--help"]
    done = subprocess.run(words, env=clean | given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["spins", spins][: 1 + bool(spins)]
