# SPDX-License-Identifier: Apache-2.0
"""Forecasters and panels on disk: a folder with config.json and weights.safetensors; nothing in it can execute."""

import json
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


def write(
    path: Path,
    config: dict[str, Any],
    weights: dict[str, torch.Tensor],
    within: Mapping[str, Callable[[Path], None]] | None = None,
) -> None:
    """Writes the folder under a temporary name, then renames it: it is whole or absent.

    A forecaster that stands at `path` is replaced once the new one is whole; anything else there is left alone. Killed
    at any moment this leaves the old one or the new one where `standing` finds it.

    Args:
        path: of the folder.
        config: what JSON can hold.
        weights: by name.
        within: folders in it by name, each with what writes it to a path.

    Raises:
        OutputError: `path` holds something else, or cannot be written.
    """
    path = path.absolute()
    if path.exists() and not _replaceable(path):
        msg = f"{path}: exists and is nothing that Sirdar saved; choose another path"
        raise OutputError(msg)
    part, old = path.with_name(path.name + ".part"), _aside(path)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / "config.json").write_text(json.dumps(config, default=_plain, indent=1) + "\n")
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, part / "weights.safetensors")
        (part / "weights.safetensors").chmod((part / "config.json").stat().st_mode)  # not private
        for name, save in (within or {}).items():
            save(part / name)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        msg = f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():
            with suppress(OSError):
                old.rename(path)  # what could not be replaced


def standing(path: Path) -> Path:
    """The folder, or the one that was moved aside for it by a `write` that was killed before the new one stood."""
    return _aside(path) if _aside(path).exists() and not path.exists() else path


def _aside(path: Path) -> Path:
    return path.parent / f"{path.name}.old"


def _replaceable(path: Path) -> bool:
    """Whether it is an empty folder, or one that `write` made."""
    if not path.is_dir():
        return False
    return not any(path.iterdir()) or ((path / "config.json").exists() and (path / "weights.safetensors").exists())


def read(path: Path, *, model: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Config and weights of a folder that `write` made for this kind of model."""
    folder = standing(path)
    try:
        config = json.loads((folder / "config.json").read_text())
        weights = load_file(folder / "weights.safetensors")
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
        told = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        what = f"it lacks {told}" if isinstance(error, KeyError) else told
        msg = f"{path}: not as this version saves a forecaster ({what}); train it again"
        raise DataError(msg) from error


def model_of(path: Path) -> object:
    """What kind of model a folder says it holds; None where it says nothing."""
    try:
        return json.loads((standing(path) / "config.json").read_text(encoding="utf-8")).get("model")
    except (OSError, ValueError, AttributeError):
        return None


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
