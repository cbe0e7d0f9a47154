# SPDX-License-Identifier: Apache-2.0
"""What a person types: one file per verb, and one place that turns errors into sentences."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from sirdar.cli.options import Interrupted
from sirdar.errors import SirdarError

_VERBS = (
    "plan",
    "backtest",
    "forecast",
    "order",
    "simulate",
    "chips",
    "estimate",
    "advise",
    "migrate",
    "search",
    "rules",
)
_BAD_INPUT, INTERRUPTED = 2, 130
# Turns that an idle thread waits awake for the next task. With OpenMP's own 300,000, threads that share their cores
# with other work wait for many times what they compute.
_SPINS = "5000"
_AGAIN = 5.0  # seconds after which Ctrl-C is repeated if nobody heard it
# The root of the parser's errors: Click's ClickException, which newer releases of Typer carry inside themselves.
_PARSER_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def app() -> typer.Typer:
    """The command line with all its verbs."""
    top = typer.Typer(
        name="sirdar",
        help="Forecasts, orders and the chip to run on: models judged by what they cost to be wrong, and to run.",
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    for verb in _VERBS:
        top.command(verb)(getattr(import_module(f"sirdar.cli.{verb}"), verb))
    top.callback()(_top)
    return top


def _version(asked: bool) -> bool:  # noqa: FBT001 - as Typer calls it
    if asked:
        from sirdar import __version__

        sys.stdout.write(f"sirdar {__version__}\n")
        raise typer.Exit
    return asked


def _top(
    version: Annotated[  # its callback has done all
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line: bad input ends with one sentence and exit code 2, Ctrl-C and SIGTERM with 130."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)  # read once, as torch or LightGBM load OpenMP
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end
    try:
        code = _answered()
    except _PARSER_ERROR as error:
        code = _refused(_usage(error))
    except SirdarError as error:
        code = _refused(str(error))
    except OSError as error:
        code = _refused(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
    except MemoryError:
        code = _refused("the memory does not suffice; give a smaller table, a shorter horizon or a coarser freq")
    sys.exit(code)


def _answered() -> int:
    """Runs the verb; one that is interrupted ends with a word on what was kept."""
    left = "no result was written"
    try:
        with _insistent_interrupt():
            code = app()(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
            sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Interrupted as interrupt:
        left, code = str(interrupt), INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if code == INTERRUPTED:
        sys.stderr.write(f"sirdar: interrupted; {left}\n")
    return int(code)


@contextmanager
def _insistent_interrupt() -> Iterator[None]:
    """Repeats Ctrl-C, or SIGTERM as a batch system sends it, until it has ended the block.

    Python drops an exception that is raised while a weak reference's callback or `__del__` runs, as it does after each
    import, and with it the interrupt: the work would go on. So would processes that were forked to share it, which
    have this handler too: Python waits for them at its end.
    """
    own = os.getpid()

    def interrupt(*_: object) -> None:
        if os.getpid() != own:
            os._exit(INTERRUPTED)  # without a traceback of its own
        for child in multiprocessing.active_children():
            child.kill()
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        raise KeyboardInterrupt

    # Windows has no alarm.
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM) if hasattr(signal, "SIGALRM") else ()
    before = [signal.signal(number, interrupt) for number in caught]
    try:
        yield
    finally:
        if caught:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)


def _refused(sentence: str) -> int:
    sys.stderr.write(f"sirdar: {' '.join(sentence.split())}\n")
    return _BAD_INPUT


def _usage(error: Exception) -> str:
    """A parser's error as one sentence with the value in it."""
    sentence = str(getattr(error, "format_message", error.__str__)())
    details = getattr(error.__cause__, "errors", list)()  # of pydantic, which newer releases of Typer check values with
    if details and "input" in details[0]:
        sentence = f"{sentence.rstrip('.')}, got {details[0]['input']!r}"
    return f"{sentence.rstrip('.')}; see --help"
