# SPDX-License-Identifier: Apache-2.0
"""Rules for what works on each value alone, on two values at a place, and for softmax."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from sirdar.deploy.tflite import layers
from sirdar.deploy.tflite.compositions import HIDDEN
from sirdar.deploy.tflite.fusion import Bound, bounds, given, operator_name, rectifier
from sirdar.deploy.tflite.layout import Value
from sirdar.deploy.tflite.lowering import Lowering, Rule
from sirdar.deploy.tflite.masks import hides

_BETWEEN: dict[tuple[Bound, Bound], str] = {(0.0, 1.0): "RELU_0_TO_1", (-1.0, 1.0): "RELU_N1_TO_1"}


def _aligned(low: Lowering, node: fx.Node, *sources: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tensors of one rank and one order, ready to broadcast, and that order."""
    values = [source for source in sources if not low.is_constant(source)]
    if not values:
        raise low.refuse(node, "both of its arguments are constants")
    rank = max(low.constant(s).ndim if low.is_constant(s) else len(low.value(s).order) for s in sources)
    raised = [low.layout.raised(low.value(source), rank) for source in values]
    order = max(raised, key=lambda value: int(np.prod(low.net.shape(value.tensor)))).order
    tensors, waiting = [], iter(raised)
    for source in sources:
        if low.is_constant(source):
            numbers = low.constant(source)
            numbers = numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape).transpose(order)
            tensors.append(low.net.constant(f"{node.name}/constant", numbers))
        else:
            tensors.append(low.layout.arrange(next(waiting), order))
    return tuple(tensors), order


def _binary(code: str) -> Rule:
    def rule(low: Lowering, node: fx.Node) -> Value:
        first, second = node.args[:2]
        scaled: object = second
        alpha = given(node).get("alpha", 1)
        if alpha != 1:
            if not low.is_constant(second):
                raise low.refuse(node, f"it has alpha {alpha}")
            scaled = low.constant(second) * alpha
        if code == "ADD" and low.is_constant(scaled) and not low.constant(scaled).any() and _shaped(low, node, first):
            return low.value(first)  # a mask that hides nothing
        (left, right), order = _aligned(low, node, first, scaled)
        return Value(layers.binary(low.net, code, left, right, low.output(node)), order)

    return rule


def _shaped(low: Lowering, node: fx.Node, argument: object) -> bool:
    """Whether the result of a node has the shape of an argument, and nothing is fused to it."""
    return low.layout.shape(low.value(argument)) == tuple(node.meta["val"].shape) and low.fused(node).last is node


def reversed_subtraction(low: Lowering, node: fx.Node) -> Value:
    """What is taken from comes second."""
    first, second, alpha = list(given(node).values())[:3]
    if alpha != 1:
        raise low.refuse(node, f"it has alpha {alpha}")
    (left, right), order = _aligned(low, node, second, first)
    return Value(layers.binary(low.net, "SUB", left, right, low.output(node)), order)


def division(low: Lowering, node: fx.Node) -> Value:
    """By a constant only: times its reciprocal."""
    first, second = node.args[:2]
    if not low.is_constant(second) or node.kwargs.get("rounding_mode"):
        raise low.refuse(node, "only division by a constant is, without rounding")
    divisor = low.constant(second)
    value = low.value(first)
    rank = len(value.order)
    if divisor.ndim > rank:
        raise low.refuse(node, "its divisor has more axes than what it divides")
    factor = (1.0 / divisor).reshape((1,) * (rank - divisor.ndim) + divisor.shape).transpose(value.order)
    constant = low.net.constant(f"{node.name}/factor", factor)
    return Value(layers.binary(low.net, "MUL", value.tensor, constant, low.output(node)), value.order)


def power(low: Lowering, node: fx.Node) -> Value:
    """The square alone."""
    exponent = given(node).get("exponent", 2)
    if exponent not in (2, 2.0):
        raise low.refuse(node, f"only the exponent 2 is, got {exponent}")
    value = low.value(node.args[0])
    return Value(layers.binary(low.net, "MUL", value.tensor, value.tensor, low.output(node)), value.order)


def negation(low: Lowering, node: fx.Node) -> Value:
    """Times minus one."""
    value = low.value(node.args[0])
    factor = low.net.constant(f"{node.name}/minus", np.full((1,) * len(value.order), -1.0))
    return Value(layers.binary(low.net, "MUL", value.tensor, factor, low.output(node)), value.order)


def _extreme(code: str) -> Rule:
    def rule(low: Lowering, node: fx.Node) -> Value:
        (left, right), order = _aligned(low, node, node.args[0], node.args[1])
        return Value(layers.extreme(low.net, code, left, right, node.name), order)

    return rule


def _unary(code: str, options: Callable[[fx.Node], dict[str, Any]] = lambda _: {}) -> Rule:
    def rule(low: Lowering, node: fx.Node) -> Value:
        value = low.value(node.args[0])
        return Value(layers.unary(low.net, code, value.tensor, low.output(node), **options(node)), value.order)

    return rule


