# SPDX-License-Identifier: Apache-2.0
"""A panel on disk, mapped into memory when read: of its steps only those that are asked for are ever loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sirdar.forecasting import storage
from sirdar.forecasting.panel import Panel
from sirdar.predictive import Frequency

_ARRAYS = ("start", "indptr", "history", "target")
_COLUMNS = ("static", "past", "future")


def write_panel(panel: Panel, path: Path) -> None:
    """Writes the panel into the folder `path`, see `Panel.save`."""
    arrays = {name: getattr(panel, name) for name in _ARRAYS}
    if panel.in_stock is not None:
        arrays["in_stock"] = panel.in_stock
    texts: dict[str, list[Any]] = {}
    for role in _COLUMNS:
        for name, column in getattr(panel, role).items():
            if column.dtype.kind in "OU":
                texts[f"{role}.{name}"] = column.tolist()
            else:
                arrays[f"{role}.{name}"] = column
    config = {
        "model": storage.PANEL,
        "ids": panel.ids,
        "frequency": panel.frequency,
        "columns": {role: list(getattr(panel, role)) for role in _COLUMNS},
        "texts_of_series": texts,
        **{name: getattr(panel, name) for name in ("price", "texts", "holidays", "notes")},
    }
    storage.write(path, config, {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()})


def mapped_panel(path: Path) -> Panel:
    """The panel that stands in the folder `path`, see `Panel.load`."""
    with storage.opened(path, model=storage.PANEL) as (config, tensors):
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        stored = arrays | {name: np.array(values, dtype=object) for name, values in config["texts_of_series"].items()}
        columns = {role: {name: stored[f"{role}.{name}"] for name in config["columns"][role]} for role in _COLUMNS}
        return Panel(
            ids=list(map(str, config["ids"])),
            frequency=Frequency(**config["frequency"]),
            start=arrays["start"],
            indptr=arrays["indptr"],
            history=arrays["history"],
            target=arrays["target"],
            **columns,
            in_stock=arrays.get("in_stock"),
            price=config["price"],
            texts=tuple(config["texts"]),
            holidays=config["holidays"],
            notes=tuple(config["notes"]),
        )
