# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page out of sections, plots and tables: it needs no network and runs only its own script."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

Cell = str | tuple[str, str]
"""What stands in a table: a text, or a text and a quieter second line."""

_DRAW = """
const charts = JSON.parse(document.getElementById("charts").textContent);
const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true,
                 tooltip: {theme: "sirdar", disableDefaultStyle: true}};
for (const box of document.querySelectorAll(".plot")) {
  vegaEmbed(box, charts[Number(box.dataset.plot)], options).catch((error) => {
    box.textContent = "This plot could not be drawn: " + error.message;
    console.error(error);
  });
}
"""


@dataclass(frozen=True)
class Figure:
    """One finding and the plots that show it, stacked.

    Args:
        title: the finding, in a sentence.
        specs: Vega-Lite specifications.
        kicker: a word or two above the title.
        subject: what the finding is about, on one line between them.
        caption: what the marks are, beneath.
    """

    title: str
    specs: Sequence[dict[str, Any]]
    kicker: str = ""
    subject: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        cells: one per column.
        badges: words set beside the first cell ("cheapest"); a row with any is tinted.
        quiet: set in a paler ink, for what does not count.
    """

    cells: Sequence[Cell]
    badges: Sequence[str] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Table:
    """A table that scrolls in its own box where the screen is narrow.

    Args:
        header: column names.
        align: one letter per column, "l" for words and "r" for numbers.
        rows: the body.
        caption: what it is a table of.
    """

    header: Sequence[str]
    align: str
    rows: Sequence[Row]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands beneath it, in this order.

    Args:
        anchor: its name in links.
        name: its name in the navigation.
        title: the heading.
        lead: a sentence under the heading.
        key: (swatch, text) pairs that explain the plots; a swatch is a CSS class of the template.
        figures: plots.
        facts: (name, value) pairs.
        tables: tables.
        notes: assumptions and reservations.
    """

    anchor: str
    name: str
    title: str
    lead: str = ""
    key: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """All that is on the page: a title, a few big numbers (label, value, note) and sections."""

    title: str
    subtitle: str
    headline: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML. Every text in it is escaped; numbers that are not finite become gaps in the plots."""
    specs: list[dict[str, Any]] = []
    places: dict[int, list[int]] = {}
    for figure in (figure for section in page.sections for figure in section.figures):
        places[id(figure)] = list(range(len(specs), len(specs) + len(figure.specs)))
        specs.extend(figure.specs)
    library, draw = _script_text(_bundle()), Markup(_DRAW)  # neither holds data
    template = resources.files("sirdar.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        page=page,
        plots_of=lambda figure: places[id(figure)],
        charts=_json_text(specs),
        library=library,
        draw=draw,
        allowed=" ".join(_digest(script) for script in (library, draw)),
    )


def _json_text(value: object) -> Markup:
    """JSON for a script element: with `<`, `>` and `&` spelt as escapes, no data can end the element."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # ASCII without markup by now


def _finite(value: object) -> object:
    """The same structure with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@lru_cache(maxsize=1)
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed, as vl-convert carries them."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _script_text(code: str) -> Markup:
    """JavaScript that cannot leave its element: in strings and patterns the escape means the same sign."""
    inert = re.sub(r"<(?=/script|!--)", r"\\x3c", code, flags=re.IGNORECASE)
    return Markup(inert)  # a library's text


def _digest(script: str) -> str:
    """The name by which the page's security policy allows one script, and so no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
