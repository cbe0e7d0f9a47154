# SPDX-License-Identifier: Apache-2.0
"""Linear and convolution layers that compute as a chip with narrow formats does: rounded factors, sums in fp32.

The forward pass rounds weights and activations, the backward pass the gradient that enters a layer; each has a format
of its own, as in Micikevicius et al., "FP8 Formats for Deep Learning", arXiv 2209.05433: e4m3 forward, e5m2 backward.
Rounding passes gradients straight through (Bengio et al., arXiv 1308.3432).
"""

import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from sirdar.errors import ArgumentError, UnsupportedError, require_seed
from sirdar.numerics.counter import child_seed
from sirdar.numerics.formats import BlockFormat, Format
from sirdar.numerics.rounding import Rounding, format_of
from sirdar.numerics.scaling import Scaling, scaled_rounding

_WEIGHT, _ACTIVATION, _GRADIENT = range(3)
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OTHERS = (
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Bilinear,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)

Names = dict[nn.Module, list[str]]  # all that a layer stands under


@dataclass(frozen=True)
class Precision:
    """Formats and rounding of a layer.

    Args:
        weight: format of weights; None leaves them as they are.
        activation: format of what enters the layer.
        gradient: format of the gradient that enters it backwards.
        scaling: "none", "tensor", or "channel": a scale for each output channel of weights, for each tensor else;
            formats of fp32's range have none.
        rounding: of weights and activations.
        gradient_rounding: of gradients, where nearest rounding loses the small ones.
        seed: of stochastic rounding; every layer and every step draws anew from it.
    """

    weight: str | Format | BlockFormat | None = "e4m3fn"
    activation: str | Format | BlockFormat | None = "e4m3fn"
    gradient: str | Format | BlockFormat | None = "e5m2"
    scaling: Scaling = "tensor"
    rounding: Rounding = "nearest"
    gradient_rounding: Rounding = "stochastic"
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.scaling not in ("none", "tensor", "channel"):
            msg = f"scaling must be 'none', 'tensor' or 'channel', got {self.scaling!r}"
            raise ArgumentError(msg)
        for word in (self.rounding, self.gradient_rounding):
            if word not in ("nearest", "stochastic"):
                msg = f"rounding must be 'nearest' or 'stochastic', got {word!r}"
                raise ArgumentError(msg)
        for name in (self.weight, self.activation, self.gradient):
            if name is not None:
                format_of(name)


class _Rounded(torch.autograd.Function):
    """Rounds forward, and lets the gradient through."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:  # noqa: ANN401, ARG004
        return _along(x, options)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ANN401, ARG004
        return gradients[0], None


class _RoundedBackward(torch.autograd.Function):
    """Lets values through, and rounds the gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:  # noqa: ANN401
        ctx.options = options
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ANN401
        return _along(gradients[0], ctx.options), None


