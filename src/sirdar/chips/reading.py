# SPDX-License-Identifier: Apache-2.0
"""Reads chips from TOML, the catalogue's or a user's own, and refuses what is incomplete, naming file and key.

A number is an inline table: ``memory_bytes = { value = 34359738368, source = "...", date = 2026-08-21 }`` (the date
bare or in quotes), with optional ``low``, ``high`` and ``alternatives`` (a list of such tables). ``[flops_per_s]``
holds one per number format, ``[[instances]]`` where the chip can be rented. `sirdar.chips.host` explains
``[per_core]``, `sirdar.chips.blocks` ``[blocks.array]`` and the like, `sirdar.chips.calibration` ``[fitted]``.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date as calendar_date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from sirdar.chips import host
from sirdar.chips.array import STATIONARY
from sirdar.chips.blocks import ANY_BLOCK, BUDGET, Block, Blocks, disagreements
from sirdar.chips.blocks import KINDS as BLOCKS
from sirdar.chips.calibration import PARTS
from sirdar.chips.chip import Chip, Instance
from sirdar.chips.number import Number
from sirdar.errors import ArgumentError, DataError, nearest
from sirdar.numerics.formats import names as formats

KINDS = ("accelerator", "gpu", "cpu", "npu")
_NPU = "npu"  # folder of the catalogue
_TEXTS = ("name", "vendor", "kind", "description")
_NUMBERS = (
    "vector_flops_per_s",
    "memory_bytes",
    "bandwidth_bytes_per_s",
    "compute_efficiency",
    "bandwidth_efficiency",
    "overhead_s",
    "power_w",
)
_KEYS = (*_TEXTS, *_NUMBERS, "flops_per_s")
_OPTIONAL = ("sram_bytes", "node_nm")
_ACTIVATIONS = ("memory", "sram")  # where they have to lie
_MAY_BE_ZERO = ("overhead_s", "start_s", "run_s", "exchange_s")
_SHARES = ("compute_efficiency", "bandwidth_efficiency")
_COUNTS = ("rows", "columns", "count", "stream", "least_stream", "lanes")
_PLAUSIBLE = {  # from a microcontroller to a rack, with room: beyond it, a figure is in another unit
    "flops_per_s": (1e6, 1e19),
    "vector_flops_per_s": (1e6, 1e18),
    "memory_bytes": (1e3, 1e15),
    "bytes": (1e2, 1e15),
    "bandwidth_bytes_per_s": (1e5, 1e16),
    "clock_hz": (1e5, 1e11),
    "overhead_s": (0.0, 1.0),
    "power_w": (1e-4, 1e5),
}
_SHAPE = '{ value = ..., source = "...", date = 2026-08-21 }'
_UNITS = (  # of a figure by the end of its key
    ("vector_flops_per_s", "operations per second"),
    ("flops_per_s", "a table of operations per second by number format"),
    ("bytes_per_s", "bytes per second"),
    ("usd_per_hour", "US dollars per hour"),
    ("efficiency", "a share of 1"),
    ("bytes", "bytes"),
    ("_hz", "hertz"),
    ("_nm", "nanometres"),
    ("_s", "seconds"),
    ("_w", "watts"),
)


def names() -> tuple[str, ...]:
    """Names of the chips in the catalogue that can be rented or are this machine, sorted."""
    return _listed(_catalogue())


def npu_names() -> tuple[str, ...]:
    """Names of the catalogue's microcontroller-class NPUs, sorted."""
    return _listed(_catalogue() / _NPU)


