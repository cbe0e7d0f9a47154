# SPDX-License-Identifier: Apache-2.0
"""What a person types: one file per verb, and one place that turns errors into sentences."""

import sys
from importlib import import_module

import click
import typer

from sirdar.errors import SirdarError

_VERBS = ("plan", "backtest", "forecast", "order", "chips")
_BAD_INPUT, _INTERRUPTED = 2, 130


def app() -> typer.Typer:
    """The command line with all its verbs."""
    top = typer.Typer(
        name="sirdar",
        help="Forecasts, orders and the chip to run on: models judged by what they cost to be wrong, and to run.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    for verb in _VERBS:
        top.command(verb)(getattr(import_module(f"sirdar.cli.{verb}"), verb))
    return top


def main() -> None:
    """Runs the command line: bad input ends with one sentence and exit code 2, Ctrl-C with 130."""
    try:
        code = app()(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = _BAD_INPUT
    except SirdarError as error:
        sys.stderr.write(f"sirdar: {error}\n")
        code = _BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("sirdar: interrupted; nothing was written\n")
        code = _INTERRUPTED
    except BrokenPipeError:
        code = 0
    sys.exit(code or 0)
