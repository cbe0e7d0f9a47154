# SPDX-License-Identifier: Apache-2.0
"""A killed training of a vision network goes on where it stood; finished weights are kept with what they belong to.

Both are safetensors files with their facts as JSON inside, written under a temporary name and then renamed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sirdar.errors import DataError
from sirdar.tensors import read_tensors, write_tensors


def save_network(path: Path, network: nn.Module, facts: Mapping[str, Any], *, half: bool = False) -> None:
    """Writes a network's weights with the facts that rebuild it.

    Args:
        path: of the file.
        network: whose weights and running statistics are kept.
        facts: for example the plain data that the network was built from.
        half: store fp16, half the bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    state = network.state_dict()
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    write_tensors(path, state, facts)


def load_network(path: Path, network: nn.Module) -> dict[str, Any]:
    """Reads weights into a network of the same form, in place.

    Returns:
        The facts.

    Raises:
        DataError: the file is none of ours, or of a network of another form.
    """
    tensors, facts = read_tensors(path)
    _load(path, network, tensors)
    return facts


def _load(path: Path, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"{path}: weights of another network ({error})"
        raise DataError(msg) from error


class Checkpoint:
    """The state of one training in memory and, given a path, on disk.

    Args:
        network: its weights are read and written in place.
        average: the moving average of weights, likewise.
        optimiser: its moments, likewise.
        path: of the file; None to keep nothing.
        schedule: of the training, as JSON can hold it.
    """

    def __init__(
        self,
        network: nn.Module,
        average: dict[str, Tensor],
        optimiser: torch.optim.Optimizer,
        path: Path | None,
        schedule: Mapping[str, Any],
    ) -> None:
        self._network, self._average, self._optimiser, self._path = network, average, optimiser, path
        self._schedule = dict(schedule)

    def write(self, step: int) -> None:
        """Stores the state after `step` steps."""
        if self._path is None:
            return
        tensors = {f"weight.{name}": value for name, value in self._network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self._average.items()}
        for place, state in self._optimiser.state_dict()["state"].items():
            moments = {name: value for name, value in state.items() if value is not None}
            tensors |= {f"moment.{place}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        write_tensors(self._path, tensors, {"step": step, "schedule": self._schedule})

    def resume(self) -> int:
        """Takes up what a killed training left; the number of steps it had done.

        Raises:
            DataError: the file is none of ours, or of another network or schedule.
        """
        if self._path is None or not self._path.exists():
            return 0
        tensors, facts = read_tensors(self._path)
        left = facts.get("schedule", {})
        for name, wanted in self._schedule.items():
            if left.get(name) != wanted:
                msg = f"{self._path}: the checkpoint of a training with {name} {left.get(name)!r}, not {wanted!r}"
                raise DataError(msg)
        _load(self._path, self._network, _named(tensors, "weight."))
        for name, value in _named(tensors, "average.").items():
            self._average[name].copy_(value)
        state: dict[int, dict[str, Any]] = {}
        for name, value in _named(tensors, "moment.").items():
            place, moment = name.split(".", 1)
            state.setdefault(int(place), {})[moment] = value
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        return int(facts["step"])

    def finish(self) -> None:
        """Removes the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