def load(name_or_path: str | Path) -> Chip:
    """A chip of the catalogue by its name, or of a user's own TOML file by its path.

    Args:
        name_or_path: such as "trainium1", or a path that ends in ".toml".

    Raises:
        ArgumentError: the catalogue has no such chip; the sentence lists those it has.
        DataError: the file is missing or wrong; the sentence names the file and the TOML key.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml"):
        return _read(Path(text), text)
    known = {name: _catalogue() for name in names()} | {name: _catalogue() / _NPU for name in npu_names()}
    if text not in known:
        if Path(text).suffix or Path(text).exists():
            msg = f"a sheet of one's own is a TOML file, whose name ends in .toml, got {text!r}"
            raise ArgumentError(msg)
        msg = f"no chip is called {text!r}; there are {', '.join(sorted(known))}.{nearest(text, known)}"
        raise ArgumentError(msg)
    return _read(known[text] / f"{text}.toml", f"{text}.toml")


def _listed(folder: Traversable) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(row.name.removesuffix(".toml") for row in folder.iterdir() if row.name.endswith(".toml")))


def _catalogue() -> Traversable:
    return files("sirdar.chips") / "catalogue"


def _read(path: Traversable, title: str) -> Chip:
    sheet = Sheet.read(path, title)
    if "per_core" in sheet.table:
        sheet.child("per_core")
        sheet = Sheet(title, host.scaled(sheet.table, title))
    blocks = _blocks(sheet.child("blocks")) if "blocks" in sheet.table else None
    if blocks is not None:
        sheet = Sheet(title, _completed(sheet, blocks))
    sheet.only((*_KEYS, *_OPTIONAL, "activations", "blocks", "fitted", "instances"), required=_KEYS)
    name, vendor, kind, description = (sheet.text(key) for key in _TEXTS)
    if kind not in KINDS:
        raise sheet.wrong("kind", f"must be one of {', '.join(KINDS)}, got {kind!r}", KINDS)
    activations = sheet.table.get("activations", "memory")
    if activations not in _ACTIVATIONS:
        raise sheet.wrong("activations", f"must be one of {', '.join(_ACTIVATIONS)}, got {activations!r}", _ACTIVATIONS)
    chip = Chip(
        name,
        vendor,
        kind,
        description,
        _peaks(sheet.child("flops_per_s")),
        **{key: sheet.number(key) for key in _NUMBERS},
        **{key: sheet.number(key) for key in _OPTIONAL if key in sheet.table},
        instances=_instances(sheet),
        blocks=blocks,
        fitted=_fitted(sheet.child("fitted")) if "fitted" in sheet.table else {},
        activations=activations,
    )
    _require_consistent(sheet, chip)
    return chip


def _completed(sheet: "Sheet", blocks: Blocks) -> dict[str, Any]:
    """The sheet with what its blocks imply, where it does not say so itself."""
    stated = dict(sheet.child("flops_per_s").table) if "flops_per_s" in sheet.table else {}
    whole: dict[str, Any] = {**sheet.table, "flops_per_s": stated}
    newest = max(number.date for _, number in blocks.numbers())
    for key, value in blocks.implied().items():
        place, _, dtype = key.partition(".")
        target, leaf = (whole[place], dtype) if dtype else (whole, key)
        target.setdefault(leaf, {"value": value, "source": "follows from the blocks", "date": newest})
    return whole


def _require_consistent(sheet: "Sheet", chip: Chip) -> None:
    if chip.blocks is None:
        return
    complaints = [*chip.blocks.complaints(), *disagreements(dict(chip.numbers()), chip.blocks.implied())]
    if complaints:
        key, sentence = complaints[0]
        msg = f"{sheet.title}: key {key!r} {sentence}."
        raise DataError(msg)


def _blocks(sheet: "Sheet") -> Blocks:
    sheet.only((*BLOCKS, "budget"))
    if not set(sheet.table) & set(BLOCKS):
        raise sheet.wrong("", f"must hold at least one of {', '.join(BLOCKS)}")
    budget: dict[str, Number] = {}
    if "budget" in sheet.table:
        table = sheet.child("budget")
        table.only(BUDGET)
        budget = {key: table.number(key) for key in table.table}
    return Blocks({kind: _block(sheet.child(kind), kind) for kind in BLOCKS if kind in sheet.table}, budget)


def _block(sheet: "Sheet", kind: str) -> Block:
    required, optional = BLOCKS[kind]
    figures = (*required, *optional, *ANY_BLOCK)
    if kind != "array":
        sheet.only(figures, required=required)
        return Block(kind, _figures(sheet, figures))
    sheet.only((*figures, "passes", "stationary", "hidden_load"), required=(*required, "passes"))
    passes = sheet.child("passes")
    passes.only(formats())
    if not passes.table:
        raise sheet.wrong("passes", "must name at least one number format")
    stationary, hidden = sheet.table.get("stationary", "weight"), sheet.table.get("hidden_load", True)
    if stationary not in STATIONARY:
        raise sheet.wrong("stationary", f"must be one of {', '.join(STATIONARY)}, got {stationary!r}", STATIONARY)
    if not isinstance(hidden, bool):
        raise sheet.wrong("hidden_load", f"must be true or false, got {hidden!r}")
    passed = {key: passes.number(key) for key in passes.table}
    return Block(kind, _figures(sheet, figures), passed, stationary, hidden)


def _figures(sheet: "Sheet", keys: Iterable[str]) -> dict[str, Number]:
    """Those of a block; what is counted must be whole."""
    numbers = {key: sheet.number(key) for key in keys if key in sheet.table}
    for key in _COUNTS:
        if key in numbers and not numbers[key].value.is_integer():
            raise sheet.wrong(key, f"must be a whole number, got {numbers[key].value:g}")
    return numbers


def _fitted(sheet: "Sheet") -> dict[str, Number]:
    sheet.only(PARTS, required=PARTS)
    return {key: sheet.number(key) for key in PARTS}


def _peaks(sheet: "Sheet") -> dict[str, Number]:
    sheet.only(formats())
    if not sheet.table:
        raise sheet.wrong("", "must hold the peak of at least one number format")
    return {key: sheet.number(key, unit="flops_per_s") for key in sheet.table}


def _instances(sheet: "Sheet") -> tuple[Instance, ...]:
    rows = sheet.children("instances")
    found: dict[tuple[str, str], Instance] = {}
    required = ("name", "chips", "region", "source", "date")
    for row in rows:
        row.only((*required, "price_usd_per_hour"), required=required)
        priced = "price_usd_per_hour" in row.table
        instance = Instance(
            name=row.text("name"),
            chips=row.whole("chips"),
            region=row.text("region"),
            source=row.text("source"),
            date=row.date("date"),
            price_usd_per_hour=row.quantity("price_usd_per_hour") if priced else None,
        )
        if (instance.name, instance.region) in found:
            raise row.wrong("name", f"lists {instance.name!r} in {instance.region} twice")
        found[instance.name, instance.region] = instance
    return tuple(found.values())


@dataclass(frozen=True)
class Sheet:
    """A TOML table that knows where it stands, so that whatever is wrong with it can be said."""

    title: str
    table: Mapping[str, Any]
    prefix: str = ""

    @classmethod
    def read(cls, path: Traversable, title: str) -> "Sheet":
        """The whole of a file."""
        try:
            return cls(title, tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            msg = f"{title} cannot be read as TOML: {error}"
            raise DataError(msg) from error

    def wrong(self, key: str, complaint: str, known: Iterable[str] = ()) -> DataError:
        """An error that names file and key."""
        got = self.table.get(key)
        hint = nearest(got, known) if isinstance(got, str) else ""
        return DataError(f"{self.title}: key {self._at(key)!r} {complaint}.{hint}")

    def only(self, known: Iterable[str], required: Iterable[str] = ()) -> None:
        """Refuse keys that are not known, and the lack of one that is required."""
        known = tuple(known)
        for key in self.table:
            if key not in known:
                hint = nearest(key, known)
                msg = f"{self.title}: key {self._at(key)!r} is not known; known are {', '.join(known)}.{hint}"
                raise DataError(msg)
        missing = [f"{self._at(key)!r}{_unit(key)}" for key in required if key not in self.table]
        if missing:
            keys, are = ("key", "is") if len(missing) == 1 else ("keys", "are")
            figure = f"; a figure is a table such as {_SHAPE}" if len(missing) > 1 and "(" in "".join(missing) else ""
            msg = f"{self.title}: {keys} {', '.join(missing)} {are} missing{figure}"
            raise DataError(msg)

    def child(self, key: str) -> "Sheet":
        """A table in this table."""
        if not isinstance(self.table[key], Mapping):
            raise self.wrong(key, f"must be a table, got {self.table[key]!r}")
        return Sheet(self.title, self.table[key], f"{self._at(key)}.")

    def children(self, key: str) -> list["Sheet"]:
        """A list of tables in this table; empty where the key is absent."""
        rows = self.table.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise self.wrong(key, f"must be a list of tables, got {rows!r}")
        return [Sheet(self.title, row, f"{self._at(key)}[{place}].") for place, row in enumerate(rows)]

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self.table[key]
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, f"must be a text, got {value!r}")
        return value

    def date(self, key: str) -> calendar_date:
        """A day, bare or in quotes."""
        value = self.table[key]
        if type(value) is calendar_date:
            return value
        try:
            return calendar_date.fromisoformat(value)
        except (TypeError, ValueError):
            raise self.wrong(key, f"must be a day such as 2026-08-21, got {value!r}") from None

    def quantity(self, key: str, *, zero: bool = False) -> float:
        """A finite number above zero, or from zero on."""
        value = self.table[key]
        real = math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            with suppress(OverflowError):  # an integer of TOML may have more digits than any float
                real = float(value)
        if not math.isfinite(real) or real < 0 or (real == 0 and not zero):
            raise self.wrong(key, f"must be a number {'>= 0' if zero else '> 0'}, got {value!r}")
        return real

    def whole(self, key: str) -> int:
        """An integer above zero."""
        value = self.table[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise self.wrong(key, f"must be an integer > 0, got {value!r}")
        return value

    def number(self, key: str, unit: str = "") -> Number:
        """A number with its source and date; `unit` is a key of `_PLAUSIBLE` where the number's own is none."""
        bare = self.table[key]
        if not isinstance(bare, Mapping):
            raise self.wrong(key, f"must be a table such as {_SHAPE}, got {bare!r}")
        sheet = self.child(key)
        required = ("value", "source", "date")
        sheet.only((*required, "low", "high", "alternatives"), required=required)
        zero = key in _MAY_BE_ZERO
        values = {part: sheet.quantity(part, zero=zero) for part in ("value", "low", "high") if part in sheet.table}
        low, value, high = (values.get(part, values["value"]) for part in ("low", "value", "high"))
        if not low <= value <= high:
            raise self.wrong(key, f"must have low <= value <= high, got {low:g}, {value:g}, {high:g}")
        if key in _SHARES and high > 1:
            raise self.wrong(key, f"must be a share of at most 1, got {high:g}")
        least, most = _PLAUSIBLE.get(unit or key, (0.0, math.inf))
        if not least <= value <= most:
            range_ = f"from {least:g} to {most:g}, as a chip has in {unit or key}"
            raise self.wrong(key, f"must be {range_}, got {value:g}: it may be in another unit")
        return Number(
            **values,
            source=sheet.text("source"),
            date=sheet.date("date"),
            alternatives=tuple(_alternative(row) for row in sheet.children("alternatives")),
        )

    def _at(self, key: str) -> str:
        return f"{self.prefix}{key}".rstrip(".")


def _unit(key: str) -> str:
    """What a figure of that name is in, in brackets; nothing for what has no unit."""
    unit = next((unit for end, unit in _UNITS if key.endswith(end)), "")
    return f" ({unit})" if unit else ""


def _alternative(sheet: Sheet) -> Number:
    required = ("value", "source", "date")
    sheet.only(required, required=required)
    return Number(sheet.quantity("value"), sheet.text("source"), sheet.date("date"))
