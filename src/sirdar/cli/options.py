# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share, and how results are shown."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer


class Interrupted(Exception):  # noqa: N818 - as KeyboardInterrupt
    """Ctrl-C, or SIGTERM, after something was kept; says what."""


def _seed(value: int) -> int:
    from sirdar.errors import require_seed

    return require_seed(value)


Input = Annotated[
    Path | None,
    typer.Argument(
        help="Parquet or CSV file or folder, one row per series and time; the bundled retail panel if omitted."
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results; made if missing.")]
Horizon = Annotated[int, typer.Option(help="Steps to forecast.")]
Windows = Annotated[int, typer.Option(help="Origins of the backtest.")]
RUNGS = (  # as `forecasting.ladder` knows them, which is slow to import
    "seasonal-naive, auto-ets, theta, ces, auto-arima, tsb, croston, adida, "
    "add-ons, sqrf, feed-forward, mq-rnn, mq-cnn, mq-transformer, ladder"
)
Levels = Annotated[
    str | None,
    typer.Option(help="Quantile levels, comma-separated, such as 0.05,0.5,0.95; the nine deciles if omitted."),
]
Models = Annotated[
    str | None,
    typer.Option(
        help=f"Rungs, comma-separated, of: {RUNGS}. By default seasonal-naive, auto-ets, theta, tsb, croston, mq-cnn."
    ),
]
Seed = Annotated[int, typer.Option(callback=_seed, help="Of everything random; the same seed gives the same files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
HoldingCost = Annotated[float, typer.Option(help="Cost of a unit left at the end of a step.")]
LostSaleCost = Annotated[float, typer.Option(help="Cost of a unit of demand that finds no stock.")]
LeadTime = Annotated[int, typer.Option(help="Steps from an order to its arrival.")]
ReviewPeriod = Annotated[int, typer.Option(help="Steps from one chance to order to the next.")]
Price = Annotated[float, typer.Option(help="Income per unit sold, on top of the lost-sale cost.")]
UnitCost = Annotated[float, typer.Option(help="Paid per unit ordered; with --price.")]
OrderCost = Annotated[float, typer.Option(help="Paid per order of any size.")]
Minimum = Annotated[float, typer.Option(help="Least quantity that may be ordered.")]
CasePack = Annotated[float, typer.Option(help="Orders are multiples of it; 0 for any quantity.")]
Budget = Annotated[
    float | None,
    typer.Option(help="Most that all orders of one review may cost; needs --unit-cost, or unit_cost in --inventory."),
]
Capacity = Annotated[
    float | None,
    typer.Option(
        help="Room for stock on hand and under way of all products; a unit takes 1, or its volume in --inventory."
    ),
]
Inventory = Annotated[
    Path | None,
    typer.Option(
        help="Table with unique_id (for plan, also by its name in --column id), on_hand and optionally arriving_1, "
        "arriving_2, ...; assumed if omitted. Columns "
        "holding_cost, lost_sale_cost, lead_time, order_cost, minimum, case_pack, volume, price (income per unit "
        "sold) and unit_cost stand for the options, product by product."
    ),
]
Freq = Annotated[
    str | None,
    typer.Option(
        help="5min, 10min, 15min, 30min, h, D, B, W, M, Q or Y; inferred if omitted. Finer rows are summed, and lines "
        "that share a date: by W into weeks that end on the last row's weekday, by W-SUN on Sundays, by 1w into those "
        "that begin on Mondays."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="ROLE=NAME, repeated. Roles: id, time, target, price, promotion, in_stock, static, past, future. "
        "Static, promotion, past and future may be text. "
        "By default id=unique_id, time=ds, target=y.",
    ),
]
Gaps = Annotated[
    str | None, typer.Option(help="A step without a row: 'missing' (not observed) or 'zero' (nothing sold).")
]
SoldOut = Annotated[
    str | None,
    typer.Option(
        help="Demand of steps that sold out, where a column says so (in_stock): 'missing' (left out), or 'estimated' "
        "from what was sold, the product's usual demand and the season that all share: right where it was demand that "
        "emptied the shelves."
    ),
]
Holidays = Annotated[
    str | None, typer.Option(help="Country whose public holidays SQRF and the networks are told, such as US or DE-BY.")
]

_SINGLE = ("id", "time", "target", "price", "promotion", "in_stock")
_SEVERAL = ("static", "past", "future")


def roles(
    columns: Sequence[str] | None,
    freq: str | None,
    gaps: str | None,
    holidays: str | None = None,
    sold_out: str | None = None,
) -> dict[str, Any]:
    """Roles of `recipes.demand.Demand` from the options."""
    result: dict[str, Any] = {}
    for item in columns or ():
        role, equals, name = item.partition("=")
        if not equals or not name or role not in (*_SINGLE, *_SEVERAL):
            msg = f"--column must be ROLE=NAME with a role of {', '.join((*_SINGLE, *_SEVERAL))}, got {item!r}"
            raise typer.BadParameter(msg)
        if role in _SEVERAL:
            result.setdefault(role, []).append(name)
        elif role in result:
            msg = f"--column gives role {role} to {result[role]!r} and to {name!r}; give it to one"
            raise typer.BadParameter(msg)
        else:
            result[role] = name
    if freq is not None:
        result["freq"] = freq
    if gaps is not None:
        result["gaps"] = gaps
    if holidays is not None:
        result["holidays"] = holidays
    if sold_out is not None:
        result["sold_out"] = sold_out
    return result


def names(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """A comma-separated list."""
    return default if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def levels(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    """A comma-separated list of quantile levels."""
    try:
        return default if text is None else tuple(float(part) for part in names(text, ()))
    except ValueError:
        msg = f"--levels must be numbers, comma-separated, got {text!r}"
        raise typer.BadParameter(msg) from None


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr, so that stdout stays clean; one line per step where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with shown:
        tasks: dict[str, Any] = {}

        def update(text: str, done: float) -> None:
            step, _, detail = text.partition(": ")
            if step not in tasks:
                tasks[step] = shown.add_task(step, total=1.0)
                if not console.is_terminal:
                    sys.stderr.write(f"{step} ...\n")
            shown.update(tasks[step], completed=done, description=f"{step} ({detail})" if detail and done < 1 else step)

        yield update


@contextmanager
def keeping(left: str) -> Iterator[None]:
    """Ends a block that is interrupted with a word on what was kept, if anything was."""
    try:
        yield
    except KeyboardInterrupt:
        if not left:
            raise
        raise Interrupted(left) from None


def print_json(content: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(content, indent=1, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, numbers to the right; texts stand as they are, whatever rich would read into them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console = Console()
    # A pipe or a file has no width; rich would take 80 columns and cut the names.
    console = Console(width=None if console.is_terminal else max(console.width, 120))
    if console.measure(table, options=console.options.update(max_width=sys.maxsize)).minimum > console.width:
        table.padding = 0  # rather than cut words
    console.print(table)


def problem(holding_cost: float, lost_sale_cost: float, lead_time: int, review_period: int) -> Any:  # noqa: ANN401
    """The order problem of the options; nobody's lead time is nothing, so zero is a slip."""
    from sirdar.errors import require_positive_integer
    from sirdar.inventory import InventoryProblem

    require_positive_integer(lead_time, "lead time")
    return InventoryProblem(holding_cost, lost_sale_cost, lead_time, review_period)


def traded(
    problem: Any,  # noqa: ANN401
    trade: tuple[float, float, float],
    rules: tuple[float, float],
    limits: tuple[float | None, float | None] = (None, None),
) -> Any:  # noqa: ANN401
    """The same problem with price, unit cost and order cost; minimum and case pack; and capacity and budget."""
    from dataclasses import replace

    from sirdar.errors import ArgumentError
    from sirdar.inventory import OrderRules, Trade

    if trade[1] > 0 and not trade[0]:
        msg = "--unit-cost needs --price: without income, buying nothing is cheapest"
        raise ArgumentError(msg)
    bounds = (math.inf if limit is None else limit for limit in limits)
    return replace(problem, trade=Trade(*trade), rules=OrderRules(*rules, *bounds))


def smallest_problem() -> Any:  # noqa: ANN401 - importing its type would load numpy for --help
    """An order problem that any horizon covers, for verbs that do not order."""
    from sirdar.inventory import InventoryProblem

    return InventoryProblem(lead_time=0)
