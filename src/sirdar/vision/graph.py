# SPDX-License-Identifier: Apache-2.0
"""The operators of a camera network in milliseconds: one run without numbers, noting each operator as it is called.

`sirdar.workload.trace` does the same for any network, through torch.export, in seconds; a search prices hundreds of
candidates. The two agree operator by operator (tests).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sirdar.errors import UnsupportedError
from sirdar.workload.graph import Graph, Operator, TensorSpec

_KINDS = {
    "convolution": "conv",
    "_native_batch_norm_legit_no_training": "norm",
    "hardtanh": "elementwise",
    "add": "elementwise",
    "upsample_nearest2d": "gather",
    "mean": "reduction",
    "view": "view",
    "permute": "view",
    "addmm": "matmul",
}
_SAME = {"native_batch_norm": "_native_batch_norm_legit_no_training", "hardtanh_": "hardtanh", "t": "permute"}
_TARGETS = {
    "add": "aten.add.Tensor",
    "mean": "aten.mean.dim",
    "upsample_nearest2d": "aten.upsample_nearest2d.vec",
}
_FLOPS_PER_VALUE = {"norm": 2, "elementwise": 1}
_CONVOLUTION = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")


def graph_of(build: Callable[[], nn.Module], shape: tuple[int, ...], name: str = "network") -> Graph:
    """The operators of a network in evaluation mode.

    Args:
        build: makes it; called where tensors have shapes and no numbers.
        shape: of the images it is run on, [batch, channel, height, width].
        name: of the graph.

    Raises:
        UnsupportedError: the network calls an operator that this package's networks do not have.
    """
    with torch.device("meta"), torch.no_grad():
        network, images = build().eval(), torch.empty(shape)
        listener = _Listener(network, images)
        with listener:
            found = network(images)
    outputs = (found,) if isinstance(found, Tensor) else tuple(found)
    inputs = (TensorSpec(tuple(images.shape), "fp32", "images"),)
    return Graph(tuple(listener.operators), inputs, tuple(listener.name_of(output) for output in outputs), name)


class _Listener(TorchDispatchMode):
    """Notes every operator that runs.

    Args:
        network: whose weights are told from activations.
        images: its input.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self._weights = {id(value): name for name, value in network.state_dict(keep_vars=True).items()}
        self._edges = {id(images): "images"}
        self._alive: list[Tensor] = [images]  # identities are only unique among the living
        self.operators: list[Operator] = []

    def name_of(self, tensor: Tensor) -> str:
        """The edge that a tensor travels on."""
        return self._edges[id(tensor)]

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - as torch declares it
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        target = func.overloadpacket.__name__
        if target in ("detach", "empty"):
            return result
        made = result[0] if isinstance(result, tuple) else result
        self._alive.append(made)
        self._note(str(_SAME.get(target, target)), args, made)
        return result

    def _note(self, target: str, args: tuple[Any, ...], made: Tensor) -> None:
        if target not in _KINDS:
            msg = f"operator {target!r} is none that camera networks here have: trace the network instead"
            raise UnsupportedError(msg)
        tensors = [value for value in args if isinstance(value, Tensor)]
        weights = [value for value in tensors if id(value) in self._weights]
        if target == "permute" and weights:  # a linear layer's weight, seen sideways
            self._weights[id(made)] = self._weights[id(weights[0])]
            return
        kind, name = _KINDS[target], f"{target.strip('_')}_{len(self.operators)}"
        inputs = [_spec(value, self._edges[id(value)]) for value in tensors if id(value) in self._edges]
        self._edges[id(made)] = name
        macs = _macs(target, args, made)
        biased = kind == "matmul" or (target == "convolution" and args[2] is not None)
        per_value = _FLOPS_PER_VALUE.get(kind, int(biased))
        self.operators.append(
            Operator(
                name=name,
                kind=kind,
                inputs=tuple(dict.fromkeys(inputs)),
                outputs=(_spec(made, name),),
                weights=tuple(_spec(value, self._weights[id(value)]) for value in weights),
                macs=macs,
                flops=per_value * made.numel() if kind != "reduction" else tensors[0].numel(),
                attributes=_attributes(target, args, made, macs),
            )
        )


def _spec(tensor: Tensor, name: str) -> TensorSpec:
    return TensorSpec(tuple(tensor.shape), "fp32", name)


def _macs(target: str, args: tuple[Any, ...], made: Tensor) -> int:
    if target == "convolution":
        return made.numel() * math.prod(args[1].shape[1:])
    return made.numel() * int(args[1].shape[-1]) if target == "addmm" else 0


def _attributes(target: str, args: tuple[Any, ...], made: Tensor, macs: int) -> dict[str, Any]:
    found: dict[str, Any] = {"target": _TARGETS.get(target, f"aten.{target}.default")}
    if target == "convolution":
        values = [list(value) if isinstance(value, list | tuple) else value for value in args[3:9]]
        weight = list(args[1].shape)
        found |= {"weight": weight, "kernel": weight[2:], **dict(zip(_CONVOLUTION, values, strict=True))}
    if target == "addmm":
        rows, columns = made.shape
        found |= {"batch": 1, "rows": rows, "columns": columns, "depth": macs // made.numel()}
    return found