def clamp(low: Lowering, node: fx.Node) -> Value:
    """A rectifier where it is one, else the greater or lesser of value and bound."""
    code = rectifier(node)
    floor, ceiling = bounds(node)
    if code == "NONE":
        code = _BETWEEN.get((floor, ceiling), "NONE")
    value = low.value(node.args[0])
    if code != "NONE":
        return Value(layers.unary(low.net, code, value.tensor, low.output(node)), value.order)
    least, most = _span(low, node.args[0])
    value = _bounded(low, node, value, "MAXIMUM", floor, least)
    if floor is not None:
        most = max(most, _span(low, floor)[1])
    return _bounded(low, node, value, "MINIMUM", ceiling, most)


def _span(low: Lowering, argument: object) -> tuple[float, float]:
    """Least and greatest value of an activation or a constant."""
    if isinstance(argument, fx.Node) and not low.is_constant(argument):
        return low.range(argument)
    numbers = low.constant(argument)
    return float(numbers.min()), float(numbers.max())


def _bounded(low: Lowering, node: fx.Node, value: Value, code: str, bound: Bound, end: float) -> Value:
    """The greater or lesser of a value, all of which lies on one side of an end, and a bound."""
    if bound is None:
        return value
    other: object = bound
    if low.is_constant(bound):
        numbers, shape = low.constant(bound), low.layout.shape(value)
        numbers = np.maximum(numbers, end) if code == "MAXIMUM" else np.minimum(numbers, end)
        if (numbers == end).all() and np.broadcast_shapes(shape, numbers.shape) == shape:
            return value  # a bound beyond all values seen would only coarsen the scale
        other = torch.from_numpy(np.asarray(numbers))
    (left, right), order = _aligned(low, node, value, other)
    return Value(layers.extreme(low.net, code, left, right, f"{node.name}/{code.lower()}"), order)


def masked_fill(low: Lowering, node: fx.Node) -> Value:
    """What a softmax shall not see: a sum that leaves it a share of e^-16."""
    if not hides(node):
        raise low.refuse(node, "only minus infinity before a softmax is")
    if not low.is_constant(node.args[1]):
        raise low.refuse(node, "its mask is no constant")
    offsets = torch.from_numpy(np.where(low.constant(node.args[1]) != 0, HIDDEN, 0.0))
    (scores, mask), order = _aligned(low, node, node.args[0], offsets)
    return Value(layers.binary(low.net, "ADD", scores, mask, low.output(node)), order)


def softmax(low: Lowering, node: fx.Node) -> Value:
    """Softmax or its logarithm over one axis, which has to lie last."""
    value = low.value(node.args[0])
    rank = len(value.order)
    axis = int(node.args[1]) % rank  # type: ignore[call-overload]
    order = value.order if value.order[-1] == axis else (*(a for a in value.order if a != axis), axis)
    tensor = low.layout.arrange(value, order)
    if "log" in operator_name(node):
        return Value(layers.unary(low.net, "LOG_SOFTMAX", tensor, low.output(node)), order)
    return Value(layers.unary(low.net, "SOFTMAX", tensor, low.output(node), beta=1.0), order)


def prelu(low: Lowering, node: fx.Node) -> Value:
    """A leaky rectifier with a slope per channel."""
    value = low.value(node.args[0])
    slope = low.constant(node.args[1]).reshape(-1)
    rank = len(value.order)
    shape = [1] * rank
    shape[1 if rank > 1 else 0] = len(slope)
    constant = low.net.constant(f"{node.name}/slope", slope.reshape(shape).transpose(value.order)[0])
    output = low.output(node)
    result = low.net.activation(output.name, low.net.shape(value.tensor), output.low, output.high)
    return Value(low.net.step(layers.Step("PRELU", (value.tensor, constant), (result,))), value.order)


def _slope(node: fx.Node) -> dict[str, Any]:
    return {"alpha": float(node.args[1]) if len(node.args) > 1 else 0.01}  # type: ignore[arg-type]


def _approximate(node: fx.Node) -> dict[str, Any]:
    return {"approximate": node.kwargs.get("approximate", "none") == "tanh"}


def elu(low: Lowering, node: fx.Node) -> Value:
    """The exponential rectifier with its usual constants."""
    if any(argument != 1 for argument in node.args[1:]):
        raise low.refuse(node, "only ELU with a slope of 1 is")
    return _unary("ELU")(low, node)  # type: ignore[return-value]


RULES: dict[str, Rule] = {
    "add": _binary("ADD"),
    "sub": _binary("SUB"),
    "mul": _binary("MUL"),
    "rsub": reversed_subtraction,
    "div": division,
    "pow": power,
    "square": power,
    "neg": negation,
    "maximum": _extreme("MAXIMUM"),
    "minimum": _extreme("MINIMUM"),
    "relu": _unary("RELU"),
    "relu6": _unary("RELU6"),
    "hardtanh": clamp,
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "sigmoid": _unary("LOGISTIC"),
    "tanh": _unary("TANH"),
    "hardswish": _unary("HARD_SWISH"),
    "leaky_relu": _unary("LEAKY_RELU", _slope),
    "gelu": _unary("GELU", _approximate),
    "elu": elu,
    "masked_fill": masked_fill,
    "exp": _unary("EXP"),
    "log": _unary("LOG"),
    "rsqrt": _unary("RSQRT"),
    "abs": _unary("ABS"),
    "prelu": prelu,
    "softmax": softmax,
    "_softmax": softmax,
    "log_softmax": softmax,
    "_log_softmax": softmax,
}
