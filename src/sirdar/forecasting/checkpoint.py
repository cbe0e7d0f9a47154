# SPDX-License-Identifier: Apache-2.0
"""A training that was killed goes on where it stood: weights, moments and the best weights in one safetensors file."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sirdar.errors import DataError
from sirdar.placing import sweep
from sirdar.tensors import read_tensors, write_tensors


class Checkpoint:
    """The state of one training, in memory and, given a folder, on disk.

    Args:
        network: its weights are read and written in place.
        optimiser: likewise its moments.
        folder: where the file stands while the training runs; None to keep nothing.
        key: the file's name, so that several trainings may share a folder.
    """

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, folder: str | Path | None, key: str
    ) -> None:
        self._network, self._optimiser = network, optimiser
        self._path = None if folder is None else Path(folder).absolute() / f"{key}.safetensors"
        self._best: dict[str, Tensor] = {}
        self._loss = math.inf
        self.stale = 0  # validations since the best one

    def judge(self, loss: float) -> None:
        """Keeps the weights when they are the best so far."""
        if loss < self._loss:
            self._loss, self.stale = loss, 0
            self._best = {name: weight.detach().clone() for name, weight in self._network.state_dict().items()}
        else:
            self.stale += 1

    def write(self, step: int, seconds: float) -> None:
        """Stores all, and how far training is, under a temporary name, then renames it."""
        if self._path is None:
            return
        tensors = {f"weight.{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        tensors |= {
            f"moment.{place}.{name}": torch.as_tensor(value)
            for place, state in self._optimiser.state_dict()["state"].items()
            for name, value in state.items()
        }
        facts = {"step": step, "seconds": seconds, "stale": self.stale, "loss": self._loss}
        write_tensors(self._path, tensors, facts)

    def resume(self) -> tuple[int, float]:
        """Takes up what a killed training left; the steps it had done, and the seconds they took."""
        if self._path is None or not self._path.exists():
            return 0, 0.0
        try:
            tensors, facts = read_tensors(self._path)
        except DataError as error:
            msg = f"{error}; remove it to train from the beginning"
            raise DataError(msg) from error
        self._network.load_state_dict(_named(tensors, "weight."))
        self._best = _named(tensors, "best.")
        self._loss, self.stale = float(facts["loss"]), int(facts["stale"])
        groups = self._optimiser.state_dict()["param_groups"]
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in _named(tensors, "moment.").items():
            place, moment = name.split(".", 1)
            state.setdefault(int(place), {})[moment] = tensor
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        return int(facts["step"]), float(facts["seconds"])

    def finish(self) -> None:
        """Takes the best weights, if validation chose any, and removes the file and what killed writes left."""
        if self._best:
            self._network.load_state_dict(self._best)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            sweep(self._path.parent, self._path.name)


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
