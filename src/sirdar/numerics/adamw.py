# SPDX-License-Identifier: Apache-2.0
"""AdamW whose weights live in bf16 or fp16 alone: each update is rounded stochastically, so that small ones add up.

Algorithm 2 of Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; stochastic rounding of the new
weight as in Ozkara, Yu and Park, "Stochastic Rounding for LLM Training: Theory and Practice", AISTATS 2025. There is no
fp32 copy of the weights: 2 bytes each in place of 6. Replicas with the same seed and gradients stay the same.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch.optim import Optimizer

from sirdar.errors import ArgumentError, UnsupportedError, require_seed
from sirdar.numerics.counter import child_seed
from sirdar.numerics.rounding import Rounding, quantise

_FORMATS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@final
class AdamW(Optimizer):
    """AdamW with weights of fp32, bf16 or fp16 and moments of fp32.

    Args:
        params: tensors, or groups as other optimisers take them.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second.
        weight_decay: decoupled from the gradient.
        maximize: climb along the gradient in place of descending.
        rounding: "stochastic", or "nearest" to see what it costs; no matter for fp32.
        seed: of the rounding; step and parameter are mixed in.

    Raises:
        ArgumentError: a number is out of its range, or a parameter has another type.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
        rounding: Rounding = "stochastic",
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults | {"rounding": rounding, "seed": require_seed(seed)})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of weights, with options of its own or those of the rest.

        Raises:
            ArgumentError: a number is out of its range, or a parameter has another type; the group is not added then.
        """
        super().add_param_group(param_group)
        try:
            _require_able(self.param_groups[-1])
        except ArgumentError:
            self.param_groups.pop()
            raise

    def _weights(self) -> list[torch.Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of every weight that has a gradient.

        Raises:
            UnsupportedError: a gradient is sparse; no weight is updated then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for weight in self._weights():
            if weight.grad is not None and weight.grad.layout is not torch.strided:
                got = f"{weight.grad.layout} for a weight of shape {tuple(weight.shape)}"
                msg = f"gradients must be dense, got one of layout {got}: embeddings need sparse=False"
                raise UnsupportedError(msg)
        place = {id(weight): i for i, weight in enumerate(self._weights())}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group, place[id(weight)])
        return loss

    def _update(self, weight: torch.Tensor, group: dict[str, Any], place: int) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            for name in ("first", "second"):
                state[name] = torch.zeros_like(weight, dtype=torch.float32, memory_format=torch.preserve_format)
        state["step"] += 1
        beta_1, beta_2 = group["betas"]
        gradient = weight.grad.float()  # pyright: ignore[reportOptionalMemberAccess] - the caller has looked
        gradient = -gradient if group["maximize"] else gradient
        first = state["first"].lerp_(gradient, 1 - beta_1)
        second = state["second"].mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        root = second.sqrt().div_(math.sqrt(1 - beta_2 ** state["step"])).add_(group["eps"])
        new = weight.float()  # one weight at a time; fp32 is updated in place
        new.mul_(1 - group["lr"] * group["weight_decay"])
        new.addcdiv_(first, root, value=-group["lr"] / (1 - beta_1 ** state["step"]))
        if weight.dtype != torch.float32:
            seed = child_seed(group["seed"], state["step"], place)
            name = _FORMATS[weight.dtype]
            weight.copy_(quantise(new, name, rounding=group["rounding"], overflow="ieee", seed=seed))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What torch restores a state by; one written before there was `maximize` descends."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("maximize", False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state; moments stay in fp32, where torch would cast them to the type of the weights.

        The number of steps may be a tensor, as files that hold nothing else give it.

        Raises:
            ArgumentError: the state is that of another optimiser.
        """
        for row in state_dict["state"].values():
            if not {"step", "first", "second"} <= set(row):
                msg = f"the state must hold step, first and second for each weight, got {', '.join(row)}"
                raise ArgumentError(msg)
        for group in state_dict["param_groups"]:
            missing = [name for name in self.defaults if name not in group and name != "maximize"]
            if missing:
                msg = f"the state is that of another optimiser: a group of its weights has no {', '.join(missing)}"
                raise ArgumentError(msg)
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        for weight, index in zip(self._weights(), saved, strict=True):
            if index not in state_dict["state"]:
                continue
            self.state[weight]["step"] = int(state_dict["state"][index]["step"])
            for name in ("first", "second"):
                moment = state_dict["state"][index][name]
                self.state[weight][name] = moment.detach().clone().to(weight.device)


def _require_able(group: dict[str, Any]) -> None:
    for name in ("lr", "eps", "weight_decay"):
        value = group[name]
        if not (isinstance(value, int | float | torch.Tensor) and 0 <= value < math.inf):
            msg = f"{name} must be a finite number >= 0, got {value!r}"
            raise ArgumentError(msg)
    betas = group["betas"]
    if not (isinstance(betas, tuple | list) and len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        msg = f"betas must be two numbers from 0 to below 1, got {betas!r}"
        raise ArgumentError(msg)
    if group["rounding"] not in ("nearest", "stochastic"):
        msg = f"rounding must be 'nearest' or 'stochastic', got {group['rounding']!r}"
        raise ArgumentError(msg)
    require_seed(group["seed"])
    for weight in group["params"]:
        if weight.dtype not in _FORMATS:
            msg = f"weights must be float32, bfloat16 or float16, got {weight.dtype}"
            raise ArgumentError(msg)
