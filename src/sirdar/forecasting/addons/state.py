# SPDX-License-Identifier: Apache-2.0
"""Plain nested state with arrays, split into what JSON holds and what safetensors holds."""

from typing import Any

import numpy as np
import torch

_KEY = "tensor"


def pack(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:  # noqa: ANN401 - any plain value
    """The value with every array moved into `tensors` under its place."""
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
        return {_KEY: name}
    if isinstance(value, dict):
        return {key: pack(part, tensors, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [pack(part, tensors, f"{name}.{index}") for index, part in enumerate(value)]
    return value


def unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401
    """What `pack` was given, tuples as lists."""
    if isinstance(value, dict):
        if set(value) == {_KEY}:
            return tensors[value[_KEY]].numpy()
        return {key: unpack(part, tensors) for key, part in value.items()}
    if isinstance(value, list):
        return [unpack(part, tensors) for part in value]
    return value
