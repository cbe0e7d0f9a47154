# SPDX-License-Identifier: Apache-2.0
"""What a chip refuses, as data: a rule file is TOML, every rule with its source, date and compiler code.

A rule holds for a node of the exported graph when everything it states holds: `operators` (ATen names, no overload),
`reads`, `makes` and `touches` (types of its tensors), and one condition of `sirdar.deploy.conditions`, with its
`limit`. A rule without operators and types concerns the whole network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date as calendar_date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from sirdar.chips.chip import Chip, Number
from sirdar.chips.reading import Sheet
from sirdar.deploy.findings import SEVERITIES, Severity
from sirdar.errors import ArgumentError
from sirdar.numerics.formats import BLOCK_FORMATS, FORMATS

_TEXTS = ("name", "severity", "title", "why", "fix", "source")
_LISTS = ("codes", "operators", "reads", "makes", "touches")
_OPTIONS = ("condition", "limit", "rewrite")
COMPILERS = ("neuron", "vela", "none")


@dataclass(frozen=True)
class Rule:
    """One thing a chip refuses.

    Args:
        name: unique within its rule file.
        severity: "error", "warning" or "note".
        title: what it is, in a few words.
        why: what the chip lacks.
        fix: what the user can change.
        source: the document it rests on.
        date: the day of that document.
        codes: of the vendor's compiler.
        operators: ATen names without overload; empty for all.
        reads: types of tensors, one of which the operator reads.
        makes: types of tensors, one of which it makes.
        touches: types of tensors, one of which it reads or makes.
        condition: a name of `sirdar.deploy.conditions.CONDITIONS`; empty for none.
        limit: what the condition compares with.
        rewrite: a name of `sirdar.deploy.rewriting.REWRITES` that mends it; empty for none.
    """

    name: str
    severity: Severity
    title: str
    why: str
    fix: str
    source: str
    date: calendar_date
    codes: tuple[str, ...] = ()
    operators: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    makes: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()
    condition: str = ""
    limit: float | None = None
    rewrite: str = ""


@dataclass(frozen=True)
class Rulebook:
    """What is known of running networks on a chip, beside its speed.

    Args:
        name: of the file.
        chips: names of the chips that it is for.
        compiler: "neuron", "vela" or "none".
        target: what that compiler calls the chip.
        formats: number formats that its matrix units take, narrowest last.
        storage: formats that activations may be kept in; without fp32 the first is what fp32 is cast to by default.
        cores: cores that a network can be split over, each with an equal share of the memory.
        rules: what it refuses.
        rewrites: names of `sirdar.deploy.rewrites.EVERYWHERE` to do wherever they apply.
        supported: ATen names that are known to run; empty where all do.
        limits: other numbers, such as "instructions", "tile_rows", "host_bytes_per_instruction".
    """

    name: str
    chips: tuple[str, ...]
    compiler: str
    target: str
    formats: tuple[str, ...]
    storage: tuple[str, ...]
    cores: Number
    rules: tuple[Rule, ...]
    rewrites: tuple[str, ...] = ()
    supported: frozenset[str] = frozenset()
    limits: Mapping[str, Number] = field(default_factory=dict, hash=False)


def names() -> tuple[str, ...]:
    """Names of the rule files of this package, sorted."""
    found = (row.name.removesuffix(".toml") for row in _folder().iterdir() if row.name.endswith(".toml"))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(chip: Chip, path: str | Path | None = None) -> Rulebook:
    """The rules of a chip.

    Args:
        chip: a chip of the catalogue or of one's own.
        path: a rule file of one's own; otherwise the one of this package that lists the chip, else its kind.

    Raises:
        ArgumentError: no rule file lists the chip.
        DataError: a rule file is wrong; the sentence names the file and the key.
    """
    if path is not None:
        return read(path)
    books = [read(name) for name in names()]
    for wanted in (chip.name, f"kind:{chip.kind}"):
        for book in books:
            if wanted in book.chips:
                return book
    known = sorted({name for book in books for name in book.chips})
    msg = f"no rule file lists chip {chip.name!r}; there are rules for {', '.join(known)}: give a file of your own"
    raise ArgumentError(msg)


def read(name_or_path: str | Path) -> Rulebook:
    """A rule file by its name in this package, or by its path.

    Raises:
        DataError: the file is missing or wrong; the sentence names the file and the key.
    """
    text = str(name_or_path)
    own = isinstance(name_or_path, Path) or text.endswith(".toml")
    return _book(Sheet.read(Path(text) if own else _folder() / f"{text}.toml", text if own else f"{text}.toml"))


def _folder() -> Traversable:
    return files("sirdar.deploy") / "rules"


def _book(sheet: Sheet) -> Rulebook:
    required = ("chips", "compiler", "formats", "storage", "cores")
    sheet.only(
        (*required, "target", "include", "without", "rewrites", "supported", "limits", "rules"), required=required
    )
    compiler = sheet.text("compiler")
    if compiler not in COMPILERS:
        raise sheet.wrong("compiler", f"must be one of {', '.join(COMPILERS)}, got {compiler!r}", COMPILERS)
    known = {row.name for row in (*FORMATS, *BLOCK_FORMATS)}
    for key in ("formats", "storage"):
        strange = [name for name in texts(sheet, key) if name not in known]
        if strange or not texts(sheet, key):
            raise sheet.wrong(key, f"must list number formats, got {sheet.table[key]!r}", known)
    included = [_included(sheet, name) for name in texts(sheet, "include")]
    without = set(texts(sheet, "without"))
    rules = [rule for part in included for rule in _rules(part) if rule.name not in without]
    rules += _rules(sheet)
    repeated = {rule.name for rule in rules if [other.name for other in rules].count(rule.name) > 1}
    if repeated:
        raise sheet.wrong("rules", f"holds {sorted(repeated)[0]!r} twice")
    supported = frozenset(name for part in (*included, sheet) for name in _words(part, "supported"))
    limits = {key: value for part in (*included, sheet) for key, value in _numbers(part).items()}
    return Rulebook(
        name=sheet.title.removesuffix(".toml"),
        chips=texts(sheet, "chips"),
        compiler=compiler,
        target=sheet.text("target") if "target" in sheet.table else "",
        formats=texts(sheet, "formats"),
        storage=texts(sheet, "storage"),
        cores=sheet.number("cores"),
        rules=tuple(rules),
        rewrites=tuple(name for part in (*included, sheet) for name in texts(part, "rewrites")),
        supported=supported,
        limits=limits,
    )


def _included(sheet: Sheet, name: str) -> Sheet:
    if not name.startswith("_") or not name[1:].isidentifier():
        raise sheet.wrong("include", f"must name files of this package that start with '_', got {name!r}")
    part = Sheet.read(_folder() / f"{name}.toml", f"{name}.toml")
    part.only(("rewrites", "supported", "limits", "rules"))
    return part


def _rules(sheet: Sheet) -> list[Rule]:
    rows = sheet.children("rules")
    for row in rows:
        row.only((*_TEXTS, "date", *_LISTS, *_OPTIONS), required=(*_TEXTS, "date"))
    return [_rule(row) for row in rows]


def _rule(row: Sheet) -> Rule:
    severity = row.text("severity")
    if severity not in SEVERITIES:
        raise row.wrong("severity", f"must be one of {', '.join(SEVERITIES)}, got {severity!r}", SEVERITIES)
    return Rule(
        name=row.text("name"),
        severity=severity,
        title=row.text("title"),
        why=row.text("why"),
        fix=row.text("fix"),
        source=row.text("source"),
        date=row.date("date"),
        codes=texts(row, "codes"),
        operators=frozenset(_words(row, "operators")),
        reads=frozenset(texts(row, "reads")),
        makes=frozenset(texts(row, "makes")),
        touches=frozenset(texts(row, "touches")),
        condition=row.text("condition") if "condition" in row.table else "",
        limit=row.quantity("limit", zero=True) if "limit" in row.table else None,
        rewrite=row.text("rewrite") if "rewrite" in row.table else "",
    )


def texts(sheet: Sheet, key: str) -> tuple[str, ...]:
    """A list of texts; empty where the key is absent.

    Raises:
        DataError: it is something else.
    """
    rows = sheet.table.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, str) and row for row in rows):
        raise sheet.wrong(key, f"must be a list of texts, got {rows!r}")
    return tuple(rows)


def _words(sheet: Sheet, key: str) -> tuple[str, ...]:
    """A list of texts, each of which may hold several words."""
    return tuple(word for text in texts(sheet, key) for word in text.split())


def _numbers(sheet: Sheet) -> dict[str, Number]:
    if "limits" not in sheet.table:
        return {}
    child = sheet.child("limits")
    return {key: child.number(key) for key in child.table}
