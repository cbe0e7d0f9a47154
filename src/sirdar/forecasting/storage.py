# SPDX-License-Identifier: Apache-2.0
"""Forecasters and panels on disk: a folder with config.json and weights.safetensors; nothing in it can execute."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sirdar.errors import DataError, OutputError
from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.holidays import require_country
from sirdar.placing import KEPT, MARK, abandoned, locked, scratch, sweep

PANEL = "panel"  # the one kind that is no forecaster
_CONFIG, _WEIGHTS = "config.json", "weights.safetensors"
_FOLDERS = "folders"  # in a config: the names of those that belong to the forecaster
_INSIDE = "."  # for what scratch folders in a forecaster's own folder are made, wherever that is moved
_NEW, _ASIDE = "new", "aside"  # in a scratch folder


def write(
    path: Path,
    config: dict[str, Any],
    weights: dict[str, torch.Tensor],
    within: Mapping[str, Callable[[Path], None]] | None = None,
) -> None:
    """Writes the folder under a temporary name, then moves it into its place: it is whole or absent.

    A forecaster that stands at `path`, or where a link at `path` leads, is replaced once the new one is whole; what
    somebody else put beside its files stays, and so does any other folder. Killed at any moment this leaves the old one
    or the new one where `standing` finds it.

    Args:
        path: of the folder.
        config: what JSON can hold.
        weights: by name.
        within: folders in it by name, each with what writes it to a path.

    Raises:
        OutputError: `path` holds something else, or cannot be written.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place = Path(os.path.realpath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        # A folder that is there may be a disk of its own, or where this process works: it is filled, not replaced.
        there = place.is_dir()
        for left in abandoned(place, _INSIDE) if there else ():
            _restore(left, place)
        sweep(place.parent, place.name)
        _require_replaceable(place, path, config["model"])
        with scratch(place, _INSIDE) if there else scratch(place.parent, place.name) as work:
            _write_new(work / _NEW, path, config, weights, within or {})
            if there:
                _exchange(work, place)
            else:
                (work / _NEW).rename(place)
    except (OSError, SafetensorError) as error:
        msg = f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise OutputError(msg) from error


def standing(path: Path) -> Path:
    """The folder, or in it the one that a `write` was replacing when it was killed."""
    with suppress(OSError):  # what cannot be looked into holds nothing
        return next(path.glob(f"{MARK}*/{KEPT}"), path)
    return path


def _require_replaceable(place: Path, path: Path, model: object) -> None:
    """Raises OutputError unless there is nothing, an empty folder, or one that `write` made of the same kind.

    Panels are one kind, forecasters the other.
    """
    if not place.exists():
        return
    entries = [name for name in _entries(place) if not name.startswith(MARK)] if place.is_dir() else [""]
    if entries and not {_CONFIG, _WEIGHTS} <= set(entries):
        msg = f"{path}: exists and is nothing that Sirdar saved; choose another path"
        raise OutputError(msg)
    if entries and ((kept := _told(place).get("model")) == PANEL) != (model == PANEL):
        msg = f"{path}: holds a {kept!r}, which a {model!r} does not replace; choose another path"
        raise OutputError(msg)


def _write_new(
    new: Path,
    path: Path,
    config: dict[str, Any],
    weights: dict[str, torch.Tensor],
    within: Mapping[str, Callable[[Path], None]],
) -> None:
    """Writes into the folder `new` what shall stand at `path`."""
    new.mkdir()
    told = config | {_FOLDERS: list(within)} if within else config
    (new / _CONFIG).write_text(json.dumps(told, default=_plain, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, new / _WEIGHTS)
    (new / _WEIGHTS).chmod((new / _CONFIG).stat().st_mode)  # not private
    try:
        for name, save in within.items():
            save(new / name)
    except OutputError as error:
        raise OutputError(str(error).replace(str(new), str(path))) from error


def _exchange(work: Path, place: Path) -> None:
    """Puts the new forecaster in `work` into `place`; until all of it stands there, the old one stands in `work`."""
    with locked(place):
        new = _entries(work / _NEW)
        old = _present(place, new)
        try:
            (work / _ASIDE).mkdir()
            _link(old, place, work / _ASIDE)
            (work / _ASIDE).rename(work / KEPT)  # from here on the old one stands in it
            _clear(old, place)
            _link(new, work / _NEW, place)
            (work / KEPT).rename(work / _ASIDE)  # and from here on no longer
        except BaseException:
            _restore(work, place)
            raise


def _restore(work: Path, place: Path) -> None:
    """Puts what an exchange had set aside in `work` back into `place`, if it had not come to its end."""
    if (work / KEPT).exists():
        old = _entries(work / KEPT)
        _clear([*_entries(work / _NEW), *old], place)
        _link(old, work / KEPT, place)
        (work / KEPT).rename(work / _ASIDE)


def _present(place: Path, new: list[str]) -> list[str]:
    """What in a folder is of a forecaster, or has the names of a new one; the rest is somebody else's."""
    folders = _told(place).get(_FOLDERS)  # not in folders of earlier versions
    ours = [_CONFIG, _WEIGHTS, *new, *(folders if isinstance(folders, list) else ())]
    return [name for name in _entries(place) if name in ours]


def _entries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def _link(names: list[str], source: Path, target: Path) -> None:
    """Gives files second names: whoever reads what had these names before goes on reading what it held."""
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, copy_function=_linked)
        else:
            _linked(source / name, target / name)


def _linked(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems have no second names
        shutil.copy2(source, target)


def _clear(names: list[str], folder: Path) -> None:
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _told(folder: Path) -> dict[str, Any]:
    """The config of a folder; empty where it has none."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def read(path: Path, *, model: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Config and weights of a folder that `write` made for this kind of model."""
    folder = standing(path)
    try:
        config = json.loads((folder / _CONFIG).read_text())
        weights = load_file(folder / _WEIGHTS)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path}: holds no {model!r} that Sirdar saved ({reason})"
        raise DataError(msg) from error
    if not isinstance(config, dict) or config.get("model") != model:
        kind = config.get("model") if isinstance(config, dict) else None
        msg = f"{path}: holds a {kind!r}, not a {model!r}"
        raise DataError(msg)
    return config, weights


@contextmanager
def opened(path: Path, *, model: str) -> Iterator[tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    """What `read` answers; within the block, whatever a config was edited to lack or to be is refused in a sentence."""
    config, weights = read(path, model=model)
    try:
        yield config, weights
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        again = "save" if model == PANEL else "train"
        told = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        what = f"it lacks {told}" if isinstance(error, KeyError) else told
        msg = f"{path}: not as this version saves a {model!r} ({what}); {again} it again"
        raise DataError(msg) from error


def model_of(path: Path) -> object:
    """What kind of model a folder says it holds; None where it says nothing."""
    return _told(standing(path)).get("model")


def fill(network: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Puts the weights that `read` found at `path` into the network that its config asks for."""
    for name, weight in weights.items():
        if bool(torch.isnan(weight).any()):  # infinite is the spread of a feature that tells nothing
            msg = f"{path}: its weights {name!r} are not all numbers; train it again"
            raise DataError(msg)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        msg = f"{path}: its weights are those of another network than this version builds; train it again"
        raise DataError(msg) from error


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    msg = f"{value!r} cannot be stored"
    raise TypeError(msg)


def as_encoding(stored: dict[str, Any]) -> Encoding:
    """An `Encoding` from its JSON, lists back to tuples.

    Raises:
        ArgumentError: it has holidays, but not of a country.
    """
    country = str(stored.get("country", ""))  # neither this nor those below with `get` in folders of earlier versions
    if stored.get("holidays"):
        require_country(country)

    def moments(rows: list[list[Any]]) -> tuple[tuple[str, float, float], ...]:
        return tuple((str(name), float(centre), float(spread)) for name, centre, spread in rows)

    return Encoding(
        yearly=bool(stored["yearly"]),
        past=moments(stored["past"]),
        known=moments(stored["known"]),
        static=moments(stored["static"]),
        categories=tuple((str(name), tuple(map(str, values))) for name, values in stored["categories"]),
        logged=tuple(map(str, stored["logged"])),
        flags=tuple(map(str, stored.get("flags", ()))),
        country=country,
        holidays=tuple(map(str, stored.get("holidays", ()))),
        usual=tuple((str(name), float(spread)) for name, spread in stored.get("usual", ())),
    )