def _along(x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """Block formats run along the axis that products are summed over."""
    rest = {key: value for key, value in options.items() if key != "summed"}
    if isinstance(options["format"], BlockFormat):
        return scaled_rounding(x.movedim(options["summed"], -1), **rest).movedim(-1, options["summed"])
    return scaled_rounding(x, **rest)


def rounded(x: torch.Tensor, format: str | Format | BlockFormat, **options: Any) -> torch.Tensor:  # noqa: A002, ANN401
    """`scaled_rounding` whose gradient is that of the identity."""
    return _Rounded.apply(x, {"format": format_of(format), "summed": -1, **options})


@final
class QuantisedLayer(nn.Module):
    """A `Linear`, `Conv1d`, `Conv2d` or `Conv3d` computed in narrow formats; its parameters stay as they are.

    Activation checkpointing, which computes a layer anew in the backward pass, gets the draws of the layer's last call.
    So of a layer that is called several times before one backward pass, no call but the last may be checkpointed where
    rounding is stochastic: the others would draw anew.

    Args:
        inner: the layer to wrap.
        precision: formats and rounding.
        layer: tells its random draws from those of other layers.

    Raises:
        ArgumentError: the layer is of another kind, or has hooks.
    """

    def __init__(self, inner: nn.Module, precision: Precision, layer: int = 0) -> None:
        super().__init__()
        if not isinstance(inner, _KINDS):
            msg = f"only Linear, Conv1d, Conv2d and Conv3d can be quantised, got {type(inner).__name__}"
            raise ArgumentError(msg)
        _require_no_hooks(inner, type(inner).__name__)
        self.inner = inner
        self.precision = precision
        self.layer = layer
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the inner layer computes, in fp32 from rounded operands."""
        p, inner = self.precision, self.inner
        if self.training and not _in_backward_pass():
            self.steps += 1
        summed = -1 if isinstance(inner, nn.Linear) else -inner.weight.ndim + 1
        if p.weight is not None:
            options = self._options(p.weight, _WEIGHT, p.rounding) | {"summed": 1}
            weight = _Rounded.apply(inner.weight.float(), options)
        else:
            weight = inner.weight.float()
        x = x.float()
        if p.activation is not None:
            x = _Rounded.apply(x, self._options(p.activation, _ACTIVATION, p.rounding) | {"summed": summed})
        bias = None if inner.bias is None else inner.bias.float()
        with torch.autocast(x.device.type, enabled=False):  # which would round the operands once more
            if isinstance(inner, nn.Linear):
                y = nn.functional.linear(x, weight, bias)
            else:
                y = inner._conv_forward(x, weight, bias)  # private, but the only way to keep padding modes
        if p.gradient is None:
            return y
        options = self._options(p.gradient, _GRADIENT, p.gradient_rounding) | {"summed": summed}
        return _RoundedBackward.apply(y, options)

    def _options(self, format: str | Format | BlockFormat, role: int, rounding: Rounding) -> dict[str, Any]:  # noqa: A002
        seed = child_seed(self.precision.seed, self.layer, int(self.steps), role)
        scaling = self.precision.scaling
        if role != _WEIGHT and scaling == "channel":
            scaling = "tensor"
        return {"format": format_of(format), "scaling": scaling, "axis": 0, "rounding": rounding, "seed": seed}


def _in_backward_pass() -> bool:
    """Whether a backward pass is under way, in which nothing but checkpointing calls a layer."""
    return torch._C._current_graph_task_id() != -1  # private, but torch says it nowhere else


def quantised(module: nn.Module, precision: Precision, *, skip: tuple[str, ...] = ()) -> nn.Module:
    """A copy of a module with every linear and convolution layer computed in narrow formats.

    Args:
        module: any module.
        precision: formats and rounding.
        skip: names of layers to leave as they are, as `named_modules` has them; any one of a layer used twice.

    Raises:
        ArgumentError: a name in `skip` is not that of a layer with products; a layer is quantised already, lazy, or has
            hooks and is not named in `skip`.
        UnsupportedError: a layer multiplies by weights of its own in another way, such as a recurrent one, a
            transposed convolution or multi-head attention, and is not named in `skip`.
    """
    _require_plain(module)
    result = copy.deepcopy(module)
    names: Names = {}
    for name, part in result.named_modules(remove_duplicate=False):
        names.setdefault(part, []).append(name)
    layers: Names = {part: names[part] for part in names if isinstance(part, _KINDS)}
    _require_known(layers, {part: names[part] for part in names if _multiplies_itself(part)}, skip)
    for layer, (part, own_names) in enumerate(layers.items()):
        if any(name == left or name.startswith(f"{left}.") for left in skip for name in own_names):
            continue
        _require_no_hooks(part, repr(own_names[0]))
        wrapper = QuantisedLayer(part, precision, layer)
        if part is result:
            return wrapper
        for name in own_names:  # a layer that is used twice stands under several
            parent, _, own = name.rpartition(".")
            setattr(result.get_submodule(parent), own, wrapper)
    _leave_fast_paths(result)
    return result


def _require_plain(module: nn.Module) -> None:
    """Refuse layers whose weights are rounded already or have no values yet."""
    for name, part in module.named_modules():
        if isinstance(part, QuantisedLayer):
            msg = f"layer {name!r} is quantised already"
            raise ArgumentError(msg)
        if any(isinstance(weight, UninitializedParameter) for weight in part.parameters(recurse=False)):
            msg = f"layer {name!r} is lazy and has no weights yet: run the module once first"
            raise ArgumentError(msg)


def _require_no_hooks(part: nn.Module, name: str) -> None:
    """Refuse hooks of a layer, which is read and not called once it is quantised: they would not run."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    for kind in kinds:  # private, but torch says it nowhere else
        if getattr(part, kind):
            hooks = kind.strip("_").replace("_", " ")
            msg = (
                f"layer {name} has {hooks}, which would not run: register them once it is quantised, or name it in skip"
            )
            raise ArgumentError(msg)


def _require_known(layers: Names, others: Names, skip: tuple[str, ...]) -> None:
    """Refuse a name of no layer, and a layer that cannot be quantised and is not named."""
    known = [name for own_names in (*layers.values(), *others.values()) for name in own_names]
    for name in skip:
        if name not in known:
            there = ", ".join(own_names[0] for own_names in layers.values())
            msg = f"skip names {name!r}, which is no linear or convolution layer; there are {there}"
            raise ArgumentError(msg)
    for part, own_names in others.items():
        if set(own_names).isdisjoint(skip):
            name, kind = own_names[0], type(part).__name__
            msg = f"layer {name!r} is a {kind}, which is not computed in narrow formats: name it in skip to leave it so"
            raise UnsupportedError(msg)


def _leave_fast_paths(module: nn.Module) -> None:
    """Torch's encoders compute from the weights of their layers at once in evaluation, which would not be rounded."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoderLayer) and _wraps(part):
            part.activation_relu_or_gelu = 0  # the fast path knows these two alone
        elif isinstance(part, nn.TransformerEncoder) and _wraps(part):
            part.use_nested_tensor = False


def _wraps(part: nn.Module) -> bool:
    return any(isinstance(inner, QuantisedLayer) for inner in part.modules())


def _multiplies_itself(part: nn.Module) -> bool:
    """Whether a module reads weights without calling a layer for it, or calls a layer's weights in a way of its own."""
    if isinstance(part, _KINDS):
        return not any(type(part).forward is kind.forward for kind in _KINDS)
    return isinstance(part, _OTHERS)
