# SPDX-License-Identifier: Apache-2.0
"""Tensors and what they belong to in one safetensors file, written under a temporary name and then renamed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sirdar.errors import DataError, OutputError
from sirdar.placing import placed


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes tensors and JSON facts to one file.

    Args:
        path: of the file; missing folders are made.
        tensors: by name.
        facts: whatever JSON can hold.

    Raises:
        OutputError: the file cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placed(path) as part:
            save_file(whole, part, {"facts": json.dumps(facts)})
    except (OSError, SafetensorError) as error:
        msg = f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise OutputError(msg) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `write_tensors` wrote: the tensors by name, and the facts.

    Raises:
        DataError: the file is none of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        msg = f"{path}: not a file of weights and facts ({error})"
        raise DataError(msg) from error
